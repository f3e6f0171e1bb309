"""Images in memory: the same decisions as for files, and refusals that say what was found."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from generalad.errors import DataError, UsageError
from generalad.pixels import to_rgb
from generalad.preprocess import decode_image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 30, 3), np.uint8)
GREY = RNG.integers(0, 256, (20, 30), np.uint8)
SIXTEEN = RNG.integers(0, 65536, (20, 30, 3)).astype(np.uint16)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# --- arrays ---


def test_rgb_is_the_array_itself() -> None:
    assert to_rgb(RGB) is RGB


@pytest.mark.parametrize("grey", [GREY, GREY[..., None]])
def test_grey_is_the_one_channel_three_times(grey: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(to_rgb(grey), np.dstack([GREY, GREY, GREY]))


def test_alpha_is_dropped() -> None:
    found = to_rgb(np.dstack([RGB, GREY]))
    np.testing.assert_array_equal(found, RGB)
    assert found.flags.c_contiguous


def test_bgr_is_one_keyword() -> None:
    np.testing.assert_array_equal(to_rgb(RGB[..., ::-1], bgr=True), RGB)
    np.testing.assert_array_equal(to_rgb(np.dstack([RGB[..., ::-1], GREY]), bgr=True), RGB)
    np.testing.assert_array_equal(to_rgb(GREY, bgr=True), to_rgb(GREY))


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_as_in_a_file(order: str) -> None:
    png = cv2.imencode(".png", cv2.cvtColor(SIXTEEN, cv2.COLOR_RGB2BGR))[1].tobytes()
    np.testing.assert_array_equal(to_rgb(SIXTEEN.astype(order)), decode_image(png))


@pytest.mark.parametrize(
    ("image", "found", "remedy"),
    [
        (RGB / 255, "float64 from 0 to", "(image * 255)"),
        (RGB.astype(np.float32), "float32 from", "astype(np.uint8)"),
        (np.full((4, 4), np.nan), "float64 with NaN", "astype(np.uint8)"),
        (RGB.astype(np.int64), "int64", "astype(np.uint8)"),
        (GREY > 3, "bool", "astype(np.uint8)"),
        (RGB.transpose(2, 0, 1), "(3, 20, 30)", "image.transpose(1, 2, 0)"),
        (RGB[None], "(1, 20, 30, 3)", "one image"),
        (RGB[..., :2], "(20, 30, 2)", "one image"),
        (GREY[0], "(30,)", "one image"),
        (RGB[:0], "(0, 20, 3)".replace("20", "30"), ""),
        ([[1, 2], [3, 4]], "builtins.list", "array"),
        (None, "NoneType", "array"),
        (b"\x89PNG", "builtins.bytes", "array"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(image: Any, found: str, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        to_rgb(image, name="image 7")
    assert caught.value.message.startswith("image 7: expected ")
    assert found in caught.value.message
    assert remedy in caught.value.remedy
    assert "\n" not in str(caught.value)


# --- images of Pillow ---


def converted(mode: str) -> Image.Image:
    image = Image.fromarray(RGB)
    if mode == "I;16":
        return Image.fromarray(SIXTEEN[..., 0].copy())
    if mode == "RGBA":
        image.putalpha(Image.fromarray(GREY))
        return image
    return image.convert("RGBA").convert(mode) if mode in ("P", "LA") else image.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "LA", "RGBA", "I;16"])
def test_a_mode_of_pillow_gives_what_the_file_gives(mode: str) -> None:
    data = saved(converted(mode), "PNG")
    image = Image.open(io.BytesIO(data))
    assert image.mode == mode
    np.testing.assert_array_equal(to_rgb(image, bgr=True), decode_image(data))


def test_cmyk_is_what_the_file_gives_within_rounding() -> None:
    data = saved(converted("CMYK"), "JPEG")
    image = Image.open(io.BytesIO(data))
    assert image.mode == "CMYK"
    np.testing.assert_allclose(to_rgb(image), decode_image(data).astype(int), atol=1)


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "PA", "RGBX"])
def test_other_modes_are_close_to_their_colours(mode: str) -> None:
    colour = (204, 51, 102)  # is in the usual palette
    flat = Image.new("RGB", (30, 20), colour)
    image = flat.convert("P").convert("PA") if mode == "PA" else flat.convert(mode)
    found = to_rgb(image)
    np.testing.assert_allclose(found, np.broadcast_to(colour, found.shape), atol=3)


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_a_mode_without_a_known_range_is_refused(mode: str) -> None:
    image = Image.new(mode, (4, 4))
    with pytest.raises(UsageError, match=f"mode {mode} "):
        to_rgb(image)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_exif_orientation_is_applied_as_for_files(kind: str, orientation: int) -> None:
    image = Image.fromarray(RGB)
    exif = image.getexif()
    exif[0x0112] = orientation
    data = saved(image, kind, exif=exif)
    found = to_rgb(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(found, decode_image(data))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(found, np.asarray(upright))
    np.testing.assert_array_equal(to_rgb(upright), found)  # not twice


def test_a_cut_off_image_is_named() -> None:
    image = Image.open(io.BytesIO(saved(Image.fromarray(RGB), "PNG")[:-400]))
    with pytest.raises(DataError, match=r"^image 3: cannot be decoded \("):
        to_rgb(image, name="image 3")


def test_a_closed_image_is_named() -> None:
    image = Image.open(io.BytesIO(saved(Image.fromarray(RGB), "PNG")))
    image.close()
    with pytest.raises(DataError, match="cannot be decoded"):
        to_rgb(image)


def test_pillow_is_not_loaded() -> None:
    code = "import sys, numpy; from generalad.pixels import to_rgb; "
    code += "to_rgb(numpy.zeros((2, 2), 'u1')); assert 'PIL' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
