"""GeneralAD against a plain float64 reading of its formulas; gradients by finite differences."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from training_helpers import tiny_config

from generalad.model.discriminator import Discriminator
from generalad.training import step as step_module
from generalad.training.cache import Features
from generalad.training.loop import fit
from generalad.training.objective import group_weights, views, weighted_loss
from generalad.training.step import Step

BATCH, PATCHES, DIM, HEADS = 3, 5, 4, 2
CPU = torch.device("cpu")
NOISE = ((), ("random",), ("attn",))
MOVES = ((), ("copy_out",), ("shuffle",), ("randshuffle",))
ALL = [noise + move for noise, move in itertools.product(NOISE, MOVES)]

Array = NDArray[np.float64]


def discriminator(blocks: int = 2) -> Discriminator:
    torch.manual_seed(0)
    made = Discriminator(
        patches=PATCHES, dim=DIM, hidden=6, heads=HEADS, blocks=blocks, dropout=0.0
    )
    for parameter in made.parameters():  # biases start at nothing
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return made.double()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    features = torch.randn(BATCH, PATCHES, DIM, generator=random, dtype=torch.float64)
    return features, torch.rand(BATCH, 3, PATCHES, generator=random)


def array(value: torch.Tensor) -> Array:
    return np.asarray(value.detach().numpy(), np.float64)


def plain_logits(model: Discriminator, image: Array) -> list[float]:
    """One image (N, D), each sum written out."""
    x = image + array(model.positions)
    blocks: Any = model.blocks
    for block in blocks:
        attended = plain_attention(block.attention, x)
        x = np.stack([plain_norm(block.norm, row) for row in x + attended])
        first, _, _, second = block.mlp
        for place, row in enumerate(x.copy()):
            inner = array(first.weight) @ row + array(first.bias)
            inner = np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in inner])
            x[place] = row + array(second.weight) @ inner + array(second.bias)
    return [float(array(model.head.weight)[0] @ row) for row in x]


def plain_norm(norm: Any, row: Array) -> Array:
    mean = sum(row) / len(row)
    variance = sum((v - mean) ** 2 for v in row) / len(row)
    return (row - mean) / math.sqrt(variance + norm.eps) * array(norm.weight) + array(norm.bias)


def plain_attention(attention: Any, x: Array) -> Array:
    weight, bias = array(attention.in_proj.weight), array(attention.in_proj.bias)
    query, key, value = np.split(x @ weight.T + bias, 3, axis=1)
    mixed, size = np.zeros_like(x), DIM // HEADS
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        for place in range(len(x)):
            logits = [
                query[place, part] @ key[other, part] / math.sqrt(size) for other in range(len(x))
            ]
            total = sum(math.exp(one) for one in logits)
            for other, one in enumerate(logits):
                mixed[place, part] += math.exp(one) / total * value[other, part]
    return mixed @ array(attention.out_proj.weight).T + array(attention.out_proj.bias)


def plain_loss(model: Discriminator, shown: list[tuple[torch.Tensor, torch.Tensor]]) -> list[float]:
    """The terms of a batch: for each view, the mean over its normal and its anomalous patches."""
    terms = []
    for features, labels in shown:
        losses: dict[bool, list[float]] = {False: [], True: []}
        for image, marks in zip(features, labels, strict=True):
            for logit, mark in zip(plain_logits(model, array(image)), marks.tolist(), strict=True):
                chance = 1 / (1 + math.exp(-logit))
                losses[mark].append(-math.log(chance if mark else 1 - chance))
        terms += [sum(group) / len(group) for group in losses.values() if group]
    return terms


@pytest.mark.parametrize("training", [False, True])
def test_logits(training: bool) -> None:
    model = discriminator().train(training)
    features, _ = batch()
    expected = torch.stack(
        [torch.tensor(plain_logits(model, array(x)), dtype=torch.float64) for x in features]
    )
    torch.testing.assert_close(model(features), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("distortions", ALL, ids=" ".join)
def test_every_term_of_the_loss(distortions: tuple[str, ...]) -> None:
    model, config = discriminator(), tiny_config(distortions=list(distortions))
    shown = list(views(*batch(), config, torch.Generator().manual_seed(3)))
    terms = plain_loss(model, shown)
    assert len(terms) <= 2 + 2 * len(distortions)
    found = [
        float(weighted_loss(model(features).detach(), labels, group_weights(labels).double()))
        for features, labels in shown
    ]
    # The weights of a mean are float32.
    assert sum(found) == pytest.approx(sum(terms), rel=1e-6)
    assert found[:2] == pytest.approx(terms[:2], rel=1e-6)


@pytest.mark.parametrize("by_parts", [False, True])
@pytest.mark.parametrize("distortions", ALL, ids=" ".join)
def test_the_step_is_that_loss(distortions: tuple[str, ...], by_parts: bool) -> None:
    """In float32, as it trains; the same views by the same generator."""
    model, config = discriminator(), tiny_config(distortions=list(distortions))
    features, attention = batch()
    generator = torch.Generator().manual_seed(3)
    shown = list(views(features.float(), attention, config, generator))
    expected = sum(plain_loss(model, shown))
    step = Step(model.float().train(), config, CPU, dtype=torch.float32, by_parts=by_parts)
    found = step(features.float(), attention, torch.Generator().manual_seed(3))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_gradients_by_finite_differences() -> None:
    model, config = discriminator(), tiny_config(distortions=["attn", "shuffle"])
    shown = list(views(*batch(), config, torch.Generator().manual_seed(3)))
    values = {k: v.detach().clone().requires_grad_() for k, v in model.named_parameters()}

    def loss(*given: torch.Tensor) -> torch.Tensor:
        state = dict(zip(values, given, strict=True))
        total = torch.zeros((), dtype=torch.float64)
        for features, labels in shown:
            logits = torch.func.functional_call(model, state, (features,))
            total = total + torch.nn.functional.binary_cross_entropy_with_logits(
                logits, labels.double(), weight=group_weights(labels).double(), reduction="sum"
            )
        return total

    assert torch.autograd.gradcheck(loss, list(values.values()))


@pytest.mark.parametrize("by_parts", [False, True])
def test_gradients_of_a_step_by_finite_differences(
    by_parts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those written out for a CPU too; central differences of the plain reading."""
    monkeypatch.setattr(step_module, "PATCHES", PATCHES)  # one image a part
    model, config = discriminator(blocks=1), tiny_config(distortions=["random"])
    shown = list(views(*batch(), config, torch.Generator().manual_seed(3)))
    drawn = [(features.float(), labels) for features, labels in shown]
    monkeypatch.setattr(step_module, "views", lambda *_arguments: iter(drawn))
    trained = discriminator(blocks=1).float().train()
    Step(trained, config, CPU, dtype=torch.float32, by_parts=by_parts)(
        drawn[0][0], None, torch.Generator()
    )
    rng = np.random.default_rng(0)
    for (name, parameter), own in zip(trained.named_parameters(), model.parameters(), strict=True):
        assert parameter.grad is not None
        place = tuple(int(rng.integers(size)) for size in parameter.shape)
        before, width = float(own.data[place]), 1e-5
        ends = []
        for moved in (before + width, before - width):
            own.data[place] = moved
            ends.append(sum(plain_loss(model, shown)))
        own.data[place] = before
        expected = (ends[0] - ends[1]) / (2 * width)
        assert float(parameter.grad[place]) == pytest.approx(expected, rel=2e-4, abs=2e-6), name


def test_separable_features_are_told_apart() -> None:
    """Good features in a plane, others beside it: every other image scores higher."""
    rng = np.random.default_rng(0)

    def features(count: int, beside: float) -> NDArray[np.float16]:
        values = rng.normal(size=(count, PATCHES, 8))
        values[..., 4:] = beside * rng.choice([-1.0, 1.0], size=(count, PATCHES, 4))
        return values.astype(np.float16)

    torch.manual_seed(0)
    model = Discriminator(patches=PATCHES, dim=8, hidden=32, heads=2, blocks=1, dropout=0.0)
    config = tiny_config(noise_std=1.0, epochs=60, batch_size=8, lr=5e-3)
    fit(model, Features(features(32, 0.0), None, True, 32), config, device=CPU)
    with torch.inference_mode():
        good, bad = (
            model(torch.from_numpy(features(64, beside)).float()).amax(dim=1) for beside in (0, 3)
        )
    assert good.max() < bad.min(), "AUROC below 1"
