"""SegF1, sPRO and the authors' AUPRO against their definitions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import auc, f1_score

from generalad.metrics.evaluate import Evaluation, ImageResult, evaluate
from generalad.metrics.pixel_table import (
    GOOD,
    LabelledMap,
    PixelEstimates,
    f1_of_hits,
    tabulate_pixels,
)
from generalad.metrics.region_overlap import SaturatedPixels, saturated_pixels, saturated_regions
from generalad.metrics.report import write_report
from generalad.statistics import Estimate, student_quantile, wilson_ends

SIZE = (20, 24)
THRESHOLD = 0.8
Mask = NDArray[np.bool_]


def blob(rng: np.random.Generator) -> Mask:
    mask = np.zeros(SIZE, np.uint8)
    centre = (int(rng.integers(SIZE[1])), int(rng.integers(SIZE[0])))
    cv2.circle(mask, centre, int(rng.integers(1, 4)), 1, -1)
    return mask.astype(bool)


def make_maps(seed: int, *, steps: int | None = None, saturation: float = 0.5) -> list[LabelledMap]:
    """Eight maps; every other one has two defects, which may overlap."""
    rng = np.random.default_rng(seed)
    maps = []
    for number in range(8):
        values = rng.normal(size=SIZE)
        masks = [blob(rng), blob(rng)] if number % 2 else []
        for mask in masks:
            values += mask * rng.normal(1.5)
        if steps:
            values = np.round(values * steps) / steps
        union = np.any(masks, axis=0) if masks else np.zeros(SIZE, bool)
        defects = [saturated_pixels(mask.astype(np.uint8), saturation) for mask in masks]
        label = "dent" if masks else GOOD
        maps.append(LabelledMap(label, values.astype(np.float32), union, tuple(defects)))
    return maps


def truth(item: LabelledMap) -> Mask:
    assert item.mask is not None
    return item.mask


def measured(maps: list[LabelledMap], *, saturated: bool = False) -> PixelEstimates:
    table = tabulate_pixels(maps, SIZE, threshold=THRESHOLD, saturated=saturated)
    return table.measure(["dent"])


# --- SegF1 ---


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([None, 5]))
def test_seg_f1_is_the_f1_of_all_pixels(seed: int, steps: int | None) -> None:
    maps = make_maps(seed, steps=steps)
    labels = np.concatenate([truth(item).ravel() for item in maps])
    marked = np.concatenate([item.map.ravel() for item in maps]) >= np.float32(THRESHOLD)
    found = measured(maps).f1
    assert found is not None
    assert found.value == pytest.approx(f1_score(labels, marked), abs=1e-12)
    assert found.low is not None and found.high is not None
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_each_image_moves_f1_by_its_derivative() -> None:
    rng = np.random.default_rng(0)
    hits = rng.integers(1, 20, (6, 2)).astype(np.float64)
    anomalous = hits[:, 1] + rng.integers(0, 9, 6).astype(np.float64)

    def f1(weights: NDArray[np.float64]) -> float:
        return f1_of_hits(hits * weights[:, None], anomalous * weights)[0]

    steps: list[NDArray[np.float64]] = list(np.eye(6) * 1e-5)
    expected = [(f1(1 + h) - f1(1 - h)) / 2e-5 for h in steps]
    _, moved = f1_of_hits(hits, anomalous)
    np.testing.assert_allclose(moved, expected, atol=1e-8)
    assert moved.sum() == pytest.approx(0, abs=1e-12)


def test_without_a_threshold_there_is_no_f1() -> None:
    assert tabulate_pixels(make_maps(0), SIZE).measure(["dent"]).f1 is None


# --- sPRO ---


def slow_au_spro(maps: list[LabelledMap], limit: float) -> float:
    """By its definition: every score a threshold, every defect by itself."""
    normal = np.concatenate([item.map[~truth(item)] for item in maps])
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(np.concatenate([item.map.ravel() for item in maps]))[::-1]:
        found = []
        for item in maps:
            for defect in item.defects:
                hit = np.count_nonzero(item.map.ravel()[defect.pixels] >= threshold)
                area = max(1.0, defect.saturation * defect.pixels.size)
                found.append(min(1.0, hit / area))
        rates.append(float(np.mean(normal >= threshold)))
        overlaps.append(float(np.mean(found)))
    area = 0.0
    for x0, x1, y0, y1 in zip(rates, rates[1:], overlaps, overlaps[1:], strict=False):
        if x0 < limit:
            end = min(x1, limit)
            at_end = y1 if x1 <= limit else y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            area += (end - x0) * (y0 + at_end) / 2
    return area / limit


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([None, 2]), st.sampled_from([0.01, 0.3, 0.77, 1.0]))
def test_au_spro_agrees_with_its_definition(
    seed: int, steps: int | None, saturation: float
) -> None:
    maps = make_maps(seed, steps=steps, saturation=saturation)
    found = measured(maps, saturated=True)
    assert found.metrics[2].value == pytest.approx(slow_au_spro(maps, 0.3), abs=1e-9)
    assert found.low_aupro.value == pytest.approx(slow_au_spro(maps, 0.05), abs=1e-9)


def test_the_mean_of_types_has_the_interval_of_its_images() -> None:
    """Each image left out in turn moves the mean as its influence says."""
    maps = [
        item._replace(label=("dent", "crack")[number % 4 == 3] if item.defects else GOOD)
        for number, item in enumerate(make_maps(1) + make_maps(2) + make_maps(3))
    ]

    def mean(some: list[LabelledMap]) -> Estimate:
        return (
            tabulate_pixels(some, SIZE, saturated=True).measure_mean(["dent", "crack"]).metrics[2]
        )

    found = mean(maps)
    apart = [tabulate_pixels(maps, SIZE, saturated=True).measure([n]) for n in ("dent", "crack")]
    assert found.value == pytest.approx(np.mean([one.metrics[2].value for one in apart]))
    variance = 0.0
    for label in (GOOD, "dent", "crack"):
        left_out = [
            mean(maps[:number] + maps[number + 1 :]).value
            for number, item in enumerate(maps)
            if item.label == label
        ]
        count = len(left_out)
        variance += (count - 1) ** 2 / count * float(np.var(left_out, ddof=1))
    trials = found.value * (1 - found.value) / variance
    low, high = wilson_ends(found.value, trials, student_quantile(20))
    assert found.low is not None and found.high is not None
    assert found.high - found.low == pytest.approx(high - low, rel=0.35)


def test_a_part_of_a_defect_is_enough() -> None:
    values = np.arange(10, dtype=np.float32).reshape(2, 5)
    pixels = np.array([1, 3, 5, 9], np.int32)
    whole = saturated_regions(values, [SaturatedPixels(pixels, 1.0)])
    half = saturated_regions(values, [SaturatedPixels(pixels, 0.5)])
    some = saturated_regions(values, [SaturatedPixels(pixels, 0.625)])
    one = saturated_regions(values, [SaturatedPixels(pixels, 0.001)])
    np.testing.assert_array_equal(whole.scores, [1, 3, 5, 9])
    np.testing.assert_allclose(whole.shares, [0.25, 0.25, 0.25, 0.25])
    np.testing.assert_allclose(half.shares, [0, 0, 0.5, 0.5])
    np.testing.assert_allclose(some.shares, [0, 0.2, 0.4, 0.4])
    np.testing.assert_allclose(one.shares, [0, 0, 0, 1])
    assert whole.count == half.count == 1


def test_less_to_be_found_is_never_worse() -> None:
    values = [
        measured(make_maps(5, saturation=part), saturated=True).metrics[2].value
        for part in (1.0, 0.6, 0.2, 0.01)
    ]
    assert values == sorted(values)
    assert values[0] < values[-1]


def test_a_defect_in_two_pieces_is_one_and_two_may_overlap() -> None:
    values = np.zeros((1, 8), np.float32)
    values[0, :4] = [3, 0, 3, 1]
    both = [
        SaturatedPixels(np.array([0, 2], np.int32), 1.0),
        SaturatedPixels(np.array([2, 3], np.int32), 1.0),
    ]
    found = saturated_regions(values, both)
    assert found.count == 2
    np.testing.assert_array_equal(found.scores, [1, 3, 3, 3])
    assert found.shares.sum() == pytest.approx(2)


# --- the authors' AUPRO ---


def slow_authors(maps: list[LabelledMap], patch: int) -> float:
    """Step by step, from the description in docs/evaluation.md."""
    stack = np.stack([item.map for item in maps])
    masks = np.stack([truth(item) for item in maps])
    low, high = float(stack.min()), float(stack.max())
    square = np.ones((patch, patch), np.uint8)
    rates, overlaps = [], []
    for step in range(200):
        marked = stack > np.float32(low + step * (high - low) / 200)
        shares = []
        for one, mask in zip(marked, masks, strict=True):
            wide = cv2.dilate(one.astype(np.uint8), square)
            count, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
            shares += [float(wide[regions == region].mean()) for region in range(1, count)]
        rates.append(float((marked & ~masks).sum() / (~masks).sum()))
        overlaps.append(float(np.mean(shares)))
    x, y = np.array(rates), np.array(overlaps)
    kept = x < 0.3
    return float(auc(x[kept] / x[kept].max(), y[kept]))


@pytest.mark.parametrize("patch", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_the_authors_variant_agrees_with_its_description(seed: int, patch: int) -> None:
    maps = make_maps(seed)
    table = tabulate_pixels(maps, SIZE)
    assert table.authors_aupro(maps, SIZE, patch) == pytest.approx(slow_authors(maps, patch))


def test_dilation_flatters() -> None:
    maps = make_maps(3)
    table = tabulate_pixels(maps, SIZE)
    ours = table.measure(["dent"]).metrics[2].value
    assert table.authors_aupro(maps, SIZE, 5) > ours


def test_without_regions_the_authors_variant_is_nan() -> None:
    good = [item for item in make_maps(0) if item.label == GOOD]
    assert np.isnan(tabulate_pixels(good, SIZE).authors_aupro(good, SIZE, 3))


# --- all of them in one evaluation ---


def results() -> list[ImageResult]:
    return [
        ImageResult(
            path=f"{number}.png",
            label=item.label,
            defective=item.label != GOOD,
            score=float(item.map.max()),
            normalised=0.5,
            decision=bool(item.map.max() >= 3),
            map=item.map,
            mask=item.mask,
            defects=item.defects,
        )
        for number, item in enumerate(make_maps(4))
    ]


def run(images: list[ImageResult]) -> Evaluation:
    return evaluate(
        images, image_size=SIZE, image_threshold=3.0, pixel_threshold=THRESHOLD, patch=3
    )


def test_an_evaluation_has_all_of_them_and_says_how() -> None:
    found = run(results())
    maps = make_maps(4)
    assert found.seg_f1 == measured(maps).f1
    (kind,) = found.defect_types
    assert kind.au_spro == measured(maps, saturated=True).metrics[2]
    assert found.au_spro == kind.au_spro  # the mean of one type
    assert found.aupro_authors is not None
    assert found.aupro_authors.value == pytest.approx(slow_authors(maps, 3))
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    for key in ("aupro_005", "seg_f1", "au_spro", "au_spro_005", "aupro_authors"):
        assert 0 < plain[key]["value"] < 1
    for key in ("aupro_005", "seg_f1", "au_spro", "aupro_authors"):
        assert key in plain["definition"]
    assert plain["pixel_threshold"] == THRESHOLD


def test_the_report_has_all_of_them(tmp_path: Path) -> None:
    images = results()
    write_report(
        tmp_path / "report.html",
        run(images),
        images,
        title="parts",
        read_image=lambda path: np.zeros((*SIZE, 3), np.uint8),
        pixel_threshold=THRESHOLD,
        facts={},
    )
    text = (tmp_path / "report.html").read_text()
    for name in (
        "pixel AP",
        "AUPRO to 0.05",
        "SegF1",
        "AU-sPRO to 0.05",
        "the authors&#x27; AUPRO",
    ):
        assert name in text


def test_what_was_not_given_is_null() -> None:
    images = [dataclasses.replace(one, defects=()) for one in results()]
    found = evaluate(images, image_size=SIZE, image_threshold=3.0).to_json()
    assert (found["seg_f1"], found["au_spro"], found["aupro_authors"]) == (None, None, None)
    assert not {"seg_f1", "au_spro", "aupro_authors"} & set(found["definition"])


def test_good_images_alone_need_no_pixels() -> None:
    """Maps of semantic data sets are not kept: one value stands for each."""
    small = np.zeros((1, 1), np.float32)
    images = [
        dataclasses.replace(one, map=small, mask=None if one.defective else one.mask, defects=())
        for one in results()
    ]
    found = run(images)
    assert np.isnan(found.pixel_auroc.value)
    assert found.seg_f1 is not None and np.isnan(found.seg_f1.value)
    assert found.image_auroc.value > 0.5
