"""The objective: which terms it sums, and that one pass of the discriminator gives them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from training_helpers import TINY, body, tiny_config

from generalad.model.backbone import wrap
from generalad.model.detector import Detector
from generalad.model.discriminator import Discriminator
from generalad.training import objective
from generalad.training.distortions import distort
from generalad.training.objective import grouped_loss, loss


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
def test_grouped_loss_is_the_sum_of_two_means(pairs: list[tuple[float, bool]]) -> None:
    logits, labels = [x for x, _ in pairs], [y for _, y in pairs]
    found = grouped_loss(torch.tensor([logits]), torch.tensor([labels]))
    assert float(found) == pytest.approx(naive(logits, labels), rel=1e-4, abs=1e-6)


class Spy(nn.Module):
    """Gives the mean of each patch as its logit and remembers its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, features: Tensor) -> Tensor:
        self.seen.append(features)
        return features.mean(dim=-1)


def compute(spy: Spy, distortions: list[str], seed: int = 0) -> Tensor:
    features = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(1))
    attention = torch.rand(3, 2, 8, generator=torch.Generator().manual_seed(2))
    config = tiny_config(distortions=distortions)
    generator = torch.Generator().manual_seed(seed)
    discriminator: Discriminator = spy  # type: ignore[assignment]
    return loss(discriminator, features, attention, config, generator)


@pytest.mark.parametrize(
    "distortions", [[], ["random"], ["attn"], ["random", "shuffle"], ["attn", "copy_out"]]
)
def test_one_pass_over_all_views_and_the_sum_of_their_terms(
    distortions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    marked: list[Tensor] = []

    def recorded(*arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
        view, labels = distort(*arguments, **options)
        marked.append(labels)
        return view, labels

    monkeypatch.setattr(objective, "distort", recorded)
    spy = Spy()
    value = compute(spy, distortions)
    assert len(spy.seen) == 1
    views = spy.seen[0].chunk(2 + len(distortions))
    clean = views[0]
    assert torch.equal(clean, torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(1)))
    assert bool((views[1] != clean).all()), "noise must reach every number"
    nothing = torch.zeros(3, 8, dtype=torch.bool)
    expected = 0.0
    for view, labels in zip(views, [nothing, ~nothing, *marked], strict=True):
        expected += naive(view.mean(dim=-1).flatten().tolist(), labels.flatten().tolist())
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_equal_generators_give_equal_losses_and_the_global_one_is_left_alone() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (compute(Spy(), ["random", "shuffle"], seed) for seed in (0, 0, 1))
    assert float(first) == float(again)
    assert float(first) != float(other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_no_gradient_reaches_the_backbone() -> None:
    config = tiny_config(distortions=["random"])
    model = body(TINY, img_size=(64, 64), num_classes=0)
    detector = Detector(config, wrap(model, config.layers, config.image_size)).train()
    assert not detector.backbone.training
    features = detector.backbone(torch.randn(2, 3, 64, 64))
    value = loss(detector.discriminator, features, None, config, torch.Generator().manual_seed(0))
    value.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None and not p.requires_grad for p in detector.backbone.parameters())
    assert all(p.grad is not None for p in detector.discriminator.parameters())
