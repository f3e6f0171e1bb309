"""The verbs of the command line as functions: the same names, options and defaults.

Each takes what a person would give, a preset or a folder, and calls the part that does the work.
`evaluate`, `infer`, `selftest` and `bench` need nothing of the kind and stand where they work.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from generalad.config import Config, load_config, preset_of
from generalad.data.dataset import Dataset, as_dataset
from generalad.errors import UsageError, require_extra

if TYPE_CHECKING:
    from generalad.export.engine import EngineOptions
    from generalad.export.export import Exported
    from generalad.half_precision import VerifiedPrecision
    from generalad.model.storage import Trained
    from generalad.progress import Log, Progress
    from generalad.runtime.recalibrate import Proposal

StrPath = str | os.PathLike[str]

Area = str | Sequence[Sequence[float]]
"""A polygon: corners (x, y), or a text such as "0.1,0.1,0.8x0.5", in shares of the frame."""


def train(
    data: StrPath | Dataset,
    out: StrPath | None = None,
    *,
    class_name: str | None = None,
    anomalous: str | None = None,
    preset: str | None = None,
    method: str | None = None,
    config: Config | StrPath | None = None,
    weights: StrPath | None = None,
    image_size: int | Sequence[int] | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    false_alarm_rate: float | None = None,
    crop: Area | None = None,
    ignore: Sequence[Area] = (),
    align: bool | None = None,
    turn: float | None = None,
    tiles: int | None = None,
    tile_overlap: int | None = None,
    skip_bad: bool = False,
    all_good: bool = False,
    device: str | None = None,
    cache: StrPath | None = None,
    log_to: Sequence[str] = (),
    progress: Progress | None = None,
    log: Log | None = None,
) -> Trained:
    """Learn what good looks like from a folder of good images, as `gad train` does.

    The same call goes on with a run that was interrupted, and returns at once with one that is
    finished.

    Args:
        data: a folder of good images, one of a class or of several, or a CSV, see docs/data.md;
            an address of one, "s3://bucket/parts"; or what `open_dataset` returned.
        out: folder of the detector; None for runs/NAME-PRESET, with the class in NAME.
        class_name: which of several classes.
        anomalous: in its place, of classes that are kinds of things: this one is anomalous, all
            others are normal.
        preset: "edge" (needs no hub and no GPU), "small", "base", "large" (the paper's backbones),
            "simplenet", "kdad" (its baselines) or "embedded"; None for the method's own, or "edge".
        method: "residual", "generalad", "simplenet", "kdad", "gaussian" or "patchcore"; None for
            the preset's.
        config: a TOML file with settings over the preset; or a whole `Config`, which takes its
            place.
        weights: backbone weights, for machines that reach no model hub.
        image_size: network input in pixels: one number, or (height, width). That of a tile, where
            frames are cut; the tile is enlarged to it, twice where it is None.
        epochs: length of the fixed schedule; None for the preset's.
        seed: of splits, order and noise; None for the preset's.
        false_alarm_rate: target on good parts that sets the threshold; None for the preset's.
        crop: what of each frame the network sees: corners (x, y), or a text as the command takes
            it; shares of the frame.
        ignore: areas that neither teach nor count, each written like `crop`.
        align: find the part in each frame, and turn and shift it into place; None for the
            preset's.
        turn: degrees by which aligned parts are turned at most, either way; None for the preset's,
            180.
        tiles: side in pixels of the tiles that frames are cut into at their own scale; None for the
            preset's, none.
        tile_overlap: of neighbouring tiles, in pixels; None for the preset's.
        skip_bad: leave out unreadable images, and such in which the part is not found, and record
            which.
        all_good: all images of a plain folder show good parts, see `open_dataset`.
        device: "cpu", "cuda", ...; None for a GPU if there is one.
        cache: folder of the feature cache; None for the user's cache.
        log_to: "tensorboard", "wandb" or "mlflow", beside the log and plot in the run's folder. One
            that fails is told to `log`, and training goes on.
        progress: told how far each stage is.
        log: told, before it starts, which folders are taken as good, that a run will take more than
            an hour or that a public data set is not whole, and at its end that it learned nothing.

    Raises:
        ConfigError: unknown preset, setting or value.
        DataError: the dataset has problems; the message lists them.
        MissingExtraError: torch and what belongs to it, or the backbone's weights, are not
            installed.
        UsageError: `out` belongs to another run.
        WeightsError: the backbone's weights are not to be had.
    """
    require_extra("training", "train", "torch", "timm", "safetensors")
    changes = {
        "method": method,
        "image_size": list(image_size) if isinstance(image_size, Sequence) else image_size,
        "epochs": epochs,
        "seed": seed,
        "false_alarm_rate": false_alarm_rate,
        "crop": crop,
        "ignore": tuple(ignore) or None,
        "align": align,
        "turn": turn,
        "tiles": tiles,
        "tile_overlap": tile_overlap,
    }
    settings = settings_of(config, preset, method)
    settings = settings.replaced({key: x for key, x in changes.items() if x is not None})
    dataset = as_dataset(
        data if isinstance(data, Dataset) else os.fspath(data),
        class_name,
        anomalous=anomalous,
        all_good=all_good,
        progress=progress,
    )
    if dataset.taken_as_good and log is not None:
        log(dataset.taken_as_good)
    name = _run_name(data, dataset, chosen=(class_name or anomalous) is not None)
    if not isinstance(config, Config):
        name = f"{name}-{preset or preset_of(method)}"
    from generalad.monitoring.monitors import monitored
    from generalad.training.processes import joined
    from generalad.training.train import train_detector

    folder = Path("runs") / name if out is None else Path(out)
    with contextlib.ExitStack() as stack:
        processes, device = stack.enter_context(joined(device))
        if not processes.first:
            progress = log = monitors = None
        else:
            monitors = stack.enter_context(monitored(folder, settings, log_to=log_to, log=log))
        return train_detector(
            dataset,
            folder,
            settings,
            weights=None if weights is None else Path(weights),
            device=device,
            skip_bad=skip_bad,
            cache=None if cache is None else Path(cache),
            on_epoch=monitors,
            processes=processes,
            progress=progress,
            log=log,
        )


def settings_of(config: Config | StrPath | None, preset: str | None, method: str | None) -> Config:
    """The settings of a training: a whole `Config`, or a preset or a method's own, with a file.

    Raises:
        ConfigError: unknown preset, setting or value.
    """
    if isinstance(config, Config):
        return config
    return load_config(preset, method=method, file=None if config is None else Path(config))


def _run_name(data: StrPath | Dataset, dataset: Dataset, *, chosen: bool) -> str:
    """NAME of runs/NAME-PRESET: of the folder or table, and of the class that was chosen."""
    of_class = re.sub(r"[^\w.-]+", "-", dataset.name).strip("-")
    if isinstance(data, Dataset):
        return of_class
    folder = Path(dataset.origin).stem if dataset.origin else Path(data).resolve().stem
    return f"{folder}-{of_class}" if chosen else folder


def import_checkpoint(
    checkpoint: StrPath,
    data: StrPath,
    out: StrPath | None = None,
    *,
    false_alarm_rate: float | None = None,
    skip_bad: bool = False,
    all_good: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """Turn a checkpoint of somebody else into a detector, as `gad import` does.

    Args:
        checkpoint: what Lightning wrote for the authors' GeneralAD, SimpleNet or KDAD, or for
            anomalib's GeneralAD; nothing in it is run.
        data: good images to set the thresholds with, which it did not learn from.
        out: folder of the detector; None for runs/ and the checkpoint's name.
        false_alarm_rate: target on good parts that sets the threshold; None for the usual one.
        skip_bad: leave out unreadable images and record which.
        all_good: all images of a plain folder show good parts, see `open_dataset`.
        progress: told how far each stage is.

    Raises:
        ArtifactError: the checkpoint is damaged, holds code, or is of another model.
        DataError: the images have problems; the message lists them.
        MissingExtraError: torch and what belongs to it are not installed.
        UsageError: `out` holds something.
        WeightsError: the backbone in the checkpoint is not the one that it names.
    """
    require_extra("importing", "train", "torch", "timm", "safetensors")
    from generalad.training.import_checkpoint import import_detector

    return import_detector(
        Path(checkpoint),
        Path(data),
        Path("runs") / Path(checkpoint).stem if out is None else Path(out),
        false_alarm_rate=false_alarm_rate,
        skip_bad=skip_bad,
        all_good=all_good,
        progress=progress,
    )


def export(
    detector: StrPath | Trained,
    out: StrPath | None = None,
    *,
    format: str = "onnx",
    precision: str = "fp32",
    batch: int | tuple[int, int] | None = None,
    verify_on: StrPath | Dataset | None = None,
    class_name: str | None = None,
    anomalous: str | None = None,
    all_good: bool = False,
    version_compatible: bool = False,
    hardware_compatible: str | None = None,
    weights: StrPath | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Turn a detector into one file that is proven to decide as it does, as `gad export` does.

    Args:
        detector: the folder of a detector, or what `train` returned. An exported ONNX file becomes
            a TensorRT engine with `export.to_tensorrt.build_engine`, which needs no torch.
        out: the file to write; None for model.onnx, model-fp16.xml, ... in the detector's folder.
        format: "onnx", "openvino" or "tensorrt".
        precision: "fp32", "fp16" or "int8".
        batch: images a run: a fixed size, or (smallest, largest); None for any.
        verify_on: labelled test images to compare on as well: a dataset as for `evaluate`, or what
            `open_dataset` returned.
        class_name: of `verify_on`, which of several classes.
        anomalous: of `verify_on`, in its place, the class that is anomalous, see `open_dataset`.
        all_good: all training images of `verify_on` show good parts, see `open_dataset`.
        version_compatible: an engine for other versions of TensorRT too.
        hardware_compatible: an engine for other GPUs too: "ampere_plus" or
            "same_compute_capability"; None for this GPU.
        weights: the detector's backbone weights, if they moved since training.
        progress: told how far each stage is.

    Raises:
        ArtifactError: no detector, or its calibration images are missing.
        DataError: `verify_on` has problems, or no test images.
        GadError: an engine cannot be built here.
        GateError: no candidate decides as the detector does; nothing was written.
        MissingExtraError: a library is not installed.
        StorageError: the artifact cannot be written; an older one is still there.
        UsageError: unknown format, precision or batch, or a class without `verify_on`.
    """
    if isinstance(detector, (str, os.PathLike)) and Path(detector).suffix.lower() == ".onnx":
        raise UsageError(
            f"{os.fspath(detector)} is exported already",
            remedy="generalad.export.to_tensorrt.build_engine makes a TensorRT engine of it",
        )
    require_extra("export", "train", "torch", "timm", "onnx", "onnxscript")
    require_extra("verifying the export", "cpu", "onnxruntime")
    if verify_on is not None:
        verify_on = as_dataset(
            verify_on if isinstance(verify_on, Dataset) else os.fspath(verify_on),
            class_name,
            anomalous=anomalous,
            all_good=all_good,
            progress=progress,
        )
    elif all_good or class_name is not None or anomalous is not None:
        raise UsageError(
            "--class, --anomalous and --all-good choose images of --verify-on, which is not given",
            remedy="add --verify-on DATA, or leave them out",
        )
    from generalad.export.export import export_detector

    sizes = (batch, batch) if isinstance(batch, int) else batch
    return export_detector(
        Path(detector) if isinstance(detector, (str, os.PathLike)) else detector,
        None if out is None else Path(out),
        format=format,
        precision=precision,
        batch=batch,
        verify_on=verify_on,
        engine=engine_options(sizes, version_compatible, hardware_compatible),
        weights=None if weights is None else Path(weights),
        progress=progress,
    )


def engine_options(
    sizes: tuple[int, int] | None, version_compatible: bool, hardware_compatible: str | None
) -> EngineOptions:
    """How `gad export` builds an engine, with kernel timings kept for the next build."""
    from generalad.export.engine import EngineOptions
    from generalad.files import cache_folder

    low, high = sizes or (1, 8)
    return EngineOptions(
        batch=(low, low, high),
        version_compatible=version_compatible,
        hardware_compatibility=hardware_compatible or "none",
        timing_cache=cache_folder() / "tensorrt" / "timing.cache",
    )


def calibrate(
    artifact: StrPath,
    images: StrPath | Sequence[StrPath],
    out: StrPath | None = None,
    *,
    defects: StrPath | Sequence[StrPath] = (),
    target: float | None = None,
    threads: int | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Proposal:
    """Set the thresholds of an artifact anew from recent images of good parts.

    With `out` the new artifact is written, as `gad calibrate --yes` does: whoever calls it so has
    seen that all images show good parts. Without, nothing is written: look at the proposal, whose
    `images` come by falling score, and call its `write`.

    Args:
        artifact: made by `gad export`; it stays as it is.
        images: files, folders, videos or patterns; one or several.
        out: the new artifact; must not exist.
        defects: images of known defects, to see what the new thresholds miss; they set nothing.
        target: wished false-alarm rate, 0...1; None for the artifact's.
        threads: see `load`.
        device: see `load`.
        progress: told how far it is.

    Raises:
        ArtifactError: no artifact.
        DataError: images that are missing, cannot be read or show a camera fault, or too few.
        StorageError: the new artifact cannot be written.
        UsageError: the target is no rate, or `out` exists.
    """
    from generalad.runtime.artifact_copy import check_copy
    from generalad.runtime.recalibrate import recalibrate

    given = [images] if isinstance(images, (str, os.PathLike)) else images
    bad = [defects] if isinstance(defects, (str, os.PathLike)) else defects
    if out is not None and Path(artifact).is_file():  # what else there may be, opening it says
        check_copy(Path(artifact), Path(out))
    proposal = recalibrate(
        Path(artifact),
        [os.fspath(one) for one in given],
        defects=[os.fspath(one) for one in bad],
        target=target,
        threads=threads,
        device=device,
        progress=progress,
    )
    if out is not None:
        proposal.write(Path(out))
    return proposal


def verify_precision(
    artifact: StrPath, images: StrPath, *, progress: Progress | None = None
) -> VerifiedPrecision:
    """Verify an artifact in the half precision of this processor, as `gad selftest` can.

    It is compared with itself in float32, by the limits of an export. What passes is recorded in
    the file, and taken by every session on such a processor where it was faster.

    Args:
        artifact: an OpenVINO model; on ARM also an ONNX file. Network and thresholds stay.
        images: a folder or pattern of good images, such as the folder `calibration` of a detector.
        progress: told how far it is.

    Raises:
        ArtifactError: no artifact, or a damaged one.
        DataError: too few images, or one cannot be read.
        GateError: no half precision of this processor passes; nothing was changed.
        StorageError: the artifact cannot be written.
        UsageError: this processor has no units for half precision, or another process is at it.
    """
    from generalad.export.half_precision import verify_here

    return verify_here(Path(artifact), os.fspath(images), progress=progress)
