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

from generalad.runtime import Milliseconds, Result, decide, regions


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
def test_regions_lie_in_the_picture_and_hold_the_peak(
    anomaly_map: np.ndarray[tuple[int, ...], np.dtype[np.float32]], size: tuple[int, int]
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
    decision = decide(score, anomaly_map, spec, threshold=0.25, image_size=(64, 64))
    assert decision is not None
    assert decision.anomalous == (score >= 0.25) == (decision.normalised >= 0.5)
    other = decide(score, anomaly_map, spec, threshold=0.8, image_size=(64, 64))
    assert other is not None and other.anomalous == (score >= 0.8) == (other.normalised >= 0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_decision(make_spec: MakeSpec, value: float) -> None:
    anomaly_map = np.zeros((16, 16), np.float32)
    spec = make_spec()
    assert decide(value, anomaly_map, spec, threshold=0.25, image_size=(64, 64)) is None
    anomaly_map[3, 3] = value
    assert decide(0.0, anomaly_map, spec, threshold=0.25, image_size=(64, 64)) is None


def test_result_as_json_keeps_its_order() -> None:
    result = Result("s", 0, 1.5, "p", 0.5, 0.5, True, (), Milliseconds(1, 2, 3, 4))
    assert list(json.loads(json.dumps(result.to_dict()))) == [
        "source", "index", "time", "path", "score", "normalised", "anomalous", "regions",
        "milliseconds", "error", "fault",
    ]  # fmt: skip
