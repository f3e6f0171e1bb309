"""Pseudo-anomalies: what is changed, what is left alone, and where chance comes from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from generalad.config import DISTORTIONS
from generalad.errors import ConfigError
from generalad.training.distortions import NEEDS_ATTENTION, add_noise, distort

MOVES = ("copy_out", "shuffle", "randshuffle")
SHAPES = {
    "batch": st.integers(1, 4),
    "patches": st.integers(2, 12),
    "seed": st.integers(0, 2**32 - 1),
    "most": st.integers(1, 14) | st.just(-1),
}
EXAMPLES = settings(max_examples=40, deadline=None)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def features_of(batch: int, patches: int, seed: int) -> Tensor:
    """All numbers different, so that a patch can be recognised."""
    count = batch * patches * 3
    return torch.randperm(count, generator=generator(seed)).float().reshape(batch, patches, 3)


def attention_of(batch: int, patches: int, seed: int, heads: int = 3) -> Tensor:
    count = batch * heads * patches
    order = torch.randperm(count, generator=generator(seed + 1)).float()
    return (order / count).reshape(batch, heads, patches)


def run(name: str, batch: int, patches: int, seed: int, most: int) -> tuple[Tensor, ...]:
    features = features_of(batch, patches, seed)
    attention = attention_of(batch, patches, seed)
    before = features.clone()
    changed, labels = distort(
        name,
        features,
        attention=attention if name in NEEDS_ATTENTION else None,
        noise_std=0.25,
        num_fake_patches=most,
        generator=generator(seed + 2),
    )
    assert torch.equal(features, before), "the clean features were written to"
    assert changed.shape == features.shape
    assert changed.dtype == features.dtype
    assert labels.shape == features.shape[:2]
    assert labels.dtype == torch.bool
    return features, changed, labels, attention


@pytest.mark.parametrize("name", ["random", "attn"])
@EXAMPLES
@given(**SHAPES)
def test_noise_changes_exactly_the_labelled_patches(name: str, **shape: Any) -> None:
    features, changed, labels, _ = run(name, **shape)
    assert torch.equal((changed != features).any(dim=-1), labels)


@pytest.mark.parametrize("name", MOVES)
@EXAMPLES
@given(**SHAPES)
def test_moves_leave_the_other_patches_alone(name: str, **shape: Any) -> None:
    features, changed, labels, _ = run(name, **shape)
    assert torch.equal(changed[~labels], features[~labels])


@pytest.mark.parametrize("name", ["shuffle", "randshuffle"])
@EXAMPLES
@given(**SHAPES)
def test_a_permutation_keeps_the_chosen_patches(name: str, **shape: Any) -> None:
    features, changed, labels, _ = run(name, **shape)
    for before, after, chosen in zip(features, changed, labels, strict=True):
        assert sorted(before[chosen].tolist()) == sorted(after[chosen].tolist())


@EXAMPLES
@given(**SHAPES)
def test_copies_come_from_the_same_image_each_once(**shape: Any) -> None:
    features, changed, labels, _ = run("copy_out", **shape)
    for before, after, chosen in zip(features, changed, labels, strict=True):
        copies, sources = after[chosen].tolist(), before.tolist()
        assert all(patch in sources for patch in copies)
        assert all(copies.count(patch) == 1 for patch in copies)


def test_copies_come_from_all_patches_alike_the_chosen_ones_among_them() -> None:
    features, changed, labels, _ = run("copy_out", 4000, 5, 0, 3)
    # Of every patch, how often each of the five took its place where it was chosen.
    same = (changed[:, :, None] == features[:, None]).all(dim=-1)
    share = (same & labels[:, :, None]).sum(dim=0) / labels.sum(dim=0)[:, None]
    torch.testing.assert_close(share, torch.full((5, 5), 0.2), rtol=0, atol=0.05)


@pytest.mark.parametrize("name", DISTORTIONS)
@EXAMPLES
@given(**SHAPES)
def test_the_number_of_chosen_patches_is_within_bounds(
    name: str, batch: int, patches: int, seed: int, most: int
) -> None:
    *_, labels, _ = run(name, batch, patches, seed, most)
    counts = labels.sum(dim=1)
    limit = patches
    if name in MOVES and most != -1:
        limit = min(most, patches)
    assert int(counts.min()) >= 1
    assert int(counts.max()) <= limit


@pytest.mark.parametrize("name", DISTORTIONS)
def test_every_number_of_patches_is_drawn(name: str) -> None:
    *_, labels, _ = run(name, 600, 6, 0, 4 if name in MOVES else -1)
    drawn = set(labels.sum(dim=1).tolist())
    assert drawn == set(range(1, 5 if name in MOVES else 7))


@pytest.mark.parametrize("name", sorted(NEEDS_ATTENTION))
@EXAMPLES
@given(**SHAPES)
def test_attention_chooses_the_highest_of_one_head(name: str, **shape: Any) -> None:
    *_, labels, attention = run(name, **shape)
    for chosen, heads in zip(labels, attention, strict=True):
        count = int(chosen.sum())
        options = [set(head.topk(count).indices.tolist()) for head in heads]
        assert set(chosen.nonzero().flatten().tolist()) in options


def test_all_heads_are_drawn() -> None:
    *_, labels, attention = run("attn", 300, 8, 0, -1)
    single = labels.sum(dim=1) == 1
    picked = labels[single].int().argmax(dim=1, keepdim=True)
    heads = (attention[single].argmax(dim=2) == picked).int().argmax(dim=1)
    assert set(heads.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("name", ["shuffle", "randshuffle", "copy_out"])
def test_moves_are_not_the_identity(name: str) -> None:
    features, changed, labels, _ = run(name, 50, 12, 0, -1)
    many = labels.sum(dim=1) > 4
    moved = (changed != features).any(dim=-1).any(dim=-1)
    assert bool(moved[many].float().mean() > 0.9)


def test_random_patches_are_uniform() -> None:
    *_, labels, _ = run("random", 4000, 5, 0, -1)
    share = labels.float().mean(dim=0)
    assert torch.allclose(share, torch.full((5,), 0.6), atol=0.04)


def test_noise_has_the_stated_deviation() -> None:
    features = torch.full((8, 50, 40), 3.0)
    noise = add_noise(features, 0.25, generator(0)) - features
    assert abs(float(noise.std()) - 0.25) < 0.01
    assert abs(float(noise.mean())) < 0.01


@pytest.mark.parametrize("name", DISTORTIONS)
def test_the_generator_alone_decides(name: str) -> None:
    state = torch.random.get_rng_state()
    first, again = (run(name, 3, 9, 5, -1) for _ in range(2))
    other = distort(
        name,
        first[0],
        attention=first[3],
        noise_std=0.25,
        num_fake_patches=-1,
        generator=generator(99),
    )
    assert torch.equal(first[1], again[1])
    assert torch.equal(first[2], again[2])
    assert not torch.equal(first[1], other[0])
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", sorted(NEEDS_ATTENTION))
def test_missing_attention_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match="attention"):
        distort(
            name,
            torch.zeros(1, 4, 2),
            attention=None,
            noise_std=1.0,
            num_fake_patches=-1,
            generator=generator(0),
        )
