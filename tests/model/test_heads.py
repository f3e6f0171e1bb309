"""Heads: a Gaussian a place and a memory of patches, against plain readings of their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from generalad.config import PRESETS, Config
from generalad.errors import ConfigError
from generalad.model.heads import HEADS, GaussianHead, PatchCoreHead
from generalad.model.levels import packed_width
from generalad.model.memory import TEMPERATURE, Memory, coreset
from generalad.model.whitening import RIDGE, SHRINKAGE

GRID, DIM = (3, 2), 5


def config(method: str, **changes: object) -> Config:
    return PRESETS["embedded"].replaced({"method": method, "memory_size": 40, **changes})


def features(count: int = 60, *, seed: int = 0, dim: int = DIM) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(count, GRID[0] * GRID[1], dim)) @ rng.normal(size=(dim, dim))
    return (mixed + rng.normal(size=(GRID[0] * GRID[1], dim))).astype(np.float16)


def test_every_method_has_a_head() -> None:
    grid, widths = (4, 2), (3, 5, 8)
    for method, head in HEADS.items():
        made = head(config(method, heads=1), grid, packed_width(widths), widths)
        seen = [torch.zeros(2, 3, 256, 256)] if made.sees_images else []
        scores = made.eval()(torch.zeros(2, 8, packed_width(widths)), *seen)
        assert scores.shape == (2, 8)
    with pytest.raises(ConfigError, match="one of generalad"):
        config("padim")


def test_a_gaussian_is_the_mahalanobis_distance_over_the_root_of_d() -> None:
    good, head = features(), GaussianHead(config("gaussian"), GRID, DIM)
    head.fit(good)
    x = torch.from_numpy(features(4, seed=1)).float()
    values = good.astype(np.float64)
    covariances = np.stack([np.cov(values[:, place].T) for place in range(6)])
    pooled = covariances.mean(axis=0)
    ridge = (RIDGE * np.diag(pooled).mean() + 1e-6) * np.eye(DIM)
    covariances = (1 - SHRINKAGE) * covariances + SHRINKAGE * pooled + ridge
    for place, covariance in enumerate(covariances):
        off = x[:, place].numpy() - values[:, place].mean(axis=0)
        expected = np.sqrt(np.einsum("bi,ij,bj->b", off, np.linalg.inv(covariance), off) / DIM)
        np.testing.assert_allclose(head(x)[:, place], expected, rtol=2e-3)


def test_wide_features_of_a_gaussian_are_projected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generalad.model.heads.gaussian.MOST_VALUES", 6 * 3 * 3)
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(60, 6, 3)) @ rng.normal(size=(3, 8))  # eight wide, three matter
    head = GaussianHead(config("gaussian"), GRID, 8)
    head.fit(flat.astype(np.float16))
    assert head.is_projected and head.projection.shape == (8, 3)
    scores = head(torch.from_numpy(flat.astype(np.float16)).float())
    assert scores.square().mean() == pytest.approx(1, abs=0.1)


@given(st.integers(0, 1000), st.integers(1, 12))
def test_the_distance_to_a_memory_is_that_of_its_nearest_entry(seed: int, size: int) -> None:
    random = torch.Generator().manual_seed(seed)
    memory = Memory(size, DIM)
    memory.vectors.copy_(100 + torch.randn(size, DIM, generator=random))
    x = 100 + torch.randn(2, 6, DIM, generator=random)
    found = memory.squared_distances(x)
    distances = torch.cdist(x.double(), memory.vectors.double()).square()
    # Two entries that are equally near to a rounding of |m|^2 may be taken for each other.
    rounding = 4 * torch.finfo(torch.float32).eps * float(memory.vectors.square().sum(1).max())
    nearest_distance = distances.min(dim=-1).values
    torch.testing.assert_close(found.double(), nearest_distance, rtol=1e-4, atol=rounding)
    assert torch.equal(memory(x)[0], found)


@given(st.integers(0, 1000), st.integers(1, 12))
def test_near_entries_are_averaged_by_their_distance(seed: int, size: int) -> None:
    random = torch.Generator().manual_seed(seed)
    memory = Memory(size, DIM)
    memory.vectors.copy_(3 * torch.randn(size, DIM, generator=random))
    x = 3 * torch.randn(2, 6, DIM, generator=random)
    halves = torch.cdist(x.double(), memory.vectors.double()).square() / 2
    weights = (-halves / TEMPERATURE).softmax(dim=-1)
    expected = weights @ memory.vectors.double()
    torch.testing.assert_close(memory(x)[1].double(), expected, rtol=1e-4, atol=1e-4)


def test_two_entries_that_are_as_near_do_not_take_turns() -> None:
    memory = Memory(2, DIM)
    memory.vectors[0, 0], memory.vectors[1, 0] = -1.0, 1.0
    left, right = torch.zeros(2, 1, 1, DIM)
    left[..., 0], right[..., 0] = -1e-3, 1e-3
    assert (memory(left)[1] - memory(right)[1]).abs().max() < 1e-2


def test_entries_of_the_memory_have_no_distance() -> None:
    good, head = features(), PatchCoreHead(config("patchcore", memory_size=360), GRID, DIM)
    head.fit(good)
    assert head(torch.from_numpy(good).float()).max() < 1e-3


def test_a_small_memory_is_filled_up() -> None:
    head = PatchCoreHead(config("patchcore", memory_size=1000), GRID, DIM)
    head.fit(features(2))
    assert len(np.unique(head.memory.vectors.numpy(), axis=0)) == 12


def test_a_coreset_covers_better_than_chance() -> None:
    patches = torch.from_numpy(features(300)).float().flatten(0, 1)
    random = torch.Generator().manual_seed(0)
    chosen = coreset(patches, 50, random)
    assert len(set(chosen.tolist())) == 50
    at_random = torch.randperm(len(patches), generator=random)[:50]
    radius, radius_at_random = (
        torch.cdist(patches, patches[part]).min(dim=1).values.max() for part in (chosen, at_random)
    )
    assert radius < 0.8 * radius_at_random
