"""95 % intervals of metrics that a whole test set has together, such as AUROC.

The unit of chance is the image: another test set would have other images, good and defective. Its
variance is that of the infinitesimal jackknife: every image moves the metric by its influence, the
derivative by the image's weight, and the variance is the sum of how influences vary within the good
and within the defective images. For an AUROC over images this is the variance of DeLong et al.
(1988), for one over pixels that of Obuchowski (1997).

Metrics near 1 are skewed, so the ends are Wilson's: those of a share of as many independent trials
as have the same variance. Student's t replaces the normal distribution, because the variance comes
from few images (degrees of freedom by Welch and Satterthwaite).

A ranking without a mistake has no variance, and few images show few mistakes: too narrow by far.
Metrics over images therefore take the variance as if one more good and one more defective image had
each scored like a random one of the other class. `benchmarks/intervals.py` has the coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from generalad.metrics.ranking import (
    Counts,
    auroc_from_counts,
    auroc_influence,
    average_precision_from_counts,
    average_precision_influence,
    count_by_threshold,
)
from generalad.statistics import Estimate, student_quantile, wilson_ends

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stratum:
    """How the images of one class move a metric.

    Attributes:
        influences: (n,), derivative of the metric by the weight of each image.
        independent: how many images of equal weight these are worth, at most n.
        added: influence of an image that is only imagined, see above.
    """

    influences: Floats
    independent: float
    added: float | None = None

    @property
    def variance(self) -> float:
        """Of the metric, from these images; NaN where one image is all there is."""
        given = self.influences if self.added is None else np.append(self.influences, self.added)
        if given.size < 2:
            return float("nan")
        return float(self.influences.size * np.var(given, ddof=1))


def interval(value: float, strata: Sequence[Stratum], *, most: float) -> Estimate:
    """The value of a metric in 0...1 with its interval.

    `most` bounds how many independent trials the images can be worth, so that no interval has zero
    width; for pixels the anomalous ones, for images the pairs of good and defective ones.
    """
    variances = [stratum.variance for stratum in strata]
    variance = sum(variances)
    if np.isnan(value) or np.isnan(variance):
        return Estimate(value)
    centre = value + sum(
        stratum.added * stratum.influences.size / (stratum.influences.size + 1)
        for stratum in strata
        if stratum.added is not None
    )
    centre = min(1.0, max(0.0, centre))
    trials = centre * (1 - centre) / variance if variance > 0 else most
    uncertain = sum(
        part**2 / max(stratum.independent - 1, 1)
        for stratum, part in zip(strata, variances, strict=True)
    )
    degrees = variance**2 / uncertain if uncertain > 0 else min(s.independent for s in strata) - 1
    quantile = student_quantile(max(degrees, 1))
    return Estimate(value, *wilson_ends(min(1.0, value), min(max(trials, 1.0), most), quantile))


def image_estimates(labels: ArrayLike, scores: ArrayLike) -> tuple[Estimate, Estimate]:
    """AUROC and average precision of image scores with their intervals; NaN without both classes.

    Args:
        labels: (B,), bool or 0/1, true for defective.
        scores: (B,), finite, of any scale.
    """
    counts = count_by_threshold(labels, scores)
    auroc = float(auroc_from_counts(counts.true, counts.false))
    precision = float(average_precision_from_counts(counts.true, counts.false))
    if np.isnan(auroc):
        return Estimate(auroc), Estimate(precision)
    return (
        _image_interval(auroc, counts, *auroc_influence(counts.true, counts.false)),
        _image_interval(precision, counts, *average_precision_influence(counts.true, counts.false)),
    )


def _image_interval(value: float, counts: Counts, defective: Floats, good: Floats) -> Estimate:
    """From the influence (K,) of a defective and of a good image at each threshold."""
    positives = np.diff(counts.true, prepend=0.0)
    negatives = np.diff(counts.false, prepend=0.0)
    strata = [
        _image_stratum(defective, positives, negatives),
        _image_stratum(good, negatives, positives),
    ]
    return interval(value, strata, most=float(positives.sum() * negatives.sum()))


def _image_stratum(influence: Floats, own: Floats, others: Floats) -> Stratum:
    """From the images `own` (K,) and those of the other class at each threshold."""
    return Stratum(
        influences=np.repeat(influence, own.astype(np.int64)),
        independent=float(own.sum()),
        added=float(influence @ others / others.sum()),
    )
