"""The attention discriminator of GeneralAD (paper, section 3.2): one logit for each patch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Multi-head self-attention with one packed projection for query, key and value.

    In training, dropout falls on the softmax, as in `nn.MultiheadAttention`.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        batch, patches, dim = x.shape
        packed = self.in_proj(x).reshape(batch, patches, 3, self.heads, dim // self.heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4).unbind(0)
        if self.training:
            mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=self.dropout)
        else:
            # Written out and scaled before the product: the form that inference engines fuse.
            query = query * (dim // self.heads) ** -0.5
            mixed = (query @ key.transpose(-2, -1)).softmax(dim=-1) @ value
        return torch.as_tensor(self.out_proj(mixed.transpose(1, 2).reshape(batch, patches, dim)))


class Block(nn.Module):
    """x = LayerNorm(x + Dropout(attention(x))); x = x + Dropout(MLP(x))."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(dim, heads, dropout)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        x = self.norm(x + self.dropout(self.attention(x)))
        return torch.as_tensor(x + self.dropout(self.mlp(x)))


class Discriminator(nn.Module):
    """Patch features to patch logits; positive means anomalous.

    Args:
        patches: N.
        dim: D, a multiple of `heads`.
        hidden: width of the MLP.
        heads: attention heads.
        blocks: attention blocks.
        dropout: rate in training: on the attention's softmax, inside the MLP, and behind both.
    """

    def __init__(
        self, *, patches: int, dim: int, hidden: int, heads: int, blocks: int, dropout: float
    ) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(patches, dim))
        self.blocks = nn.Sequential(*(Block(dim, heads, hidden, dropout) for _ in range(blocks)))
        self.head = nn.Linear(dim, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, N, D) to logits (B, N)."""
        return torch.as_tensor(self.head(self.blocks(features + self.positions)).squeeze(-1))

    def share_positions(self) -> None:
        """Start all places from the same position, for features that are deviations already.

        It is drawn like the paper's. Without any, the first LayerNorm would take the length of the
        deviation away; with one for each place, it would have to be learned place by place.
        """
        with torch.no_grad():
            self.positions.copy_(self.positions[:1].expand_as(self.positions))
