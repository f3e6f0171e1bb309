"""Thresholds: what they promise, and that the promise holds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from generalad.calibration import (
    FOLDS,
    VIEWS_RATE,
    Fit,
    Measure,
    calibrate,
    calibration_needed,
    conformal_quantile,
    conformal_rank,
    highest_found,
    highest_good,
    out_of_fold,
    outliers_found,
    outliers_of,
    promise,
)
from generalad.data.samples import Sample
from generalad.data.splits import split_calibration
from generalad.errors import DataError
from generalad.spec import Calibration

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


@given(st.integers(20, 200), st.floats(-2, 4), st.sampled_from([0.01, 0.1]))
def test_thresholds_keep_views_in_account(count: int, moved: float, target: float) -> None:
    rng = np.random.default_rng(count)
    scores, peaks = rng.normal(size=(2, count)).astype(np.float32)
    views = (scores + np.float32(moved), peaks)
    alone = calibrate(scores, peaks, target=target)
    done = calibrate(scores, peaks, target=target, views=views)
    assert done.thresholds.image >= alone.thresholds.image
    assert done.thresholds.pixel == alone.thresholds.pixel  # these views have the same peaks
    assert done.calibration.views_rate == max(target, VIEWS_RATE)
    assert alone.calibration.views_rate is None
    assert np.mean(views[0] >= done.thresholds.image) <= max(target, VIEWS_RATE)
    if moved <= 0:
        assert done.thresholds == alone.thresholds


@given(st.integers(20, 200), st.floats(-2, 4), st.sampled_from([0.01, 0.05, 0.1]))
def test_drawn_misses_are_counted_at_the_threshold_of_their_rate(
    count: int, moved: float, target: float
) -> None:
    rng = np.random.default_rng(count)
    scores, drawn = rng.normal(size=(2, count)).astype(np.float32)
    views = scores + np.float32(moved)
    highest, reached = highest_good(scores, target=target, views=views)
    done = calibrate(scores, scores, target=target, views=(views, scores))
    assert np.array_equal(drawn <= highest, drawn < done.thresholds.image)
    assert reached == done.calibration.reached


def test_no_scores_are_refused() -> None:
    empty = np.zeros(0, np.float32)
    with pytest.raises(DataError, match="good images"):
        calibrate(empty, empty, target=0.1)
    with pytest.raises(DataError, match="good images"):
        calibrate(np.zeros(2, np.float32), np.zeros(1, np.float32), target=0.1)


@given(
    scores=st.lists(FINITE, min_size=1, max_size=40),
    groups=st.lists(st.integers(0, 6), min_size=40, max_size=40),
    target=st.floats(0.01, 0.6),
)
def test_each_group_has_the_same_weight(
    scores: list[float], groups: list[int], target: float
) -> None:
    values, numbers = np.array(scores, np.float32), groups[: len(scores)]
    names = set(numbers)

    def weight(limit: float) -> float:
        """Of what does not exceed `limit`, a group's shares added up."""
        own = [values[np.array(numbers) == name] for name in names]
        return sum(float((one <= limit).mean()) for one in own) / (len(names) + 1)

    found, reached = conformal_quantile(values, target=target, groups=numbers)
    assert reached == pytest.approx(conformal_rank(len(names), target)[1]) or reached == target
    if 1 / (len(names) + 1) > target + 1e-9:
        assert found == values.max()
        assert reached == pytest.approx(1 / (len(names) + 1))
    else:
        assert reached <= target + 1e-9
        assert weight(float(found)) >= 1 - target - 1e-6
        lower = values[values < found]
        assert not len(lower) or weight(float(lower.max())) < 1 - target + 1e-6


def test_groups_of_one_are_no_groups() -> None:
    scores = np.random.default_rng(0).normal(size=150).astype(np.float32)
    alone = calibrate(scores, scores, target=0.05)
    assert calibrate(scores, scores, target=0.05, groups=range(150)[::-1]) == alone
    assert (alone.calibration.groups, alone.calibration.group_of) == (150, ())


def test_more_images_of_a_group_do_not_make_it_heavier() -> None:
    scores, groups = np.arange(30, dtype=np.float32), list(range(30))
    once = calibrate(scores, scores, target=0.1, groups=groups)
    often = calibrate(np.r_[scores, np.full(300, 5.0, np.float32)], np.zeros(330, np.float32),
                      target=0.1, groups=groups + [5] * 300)  # fmt: skip
    assert often.thresholds.image == once.thresholds.image
    assert often.calibration.groups == 30
    assert often.calibration.group_of == (*groups, *[5] * 300)


Drawn = tuple[NDArray[np.float32], NDArray[np.intp]]


def grouped_scores(rng: np.random.Generator, shape: str, groups: int) -> Drawn:
    """Scores and their groups: those of one differ little; large groups may lie higher."""
    sizes = np.full(groups, 12) if shape == "equal groups" else rng.integers(1, 24, groups)
    levels = rng.standard_t(2, groups) if shape == "heavy tails" else rng.normal(size=groups)
    levels = levels + 0.02 * sizes
    owner = np.repeat(np.arange(groups), sizes)
    return (levels[owner] + 0.1 * rng.normal(size=len(owner))).astype(np.float32), owner


def rates_of_new_groups(
    shape: str, groups: int, target: float, *, told: bool
) -> tuple[float, float, float]:
    """Mean share of false alarms in a new group, four standard errors, and what was promised."""
    rng = np.random.default_rng([int(1000 * target), len(shape)])
    rates, draws = [], 2000
    for _ in range(draws):
        scores, owner = grouped_scores(rng, shape, groups)
        new, new_owner = grouped_scores(rng, shape, 5)
        limit, promised = conformal_quantile(
            scores, target=target, groups=owner.tolist() if told else None
        )
        alarms = np.bincount(new_owner, new > limit) / np.bincount(new_owner)
        rates.append(float(alarms.mean()))
    return float(np.mean(rates)), 4 * float(np.std(rates)) / math.sqrt(draws), promised


@pytest.mark.parametrize(("groups", "target"), [(9, 0.1), (30, 0.1), (25, 0.05), (9, 0.01)])
@pytest.mark.parametrize("shape", ["equal groups", "unequal groups", "heavy tails"])
def test_an_image_of_a_new_group_keeps_the_promise(shape: str, groups: int, target: float) -> None:
    rate, error, promised = rates_of_new_groups(shape, groups, target, told=True)
    assert promised == pytest.approx(max(target, 1 / (groups + 1)))
    assert 0.5 * promised - error <= rate <= promised + error


@pytest.mark.parametrize("shape", ["equal groups", "unequal groups", "heavy tails"])
def test_many_images_of_few_groups_promise_too_much_when_nobody_tells(shape: str) -> None:
    rate, error, promised = rates_of_new_groups(shape, 20, 0.01, told=False)
    assert promised < 0.02  # as if some 240 images were as many parts
    assert rate - error > 1.5 * promised


def test_groups_on_both_sides_of_the_split_break_the_promise() -> None:
    """Scores are distances to the nearest training image; each part is photographed six times."""
    rng = np.random.default_rng(5)
    target, parts, shots = 0.1, 60, 6
    rates: dict[str, list[float]] = {"by group": [], "by image": []}
    for _ in range(150):
        centres = rng.normal(size=(parts + 40, 4))
        owner = np.repeat(np.arange(len(centres)), shots)
        images = centres[owner] + 0.2 * rng.normal(size=(len(owner), 4))
        known = owner < parts
        for rule, found in rates.items():
            names = {Path(str(n)): f"{owner[n]}" for n in np.flatnonzero(known)}
            train, held = split_calibration(
                [Sample(path, "good") for path in names],
                fraction=0.33,
                rng=rng,
                groups=names if rule == "by group" else None,
            )
            taught, left = ([int(str(s.path)) for s in side] for side in (train, held))
            near = [
                np.linalg.norm(images[wanted, None] - images[None, taught], axis=2).min(axis=1)
                for wanted in (left, ~known)
            ]
            held_groups = owner[left].tolist() if rule == "by group" else None
            scores = near[0].astype(np.float32)
            limit, reached = conformal_quantile(scores, target=target, groups=held_groups)
            assert reached <= target
            found.append(float((near[1] > limit).mean()))
    error = 4 * float(np.std(rates["by group"])) / math.sqrt(150)
    assert np.mean(rates["by group"]) <= target + error
    assert np.mean(rates["by image"]) > 3 * target


def gaussian_fit(images: NDArray[np.float64]) -> Fit:
    """A score and a peak that learn: distances to the mean, in units of the spread."""

    def fit(taught: NDArray[np.intp]) -> Measure:
        mean, spread = images[taught].mean(axis=0), images[taught].std(axis=0) + 0.3

        def measure(wanted: NDArray[np.intp]) -> NDArray[np.float32]:
            far = np.abs((images[wanted] - mean) / spread).astype(np.float32)
            return np.stack([far.mean(axis=1), far.max(axis=1)], axis=1)

        return measure

    return fit


@pytest.mark.parametrize(
    "groups", [[0, 0, 1, 2, 2, 2], list(range(9)), [n // 2 for n in range(90)]]
)
def test_no_image_is_scored_by_what_it_taught(groups: list[int]) -> None:
    owner, taught_at = np.array(groups), []

    def fit(taught: NDArray[np.intp]) -> Measure:
        known = set(owner[taught])
        taught_at.append(known)

        def measure(wanted: NDArray[np.intp]) -> NDArray[np.float32]:
            assert not set(owner[wanted]) & known
            assert len(taught) + len(wanted) == len(owner)
            return wanted.astype(np.float32)

        return measure

    done: list[str] = []
    found, folds = out_of_fold(fit, groups, workers=2, beside=lambda: done.append("all"))
    assert done == ["all"]
    assert folds == min(len(set(groups)), FOLDS) == len(taught_at)
    assert found.tolist() == list(range(len(groups)))
    with pytest.raises(DataError, match="1 group"):
        out_of_fold(fit, [4, 4, 4])


@pytest.mark.parametrize("count", [5, 10, 20])
def test_small_sets_alarm_about_as_often_as_expected(count: int) -> None:
    rng, rates = np.random.default_rng(count), []
    for _ in range(300):
        images = rng.normal(size=(count + 50, 12))
        fit = gaussian_fit(images)
        held, folds = out_of_fold(fit, range(count))
        limit = calibrate(*held.T, target=0.01, folds=folds).thresholds.image
        scores = fit(np.arange(count))(np.arange(count, count + 50))[:, 0]
        rates.append(float((scores >= limit).mean()))
    expected = 1 / (count + 1)
    error = 4 * float(np.std(rates)) / math.sqrt(len(rates))
    assert 0.4 * expected - error <= np.mean(rates) <= expected + error


def test_what_is_promised_is_said() -> None:
    rng = np.random.default_rng(0)

    def said(images: int, target: float, groups: list[int] | None = None, folds: int = 0) -> str:
        scores = rng.normal(size=images).astype(np.float32)
        done = calibrate(scores, scores, target=target, groups=groups, folds=folds)
        return promise(done.calibration).removeprefix("false alarms on good parts: ")

    threes = [n // 3 for n in range(300)]
    assert said(99, 0.01) == "at most 1.00% (conformal, 99 images)"
    assert said(300, 0.01, threes) == (
        "at most 1.00% of the images of a new group (conformal, 100 groups, 300 images)"
    )
    assert said(30, 0.01, threes[:30]) == (
        "10 groups of calibration images can promise 9.09% at best, not the 1.00% asked for"
        " → hold out 99 groups"
    )
    assert said(10, 0.01, folds=10) == (
        "about 9.09% expected, not proven (10 images, each scored by a detector that did not learn"
        " from it); 1.00% takes 99 good images"
    )


def good_scores(count: int = 100) -> NDArray[np.float32]:
    return np.random.default_rng(0).exponential(size=count).astype(np.float32)


def test_outliers_set_no_threshold_and_are_named() -> None:
    scores = np.append(good_scores(), np.array([30, 40], np.float32))
    names = [f"{number}.png" for number in range(102)]
    found = outliers_of(scores, names)
    assert [(one.number, one.name, one.score) for one in found] == [
        (101, "101.png", 40.0),
        (100, "100.png", 30.0),
    ]
    groups = [0, 0, *range(1, 101)]
    views = (scores * 1.1, scores * 2.2)
    with_them = calibrate(
        scores, 2 * scores, target=0.01, groups=groups, views=views, outliers=found
    )
    without = calibrate(
        scores[:100],
        2 * scores[:100],
        target=0.01,
        groups=groups[:100],
        views=(views[0][:100], views[1][:100]),
    )
    assert with_them.thresholds == without.thresholds
    assert with_them.normalisation == without.normalisation
    assert (with_them.calibration.images, with_them.calibration.groups) == (100, 99)
    assert with_them.calibration.group_of == tuple(groups)
    assert with_them.calibration.reached == without.calibration.reached
    assert "2 of 102 good images look like defects (101.png, 100.png)" in outliers_found(
        with_them.calibration
    )
    assert outliers_found(without.calibration) == ""


def test_images_that_set_the_threshold_are_named() -> None:
    scores = np.append(good_scores(), np.array([30, 40], np.float32))
    names = [f"{number}.png" for number in range(102)]
    outliers = outliers_of(scores, names)

    def found(**changes: Any) -> Calibration:
        given = {"names": names, "outliers": outliers, "target": 0.03, **changes}
        return calibrate(scores, scores, **given).calibration

    usual = found()
    assert [one.number for one in usual.highest] == np.argsort(-scores[:100])[:3].tolist()
    assert all(one.name == names[one.number] for one in usual.highest)
    assert (
        usual.highest[-1].score
        < calibrate(scores, scores, target=0.03, outliers=outliers).thresholds.image
        <= np.nextafter(np.float32(usual.highest[-1].score), np.float32(np.inf))
    )
    first, second, third = (one.name for one in usual.highest)
    assert f"is set by {first}, {second}, {third} → look at them" in highest_found(usual)
    assert highest_found(found(target=0.1)).count(".png") == 5
    assert "and 5 more" in highest_found(found(target=0.1))
    assert len(found(target=0.5).highest) == 20
    assert found(views=(scores * 2, scores * 2)).highest == ()  # no image's score
    assert highest_found(found(names=())) == ""


@pytest.mark.parametrize("tail", ["normal", "exponential", "logistic", "gumbel", "uniform"])
def test_usual_tails_have_next_to_no_outliers(tail: str) -> None:
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(200):
        scores = getattr(rng, tail)(size=500).astype(np.float32)
        counts.append(len(outliers_of(scores, [""] * 500)))
    assert np.sum(counts) <= 0.0015 * 200 * 500


def test_outliers_among_lengths_are_told_by_their_logarithms() -> None:
    """Lengths of heavy tails, of which on their own scale one in thirty would set no threshold."""
    scores = np.random.default_rng(0).exponential(size=2000).astype(np.float32)
    names = [str(number) for number in range(2000)]
    lengths = np.exp(scores / 2)
    assert len(outliers_of(lengths, names)) > 40
    told = outliers_of(lengths, names, lengths=True)
    expected = outliers_of(scores, names)
    assert [one.number for one in told] == [one.number for one in expected]
    assert all(one.score == lengths[one.number] for one in told)
    assert len(outliers_of(np.append(lengths, 0), [*names, "zero"], lengths=True)) == len(told)


def test_many_far_scores_belong_to_the_process() -> None:
    scores = np.append(good_scores(90), np.full(10, 50, np.float32))
    assert outliers_of(scores, [""] * 100) == ()


@pytest.mark.parametrize("count", [1, 2, 10, 19])
def test_few_images_have_no_outliers(count: int) -> None:
    scores = np.append(np.ones(count - 1), 1e6).astype(np.float32)
    assert outliers_of(scores, [""] * count) == ()
