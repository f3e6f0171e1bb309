"""The network's input takes the shape of the images where they share one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.config import PRESETS
from generalad.training.input_size import MOST, STEP, in_shape_of_images

EDGE = PRESETS["edge"]


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ({"640x640": 10}, (256, 256)),
        ({"250x630": 8, "252x636": 2}, (416, 160)),
        ({"1920x1080": 5}, (192, 352)),
        ({"9000x300": 3}, (128, 512)),  # no narrower than 4 to 1
        ({"100x300": 5, "300x100": 5}, (256, 256)),  # no shape in common
        ({"100x300": 9, "300x100": 1}, (448, 160)),
    ],
)
def test_shapes(sizes: dict[str, int], found: tuple[int, int]) -> None:
    assert in_shape_of_images(EDGE, sizes).image_size == found


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_area_and_ratio_are_kept_about(width: int, height: int) -> None:
    size = in_shape_of_images(EDGE, {f"{width}x{height}": 1}).image_size
    assert all(side % STEP == 0 for side in size)
    assert 0.75 < size[0] * size[1] / 256**2 < 1.3
    ratio = min(max(height / width, 1 / MOST), MOST)
    assert 0.75 < size[0] / size[1] / ratio < 1.34


def test_a_size_that_was_asked_for_is_kept() -> None:
    asked = EDGE.replaced({"image_size": [320]})
    assert in_shape_of_images(asked, {"250x630": 9}).image_size == (320, 320)
    again = asked.replaced({"fit_aspect": True, "image_size": [320]})
    assert in_shape_of_images(again, {"250x630": 9}).image_size == (512, 192)
    assert in_shape_of_images(PRESETS["small"], {"250x630": 9}) == PRESETS["small"]
