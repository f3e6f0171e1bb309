"""Procedural industrial parts with defects and exact masks: demo data without a download."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from generalad.data.synth import board, fabric, washer
from generalad.data.synth.scene import Category, Lighting, mask_of, photograph

CATEGORIES: Mapping[str, Category] = MappingProxyType(
    {category.name: category for category in (washer.CATEGORY, fabric.CATEGORY, board.CATEGORY)}
)


def render_part(
    category: str,
    rng: np.random.Generator,
    *,
    defect: str | None = None,
    size: int = 256,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Photograph one part: (H, W, 3) uint8 RGB picture and (H, W) uint8 mask, 0 or 255.

    Equal generators give the same part whatever the defect.
    """
    seeds = rng.integers(0, 2**63, size=4)
    lamp, part, flaw, sensor = (np.random.default_rng(int(seed)) for seed in seeds)
    lighting = Lighting.draw(lamp)
    drawing = CATEGORIES[category].draw(part, flaw, lighting, defect, size)
    return photograph(drawing.light, lighting, sensor), mask_of(drawing.coverage, size)
