"""Saturation thresholds of MVTec LOCO: how much of a defect has to be found.

Bergmann et al., "Beyond Dents and Scratches" (IJCV 2022): a missing object can be marked anywhere
it might lie, so a part of that area is enough. defects_config.json says how large a part, for each
kind of defect, which is told by the value of the pixels in its mask. Every mask file is one region.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generalad.data.named_files import read_json_file
from generalad.data.samples import Sample, Saturation
from generalad.errors import DataError
from generalad.preprocess import decode_mask_values, read_bytes

SATURATION_FILE = "defects_config.json"


@dataclass(frozen=True, eq=False)
class SaturatedRegion:
    """A defect in one image.

    Attributes:
        mask: (H, W) bool, of the original image.
        saturation: pixels of it that have to be found, above 0 and at most its area.
    """

    mask: NDArray[np.bool_]
    saturation: float


def read_saturation(root: Path) -> tuple[Saturation, ...]:
    """The thresholds of a class folder; none where it has no defects_config.json.

    Raises:
        DataError: the file is not as expected.
    """
    path = root / SATURATION_FILE
    if not os.path.isfile(path):
        return ()
    remedy = "take it from MVTec LOCO AD again, or remove it"
    try:
        table = tuple(
            Saturation(
                int(entry["pixel_value"]),
                float(entry["saturation_threshold"]),
                bool(entry["relative_saturation"]),
            )
            for entry in read_json_file(path, remedy)
        )
        if not table:
            raise ValueError("an empty list")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: expected a list of pixel_value, saturation_threshold and relative_saturation",
            remedy=remedy,
        ) from error
    return table


def saturated_regions(sample: Sample, table: Sequence[Saturation]) -> tuple[SaturatedRegion, ...]:
    """The defects of a sample, one a mask file.

    Raises:
        DataError: a mask that cannot be read, or whose pixel value is not in the table.
    """
    by_value = {entry.value: entry for entry in table}
    regions = []
    for path in sample.masks:
        values = _read_values(path)
        mask = values > 0
        if not mask.any():
            continue
        found = np.unique(values[mask]).tolist()
        if len(found) != 1 or found[0] not in by_value:
            raise DataError(
                f"{path}: pixel values {', '.join(map(str, found[:5]))}, expected one of those in"
                f" {SATURATION_FILE}: {', '.join(map(str, sorted(by_value)))}",
                remedy="masks and defects_config.json must be of the same version",
            )
        entry, area = by_value[found[0]], float(mask.sum())
        wanted = entry.threshold * area if entry.relative else entry.threshold
        regions.append(SaturatedRegion(mask, min(max(float(int(wanted)), 1.0), area)))
    return tuple(regions)


def _read_values(path: Path) -> NDArray[np.uint8]:
    """(H, W) uint8, the values as they stand in the file."""
    values = decode_mask_values(read_bytes(path), name=str(path))
    if values.dtype != np.uint8:
        raise DataError(f"{path}: expected a grey mask of 8 bits", remedy="download the set again")
    return np.asarray(values, np.uint8)
