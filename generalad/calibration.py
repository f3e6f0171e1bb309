"""Thresholds from good images alone, with a stated false-alarm rate.

Split-conformal quantile (Vovk et al. 2005; Lei et al. 2018): with n held-out scores and a new good
image from the same source, all n + 1 orders are equally likely, so the new score exceeds the k-th
smallest of the n with probability at most 1 - k / (n + 1). No shape of the distribution is assumed.
Shared by training, export and runtime; numpy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.spec import Calibration, Normalisation, Thresholds

HELD_OUT = "held-out good images"
"""What training and export calibrate on."""

METHOD = (
    "conformal quantile of {source}; the pixel threshold is that of the largest map value of each"
    " image"
)


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
    source: str = HELD_OUT,
) -> Calibrated:
    """Set both thresholds for a target false-alarm rate.

    The pixel threshold is calibrated on the largest map value of each image: at most the same share
    of good images shows any marked pixel. Pixels of one image are no independent samples, so a rate
    over pixels could not be promised.

    Args:
        scores: (n,) raw image scores of good images that were not trained on.
        peaks: (n,) largest raw map value of each of them.
        target: wished false-alarm rate, 0...1.
        source: what they are, for the record.

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
    rank, reached = conformal_rank(len(scores), target)
    image, pixel = (_just_above(np.sort(values)[rank - 1]) for values in (scores, peaks))
    median = float(np.median(scores))
    # Equal scores leave no distance to scale by; any positive number keeps the mapping increasing.
    scale = max((image - median) / 2, 1e-6 * max(1.0, abs(image)))
    return Calibrated(
        Thresholds(image=image, pixel=pixel),
        Normalisation(scale=scale),
        Calibration(
            method=METHOD.format(source=source),
            images=len(scores),
            target=target,
            reached=reached,
        ),
    )


def conformal_rank(count: int, target: float) -> tuple[int, float]:
    """Which of `count` sorted scores is the threshold, from 1, and the rate that this promises.

    The rate is at most `target`, except where `count` is too small: then the largest score is taken
    and the promise is 1 / (count + 1).
    """
    # A hair of tolerance, or 100 images would miss a target of 1 % by a rounding error.
    rank = min(math.ceil((count + 1) * (1 - target) - 1e-9), count)
    rank = max(rank, 1)
    return rank, (count + 1 - rank) / (count + 1)


def _just_above(value: np.float32) -> float:
    # An image is anomalous at score >= threshold, the promise is about score > k-th score.
    return float(np.nextafter(np.float32(value), np.float32(np.inf)))
