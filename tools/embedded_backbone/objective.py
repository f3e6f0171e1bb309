"""What the backbone is trained for: a good patch has a near neighbour in other good pictures of its
category, a disturbed patch has none.

Three terms, each a plain mean:
1. Episodic: the squared distance of every patch to its nearest patch among the good pictures of the
   same episode, through a logistic curve with two learned numbers, against the mask. It is taken on
   every layer in use, after the final LayerNorm, where the detector will read.
2. In-picture: one linear layer tells from the features alone whether a patch was disturbed.
3. Reconstruction: a linear layer gives back the patch's pixels at half resolution, so that what
   no disturbance of the generator needed is not thrown away.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IGNORED = -1.0
_TOP = 3  # patches that decide about a picture
_WINDOW = 2  # patches; how far a place may move where pictures are aligned
_POSITIVE_WEIGHT = 3.0
_IN_PICTURE, _RECONSTRUCTION = 0.5, 0.2


def patch_labels(masks: Tensor, patch: int) -> Tensor:
    """Masks (B, H, W) bool to labels (B, N): 1, 0, or `IGNORED` where too little was changed."""
    area = F.avg_pool2d(masks.float().unsqueeze(1), patch).flatten(1) * patch * patch
    labels = (area >= 2.5).float()
    return torch.where((area > 0) & (area < 2.5), torch.full_like(labels, IGNORED), labels)


def nearest(queries: Tensor, bank: Tensor, forbidden: Tensor) -> Tensor:
    """Mean squared distance to the nearest allowed bank entry.

    Args:
        queries: (Q, D).
        bank: (M, D).
        forbidden: (Q, M) bool.
    """
    with torch.no_grad():  # the search needs no gradient and little precision
        likeness = queries.bfloat16() @ bank.bfloat16().T
        index = likeness.masked_fill_(forbidden, -torch.inf).argmax(dim=1)
    return (queries - bank.index_select(0, index)).square().mean(dim=1)


def far_apart(grid: int) -> Tensor:
    """(N, N) bool, True where two places are more than the window apart."""
    row = torch.arange(grid * grid) // grid
    column = torch.arange(grid * grid) % grid
    gap = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs())
    return gap > _WINDOW


class Objective(nn.Module):
    """The three terms for a batch of episodes; holds the heads that are thrown away afterwards.

    Args:
        dim: D of one layer.
        layers: number of layers in use.
        grid: patches on a side.
        patch: pixels on a side of a patch.
        pictures: K, pictures of an episode.
        good: how many of them are good; they come first.
        picture_weight: of telling good pictures from disturbed ones by their highest patches.
    """

    def __init__(
        self,
        dim: int,
        layers: int,
        *,
        grid: int,
        patch: int,
        pictures: int,
        good: int,
        picture_weight: float,
    ) -> None:
        super().__init__()
        self.patch, self.good, self.picture_weight = patch, good, picture_weight
        self.slope = nn.Parameter(torch.full((layers,), 2.0))
        self.middle = nn.Parameter(torch.full((layers,), math.log(0.25)))
        self.picture_middle = nn.Parameter(torch.zeros(layers + 1))
        self.in_picture = nn.Linear(dim * layers, 1)
        self.pixels = nn.Linear(dim * layers, 3 * (patch // 2) ** 2)
        # A good picture must not find itself, and in aligned pictures nothing from far away.
        own = torch.eye(pictures, good, dtype=torch.bool)
        own = own.repeat_interleave(grid * grid, 0).repeat_interleave(grid * grid, 1)
        self.register_buffer("own", own, persistent=False)
        far = far_apart(grid).repeat(pictures, good)
        self.register_buffer("own_or_far", own | far, persistent=False)

    def forward(
        self, features: list[Tensor], images: Tensor, labels: Tensor, aligned: Tensor
    ) -> dict[str, Tensor]:
        """Loss terms, already weighted.

        Args:
            features: for each layer (E, K, N, D): E episodes of K pictures, the good ones first.
            images: (E * K, 3, H, W) normalised.
            labels: (E, K, N), see `patch_labels`.
            aligned: (E,) bool.
        """
        whole = torch.cat(features, dim=-1)
        logits = [
            self._curve(layer, self._distances(values, aligned))
            for layer, values in enumerate(features)
        ]
        episodic = [self._judge(one, labels, layer) for layer, one in enumerate(logits)]
        inside = self._judge(self.in_picture(whole)[..., 0], labels, len(features))
        terms = {"episodic": torch.stack(episodic).mean(), "in_picture": _IN_PICTURE * inside}
        small = F.avg_pool2d(images, 2)
        truth = F.unfold(small, self.patch // 2, stride=self.patch // 2).transpose(1, 2)
        guess = self.pixels(whole).flatten(0, 1)
        terms["reconstruction"] = _RECONSTRUCTION * F.mse_loss(guess, truth)
        return terms

    def _judge(self, logits: Tensor, labels: Tensor, reader: int) -> Tensor:
        """Cross-entropy of the patches (E, K, N), and of the pictures by their highest patches."""
        weight = torch.where(labels == 1, _POSITIVE_WEIGHT, 1.0) * (labels != IGNORED)
        loss = _bce(logits, labels.clamp(min=0), weight)
        if self.picture_weight == 0:
            return loss
        highest = logits.topk(_TOP, dim=-1).values.mean(dim=-1) - self.picture_middle[reader]
        spoiled = (labels == 1).any(dim=-1).float()
        return loss + self.picture_weight * F.binary_cross_entropy_with_logits(highest, spoiled)

    def _curve(self, layer: int, distances: Tensor) -> Tensor:
        return self.slope[layer] * ((distances + 0.01).log() - self.middle[layer])

    def _distances(self, values: Tensor, aligned: Tensor) -> Tensor:
        """Of every patch to its nearest good one: (E, K, N, D) to (E, K, N)."""
        found = []
        for one, fixed in zip(values.unbind(0), aligned.tolist(), strict=True):
            queries, bank = one.flatten(0, 1), one[: self.good].flatten(0, 1)
            closest = nearest(queries, bank, self.get_buffer("own_or_far" if fixed else "own"))
            found.append(closest.view(one.shape[:2]))
        return torch.stack(found)


def _bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (losses * weight).sum() / weight.sum()
