"""The embedded backbone's stem, and what its training rests on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from generalad.config import PRESETS
from generalad.errors import ConfigError
from generalad.model.embedded_vit import CHANNELS, GradientStem, build_embedded
from generalad.model.weights import load_backbone
from tools.embedded_backbone.objective import Labels, deviation, nearest, spread
from tools.embedded_backbone.whiten import RIDGE, whitening


def stem() -> GradientStem:
    return GradientStem(img_size=(64, 96), embed_dim=8).eval()


def test_any_size_in_multiples_of_sixteen_is_taken() -> None:
    config = PRESETS["embedded"].replaced({"image_size": [64, 96]})
    backbone, _, _ = load_backbone(config)
    assert backbone.grid == (4, 6)
    assert backbone(torch.zeros(2, 3, 64, 96)).shape == (2, 24, backbone.dim)
    with pytest.raises(ConfigError, match="height 100 is not a multiple") as caught:
        load_backbone(config.replaced({"image_size": [100, 96]}))
    assert caught.value.remedy == "use 96"


def test_features_do_not_depend_on_the_place() -> None:
    """Far from the border, an image moved by one patch has the features moved by one patch."""
    backbone = build_embedded(width=64, depth=1, heads=1, features=16, image_size=(160, 160)).eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, 160, 160, generator=generator)
    stem = backbone.patch_embed
    with torch.inference_mode():
        here = stem(images).view(10, 10, -1)
        there = stem(images.roll((16, 16), dims=(2, 3))).view(10, 10, -1)
    torch.testing.assert_close(there[5:8, 5:8], here[4:7, 4:7])


@pytest.mark.parametrize("direction", range(8))
def test_a_slope_is_found_in_its_direction(direction: int) -> None:
    angle = 2 * math.pi * direction / 8
    y, x = np.mgrid[:64, :96].astype(np.float32)
    ramp = torch.from_numpy(0.01 * (math.cos(angle) * x + math.sin(angle) * y))
    cells = stem().describe(ramp.expand(1, 3, 64, 96))
    assert cells.shape == (1, CHANNELS, 8, 12)
    for first in (0, 9):  # fine and coarse
        assert int(cells[0, first : first + 8, 4, 6].argmax()) == direction


def test_a_flat_image_has_no_direction() -> None:
    cells = stem().describe(torch.full((1, 3, 64, 96), 0.7))
    torch.testing.assert_close(cells[:, :8], torch.zeros(1, 8, 8, 12))
    torch.testing.assert_close(cells[:, 8], torch.full((1, 8, 12), math.log(0.02)))
    torch.testing.assert_close(cells[:, 18:], torch.full((1, 3, 8, 12), 0.7))


def test_autocast_leaves_the_gradients_alone() -> None:
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1)) * 0.02
    seen: list[Tensor] = []
    one = stem()
    one.norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.inference_mode():
        one(images)
        with torch.autocast("cpu", torch.bfloat16):
            one(images)
    assert torch.equal(seen[0], seen[1])


def test_deviation_is_the_mahalanobis_length() -> None:
    features = torch.randn(5, 9, 3, generator=torch.Generator().manual_seed(0))
    found = deviation(features, 3, aligned=True)
    residual = torch.stack(
        [features[k] - features[[i for i in range(3) if i != k]].mean(0) for k in range(5)]
    )
    own = residual[:3].flatten(0, 1)
    covariance = own.T @ own / len(own)
    covariance += (0.1 * covariance.diagonal().mean() + 1e-3) * torch.eye(3)
    expected = torch.einsum("knd,de,kne->kn", residual, covariance.inverse(), residual) / 3
    torch.testing.assert_close(found, expected)


def test_nearest_skips_the_own_image_and_far_places() -> None:
    features = torch.zeros(3, 9, 2)
    features[0, :, 0] = torch.arange(9.0)
    features[1] = features[0] + 0.1
    features[2] = features[0].flip(0)
    free, fixed = nearest(features, 2, aligned=False), nearest(features, 2, aligned=True)
    torch.testing.assert_close(free[0], torch.full((9,), 0.1**2), atol=1e-6, rtol=0)
    torch.testing.assert_close(free[2], torch.zeros(9))
    # The window ends in the middle of the image, at place 4 of the one that lies 0.1 higher.
    assert float(fixed[2, 0]) == pytest.approx(((8 - 4.1) ** 2 + 0.1**2) / 2)


def test_labels_ignore_what_is_neither() -> None:
    masks = torch.zeros(1, 2, 64, 64, dtype=torch.bool)
    masks[0, 1, :3, :3] = True  # 9 pixels: disturbed
    masks[0, 1, 40, 40:42] = True  # 2 pixels: neither
    labels = Labels(masks)
    assert labels.images.tolist() == [[0.0, 1.0]]
    assert labels.patches.sum() == 1
    weights = labels.weights.view(2, 4, 4)
    assert bool((weights[0] == 1).all())
    assert weights[1, 0, 0] == 3
    assert weights[1, 2, 2] == 0
    assert weights[1, 0, 1] == weights[1, 3, 3] == 0.25


def test_whitened_features_have_unit_variance_everywhere() -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    covariance = mix @ mix.T
    matrix = whitening(covariance)
    ridge = RIDGE * covariance.diagonal().mean()
    torch.testing.assert_close(
        matrix @ (covariance + ridge * torch.eye(4)) @ matrix.T, torch.eye(4, dtype=torch.float64)
    )


def test_spread_is_zero_for_white_features_only() -> None:
    white = torch.cat([torch.eye(4), -torch.eye(4)]) * 2
    assert float(spread(white)) == pytest.approx(0)
    assert float(spread(white * 2)) > 1
