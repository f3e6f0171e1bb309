"""The categories, and one image of one part."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from generalad.errors import UsageError
from generalad.synth import board, fabric, washer
from generalad.synth.scene import OVERSAMPLING, Category, Lighting, mask_of, photograph

CATEGORIES: Mapping[str, Category] = MappingProxyType(
    {item.name: item for item in (washer.CATEGORY, fabric.CATEGORY, board.CATEGORY)}
)


def render_part(
    category: str,
    rng: np.random.Generator,
    *,
    defect: str | None = None,
    size: int = 256,
    lighting: Lighting | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Photograph one part: (H, W, 3) uint8 RGB image and (H, W) uint8 mask, 0 or 255.

    Equal generators show the same part whatever the defect. Every call takes four numbers from
    `rng`, so a stream of parts can share one generator.

    Args:
        category: A name from `CATEGORIES`.
        rng: Decides the part, its defect, the lighting and the noise.
        defect: One of the category's defects, or None for a good part.
        size: Side of the image in pixels.
        lighting: The state of the lamp; drawn from `rng` if None.

    Raises:
        UsageError: The category or the defect is unknown.
    """
    if category not in CATEGORIES:
        raise UsageError(
            f"unknown category {category!r}", remedy=f"choose from {', '.join(CATEGORIES)}"
        )
    known = CATEGORIES[category].defects
    if defect is not None and defect not in known:
        raise UsageError(
            f"unknown defect {defect!r} of {category}", remedy=f"choose from {', '.join(known)}"
        )
    seeds = rng.integers(0, 2**63, size=4)
    lamp, part, flaw, sensor = (np.random.default_rng(int(seed)) for seed in seeds)
    if lighting is None:
        lighting = Lighting.draw(lamp)
    drawing = CATEGORIES[category].draw(part, flaw, lighting, defect, size * OVERSAMPLING)
    return photograph(drawing.light, lighting, sensor), mask_of(drawing.coverage, size)
