"""The geometry of a run: that of its configuration, with a template that its good images teach."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from generalad.config import Config
from generalad.data.dataset import Sample
from generalad.errors import DataError
from generalad.geometry.finder import LEAST_INSIDE, grey_of, size_of
from generalad.geometry.geometry import Geometry
from generalad.geometry.teach import finder_of, teach
from generalad.parallel import map_threads
from generalad.preprocess import read_image
from generalad.progress import Progress, no_progress
from generalad.training.split import Split

NAMED = 10
"""Images without the part that are named."""


def learned_geometry(
    config: Config, split: Split, *, skip_bad: bool, progress: Progress | None = None
) -> tuple[Geometry | None, Split]:
    """What of a frame is judged, and the images in which the part is found.

    Args:
        config: of the run.
        split: its training images teach the template.
        skip_bad: leave out images in which the part is not found, instead of stopping.
        progress: called with ("template", images read, images).

    Raises:
        DataError: no template can be made, or images do not show the part.
    """
    if not config.align:
        return config.geometry, split
    progress = progress or no_progress
    samples = list(dict.fromkeys((*split.train, *split.calibration)))
    width, height = map(int, max(split.sizes, key=lambda size: split.sizes[size]).split("x"))
    greys = _greys(samples, size_of((height, width)), progress)
    taught = teach(greys[: len(split.train)], turn=config.turn, seed=config.seed)
    template = taught.template
    finder = finder_of(template)
    poses = [*taught.poses, *map(finder.find_grey, greys[len(split.train) :])]
    lost = [
        (sample, pose)
        for sample, pose in zip(samples, poses, strict=True)
        if pose.fault(template.least)
    ]
    if lost and not skip_bad:
        named = ", ".join(
            f"{sample.path.name} ({pose.match:.2f}, {pose.inside:.0%} in the frame)"
            for sample, pose in lost[:NAMED]
        )
        more = ", ..." if lost[NAMED:] else ""
        raise DataError(
            f"{len(lost)} of {len(samples)} good images do not show the part, or not so that it is"
            f" found: {named}{more}; a match of {template.least:.2f} is expected, and"
            f" {LEAST_INSIDE:.0%} in the frame",
            remedy="look at them and take them out, or leave them out with --skip-bad",
        )
    geometry = dataclasses.replace(config.geometry or Geometry(), template=template)
    return geometry, _without(split, [sample for sample, _ in lost])


def _greys(
    samples: Sequence[Sample], size: tuple[int, int], progress: Progress
) -> list[NDArray[np.uint8]]:
    found = []
    for grey in map_threads(lambda sample: grey_of(read_image(sample.path), size), samples):
        found.append(grey)
        progress("template", len(found), len(samples))
    return found


def _without(split: Split, lost: Sequence[Sample]) -> Split:
    if not lost:
        return split
    gone = set(lost)
    return dataclasses.replace(
        split,
        train=tuple(sample for sample in split.train if sample not in gone),
        calibration=tuple(sample for sample in split.calibration if sample not in gone),
        skipped=tuple(sorted((*split.skipped, *(sample.path.name for sample in lost)))),
    )
