"""Files of every kind that is read, with their right values from elsewhere."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import tifffile
from encoders import bmp, chunk, pillow, png, pnm, tiff
from numpy.typing import NDArray
from PIL import Image

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
        "grey 8, small tiles": lambda: (tiff(GREY, tile=(16, 16)), grey(GREY)),
        "grey 8, min-is-white, small tiles": lambda: (
            tiff(255 - GREY, photometric="miniswhite", tile=(48, 16)),
            grey(GREY),
        ),
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
        "RGB 8, small tiles": lambda: (tiff(LARGE, photometric="rgb", tile=(16, 48)), LARGE),
        "RGB 8, small tiles in separate planes": lambda: (
            tiff(
                LARGE.transpose(2, 0, 1).copy(),
                photometric="rgb",
                planarconfig="separate",
                tile=(16, 16),
            ),
            LARGE,
        ),
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
