"""Thresholds where few good images are there: none is held out, all teach and all calibrate.

A fifth of ten images is two, and a fifth of 500 leaves the threshold for 1 % to its largest score,
whatever odd image that is. So the head of the detector learns from all images, and further heads,
each from all folds but one, tell how images score that taught nothing
(`generalad.calibration.out_of_fold`). Features, views and drawn defects are computed once for all
of them; of a fold's images nothing is used, not even as a source of drawn defects.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from generalad.calibration import Measure, fold_count, out_of_fold
from generalad.config import Config
from generalad.model.detector import Detector
from generalad.model.heads import Head
from generalad.progress import Progress
from generalad.training.cache import Features
from generalad.training.calibrated_spec import CalibrationScores
from generalad.training.loop import OnEpoch
from generalad.training.material import Material
from generalad.training.methods import judged, shown_by, teacher

STAGE = "training and calibration folds"


def fit_on_all(
    detector: Detector,
    material: Material,
    groups: Sequence[int],
    config: Config,
    *,
    device: torch.device,
    on_epoch: OnEpoch | None = None,
) -> tuple[list[float], CalibrationScores]:
    """Teach a detector's head from all images, and score each by a head that did not see it.

    Args:
        detector: untrained, on `device`; its method learns quickly, see `teach`.
        material: whose training and held-out images are the same.
        groups: (n,) a number for the group of each image.
        config: of the run.
        device: where to compute.
        on_epoch: told of the detector's own head, by the thread that teaches it.

    Returns:
        The losses of the detector's head, and the scores.

    Raises:
        DataError: one group only.
    """
    material = dataclasses.replace(material, kept={})
    parts = _loaded(material)
    count = fold_count(groups)
    heads = [material.new_head() for _ in range(count)]
    threads = torch.get_num_threads()
    workers = min(threads, count + 1) if device.type == "cpu" else 1
    teach = teacher(material, groups)
    told = _Together(material.progress, count + 1)
    losses: list[float] = []

    def learn(head: Head, only: NDArray[np.intp] | None, listener: OnEpoch | None) -> list[float]:
        torch.set_num_threads(threads // workers)  # of this worker; its small products gain by none
        return teach(head, only, progress=told.of_one(), on_epoch=listener)

    def fit(taught: NDArray[np.intp]) -> Measure:
        head = heads.pop()
        learn(head, taught, None)
        return lambda left_out: np.stack(
            [judged(head, part.values[left_out]).cpu().numpy() for part in parts], axis=1
        )

    def fit_the_detector() -> None:
        losses.extend(learn(detector.head, None, on_epoch))

    try:
        found, folds = out_of_fold(
            fit, groups, seed=config.seed, workers=workers, beside=fit_the_detector
        )
    finally:
        torch.set_num_threads(threads)
    return losses, _scored(detector, found, folds, device, parts)


def _loaded(material: Material) -> list[Features]:
    """Features of the images to calibrate with, and of their views if the method learns from any.

    All that the heads learn from is loaded too, so that no two of them ask for it at a time.
    """
    material.good()
    found = [material.held_out_good()]
    if material.config.learns_from_views:
        material.views()
        material.drawn()
        found.append(material.held_out_views())
    return found


@torch.no_grad()
def _scored(
    detector: Detector,
    found: NDArray[np.float32],
    folds: int,
    device: torch.device,
    parts: Sequence[Features],
) -> CalibrationScores:
    """From what the judges found, (n, images and views, J, N), on one scale for all folds.

    `parts` are the features of images and views that they looked at.
    """
    kinds = found.shape[1]
    all_judged = torch.from_numpy(found).to(device).transpose(0, 1).flatten(0, 1)
    shown, head = shown_by(parts), detector.head
    head.fit_scales(head.of_those(all_judged, shown))
    patches, which = head.add(all_judged), head.which(shown)
    those = None if which is None else torch.from_numpy(which).to(device).float()
    scores = detector.scores(patches, those).cpu().numpy().reshape(kinds, -1)
    peaks = detector.maps(patches, those).amax(dim=(1, 2)).cpu().numpy().reshape(kinds, -1)
    views = (scores[1], peaks[1]) if kinds > 1 else None
    return CalibrationScores(scores[0], peaks[0], views, folds)


class _Together:
    """Tells trainings that run side by side as parts of one."""

    def __init__(self, progress: Progress, folds: int) -> None:
        self.progress, self.folds = progress, folds
        self.done: list[int] = []
        self.lock = threading.Lock()

    def of_one(self) -> Progress:
        """For the training of one fold."""
        with self.lock:
            number = len(self.done)
            self.done.append(0)

        def told(stage: str, done: int, total: int) -> None:
            if stage != "training":
                return
            with self.lock:
                self.done[number] = done
                self.progress(STAGE, sum(self.done), self.folds * total)

        return told
