"""`train_all_classes`: a detector for each class below a folder, here or on a Ray cluster.

    root ─► classes ─► train, each with a folder of its own ─► a table

The same call goes on: a detector that is finished is not trained again, one that was interrupted
goes on where it stopped. A class that cannot be trained is told in the table, and the others are
trained all the same.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from generalad.cluster import Spread, on_ray, one_after_another
from generalad.config import Config, preset_of
from generalad.data.dataset import class_names, subfolders_as_classes
from generalad.data.local_copy import is_elsewhere, local_copy
from generalad.errors import GadError, UsageError, require_extra
from generalad.progress import Log, Progress, no_log, no_progress
from generalad.spec import DETECTOR_FILE, Spec
from generalad.verbs import settings_of, train

StrPath = str | os.PathLike[str]

_OF_ONE_CLASS = ("class_name", "anomalous")


@dataclass(frozen=True)
class TrainedClass:
    """What became of a class.

    Attributes:
        name: of the class.
        folder: of its detector.
        error: why there is none; empty where there is one.
        images: that it learned from.
        calibration_images: that set its threshold.
        threshold: raw score of an image.
        false_alarm_rate: at most so many of good parts, 0...1.
        missed: share of drawn defects that this threshold misses, 0...1; None without drawn ones.
        seconds: that it took, without what an earlier attempt had done.
        resumed: whether it had been finished before.
        said: lines of its training that `log` was not told while it ran elsewhere.
    """

    name: str
    folder: str
    error: str = ""
    images: int = 0
    calibration_images: int = 0
    threshold: float | None = None
    false_alarm_rate: float | None = None
    missed: float | None = None
    seconds: float = 0.0
    resumed: bool = False
    said: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Task:
    name: str
    data: str
    class_name: str | None
    folder: str


def train_all_classes(
    root: StrPath,
    out: StrPath | None = None,
    *,
    ray: str | None = None,
    spread: Spread | None = None,
    progress: Progress | None = None,
    log: Log | None = None,
    **options: Any,
) -> list[TrainedClass]:
    """Train a detector for each class below a folder, as `gad train --all-classes` does.

    Args:
        root: folder of several classes, see docs/data.md, or of folders that are a dataset each;
            or the address of one, "s3://bucket/products".
        out: folder for a detector of each class, under its name; None for runs/NAME-PRESET.
        ray: address of a Ray cluster, see `generalad.cluster.on_ray`; None for one after another.
            All machines see `root`, `out` and the cache under the same paths.
        spread: how classes are trained, in place of `ray`.
        progress: told ("classes", done, total) and, without a cluster, how far each stage is.
        log: told of each class that is done, and of what its training warns of.
        options: those of `generalad.train`, but for those that choose a class.

    Returns:
        One for each class, in the order of the data set.

    Raises:
        ConfigError: unknown preset, setting or value; or no cluster.
        DataError: there are no classes.
        MissingExtraError: torch and what belongs to it, or Ray, are not installed.
        UsageError: two classes would share a folder, or an option is not for all classes.
    """
    require_extra("training", "train", "torch", "timm", "safetensors")
    if any(options.get(name) is not None for name in _OF_ONE_CLASS):
        raise UsageError("--all-classes takes no --class or --anomalous", remedy="leave one out")
    progress, log = progress or no_progress, log or no_log
    if is_elsewhere(os.fspath(root)):
        root = local_copy(os.fspath(root), progress=progress)
    tasks = _tasks(Path(root), _folder(Path(root), out, options), bool(options.get("all_good")))
    options = _for_other_machines(options)
    live = spread is None and ray is None
    spread = spread or (one_after_another if ray is None else on_ray(ray, device=options["device"]))
    work = partial(_train, options=options)
    if live:
        work = partial(work, progress=progress, log=log)
    found: dict[int, TrainedClass] = {}
    progress("classes", 0, len(tasks))
    with contextlib.closing(spread(work, tasks)) as ended:
        for place, outcome in ended:
            task = tasks[place]
            if isinstance(outcome, GadError):
                outcome = TrainedClass(task.name, task.folder, error=str(outcome))
            found[place] = outcome
            for line in (*outcome.said, _in_words(outcome)):
                log(f"{task.name}: {line}")
            progress("classes", len(found), len(tasks))
    return [found[place] for place in range(len(tasks))]


def _folder(root: Path, out: StrPath | None, options: dict[str, Any]) -> Path:
    if out is not None:
        return Path(out)
    if isinstance(options.get("config"), Config):
        return Path("runs", root.resolve().name)
    preset = options.get("preset") or preset_of(options.get("method"))
    return Path("runs", f"{root.resolve().name}-{preset}")


def _tasks(root: Path, out: Path, all_good: bool) -> list[_Task]:
    names, below = class_names(root, all_good=all_good), False
    if not names:
        names, below = subfolders_as_classes(root), True
    folders = [re.sub(r"[^\w.-]+", "-", name).strip("-") or "-" for name in names]
    twice = next((name for name in folders if folders.count(name) > 1), None)
    if twice is not None:
        same = [name for name, folder in zip(names, folders, strict=True) if folder == twice]
        raise UsageError(
            f"{root}: the classes {' and '.join(same)} would share the folder {out / twice}",
            remedy="rename one of them",
        )
    root, out = Path(os.path.abspath(root)), Path(os.path.abspath(out))
    return [
        _Task(name, str(root / name if below else root), None if below else name, str(out / folder))
        for name, folder in zip(names, folders, strict=True)
    ]


def _for_other_machines(options: dict[str, Any]) -> dict[str, Any]:
    """Options with settings that are read and checked here, and whole paths."""
    given = {name: value for name, value in options.items() if name not in _OF_ONE_CLASS}
    settings = settings_of(
        given.pop("config", None), given.pop("preset", None), given.get("method")
    )
    given["config"] = settings
    for name in ("weights", "cache"):
        if given.get(name) is not None:
            given[name] = os.path.abspath(given[name])
    given.setdefault("device", None)
    return given


def _train(
    task: _Task,
    *,
    options: dict[str, Any],
    progress: Progress | None = None,
    log: Log | None = None,
) -> TrainedClass:
    """Runs where the class is trained."""
    began, folder = time.monotonic(), Path(task.folder)
    resumed = (folder / DETECTOR_FILE).exists()
    untold: list[str] = []
    tell = untold.append if log is None else (lambda line: log(f"{task.name}: {line}"))
    trained = train(
        task.data,
        folder,
        class_name=task.class_name,
        **options,
        progress=progress,
        log=tell,
    )
    found = _told(task, trained.spec, time.monotonic() - began, resumed)
    return replace(found, said=tuple(untold))


def _told(task: _Task, spec: Spec, seconds: float, resumed: bool) -> TrainedClass:
    calibration = spec.calibration
    drawn = [row for row in calibration.drawn_misses if row.rate <= calibration.target + 1e-9]
    nearest = max(drawn, key=lambda row: row.rate, default=None)
    return TrainedClass(
        task.name,
        task.folder,
        images=spec.training_set.images,
        calibration_images=calibration.images,
        threshold=spec.thresholds.image,
        false_alarm_rate=calibration.reached,
        missed=None if nearest is None else nearest.missed / nearest.drawn,
        seconds=round(seconds, 1),
        resumed=resumed,
    )


def _in_words(one: TrainedClass) -> str:
    if one.error:
        return f"failed: {one.error}"
    if one.resumed:
        return "was finished before"
    return f"trained on {one.images} images in {one.seconds:.0f} s"


def failures(found: Sequence[TrainedClass]) -> int:
    """How many classes have no detector."""
    return sum(bool(one.error) for one in found)
