"""Training on tiles of good frames, and calibration on whole frames.

A head sees some tiles of each frame, kept in memory. Thresholds are those of frames: the largest of
hundreds of tiles is larger than that of one, so a rate that held for tiles would not for frames.
Each frame is scored by a head that learned from no tile of it or its group.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from generalad.calibration import Measure, out_of_fold
from generalad.config import Config
from generalad.errors import DataError, UsageError
from generalad.geometry.geometry import Geometry, Tiles
from generalad.geometry.placement import prepare
from generalad.geometry.tiling import tile_starts
from generalad.model.detector import Detector
from generalad.model.heads import Head
from generalad.preprocess import read_image
from generalad.training.calibrated_spec import CalibrationScores
from generalad.training.loop import OnEpoch
from generalad.training.material import Material
from generalad.training.methods import teacher
from generalad.training.split import Split

BYTES_A_PIXEL = 12
"""Of a frame, and of a tile `BYTES_A_TILE`: measured on exports, see docs/geometry.md."""

BYTES_A_TILE = 260


def tiled_geometry(config: Config, geometry: Geometry | None, split: Split) -> Geometry | None:
    """The geometry of a run with the tiles that its configuration asks for.

    Raises:
        DataError: good images of several sizes.
        UsageError: a tile is larger than a frame.
    """
    if not config.tiles:
        return geometry
    if len(split.sizes) != 1:
        found = ", ".join(sorted(split.sizes)[:5])
        raise DataError(
            f"tiles are cut from frames of one size, found {len(split.sizes)}: {found}",
            remedy="give frames of one camera, at its full resolution",
        )
    width, height = map(int, next(iter(split.sizes)).split("x"))
    try:
        tiles = Tiles(config.tiles, config.tile_overlap, (height, width), config.tile_scale)
    except ValueError as error:
        raise UsageError(str(error)) from error
    found_geometry = dataclasses.replace(geometry or Geometry(), tiles=tiles)
    size = found_geometry.tiled_size()
    if min(size) < tiles.side:
        raise UsageError(
            f"tiles of {tiles.side} pixels are larger than what is judged of each frame,"
            f" {size[1]} x {size[0]}",
            remedy="take smaller --tiles, or leave them out: the frame is resized as a whole then",
        )
    return found_geometry


def announcement(geometry: Geometry, frames: int) -> str:
    """What a run with tiles will do and take, before it starts."""
    assert geometry.tiles is not None
    size, side, scale = geometry.tiled_size(), geometry.tiles.side, geometry.tiles.scale
    count = len(tile_starts(geometry.tiles, size))
    gigabytes = (BYTES_A_PIXEL * size[0] * size[1] + BYTES_A_TILE * (side * scale) ** 2) / 1e9
    enlarged = f", enlarged to {side * scale}," if scale > 1 else ""
    return (
        f"{count} tiles of {side} pixels{enlarged} a frame of {size[1]} x {size[0]}, about"
        f" {gigabytes:.1f} GB of memory for one; {frames} frames are scored whole to set the"
        " thresholds"
    )


@torch.inference_mode()
def judged_frame(
    detector: Detector, head: Head, path: Path, geometry: Geometry
) -> NDArray[np.float32]:
    """`Head.judge` of all patches of a frame, (J, M)."""
    assert detector.frame is not None
    frame, device = detector.frame, next(detector.parameters()).device
    pixels = prepare(read_image(path), frame.size, geometry).pixels
    image = torch.from_numpy(pixels)[None]
    parts = []
    for number in range(len(frame.starts)):
        tile = frame.cut(image, number).to(device)
        parts.append(head.judge(frame.features(detector.backbone, tile))[0])
    return np.asarray(frame.stitch(torch.stack(parts, dim=1)).cpu().numpy(), np.float32)


def fit_on_tiles(
    detector: Detector,
    split: Split,
    geometry: Geometry,
    material: Material,
    config: Config,
    *,
    on_epoch: OnEpoch | None = None,
) -> tuple[list[float], CalibrationScores]:
    """Teach a detector's head from tiles, and score each frame by a head that saw none of it.

    Args:
        detector: untrained.
        split: all of its frames teach and calibrate.
        geometry: with tiles.
        material: with tiles of them.
        config: of the run.
        on_epoch: told of the detector's own head.

    Returns:
        The losses of the detector's head, and the scores.
    """
    material, progress = dataclasses.replace(material, kept={}), material.progress
    groups = split.grouping.numbers(split.calibration)
    teach = teacher(material, groups)
    losses = teach(detector.head, None, progress=progress, on_epoch=on_epoch)
    done = 0

    def fit(taught: NDArray[np.intp]) -> Measure:
        head = material.new_head()
        teach(head, taught, progress=progress)

        def measure(left_out: NDArray[np.intp]) -> NDArray[np.float32]:
            nonlocal done
            found = []
            for number in left_out:
                path = split.calibration[number].path
                found.append(judged_frame(detector, head, path, geometry))
                done += 1
                progress("calibration frames", done, len(split.calibration))
            return np.stack(found)

        return measure

    found, folds = out_of_fold(fit, groups, seed=config.seed)
    return losses, _scored(detector, found, folds)


@torch.no_grad()
def _scored(detector: Detector, found: NDArray[np.float32], folds: int) -> CalibrationScores:
    """From what the judges found on whole frames, (n, J, M), on one scale for all folds."""
    assert detector.frame is not None
    device = next(detector.parameters()).device
    judged = torch.from_numpy(found).to(device)
    detector.head.fit_scales(detector.frame.chosen(judged))
    scores, peaks = [], []
    for one in judged:  # maps of large frames one by one
        patches = detector.head.add(one[None])
        scores.append(float(detector.scores(patches)))
        peaks.append(float(detector.maps(patches).amax()))
    return CalibrationScores(np.array(scores, np.float32), np.array(peaks, np.float32), None, folds)
