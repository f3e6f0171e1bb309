"""Images of files that do not look like those that a detector was calibrated on are said once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import MakeArtifact, WriteImage
from image_helpers import Image, part, reference_of

import generalad
from generalad.data.known_images import FilesOfTest
from generalad.runtime import infer

SIZE = (64, 64)


def resized(image: Image, size: tuple[int, int]) -> Image:
    return np.asarray(cv2.resize(image, size), np.uint8)


LIKE: dict[str, Callable[[Image], Image]] = {
    "the same": lambda image: image,
    "larger": partial(resized, size=(200, 200)),
    "wider": partial(resized, size=(96, 64)),
    "much smaller": partial(resized, size=(20, 20)),
    "dark": lambda image: np.asarray(image // 5, np.uint8),
    "without colour": lambda image: np.repeat(image[..., :1], 3, axis=2),
}
SAID = {
    "wider": "5 of 5 images are of another format than those of the calibration, so that scores"
    " say little: 96 x 64, width / height is 1.50, at calibration 1.00 to 1.00 → crop them",
    "much smaller": "20 x 20, less than half of 64 x 64 at calibration",
    "dark": "5 of 5 images do not look like those of the calibration, so that scores say"
    " little: black, brightness",
    "without colour": "colour, saturation",
}


def parts(count: int, seed: int) -> list[Image]:
    rng = np.random.default_rng(seed)
    coloured = [part(rng, size=SIZE) for _ in range(count)]
    return [np.asarray(image * (1.0, 0.8, 0.6), np.uint8) for image in coloured]


@pytest.mark.parametrize("kind", LIKE)
def test_what_is_said_of_a_folder(
    kind: str, tmp_path: Path, make_artifact: MakeArtifact, write_image: WriteImage
) -> None:
    known = reference_of(parts(20, 1), image_size=SIZE)
    artifact = make_artifact(tmp_path, reference=known)
    for number, image in enumerate(parts(5, 2)):
        write_image(tmp_path / "new" / f"{number}.png", LIKE[kind](image))
    said: list[str] = []
    summary = infer(artifact, tmp_path / "new", on_problem=said.append)
    assert summary.processed == 5
    assert len(said) == (kind in SAID)
    assert all(f"{tmp_path}/new: " in one and SAID[kind] in one for one in said)


def test_a_few_odd_ones_are_parts(
    tmp_path: Path, make_artifact: MakeArtifact, write_image: WriteImage
) -> None:
    artifact = make_artifact(tmp_path, reference=reference_of(parts(20, 1), image_size=SIZE))
    for number, image in enumerate(parts(5, 2)):
        dark = LIKE["dark"](image) if number < 2 else image
        write_image(tmp_path / "new" / f"{number}.png", dark)
    said: list[str] = []
    infer(artifact, tmp_path / "new", on_problem=said.append)
    assert said == []


def test_of_test_images_too(tmp_path: Path) -> None:
    known = reference_of(parts(20, 1), image_size=SIZE)
    files = FilesOfTest()
    files.sizes = {tmp_path / "0.png": SIZE, tmp_path / "1.png": (64, 96)}
    assert files.in_another_format(known).startswith(
        "1 of 2 test images are of another format: 96 x 64, width / height is 1.50"
    )
    del files.sizes[tmp_path / "1.png"]
    assert files.in_another_format(known) == files.in_another_format(None) == ""


@pytest.mark.parametrize("kind", LIKE)
def test_each_image_says_it_wherever_it_is_scored(
    kind: str, tmp_path: Path, make_artifact: MakeArtifact, write_image: WriteImage
) -> None:
    known = reference_of(parts(20, 1), image_size=SIZE)
    artifact = make_artifact(tmp_path, reference=known)
    path = write_image(tmp_path / "new" / "0.png", LIKE[kind](parts(1, 2)[0]))
    lines: list[dict[str, Any]] = []
    infer(
        artifact, path, on_result=lambda one: lines.append(one.to_dict()), on_problem=lambda _: None
    )
    with generalad.load(artifact) as model:
        found = model.predict(path)
        (many,) = model.predict([path])
    assert (found.fault is not None) == (kind in SAID)
    assert found.fault == many.fault == found.to_dict()["fault"] == lines[0]["fault"]
    assert found.score == many.score == lines[0]["score"]  # said, not refused
    assert ("; strange: " in repr(found)) == (kind in SAID)


def test_a_later_part_of_a_folder_is_said(
    tmp_path: Path, make_artifact: MakeArtifact, write_image: WriteImage
) -> None:
    artifact = make_artifact(tmp_path, reference=reference_of(parts(20, 1), image_size=SIZE))
    for number, image in enumerate(parts(50, 2)):
        dark = LIKE["dark"](image) if number >= 35 else image
        write_image(tmp_path / "new" / f"{number:02}.png", dark)
    said: list[str] = []
    infer(artifact, tmp_path / "new", on_problem=said.append)
    assert [": 15 of 50 images do not look like those" in one for one in said] == [True]
