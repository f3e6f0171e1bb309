"""A file is one image: what holds several is refused, unless the others are smaller copies."""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Callable
from functools import partial
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from encoders import bmp, chunk, pillow, png, tiff
from image_samples import GREY, LARGE, RGB, H, W, indexed
from PIL import Image

from generalad.data.check import check_dataset
from generalad.data.dataset import open_dataset
from generalad.errors import DataError
from generalad.image_formats.accept import read_header
from generalad.preprocess import decode_image

TIFF = tiff(RGB, photometric="rgb")
BEHIND = {
    kind: pillow(LARGE, kind) for kind in ("PNG", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")
} | {"GIF": pillow(indexed(), "GIF"), "JPEG": pillow(LARGE, "JPEG")}
JPEG, SMALL, PNG = pillow(LARGE, "JPEG"), pillow(RGB, "JPEG"), pillow(RGB, "PNG")
VIDEO = b"\0\0\0\x18ftypmp42" + np.random.default_rng(0).bytes(9000)


def mpo(*images: Any) -> bytes:
    """As stereo cameras and phones write them."""
    first, *others = map(Image.fromarray, images)
    return pillow(first, "MPO", save_all=True, append_images=others)


def below(first: Any, *others: Any, kind: int = 1) -> bytes:
    """A TIFF whose first page has pages below it."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(first, photometric="rgb", subifds=len(others))
        for page in others:
            writer.write(page, photometric="rgb", subfiletype=kind)
    return buffer.getvalue()


def apng(*, default: bool) -> bytes:
    """An animation of one frame, which is that of other programs or not."""
    frame = struct.pack(">IIIIIHHBB", 0, W, H, 0, 0, 1, 10, 0, 0)
    shown = b"" if default else chunk(b"fcTL", frame)
    return png(RGB, 8, 2, extra=chunk(b"acTL", struct.pack(">II", 1, 0)) + shown)


PAIRS = [
    *itertools.permutations(("PNG", "BMP", "TIFF", "WEBP", "GIF"), 2),
    *itertools.product(("PNG", "TIFF", "JPEG", "BMP"), ("AVIF", "JPEG2000", "PPM")),
]


def exif() -> Image.Exif:
    found = Image.Exif()
    found.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0seen"
    return found


SEVERAL: dict[str, Callable[[], bytes]] = {
    "JPEG, two": lambda: JPEG + JPEG,
    "JPEG, two with bytes between": lambda: JPEG + bytes(999) + JPEG,
    "JPEG, progressive, two": lambda: pillow(LARGE, "JPEG", progressive=True) * 2,
    "JPEG, a larger one behind": lambda: SMALL + JPEG,
    "JPEG, a stream of them": lambda: SMALL * 200,
    "JPEG and PNG": lambda: JPEG + PNG,
    "MPO of two eyes": lambda: mpo(RGB, 255 - RGB),
    "MPO, a larger one behind": lambda: mpo(RGB, LARGE),
    "PNG, two": lambda: PNG + PNG,
    "PNG and JPEG": lambda: PNG + bytes(3) + SMALL,
    "animated PNG with another one to show": lambda: apng(default=True),
    "BMP, two": lambda: bmp(RGB, 24) * 2,
    "WebP, two": lambda: pillow(RGB, "WEBP") * 2,
    "GIF, two": lambda: pillow(indexed(), "GIF") * 2,
    "JPEG 2000, two": lambda: pillow(RGB, "JPEG2000") * 2,
    "JPEG 2000 without boxes, two": lambda: pillow(RGB, "JPEG2000", no_jp2=True) * 2,
    "AVIF, two": lambda: pillow(RGB, "AVIF") * 2,
    "TIFF, a larger one below": lambda: below(RGB, LARGE),
    "TIFF, as large below": lambda: below(RGB, 255 - RGB, kind=0),
    "TIFF, two": lambda: tiff(RGB, photometric="rgb") * 2,
    "TIFF, two of another program": lambda: pillow(RGB, "TIFF", compression="tiff_lzw") * 2,
    "TIFF, two with bytes between": lambda: tiff(RGB, photometric="rgb") + bytes(99) + TIFF,
    "BigTIFF, two in tiles": lambda: (
        tiff(LARGE, photometric="rgb", bigtiff=True, tile=(32, 32)) * 2
    ),
    "TIFF, a stack of ImageJ": lambda: tiff(np.stack([GREY] * 3), imagej=True),
    "TIFF, a stack that a text describes": lambda: tiff(
        np.stack([GREY] * 3), truncate=True, photometric="minisblack"
    ),
    **{
        f"{first} and {second}": partial(add, BEHIND[first], BEHIND[second])
        for first, second in PAIRS
    },
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_several_images_are_refused(kind: str) -> None:
    with pytest.raises(DataError, match=r"belt\.xyz: .*(images|pages), expected one") as raised:
        decode_image(SEVERAL[kind](), name="belt.xyz")
    assert raised.value.remedy == "split it into files of one image each"


SMALLER: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: JPEG + SMALL,
    "JPEG and what fills up": lambda: JPEG + bytes(7) + SMALL + bytes(30),
    "MPO": lambda: mpo(LARGE, RGB, RGB),
    "TIFF": lambda: below(LARGE, RGB, RGB),
}


@pytest.mark.parametrize("kind", SMALLER)
def test_of_smaller_copies_the_first_is_read_and_the_check_says_so(
    kind: str, tmp_path: Path
) -> None:
    data = SMALLER[kind]()
    np.testing.assert_array_equal(
        decode_image(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    )
    (tmp_path / "7.tif").write_bytes(data)
    [problem] = check_dataset(open_dataset(tmp_path)).problems
    assert (problem.kind, problem.severity) == ("smaller image", "info")
    assert problem.detail == "1 file with a smaller image beside the first, which is read"


ONE: dict[str, Callable[[], bytes]] = {
    "a motion photo": lambda: JPEG + VIDEO,
    "a thumbnail in EXIF": lambda: pillow(LARGE, "JPEG", exif=b"Exif\0\0" + SMALL),
    "what looks like beginnings": lambda: JPEG + b"\xff\xd8\xff\xe0\0\2" * 99_000,
    "text behind PNG": lambda: pillow(LARGE, "PNG") + b"made by a camera",
    "zeros behind BMP": lambda: bmp(LARGE[..., ::-1], 24) + bytes(2),
    "a still animation": lambda: apng(default=False),
    "text behind TIFF": lambda: TIFF + b"made by a camera",
    "zeros behind TIFF": lambda: TIFF + bytes(99_000),
    "EXIF in TIFF": lambda: pillow(LARGE, "TIFF", exif=exif()),
}


@pytest.mark.parametrize("kind", ONE)
def test_what_follows_one_image_does_not_count(kind: str) -> None:
    data = ONE[kind]()
    header = read_header(data)
    assert header is not None and not header.smaller
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_allclose(decode_image(data).astype(int), expected, atol=5)
