"""Features, logits, scores and maps are those of the authors' code; `authors` says whence."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from authors import (
    CNN_SIDE,
    HEADS,
    HIDDEN,
    LAYERS,
    SIDE,
    SMOOTHING,
    TOP_K,
    body_of,
    drawn,
    drawn_discriminator,
    golden,
    images_of,
    logits_of,
    views_of,
)
from torch import Tensor
from training_helpers import body, tiny_config

from generalad.model.anomaly_map import AnomalyMap, axis_matrix
from generalad.model.backbone import wrap
from generalad.model.detector import Detector


def close(found: Tensor, name: str, tolerance: float = 2e-6) -> None:
    """Compare with a stored number of the authors, in units of its largest value."""
    expected = golden()[name]
    assert found.shape == expected.shape
    largest = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("name", ["vit", "vit_reg2", "eva02"])
def test_features_of_a_vit(name: str) -> None:
    backbone = wrap(body_of(name), LAYERS[name], (SIDE, SIDE))
    with torch.inference_mode():
        close(backbone(images_of(name)), f"{name}/features")
        if name != "eva02":  # the authors take no attention from these
            close(backbone.features_and_attention(images_of(name))[1], f"{name}/attention")


@pytest.mark.parametrize("pool_size", [1, 3, 5])
def test_features_of_a_cnn(pool_size: int) -> None:
    backbone = wrap(body_of("cnn"), LAYERS["cnn"], (CNN_SIDE, CNN_SIDE), pool_size=pool_size)
    with torch.inference_mode():
        close(backbone(images_of("cnn")), f"cnn/features/{pool_size}")


def test_logits() -> None:
    with torch.inference_mode():
        found = drawn_discriminator()(views_of()[0][0])
    close(found, "discriminator/logits")


@pytest.mark.parametrize("name", SMOOTHING)
def test_scores_and_maps(name: str) -> None:
    """A map is the authors' full-size one, resized bilinearly to the size of ours."""
    sigma, radius = SMOOTHING[name]
    config = tiny_config(
        image_size=[SIDE, SIDE], hidden=HIDDEN, heads=HEADS, layers=[1], top_k=TOP_K,
        smoothing_sigma=float(sigma), smoothing_radius=radius,
    )  # fmt: skip
    model = body(config.backbone, img_size=(SIDE, SIDE), patch_size=8, num_classes=0)
    detector = Detector(config, wrap(model, config.layers, config.image_size))
    close(detector.scores(logits_of()), "scores")
    theirs = golden()[f"maps/{name}"].unsqueeze(1)
    expected = F.interpolate(theirs, detector.map_size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(detector.maps(logits_of()), expected[:, 0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("patch", [14, 16])
def test_peaks_in_corner_edge_and_middle(patch: int) -> None:
    """Thresholds are set on peaks; sampling four pixels a patch lowers them by little."""
    side = 37 * patch
    maps = AnomalyMap(grid=(37, 37), image_size=(side, side), sigma=16.0, radius=18)
    full = torch.from_numpy(axis_matrix(37, side, side, 16.0, 18)).float()
    for row, column in ((0, 0), (0, 18), (18, 18)):
        spike = torch.zeros(37, 37)
        spike[row, column] = 1
        found = float(maps(spike.flatten()).max())
        assert found == pytest.approx(float((full @ spike @ full.t()).max()), rel=0.03)


def test_the_drawn_networks_differ_in_every_patch() -> None:
    """Or the comparisons above could not fail."""
    for name in ("vit/features", "eva02/features", "cnn/features/3"):
        features = golden()[name].flatten(0, 1)
        assert float(torch.pdist(features).min()) > 0.1, name
    assert not torch.equal(drawn("a", 3), drawn("b", 3))
