"""What the backbone is trained for: a disturbed patch lies far from the good ones of its category.

Five terms, each a plain mean:
1. Deviation: the squared length of a patch's difference to the mean of good images at its place
   (of all places where a category is not aligned), measured in the covariance of the good images'
   own differences, through a logistic curve with two learned numbers, against the mask. One
   covariance serves all places, so features are rewarded that vary equally everywhere: this is the
   deviation that noise of one size teaches a discriminator to see.
2. Neighbour: the same with the plain squared distance to the nearest good patch.
3. In-image: one linear layer tells from the feature alone whether a patch was disturbed.
4. Description: a linear layer gives back the gradients and colours of the patch, so that what no
   disturbance of the generator needed is not thrown away.
5. Spread: over all categories together the features are uncorrelated and of unit variance.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generalad.model.embedded_vit import CHANNELS, PATCH, GradientStem

_TOP = 2  # patches that decide about an image
_DISTURBED_AREA = 6.0  # pixels of a patch; below that it counts as neither
_POSITIVE_WEIGHT, _NEAR_WEIGHT, _IMAGE_WEIGHT = 3.0, 0.25, 0.25
_NEIGHBOUR, _IN_IMAGE, _DESCRIPTION, _SPREAD = 0.5, 0.4, 2.0, 0.1
_SHRINKAGE = 0.1


class Labels:
    """What the masks say of patches and images.

    Args:
        masks: (E, K, H, W) bool.

    Attributes:
        patches: (E, K, N) 1 or 0.
        weights: (E, K, N): 0 where too little of a patch was changed, small next to a change.
        images: (E, K) 1 or 0.
    """

    def __init__(self, masks: Tensor) -> None:
        area = F.avg_pool2d(masks.flatten(0, 1).float().unsqueeze(1), PATCH) * PATCH**2
        near = F.max_pool2d((area > 0).float(), 3, 1, 1)
        disturbed = area >= _DISTURBED_AREA
        weights = torch.ones_like(area)
        weights[near > 0] = _NEAR_WEIGHT
        weights[area > 0] = 0.0
        weights[disturbed] = _POSITIVE_WEIGHT
        shape = (*masks.shape[:2], -1)
        self.patches = disturbed.float().reshape(shape)
        self.weights = weights.reshape(shape)
        self.images = (self.patches > 0).any(dim=-1).float()


class Objective(nn.Module):
    """The five terms for a batch of episodes; holds the heads that are thrown away afterwards.

    Args:
        dim: D.
        good: how many images of an episode are good; they come first.
    """

    def __init__(self, dim: int, good: int) -> None:
        super().__init__()
        self.good = good
        self.slope = nn.Parameter(torch.full((2,), 2.0))
        self.middle = nn.Parameter(torch.zeros(2))
        self.image_middle = nn.Parameter(torch.zeros(3))
        self.in_image = nn.Linear(dim, 1)
        self.stem = GradientStem(img_size=(PATCH, PATCH), embed_dim=1)
        self.description = nn.Linear(dim, 2 * 2 * CHANNELS)
        self.scale = nn.BatchNorm1d(self.description.out_features, affine=False, momentum=0.02)

    def forward(
        self, features: Tensor, images: Tensor, masks: Tensor, aligned: Tensor
    ) -> dict[str, Tensor]:
        """Loss terms, already weighted.

        Args:
            features: (E, K, N, D): E episodes of K images, the good ones first.
            images: (E * K, 3, H, W) normalised.
            masks: (E, K, H, W) bool.
            aligned: (E,) bool.
        """
        labels = Labels(masks)
        near, far = [], []
        for episode, fixed in zip(features.unbind(0), aligned.tolist(), strict=True):
            near.append(nearest(episode, self.good, fixed))
            far.append(deviation(episode, self.good, fixed))
        guess = self.description(features).flatten(0, 2)
        with torch.no_grad():
            truth = self.scale(self._describe(images))
        return {
            "deviation": self._judge(self._curve(0, torch.stack(far)), labels, 0),
            "neighbour": _NEIGHBOUR * self._judge(self._curve(1, torch.stack(near)), labels, 1),
            "in_image": _IN_IMAGE * self._judge(self.in_image(features)[..., 0], labels, 2),
            "description": _DESCRIPTION * F.mse_loss(guess, truth),
            "spread": _SPREAD * spread(features),
        }

    def _curve(self, index: int, distances: Tensor) -> Tensor:
        return self.slope[index] * ((distances + 0.01).log() - self.middle[index])

    def _judge(self, logits: Tensor, labels: Labels, reader: int) -> Tensor:
        """Cross-entropy of the patches (E, K, N), and of the images by their highest patches."""
        each = F.binary_cross_entropy_with_logits(logits, labels.patches, reduction="none")
        loss = (each * labels.weights).sum() / labels.weights.sum()
        counted = logits.masked_fill(labels.weights == 0, -1e4)
        highest = counted.topk(_TOP, dim=-1).values.mean(dim=-1) - self.image_middle[reader]
        return loss + _IMAGE_WEIGHT * F.binary_cross_entropy_with_logits(highest, labels.images)

    def _describe(self, images: Tensor) -> Tensor:
        """Gradients and colours of a patch's 2 x 2 cells: (E * K * N, 84)."""
        return F.unfold(self.stem.describe(images), 2, stride=2).transpose(1, 2).flatten(0, 1)


def nearest(features: Tensor, good: int, aligned: bool) -> Tensor:
    """Mean squared distance to the nearest patch of another good image: (K, N, D) to (K, N).

    In aligned images only neighbouring places are searched.
    """
    images, patches, _ = features.shape
    queries, bank = features.flatten(0, 1), features[:good].flatten(0, 1)
    forbidden = torch.eye(images, good, dtype=torch.bool)
    forbidden = forbidden.repeat_interleave(patches, 0).repeat_interleave(patches, 1)
    if aligned:
        grid = round(patches**0.5)
        row, column = torch.arange(patches) // grid, torch.arange(patches) % grid
        gap = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs())
        forbidden = forbidden | (gap > 1).repeat(images, good)
    with torch.no_grad():
        index = torch.cdist(queries, bank).masked_fill_(forbidden, torch.inf).argmin(dim=1)
    return (queries - bank[index]).square().mean(dim=1).view(images, patches)


def deviation(features: Tensor, good: int, aligned: bool) -> Tensor:
    """Squared length of the difference to the other good images: (K, N, D) to (K, N).

    In units of the covariance of the good images' differences, shrunk towards a multiple of the
    identity; no gradient flows through the covariance.
    """
    dim = features.shape[-1]
    places = features if aligned else features.mean(dim=1, keepdim=True)
    total = places[:good].sum(dim=0)
    without_own = (total - places[:good]) / (good - 1)
    of_all = (total / good).expand(len(features) - good, *total.shape)
    residual = features - torch.cat([without_own, of_all])
    with torch.no_grad():
        own = residual[:good].flatten(0, 1)
        covariance = own.T @ own / len(own)
        ridge = _SHRINKAGE * covariance.diagonal().mean() + 1e-3
        lower = torch.linalg.cholesky(covariance + ridge * torch.eye(dim))
        whiten = torch.linalg.solve_triangular(lower, torch.eye(dim), upper=False)
    return torch.as_tensor((residual @ whiten.T).square().mean(dim=-1))


def spread(features: Tensor) -> Tensor:
    """How far the covariance of all features (..., D) is from the identity."""
    flat = features.flatten(0, -2)
    centred = flat - flat.mean(dim=0)
    covariance = centred.T @ centred / len(centred)
    variances = covariance.diagonal()
    off = (covariance - torch.diag(variances)).square().sum() / len(variances)
    return off + 5 * (variances - 1).square().mean()
