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
    """Of the discriminator's training step: as `feature_dtype`, and bfloat16 on a CPU with AMX.

    Weights, their gradients, sums and the optimiser stay in float32.
    """
    if device.type == "cpu" and cpu_has_amx():
        return torch.bfloat16
    return feature_dtype(device)


def cpu_has_amx() -> bool:
    """Whether the processor multiplies matrices of bfloat16; False where torch cannot say.

    AVX-512 BF16 alone is not enough: products of 2048 x 384 x 1536 took 1.5 to 1.8 times as long as
    in float32 on an Emerald Rapids with AMX hidden.
    """
    ask = getattr(torch.cpu, "get_capabilities", None)  # not in every version we support
    found = ask() if ask is not None else {}
    return bool(found.get("amx_bf16", False))


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Torch's autocast to `dtype`; none for float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
