"""The network's input follows the size of the images, and their shape where they share one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.config import PRESETS
from generalad.training.input_size import (
    LARGER,
    MOST,
    STEP,
    input_of_images,
    size_announcement,
)

EDGE = PRESETS["edge"]


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ({"256x256": 10}, (256, 256)),
        ({"64x64": 10}, (256, 256)),  # no smaller than the preset's
        ({"320x320": 10}, (320, 320)),
        ({"640x640": 10}, (384, 384)),  # no larger than 1.5 times that
        ({"250x630": 8, "252x636": 2}, (608, 256)),
        ({"160x400": 8}, (416, 160)),
        ({"1920x1080": 5}, (288, 512)),
        ({"9000x300": 3}, (192, 768)),  # no narrower than 4 to 1
        ({"100x300": 5, "300x100": 5}, (256, 256)),  # no shape in common
        ({"400x600": 5, "600x400": 5}, (384, 384)),
        ({"100x300": 9, "300x100": 1}, (448, 160)),
        ({"640x640": 4, "256x256": 5}, (256, 256)),  # the median image
    ],
)
def test_sizes(sizes: dict[str, int], found: tuple[int, int]) -> None:
    assert input_of_images(EDGE, sizes).image_size == found


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_area_and_ratio_are_kept_about(width: int, height: int) -> None:
    size = input_of_images(EDGE, {f"{width}x{height}": 1}).image_size
    assert all(side % STEP == 0 for side in size)
    area = min(max(width * height, 256**2), (LARGER * 256) ** 2)
    assert 0.75 < size[0] * size[1] / area < 1.3
    ratio = min(max(height / width, 1 / MOST), MOST)
    assert 0.75 < size[0] / size[1] / ratio < 1.34


def test_a_size_that_was_asked_for_is_kept() -> None:
    asked = EDGE.replaced({"image_size": [320]})
    assert input_of_images(asked, {"250x630": 9}).image_size == (320, 320)
    again = asked.replaced({"fit_images": True, "image_size": [320]})
    assert input_of_images(again, {"250x630": 9}).image_size == (640, 256)
    assert input_of_images(PRESETS["small"], {"250x630": 9}) == PRESETS["small"]


def test_a_crop_has_the_size_that_it_cuts_out() -> None:
    """A quarter of the frame: half of each side."""
    cropped = EDGE.replaced({"crop": [[0.5, 0.0], [1.0, 0.0], [1.0, 0.5], [0.5, 0.5]]})
    assert input_of_images(cropped, {"1000x500": 3}).image_size == (256, 512)
    assert input_of_images(cropped, {"640x640": 3}).image_size == (320, 320)


def test_what_takes_longer_is_said() -> None:
    large = input_of_images(EDGE, {"640x640": 1})
    assert "384 x 384 pixels, which takes 2.2 times" in size_announcement(EDGE, large)
    assert not size_announcement(EDGE, input_of_images(EDGE, {"270x256": 1}))
