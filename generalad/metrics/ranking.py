"""AUROC, average precision and best F1 of scores against labels; exact, ties included.

Everything starts from two numbers at every distinct score taken as the threshold: how many
positives and how many negatives reach it. The functions that end in `_from_counts` take those
numbers, so images, pixels and their weighted sums share one implementation. Those that end in
`_influence` are derivatives, from which intervals follow (intervals.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from generalad.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Counts:
    """What reaches each threshold K, highest threshold first; the last one lets everything pass."""

    thresholds: Floats  # (K,), the distinct scores
    true: Floats  # (K,), positives with score >= threshold
    false: Floats  # (K,), negatives with score >= threshold


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Chance that a positive scores above a negative, a tie counting half; NaN without both."""
    counts = count_by_threshold(labels, scores)
    return float(auroc_from_counts(counts.true, counts.false))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Precision averaged over the recall gained at each threshold; NaN without both classes."""
    counts = count_by_threshold(labels, scores)
    return float(average_precision_from_counts(counts.true, counts.false))


def best_f1(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Largest F1 over all thresholds, and the highest threshold that gives it; NaN as above.

    The threshold is chosen on the very data it is judged on: an upper bound, not an expectation.
    """
    counts = count_by_threshold(labels, scores)
    if counts.true.size == 0 or counts.true[-1] == 0 or counts.false[-1] == 0:
        return float("nan"), float("nan")
    f1 = f1_from_counts(counts.true, counts.false)
    best = int(np.argmax(f1))
    return float(f1[best]), float(counts.thresholds[best])


def count_by_threshold(labels: ArrayLike, scores: ArrayLike) -> Counts:
    """Sort by score and count; labels are bool or 0/1, scores any finite numbers of any scale."""
    positive, values = _checked(labels, scores)
    order = np.argsort(values)[::-1]
    values, positive = values[order], positive[order]
    last_of_tie = np.append(values[1:] != values[:-1], True)[: values.size]
    true = np.cumsum(positive)[last_of_tie]
    passed = np.flatnonzero(last_of_tie) + 1
    return Counts(
        thresholds=values[last_of_tie].astype(np.float64),
        true=true.astype(np.float64),
        false=(passed - true).astype(np.float64),
    )


def auroc_from_counts(true: Floats, false: Floats) -> Floats:
    """AUROC of cumulative counts or weights (..., K); NaN where a class is missing."""
    # Counts are summed before they are divided: a perfect ranking gives exactly 1.
    before = np.concatenate([np.zeros_like(true[..., :1]), true[..., :-1]], axis=-1)
    gained = np.diff(false, prepend=0.0, axis=-1)
    return _share(np.sum(gained * (true + before) / 2, axis=-1), true, false)


def average_precision_from_counts(true: Floats, false: Floats) -> Floats:
    """Average precision of cumulative counts or weights (..., K); NaN where a class is missing."""
    gained = np.diff(true, prepend=0.0, axis=-1)
    precision = true / np.maximum(true + false, np.finfo(np.float64).tiny)
    # Out of the positives alone, yet NaN when there are no negatives.
    return _share(np.sum(gained * precision, axis=-1), true, np.sign(false))


def auroc_influence(true: Floats, false: Floats) -> tuple[Floats, Floats]:
    """Derivatives (K,) of AUROC by the weight of a positive and of a negative at each threshold.

    `true` and `false` are cumulative weights (K,), with some of both. Times the weights that they
    have, the derivatives sum to 0 in each class.
    """
    gained_true, gained_false = np.diff(true, prepend=0.0), np.diff(false, prepend=0.0)
    won = 1 - (false - gained_false / 2) / false[-1]  # share of negatives that a positive exceeds
    lost = (true - gained_true / 2) / true[-1]
    value = auroc_from_counts(true, false)
    return (won - value) / true[-1], (lost - value) / false[-1]


def average_precision_influence(true: Floats, false: Floats) -> tuple[Floats, Floats]:
    """Derivatives (K,) of average precision, as those of `auroc_influence`."""
    gained = np.diff(true, prepend=0.0)
    passed = np.maximum(true + false, np.finfo(np.float64).tiny)
    value = average_precision_from_counts(true, false)
    # Whoever passes at a threshold changes the precision at it and at all lower ones.
    by_true = _from_the_lowest(gained / passed * (false / passed))
    by_false = _from_the_lowest(gained / passed * (true / passed))
    return (true / passed - value + by_true) / true[-1], -by_false / true[-1]


def f1_from_counts(true: Floats, false: Floats) -> Floats:
    """F1 at every threshold (..., K) of cumulative counts or weights."""
    f1: Floats = 2 * true / np.maximum(true + false + _total(true), np.finfo(np.float64).tiny)
    return f1


def area_below(x: Floats, y: Floats, limit: float = 1.0) -> Floats:
    """Trapezoid area under a curve (..., K) from the origin to x = limit, divided by limit.

    x ascends from 0; the segment that crosses the limit is cut there by linear interpolation.
    """
    x0 = np.concatenate([np.zeros_like(x[..., :1]), x[..., :-1]], axis=-1)
    y0 = np.concatenate([np.zeros_like(y[..., :1]), y[..., :-1]], axis=-1)
    width = np.maximum(np.minimum(x, limit) - x0, 0.0)
    inside = np.divide(width, x - x0, out=np.zeros_like(width), where=x > x0)
    area: Floats = np.sum(width * (y0 + 0.5 * inside * (y - y0)), axis=-1)
    return area / limit


def thinned(x: Floats, y: Floats, points: int = 400) -> Floats:
    """At most about `points` points (points, 2) of a curve from the origin, to draw it.

    They are spaced evenly along the curve's own length, so that a steep start keeps its shape.
    """
    x, y = np.append(0.0, x), np.append(0.0, y)
    length = np.append(0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    keep = np.unique(np.searchsorted(length, np.linspace(0.0, length[-1], points)))
    return np.stack([x, y], axis=1)[np.minimum(keep, x.size - 1)]


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    given, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if given.ndim != 1 or given.shape != values.shape:
        raise DataError(f"expected one label per score, found {given.shape} and {values.shape}")
    if given.dtype != np.bool_ and not np.isin(given, (0, 1)).all():
        raise DataError("expected labels 0 and 1, found others")
    if not np.isfinite(values).all():
        raise DataError(
            "expected finite scores, found NaN or infinity",
            remedy="look for the image that causes it; fp16 overflows on some backbones",
        )
    return given.astype(np.bool_), values


def _from_the_lowest(values: Floats) -> Floats:
    return np.cumsum(values[::-1])[::-1]


def _total(cumulative: Floats) -> Floats:
    return cumulative[..., -1:] if cumulative.shape[-1] else np.zeros((*cumulative.shape[:-1], 1))


def _share(area: Floats, true: Floats, false: Floats) -> Floats:
    """`area` out of the totals' product; NaN where either is 0."""
    whole = (_total(true) * _total(false))[..., 0]
    return area / np.where(whole > 0, whole, np.nan)
