"""The detector: discriminator, top-k score, map and smoothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_helpers import body, generalad_head, tiny_config

from generalad.errors import ConfigError
from generalad.model.anomaly_map import AnomalyMap
from generalad.model.backbone import wrap
from generalad.model.detector import Detector
from generalad.model.discriminator import Discriminator


def detector_of(size: tuple[int, int] = (64, 96), **changes: object) -> Detector:
    config = tiny_config(image_size=list(size), **changes)
    model = body(config.backbone, img_size=size, num_classes=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Detector(config, wrap(model, config.layers, size)).eval()


def test_the_discriminator_is_the_paper_s() -> None:
    torch.manual_seed(1)
    ours = Discriminator(patches=6, dim=8, hidden=16, heads=2, blocks=1, dropout=0.0).eval()
    block: Any = ours.blocks[0]
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    theirs.in_proj_weight.data.copy_(block.attention.in_proj.weight)
    theirs.in_proj_bias.data.copy_(torch.randn(24))
    block.attention.in_proj.bias.data.copy_(theirs.in_proj_bias)
    theirs.out_proj.load_state_dict(block.attention.out_proj.state_dict())
    features = torch.randn(3, 6, 8)
    with torch.inference_mode():
        x = features + ours.positions
        x = block.norm(x + theirs(x, x, x, need_weights=False)[0])
        x = x + block.mlp(x)
        expected = (x @ ours.head.weight.T).squeeze(-1)
        found = ours(features)
        ours.train()  # the other form of the attention, without dropout
        again = ours(features)
    assert "head.bias" not in ours.state_dict()
    assert ours.positions.shape == (6, 8)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(again, expected, rtol=1e-5, atol=1e-5)


def test_positions_start_from_a_standard_normal() -> None:
    torch.manual_seed(2)
    table = Discriminator(
        patches=400, dim=64, hidden=8, heads=2, blocks=1, dropout=0.0
    ).positions.detach()
    assert abs(float(table.std()) - 1) < 0.02
    assert abs(float(table.mean())) < 0.02


def test_shapes_types_and_independence_of_the_batch() -> None:
    detector = detector_of()
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (3, 64, 96, 3), dtype=np.uint8))
    with torch.inference_mode():
        scores, maps = detector(images)
        single = detector(images[1:2])
    assert scores.shape == (3,)
    assert maps.shape == (3, 16, 24) == (3, *detector.map_size)
    assert scores.dtype == maps.dtype == torch.float32
    torch.testing.assert_close(single[0], scores[1:2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(single[1], maps[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("top_k", "used"), [(1, 1), (3, 3), (0, 24), (1000, 24)])
def test_the_score_is_the_mean_of_the_largest_logits(top_k: int, used: int) -> None:
    detector = detector_of(top_k=top_k)
    logits = torch.randn(4, 24, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([torch.stack(sorted(row)[-used:]).mean() for row in logits])
    assert detector.top_k == used
    torch.testing.assert_close(detector.scores(logits), expected)


def test_a_map_shows_the_patch_where_it_is() -> None:
    detector = detector_of(smoothing_sigma=0.0)
    logits = torch.zeros(1, 24)
    logits[0, 1 * 6 + 4] = 1.0  # second row, fifth column of 4 x 6 patches
    peak = int(detector.maps(logits).flatten().argmax())
    assert (peak // 24 // 4, peak % 24 // 4) == (1, 4)


def map_of(sigma: float, radius: int, grid: tuple[int, int] = (41, 41)) -> AnomalyMap:
    """Four pixels of the input and of the map for each patch, so that sampling changes nothing."""
    size = (4 * grid[0], 4 * grid[1])
    return AnomalyMap(grid=grid, image_size=size, sigma=sigma, radius=radius)


def test_smoothing_is_a_gaussian_of_the_stated_width() -> None:
    spot = torch.zeros(1, 41, 41)
    spot[0, 20, 20] = 1.0
    found, plain = (map_of(sigma, 16)(spot.flatten(1))[0] for sigma in (8.0, 0.0))
    assert float(found.sum()) == pytest.approx(16.0, abs=1e-4)
    offsets = torch.arange(-16, 17, dtype=torch.float64)
    weights = torch.exp(-(offsets**2) / (2 * 8.0**2))
    weights = (weights / weights.sum()).float()
    padded = F.pad(plain[None, None], (16, 16, 16, 16))
    expected = F.conv2d(F.conv2d(padded, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    torch.testing.assert_close(found, expected[0, 0])
    row = plain.sum(dim=0).nonzero().flatten()
    reached = found.sum(dim=0).nonzero().flatten()
    assert (int(reached[0]), int(reached[-1])) == (int(row[0]) - 16, int(row[-1]) + 16)
    torch.testing.assert_close(found, found.T)


@pytest.mark.parametrize(("sigma", "radius"), [(0.0, 9), (4.0, 0)])
def test_no_smoothing_leaves_the_map(sigma: float, radius: int) -> None:
    logits = torch.randn(2, 35)
    coarse = logits.view(2, 1, 5, 7)
    expected = F.interpolate(coarse, size=(20, 28), mode="bilinear", align_corners=False)
    torch.testing.assert_close(map_of(sigma, radius, (5, 7))(logits), expected[:, 0])


@pytest.mark.parametrize("patch", [14, 16])
def test_the_detector_smooths_in_pixels_of_its_input(patch: int) -> None:
    """The deviation of what a patch spreads over is that of patch and Gaussian together."""
    found = AnomalyMap(grid=(1, 41), image_size=(patch, 41 * patch), sigma=20.0, radius=80)
    spot = torch.zeros(1, 41)
    spot[0, 20] = 1
    row = found(spot)[0, 0].double()
    offsets = (torch.arange(164) - 81.5) * patch / 4
    deviation = float((row * offsets**2).sum() / row.sum()) ** 0.5
    assert deviation == pytest.approx((20.0**2 + patch**2 / 6) ** 0.5, rel=0.01)
    detector = detector_of(smoothing_sigma=8.0, smoothing_radius=12)
    expected = AnomalyMap(grid=(4, 6), image_size=(64, 96), sigma=8.0, radius=12)
    assert torch.equal(detector.maps.rows, expected.rows)
    assert torch.equal(detector.maps.columns, expected.columns)


def test_smoothing_keeps_an_even_map_even_up_to_its_edges() -> None:
    maps = AnomalyMap(grid=(6, 9), image_size=(84, 126), sigma=16.0, radius=18)
    torch.testing.assert_close(maps(torch.full((1, 54), 2.5)), torch.full((1, 24, 36), 2.5))


def test_a_spot_in_a_corner_is_seen_as_in_a_mirror() -> None:
    """Reflected edges: a map and its mirror image side by side are one map without that edge."""
    logits = torch.randn(3, 5)
    wide = torch.cat([logits.flip(1), logits], dim=1)
    one = map_of(8.0, 13, (3, 5))(logits.view(1, -1))[0]
    both = map_of(8.0, 13, (3, 10))(wide.view(1, -1))[0]
    assert float((one - both[:, 20:]).abs()[:, 5:15].max()) < 1e-6
    inner = map_of(8.0, 13, (3, 15))(torch.cat([wide, logits.flip(1)], dim=1).view(1, -1))[0]
    torch.testing.assert_close(one, inner[:, 20:40])


def test_heads_that_do_not_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="divisor of the feature width 64, found 5"):
        detector_of(heads=5)


def test_training_mode_never_reaches_the_backbone() -> None:
    detector = detector_of().train()
    assert generalad_head(detector).discriminator.training
    assert not any(module.training for module in detector.backbone.modules())
