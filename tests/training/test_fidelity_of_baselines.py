"""SimpleNet and KDAD compute what the authors' code does; see `authors_baselines`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from authors import RATE, SIDE, body_of
from authors_baselines import (
    DROPPED,
    EPOCHS,
    NOISE,
    config_of,
    features,
    golden,
    images,
    kdad_head,
    kept,
    noise,
    simplenet_head,
    teacher,
)
from torch import Tensor, nn

from generalad.model.backbone import wrap
from generalad.model.detector import Detector
from generalad.training import kdad, simplenet
from generalad.training.loop import learning_rate

CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-12}


def check_step(model: nn.Module, optimiser: torch.optim.Optimizer, name: str, part: str) -> None:
    """Gradients of a batch, and all weights and statistics after a step with them."""
    stored = golden()
    for key, parameter in model.named_parameters():
        expected = stored[f"{name}/gradient/{part}{key}"].reshape(parameter.shape)
        torch.testing.assert_close(parameter.grad, expected, **CLOSE, msg=key)
    optimiser.step()
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            expected = stored[f"{name}/stepped/{part}{key}"].reshape(value.shape)
            # Fused AdamW orders its operations otherwise.
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-9, msg=key)


def test_simplenet_scores() -> None:
    backbone = wrap(body_of("vit"), (3,), (SIDE, SIDE)).double()
    head = simplenet_head().eval()
    detector = Detector(config_of("simplenet"), backbone)
    with torch.inference_mode():
        patches = head(backbone(images()))
    torch.testing.assert_close(patches, golden()["simplenet/patches"], **CLOSE)
    torch.testing.assert_close(detector.scores(patches), golden()["simplenet/scores"], **CLOSE)


def test_simplenet_loss_gradients_and_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both optimisers of theirs in one of ours, statistics of batch normalisation included."""
    monkeypatch.setattr(simplenet, "add_noise", lambda x, std, _generator: x + std * noise())
    head = simplenet_head().train()
    optimiser = simplenet.make_optimiser(head, config_of("simplenet"))
    loss = simplenet.objective(head, features(), 1.1 * NOISE, torch.Generator())
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss.detach(), golden()["simplenet/loss"], **CLOSE)
    check_step(head, optimiser, "simplenet", "")


def test_kdad_student_and_scores() -> None:
    head = kdad_head().eval()
    detector = Detector(config_of("kdad"), wrap(body_of("vit"), (3,), (SIDE, SIDE)))
    with torch.inference_mode():
        torch.testing.assert_close(head.student(images()), golden()["kdad/student"], **CLOSE)
        patches = head(teacher(), images())
    torch.testing.assert_close(detector.scores(patches), golden()["kdad/scores"], **CLOSE)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, dropout_p: float, **_options: Any
) -> Tensor:
    """As torch's, with a dropout that a test can give."""
    weights = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(dim=-1)
    return (F.dropout(weights, dropout_p) if dropout_p else weights) @ value


@pytest.mark.parametrize("rate", [0.0, RATE])
def test_kdad_loss_gradients_and_step(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout in all places of the student; the three images pass one by one."""
    images_in_turn = ((place, image) for image in range(3) for place in DROPPED)
    asked: Iterator[tuple[str, int]] = iter(images_in_turn)

    def dropout(x: Tensor, p: float, *_arguments: Any) -> Tensor:
        if not p:
            return x
        place, image = next(asked)
        return x * kept(place)[image : image + 1] / (1 - p)

    monkeypatch.setattr(F, "dropout", dropout)
    monkeypatch.setattr(F, "scaled_dot_product_attention", _attention)
    monkeypatch.setattr(kdad, "PATCHES", 1)
    head = kdad_head(dropout=rate).train()
    config = config_of("kdad")
    optimiser = kdad.make_optimiser(head, config)
    loss = kdad.add_gradients(head, teacher(), images(), torch.float32)
    name = "kdad/dropped" if rate else "kdad/plain"
    torch.testing.assert_close(loss.double(), golden()[f"{name}/loss"], rtol=1e-6, atol=0)
    check_step(head.student, optimiser, name, "student.")
    assert not rate or next(asked, None) is None, "some dropout is missing"


def test_schedules() -> None:
    config = config_of("simplenet")
    found = [[learning_rate(config, epoch), simplenet.ADAPTOR_LR] for epoch in range(config.epochs)]
    assert found == [pytest.approx(row, rel=1e-12) for row in golden()["simplenet/schedule"]]
    config = config_of("kdad")
    rates = [kdad.learning_rate(config, epoch) for epoch in range(EPOCHS["kdad"])]
    assert rates == pytest.approx(golden()["kdad/schedule"].tolist(), rel=1e-12)
    assert len(set(rates)) == 3


def test_float32_is_near() -> None:
    """What training and inference really compute in."""
    with torch.inference_mode():
        backbone = wrap(body_of("vit"), (3,), (SIDE, SIDE))
        seen = images().float()
        for name, patches in (
            ("simplenet/scores", simplenet_head().float().eval()(backbone(seen)).amax(dim=1)),
            ("kdad/scores", kdad_head().float().eval()(backbone(seen), seen).mean(dim=1)),
        ):
            expected = golden()[name]
            largest = float(expected.abs().max())
            torch.testing.assert_close(patches.double(), expected, rtol=0, atol=1e-5 * largest)
