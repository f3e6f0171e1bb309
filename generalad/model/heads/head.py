"""`Head`: what the rest of the project knows of a method."""

from __future__ import annotations

from torch import Tensor, nn

from generalad.config import Config


class Head(nn.Module):
    """Patch features to patch scores.

    What training makes are its parameters and buffers; everything in `forward` becomes part of the
    exported graph.

    Args:
        config: of the run.
        grid: (rows, columns) of patches; N = rows x columns.
        dim: D, width of a patch feature.
    """

    title = ""
    """What the method is called in a spec."""

    def __init__(self, config: Config, grid: tuple[int, int], dim: int) -> None:
        super().__init__()
        self.grid, self.dim = grid, dim
        self.patches = grid[0] * grid[1]

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, N, D) float32 to scores (B, N), raw, higher is more anomalous."""
        raise NotImplementedError
