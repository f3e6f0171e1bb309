"""The gate: what is equal passes, what decides differently does not, and the reason is said."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import spearmanr

from generalad.errors import GateError
from generalad.export.gate import calibrated
from generalad.export.parity import LIMITS, Parity, compare, rank_correlation, refuse_infinite
from generalad.export.verification_images import (
    CALIBRATION,
    DEFECTS,
    MOST_DEFECTS,
    VIEWS,
    image_sets,
)
from generalad.model.storage import Trained
from generalad.runtime.backends.session import Outputs
from generalad.synth.drawn_defects import KINDS, with_defect

pytest_plugins = ["training_fixtures"]

GOOD, BAD = 30, 10
THRESHOLD = 2.6


def good_images(count: int = GOOD) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(60, 190, (count, 48, 64, 3), dtype=np.uint8)


def outputs(seed: int = 0) -> list[Outputs]:
    """Of a detector that finds each drawn defect: calibration scores below 2.5, defects above."""
    rng = np.random.default_rng(seed)
    sets = image_sets(good_images())
    found = []
    for images, low in zip(sets, (0.0, 2.7), strict=True):
        maps = rng.uniform(0, 1, (len(images), 12, 16)).astype(np.float32)
        for anomaly_map, mask in zip(maps, images.masks, strict=True):
            if mask is not None:
                anomaly_map += 2 * mask.reshape(12, 4, 16, 4).mean(axis=(1, 3))
        scores = (low + rng.uniform(0, 2.5, len(images))).astype(np.float32)
        found.append(Outputs(scores, maps))
    return found


def test_views_are_a_set_of_their_own_and_move_thresholds(trained: Trained) -> None:
    good = good_images()
    sets = image_sets(good, views=True)
    assert [one.name for one in sets] == [CALIBRATION, DEFECTS, VIEWS]
    assert not sets[2].defective.any() and not np.array_equal(sets[2].images, good)
    assert np.array_equal(sets[2].images, image_sets(good, views=True)[2].images)

    maps = np.zeros((GOOD, 2, 2), np.float32)
    on_good = Outputs(np.linspace(0, 1, GOOD, dtype=np.float32), maps)
    on_views = Outputs(on_good.scores + 5, maps + 3)
    spec = dataclasses.replace(
        trained.spec,
        calibration=dataclasses.replace(trained.spec.calibration, group_of=()),
    )
    plain, wide = calibrated(spec, on_good), calibrated(spec, on_good, on_views)
    assert plain.thresholds.image == pytest.approx(1) and plain.thresholds.pixel < 1e-6
    assert 5.9 < wide.thresholds.image <= 6.001 and wide.thresholds.pixel == pytest.approx(3)
    assert wide.calibration.views_rate == 0.05 and plain.calibration.views_rate is None


def judge(
    change: Callable[[int, Outputs], Outputs], precision: str = "fp32", threshold: float = THRESHOLD
) -> Parity:
    before = outputs()
    after = [
        change(place, Outputs(o.scores.copy(), o.maps.copy())) for place, o in enumerate(before)
    ]
    return compare(
        image_sets(good_images()),
        before,
        after,
        thresholds=(THRESHOLD, threshold),
        precision=precision,
        backend="test",
    )


@pytest.mark.parametrize("precision", LIMITS)
def test_what_is_equal_passes_everywhere(precision: str) -> None:
    parity = judge(lambda place, o: o, precision)
    assert parity.problems() == []
    assert parity.flips == 0 and parity.score_largest == 0
    calibration, defects = parity.sets
    assert np.isnan(calibration.auroc).all()
    assert defects.auroc == (1.0, 1.0)
    assert 0.5 < defects.aupro[0] == defects.aupro[1] <= 1
    assert all(item.rank == pytest.approx(1) for item in parity.sets)


def test_differences_are_in_units_of_the_calibration_spread() -> None:
    score_range = float(np.ptp(outputs()[0].scores))
    parity = judge(lambda place, o: Outputs(o.scores + 0.1 * place, o.maps), "int8")
    assert parity.score_range == pytest.approx(score_range)
    assert [item.score_largest for item in parity.sets] == pytest.approx(
        [0, 0.1 / score_range], abs=1e-6
    )


def shift_maps(place: int, o: Outputs) -> Outputs:
    return Outputs(o.scores, o.maps + np.float32(0.1))


def shuffle_good(place: int, o: Outputs) -> Outputs:
    return Outputs(o.scores[::-1].copy() if place == 0 else o.scores, o.maps)


def miss_one(place: int, o: Outputs) -> Outputs:
    if place:
        o.scores[o.scores.argmax()] = 0
    return o


def blind_maps(place: int, o: Outputs) -> Outputs:
    return Outputs(o.scores, o.maps[:, ::-1, ::-1].copy())


@pytest.mark.parametrize(
    ("change", "precision", "words"),
    [
        (lambda place, o: Outputs(o.scores * 1.01, o.maps), "fp32", "scores differ by up to"),
        (lambda place, o: Outputs(o.scores + 0.5, o.maps), "fp16", "scores differ by up to"),
        (shift_maps, "fp32", "maps differ"),
        (shift_maps, "fp16", "maps differ"),
        (shuffle_good, "fp16", "rank correlation"),
        (miss_one, "int8", "1 of 30 decisions differ farther than 10%"),
        (miss_one, "int8", "image AUROC falls from 1.0000"),
        (blind_maps, "int8", "AUPRO falls"),
    ],
)  # fmt: skip
def test_each_limit_can_refuse(
    change: Callable[[int, Outputs], Outputs], precision: str, words: str
) -> None:
    assert any(words in problem for problem in judge(change, precision).problems())


def test_near_the_threshold_half_precision_may_flip_and_single_may_not() -> None:
    def nudge(place: int, o: Outputs) -> Outputs:
        if place:
            o.scores[:] = np.where(o.scores == o.scores.min(), THRESHOLD - 1e-4, o.scores)
        return o

    def start(place: int, o: Outputs) -> Outputs:
        return nudge(place, o)

    before = outputs()
    lowest = before[1].scores.min()
    parities = {
        precision: compare(
            image_sets(good_images()),
            before,
            [start(place, Outputs(o.scores.copy(), o.maps)) for place, o in enumerate(before)],
            thresholds=(float(lowest) - 1e-3, THRESHOLD),
            precision=precision,
            backend="test",
        )
        for precision in ("fp32", "int8")
    }
    assert [parity.flips for parity in parities.values()] == [1, 1]
    assert [parity.sets[1].flips_far for parity in parities.values()] == [1, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_threshold_is_set_on_infinite_outputs(value: float) -> None:
    scores, maps = np.zeros(2, np.float32), np.zeros((2, 3, 3), np.float32)
    refuse_infinite(Outputs(scores, maps))
    maps[1, 2, 2] = value
    with pytest.raises(GateError, match="not finite"):
        refuse_infinite(Outputs(scores, maps))


@given(arrays(np.float32, st.integers(2, 40), elements=st.integers(-5, 5)), st.randoms())
def test_rank_correlation_is_spearmans(values: NDArray[np.float32], random: Any) -> None:
    other = values.copy()
    random.shuffle(other)
    if np.ptp(values) == 0:
        assert rank_correlation(values, other) == 1
    else:
        expected = spearmanr(values, other).statistic
        assert rank_correlation(values, other) == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 500), st.integers(16, 90), st.integers(16, 90))
def test_a_drawn_defect_changes_its_place_only(index: int, height: int, width: int) -> None:
    rng = np.random.default_rng(index)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    changed, mask = with_defect(image, index)
    again, _ = with_defect(image, index)
    assert changed.dtype == np.uint8 and mask.shape == (height, width)
    assert np.array_equal(changed, again)
    assert 0 < (mask.mean()) < 0.5
    different = (changed != image).any(axis=2)
    assert different.mean() < 0.5  # soft edges reach beyond the mask, never far


def test_kinds_go_round_and_sets_are_bounded() -> None:
    sets = image_sets(good_images(MOST_DEFECTS + 9))
    assert [len(images) for images in sets] == [MOST_DEFECTS + 9, MOST_DEFECTS]
    assert not sets[0].defective.any() and sets[1].defective.all()
    assert len(KINDS) == 3
    first = [with_defect(sets[0].images[0], index)[0] for index in range(3)]
    assert len({image.tobytes() for image in first}) == 3
