"""Two functions of the discriminator with their gradients written out, for training on a CPU.

Both contain dropout, whose masks are cheap to draw here, and both keep what their backward pass
needs in memory that is used again from step to step.

**Attention with dropout.** Torch's fused form knows no dropout on a CPU, and its plain form keeps
the shares, the mask and their product. Two of them are enough: the mask is where the product is 0.

**The last MLP and the head.** With W1, b1 and W2, b2 as the MLP's two layers, v as the head, and k
and m as the masks of the two dropouts with their scales, the logit of a patch x is

    v·x + (m v)·(W2 h + b2)  with  h = k GELU(W1 x + b1)
      = v·x + (m v)·b2 + h·u  with  u = W2ᵀ (m v).

Written with u, W2 needs no dense product. Were nothing dropped, u would be the same for all
patches; what each patch lacks is a sum over the few rows of W2 that were dropped. u is also the
gradient of the logit by h, and the gradients of W2 and v both follow from S = Σ g m hᵀ, where g is
the gradient of the loss by the logit: the same for all rows, less the patches dropped in each.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


def dropped_attention(
    query: Tensor, key: Tensor, value: Tensor, rate: float, scratch: Scratch, name: str
) -> Tensor:
    """Dropout(softmax(Q Kᵀ / √d)) V, as `nn.MultiheadAttention` computes it in training.

    Args:
        query: (B, heads, N, d), as `key` and `value`; float32 or bfloat16, in which it computes.
        key: see `query`.
        value: see `query`.
        rate: of the dropout, above 0.
        scratch: holds what the backward pass needs, so that must come before the next call
            under the same name.
        name: of this attention, where a discriminator has several.

    Returns:
        (B, heads, N, d).
    """
    with torch.autocast(query.device.type, enabled=False):
        return torch.as_tensor(_DroppedAttention.apply(query, key, value, rate, scratch, name))


class _DroppedAttention(torch.autograd.Function):
    """`shares` are the softmax, `kept` what dropout leaves of them before it scales."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        rate: float,
        scratch: Scratch,
        name: str,
    ) -> Tensor:
        """See `dropped_attention`."""
        shape = (*query.shape[:3], key.shape[2])
        kept, shares = (scratch.take(f"{n} {name}", shape, query.dtype) for n in ("kept", "shares"))
        ctx.c, ctx.scale, ctx.scratch = 1 / keep_share(rate), query.shape[-1] ** -0.5, scratch
        torch.matmul(query * ctx.scale, key.transpose(-2, -1), out=kept)
        torch.softmax(kept, dim=-1, out=shares)
        fill_mask(kept, rate, scratch).mul_(shares)
        mixed = (kept @ value).mul_(ctx.c)
        ctx.save_for_backward(query, key, value, shares, kept, mixed)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Of query, key and value."""
        query, key, value, shares, kept, mixed = ctx.saved_tensors
        with torch.autocast(query.device.type, enabled=False):
            along = (gradients[0] * mixed).sum(dim=-1, keepdim=True)
            g = gradients[0] * ctx.c
            slope = ctx.scratch.take("slope", shares.shape, shares.dtype)
            torch.matmul(g, value.transpose(-2, -1), out=slope)
            slope.mul_(kept).addcmul_(shares, along, value=-1)
            dquery = (slope @ key).mul_(ctx.scale)
            dkey = (slope.transpose(-2, -1) @ query).mul_(ctx.scale)
            dvalue = kept.transpose(-2, -1) @ g
        return dquery, dkey, dvalue, None, None, None


def mlp_and_head(
    x: Tensor, mlp: nn.Sequential, head: nn.Linear, rate: float, scratch: Scratch
) -> Tensor:
    """Logits of x + Dropout(MLP(x)) under the head.

    Args:
        x: (R, D) float32, R patches.
        mlp: Linear, GELU, Dropout, Linear.
        head: Linear to one number, without bias.
        rate: of both dropouts.
        scratch: holds what the backward pass needs, so that must come before the next call.

    Returns:
        (R,) float32. Under autocast the products are taken in its type.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    layers = (mlp[0].weight, mlp[0].bias, mlp[3].weight, mlp[3].bias, head.weight)
    with torch.autocast(device, enabled=False):
        return torch.as_tensor(_MLPAndHead.apply(x, *layers, rate, dtype, scratch))


class _MLPAndHead(torch.autograd.Function):
    """Names as in the module's docstring; H is the hidden size.

    h is kept without c, the scale of its dropout: u has it instead, where it takes no pass over
    R H numbers.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w1: Tensor,
        b1: Tensor,
        w2: Tensor,
        b2: Tensor,
        v: Tensor,
        rate: float,
        dtype: torch.dtype,
        scratch: Scratch,
    ) -> Tensor:
        """(R, D) to (R,)."""
        c = 1 / keep_share(rate)
        kept = fill_mask(torch.empty_like(x), rate, scratch) if rate else None
        logits = x @ v[0] + (v @ b2 if kept is None else kept @ (v[0] * b2 * c))
        w1, shape = w1.to(dtype), (len(x), len(w1))
        inner, h, u = (scratch.take(name, shape, dtype) for name in ("inner", "h", "u"))
        torch.addmm(b1.to(dtype), x.to(dtype), w1.t(), out=inner)
        rows = w2 * (v.t() * c**2)
        u.copy_(rows.sum(dim=0))
        if kept is not None:
            u -= _sums_of_dropped(rows.to(dtype), kept)
        torch.ops.aten.gelu.out(inner, out=h)
        slope = torch.ops.aten.gelu_backward.grad_input(u, inner, grad_input=inner)
        if rate:
            keep = fill_mask(scratch.take("keep", shape, dtype), rate, scratch)
            h.mul_(keep)
            slope.mul_(keep)
        logits += u.mul_(h).sum(dim=1)
        ctx.save_for_backward(x, w1, w2, b2, v, h, slope, kept)
        ctx.c = c
        return logits

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Of x and the five parameters. `slope` is the gradient of the logit by W1 x + b1."""
        x, w1, w2, b2, v, h, slope, kept = ctx.saved_tensors
        g, g_cast = gradients[0], gradients[0].to(h.dtype)
        with torch.autocast(x.device.type, enabled=False):
            # Patches are weighted by g where they are D wide, which is cheaper than where H wide.
            dx = (slope @ w1).to(x.dtype).add_(v).mul_(g.unsqueeze(1))
            dw1 = (slope.t() @ (x * g.unsqueeze(1)).to(slope.dtype)).to(w2.dtype)
            db1 = (slope.t() @ g_cast).to(w2.dtype)
            s = (g_cast @ h).to(w2.dtype).expand_as(w2)
            sums = g.sum()
            if kept is not None:
                s = s - _sums_of_dropped(h, kept.t(), g_cast)
                sums = (g @ kept) * ctx.c
            s = s * ctx.c**2
            dv = (w2 * s).sum(dim=1) + b2 * sums + g @ x
        return dx, dw1, db1, v.t() * s, v[0] * sums, dv.unsqueeze(0), None, None, None


def _sums_of_dropped(rows: Tensor, kept: Tensor, weights: Tensor | None = None) -> Tensor:
    """Σ of rows (n, H), weighted by (n,), where each row of `kept` (m, n) is 0: (m, H)."""
    dropped = kept == 0
    places = dropped.nonzero()[:, 1]
    starts = F.pad(dropped.sum(dim=1).cumsum(dim=0)[:-1], (1, 0))
    each = None if weights is None else weights[places]
    return F.embedding_bag(places, rows, starts, mode="sum", per_sample_weights=each)
