"""Thresholds from good images alone, with a stated false-alarm rate.

Split-conformal quantile (Vovk et al. 2005; Lei et al. 2018): with n held-out scores and a new good
image from the same source, all n + 1 orders are equally likely, so the new score exceeds the k-th
smallest of the n with probability at most 1 - k / (n + 1). No shape of the distribution is assumed.

Images of one photograph, lot or part are not independent. With m groups, every group weighs
1 / (m + 1), however many images it has, and the promise is about an image of a new group (Lee,
Barber and Willett 2023, "Distribution-free inference with hierarchical data"; Dunn, Wasserman and
Ramdas 2023, "Distribution-free prediction sets for two-layer hierarchical models"). Shared by
training, export and runtime; numpy only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.parallel import map_threads
from generalad.spec import Calibration, Normalisation, ScoredImage, Thresholds

HELD_OUT = "held-out good images"
OUT_OF_FOLD = "good images, each scored by a detector that did not learn from it"
"""What training and export calibrate on."""

METHOD = (
    "conformal quantile of {source}; the pixel threshold is that of the largest map value of each"
    " image"
)

VIEWS_RATE = 0.05
"""Most false alarms on views of good images, see `calibrate`."""

OUTLYING = 5.0
"""Distances between the quartiles above the upper one from which a score is an outlier's. Of scores
whose upper tail falls like an exponential one, or faster, 0.1 % lie there, or fewer."""

MOST_OUTLIERS = 0.05
"""Share of images; where more lie out there, such images belong to the process, and all count."""

FOLDS = 5
"""Of `out_of_fold`, where there are as many groups."""

Measure = Callable[[NDArray[np.intp]], NDArray[np.float32]]
"""What is found on k images, given by their numbers: (k, ...)."""

Fit = Callable[[NDArray[np.intp]], Measure]
"""Learns from the images of these numbers alone."""


@dataclass(frozen=True)
class Calibrated:
    """Thresholds with how they were set."""

    thresholds: Thresholds
    normalisation: Normalisation
    calibration: Calibration


def calibrate(
    scores: NDArray[np.float32],
    peaks: NDArray[np.float32],
    *,
    target: float,
    groups: Sequence[int] | None = None,
    grouping: str = "",
    folds: int = 0,
    source: str = HELD_OUT,
    views: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    outliers: Sequence[ScoredImage] = (),
    names: Sequence[str] = (),
) -> Calibrated:
    """Set both thresholds for a target false-alarm rate.

    The pixel threshold is calibrated on the largest map value of each image: at most the same share
    of good images shows any marked pixel. Pixels of one image are no independent samples, so a rate
    over pixels could not be promised.

    Args:
        scores: (n,) raw image scores of good images that were not trained on.
        peaks: (n,) largest raw map value of each of them.
        target: wished false-alarm rate, 0...1.
        groups: (n,) a number for the group of each image; None or empty: each is its own.
        grouping: what makes a group, for the record.
        folds: of `out_of_fold`; 0 for images that were held out.
        source: what they are, for the record.
        views: scores (n,) and largest map values (n,) of the same images in another light or codec
            (`generalad.synth.views`). No threshold is so low that more than `VIEWS_RATE` of
            them would be false alarms.
        outliers: among the images, see `outliers_of`. They and their views do not count.
        names: (n,) of the images, for the record; empty where they are not known.

    Raises:
        DataError: no scores, or scores that are not finite.
    """
    if len(scores) == 0 or len(scores) != len(peaks):
        raise DataError(
            f"calibration needs good images, found {len(scores)} scores and {len(peaks)} maps",
            remedy="give more good images",
        )
    if not (np.isfinite(scores).all() and np.isfinite(peaks).all()):
        raise DataError("calibration scores are not finite", remedy="check the weights")
    given, every = _from_zero(groups, len(scores)), scores
    kept = np.setdiff1d(np.arange(len(scores)), [one.number for one in outliers])
    scores, peaks, groups = scores[kept], peaks[kept], given[kept].tolist()
    on_views = (None, None) if views is None else (views[0][kept], views[1][kept])
    highest, reached = highest_good(scores, target=target, groups=groups, views=on_views[0])
    highest_peak, _ = highest_good(peaks, target=target, groups=groups, views=on_views[1])
    image, pixel = _just_above(highest), _just_above(highest_peak)
    set_by: tuple[ScoredImage, ...] = ()
    if names and highest in scores:  # else a view set it
        set_by = _highest_first(kept[scores >= highest], every, names)
    median = float(np.median(scores))
    # Equal scores leave no distance to scale by; any positive number keeps the mapping increasing.
    scale = max((image - median) / 2, 1e-6 * max(1.0, abs(image)))
    count = len(set(groups))
    alone = len(set(given.tolist())) == len(given)
    return Calibrated(
        Thresholds(image=image, pixel=pixel),
        Normalisation(scale=scale),
        Calibration(
            method=METHOD.format(source=source),
            images=len(scores),
            target=target,
            reached=reached,
            groups=count,
            grouping=grouping,
            group_of=() if alone else tuple(given.tolist()),
            folds=folds,
            views_rate=None if views is None else _views_rate(target),
            outliers=tuple(outliers),
            highest=set_by[:MOST_RECORDED],
        ),
    )


def outliers_of(
    scores: NDArray[np.float32], names: Sequence[str], *, lengths: bool = False
) -> tuple[ScoredImage, ...]:
    """Good images that look like defects: dirt, a fibre, a defect in the wrong folder.

    They would set the threshold, so that defects no worse than they are would pass. It is told by
    the scores alone: beyond a fence far above their quartiles (Tukey 1977, "Exploratory Data
    Analysis", whose far out is 3) where no usual tail reaches, see `OUTLYING`.

    Args:
        scores: (n,) of images that did not teach what scores them.
        names: (n,) of the images.
        lengths: compare logarithms: what lengths vary by grows with them, and on their own scale
            many more lie far out, all of which would be false alarms beyond what is promised.

    Returns:
        The highest first; empty where they are more than `MOST_OUTLIERS`.
    """
    compared = np.log(scores.clip(min=np.finfo(np.float32).tiny)) if lengths else scores
    lower, upper = np.quantile(compared, (0.25, 0.75))
    far = np.flatnonzero(compared > upper + OUTLYING * (upper - lower))
    if len(far) > MOST_OUTLIERS * len(scores):
        return ()
    return _highest_first(far, scores, names)


def _highest_first(
    numbers: NDArray[np.intp], scores: NDArray[np.float32], names: Sequence[str]
) -> tuple[ScoredImage, ...]:
    """The images of these numbers, by the scores and names of all."""
    order = numbers[np.argsort(-scores[numbers], kind="stable")]
    return tuple(ScoredImage(int(i), names[i], float(scores[i])) for i in order)


def highest_good(
    values: NDArray[np.float32],
    *,
    target: float,
    groups: Sequence[int] | None = None,
    views: NDArray[np.float32] | None = None,
) -> tuple[np.float32, float]:
    """What a threshold lies just above: `conformal_quantile`, and that of views where it is higher.

    Args:
        values: (n,) finite.
        target: 0...1.
        groups: as in `calibrate`.
        views: (n,) values of views of the same images; None where they are not looked at.

    Returns:
        The value, and the probability that can be promised of images themselves.
    """
    highest, reached = conformal_quantile(values, target=target, groups=groups)
    if views is not None:
        on_views = conformal_quantile(views, target=_views_rate(target), groups=groups)[0]
        highest = max(highest, on_views)
    return highest, reached


def _views_rate(target: float) -> float:
    return max(target, VIEWS_RATE)


def conformal_quantile(
    values: NDArray[np.float32], *, target: float, groups: Sequence[int] | None = None
) -> tuple[np.float32, float]:
    """The value that one of a new group exceeds with a probability of at most `target`.

    With m groups, each of them weighing 1 / (m + 1) in equal parts for its values, and the rest of
    the weight at infinity, it is the smallest value that at least 1 - target of the weight does not
    exceed.

    Args:
        values: (n,) finite.
        target: 0...1.
        groups: as in `calibrate`.

    Returns:
        The value, and the probability that can be promised: more than `target` where there are too
        few groups; then the value is the largest.
    """
    numbers = _from_zero(groups, len(values))
    sizes = np.bincount(numbers)
    rank, reached = conformal_rank(len(sizes), target)
    order = np.argsort(values, kind="stable")
    if len(sizes) == len(values):
        return values[order[rank - 1]], reached
    if reached > target + 1e-9:
        return values[order[-1]], reached
    below = np.cumsum(1 / sizes[numbers[order]])
    enough = (len(sizes) + 1) * (1 - target) - 1e-9
    place = min(int(np.searchsorted(below, enough)), len(values) - 1)
    # `reached` of whole ranks would depend on how sizes and scores go together.
    return values[order[place]], target


def conformal_rank(count: int, target: float) -> tuple[int, float]:
    """Which of `count` sorted scores is the threshold, from 1, and the rate that this promises.

    The rate is at most `target`, except where `count` is too small: then the largest score is taken
    and the promise is 1 / (count + 1).
    """
    # A hair of tolerance, or 100 images would miss a target of 1 % by a rounding error.
    rank = min(math.ceil((count + 1) * (1 - target) - 1e-9), count)
    rank = max(rank, 1)
    return rank, (count + 1 - rank) / (count + 1)


def out_of_fold(
    fit: Fit,
    groups: Sequence[int],
    *,
    seed: int = 0,
    workers: int = 1,
    beside: Callable[[], object] = lambda: None,
) -> tuple[NDArray[np.float32], int]:
    """Measure every image by a detector that learned from the images of other folds.

    For few images, of which none is to be held out: the detector that is used learns from all, and
    its thresholds come from these measurements. The groups are dealt out to `FOLDS` folds at
    random; fewer groups than that are a fold each.

    What is promised is less sure than with held-out images. The rate of the one detector that
    learned from all images (the jackknife) has no bound without assumptions. It is near the stated
    one where leaving out a fold hardly changes a score, and below it where learning from more
    images lowers the scores of good ones. Proven is only that a vote of the folds stays below
    twice the rate (Barber et al. 2021, "Predictive inference with the jackknife+"; for anomalies
    Hennhöfer and Preisach 2024), and that would need all of them on the line.

    Args:
        fit: learns from the images whose numbers it is given.
        groups: (n,) a number for the group of each image.
        seed: of the folds.
        workers: threads that each learn from another fold at a time.
        beside: other work that the first free worker does, such as learning from all images.

    Returns:
        What was measured (n, ...), in the order of the images, and the number of folds.

    Raises:
        DataError: one group only.
    """
    fold_of = deal_folds(groups, seed=seed)
    folds = fold_count(groups)
    left_out = [np.flatnonzero(fold_of == fold) for fold in range(folds)]

    def measure(fold: int) -> NDArray[np.float32]:
        return fit(np.flatnonzero(fold_of != fold))(left_out[fold])

    jobs: list[Callable[[], Any]] = [
        beside,
        *(functools.partial(measure, fold) for fold in range(folds)),
    ]
    _, *measured = map_threads(lambda job: job(), jobs, workers=workers)
    return np.concatenate(measured)[np.argsort(np.concatenate(left_out))], folds


def deal_folds(groups: Sequence[int], *, seed: int = 0) -> NDArray[np.intp]:
    """The fold of each of n images, (n,): the groups are dealt out to `fold_count` at random.

    Raises:
        DataError: one group only.
    """
    numbers = _from_zero(groups, len(groups))
    count = int(numbers.max()) + 1 if len(numbers) else 0
    if count < 2:
        raise DataError(
            f"{count} groups of good images, expected at least 2: one to leave out and one to learn"
            " from",
            remedy="add good images of other groups",
        )
    dealt = np.random.default_rng([seed, 2]).permutation(count) % fold_count(groups)
    return np.asarray(dealt[numbers], np.intp)


def fold_count(groups: Sequence[int]) -> int:
    """Folds that `out_of_fold` makes of (n,) group numbers."""
    return min(len(set(groups)), FOLDS)


def outliers_found(calibration: Calibration) -> str:
    """Which good images look like defects, and what that means, in one sentence; or empty."""
    found = calibration.outliers
    if not found:
        return ""
    names = ", ".join(one.name for one in found[:NAMED]) + (", ..." if found[NAMED:] else "")
    total = calibration.images + len(found)
    return (
        f"{len(found)} of {total} good images look like defects ({names}): they set no threshold"
        " and such parts will be alarms → look at them, and take defects out of the good images"
    )


def highest_found(calibration: Calibration) -> str:
    """Which good images set the threshold, in one sentence; or empty."""
    found = calibration.highest
    if not found:
        return ""
    more = len(found) - NAMED
    names = ", ".join(one.name for one in found[:NAMED]) + (f" and {more} more" * (more > 0))
    return (
        f"the threshold is set by {names} → look at them: a defect among good images hides all that"
        " score no higher"
    )


NAMED, MOST_RECORDED = 5, 20
"""Images that are named in a sentence, and that are recorded as those which set a threshold."""


def promise(calibration: Calibration) -> str:
    """What a calibration promises, in one sentence."""
    images, target, reached = calibration.images, calibration.target, calibration.reached
    groups = calibration.groups or images
    grouped = groups < images
    kept = reached <= target + 1e-12
    of_what = f"{groups} groups, {images} images" if grouped else f"{images} images"
    noun = "groups" if grouped else "good images"
    if calibration.folds:
        return (
            f"false alarms on good parts: about {max(target, reached):.2%} expected, not proven"
            f" ({of_what}, each scored by a detector that did not learn from it)"
            + ("" if kept else f"; {target:.2%} takes {calibration_needed(target)} {noun}")
        )
    if kept:
        new = " of the images of a new group" if grouped else ""
        return f"false alarms on good parts: at most {target:.2%}{new} (conformal, {of_what})"
    found = f"{groups} groups of calibration images" if grouped else f"{images} calibration images"
    return (
        f"false alarms on good parts: {found} can promise {reached:.2%} at best, not the"
        f" {target:.2%} asked for → hold out {calibration_needed(target)} {noun}"
    )


def calibration_needed(false_alarm_rate: float) -> int:
    """Fewest calibration images that can promise a false-alarm rate: n + 1 >= 1 / rate."""
    # The rounding keeps 1 / 0.01 and the like from becoming one more by a last binary digit.
    return max(1, math.ceil(round(1 / false_alarm_rate, 6)) - 1)


def _from_zero(groups: Sequence[int] | None, count: int) -> NDArray[Any]:
    """(count,) group numbers from 0 without gaps, in the order in which groups first come."""
    if groups is None or len(groups) == 0:
        return np.arange(count)
    if len(groups) != count:
        raise ValueError(f"expected {count} group numbers, found {len(groups)}")
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(int(group), len(numbers)) for group in groups])


def _just_above(value: np.float32) -> float:
    # An image is anomalous at score >= threshold, the promise is about score > k-th score.
    return float(np.nextafter(np.float32(value), np.float32(np.inf)))
