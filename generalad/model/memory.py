"""A memory of patch features, and the distance to the nearest entry, as one matrix product."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MOST_CANDIDATES = 20_000
"""Patches that a coreset is chosen from; more, at random, change it hardly and cost time."""

TEMPERATURE = 6.0
"""Of the weights of near entries: their half squared distances, in whitened units, over this."""

PROJECTED = 64
"""Width of the random projection in which the coreset is chosen (Roth et al. 2022, section 3.2)."""


class Memory(nn.Module):
    """M vectors of width D.

    Args:
        size: M.
        dim: D.
    """

    vectors: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(size, dim))

    def squared_distances(self, features: Tensor) -> Tensor:
        """Squared distances (B, N) of features (B, N, D) to their nearest entries."""
        return self._squared_distances(features, self._closeness(features))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances (B, N) of features (B, N, D) to the nearest, and means (B, N, D) of it.

        The second is a mean of the entries that weighs near ones most. The nearest alone jumps from
        one entry to another where both are about as near, and what looks at it jumps along, at a
        rounding to half precision already.
        """
        closeness = self._closeness(features)
        mean = (closeness / TEMPERATURE).softmax(dim=-1) @ self.vectors
        return self._squared_distances(features, closeness), mean

    def _closeness(self, features: Tensor) -> Tensor:
        """x·m - |m|^2 / 2 for each entry, (B, N, M): in the order of -|x - m|^2."""
        return features @ self.vectors.t() - self.vectors.square().sum(dim=1) / 2

    def _squared_distances(self, features: Tensor, closeness: Tensor) -> Tensor:
        # From the difference itself: the sum of three large numbers would lose its last digits.
        nearest = self.vectors[closeness.argmax(dim=-1)]
        return (features - nearest).square().sum(dim=-1)

    @torch.no_grad()
    def fill(self, patches: Tensor, *, seed: int) -> None:
        """Keep a coreset of `patches` (n, D); fewer than M are repeated.

        Greedy k-centre: each next entry is the patch farthest from all entries so far (Sener and
        Savarese 2018).
        """
        random = torch.Generator().manual_seed(seed)
        patches = patches.cpu()
        if len(patches) > MOST_CANDIDATES:
            patches = patches[torch.randperm(len(patches), generator=random)[:MOST_CANDIDATES]]
        chosen = coreset(patches, min(len(self.vectors), len(patches)), random)
        repeats = -(-len(self.vectors) // len(chosen))
        self.vectors.copy_(patches[chosen].repeat(repeats, 1)[: len(self.vectors)])


def coreset(patches: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Indices (count,) of a greedy k-centre coreset of patches (n, D), n >= count."""
    if patches.shape[1] > PROJECTED:
        projection = torch.randn(patches.shape[1], PROJECTED, generator=random)
        patches = patches @ (projection / math.sqrt(PROJECTED))
    squares = patches.square().sum(dim=1)
    nearest = torch.full((len(patches),), torch.inf)
    chosen = torch.empty(count, dtype=torch.long)
    index = int(torch.randint(len(patches), (1,), generator=random))
    for place in range(count):
        chosen[place] = index
        distance = squares + squares[index] - 2 * (patches @ patches[index])
        torch.minimum(nearest, distance, out=nearest)
        index = int(nearest.argmax())
    return chosen
