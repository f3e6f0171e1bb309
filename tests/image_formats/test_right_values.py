"""Every kind of image file that is read gives the values that other libraries say."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from encoders import pillow, png, pnm, tiff
from image_samples import (
    BITS,
    GREY,
    PALETTE,
    READ,
    RGB,
    TOLERANCE,
    from16,
    grey,
)
from import_graph import ROOT
from PIL import Image

from generalad.errors import DataError
from generalad.image_formats.accept import read_header
from generalad.preprocess import decode_image, decode_mask, to_uint8

ALL_READ = [(kind, layout) for kind, layouts in READ.items() for layout in layouts]


@pytest.mark.parametrize(("kind", "layout"), ALL_READ)
def test_values_are_right(kind: str, layout: str) -> None:
    data, expected = READ[kind][layout]()
    found = decode_image(data)
    assert found.shape == expected.shape
    wrong = np.abs(found.astype(int) - expected.astype(int)).max()
    assert wrong <= TOLERANCE.get(kind, 0)
    np.testing.assert_array_equal(decode_image(data), found, err_msg="differs when read again")
    header = read_header(data)
    assert header is not None
    assert (header.height, header.width) == expected.shape[:2]


def test_the_manual_names_every_kind() -> None:
    manual = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    table = manual[manual.index("| format |") :].split("\n\n")[0]
    assert set(re.findall(r"^\| (\S[^|]*?) \|", table, re.MULTILINE)) - {"format", "---"} == set(
        READ
    )


@pytest.mark.parametrize("largest", [1, 7, 100, 127, 254, 1023, 4095, 16383, 40000])
@pytest.mark.parametrize("kind", [2, 3, 5, 6])
def test_pnm_is_scaled_by_its_largest_value(kind: int, largest: int) -> None:
    image = RGB if kind in (3, 6) else GREY
    values = (image.astype(np.int64) * largest + 127) // 255
    exact = values * 255 / largest
    found = decode_image(pnm(kind, values, largest)).astype(float)
    assert np.abs(found - (exact if exact.ndim == 3 else grey(exact))).max() <= 0.5


@pytest.mark.parametrize("end", [b"", b"\n", b" \r\n", b"\n# made by hand"])
@pytest.mark.parametrize("kind", [1, 2, 3])
def test_text_needs_no_end_of_line(kind: int, end: bytes) -> None:
    values = {1: ~BITS, 2: GREY, 3: RGB}[kind]
    whole = decode_image(pnm(kind, values, 255, comment=b"# a camera\n", end=end))
    np.testing.assert_array_equal(whole, decode_image(pnm(kind, values, 255)))


def test_bits_in_text_need_no_spaces() -> None:
    text = b"P1 4 2 0110\n1001"
    assert (decode_image(text)[..., 0] > 0).tolist() == [[1, 0, 0, 1], [0, 1, 1, 0]]


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_few_bits_in_sixteen_are_refused(bits: int) -> None:
    values = GREY.astype(np.uint16) << (bits - 8)
    for data in (png(values[..., None], 16, 0), tiff(values), pnm(5, values, 65535)):
        with pytest.raises(DataError, match=f"{bits} bits in 16"):
            decode_image(data)
    assert decode_mask(tiff(values)).sum() == np.count_nonzero(values), "a mask may be so"
    with pytest.raises(DataError, match=f"{bits} bits in 16"):
        to_uint8(values)


def test_every_value_of_sixteen_bits_is_rounded_to_the_nearest() -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(to_uint8(every), from16(every))


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_orientation_is_that_of_other_programs(
    kind: str, orientation: int, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import ImageOps

    if large:
        monkeypatch.setattr("generalad.preprocess._LARGE", 0)

    blocks = np.kron(PALETTE[:6].reshape(2, 3, 3), np.ones((8, 8, 1), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, dict[str, Any]] = {
        "WEBP": {"lossless": True},
        "JPEG": {"quality": 100, "subsampling": 0},
    }
    data = pillow(blocks, kind, exif=exif, **options.get(kind, {}))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    found = decode_image(data)
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).max() <= (5 if kind == "JPEG" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_of_sixteen_bits(orientation: int) -> None:
    tag = (274, "H", 1, orientation, True)
    eight = decode_image(tiff(RGB, photometric="rgb", extratags=[tag]))
    sixteen = decode_image(tiff(RGB.astype(np.uint16) * 257, photometric="rgb", extratags=[tag]))
    np.testing.assert_array_equal(sixteen, eight)


@pytest.mark.parametrize(("kind", "layout"), ALL_READ)
def test_large_images_are_decoded_alike(
    kind: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _ = READ[kind][layout]()
    small = decode_image(data)
    monkeypatch.setattr("generalad.preprocess._LARGE", 0)
    np.testing.assert_array_equal(decode_image(data), small)
