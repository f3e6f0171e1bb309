"""Do the intervals of metrics keep their promise, and are they those of the methods they name?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from generalad.metrics import pixel_table as module
from generalad.metrics.intervals import Stratum, image_estimates, interval
from generalad.metrics.pixel import FPR_LIMIT, LOW_FPR_LIMIT, influences
from generalad.metrics.pixel_table import GOOD, LabelledMap, tabulate_pixels
from generalad.metrics.ranking import (
    area_below,
    auroc_from_counts,
    auroc_influence,
    average_precision_from_counts,
    average_precision_influence,
)
from generalad.statistics import Estimate

Floats = NDArray[np.float64]
HISTOGRAMS = 12


def assert_honest(found: Estimate) -> None:
    assert found.low is not None and found.high is not None
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 1e-6


def numeric(statistic: Callable[[Floats], Floats], weights: Floats) -> Floats:
    """Derivatives of a statistic by each weight, by central differences."""
    steps = np.eye(weights.size) * 1e-4
    return np.array([(statistic(weights + h) - statistic(weights - h)) / 2e-4 for h in steps])


def histograms(seed: int) -> tuple[Floats, Floats, Floats]:
    """Normal, anomalous pixels, shares; highest bin first. Some bins are empty."""
    rng = np.random.default_rng(seed)
    normal = rng.integers(0, 4, HISTOGRAMS) * np.linspace(1, 20, HISTOGRAMS)
    anomalous = rng.integers(0, 4, HISTOGRAMS) * np.linspace(5, 1, HISTOGRAMS)
    normal[-1] += 1
    anomalous[0] += 1
    return normal, anomalous, anomalous * rng.uniform(0.1, 1, HISTOGRAMS)


@given(st.integers(0, 1000))
def test_influences_are_derivatives(seed: int) -> None:
    parts = histograms(seed)

    def statistic(weights: Floats) -> Floats:
        false, true, overlap = (np.cumsum(part) for part in weights.reshape(3, -1))
        return np.array(
            [
                auroc_from_counts(true, false),
                average_precision_from_counts(true, false),
                area_below(false / false[-1], overlap / overlap[-1], FPR_LIMIT),
                area_below(false / false[-1], overlap / overlap[-1], LOW_FPR_LIMIT),
            ]
        )

    expected = numeric(statistic, np.concatenate(parts)).T.reshape(4, 3, -1)
    filled = np.stack(parts) > 0  # no weight can be taken from an empty bin
    np.testing.assert_allclose(influences(*parts)[:, filled], expected[:, filled], atol=2e-5)


@given(st.integers(0, 1000))
def test_influences_cancel(seed: int) -> None:
    """A test set twice as large has the same metrics."""
    normal, anomalous, _ = histograms(seed)
    true, false = np.cumsum(anomalous), np.cumsum(normal)
    for of_true, of_false in (
        auroc_influence(true, false),
        average_precision_influence(true, false),
    ):
        assert of_true @ anomalous + of_false @ normal == pytest.approx(0, abs=1e-12)


def test_the_variance_of_auroc_is_that_of_delong() -> None:
    rng = np.random.default_rng(0)
    good, defective = np.round(rng.normal(size=30), 1), np.round(rng.normal(1, 1, 12), 1)
    higher = (defective[:, None] > good) + 0.5 * (defective[:, None] == good)
    delong = np.var(higher.mean(1), ddof=1) / 12 + np.var(higher.mean(0), ddof=1) / 30
    scores = np.concatenate([good, defective])
    thresholds = np.unique(scores)[::-1]
    true, false = (
        np.array([(some >= t).sum() for t in thresholds], float) for some in (defective, good)
    )
    at = [np.searchsorted(-thresholds, -some) for some in (defective, good)]
    parts = [
        Stratum(influence[index], index.size)
        for influence, index in zip(auroc_influence(true, false), at, strict=True)
    ]
    assert sum(part.variance for part in parts) == pytest.approx(delong, rel=1e-12)


def test_an_imagined_image_scores_like_one_of_the_other_class() -> None:
    """For AUROC without mistakes: 0.5 beside ones, in each class."""
    good, defective = np.arange(6.0), np.arange(10.0, 14)
    found, _ = image_estimates(np.repeat([0, 1], [6, 4]), np.concatenate([good, defective]))
    variance = sum(np.var([*np.ones(n), 0.5], ddof=1) / n for n in (6, 4))
    centre = 1 - 0.5 / 7 - 0.5 / 5
    trials = centre * (1 - centre) / variance
    assert found.low is not None and found.high == 1
    quantile2 = (1 / found.low - 1) * trials  # of Wilson's lower end at a share of 1
    assert 1.96**2 < quantile2 < 3.19**2  # between the normal distribution and t with 3 degrees


@settings(deadline=None)
@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=30),
    st.lists(st.integers(-3, 3), min_size=1, max_size=30),
)
def test_image_intervals_hold_their_values(good: list[int], defective: list[int]) -> None:
    labels = np.repeat([0, 1], [len(good), len(defective)])
    for found in image_estimates(labels, [*good, *defective]):
        assert_honest(found)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 2, 40])
def test_tied_or_perfect_images_have_an_interval(value: float, count: int) -> None:
    scores = np.repeat([0.5, value], [count, count])
    found, _ = image_estimates(np.repeat([0, 1], [count, count]), scores)
    assert found.value == value
    assert_honest(found)


def test_more_images_give_narrower_intervals() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (5, 20, 80, 320):
        labels = np.repeat([0, 1], [count, count])
        found, _ = image_estimates(labels, rng.normal(size=2 * count) + 1.5 * labels)
        assert found.low is not None and found.high is not None
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(("good", "defective"), [(20, 10), (10, 5), (60, 60)])
@pytest.mark.parametrize("truth", [0.76025, 0.97])
def test_image_auroc_is_covered_as_often_as_it_says(
    good: int, defective: int, truth: float
) -> None:
    # Of two normal distributions a distance d apart, AUROC is Φ(d / √2).
    distance = {0.76025: 1.0, 0.97: 2.65987}[truth]
    rng = np.random.default_rng(7)
    labels = np.repeat([0, 1], [good, defective])
    hits = 0
    for _ in range(300):
        found, _ = image_estimates(labels, rng.normal(size=labels.size) + distance * labels)
        assert found.low is not None and found.high is not None
        hits += found.low <= truth <= found.high
    assert 0.92 <= hits / 300 <= 0.995


def test_large_image_sets_have_the_interval_of_a_bootstrap() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [300, 200])
    scores = rng.normal(size=500) + labels
    higher = (scores[300:, None] > scores[:300]).astype(np.float64)
    drawn = []
    for _ in range(1000):
        rows, columns = rng.integers(0, 200, 200), rng.integers(0, 300, 300)
        drawn.append(higher[rows].mean(0)[columns].mean())
    found, _ = image_estimates(labels, scores)
    assert (found.low, found.high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.006)


def make_maps(
    rng: np.random.Generator, good: int, defective: int, *, levels: float | None = None
) -> list[LabelledMap]:
    """Maps 16 x 16 with levels and visibility of their own, one square defect in some."""
    maps = []
    for i in range(good + defective):
        values = rng.normal(rng.normal(0, 0.3), 1, (16, 16))
        mask = np.zeros((16, 16), np.bool_)
        if i >= good:
            size = int(rng.integers(2, 7))
            y, x = rng.integers(0, 16 - size, 2)
            mask[y : y + size, x : x + size] = True
            values += mask * rng.normal(2, 0.5)
        if levels is not None:
            values = np.round(values * levels) / levels
        maps.append(LabelledMap("dent" if i >= good else GOOD, values.astype(np.float32), mask))
    return maps


def pixel_estimates(maps: list[LabelledMap]) -> tuple[Estimate, Estimate, Estimate]:
    return tabulate_pixels(maps, maps[0].map.shape).measure(["dent"]).metrics


def bimodal(seed: int, images: int = 5) -> list[LabelledMap]:
    """Half of the defect's pixels at 0 and half at 10, normal ones N(5, 1)."""
    rng = np.random.default_rng(seed)
    maps = []
    for i in range(2 * images):
        values = rng.normal(5, 1, (20, 20))
        mask = np.zeros((20, 20), np.bool_)
        if i % 2:
            mask[5:11, 5:11] = True
            values[5:8, 5:11] = 0
            values[8:11, 5:11] = 10
        maps.append(LabelledMap("dent" if i % 2 else GOOD, values.astype(np.float32), mask))
    return maps


def test_defects_at_two_far_scores_are_chance() -> None:
    auroc = pixel_estimates(bimodal(0))[0]
    assert auroc.value == pytest.approx(0.5)
    assert_honest(auroc)
    assert auroc.low is not None and auroc.high is not None
    assert auroc.low < 0.45 and auroc.high > 0.55
    assert (auroc.low + auroc.high) / 2 == pytest.approx(0.5, abs=0.01)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 4),
    st.integers(2, 5),
    st.sampled_from([None, 0.3, 1, 3]),
)
def test_pixel_intervals_hold_their_values(
    seed: int, good: int, defective: int, levels: float | None
) -> None:
    for found in pixel_estimates(
        make_maps(np.random.default_rng(seed), good, defective, levels=levels)
    ):
        assert_honest(found)


@pytest.mark.parametrize("lift", [0.0, 1000.0, -1000.0])
def test_perfect_hopeless_and_constant_maps_have_intervals(lift: float) -> None:
    maps = [
        item._replace(map=(lift * mask_of(item)).astype(np.float32))
        for item in make_maps(np.random.default_rng(1), 3, 4)
    ]
    for found in pixel_estimates(maps):
        assert_honest(found)


def test_one_defective_image_has_no_pixel_interval() -> None:
    for good in (0, 1, 5):
        for found in pixel_estimates(make_maps(np.random.default_rng(2), good, 1)):
            assert not np.isnan(found.value)
            assert (found.low, found.high) == (None, None)


@pytest.mark.parametrize("levels", [None, 2])
def test_bins_give_the_intervals_of_exact_scores(
    levels: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = make_maps(np.random.default_rng(5), 30, 20, levels=levels)
    binned = pixel_estimates(maps)
    every = np.unique(np.concatenate([item.map.ravel() for item in maps]))
    monkeypatch.setattr(module, "bin_edges", lambda types, normals: every)
    for one, other in zip(binned, pixel_estimates(maps), strict=True):
        assert one.value == other.value
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=2e-4)


def test_pixel_auroc_is_covered_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    # 4,000 images stand for all: weights of classes as in the small sets.
    truth = [found.value for found in pixel_estimates(make_maps(rng, 2500, 1500))]
    hits = np.zeros(3)
    for _ in range(150):
        found = pixel_estimates(make_maps(rng, 20, 12))
        for i, (estimate, value) in enumerate(zip(found, truth, strict=True)):
            assert estimate.low is not None and estimate.high is not None
            hits[i] += estimate.low <= value <= estimate.high
    assert (hits / 150 >= 0.89).all()
    assert (hits / 150 <= 0.995).all()


def test_without_value_or_variance_there_is_no_interval() -> None:
    few, more = Stratum(np.zeros(1), 1), Stratum(np.array([0.1, -0.1]), 2)
    assert interval(0.7, [few, more], most=10) == Estimate(0.7)
    assert interval(0.7, [more], most=10).low is not None


def mask_of(item: LabelledMap) -> NDArray[np.bool_]:
    assert item.mask is not None
    return item.mask
