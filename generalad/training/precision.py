"""Which floating-point type is computed in."""

from __future__ import annotations

import torch


def feature_dtype(device: torch.device) -> torch.dtype:
    """Of the backbone: bfloat16 on a GPU that has it, float32 elsewhere.

    Float32 on a CPU whatever it can do, so that cached features are those of the exported network.
    """
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if has_bf16 else torch.float32


def training_dtype(device: torch.device) -> torch.dtype:
    """Of the discriminator's training step: as `feature_dtype`, and bfloat16 on a CPU that has it.

    Weights, their gradients, sums and the optimiser stay in float32.
    """
    if device.type == "cpu" and cpu_has_bfloat16():
        return torch.bfloat16
    return feature_dtype(device)


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware; False where torch cannot say.

    Without the hardware torch computes in bfloat16 as well, only slower than in float32.
    """
    ask = getattr(torch.cpu, "get_capabilities", None)  # not in every version we support
    found = ask() if ask is not None else {}
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Torch's autocast to `dtype`; none for float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
