"""Dropout masks that are cheap to draw on a CPU, and memory that is used again."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LEVELS = 1 << 16
"""A number is dropped by comparing 16 random bits with a threshold."""


class Scratch:
    """CPU arrays that are handed out again under the same name.

    Large arrays go back to the operating system when they are freed, and asking for them anew in
    every step can cost more than what is computed in them.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An array of this shape; whoever took the name before loses what it held."""
        count = math.prod(shape)
        held = self._held.get((name, dtype))
        if held is None or len(held) < count:
            held = self._held[name, dtype] = torch.empty(count, dtype=dtype)
        return held[:count].view(shape)


def fill_mask(mask: Tensor, rate: float, scratch: Scratch) -> Tensor:
    """Fill with ones, each with probability `keep_share(rate)`, and zeros.

    Four decisions share one draw of 64 bits from torch's global generator. A Bernoulli draw for
    each costs several times as much, and was the largest part of a step after matrix products.

    Args:
        mask: any shape, on the CPU.
        rate: of dropout.
        scratch: holds the random bits.

    Returns:
        `mask`.
    """
    words = scratch.take("words", (-(-mask.numel() // 4),), torch.int64)
    bits = words.random_(-(1 << 63), None).view(torch.int16)[: mask.numel()]
    # In place, because only a comparison that stays in its own type is vectorised.
    return mask.copy_(bits.ge_(_dropped_levels(rate) - _LEVELS // 2).view(mask.shape))


def keep_share(rate: float) -> float:
    """The part that `fill_mask` keeps: 1 - rate, to within 1 in 131,072."""
    return 1 - _dropped_levels(rate) / _LEVELS


def _dropped_levels(rate: float) -> int:
    return min(round(rate * _LEVELS), _LEVELS - 1)  # one level is left, or nothing could be scaled
