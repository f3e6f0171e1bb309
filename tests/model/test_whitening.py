"""Whitening: features as deviations, in units of how much they vary at their place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from training_helpers import generalad_head

from generalad.config import PRESETS
from generalad.errors import ConfigError
from generalad.model import whitening as module
from generalad.model.detector import Detector
from generalad.model.weights import load_backbone
from generalad.model.whitening import Whitening, from_cells, to_cells
from generalad.training.cache import Features


def features(count: int, seed: int = 0) -> NDArray[np.float16]:
    """(n, 3, 4), mixed differently at each of three places, with means of their own."""
    rng = np.random.default_rng(seed)
    mix, mean = rng.normal(size=(3, 4, 4)), rng.normal(size=(3, 4)) * 5
    drawn = np.einsum("npd,pde->npe", rng.normal(size=(count, 3, 4)), mix)
    return np.asarray(drawn + mean, dtype=np.float16)


def test_covariance_is_one_at_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHRINKAGE", 0.0)
    monkeypatch.setattr(module, "RIDGE", 0.0)
    values = features(500)
    white = Whitening(3, 4)
    white.fit(values)
    monkeypatch.setattr(module, "LIMIT", 1e9)
    found = white(torch.from_numpy(values.astype(np.float32))).numpy()
    for place in range(3):
        np.testing.assert_allclose(found[:, place].mean(axis=0), 0, atol=0.01)
        np.testing.assert_allclose(np.cov(found[:, place].T), np.eye(4), atol=0.01)


def test_length_is_the_mahalanobis_distance_of_the_shrunk_covariance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LIMIT", 1e9)
    values = features(6)
    exact = values.astype(np.float64)
    white = Whitening(3, 4)
    white.fit(values)
    found = white(torch.from_numpy(values.astype(np.float32))).square().sum(-1).numpy()
    own = [np.cov(exact[:, place].T) for place in range(3)]
    pooled = np.mean(own, axis=0)
    for place in range(3):
        covariance = 0.7 * own[place] + 0.3 * pooled
        covariance += module.RIDGE * np.trace(pooled) / 4 * np.eye(4)
        x = exact[:, place] - exact[:, place].mean(axis=0)
        expected = np.einsum("nd,de,ne->n", x, np.linalg.inv(covariance), x)
        np.testing.assert_allclose(found[:, place], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("grid", [(4, 6), (3, 5), (1, 1), (2, 1)])
def test_cells_are_two_by_two_places_and_the_way_back(grid: tuple[int, int]) -> None:
    rows, columns = grid
    placed = torch.arange(float(2 * rows * columns * 3)).reshape(2, rows * columns, 3)
    cells = to_cells(placed, grid)
    assert cells.shape == ((rows + 1) // 2 * ((columns + 1) // 2), 8, 3)
    assert torch.equal(from_cells(cells, grid), placed)
    first = {tuple(row) for row in cells[0].tolist() if any(row)}
    near = placed.reshape(2, rows, columns, 3)[:, :2, :2].flatten(0, 2)
    assert first == {tuple(row) for row in near.tolist() if any(row)}


def test_two_by_two_places_share_a_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHRINKAGE", 0.0)
    monkeypatch.setattr(module, "RIDGE", 0.0)
    values = features(400)
    white = Whitening(3, 4, grid=(1, 3))
    assert white.matrix.shape == (2, 4, 4)
    white.fit(values)
    found = white.deviations(torch.from_numpy(values.astype(np.float32))).numpy()
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=0.02)
    cells = (found[:, :2].reshape(-1, 4), found[:, 2])
    for cell in cells:
        np.testing.assert_allclose(np.cov(cell.T), np.eye(4), atol=0.02)
    assert np.abs(np.cov(found[:, 0].T) - np.eye(4)).max() > 0.1  # of one place alone it is not


def test_long_features_keep_their_direction_and_are_limited() -> None:
    white = Whitening(1, 4)
    given = torch.tensor([[[1.0, -2.0, 0.5, 3.0]]])
    short, long = white(given * 1e-3), white(given * 1e6)
    torch.testing.assert_close(short, given * 1e-3, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        long, given / given.square().mean().sqrt() * module.LIMIT, rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("values", [features(1), np.ones((5, 3, 4), np.float16)])
def test_no_variance_gives_finite_numbers(values: NDArray[np.float16]) -> None:
    white = Whitening(3, 4)
    white.fit(values)
    assert torch.isfinite(white(torch.from_numpy(values.astype(np.float32)))).all()


def test_too_many_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="1369 places of 384 features"):
        Whitening(1369, 384)


def test_batches_and_images_are_whitened_alike() -> None:
    config = PRESETS["embedded"].replaced({"image_size": 32})
    backbone, _, _ = load_backbone(config)
    detector = Detector(config, backbone).eval()
    whitening = generalad_head(detector).whitening
    assert whitening is not None
    with torch.inference_mode():
        raw = backbone(torch.rand(4, 3, 32, 32)).half().numpy()
        whitening.fit(raw)
        cached = Features(raw, None, True, 0, whitening=whitening)
        batch, _ = cached.batch(np.arange(4), torch.device("cpu"))
    assert float(batch.mean(dim=0).abs().max()) < 0.05
    positions = generalad_head(detector).discriminator.positions
    assert torch.equal(positions, positions[:1].expand_as(positions))


def test_what_training_made_comes_back() -> None:
    config = PRESETS["embedded"].replaced({"image_size": 32})
    backbone, _, _ = load_backbone(config)
    one, other = Detector(config, backbone), Detector(config, backbone)
    state = one.trained_state()
    assert {name.split(".")[1] for name in state} == {"discriminator", "whitening"}
    other.load_trained_state(state)
    assert all(torch.equal(other.state_dict()[name], value) for name, value in state.items())
    del state["head.whitening.mean"]
    with pytest.raises(RuntimeError, match=r"whitening\.mean"):
        other.load_trained_state(state)
