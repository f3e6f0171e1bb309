"""The objective: what the discriminator is shown, and which terms a step sums."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from training_helpers import TINY, body, tiny_config

from generalad.model.backbone import wrap
from generalad.model.detector import Detector
from generalad.model.discriminator import Discriminator
from generalad.training import objective
from generalad.training.distortions import distort
from generalad.training.objective import chance_loss, group_weights, views, weighted_loss
from generalad.training.step import Step

CPU = torch.device("cpu")


def naive(logits: list[float], labels: list[bool]) -> float:
    """Binary cross-entropy, averaged apart over the two labels and added."""
    total = 0.0
    for wanted in (False, True):
        signs = [x if wanted else -x for x, y in zip(logits, labels, strict=True) if y == wanted]
        if signs:
            total += sum(math.log1p(math.exp(-s)) for s in signs) / len(signs)
    return total


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-20, 20), st.booleans()), min_size=1, max_size=12))
def test_the_loss_of_a_view_is_the_sum_of_two_means(pairs: list[tuple[float, bool]]) -> None:
    logits, labels = [x for x, _ in pairs], [y for _, y in pairs]
    marked = torch.tensor([labels])
    found = weighted_loss(torch.tensor([logits]), marked, group_weights(marked))
    assert float(found) == pytest.approx(naive(logits, labels), rel=1e-4, abs=1e-6)


def batch_of(patches: int = 8) -> tuple[Tensor, Tensor]:
    features = torch.randn(3, patches, 4, generator=torch.Generator().manual_seed(1))
    return features, torch.rand(3, 2, patches, generator=torch.Generator().manual_seed(2))


def shown(distortions: list[str], seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    config = tiny_config(distortions=distortions)
    return list(views(*batch_of(), config, torch.Generator().manual_seed(seed)))


DISTORTIONS: list[list[str]] = [
    *([], ["random"], ["attn"], ["random", "shuffle"], ["attn", "copy_out"])
]


@pytest.mark.parametrize("distortions", DISTORTIONS)
def test_the_views_of_a_batch(distortions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[Tensor, Tensor]] = []
    names: list[str] = []

    def recorded(name: str, *arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
        names.append(name)
        drawn.append(distort(name, *arguments, **options))
        return drawn[-1]

    monkeypatch.setattr(objective, "distort", recorded)
    (clean, normal), (noisy, anomalous), *rest = shown(distortions)
    assert torch.equal(clean, batch_of()[0])
    assert not bool(normal.any())
    assert bool((noisy != clean).all()), "noise must reach every number"
    assert bool(anomalous.all())
    assert names == list(tiny_config(distortions=distortions).distortions)
    assert [(id(a), id(b)) for a, b in rest] == [(id(a), id(b)) for a, b in drawn]


@pytest.mark.parametrize("by_parts", [True, False])
@pytest.mark.parametrize("distortions", DISTORTIONS)
def test_a_step_is_the_sum_over_views_of_what_the_discriminator_says(
    distortions: list[str], by_parts: bool
) -> None:
    torch.manual_seed(0)
    model = Discriminator(patches=8, dim=4, hidden=6, heads=2, blocks=1, dropout=0.0)
    config = tiny_config(distortions=distortions)
    step = Step(model.train(), config, CPU, dtype=torch.float32, by_parts=by_parts)
    value = step(*batch_of(), torch.Generator().manual_seed(0))
    expected = 0.0
    for view, labels in shown(distortions):
        logits = model.eval()(view).flatten().tolist()
        expected += naive(logits, labels.flatten().tolist())
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_equal_generators_give_equal_views_and_the_global_one_is_left_alone() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (shown(["random", "shuffle"], seed) for seed in (0, 0, 1))
    for index in (1, 2, 3):
        assert torch.equal(first[index][0], again[index][0])
        assert torch.equal(first[index][1], again[index][1])
        assert not torch.equal(first[index][0], other[index][0])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_no_gradient_reaches_the_backbone() -> None:
    config = tiny_config(distortions=["random"])
    model = body(TINY, img_size=(64, 64), num_classes=0)
    detector = Detector(config, wrap(model, config.layers, config.image_size)).train()
    assert not detector.backbone.training
    features = detector.backbone(torch.randn(2, 3, 64, 64))
    Step(detector.discriminator, config, CPU)(features, None, torch.Generator().manual_seed(0))
    assert all(p.grad is None and not p.requires_grad for p in detector.backbone.parameters())
    assert all(p.grad is not None for p in detector.discriminator.parameters())


@pytest.mark.parametrize(
    ("distortions", "terms"), [([], 2), (["random"], 4), (["random", "randshuffle"], 6)]
)
def test_chance_is_the_objective_of_a_discriminator_that_knows_nothing(
    distortions: list[str], terms: int
) -> None:
    config = tiny_config(distortions=distortions)
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(())
    for features, labels in views(torch.randn(4, 16, 8), None, config, generator):
        logits = torch.zeros(features.shape[:2])
        total += weighted_loss(logits, labels, group_weights(labels))
    assert float(total) == pytest.approx(chance_loss(config), rel=1e-5)
    assert chance_loss(config) == pytest.approx(terms * math.log(2))


def test_noise_is_in_units_of_each_channel() -> None:
    spread = torch.tensor([0.0, 1.0, 20.0])
    config = tiny_config(noise_std=0.5, distortions=["random"])
    generator = torch.Generator().manual_seed(0)
    clean = torch.ones(8, 200, 3)
    _, (noisy, _), (some, chosen) = views(clean, None, config, generator, spread)
    assert (noisy - clean).std(dim=(0, 1)).tolist() == pytest.approx([0, 0.5, 10], rel=0.1)
    assert (some - clean)[chosen].std(dim=0).tolist() == pytest.approx([0, 0.5, 10], rel=0.1)
    assert torch.equal(some[~chosen], clean[~chosen])
