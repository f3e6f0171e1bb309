"""A JPEG that lost pixels though its end is there is refused; one that is grey there is read."""

from __future__ import annotations

import io
import struct
from typing import Any

import cv2
import numpy as np
import pytest
from encoders import pillow
from numpy.typing import NDArray
from PIL import Image

from generalad.errors import DataError
from generalad.preprocess import decode_image

RNG = np.random.default_rng(0)
PHOTO = np.asarray(
    cv2.resize(
        RNG.integers(0, 256, (40, 60, 3), np.uint8), (300, 200), interpolation=cv2.INTER_CUBIC
    ),
    np.uint8,
)
KINDS: dict[str, dict[str, Any]] = {
    "4:2:0": {"quality": 85, "subsampling": 2},
    "4:2:2": {"quality": 85, "subsampling": 1},
    "4:4:4": {"quality": 98, "subsampling": 0},
    "optimised": {"quality": 85, "optimize": True},
    "progressive": {"quality": 85, "progressive": True},
    "restarts": {"quality": 90, "restart_marker_rows": 1},
    "a restart each block": {"quality": 90, "restart_marker_blocks": 1},
}


def jpeg(image: NDArray[np.uint8], **options: Any) -> bytes:
    return pillow(image, "JPEG", **options)


def without(data: bytes, begin: float, end: float) -> bytes:
    """Without a piece of its scan; its own end stays."""
    scan = data.rindex(b"\xff\xda") + 14
    first, last = (scan + int((len(data) - 2 - scan) * share) for share in (begin, end))
    return data[:first].rstrip(b"\xff") + data[last:]


@pytest.mark.parametrize("piece", [(0.1, 1.0), (0.5, 1.0), (0.9, 1.0), (0.3, 0.5), (0.0, 0.3)])
@pytest.mark.parametrize(
    "kind", sorted(set(KINDS) - {"progressive"})
)  # each scan is of all the image
def test_a_lost_piece_is_noticed(kind: str, piece: tuple[float, float]) -> None:
    whole = jpeg(PHOTO, **KINDS[kind])
    assert decode_image(whole).shape == PHOTO.shape
    with pytest.raises(DataError, match=r"belt: .*damaged"):
        decode_image(without(whole, *piece), name="belt")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_also_where_the_image_is_turned(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(PHOTO, exif=exif, **KINDS["4:2:0"])
    with pytest.raises(DataError, match="pixels at the end are missing"):
        decode_image(without(data, 0.6, 1.0))


def test_a_header_that_names_more_rows_than_there_are() -> None:
    data = jpeg(PHOTO, **KINDS["4:2:0"])
    place = data.index(b"\xff\xc0") + 5
    with pytest.raises(DataError, match="pixels at the end are missing"):
        decode_image(data[:place] + struct.pack(">H", 300) + data[place + 2 :])


@pytest.mark.parametrize("rows", [1, 7, 8, 16, 33, 100, 199, 200])
@pytest.mark.parametrize("kind", KINDS)
def test_grey_that_was_saved_is_read(kind: str, rows: int) -> None:
    image = PHOTO.copy()
    image[-rows:] = 128
    for side in (image, np.ascontiguousarray(image.transpose(1, 0, 2)), image[:, :37]):
        data = jpeg(side, **KINDS[kind])
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.abs(decode_image(data).astype(int) - expected).max() <= 5


def test_a_grey_camera() -> None:
    data = jpeg(PHOTO[..., 0], quality=90)
    assert decode_image(data).shape == PHOTO.shape
    with pytest.raises(DataError, match="pixels at the end are missing"):
        decode_image(without(data, 0.4, 0.7))
    image = PHOTO[..., 0].copy()
    image[60:] = 128
    assert decode_image(jpeg(image, quality=90)).shape == PHOTO.shape


def test_a_marker_more_than_needed_is_nothing() -> None:
    data = jpeg(PHOTO, quality=90, restart_marker_rows=1)
    rows = -(-PHOTO.shape[0] // 16)
    one_more = data[:-2] + bytes([0xFF, 0xD0 + (rows - 1) % 8]) + data[-2:]
    np.testing.assert_array_equal(decode_image(one_more), decode_image(data))
