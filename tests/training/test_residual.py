"""The residual head: learns on a processor in seconds, and finds what nobody drew."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray

from generalad.config import PRESETS, Config
from generalad.errors import ConfigError
from generalad.model.backbone import Backbone, LevelsBackbone, wrap
from generalad.model.heads import ResidualHead, build_head
from generalad.model.levels import pack, unpack
from generalad.training.cache import Features
from generalad.training.methods import judged
from generalad.training.residual import (
    Lessons,
    fit_discriminators,
    fit_statistics,
    inputs_of,
    patch_labels,
    some_of,
)
from generalad.training.synthetic_defects import DRAW, DrawnDefects, with_defect

SIZE = (64, 96)


def config(**changes: object) -> Config:
    changes = {"image_size": list(SIZE), "memory_size": 50, "members": 1, **changes}
    return PRESETS["edge"].replaced(changes)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    body = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    return wrap(body, (2, 3, 4), SIZE, packed=True)


def test_levels_are_packed_without_loss() -> None:
    levels = [torch.randn(2, 5, 8, 12), torch.randn(2, 7, 4, 6), torch.randn(2, 8, 2, 3)]
    packed = pack(levels)
    assert packed.shape == (2, 24, 4 * 5 + 7 + 2)
    for found, expected in zip(unpack(packed, (5, 7, 8), (4, 6)), levels, strict=True):
        assert torch.equal(found, expected)


def test_three_levels_of_a_cnn_lie_on_the_grid_of_the_second(backbone: Backbone) -> None:
    assert isinstance(backbone, LevelsBackbone)
    assert (backbone.grid, backbone.widths) == ((4, 6), (40, 112, 192))
    assert backbone(torch.zeros(2, 3, *SIZE)).shape == (2, 24, backbone.dim)


def test_a_size_that_does_not_halve_is_refused() -> None:
    body = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    with pytest.raises(ConfigError, match="width 100 is not a multiple of 32"):
        wrap(body, (2, 3, 4), (64, 100), packed=True)


def test_the_head_needs_packed_levels() -> None:
    with pytest.raises(ConfigError, match="three levels of a CNN"):
        ResidualHead(config(), (4, 4), 64)


def features(backbone: Backbone, images: NDArray[np.uint8]) -> NDArray[np.float16]:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        return np.asarray(backbone(pixels).half().numpy())


def cached(values: NDArray[np.float16], shares: NDArray[np.float16] | None = None) -> Features:
    return Features(values, None, in_memory=True, computed=0, shares=shares)


def fit_residual(
    head: ResidualHead, good: Features, drawn: Features, settings: Config
) -> list[float]:
    """Everything from the same images; `CrossFit` takes them apart."""
    fit_statistics(head, [good], settings.seed)
    (inputs, counted), (others, counts) = (inputs_of(head, [part]) for part in (good, drawn))
    assert drawn.shares is not None
    labels, weights = patch_labels(torch.from_numpy(drawn.shares).float().reshape(counts.shape))
    lessons = Lessons(inputs, counted, others, labels, weights * counts)
    numbers = np.arange(len(inputs)), np.arange(len(others))
    return fit_discriminators(head, lessons, settings, good=numbers[0], drawn=numbers[1])


def good_images(count: int, seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    stripes = 100 + 60 * np.sin(np.arange(SIZE[1]) / 5)[None, :, None]
    images = stripes + rng.normal(0, 5, (count, *SIZE, 1)) + np.array([0, 10, 20])
    return np.asarray(np.clip(images, 0, 255), np.uint8)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generalad.training.residual.STEPS", 60)


@pytest.mark.usefixtures("short")
def test_it_learns_to_tell_good_from_drawn(backbone: Backbone) -> None:
    train, held_out, test = (good_images(n, seed) for seed, n in enumerate((24, 12, 12)))
    drawing = DrawnDefects(len(train), 32, seed=0)
    drawn, masks = zip(*(drawing(i, lambda j: train[j]) for i in range(32)), strict=True)
    shares = np.stack([m.reshape(4, 16, 6, 16).mean(axis=(1, 3)).ravel() for m in masks])
    head = build_head(config(), backbone)
    assert isinstance(head, ResidualHead)
    values = [features(backbone, part) for part in (train, np.stack(drawn), held_out)]
    settings = config()
    known = cached(values[1], shares.astype(np.float16))
    losses = fit_residual(head, cached(values[0]), known, settings)
    head.fit_scales(judged(head, values[2]))
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    spots = test.copy()
    spots[:, 20:40, 30:50] = 255 - spots[:, 20:40, 30:50]
    with torch.inference_mode():
        normal, spotted = (
            head(torch.from_numpy(features(backbone, part)).float()).amax(dim=1)
            for part in (test, spots)
        )
    assert spotted.min() > normal.max()


def test_only_some_of_very_many_images_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generalad.training.residual.MOST_IMAGES", 5)
    some, again, others = (some_of(20, seed) for seed in (0, 0, 1))
    assert some.sum() == others.sum() == 5
    assert np.array_equal(some, again) and not np.array_equal(some, others)
    assert some_of(5, 0).all()


@pytest.mark.usefixtures("short")
def test_one_seed_gives_one_head(backbone: Backbone) -> None:
    train = features(backbone, good_images(6, 0))
    shares = np.zeros((6, 24), np.float16)
    shares[:, 3] = 1
    heads = []
    for _ in range(2):
        torch.manual_seed(0)
        head = build_head(config(), backbone)
        assert isinstance(head, ResidualHead)
        fit_residual(head, cached(train), cached(train, shares), config())
        heads.append(head.state_dict())
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])


def test_patches_beside_a_defect_are_left_out() -> None:
    shares = torch.zeros(1, 4, 6)
    shares[0, 1, 1], shares[0, 1, 2] = 0.5, 0.01
    labels, weights = patch_labels(shares)
    assert labels.sum() == 1 and labels[0, 1, 1] == 1
    assert weights[0, 1, 1] == 1 and weights[0, 0, 0] == weights[0, 1, 2] == weights[0, 1, 3] == 0
    assert weights[0, 3].min() == 1 and weights[0, :, 5].min() == 1


@pytest.mark.parametrize("kind", sorted(DRAW))
def test_every_kind_of_drawn_defect_changes_what_its_mask_says(kind: str) -> None:
    image, other = good_images(2, 5)
    seen = 0
    for seed in range(8):
        drawn, mask = with_defect(image, other, np.random.default_rng(seed), kinds=(kind,))
        assert drawn.dtype == np.uint8 and drawn.shape == image.shape and mask.shape == SIZE
        far = np.abs(drawn.astype(int) - image).max(axis=2) >= 6
        assert not (far & (mask == 0)).any()
        seen += bool(mask.any())
    assert seen >= 4


def test_drawing_is_determined_by_its_seed() -> None:
    images = good_images(3, 0)
    once, again = (DrawnDefects(3, 4, seed=1)(2, lambda i: images[i]) for _ in range(2))
    assert np.array_equal(once[0], again[0]) and np.array_equal(once[1], again[1])
