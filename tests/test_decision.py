"""Regions in original pixels, and the decision."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from conftest import MakeSpec
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from generalad.areas import Areas
from generalad.decision import Milliseconds, Result, Rule, decide, regions
from generalad.errors import UsageError
from generalad.runtime.backends.fake import fake_spec
from generalad.spec import Thresholds

Map = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
MAPS = arrays.arrays(np.float32, (16, 16), elements=st.floats(-1, 1, width=32))
LEFT = Areas(inspect=(((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)),))


def test_two_regions_strongest_first() -> None:
    anomaly_map = np.zeros((10, 20), np.float32)
    anomaly_map[1:3, 2:5] = 0.6
    anomaly_map[6:8, 10:12] = 0.5
    anomaly_map[8, 12] = 0.9  # touches by a corner
    first, second = regions(anomaly_map, 0.5, (100, 400))
    assert (first.box, first.area) == ((200, 60, 60, 30), 5 * 200)
    assert (second.box, second.area) == ((40, 10, 60, 20), 6 * 200)
    assert (first.peak, second.peak) == pytest.approx((0.9, 0.6))


@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(1, 12), st.integers(1, 12)),
        elements=st.floats(-1, 1, width=32),
    ),
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
)  # fmt: skip
def test_regions_lie_in_the_image_and_hold_the_peak(
    anomaly_map: Map, size: tuple[int, int]
) -> None:
    found = regions(anomaly_map, 0.25, size)
    assert bool(found) == bool((anomaly_map >= 0.25).any())
    for region in found:
        x, y, width, height = region.box
        assert x >= 0 and y >= 0 and width >= 1 and height >= 1
        assert x + width <= size[1] and y + height <= size[0]
    if found:
        assert found[0].peak == anomaly_map.max()
        assert [r.peak for r in found] == sorted((r.peak for r in found), reverse=True)


def test_many_regions_are_limited() -> None:
    anomaly_map = np.zeros((64, 64), np.float32)
    anomaly_map[::2, ::2] = np.linspace(1, 2, 1024).reshape(32, 32)
    found = regions(anomaly_map, 0.5, (64, 64))
    assert len(found) == 100 and found[0].peak == 2


@pytest.mark.parametrize("score", [0.0, 0.24, 0.25, 0.9])
def test_decision(make_spec: MakeSpec, score: float) -> None:
    spec = make_spec()
    anomaly_map = np.zeros((16, 16), np.float32)
    decision = decide(score, anomaly_map, spec, rule=Rule(0.25), image_size=(64, 64))
    assert decision is not None
    assert decision.anomalous == (score >= 0.25) == (decision.normalised >= 0.5)
    other = decide(score, anomaly_map, spec, rule=Rule(0.8), image_size=(64, 64))
    assert other is not None and other.anomalous == (score >= 0.8) == (other.normalised >= 0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_decision(make_spec: MakeSpec, value: float) -> None:
    anomaly_map = np.zeros((16, 16), np.float32)
    spec = make_spec()
    assert decide(value, anomaly_map, spec, rule=Rule(0.25), image_size=(64, 64)) is None
    anomaly_map[3, 3] = value
    assert decide(0.0, anomaly_map, spec, rule=Rule(0.25), image_size=(64, 64)) is None


def test_result_as_json_keeps_its_order() -> None:
    result = Result("s", 0, 1.5, "p", 0.5, 0.5, True, (), Milliseconds(1, 2, 3, 4))
    assert list(json.loads(json.dumps(result.to_dict()))) == [
        *("source", "index", "time", "path", "score", "normalised", "anomalous", "regions"),
        *("milliseconds", "error", "fault", "match"),
    ]  # fmt: skip


def test_the_artifact_gives_the_threshold_where_the_rule_does_not(make_spec: MakeSpec) -> None:
    spec = make_spec(thresholds=Thresholds(image=0.3, pixel=0.7))
    assert (Rule().level(spec), Rule(areas=LEFT).level(spec), Rule(0.1).level(spec)) == (
        0.3, 0.7, 0.1,
    )  # fmt: skip


def test_with_areas_the_largest_value_inside_decides(make_spec: MakeSpec) -> None:
    spec = make_spec(thresholds=Thresholds(image=0.3, pixel=0.7))
    anomaly_map = np.zeros((16, 16), np.float32)
    anomaly_map[2:4, 7:12] = 0.75  # over the border of the area at column 8
    anomaly_map[9, 12] = 0.9
    decision = decide(0.0, anomaly_map, spec, rule=Rule(areas=LEFT), image_size=(160, 320))
    assert decision is not None and decision.anomalous
    assert decision.score == 0.75 and decision.normalised == spec.normalisation(0.75, 0.7)
    assert [region.box for region in decision.regions] == [(140, 20, 20, 20)]
    strict = Rule(0.8, areas=LEFT)
    lower = decide(0.0, anomaly_map, spec, rule=strict, image_size=(160, 320))
    assert lower is not None and not lower.anomalous and not lower.regions, "on one scale"
    outside = Rule(areas=Areas(ignore=LEFT.inspect))
    other = decide(0.0, anomaly_map, spec, rule=outside, image_size=(160, 320))
    assert other is not None and other.score == pytest.approx(0.9)


@given(MAPS)
def test_areas_are_never_stricter_than_the_whole_map(anomaly_map: Map) -> None:
    spec = fake_spec()
    inside = decide(9.0, anomaly_map, spec, rule=Rule(areas=LEFT), image_size=(64, 64))
    assert inside is not None
    assert inside.score == anomaly_map[:, :8].max() <= anomaly_map.max()
    assert inside.anomalous == bool(inside.regions)
    assert all(region.box[0] + region.box[2] <= 32 for region in inside.regions)


@pytest.mark.parametrize("areas", [None, Areas(ignore=(((0, 0), (0.1, 0), (0, 0.1)),))])
def test_min_area_leaves_out_small_regions(make_spec: MakeSpec, areas: Areas | None) -> None:
    anomaly_map = np.zeros((16, 16), np.float32)
    anomaly_map[4:6, 4:7] = 0.5  # 6 of 256: 96 pixels of 64 x 64
    anomaly_map[12, 12] = 0.9
    for min_area, boxes in ((0, 2), (16, 2), (17, 1), (96, 1), (96.5, 0)):
        rule = Rule(areas=areas, min_area=min_area)
        decision = decide(0.9, anomaly_map, make_spec(), rule=rule, image_size=(64, 64))
        assert decision is not None
        assert len(decision.regions) == boxes and decision.anomalous == (boxes > 0)
        assert decision.normalised > 0.5


def test_a_large_weak_region_counts_behind_many_small_strong_ones() -> None:
    anomaly_map = np.zeros((64, 64), np.float32)
    anomaly_map[:40:2, ::2] = 0.9
    anomaly_map[50:60, 50:60] = 0.5
    assert [r.area for r in regions(anomaly_map, 0.4, (64, 64), min_area=100)] == [100]


def test_min_area_does_not_make_a_low_score_anomalous(make_spec: MakeSpec) -> None:
    anomaly_map = np.full((16, 16), 0.9, np.float32)
    decision = decide(0.1, anomaly_map, make_spec(), rule=Rule(min_area=5), image_size=(64, 64))
    assert decision is not None and decision.regions and not decision.anomalous


@pytest.mark.parametrize(
    "values", [{"threshold": math.nan}, {"threshold": math.inf}, {"min_area": -1}]
)
def test_rule_refuses(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=min(values)):
        Rule(**values)  # type: ignore[arg-type]


def test_rule_checks_its_areas_against_an_artifact(make_spec: MakeSpec) -> None:
    Rule().check(make_spec())
    tiny = Areas(inspect=(((0.5, 0.5), (0.501, 0.5), (0.5, 0.501)),))
    with pytest.raises(UsageError, match=r"inspect polygon 1 holds no pixel .* 16 x 16"):
        Rule(areas=tiny).check(make_spec())
