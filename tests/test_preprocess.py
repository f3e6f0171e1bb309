"""The one image path: every row of the table in generalad/preprocess.py."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from generalad.errors import DataError
from generalad.image_formats.ends import image_end
from generalad.preprocess import (
    decode_image,
    decode_mask,
    read_image,
    read_mask,
    resize,
    to_uint8,
)


def is_cut_off(data: bytes) -> bool:
    return image_end(data) > len(data)


def sample_image(height: int = 24, width: int = 32, channels: int = 3, seed: int = 0) -> Any:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.0).reshape(height, width, channels)


def encoded(image: NDArray[Any], suffix: str) -> bytes:
    """Encode RGB or grey pixels with OpenCV."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    return cv2.imencode(suffix, bgr)[1].tobytes()


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Encode with Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# --- depth, colour, alpha ---


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
def test_eight_bits_are_taken_as_they_are(suffix: str) -> None:
    image = sample_image()
    decoded = decode_image(encoded(image, suffix))
    np.testing.assert_array_equal(decoded, image)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_formats_come_close(suffix: str) -> None:
    image = np.full((24, 32, 3), (200, 120, 40), np.uint8)
    decoded = decode_image(encoded(image, suffix))
    assert np.abs(decoded.astype(int) - image).max() <= 4


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_map_by_their_type_not_by_their_values(suffix: str) -> None:
    values = np.array([[0, 128, 129, 257, 1000, 32768, 65406, 65407, 65535]], np.uint16)
    decoded = decode_image(encoded(values, suffix))
    assert decoded[0, :, 0].tolist() == [0, 0, 1, 1, 4, 128, 254, 255, 255]
    dark = decode_image(encoded(np.full((4, 4), 2570, np.uint16), suffix))
    assert np.unique(dark).tolist() == [10]


@given(st.integers(0, 65535))
def test_sixteen_bits_round_to_the_nearest(value: int) -> None:
    [[found]] = to_uint8(np.array([[value]], np.uint16))
    assert abs(int(found) - value / 257) <= 0.5


def test_grey_is_repeated() -> None:
    grey = sample_image(channels=1)[..., 0]
    np.testing.assert_array_equal(decode_image(encoded(grey, ".png")), np.dstack([grey] * 3))


def test_one_bit_and_palette() -> None:
    bits = np.zeros((4, 6), bool)
    bits[1, 2] = True
    decoded = decode_image(saved(Image.fromarray(bits), "PNG"))
    assert decoded[1, 2].tolist() == [255, 255, 255]
    assert decoded.sum() == 3 * 255
    flat = Image.fromarray(np.full((4, 6, 3), (10, 200, 30), np.uint8))
    indexed = flat.convert("P", palette=Image.Palette.ADAPTIVE)
    assert np.abs(decode_image(saved(indexed, "PNG")).astype(int) - (10, 200, 30)).max() <= 1


@pytest.mark.parametrize("opacity", [0, 100, 255])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_alpha_is_dropped_and_the_colour_under_it_counts(opacity: int, depth: type) -> None:
    rgb = sample_image()
    factor = 257 if depth is np.uint16 else 1
    bgra = np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], opacity, np.uint8)])
    data = cv2.imencode(".png", bgra.astype(depth) * depth(factor))[1].tobytes()
    np.testing.assert_array_equal(decode_image(data), rgb)


@pytest.mark.parametrize("suffix", [".tif", ".hdr", ".pfm"])
def test_float_is_refused(suffix: str) -> None:
    image = np.full((4, 5, 3), 0.5, np.float32)
    with pytest.raises(DataError):
        decode_image(cv2.imencode(suffix, image)[1].tobytes())
    with pytest.raises(DataError, match="float32, expected 8 or 16 bits"):
        to_uint8(image)


# --- orientation ---


def turned(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """What a viewer shows for pixels stored with an EXIF orientation (EXIF 2.3, tag 0x0112)."""
    return {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.transpose(1, 0, 2),
        6: np.rot90(image, -1),
        7: image[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(image, 1),
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    blocks = np.zeros((16, 32, 3), np.uint8)
    blocks[:8, :16] = 255
    blocks[8:, 16:] = 120
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_image(saved(Image.fromarray(blocks), kind, exif=exif))
    expected = turned(blocks, orientation)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).max() <= 8


# --- damaged files ---


ENCODED = {
    "PNG": saved(Image.fromarray(sample_image()), "PNG"),
    "PNG, 16 bits": encoded(sample_image().astype(np.uint16) * 257, ".png"),
    "JPEG": saved(Image.fromarray(sample_image()), "JPEG"),
    "progressive JPEG": saved(Image.fromarray(sample_image()), "JPEG", progressive=True),
    "JPEG with restarts": cv2.imencode(".jpg", sample_image(), [cv2.IMWRITE_JPEG_RST_INTERVAL, 1])[
        1
    ].tobytes(),
    "grey JPEG": saved(Image.fromarray(sample_image()).convert("L"), "JPEG"),
    "BMP": saved(Image.fromarray(sample_image()), "BMP"),
    "WebP": saved(Image.fromarray(sample_image()), "WEBP"),
    "lossless WebP": saved(Image.fromarray(sample_image()), "WEBP", lossless=True),
    "TIFF": saved(Image.fromarray(sample_image()), "TIFF"),
    "LZW TIFF": saved(Image.fromarray(sample_image()), "TIFF", compression="tiff_lzw"),
    "PPM": saved(Image.fromarray(sample_image()), "PPM"),
}


@pytest.mark.parametrize("kind", ENCODED)
def test_a_whole_file_is_read(kind: str) -> None:
    assert decode_image(ENCODED[kind]).shape == (24, 32, 3)


@pytest.mark.parametrize("kind", ENCODED)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_cut_off_file_is_refused(kind: str, data: st.DataObject) -> None:
    whole = ENCODED[kind]
    length = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(DataError):
        decode_image(whole[:length])


@pytest.mark.parametrize("kind", [kind for kind in ENCODED if "JPEG" in kind or "PNG" in kind])
def test_the_end_is_found_without_the_decoder(kind: str) -> None:
    whole = ENCODED[kind]
    assert not is_cut_off(whole)
    assert not is_cut_off(whole + bytes(5000)), "padding behind the end is harmless"
    signature = 8 if "PNG" in kind else 2
    assert all(is_cut_off(whole[:length]) for length in range(signature, len(whole)))


def with_thumbnail(jpeg: bytes, thumbnail: bytes) -> bytes:
    segment = b"Exif\0\0" + thumbnail
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def test_a_jpeg_cut_behind_its_thumbnail_is_refused() -> None:
    thumbnail = saved(Image.fromarray(sample_image(8, 8)), "JPEG")
    whole = with_thumbnail(ENCODED["JPEG"], thumbnail)
    assert decode_image(whole).shape == (24, 32, 3)
    assert b"\xff\xd9" in whole[: len(thumbnail) + 20]
    for length in range(len(thumbnail) + 12, len(whole), 7):
        assert is_cut_off(whole[:length])


def test_a_png_whose_pixels_spell_the_end_is_refused() -> None:
    whole = ENCODED["PNG"]
    start = whole.index(b"IDAT")
    faked = whole[: start + 20] + b"IEND" + whole[start + 24 : -12]
    assert is_cut_off(faked)


@pytest.mark.parametrize("data", [b"", b"\0", b"no image at all", b"\xff\xd8", b"BM", b"RIFF"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match=r"belt\.png"):
        decode_image(data, name="belt.png")


@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_arbitrary_bytes_never_raise_anything_else(data: bytes) -> None:
    for prefix in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF\0\0\0\0WEBP"):
        with pytest.raises(DataError):
            decode_image(prefix + data)


# --- files ---


@pytest.mark.parametrize("name", ["Prüfbild ß.png", "部品 01.png", "a'b\"c.png", "no suffix"])
def test_any_file_name_is_read(tmp_path: Path, name: str) -> None:
    image = sample_image()
    (tmp_path / name).write_bytes(encoded(image, ".png"))
    np.testing.assert_array_equal(read_image(tmp_path / name), image)
    np.testing.assert_array_equal(read_image(str(tmp_path / name)), image)


def test_a_wrong_suffix_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(ENCODED["PNG"])
    np.testing.assert_array_equal(read_image(tmp_path / "x.jpg"), sample_image())


def test_missing_empty_and_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    for name, reason in (("none", "no such file"), ("empty", "is empty"), ("folder", "directory")):
        with pytest.raises(DataError, match=f"{name}.png: .*{reason}") as raised:
            read_image(tmp_path / f"{name}.png")
        assert raised.value.remedy


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind this user"
)
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(ENCODED["PNG"])
    path.chmod(0)
    with pytest.raises(DataError, match="ermission"):
        read_image(path)


# --- masks ---


def test_any_pixel_that_is_not_black_is_defective(tmp_path: Path) -> None:
    for dtype, value in ((np.uint8, 1), (np.uint8, 255), (np.uint16, 1), (np.uint16, 65535)):
        mask = np.zeros((5, 7), dtype)
        mask[2, 3] = value
        path = tmp_path / "mask.png"
        path.write_bytes(encoded(mask, ".png"))
        found = read_mask(path)
        assert found.dtype == np.bool_
        np.testing.assert_array_equal(found, mask > 0)


def test_a_coloured_mask_and_an_opaque_one() -> None:
    mask = np.zeros((5, 7, 4), np.uint8)
    mask[..., 3] = 255
    mask[2, 3, 0] = 200
    found = decode_mask(cv2.imencode(".png", mask)[1].tobytes())
    assert found.sum() == 1
    assert found[2, 3]


# --- size ---


def test_shrinking_averages_instead_of_aliasing() -> None:
    fine = np.indices((96, 120)).sum(axis=0) % 2 * 255
    board = np.dstack([fine] * 3).astype(np.uint8)
    for size in ((48, 60), (30, 40), (37, 41), (96, 60), (48, 120)):
        small = resize(board, size).astype(int)
        assert small.shape == (*size, 3)
        assert abs(small.mean() - 127.5) < 1
        assert small.max() - small.min() < 90
    assert np.unique(resize(board, (48, 60))).tolist() in ([127], [128])


@pytest.mark.parametrize("size", [(12, 64), (48, 16)])
def test_mixed_axes_average_the_one_that_shrinks(size: tuple[int, int]) -> None:
    image = sample_image()
    both = {0: (size[0], image.shape[1]), 1: (image.shape[0], size[1])}
    shrinking = 0 if size[0] < image.shape[0] else 1
    expected = resize(resize(image, both[shrinking]), size)
    np.testing.assert_array_equal(resize(image, size), expected)
    stripes = np.zeros((24, 32, 3), np.uint8)
    stripes[(slice(None, None, 2), slice(None))[:: 1 if shrinking == 0 else -1]] = 255
    assert set(np.unique(resize(stripes, size))) <= {127, 128}


def test_growing_is_linear() -> None:
    edge = np.zeros((4, 4, 3), np.uint8)
    edge[:, 2:] = 200
    row = resize(edge, (4, 16))[0, :, 0].astype(int)
    assert (np.diff(row) >= 0).all()
    assert len(np.unique(row)) > 2
    np.testing.assert_array_equal(resize(edge, (8, 8)), cv2.resize(edge, (8, 8)))


def test_same_size_is_left_alone() -> None:
    image = sample_image()
    assert resize(image, (24, 32)) is image


def test_one_axis_stays() -> None:
    image = sample_image()
    small = resize(image, (24, 16)).astype(float)
    np.testing.assert_allclose(small, image.reshape(24, 16, 2, 3).mean(axis=2), atol=0.51)


SIDES = st.integers(1, 40)


@given(value=st.integers(0, 255), old=st.tuples(SIDES, SIDES), new=st.tuples(SIDES, SIDES))
@settings(max_examples=150, deadline=None)
def test_a_constant_image_stays_constant(
    value: int, old: tuple[int, int], new: tuple[int, int]
) -> None:
    resized = resize(np.full((*old, 3), value, np.uint8), new)
    assert resized.shape == (*new, 3)
    assert np.unique(resized).tolist() == [value]


@given(seed=st.integers(0, 99), old=st.tuples(SIDES, SIDES), new=st.tuples(SIDES, SIDES))
@settings(max_examples=150, deadline=None)
def test_no_value_leaves_the_range_of_the_input(
    seed: int, old: tuple[int, int], new: tuple[int, int]
) -> None:
    image = np.random.default_rng(seed).integers(60, 200, (*old, 3), dtype=np.uint8)
    resized = resize(image, new)
    assert resized.dtype == np.uint8
    assert image.min() <= resized.min() <= resized.max() <= image.max()


def test_rows_and_columns_are_not_confused() -> None:
    image = np.zeros((10, 20, 3), np.uint8)
    image[:5] = 255
    small = resize(image, (4, 6))
    assert small.shape == (4, 6, 3)
    assert (small[:2] == 255).all()
    assert (small[2:] == 0).all()
