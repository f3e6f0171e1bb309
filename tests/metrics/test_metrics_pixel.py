from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from generalad.errors import DataError
from generalad.metrics.pixel import (
    LOW_FPR_LIMIT,
    Regions,
    bin_edges,
    find_regions,
    histogram,
    pixel_metrics,
    resize_map,
    resize_mask,
)
from generalad.metrics.pixel_table import GOOD, LabelledMap, PixelTable, tabulate_pixels

SIZE = (24, 20)


def make_maps(
    seed: int, *, levels: int | None = None, size: tuple[int, int] = SIZE, count: int = 6
) -> list[LabelledMap]:
    """Random maps at `size`; every other image is defective, of two types, with blobs."""
    rng = np.random.default_rng(seed)
    maps = []
    for i in range(count):
        values = rng.normal(size=size)
        mask = np.zeros(size, np.uint8)
        if i % 2:
            for _ in range(int(rng.integers(1, 4))):
                centre = (int(rng.integers(size[1])), int(rng.integers(size[0])))
                cv2.circle(mask, centre, int(rng.integers(0, 4)), 1, -1)
            values += mask * rng.normal(1.5)
        if levels is not None:
            values = np.round(values * levels) / levels
        label = ("dent", "scratch")[i // 2 % 2] if i % 2 else GOOD
        maps.append(LabelledMap(label, values.astype(np.float32), mask.astype(bool)))
    return maps


def measure(maps: list[LabelledMap], size: tuple[int, int] = SIZE) -> tuple[float, float, float]:
    """Exact AUROC, average precision and AUPRO over all defect types."""
    table = tabulate_pixels(maps, size)
    types = sorted({item.label for item in maps} - {GOOD})
    auroc, precision, aupro = table.measure(types).metrics
    return auroc.value, precision.value, aupro.value


def mask_of(item: LabelledMap) -> NDArray[np.bool_]:
    assert item.mask is not None
    return item.mask


def flood(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """8-connected components, one pixel after the other."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        region = np.zeros_like(mask)
        todo = [left.pop()]
        while todo:
            y, x = todo.pop()
            region[y, x] = True
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    todo.append(near)
        found.append(region)
    return found


def slow_aupro(maps: list[LabelledMap], limit: float = 0.3) -> float:
    """AUPRO by its definition: every distinct score as the threshold, every region by itself."""
    regions = [(item.map, region) for item in maps for region in flood(mask_of(item))]
    normal = np.concatenate([item.map[~mask_of(item)] for item in maps])
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(np.concatenate([item.map.ravel() for item in maps]))[::-1]:
        rates.append(float(np.mean(normal >= threshold)))
        overlaps.append(float(np.mean([np.mean(m[r] >= threshold) for m, r in regions])))
    area = 0.0
    for i in range(1, len(rates)):
        x0, x1, y0, y1 = rates[i - 1], rates[i], overlaps[i - 1], overlaps[i]
        if x1 > limit and x0 < limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 1, 3]))
def test_exact_values_agree_with_slow_references(seed: int, levels: int | None) -> None:
    maps = make_maps(seed, levels=levels)
    auroc, precision, aupro = measure(maps)
    labels = np.concatenate([mask_of(item).ravel() for item in maps])
    scores = np.concatenate([item.map.ravel() for item in maps])
    assert auroc == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert precision == pytest.approx(average_precision_score(labels, scores), abs=1e-9)
    assert aupro == pytest.approx(slow_aupro(maps), abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 1, 3]))
def test_aupro_to_a_low_rate_agrees_with_its_slow_reference(seed: int, levels: int | None) -> None:
    maps = make_maps(seed, levels=levels)
    found = tabulate_pixels(maps, SIZE).measure(["dent", "scratch"])
    expected = slow_aupro(maps, LOW_FPR_LIMIT)
    assert found.low_aupro.value == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_a_rising_transform_changes_nothing() -> None:
    maps = make_maps(1)
    moved = [item._replace(map=(np.exp(item.map) * 50 - 7).astype(np.float32)) for item in maps]
    assert measure(moved) == pytest.approx(measure(maps), abs=1e-6)


def test_perfect_maps_give_one() -> None:
    maps = [item._replace(map=item.map + 100 * mask_of(item)) for item in make_maps(2)]
    assert measure(maps) == pytest.approx((1, 1, 1), abs=1e-12)


def test_a_constant_map_is_chance() -> None:
    maps = [item._replace(map=np.zeros(SIZE, np.float32)) for item in make_maps(3)]
    auroc, _, aupro = measure(maps)
    assert auroc == pytest.approx(0.5)
    assert aupro == pytest.approx(0.15)  # the diagonal up to 0.3, divided by 0.3


def test_the_limit_divides_even_when_no_false_positive_rate_reaches_it() -> None:
    # One normal pixel: the rate is 0 and then 1, and the curve crosses 0.3 on the way.
    regions = Regions(np.array([1.0, 3.0], np.float32), np.array([0.5, 0.5]), 1)
    found = pixel_metrics([np.array([2.0], np.float32)], regions)
    assert found.aupro == pytest.approx(0.5)
    assert found.auroc == pytest.approx(0.5)


def test_regions_weigh_the_same_whatever_their_size() -> None:
    mask = np.zeros((20, 20), bool)
    mask[:10, :10] = True
    mask[15, 15] = True
    values = np.zeros((20, 20), np.float32)
    values[:10, :10] = 1.0
    values[15, 15] = -1.0  # the small region scores below every normal pixel
    maps = [LabelledMap("dent", values, mask)]
    assert measure(maps, (20, 20))[2] == pytest.approx(0.5)


def test_diagonal_neighbours_are_one_region() -> None:
    mask = np.eye(4, dtype=np.uint8)
    found = find_regions(np.arange(16, dtype=np.float32).reshape(4, 4), mask)
    assert found.count == 1
    np.testing.assert_allclose(found.shares, 0.25)
    np.testing.assert_array_equal(found.scores, [0, 5, 10, 15])


def test_good_images_count_as_normal_pixels() -> None:
    maps = make_maps(4)
    noisy = [item._replace(map=item.map + 5) if item.label == GOOD else item for item in maps]
    assert measure(noisy)[2] < measure(maps)[2]


def test_images_without_a_usable_mask_take_no_part() -> None:
    maps = make_maps(5)
    loud = np.full(SIZE, 1e6, np.float32)
    unknown = [
        LabelledMap("dent", loud, None),
        LabelledMap("dent", loud, np.zeros(SIZE, bool)),
        LabelledMap("other", loud, None),
    ]
    assert measure([*maps, *unknown]) == measure(maps)


def test_without_regions_or_normals_everything_is_nan() -> None:
    maps = [item for item in make_maps(6) if item.label == GOOD]
    assert np.isnan(measure(maps)).all()
    assert np.isnan(measure([LabelledMap("dent", maps[0].map, np.ones(SIZE, bool))])).all()
    assert np.isnan(measure([])).all()


def test_each_type_is_measured_against_all_good_images() -> None:
    maps = make_maps(7, count=12)
    alone = [item for item in maps if item.label in (GOOD, "dent")]
    found = tabulate_pixels(maps, SIZE).measure(["dent"])
    assert [m.value for m in found.metrics] == pytest.approx(measure(alone), abs=1e-12)


def test_histograms_account_for_every_pixel_and_region() -> None:
    maps = make_maps(9, count=10)
    table: PixelTable = tabulate_pixels(maps, SIZE)
    assert table.normal.sum() + table.anomalous.sum() == len(maps) * SIZE[0] * SIZE[1]
    assert table.shares.sum() == pytest.approx(table.region_count)
    assert table.region_count == sum(len(flood(mask_of(item))) for item in maps)


def test_bins_are_shared_out_among_many_types() -> None:
    one = find_regions(
        np.arange(400, dtype=np.float32).reshape(20, 20), np.ones((20, 20), np.uint8)
    )
    edges = bin_edges([one] * 50, [])
    assert edges[0] == -np.inf
    assert (np.diff(edges) > 0).all()
    assert len(edges) <= 2 * 64 + 1


def test_a_score_that_many_pixels_share_has_a_bin_of_its_own() -> None:
    regions = Regions(np.repeat([0.0, 10.0], 50).astype(np.float32), np.full(100, 0.01), 1)
    normal = np.sort(np.random.default_rng(0).normal(5, 1, 1000)).astype(np.float32)
    edges = bin_edges([regions], [normal])
    anomalous = histogram(regions.scores, edges) > 0
    assert np.count_nonzero(anomalous) == 2
    assert not (histogram(normal, edges)[anomalous] > 0).any()


def test_bins_hold_small_parts_of_normal_pixels_and_smaller_ones_at_the_top() -> None:
    rng = np.random.default_rng(0)
    normals = [np.sort(rng.normal(i, 1, 20_000)).astype(np.float32) for i in range(5)]
    edges = bin_edges([], normals)
    counts = sum(histogram(pixels, edges) for pixels in normals)
    assert isinstance(counts, np.ndarray)
    assert counts.sum() == 100_000
    assert counts.max() <= 100_000 / 256 * 1.5
    highest = np.cumsum(counts)[np.flatnonzero(counts)][:3]
    assert (highest < 100).all()


def test_maps_and_masks_come_to_the_evaluation_size() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert resize_map(values, (30, 40)).shape == (30, 40)
    np.testing.assert_array_equal(resize_map(values, (3, 4)), values)
    mask = np.zeros((10, 20), bool)
    mask[:5, :10] = True
    small = resize_mask(mask, (4, 8))
    np.testing.assert_array_equal(small, np.pad(np.ones((2, 4), np.uint8), ((0, 2), (0, 4))))


def test_a_mask_is_read_at_the_nearest_pixel_centre() -> None:
    mask = np.zeros((12, 18), bool)
    mask[1::3, 1::3] = True
    assert resize_mask(mask, (4, 6)).all()
    assert not resize_mask(~mask, (4, 6)).any()


def test_a_map_with_nan_is_refused() -> None:
    with pytest.raises(DataError, match="finite map"):
        resize_map(np.full((3, 3), np.nan, np.float32), (3, 3))


def test_a_mask_with_channels_is_refused() -> None:
    with pytest.raises(DataError, match=r"mask \(H, W\)"):
        resize_mask(np.zeros((3, 3, 3), bool), (3, 3))
