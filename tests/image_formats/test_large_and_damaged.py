"""Image files that would fill the memory, block, or are damaged."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from encoders import empty_png, pillow, png, pnm, tiff
from image_samples import (
    READ,
    RGB,
    RGB16,
    H,
    indexed,
)

from generalad.errors import ConfigError, DataError
from generalad.image_formats.accept import LIMIT_SETTING
from generalad.preprocess import decode_image, decode_mask, read_image

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
    monkeypatch.setattr("cv2.imread", decoder)
    monkeypatch.setattr("generalad.image_formats.netpbm.decode_netpbm", decoder)
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
    monkeypatch.setattr("generalad.image_formats.netpbm.decode_netpbm", None)
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


NOISE = np.random.default_rng(1).integers(1, 256, (120, 160, 3), np.uint8)
UNWRITTEN: dict[str, Callable[[], bytes]] = {
    "BMP": lambda: pillow(NOISE, "BMP"),
    "PNM": lambda: pnm(6, NOISE, 255),
    "TIFF": lambda: tiff(NOISE, photometric="rgb"),
    "TIFF, deflate": lambda: tiff(NOISE, photometric="rgb", compression="zlib", rowsperstrip=8),
    "WebP": lambda: pillow(NOISE, "WEBP", lossless=True),
    "PNG": lambda: pillow(NOISE, "PNG"),
    "JPEG": lambda: pillow(NOISE, "JPEG", quality=100),
    "AVIF": lambda: pillow(NOISE, "AVIF", quality=100),
    "JPEG 2000": lambda: pillow(NOISE, "JPEG2000"),
}


@pytest.mark.parametrize("blocks", [1, 2, 4])
@pytest.mark.parametrize("kind", UNWRITTEN)
def test_a_file_that_was_not_written_to_its_end_is_refused(kind: str, blocks: int) -> None:
    data = UNWRITTEN[kind]()
    assert decode_image(data).shape == NOISE.shape
    size = 4096 * blocks
    assert len(data) > size + 4096
    with pytest.raises(DataError, match=r"not written to its end|cut off|damaged"):
        decode_image(data[:size] + bytes(len(data) - size))


def test_black_at_the_end_of_an_image_is_none_of_that() -> None:
    image = NOISE.copy()
    image[40:] = 0
    for data in (pillow(image[::-1], "BMP"), pnm(6, image, 255), pillow(image, "TIFF")):
        assert decode_image(data).shape == image.shape
    for data in (pillow(np.zeros_like(image), "BMP"), pnm(6, np.zeros_like(image), 255)):
        assert not decode_image(data).any()


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
