"""The training step on a CPU: another form of the discriminator with the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from training_helpers import tiny_config

from generalad.model.discriminator import Discriminator
from generalad.progress import Progress
from generalad.training import fast_cpu_functions
from generalad.training import step as module
from generalad.training.cache import Features
from generalad.training.fast_cpu_functions import (
    Scratch,
    dropped_attention,
    fill_mask,
    keep_share,
    mlp_and_head,
)
from generalad.training.fast_cpu_step import projection_offset, training_logits
from generalad.training.loop import fit
from generalad.training.step import Step

CPU = torch.device("cpu")


def discriminator_of(*, blocks: int = 1, dropout: float = 0.0, seed: int = 0) -> Discriminator:
    """With values everywhere, biases included."""
    torch.manual_seed(seed)
    found = Discriminator(
        patches=9, dim=16, hidden=24, heads=2, blocks=blocks, dropout=dropout
    ).train()
    for parameter in found.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return found


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_the_training_form_gives_the_logits_of_evaluation(blocks: int) -> None:
    model = discriminator_of(blocks=blocks)
    features = torch.randn(3, 9, 16)
    logits = training_logits(model, features, projection_offset(model), Scratch())
    torch.testing.assert_close(logits, model.eval()(features), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("patches", [1, 20, 1000])
def test_parts_give_the_loss_and_the_gradients_of_one_plain_pass(
    blocks: int, patches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATCHES", patches)
    model = discriminator_of(blocks=blocks)
    features, attention = torch.randn(5, 9, 16), torch.rand(5, 2, 9)
    config = tiny_config(distortions=["attn", "shuffle"])
    values, found = [], []
    for by_parts in (False, True):
        step = Step(model, config, CPU, dtype=torch.float32, by_parts=by_parts)
        values.append(step(features, attention, torch.Generator().manual_seed(1)))
        found.append(gradients(model))
    assert values[1].shape == () and not values[1].requires_grad
    torch.testing.assert_close(values[1], values[0], rtol=1e-5, atol=1e-5)
    assert found[0].keys() == found[1].keys() == dict(model.named_parameters()).keys()
    for name, plain in found[0].items():
        assert float(plain.abs().max()) > 1e-3, "nothing to compare"
        torch.testing.assert_close(found[1][name], plain, rtol=1e-4, atol=1e-5, msg=name)


def test_gradients_are_added_and_steps_share_memory_without_harm() -> None:
    model = discriminator_of(dropout=0.3)
    features = torch.randn(4, 9, 16)
    step = Step(model, tiny_config(), CPU, dtype=torch.float32)

    def taken(step: Step, images: int) -> None:
        torch.manual_seed(images)
        step(features[:images], None, torch.Generator().manual_seed(2))

    taken(step, 2)
    taken(step, 4)
    both = gradients(model)
    for images in (2, 4):
        taken(Step(model, tiny_config(), CPU, dtype=torch.float32), images)
    apart = gradients(model)
    assert all(torch.equal(both[name], apart[name]) for name in apart)


def plain_tail(model: Discriminator, x: Tensor, masks: list[Tensor]) -> Tensor:
    """x + Dropout(MLP(x)) and the head, with the given masks, as the paper writes it."""
    mlp: Any = model.blocks[0].mlp
    outer, inner = masks if masks else (torch.ones(()), torch.ones(()))
    x = x + outer * mlp[3](inner * F.gelu(mlp[0](x)))
    return torch.as_tensor(model.head(x).squeeze(-1))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_the_tail_has_the_gradients_of_the_plain_formula(
    rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = discriminator_of(dropout=rate).double()
    x = torch.randn(50, 16, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(50, dtype=torch.float64)
    masks: list[Tensor] = []

    def recorded(*arguments: Any) -> Tensor:
        mask = fill_mask(*arguments)
        masks.append(mask / keep_share(rate))
        return mask

    monkeypatch.setattr(fast_cpu_functions, "fill_mask", recorded)
    mlp: Any = model.blocks[0].mlp
    found = mlp_and_head(x, mlp, model.head, rate, Scratch())
    parameters = [x, *mlp.parameters(), model.head.weight]
    ours = torch.autograd.grad((found * weights).sum(), parameters)
    assert len(masks) == (2 if rate else 0)
    expected = plain_tail(model, x, masks)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    theirs = torch.autograd.grad((expected * weights).sum(), parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dropped_attention_is_the_plain_formula_with_the_same_mask(
    rate: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [torch.randn(3, 2, 9, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    query, key, value = inputs
    weights = torch.randn(3, 2, 9, 8, dtype=torch.float64)
    masks: list[Tensor] = []

    def recorded(*arguments: Any) -> Tensor:
        mask = fill_mask(*arguments)
        masks.append(mask.clone())
        return mask

    monkeypatch.setattr(fast_cpu_functions, "fill_mask", recorded)
    found = dropped_attention(query.to(dtype), key.to(dtype), value.to(dtype), rate, Scratch(), "a")
    ours = torch.autograd.grad((found.double() * weights).sum(), inputs)
    shares = (query @ key.mT / 8**0.5).softmax(dim=-1)
    expected = (shares * masks[0].double() / keep_share(rate)) @ value
    theirs = torch.autograd.grad((expected * weights).sum(), inputs)
    assert len(masks) == 1 and masks[0].shape == (3, 2, 9, 9)
    assert 0 < float(masks[0].double().mean()) < 1
    tolerance = 1e-10 if dtype == torch.float64 else 0.1
    for one, other in zip((found.double(), *ours), (expected, *theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_memory_that_was_used_again_before_the_backward_pass_is_an_error() -> None:
    model = discriminator_of()
    mlp: Any = model.blocks[0].mlp
    scratch, x = Scratch(), torch.randn(5, 16)
    first = mlp_and_head(x, mlp, model.head, 0.0, scratch)
    mlp_and_head(x, mlp, model.head, 0.0, scratch)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        first.sum().backward()  # type: ignore[no-untyped-call]


def drawn_logits(model: Discriminator, features: Tensor, plain: bool) -> Tensor:
    if plain:
        return torch.as_tensor(model(features))
    return training_logits(model, features, projection_offset(model), Scratch())


def test_dropout_has_the_distribution_of_torch_s() -> None:
    model = discriminator_of(dropout=0.2)
    features = torch.randn(1, 9, 16).expand(4000, 9, 16)
    with torch.no_grad():
        ours, theirs = (drawn_logits(model, features, plain) for plain in (False, True))
    spread = theirs.std(dim=0)
    # Five standard errors of the difference of two means; a tenth of the standard deviation is
    # about four and a half of its own.
    assert bool(((ours.mean(0) - theirs.mean(0)).abs() < 5 * spread * (2 / 4000) ** 0.5).all())
    torch.testing.assert_close(ours.std(dim=0), spread, rtol=0.1, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_types_of_a_step(dtype: torch.dtype) -> None:
    model = discriminator_of(dropout=0.1, blocks=2)
    step = Step(model, tiny_config(), CPU, dtype=dtype)
    value = step(torch.randn(4, 9, 16), None, torch.Generator().manual_seed(0))
    assert value.dtype == torch.float32
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_bfloat16_points_the_same_way_as_float32(mean: float) -> None:
    """Also where features lie far from zero and positions take them back, as `centred` does."""
    model = discriminator_of()
    model.positions.data -= mean
    features = torch.randn(8, 9, 16) + mean
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        Step(model, tiny_config(), CPU, dtype=dtype)(
            features, None, torch.Generator().manual_seed(0)
        )
        found.append(torch.cat([g.flatten() for g in gradients(model).values()]))
    assert not torch.equal(found[0], found[1]), "it was not computed in bfloat16"
    assert float(F.cosine_similarity(found[0], found[1], dim=0)) > 0.999


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_that_was_cut_off_ends_with_the_same_bits(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).normal(size=(6, 9, 16)).astype(np.float16)
    features = Features(values, None, True, 0)
    config = tiny_config(epochs=4, batch_size=3, dropout=0.1)

    def stop(stage: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    def trained(model: Discriminator, progress: Progress | None = None) -> dict[str, Tensor]:
        file = tmp_path / "checkpoint" if progress or (tmp_path / "checkpoint").exists() else None
        fit(model, features, config, device=CPU, checkpoint=file, progress=progress, dtype=dtype)
        return model.state_dict()

    whole = trained(discriminator_of())
    with pytest.raises(KeyboardInterrupt):
        trained(discriminator_of(), stop)
    resumed = trained(discriminator_of(seed=1))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
