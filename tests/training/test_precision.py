"""Which type is computed in where."""

from __future__ import annotations

import pytest
import torch

from generalad.training.precision import (
    autocast,
    cpu_has_amx,
    feature_dtype,
    training_dtype,
)

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"avx512_bf16": True}, False),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": False, "avx512_f": True}, False),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_the_step_takes_bfloat16_where_the_processor_has_it_and_features_never_do(
    found: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert cpu_has_amx() == expected
    assert training_dtype(CPU) == (torch.bfloat16 if expected else torch.float32)
    assert feature_dtype(CPU) == torch.float32


def test_a_torch_that_cannot_say_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not cpu_has_amx()
    assert training_dtype(CPU) == torch.float32


@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_takes_one_type_for_both(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    expected = torch.bfloat16 if supported else torch.float32
    assert feature_dtype(GPU) == training_dtype(GPU) == expected


def test_autocast_to_float32_is_none() -> None:
    one = torch.ones(2, 2)
    with autocast(CPU, torch.float32):
        assert (one @ one).dtype == torch.float32
    with autocast(CPU, torch.bfloat16):
        assert (one @ one).dtype == torch.bfloat16
