"""Few good images that are not like most of them are said; a mix of products is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import WriteImage
from image_helpers import Image, blurred, part

from generalad.data.check import check_dataset
from generalad.data.dataset import open_dataset

ODD: dict[str, Callable[[Image], Image]] = {
    "brightness": lambda image: np.asarray(image // 6, np.uint8),
    "brightness, inverted": lambda image: np.asarray(255 - image, np.uint8),
    "colour": lambda image: image[..., ::-1],
    "sharpness": lambda image: blurred(image, 3.0),
}


def coloured(seed: int) -> Image:
    image = part(np.random.default_rng(seed), size=(96, 96))
    return np.asarray(image * (0.9, 0.75, 0.5), np.uint8)


def warnings_of(root: Path) -> dict[str, int]:
    found = check_dataset(open_dataset(root)).problems
    return {f"{one.kind}: {one.detail}": len(one.paths) for one in found if one.severity != "info"}


@pytest.mark.parametrize("kind", ODD)
def test_odd_ones_among_good_images(kind: str, tmp_path: Path, write_image: WriteImage) -> None:
    for number in range(24):
        image = coloured(number)
        odd = number % 6 == 0
        write_image(tmp_path / f"{number:02}.png", ODD[kind](image) if odd else image)
    ((said, count),) = warnings_of(tmp_path).items()
    assert said.startswith(f"unlike most: 4 good images of 24 far from the others in {kind[:6]}")
    assert count == 4


def test_exchanged_channels_of_parts_that_are_nearly_grey(
    tmp_path: Path, write_image: WriteImage
) -> None:
    for number in range(24):
        image = np.asarray(coloured(number) / (0.9, 0.75, 0.5) * (0.97, 1.0, 0.9), np.uint8)
        write_image(tmp_path / f"{number:02}.png", image[..., ::-1] if number % 8 == 0 else image)
    ((said, count),) = warnings_of(tmp_path).items()
    assert "far from the others in colour: red and blue look exchanged" in said and count == 3


def test_a_product_of_its_own_is_not_odd(tmp_path: Path, write_image: WriteImage) -> None:
    for number in range(24):
        image = coloured(number)
        write_image(tmp_path / f"{number:02}.png", image[..., ::-1] if number % 3 == 0 else image)
    assert warnings_of(tmp_path) == {}


def test_few_images_say_not_what_is_usual(tmp_path: Path, write_image: WriteImage) -> None:
    for number in range(7):
        image = coloured(number)
        write_image(tmp_path / f"{number}.png", image if number else ODD["brightness"](image))
    assert warnings_of(tmp_path) == {}


@pytest.mark.parametrize(
    ("size", "said"),
    [((96, 96), False), ((96, 104), False), ((64, 64), False), ((96, 128), True), ((40, 40), True)],
)
def test_other_shapes_and_scales(
    size: tuple[int, int],
    said: bool,
    tmp_path: Path,
    write_image: WriteImage,
) -> None:
    for number in range(13):
        image = coloured(number)
        if number % 4 == 0:
            image = np.asarray(
                cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), np.uint8
            )
        write_image(tmp_path / f"{number:02}.png", image)
    found = [one for one in warnings_of(tmp_path) if one.startswith("mixed formats")]
    assert bool(found) == said
    assert not found or "of another shape or scale than 96x96, as most have" in found[0]


def test_parts_that_are_cropped_in_many_ways(tmp_path: Path, write_image: WriteImage) -> None:
    for number in range(13):
        write_image(tmp_path / f"{number:02}.png", coloured(number)[:, : 30 + 5 * number])
    assert not any(one.startswith("mixed formats") for one in warnings_of(tmp_path))
