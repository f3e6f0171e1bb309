"""From a folder of good images to a detector: check, split, cache, fit, calibrate, save."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from pathlib import Path
from typing import Any, Protocol

import torch

from generalad.config import Config
from generalad.data.dataset import Dataset
from generalad.errors import UsageError
from generalad.files import read_json, write_json
from generalad.model.detector import Detector
from generalad.model.storage import Trained, load_detector, save_detector
from generalad.model.weights import load_backbone
from generalad.progress import Log, Progress, no_log, no_progress
from generalad.spec import DETECTOR_FILE
from generalad.training.alignment import learned_geometry
from generalad.training.calibrated_spec import calibrated_spec
from generalad.training.calibration_folds import fit_on_all
from generalad.training.duration import estimate
from generalad.training.input_size import input_of_images, size_announcement
from generalad.training.loop import EpochEnd, OnEpoch
from generalad.training.material import Material
from generalad.training.methods import fit_head
from generalad.training.objective import chance_loss, chance_warning
from generalad.training.orientation import any_orientation
from generalad.training.processes import ALONE, Processes
from generalad.training.run_folder import CHECKPOINT_FILE, claimed
from generalad.training.split import split_dataset
from generalad.training.tiles import announcement, fit_on_tiles, tiled_geometry
from generalad.training.training_tiles import training_tiles

HISTORY_FILE = "history.json"
TURNED = (
    "good images look as good when they are turned: detection learns from turned and mirrored"
    " images too"
)
SELECTION_RULE = "last epoch of a fixed schedule; nothing was chosen on test images"


class EpochChoice(Protocol):
    """Chooses another epoch than the last, as published results do."""

    def watch(self, detector: Detector, weights_sha256: str) -> None:
        """Before the first epoch: what will be trained, and the hash of its backbone's weights."""

    def after(self, end: EpochEnd) -> None:
        """After each epoch, before its checkpoint: the detector is as that epoch left it."""

    def settle(self) -> dict[str, Any]:
        """After the last: put the chosen epoch into the detector.

        Returns:
            What the spec says of it; "selection_rule" among it.
        """


def train_detector(
    data: str | Path | Dataset,
    out: str | Path,
    config: Config,
    *,
    weights: Path | None = None,
    device: str | None = None,
    skip_bad: bool = False,
    cache: Path | None = None,
    cache_memory: int | None = None,
    choice: EpochChoice | None = None,
    on_epoch: OnEpoch | None = None,
    processes: Processes = ALONE,
    progress: Progress | None = None,
    log: Log | None = None,
) -> Trained:
    """Train a detector on the good images of a dataset; goes on with a run that was interrupted.

    Args:
        data: a folder or CSV, see docs/data.md, or a dataset that was opened.
        out: folder of the detector.
        config: see `generalad.config`.
        weights: backbone weights for machines without a network.
        device: "cpu", "cuda", …; default: a GPU where there is one.
        skip_bad: leave out unreadable images instead of stopping.
        cache: folder of the feature cache.
        cache_memory: bytes of features that may be kept in memory.
        choice: of an epoch other than the last.
        on_epoch: called after each epoch, or some steps, of a method that has any.
        processes: that train it together, each called alike; only the first is to be given
            `choice`, `on_epoch`, `progress` and `log`.
        progress: told how far each stage is.
        log: told, before it starts, that a run will take more than an hour, that a public data
            set is not whole or what its images have that is odd, and at its end that it has
            learned nothing.

    Raises:
        DataError: the dataset has problems; the message lists them.
        UsageError: `out` belongs to another run.
        WeightsError: the backbone's weights are not to be had.
    """
    out, log = Path(out), log or no_log
    if processes.count > 1 and config.method != "generalad":
        raise UsageError(
            f"the method {config.method} trains in one process, found {processes.count}",
            remedy="start it without torchrun",
        )
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    split = split_dataset(data, config, skip_bad=skip_bad, progress=progress)
    if split.incomplete:
        log(f"warning: {split.incomplete}; the data set is not whole")
    for odd in split.odd:
        log(f"warning: {odd}")
    asked, config = config, input_of_images(config, split.sizes)
    if line := size_announcement(asked, config):
        log(line)
    backbone, source, weights_hash = load_backbone(config, weights=weights)
    identity = {
        "config": config.to_dict(),
        "training_images": split.fingerprint(),
        "weights_sha256": weights_hash,
    }
    with claimed(out, identity) if processes.first else contextlib.nullcontext():
        if processes.share((out / DETECTOR_FILE).exists()):
            (out / CHECKPOINT_FILE).unlink(missing_ok=True)  # a kill may have come in between
            log(f"{out}: trained before with these settings and images, and is as it was")
            _repeat_warning(out, log)
            return load_detector(out, weights=weights, device=place)
        geometry, split = learned_geometry(config, split, skip_bad=skip_bad, progress=progress)
        geometry = tiled_geometry(config, geometry, split)
        tiles = None
        if geometry is not None and geometry.tiles is not None:
            log(announcement(geometry, len(split.calibration)))
            tiles = training_tiles(
                split.train,
                geometry,
                patches=math.prod(backbone.grid),
                seed=config.seed,
                progress=progress or no_progress,
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)  # initial values of the discriminator
            detector = Detector(config, backbone, geometry).to(place)
        material = Material(
            split.train,
            split.calibration,
            split.hashes,
            backbone,
            config,
            weights_hash=weights_hash,
            device=place,
            folder=cache,
            budget=cache_memory,
            progress=progress or no_progress,
            processes=processes,
            geometry=geometry,
            tiles=tiles,
        )
        if config.learns_from_views and detector.head.places is None and tiles is None:
            turned = any_orientation(detector.head, material, split.grouping.numbers(split.train))
            material = dataclasses.replace(material, turned=turned)
            if turned:
                log(TURNED)
        if processes.first and config.has_epochs and not (out / CHECKPOINT_FILE).exists():
            expected = estimate(
                detector, config, images=len(split.train), cached=material.cached_good()
            )
            if line := expected.announcement(config):
                log(line)
        if choice is not None:
            choice.watch(detector, weights_hash)
        told = _each(None if choice is None else choice.after, on_epoch)
        found = None
        if tiles is not None and geometry is not None:
            losses, found = fit_on_tiles(
                detector,
                split,
                geometry,
                material,
                config,
                on_epoch=told,
            )
        elif split.out_of_fold:
            groups = split.grouping.numbers(split.calibration)
            losses, found = fit_on_all(
                detector, material, groups, config, device=place, on_epoch=told
            )
        else:
            losses = fit_head(
                detector.head,
                material,
                config,
                device=place,
                groups=split.grouping.numbers(split.train),
                checkpoint=out / CHECKPOINT_FILE,
                on_epoch=told,
            )
        if not processes.first:
            processes.wait()
            return load_detector(out, weights=weights, device=place)
        selection = {"selection_rule": SELECTION_RULE} if choice is None else choice.settle()
        spec, images = calibrated_spec(
            detector.eval(),
            split,
            found,
            source=source,
            weights_hash=weights_hash,
            geometry=geometry,
            progress=progress,
        )
        spec.metrics.update(selection)
        _write_history(out, losses, config, log)
        save_detector(out, detector, spec, images)
        (out / CHECKPOINT_FILE).unlink(missing_ok=True)
        processes.wait()
    return Trained(detector, spec, out)


def _write_history(out: Path, losses: list[float], config: Config, log: Log) -> None:
    """The losses, and a warning where they say that nothing was learned."""
    history: dict[str, Any] = {"loss": losses}
    if config.method in ("generalad", "simplenet"):
        history["chance"] = chance_loss(config)
        if warning := chance_warning(losses, config):
            history["warning"] = warning
            log(f"warning: {warning}")
    write_json(out / HISTORY_FILE, history)


def _each(*listeners: OnEpoch | None) -> OnEpoch:
    """Calls those that there are, in order."""

    def call(end: EpochEnd) -> None:
        for listener in listeners:
            if listener is not None:
                listener(end)

    return call


def _repeat_warning(out: Path, log: Log) -> None:
    """What was said at the end of a run that is loaded again."""
    if (out / HISTORY_FILE).is_file():
        history: Any = read_json(out / HISTORY_FILE)
        if isinstance(history, dict) and "warning" in history:
            log(f"warning: {history['warning']}")
