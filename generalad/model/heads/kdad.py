"""KDAD: a student that sees the image learns the features of the backbone, its teacher.

It learns them on good images alone, so where it fails the image is unlike a good one. The student
is the small ViT that the authors of GeneralAD compare with.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generalad.config import Config
from generalad.errors import ConfigError
from generalad.model.discriminator import SelfAttention
from generalad.model.heads.head import Head


class PreNormBlock(nn.Module):
    """x = x + attention(LayerNorm(x)); x = x + MLP(LayerNorm(x))."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads, dropout)
        self.norm_2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, dim),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1 + N, D) to the same shape."""
        x = x + self.attention(self.norm_1(x))
        return torch.as_tensor(x + self.mlp(self.norm_2(x)))


class Student(nn.Module):
    """Normalised images (B, 3, H, W) to patch features (B, N, D).

    Args:
        grid: (rows, columns) of patches; N = rows x columns.
        patch: (height, width) of a patch in pixels.
        dim: D, of the teacher's features.
        hidden: width of the MLPs.
        heads: attention heads.
        blocks: attention blocks.
        dropout: rate in training: on the tokens, on the attention's softmax, twice in the MLP.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        patch: tuple[int, int],
        dim: int,
        *,
        hidden: int,
        heads: int,
        blocks: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, patch, stride=patch)
        self.class_token = nn.Parameter(torch.randn(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1 + grid[0] * grid[1], dim))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(
            *(PreNormBlock(dim, heads, hidden, dropout) for _ in range(blocks))
        )

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(images.shape[0], -1, -1), patches], dim=1)
        tokens = self.blocks(self.dropout(tokens + self.positions))
        return torch.as_tensor(tokens[:, 1:])


class PatchStudent(nn.Module):
    """Like `Student`, but each patch passes an MLP by itself: no place, no neighbours."""

    def __init__(self, patch: tuple[int, int], dim: int, *, hidden: int, dropout: float) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, hidden, patch, stride=patch)
        self.blocks = nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, dim))

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return torch.as_tensor(self.blocks(self.patch_embed(images).flatten(2).transpose(1, 2)))


class KDADHead(Head):
    """How far the student's features point from the teacher's.

    The score of a patch is the mean over channels of the squared difference of both vectors, each
    at length 1; that of an image the mean over its patches (`top_k` 0).
    """

    title = "KDAD"
    gives_lengths = True
    sees_images = True

    def __init__(
        self, config: Config, grid: tuple[int, int], dim: int, widths: tuple[int, ...] = ()
    ) -> None:
        super().__init__(config, grid, dim, widths)
        height, width = config.image_size
        patch = (height // grid[0], width // grid[1])
        if (height % grid[0], width % grid[1]) != (0, 0):
            raise ConfigError(
                f"image_size: expected a multiple of the {grid[0]} x {grid[1]} patches of the"
                f" features, found {height} x {width}"
            )
        self.student: nn.Module
        if not config.blocks:
            self.student = PatchStudent(
                patch, self.dim, hidden=config.hidden, dropout=config.dropout
            )
            return
        if self.dim % config.heads:
            raise ConfigError(
                f"heads: expected a divisor of the feature width {self.dim}, found {config.heads}"
            )
        self.student = Student(
            grid,
            patch,
            self.dim,
            hidden=config.hidden,
            heads=config.heads,
            blocks=config.blocks,
            dropout=config.dropout,
        )

    def forward(self, features: Tensor, images: Tensor | None = None) -> Tensor:
        """See `Head`; `images` (B, 3, H, W) as the backbone sees them."""
        assert images is not None
        return squared_difference(self.student(images), self.patch_features(features))


def squared_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Of vectors (B, N, D) brought to length 1, the mean over D: (B, N)."""
    student = student.to(teacher.dtype)  # training may have computed it in bfloat16
    difference = F.normalize(student, dim=-1) - F.normalize(teacher, dim=-1)
    return difference.square().mean(dim=-1)
