"""Thresholds: what they promise, and that the promise holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.calibration import calibrate, conformal_rank
from generalad.data.splits import calibration_needed
from generalad.errors import DataError

RATES = st.floats(1e-4, 0.5)
FINITE = st.floats(-1e6, 1e6, width=32)


@given(count=st.integers(1, 20_000), target=RATES)
def test_the_rank_is_the_smallest_that_keeps_the_target(count: int, target: float) -> None:
    rank, reached = conformal_rank(count, target)
    assert 1 <= rank <= count
    assert reached == pytest.approx(1 - rank / (count + 1))
    if count + 1 >= 1 / target + 1e-6:
        assert reached <= target + 1e-9
        if rank > 1:  # one rank lower would promise too little
            assert 1 - (rank - 1) / (count + 1) > target
    else:
        assert rank == count


@pytest.mark.parametrize("percent", [1, 2, 4, 5, 10, 20, 25, 50])
def test_just_enough_images_reach_round_targets_exactly(percent: int) -> None:
    target = percent / 100
    needed = calibration_needed(target)
    assert conformal_rank(needed, target)[1] == target
    assert conformal_rank(100 * needed + 99, target)[1] <= target


@pytest.mark.parametrize("count", [1, 2, 10, 98])
def test_few_images_say_what_they_can_promise(count: int) -> None:
    rank, reached = conformal_rank(count, 0.01)
    assert rank == count
    assert reached == pytest.approx(1 / (count + 1))
    assert reached > 0.01


@given(scores=st.lists(FINITE, min_size=1, max_size=60), target=st.floats(0.01, 0.5))
def test_the_threshold_lies_strictly_above_its_score(scores: list[float], target: float) -> None:
    values = np.array(scores, np.float32)
    done = calibrate(values, -values, target=target)
    rank, reached = conformal_rank(len(values), target)
    for found, raw in ((done.thresholds.image, values), (done.thresholds.pixel, -values)):
        score = np.sort(raw)[rank - 1]
        assert found > score
        assert found == float(np.float32(found)), "must survive float32"
        # No other float32 in between: a new score is at or above it when it exceeds the score.
        assert np.nextafter(np.float32(found), np.float32(-np.inf)) == score
        assert int((raw >= found).sum()) <= len(raw) - rank
    assert done.calibration.reached == reached
    assert done.calibration.images == len(values)
    assert done.normalisation.scale > 0


@pytest.mark.parametrize(("count", "target"), [(19, 0.1), (99, 0.01), (50, 0.05), (10, 0.2)])
@pytest.mark.parametrize("shape", ["normal", "heavy", "ties"])
def test_false_alarms_stay_below_the_promise_on_average(
    count: int, target: float, shape: str
) -> None:
    rng = np.random.default_rng([count, len(shape)])
    draws, fresh = 3000, 20

    def sample(size: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        if shape == "ties":
            return rng.integers(0, 40, size).astype(np.float32)
        values = rng.normal(size=size) if shape == "normal" else rng.standard_cauchy(size)
        return values.astype(np.float32)

    held, new = sample((draws, count)), sample((draws, fresh))
    alarms = [
        float((row >= calibrate(scores, scores, target=target).thresholds.image).mean())
        for scores, row in zip(held, new, strict=True)
    ]
    promised = conformal_rank(count, target)[1]
    error = 4 * float(np.std(alarms)) / math.sqrt(draws)
    assert np.mean(alarms) <= promised + error
    if shape != "ties":  # and it is not simply far too high
        assert np.mean(alarms) >= promised - error


def test_a_typical_good_image_lies_low_and_the_threshold_in_the_middle() -> None:
    scores = np.random.default_rng(0).normal(size=500).astype(np.float32)
    done = calibrate(scores, scores, target=0.01)
    typical = done.normalisation(float(np.median(scores)), done.thresholds.image)
    assert typical == pytest.approx(1 / (1 + math.exp(2)), abs=1e-3)


def test_equal_scores_still_give_an_increasing_mapping() -> None:
    scores = np.full(10, 3.0, np.float32)
    done = calibrate(scores, scores, target=0.1)
    above = done.normalisation(3.1, done.thresholds.image)
    assert done.normalisation(3.0, done.thresholds.image) < 0.5 < above


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    good = np.zeros(3, np.float32)
    wrong = np.array([0, bad, 0], np.float32)
    for scores, peaks in ((wrong, good), (good, wrong)):
        with pytest.raises(DataError, match="not finite"):
            calibrate(scores, peaks, target=0.1)


def test_no_scores_are_refused() -> None:
    empty = np.zeros(0, np.float32)
    with pytest.raises(DataError, match="good images"):
        calibrate(empty, empty, target=0.1)
    with pytest.raises(DataError, match="good images"):
        calibrate(np.zeros(2, np.float32), np.zeros(1, np.float32), target=0.1)
