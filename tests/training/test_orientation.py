"""Whether parts lie in any orientation: told from good images, and only where it is so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch

from generalad.config import PRESETS
from generalad.data.dataset import open_dataset
from generalad.files import sha256_of_bytes
from generalad.model.backbone import wrap
from generalad.progress import no_progress
from generalad.synth.views import ORIENTATIONS, Views, oriented
from generalad.training import orientation
from generalad.training.material import Material
from generalad.training.orientation import QuarterTurns, any_orientation

COUNT = 24


def bracket(height: int, width: int, angle: float, rng: np.random.Generator) -> np.ndarray:
    """An L on a plain ground, turned about its centre."""
    image = np.full((height, width, 3), 60, np.uint8)
    centre = ((width - 1) / 2, (height - 1) / 2)
    left, top = round(centre[0] - 18), round(centre[1] - 18)
    cv2.rectangle(image, (left, top), (left + 9, top + 36), (200, 200, 190), -1)
    cv2.rectangle(image, (left, top + 27), (left + 27, top + 36), (200, 170, 120), -1)
    matrix = cv2.getRotationMatrix2D(centre, angle, 1.0)
    turned = cv2.warpAffine(image, matrix, (width, height), borderValue=(60, 60, 60))
    return np.asarray(np.clip(turned + rng.normal(0, 3, turned.shape), 0, 255), np.uint8)


def material(folder: Path, height: int, width: int, *, turned: bool) -> Material:
    """Of `COUNT` good images, with a backbone of random weights."""
    rng = np.random.default_rng(1)
    (folder / "parts").mkdir()
    for number in range(COUNT):
        image = bracket(height, width, rng.uniform(0, 360) if turned else 0.0, rng)
        cv2.imwrite(str(folder / "parts" / f"{number}.png"), image)
    samples = open_dataset(folder / "parts").train
    torch.manual_seed(0)
    config = PRESETS["edge"].replaced({"image_size": [height, width], "memory_size": 50})
    body = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    return Material(
        samples,
        samples,
        {sample.path: sha256_of_bytes(sample.path.read_bytes()) for sample in samples},
        wrap(body, (2, 3, 4), (height, width), packed=True),
        config,
        weights_hash="0",
        device=torch.device("cpu"),
        folder=folder / "cache",
        budget=None,
        progress=no_progress,
        kept={},
    )


def asked(parts: Material, groups: Sequence[int]) -> bool:
    return any_orientation(parts.new_head(), parts, groups)


@pytest.mark.parametrize("shape", [(96, 96), (64, 96)])
@pytest.mark.parametrize("turned", [False, True])
def test_parts_that_lie_turned_are_told(
    tmp_path: Path, shape: tuple[int, int], turned: bool
) -> None:
    found = asked(material(tmp_path, *shape, turned=turned), range(COUNT))
    assert found == turned


def test_it_is_asked_of_neither_too_few_nor_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = material(tmp_path, 64, 64, turned=True)
    assert not asked(parts, [number % 5 for number in range(COUNT)])
    monkeypatch.setattr(orientation, "MANY", COUNT - 1)
    assert not asked(parts, range(COUNT))
    monkeypatch.setattr(orientation, "MANY", COUNT)
    assert asked(parts, range(COUNT))


def test_quarter_turns_are_exact_where_the_image_is_square() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    turns = QuarterTurns(2)
    found = [turns(index, lambda i: images[i])[0] for index in range(turns.count)]
    for image, left, right in zip(images, found[:2], found[2:], strict=True):
        assert np.array_equal(np.rot90(left, -1), image)
        assert np.array_equal(np.rot90(right), image)


@pytest.mark.parametrize(("shape", "different"), [((6, 6, 3), 8), ((6, 9, 3), 4)])
def test_orientations_keep_shape_and_pixels(shape: tuple[int, int, int], different: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = [oriented(image, number) for number in range(ORIENTATIONS)]
    assert {one.shape for one in found} == {shape}
    assert len({one.tobytes() for one in found}) == different
    assert all(np.array_equal(np.sort(one, axis=None), np.sort(image, axis=None)) for one in found)


def test_views_are_turned_only_if_they_are_to_be() -> None:
    image = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[:, None, None], 64, axis=1)
    image = np.repeat(image, 3, axis=2)  # dark above, bright below
    dark = {
        turned: [
            int(np.argmin([part.mean() for part in (one[:8], one[-8:], one[:, :8], one[:, -8:])]))
            for one in (Views(1, 12, 0, turned=turned)(n, lambda _: image)[0] for n in range(12))
        ]
        for turned in (False, True)
    }
    assert set(dark[False]) == {0} and len(set(dark[True])) > 2
    assert Views(1, 12, 0).identity() != Views(1, 12, 0, turned=True).identity()
