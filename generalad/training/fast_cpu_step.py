"""The discriminator in training on a CPU: the same function in a form whose gradients are cheap.

What is different from calling the module, and why:

* Features need no gradient and positions do, which are the same for all images. So the gradient of
  what comes out of the first projection is summed over images before it is taken back through it:
  a product for N patches, not for B N.
* Attention with dropout, and the last MLP with the head, have their gradients written out, see
  `fast_cpu_functions`, which also draws the masks.
* Without dropout, attention in bfloat16 is written out: torch's fused form is no faster there than
  in float32.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from generalad.model.discriminator import Block, Discriminator, SelfAttention
from generalad.training.fast_cpu_functions import (
    Scratch,
    dropped_attention,
    fill_mask,
    keep_share,
    mlp_and_head,
)


def projection_offset(discriminator: Discriminator) -> Tensor:
    """Zeros (N, 3 D) that collect the gradient of what comes out of the first projection."""
    positions = discriminator.positions
    return positions.new_zeros(len(positions), 3 * positions.shape[1], requires_grad=True)


def add_position_gradient(discriminator: Discriminator, offset: Tensor) -> None:
    """Add to the positions' gradient what `offset` collected."""
    positions, weight = discriminator.positions, _blocks(discriminator)[0].attention.in_proj.weight
    assert positions.grad is not None and offset.grad is not None, "before the backward pass"
    positions.grad.addmm_(offset.grad, weight.detach())


def training_logits(
    discriminator: Discriminator, features: Tensor, offset: Tensor, scratch: Scratch
) -> Tensor:
    """Logits with dropout, whatever mode the module is in.

    The backward pass leaves a part of the positions' gradient to `add_position_gradient`.

    Args:
        discriminator: on the CPU.
        features: (B, N, D) float32.
        offset: a `projection_offset`.
        scratch: kept from step to step; the backward pass must come before the next call.

    Returns:
        (B, N) float32.
    """
    x = features + discriminator.positions
    blocks = _blocks(discriminator)
    packed = blocks[0].attention.in_proj(x.detach())
    packed = packed + offset.to(packed.dtype)
    for index, block in enumerate(blocks):
        if index:
            x = _add_dropped(x, blocks[index - 1].mlp(x), block.dropout.p, scratch)
            packed = block.attention.in_proj(x)
        attended = _attended(block.attention, packed, scratch, str(index))
        x = block.norm(_add_dropped(x, attended, block.dropout.p, scratch))
    last = blocks[-1]
    logits = mlp_and_head(x.flatten(0, 1), last.mlp, discriminator.head, last.dropout.p, scratch)
    return logits.view(features.shape[:2])


def _attended(attention: SelfAttention, packed: Tensor, scratch: Scratch, name: str) -> Tensor:
    """What follows the first projection: (B, N, 3 D) to (B, N, D)."""
    batch, patches = packed.shape[:2]
    # Split like this, the gradients of the three are put together by one copy.
    query, key, value = (
        part.view(batch, patches, attention.heads, -1).transpose(1, 2)
        for part in packed.chunk(3, dim=-1)
    )
    if attention.dropout:
        mixed = dropped_attention(query, key, value, attention.dropout, scratch, name)
    elif packed.dtype == torch.float32:
        mixed = F.scaled_dot_product_attention(query, key, value)
    else:
        query = query * query.shape[-1] ** -0.5
        mixed = (query @ key.transpose(-2, -1)).softmax(dim=-1) @ value
    return torch.as_tensor(attention.out_proj(mixed.transpose(1, 2).flatten(2)))


def _add_dropped(x: Tensor, update: Tensor, rate: float, scratch: Scratch) -> Tensor:
    """X + Dropout(update), both (B, N, D)."""
    if not rate:
        return x + update
    mask = fill_mask(torch.empty_like(update), rate, scratch)
    return torch.addcmul(x, update, mask, value=1 / keep_share(rate))


def _blocks(discriminator: Discriminator) -> list[Block]:
    return cast("list[Block]", list(discriminator.blocks))
