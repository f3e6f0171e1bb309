"""Pixel formats: exact values, from bytes that are packed here by the letter of the standard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from generalad.runtime.cameras.camera import DamagedFrame
from generalad.runtime.cameras.industrial.pixel_formats import (
    KNOWN,
    PixelFormat,
    named,
    number_of,
    pixel_format,
    to_rgb,
    unread,
)

PAGE = Path(__file__).parents[3] / "docs" / "cameras.md"
SIZE = (6, 10)  # (height, width): no multiple of what a group of packed pixels holds


def stored(values: NDArray[np.int64], form: PixelFormat) -> NDArray[np.uint8]:
    """The bytes of values in order, made in another way than they are read."""
    flat = [int(value) for value in values.reshape(-1)]
    if form.storage == "p":
        bits = "".join(format(value, f"0{form.bits}b")[::-1] for value in flat)
        bits += "0" * (-len(bits) % 8)
        found = [int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8)]
    elif form.storage == "Packed":
        low = form.bits - 8
        found = []
        for at in range(0, len(flat), 2):
            first, second = flat[at], (flat[at + 1] if at + 1 < len(flat) else 0)
            shared = first % 2**low + (second % 2**low << 4)
            found += [first >> low, shared, second >> low]
    elif form.bits == 8:
        found = flat
    else:
        found = [part for value in flat for part in (value % 256, value // 256)]
    return np.array(found, np.uint8)


def scaled(values: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Rounded to the nearest, in whole numbers; there are no ties, because 2^bits - 1 is odd."""
    full = 2**bits - 1
    return np.asarray((values * 510 + full) // (2 * full))


def random_values(form: PixelFormat) -> NDArray[np.int64]:
    shape = SIZE if form.channels == 1 else (*SIZE, form.channels)
    values = np.random.default_rng(form.bits).integers(0, 2**form.bits, shape)
    values[0, 0], values[-1, -1] = 0, 2**form.bits - 1
    return values


def interpolated(values: NDArray[np.int64], pattern: str) -> NDArray[np.int64]:
    """Bilinear: missing colours are the mean of the two or four nearest; without the border."""
    height, width = values.shape
    # The pattern is the first two letters of the first row; green stands on a diagonal.
    first, second = pattern[0], pattern[1]
    third = "G" if first != "G" else {"R": "B", "B": "R"}[second]
    fourth = "G" if first == "G" else {"R": "B", "B": "R"}[first]
    colours = {(0, 0): first, (0, 1): second, (1, 0): third, (1, 1): fourth}
    found = np.zeros((height - 2, width - 2, 3), np.int64)
    for row in range(1, height - 1):
        for column in range(1, width - 1):
            for index, colour in enumerate("RGB"):
                near = [
                    (row + down, column + right)
                    for down in (-1, 0, 1)
                    for right in (-1, 0, 1)
                    if colours[(row + down) % 2, (column + right) % 2] == colour
                ]
                if (row, column) in near:
                    near = [(row, column)]
                elif colour == "G":
                    near = [place for place in near if row == place[0] or column == place[1]]
                total = sum(int(values[place]) for place in near)
                found[row - 1, column - 1, index] = (total + len(near) // 2) // len(near)
    return found


@pytest.mark.parametrize("name", KNOWN)
def test_exact_values_of_every_format(name: str) -> None:
    form = named(name)
    assert pixel_format(number_of(name)) == form
    values = random_values(form)
    found = to_rgb(stored(values, form), SIZE[1], SIZE[0], form)
    assert found.dtype == np.uint8 and found.shape == (*SIZE, 3)
    if form.values == "Mono":
        expected = scaled(values, form.bits)[..., None].repeat(3, axis=2)
    elif form.values.startswith("Bayer"):
        inner = interpolated(values, form.values.removeprefix("Bayer"))
        expected = np.pad(scaled(inner, form.bits), ((1, 1), (1, 1), (0, 0)), "edge")
    else:
        order = [form.values.index(colour) for colour in "RGB"]
        expected = scaled(values, form.bits)[..., order]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_every_value_is_rounded_to_the_nearest(bits: int) -> None:
    values = np.arange(2**bits).reshape(2 ** (bits // 2), -1)
    form = named(f"Mono{bits}")
    found = to_rgb(stored(values, form), values.shape[1], values.shape[0], form)
    np.testing.assert_array_equal(found[..., 0], scaled(values, bits))


def test_bits_that_a_format_does_not_use_are_full_light() -> None:
    form = named("Mono12")
    assert to_rgb(np.array([0xFF, 0xFF], np.uint8), 1, 1, form)[0, 0, 0] == 255


@pytest.mark.parametrize("name", ["Mono8", "Mono12", "Mono12p", "Mono10Packed", "RGB8"])
def test_padding_behind_rows_is_left_out(name: str) -> None:
    form = named(name)
    values = random_values(form)
    rows = [
        np.concatenate([stored(row, form)[: form.row_bytes(SIZE[1])], [77] * 3]) for row in values
    ]
    data = np.concatenate(rows).astype(np.uint8)[:-3]  # the last row may come without
    padded = to_rgb(data, SIZE[1], SIZE[0], form, padding=3)
    np.testing.assert_array_equal(padded, to_rgb(stored(values, form), SIZE[1], SIZE[0], form))


def test_an_image_keeps_nothing_of_its_buffer() -> None:
    for name in ("Mono8", "RGB8", "BGR8", "RGBa8", "BayerRG8"):
        form = named(name)
        data = stored(random_values(form), form)
        image = to_rgb(data, SIZE[1], SIZE[0], form)
        before = image.copy()
        data[:] = 0
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("name", "width", "height", "size", "words"),
    [
        ("Mono8", 4, 4, 15, "15 bytes, expected 16 for 4 x 4 pixels"),
        ("Mono12p", 3, 3, 13, "13 bytes, expected 14"),
        ("Mono8", 0, 4, 16, "an image of 0 x 4 pixels"),
        ("BayerRG8", 2, 8, 16, "too few for a Bayer pattern"),
    ],
)
def test_too_few_bytes_are_a_damaged_frame(
    name: str, width: int, height: int, size: int, words: str
) -> None:
    with pytest.raises(DamagedFrame, match=words):
        to_rgb(np.zeros(size, np.uint8), width, height, named(name))


def test_what_is_not_known_is_refused_by_name() -> None:
    assert pixel_format(0x02100032) is None
    assert unread(0x02100032, "YUV422_8").startswith(
        "pixel format YUV422_8 (0x02100032) is not read"
    )
    assert unread(-0x7FF00000, "").startswith("pixel format of unknown name (0x80100000)")


def test_the_documentation_names_every_format() -> None:
    text = PAGE.read_text("utf-8")
    assert [name for name in KNOWN if f"`{name}`" not in text] == []
