"""Image files whose reading is not certain are refused in a line."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from encoders import bmp, pillow, pnm, tiff
from image_samples import (
    BITS,
    CMYK,
    GREY,
    GREY16,
    INDEX,
    PALETTE,
    RGB,
    RGB16,
    H,
    W,
    indexed,
    pages,
    without_adobe,
)
from PIL import Image

from generalad.errors import DataError
from generalad.preprocess import decode_image, decode_mask, read_image


def with_bits(data: bytes, bits: int) -> bytes:
    """A grey TIFF of tifffile with another number of bits in its header."""
    place = data.index(struct.pack("<HHI", 258, 3, 1))
    return data[: place + 8] + struct.pack("<H", bits) + data[place + 10 :]


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "TIFF 16, separate planes": (
        lambda: tiff(RGB16.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"),
        "separate planes",
    ),
    "TIFF 16, min-is-white": (lambda: tiff(GREY16, photometric="miniswhite"), "min-is-white"),
    "TIFF of floats": (lambda: tiff(GREY.astype(np.float32)), "a sign or a fraction"),
    "TIFF with a sign": (lambda: tiff(GREY.astype(np.int16)), "a sign or a fraction"),
    "TIFF 32": (lambda: tiff(GREY.astype(np.uint32)), "of 32 bits"),
    "TIFF 12": (lambda: with_bits(tiff(GREY16), 12), "of 12 bits"),
    "TIFF 4": (lambda: with_bits(tiff(GREY), 4), "of 4 bits"),
    "TIFF CMYK": (lambda: pillow(Image.fromarray(RGB).convert("CMYK"), "TIFF"), "inks"),
    "TIFF Lab": (lambda: pillow(Image.fromarray(RGB).convert("LAB"), "TIFF"), "Lab"),
    "TIFF of channels": (
        lambda: tiff(RGB, photometric="minisblack", planarconfig="contig"),
        "neither grey nor RGB",
    ),
    "TIFF of two pages": (lambda: pages(RGB, RGB), "2 pages, expected one"),
    "TIFF of a stack": (lambda: tiff(np.stack([GREY] * 5), photometric="minisblack"), "5 pages"),
    "TIFF, thumbnail first": (
        lambda: tiff(RGB, photometric="rgb", subfiletype=1),
        "begins with a thumbnail",
    ),
    "TIFF in tiles, turned": (
        lambda: tiff(RGB, photometric="rgb", tile=(16, 16), extratags=[(274, "H", 1, 3, True)]),
        "in tiles that is to be turned",
    ),
    "TIFF of slices": (
        lambda: tiff(
            np.stack([GREY] * 3), photometric="minisblack", volumetric=True, tile=(3, 16, 16)
        ),
        "3 slices, expected one",
    ),
    "JPEG CMYK": (lambda: without_adobe(pillow(CMYK, "JPEG")), "4 colours"),
    "animated PNG": (
        lambda: pillow(
            Image.fromarray(RGB), "PNG", save_all=True, append_images=[Image.fromarray(255 - RGB)]
        ),
        "holds 2 images",
    ),
    "animated GIF": (
        lambda: pillow(
            Image.fromarray(RGB), "GIF", save_all=True, append_images=[Image.fromarray(255 - RGB)]
        ),
        "holds 2 images",
    ),
    "animated WebP": (
        lambda: pillow(
            Image.fromarray(RGB), "WEBP", save_all=True, append_images=[Image.fromarray(255 - RGB)]
        ),
        "holds several images",
    ),
    "animated AVIF": (
        lambda: pillow(
            Image.fromarray(RGB), "AVIF", save_all=True, append_images=[Image.fromarray(255 - RGB)]
        ),
        "holds several images",
    ),
    "two PGM in one": (lambda: pnm(5, GREY, 255) * 2, "holds several images"),
    "PGM of 17 bits": (lambda: pnm(5, GREY, 70000), "largest value is 70000"),
    "PGM of nothing": (lambda: pnm(2, GREY, 0), "largest value is 0"),
    "PGM above its largest value": (lambda: pnm(2, np.full((2, 2), 300), 255), "a value of 300"),
    "PGM of words": (lambda: b"P2 2 2 255 1 2 three 4", "no numbers"),
    "PPM without its end": (lambda: pnm(6, RGB, 255)[:-1], "cut off"),
    "PPM in text without its end": (lambda: b"P3 2 1 255 1 2 3 4 5", "cut off"),
    "BMP 16": (lambda: bmp(np.zeros((4, 4, 2), np.uint8), 16), "BMP of 16 bits"),
    "BMP of run lengths": (lambda: bmp(INDEX, 8, palette=PALETTE, packed=1), "compressed"),
    "GIF without its end": (lambda: pillow(indexed(), "GIF")[:-3], "cut off"),
    "JPEG 2000 without its end": (lambda: pillow(RGB, "JPEG2000")[:-9], "cut off"),
    "JPEG 2000 of YCC": (
        lambda: pillow(Image.fromarray(RGB).convert("YCbCr"), "JPEG2000"),
        "neither grey nor RGB",
    ),
    "PPM whose lines end in two bytes": (
        lambda: pnm(6, RGB, 255).replace(b"\n", b"\r\n", 3),
        "line ends of two bytes",
    ),
    "PGM of 16 bits that says 8": (
        lambda: b"P5\n%d %d\n255\n" % (W, H) + GREY16.astype(">u2").tobytes(),
        "more bytes than its size needs",
    ),
    "PGM of text with too many values": (lambda: pnm(2, GREY, 255) + b"7", "more values than"),
    "AVIF without its end": (lambda: pillow(RGB, "AVIF")[:-9], "cut off"),
    "AVIF that is cropped": (
        lambda: pillow(RGB, "AVIF").replace(b"colr", b"clap"),
        "to be cropped for display",
    ),
    "HEIC": (lambda: struct.pack(">I4s4sI4s", 20, b"ftyp", b"heic", 0, b"mif1"), "HEIC, a format"),
    "camera raw": (
        lambda: struct.pack(">I4s4sI4s", 20, b"ftyp", b"crx ", 0, b"crx "),
        "camera raw, a format",
    ),
    "video": (lambda: struct.pack(">I4s4sI4s", 20, b"ftyp", b"isom", 0, b"mp42"), "not an image"),
    "PFM": (lambda: b"Pf\n2 2\n-1.0\n" + bytes(16), "PFM, a format"),
    "JPEG XL": (lambda: b"\xff\x0a" + bytes(20), "JPEG XL, a format"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_certain_is_refused_in_a_line(kind: str) -> None:
    data, message = REFUSED[kind][0](), REFUSED[kind][1]
    for decode in (decode_image, decode_mask):
        with pytest.raises(DataError, match=message) as raised:
            decode(data, name="belt.xyz")
        assert raised.value.message.startswith("belt.xyz: ")
        assert "\n" not in str(raised.value)
        assert raised.value.remedy


@pytest.mark.parametrize("kind", ["TIFF", "GIF"])
def test_colours_that_a_decoder_blends_are_refused_and_their_masks_read(kind: str) -> None:
    if kind == "TIFF":
        opaque = np.where(BITS, 255, 0).astype(np.uint8)
        data = tiff(np.dstack([RGB, opaque]), photometric="rgb", extrasamples=[2])
    else:
        opaque = np.where(INDEX == 1, 0, 255).astype(np.uint8)
        data = pillow(indexed(), "GIF", transparency=1)
    with pytest.raises(DataError, match=f"belt: {kind} that is transparent in parts"):
        decode_image(data, name="belt")
    white = np.dstack([np.full_like(RGB, 255), opaque])
    mask = tiff(white, photometric="rgb", extrasamples=[2])
    assert np.array_equal(decode_mask(mask), opaque > 0)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_transparent_mask_that_may_have_to_be_turned_is_refused(kind: str) -> None:
    mask = np.zeros((H, W), np.uint8)
    mask[2:5, 3:9] = 255
    shown = Image.merge("LA", [Image.fromarray(np.full_like(mask, 255)), Image.fromarray(mask)])
    exif = Image.Exif()
    exif[0x0112] = 3
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(decode_mask(pillow(shown.convert("RGBA"), kind, **options)), mask > 0)
    with pytest.raises(DataError, match="EXIF data, which may turn it"):
        decode_mask(pillow(shown.convert("RGBA"), kind, exif=exif, **options))


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\0\0"])
def test_blanks_behind_the_pixels_of_pnm_are_nothing(end: bytes) -> None:
    np.testing.assert_array_equal(decode_image(pnm(6, RGB, 255) + end), RGB)


def test_formats_without_a_beginning_are_told_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "x.tga").write_bytes(pillow(RGB, "TGA"))
    with pytest.raises(DataError, match=r"x\.tga: TGA, a format that is not read"):
        read_image(tmp_path / "x.tga")


@pytest.mark.parametrize("name", ["x.jfif", "x.JPE", "x.dib", "x.avif", "x.jp2", "x.gif", "x.pnm"])
def test_other_suffixes_are_read(tmp_path: Path, name: str) -> None:
    kind = {"jfif": "JPEG", "jpe": "JPEG", "dib": "BMP", "avif": "AVIF", "jp2": "JPEG2000"}
    suffix = name.lower().rsplit(".", 1)[1]
    (tmp_path / name).write_bytes(pillow(RGB, kind.get(suffix, {"pnm": "PPM"}.get(suffix, "GIF"))))
    assert read_image(tmp_path / name).shape == (H, W, 3)


@pytest.mark.parametrize("size", [0, 100, 10_000_000, 2**32 - 1])
def test_the_size_of_a_bmp_file_in_its_header_does_not_count(size: int) -> None:
    np.testing.assert_array_equal(decode_image(bmp(RGB[..., ::-1], 24, size=size)), RGB)
    with pytest.raises(DataError, match="cut off"):
        decode_image(bmp(RGB[..., ::-1], 24, size=size)[:-1])
