"""Every kind of image file that is read, with right values from elsewhere; all else is refused."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from encoders import bmp, chunk, empty_png, pillow, png, pnm, tiff
from import_graph import ROOT
from numpy.typing import NDArray
from PIL import Image

from generalad.errors import ConfigError, DataError
from generalad.image_formats.accept import LIMIT_SETTING, read_header
from generalad.preprocess import decode_image, decode_mask, read_image, to_uint8

Array = NDArray[Any]
Case = Callable[[], tuple[bytes, Array]]

H, W = 13, 22


def pattern(seed: int = 0) -> Array:
    """(H, W, 3) uint8 with all values from 0 to 255 in a smooth image and some noise."""
    rows, columns = np.mgrid[0:H, 0:W]
    ramp = np.dstack([rows * 255 / (H - 1), columns * 255 / (W - 1), (rows + columns) * 7.5])
    noise = np.random.default_rng(seed).integers(-9, 10, ramp.shape)
    return np.asarray(np.clip(ramp + noise, 0, 255), np.uint8)


RGB = pattern()
LARGE = np.tile(RGB, (8, 8, 1))
GREY = pattern(1)[..., 1]
RGB16 = RGB.astype(np.uint16) * 257 - (RGB > 0) * np.uint16(100)  # not only multiples of 257
GREY16 = RGB16[..., 0]
BITS = GREY > 127
ALPHA = np.asarray(np.where(BITS, 255, 90), np.uint8)
INDEX = np.asarray(GREY // 16, np.uint8)
PALETTE = np.random.default_rng(5).integers(0, 256, (16, 3), dtype=np.uint8)


def grey(values: Array) -> Array:
    """The same three times."""
    return np.dstack([values] * 3)


def from16(values: Array) -> Array:
    """The nearest 8-bit values."""
    return np.asarray(np.floor(values / 257 + 0.5), np.uint8)


CMYK = Image.fromarray(RGB).convert("CMYK")


def without_adobe(jpeg: bytes) -> bytes:
    place = jpeg.index(b"\xff\xee\x00\x0eAdobe")
    return jpeg[:place] + jpeg[place + 16 :]


def indexed() -> Image.Image:
    image = Image.frombytes("P", (W, H), INDEX.tobytes())
    image.putpalette(PALETTE.tobytes())
    return image


def palette_chunk() -> bytes:
    return chunk(b"PLTE", PALETTE.tobytes())


def rgba16(values: Array, opacity: Array) -> Array:
    return np.dstack(
        [values, opacity.astype(values.dtype) * (257 if values.dtype != np.uint8 else 1)]
    )


READ: dict[str, dict[str, Case]] = {
    "PNG": {
        "grey 1": lambda: (png(BITS[..., None], 1, 0), grey(BITS * 255)),
        "grey 2": lambda: (png(GREY[..., None] // 64, 2, 0), grey(GREY // 64 * 85)),
        "grey 4": lambda: (png(INDEX[..., None], 4, 0), grey(INDEX * 17)),
        "grey 8": lambda: (pillow(GREY, "PNG"), grey(GREY)),
        "grey 16": lambda: (png(GREY16[..., None], 16, 0), grey(from16(GREY16))),
        "grey and alpha 8": lambda: (png(np.dstack([GREY, ALPHA]), 8, 4), grey(GREY)),
        "grey and alpha 16": lambda: (
            png(rgba16(GREY16, ALPHA), 16, 4),
            grey(from16(GREY16)),
        ),
        "palette 4": lambda: (png(INDEX[..., None], 4, 3, extra=palette_chunk()), PALETTE[INDEX]),
        "palette 8": lambda: (pillow(indexed(), "PNG", bits=8), PALETTE[INDEX]),
        "palette 8, transparent": lambda: (
            pillow(indexed(), "PNG", bits=8, transparency=bytes(range(16))),
            PALETTE[INDEX],
        ),
        "RGB 8": lambda: (pillow(RGB, "PNG"), RGB),
        "RGB 16": lambda: (png(RGB16, 16, 2), from16(RGB16)),
        "RGBA 8": lambda: (pillow(np.dstack([RGB, ALPHA]), "PNG"), RGB),
        "RGBA 16": lambda: (png(rgba16(RGB16, ALPHA), 16, 6), from16(RGB16)),
        "interlaced 8": lambda: (png(RGB, 8, 2, interlaced=True), RGB),
        "interlaced 16": lambda: (png(RGB16, 16, 2, interlaced=True), from16(RGB16)),
        "interlaced grey 1": lambda: (
            png(BITS[..., None], 1, 0, interlaced=True),
            grey(BITS * 255),
        ),
        "colour that is transparent": lambda: (
            png(RGB, 8, 2, extra=chunk(b"tRNS", struct.pack(">HHH", *map(int, RGB[0, 0])))),
            RGB,
        ),
        "grey 16 that is transparent": lambda: (
            png(GREY16[..., None], 16, 0, extra=chunk(b"tRNS", struct.pack(">H", GREY16[0, 0]))),
            grey(from16(GREY16)),
        ),
        "gamma and profile": lambda: (
            png(RGB, 8, 2, extra=chunk(b"gAMA", struct.pack(">I", 100000))),
            RGB,
        ),
    },
    "BMP": {
        "1": lambda: (
            bmp(BITS, 1, palette=np.array([[0, 0, 0], [255, 255, 255]])),
            grey(BITS * 255),
        ),
        "4": lambda: (bmp(INDEX, 4, palette=PALETTE[:, ::-1]), PALETTE[INDEX]),
        "8": lambda: (pillow(GREY, "BMP"), grey(GREY)),
        "24": lambda: (pillow(RGB, "BMP"), RGB),
        "24, top first": lambda: (bmp(RGB[..., ::-1], 24, upside_down=False), RGB),
        "24, OS/2": lambda: (bmp(RGB[..., ::-1], 24, core=True), RGB),
        "4, OS/2": lambda: (bmp(INDEX, 4, palette=PALETTE[:, ::-1], core=True), PALETTE[INDEX]),
        "32": lambda: (bmp(np.dstack([RGB[..., ::-1], ALPHA]), 32), RGB),
        "32 with masks of bits": lambda: (
            pillow(np.dstack([RGB, np.full_like(ALPHA, 255)]), "BMP"),
            RGB,
        ),
    },
    "TIFF": {
        "grey 1": lambda: (pillow(Image.fromarray(BITS), "TIFF"), grey(BITS * 255)),
        "grey 1, min-is-white": lambda: (
            pillow(Image.fromarray(BITS), "TIFF", compression="group4"),
            grey(BITS * 255),
        ),
        "grey 8": lambda: (tiff(GREY), grey(GREY)),
        "grey 8, min-is-white": lambda: (tiff(255 - GREY, photometric="miniswhite"), grey(GREY)),
        "grey 16": lambda: (tiff(GREY16), grey(from16(GREY16))),
        "grey 16, big-endian": lambda: (tiff(GREY16, byteorder=">"), grey(from16(GREY16))),
        "grey 16, tiles": lambda: (tiff(GREY16, tile=(16, 16)), grey(from16(GREY16))),
        "grey 16, deflate": lambda: (tiff(GREY16, compression="zlib"), grey(from16(GREY16))),
        "grey 16, LZW": lambda: (
            pillow(Image.fromarray(GREY16), "TIFF", compression="tiff_lzw"),
            grey(from16(GREY16)),
        ),
        "grey 16, rows in strips": lambda: (tiff(GREY16, rowsperstrip=3), grey(from16(GREY16))),
        "palette 8": lambda: (pillow(indexed(), "TIFF"), PALETTE[INDEX]),
        "RGB 8": lambda: (tiff(RGB, photometric="rgb"), RGB),
        "RGB 8, separate planes": lambda: (
            tiff(RGB.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"),
            RGB,
        ),
        "RGB 8, tiles": lambda: (tiff(LARGE, photometric="rgb", tile=(64, 64)), LARGE),
        "RGB 8, LZW": lambda: (pillow(RGB, "TIFF", compression="tiff_lzw"), RGB),
        "RGB 8, packed bits": lambda: (pillow(RGB, "TIFF", compression="packbits"), RGB),
        "RGB 8, big-endian": lambda: (tiff(RGB, photometric="rgb", byteorder=">"), RGB),
        "RGB 8, BigTIFF": lambda: (tiff(RGB, photometric="rgb", bigtiff=True), RGB),
        "RGB 16": lambda: (tiff(RGB16, photometric="rgb"), from16(RGB16)),
        "RGB 16, big-endian": lambda: (
            tiff(RGB16, photometric="rgb", byteorder=">"),
            from16(RGB16),
        ),
        "RGB 16, tiles": lambda: (tiff(RGB16, photometric="rgb", tile=(16, 16)), from16(RGB16)),
        "RGB 16, deflate": lambda: (
            tiff(RGB16, photometric="rgb", compression="zlib"),
            from16(RGB16),
        ),
        "RGBA 8": lambda: (
            tiff(np.dstack([RGB, np.full_like(ALPHA, 255)]), photometric="rgb", extrasamples=[2]),
            RGB,
        ),
        "RGBA 16": lambda: (
            tiff(rgba16(RGB16, ALPHA), photometric="rgb", extrasamples=[2]),
            from16(RGB16),
        ),
        "with a thumbnail": lambda: (pages(RGB, RGB[::4, ::4], subfiletype=1), RGB),
    },
    "PNM": {
        "P1": lambda: (pnm(1, ~BITS, 1), grey(BITS * 255)),
        "P2": lambda: (pnm(2, GREY, 255), grey(GREY)),
        "P3": lambda: (pnm(3, RGB, 255), RGB),
        "P4": lambda: (pnm(4, ~BITS, 1), grey(BITS * 255)),
        "P5": lambda: (pnm(5, GREY, 255), grey(GREY)),
        "P5, 16": lambda: (pnm(5, GREY16, 65535), grey(from16(GREY16))),
        "P6": lambda: (pillow(RGB, "PPM"), RGB),
        "P6, 16": lambda: (pnm(6, RGB16, 65535), from16(RGB16)),
    },
    "JPEG": {
        "grey": lambda: (pillow(GREY, "JPEG", quality=100), grey(GREY)),
        "RGB": lambda: (pillow(RGB, "JPEG", quality=100, subsampling=0), RGB),
        "progressive": lambda: (
            pillow(RGB, "JPEG", quality=100, subsampling=0, progressive=True),
            RGB,
        ),
        "CMYK": lambda: (
            pillow(CMYK, "JPEG", quality=100, subsampling=0),
            np.asarray(CMYK.convert("RGB")),
        ),
        "RGB kept": lambda: (
            pillow(RGB, "JPEG", quality=100, subsampling=0, keep_rgb=True),
            RGB,
        ),
    },
    "WebP": {
        "lossless": lambda: (pillow(RGB, "WEBP", lossless=True), RGB),
        "lossless with alpha": lambda: (
            pillow(np.dstack([RGB, ALPHA]), "WEBP", lossless=True, exact=True),
            RGB,
        ),
    },
    "GIF": {"palette": lambda: (pillow(indexed(), "GIF"), PALETTE[INDEX])},
    "JPEG 2000": {
        "grey 8": lambda: (pillow(GREY, "JPEG2000"), grey(GREY)),
        "grey 16": lambda: (pillow(Image.fromarray(GREY16), "JPEG2000"), grey(from16(GREY16))),
        "RGB 8": lambda: (pillow(RGB, "JPEG2000"), RGB),
        "codestream": lambda: (pillow(RGB, "JPEG2000", no_jp2=True), RGB),
    },
    "AVIF": {"RGB 8": lambda: (pillow(RGB, "AVIF", quality=100, subsampling="4:4:4"), RGB)},
}
TOLERANCE = {"JPEG": 4, "AVIF": 4}


def pages(first: Array, *others: Array, **options: Any) -> bytes:
    """A TIFF of several pages; `options` of the others."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(first, photometric="rgb")
        for page in others:
            writer.write(page, photometric="rgb", **options)
    return buffer.getvalue()


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


# --- the largest value of PNM ---


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


# --- what is refused, in one line ---


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
    "AVIF without its end": (lambda: pillow(RGB, "AVIF")[:-9], "cut off"),
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


# --- 10 and 12 bits in 16 ---


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


# --- orientation ---


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_orientation_is_that_of_other_programs(kind: str, orientation: int) -> None:
    from PIL import ImageOps

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


# --- size ---


SIZED: dict[str, Callable[[int, int], bytes]] = {
    "PNG": empty_png,
    "JPEG": lambda w, h: sized(pillow(RGB, "JPEG"), b"\xff\xc0", 5, ">HH", h, w),
    "TIFF": lambda w, h: sized_tiff(w, h),
    "PGM": lambda w, h: b"P2 %d %d 255 1 2 3" % (w, h),
    "GIF": lambda w, h: pillow(indexed(), "GIF")[:6] + struct.pack("<HH", w, h) + gif_rest(w, h),
    "WebP": lambda w, h: b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + three(w) + three(h),
    "JPEG 2000": lambda w, h: sized(
        pillow(RGB, "JPEG2000", no_jp2=True), b"\xff\x51", 6, ">II", w, h
    ),
}


def three(side: int) -> bytes:
    return (side - 1).to_bytes(3, "little")


def gif_rest(width: int, height: int) -> bytes:
    rest = pillow(indexed(), "GIF")[10:]
    place = rest.index(b",\0\0\0\0")
    return rest[: place + 5] + struct.pack("<HH", width, height) + rest[place + 9 :]


def sized(data: bytes, marker: bytes, offset: int, form: str, *sides: int) -> bytes:
    """`data` with another size in its header, `offset` bytes behind the start of a marker."""
    place = data.index(marker) + offset
    return data[:place] + struct.pack(form, *sides) + data[place + struct.calcsize(form) :]


def sized_tiff(width: int, height: int) -> bytes:
    data = tiff(RGB, photometric="rgb")
    for tag, side in ((256, width), (257, height)):
        place = data.index(struct.pack("<HH", tag, 4))
        data = data[: place + 8] + struct.pack("<I", side) + data[place + 12 :]
    return data


@pytest.mark.parametrize("kind", SIZED)
def test_a_large_size_in_the_header_is_refused_before_decoding(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoder(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("cv2.imdecode", decoder)
    monkeypatch.setattr("generalad.preprocess.decode_netpbm", decoder)
    width, height = (16000, 8000) if kind != "PGM" else (4000, 2500)
    data, size = SIZED[kind](width, height), f"{width} x {height} pixels are"
    for decode in (decode_image, decode_mask):
        with pytest.raises(DataError, match=f"{size} {width * height // 10**6} megap") as raised:
            decode(data)
        assert LIMIT_SETTING in raised.value.remedy
    needed = int(re.findall(rf"{LIMIT_SETTING}=(\d+)", raised.value.remedy)[0])
    monkeypatch.setenv(LIMIT_SETTING, str(needed))
    with pytest.raises((AssertionError, DataError), match=r"decoded|bytes cannot hold"):
        decode_image(data)


def test_a_size_without_pixels_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.imdecode", None)
    monkeypatch.setattr("generalad.preprocess.decode_netpbm", None)
    bitmap = struct.pack("<IHHIIiiHHI", 0, 0, 0, 54, 40, 32000, 32000, 1, 24, 0) + bytes(100)
    for data in (b"BM" + bitmap, b"P6\n32000 32000\n255\n" + bytes(100)):
        with pytest.raises(DataError, match="cut off"):
            decode_image(data)


def test_the_limit_counts_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_SETTING, "0.001")
    assert decode_image(pillow(RGB[:, :20], "PNG")).shape == (H, 20, 3)
    with pytest.raises(DataError, match="16 bits"):
        decode_image(png(np.tile(RGB16, (2, 2, 1))[:, :40], 16, 2))
    monkeypatch.setenv(LIMIT_SETTING, "many")
    with pytest.raises(ConfigError, match=f"{LIMIT_SETTING}: expected a number"):
        decode_image(pillow(RGB, "PNG"))


def test_a_scan_without_end_is_refused() -> None:
    progressive = pillow(RGB, "JPEG", progressive=True)
    scan = progressive[progressive.index(b"\xff\xda") : progressive.index(b"\xff\xd9")]
    with pytest.raises(DataError, match="more than 100 scans"):
        decode_image(progressive[:-2] + scan * 50 + b"\xff\xd9")


# --- what is no file ---


def test_a_pipe_or_a_device_is_not_read(tmp_path: Path) -> None:
    import os

    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "endless.png"):
        with pytest.raises(DataError, match=f"{name}: a pipe, a device or a socket"):
            read_image(tmp_path / name)


def test_a_file_that_is_too_long_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.png"
    with path.open("wb") as file:
        file.write(pillow(RGB, "PNG"))
        file.truncate(1 << 31)  # a hole, no disk is used
    with pytest.raises(DataError, match=r"long\.png: a file of 2147 MB, expected at most 261 MB"):
        read_image(path)


# --- damaged files ---


@pytest.mark.parametrize("kind", READ)
def test_a_few_changed_bytes_are_read_or_refused_in_a_line(kind: str) -> None:
    import random

    chance = random.Random(kind)
    whole = [case()[0] for case in READ[kind].values()]
    for _ in range(150):
        data = bytearray(chance.choice(whole))
        for _ in range(chance.choice((1, 2, 8))):
            place = chance.randrange(min(len(data), chance.choice((40, 200, len(data)))))
            data[place : place + chance.randrange(2)] = chance.randbytes(chance.randrange(3))
        for decode in (decode_image, decode_mask):
            try:
                assert decode(bytes(data)).size
            except DataError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_size_that_the_bytes_cannot_hold_is_refused(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cv2.imdecode", None)
    with pytest.raises(DataError, match="bytes cannot hold 6000 x 5000 pixels"):
        decode_image(SIZED[kind](6000, 5000))


def test_an_even_image_packs_as_far_as_it_does() -> None:
    even = np.zeros((3000, 4000), np.uint8)
    for data in (
        pillow(even, "PNG", compress_level=9),
        pillow(even, "JPEG", quality=1, optimize=True, progressive=True),
        pillow(even, "TIFF", compression="tiff_lzw"),
        pillow(even, "TIFF", compression="tiff_adobe_deflate"),
        pillow(even, "TIFF", compression="packbits"),
        pillow(even, "TIFF", compression="jpeg"),
    ):
        assert decode_image(data).shape == (3000, 4000, 3)
