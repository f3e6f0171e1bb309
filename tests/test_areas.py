"""Polygons are drawn by the middles of the map's pixels, and refused with their name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.areas import Areas
from generalad.errors import UsageError

SHARES = st.floats(0, 1, width=32)
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def box(left: float, top: float, right: float, bottom: float) -> Any:
    """As a configuration file gives it."""
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


@given(SIZES, SHARES, SHARES, SHARES, SHARES)
def test_a_rectangle_holds_the_middles_inside(
    size: tuple[int, int], x1: float, x2: float, y1: float, y2: float
) -> None:
    left, right, top, bottom = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    x = (np.arange(size[1]) + 0.5) / size[1]
    y = (np.arange(size[0]) + 0.5) / size[0]
    inside_x, inside_y = (left <= x) & (x < right), (top <= y) & (y < bottom)
    expected = inside_y[:, None] & inside_x[None, :]
    areas = Areas(inspect=(box(left, top, right, bottom),))
    if expected.any():
        np.testing.assert_array_equal(areas.mask(size), expected)
    else:
        with pytest.raises(UsageError, match="inspect polygon 1 holds no pixel"):
            areas.mask(size)


@given(st.integers(20, 60), st.floats(0, 2 * math.pi), st.floats(0.2, 0.4))
def test_a_slanted_polygon_is_on_the_right_side_of_its_sides(
    side: int, turn: float, radius: float
) -> None:
    angles = [turn + step * 2 * math.pi / 5 for step in range(5)]
    corners = [(0.5 + radius * math.cos(a), 0.5 + radius * math.sin(a)) for a in angles]
    found = Areas(inspect=(tuple(corners),)).mask((side, side))
    grid = (np.arange(side) + 0.5) / side
    inside, clear = np.ones((side, side), bool), np.ones((side, side), bool)
    for (x1, y1), (x2, y2) in zip(corners, [*corners[1:], corners[0]], strict=True):
        distance = (x2 - x1) * (grid[:, None] - y1) - (y2 - y1) * (grid[None, :] - x1)
        inside &= distance > 0
        clear &= abs(distance) > 1e-9
    np.testing.assert_array_equal(found[clear], inside[clear])


def test_without_polygons_everything_counts() -> None:
    assert Areas().mask((3, 5)).all() and Areas().mask((3, 5)).shape == (3, 5)


def test_inspected_areas_add_up_and_ignored_ones_are_cut_out() -> None:
    areas = Areas(inspect=(box(0, 0, 0.5, 1), box(0.25, 0, 0.75, 1)), ignore=(box(0, 0.5, 1, 1),))
    np.testing.assert_array_equal(areas.mask((2, 4)), [[True, True, True, False], [False] * 4])
    ignoring = Areas(ignore=(box(0, 0, 0.5, 1),))
    np.testing.assert_array_equal(ignoring.mask((1, 4)), [[False, False, True, True]])


def test_a_mask_is_drawn_once_and_cannot_be_changed() -> None:
    first = Areas(ignore=(box(0, 0, 0.5, 1),)).mask((8, 8))
    assert Areas(ignore=(box(0, 0, 0.5, 1),)).mask((8, 8)) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = False


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"inspect": "left"}, "inspect: expected a list of polygons, found 'left'"),
        ({"inspect": box(0, 0, 1, 1)}, r"inspect polygon 1: expected at least 3 .*\[0, 0\]"),
        ({"ignore": [box(0, 0, 1, 1), [[0, 0], [1, 1]]]}, "ignore polygon 2: expected at least 3"),
        ({"ignore": [box(0, 0, 1.5, 1)]}, r"ignore polygon 1: .* between 0 and 1, found \[1.5, 0"),
        ({"inspect": [box(0, -0.1, 1, 1)]}, r"found \[0, -0.1\]"),
        ({"inspect": [box(0, 0, math.nan, 1)]}, r"found \[nan, 0\]"),
        ({"inspect": [[[0, 0], [1, 0], [1, True]]]}, r"found \[1, True\]"),
        ({"inspect": [[[0, 0], [1, 0], [1, 1, 1]]]}, r"found \[1, 1, 1\]"),
        ({"inspect": [[[0, 0], [1, 0], "ab"]]}, "found 'ab'"),
    ],
)
def test_refuses(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        Areas(**values)
    assert "\n" not in str(caught.value)


def test_refuses_to_ignore_everything() -> None:
    areas = Areas(inspect=(box(0, 0, 0.5, 1),), ignore=(box(0, 0, 0.6, 1),))
    with pytest.raises(UsageError, match="leave nothing to inspect"):
        areas.mask((10, 10))
