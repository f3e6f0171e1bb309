"""Loss, gradients, dropout, schedule and copies are those of the authors' code; see `authors`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from authors import (
    CHOSEN_HEADS,
    COUNTS,
    RATE,
    attention_of,
    drawn,
    drawn_discriminator,
    golden,
    mask_of,
    sources_of,
    views_of,
)
from torch import Tensor, nn
from training_helpers import tiny_config

from generalad.model.discriminator import Discriminator
from generalad.training import fast_cpu_functions, fast_cpu_step
from generalad.training import step as module
from generalad.training.distortions import copy_over
from generalad.training.loop import learning_rate
from generalad.training.step import Step

CPU = torch.device("cpu")
PLACES = ("attention 0", "update 0", "inner 0", "outer 0", "attention 1", "update 1")
"""In the order in which a training step on a CPU asks for masks; the last MLP's follow."""


def check(model: Discriminator, loss: Tensor, name: str) -> None:
    stored = golden()
    torch.testing.assert_close(loss, stored[f"{name}/loss"], rtol=1e-6, atol=0)
    for key, parameter in model.named_parameters():
        expected = stored[f"{name}/gradient/{key}"]
        largest = float(expected.abs().max())
        torch.testing.assert_close(parameter.grad, expected, rtol=0, atol=5e-6 * largest, msg=key)


@pytest.mark.parametrize("by_parts", [False, True])
def test_loss_and_gradients(by_parts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "views", lambda *_arguments: iter(views_of()))
    model = drawn_discriminator().train()
    step = Step(model, tiny_config(), CPU, dtype=torch.float32, by_parts=by_parts)
    check(model, step(views_of()[0][0], None, torch.Generator()), "plain")


def test_loss_and_gradients_with_the_same_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """In all four places of both blocks, the softmax of the attention among them."""
    asked: Iterator[tuple[int, str]] = iter(
        (view, place) for view in range(4) for place in (*PLACES, "outer 1", "inner 1")
    )

    def given(mask: Tensor, rate: float, *_arguments: Any) -> Tensor:
        assert rate == RATE
        return mask.copy_(mask_of(*next(asked), *mask.shape))

    def dropout(x: Tensor, p: float, *_arguments: Any) -> Tensor:
        return x * mask_of(*next(asked), *x.shape) / (1 - p)

    monkeypatch.setattr(fast_cpu_step, "fill_mask", given)
    monkeypatch.setattr(fast_cpu_functions, "fill_mask", given)
    monkeypatch.setattr(F, "dropout", dropout)  # inside the MLP of a block that is not the last
    monkeypatch.setattr(module, "views", lambda *_arguments: iter(views_of()))
    model = drawn_discriminator(dropout=RATE).train()
    step = Step(model, tiny_config(), CPU, dtype=torch.float32)
    check(model, step(views_of()[0][0], None, torch.Generator()), "dropped")
    assert next(asked, None) is None, "some dropout is missing"


@pytest.mark.parametrize("end", [0.2, 0.5])
def test_the_schedule(end: float) -> None:
    config = tiny_config(epochs=5, lr=5e-4, lr_decay_factor=end)
    found = [learning_rate(config, epoch) for epoch in range(5)]
    assert found == pytest.approx(golden()[f"schedule/{end}"].tolist(), rel=1e-12)


def test_copies() -> None:
    """Given a head, a number and an order of sources, the same patches are overwritten alike."""
    features, labels = drawn("to copy", len(COUNTS), 16, 3), golden()["copies/labels"]
    sources = torch.zeros(len(COUNTS), 16, dtype=torch.int64)
    for image, (head, count) in enumerate(zip(CHOSEN_HEADS, COUNTS, strict=True)):
        chosen = attention_of()[image, head].topk(count).indices
        assert sorted(chosen.tolist()) == labels[image].nonzero().flatten().tolist()
        sources[image, chosen] = sources_of(image)[:count]
    assert torch.equal(copy_over(features, labels, sources), golden()["copies/features"])


def test_the_module_drops_attention_as_torch_s_own_does() -> None:
    """Mean and deviation of what comes out, over many draws; both in training mode."""
    torch.manual_seed(0)
    block = drawn_discriminator(dropout=RATE).blocks[0]
    ours: Any = block.attention
    theirs = nn.MultiheadAttention(16, ours.heads, dropout=RATE, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.in_proj.weight)
        theirs.in_proj_bias.copy_(ours.in_proj.bias)
        theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
        x = drawn("x", 1, 9, 16).expand(4000, 9, 16)
        found, expected = ours.train()(x), theirs.train()(x, x, x)[0]
        spread, still = expected.std(dim=0), ours.eval()(x[:1])
    assert float(spread.min()) > 0.01
    difference = (found.mean(0) - expected.mean(0)).abs()
    assert bool((difference < 5 * spread * (2 / 4000) ** 0.5).all())
    torch.testing.assert_close(found.std(dim=0), spread, rtol=0.1, atol=0)
    assert bool(((found.mean(0) - still[0]).abs() < 5 * spread / 4000**0.5).all())
