"""One detector of a table: trained, measured, and its figures kept in result.json."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from generalad import records
from generalad.config import Config
from generalad.data.dataset import Dataset
from generalad.data.public_sets import differences
from generalad.errors import ArtifactError
from generalad.evaluation import evaluation_of, results_of
from generalad.files import write_json
from generalad.model.storage import Trained
from generalad.monitoring.monitors import monitored
from generalad.progress import Log, Progress
from generalad.reproduction.best_epoch import BestEpoch
from generalad.reproduction.cached_test_images import CachedTestImages
from generalad.statistics import Estimate
from generalad.training.train import train_detector

Protocol = Literal["last", "paper"]
PROTOCOLS: dict[Protocol, str] = {
    "last": "the last epoch of the schedule; nothing was chosen on test images",
    "paper": (
        "the epoch with the best image AUROC on the test set, measured after each epoch, as"
        " published: an upper bound"
    ),
}
"""Rules by which an epoch is chosen, for a reader of the figures."""

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Run:
    """A detector that a table needs.

    Attributes:
        class_name: the normal class, or the anomalous one.
        seed: of split, order and noise, and the offset of few-shot images.
        folder: of its files.
        dataset: that class.
    """

    class_name: str
    seed: int
    folder: Path
    dataset: Dataset


@dataclass(frozen=True)
class RunResult:
    """What was measured. AUROC and AUPRO are 0...1, None without masks.

    Attributes:
        class_name: see `Run`.
        seed: see `Run`.
        image_auroc: of the whole test set.
        pixel_auroc: of the same epoch.
        aupro: the same, to a false-positive rate of 0.3.
        epoch: that was taken, from 1.
        epochs: of the schedule.
        trained_on: images.
        good: test images.
        defective: test images.
        seconds: that it took, without what an earlier attempt had done.
        incomplete: in how far the data set is not as it was published.
    """

    class_name: str
    seed: int
    image_auroc: float
    pixel_auroc: float | None
    aupro: float | None
    epoch: int
    epochs: int
    trained_on: int
    good: int
    defective: int
    seconds: float
    incomplete: str = ""


def finished(run: Run) -> RunResult | None:
    """The result of an earlier attempt, where there is one.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = run.folder / RESULT_FILE
    try:
        return records.from_json(path.read_text(encoding="utf-8"), RunResult)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path} is damaged: {error}", remedy="delete it; the class is then measured again"
        ) from error


def train_and_measure(
    run: Run,
    config: Config,
    protocol: Protocol,
    *,
    weights: Path | None = None,
    device: str | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
    log: Log | None = None,
) -> RunResult:
    """Train a detector, going on where an earlier attempt stopped, and measure it."""
    start = time.monotonic()
    images = CachedTestImages(run.dataset, cache=cache, progress=progress)
    best = run.folder / "best.safetensors"
    folder = run.folder / "detector"
    with monitored(folder, config, log=log) as monitors:
        trained = train_detector(
            run.dataset,
            folder,
            config,
            weights=weights,
            device=device,
            cache=cache,
            choice=BestEpoch(best, images) if protocol == "paper" else None,
            on_epoch=monitors,
            progress=progress,
            log=log,
        )
    result = _measure(run, trained, images, start)
    write_json(run.folder / RESULT_FILE, asdict(result))
    best.unlink(missing_ok=True)
    return result


def _measure(run: Run, trained: Trained, images: CachedTestImages, start: float) -> RunResult:
    spec, config = trained.spec, trained.detector.config
    images.prepare(trained.detector, spec.backbone.weights_sha256)
    maps = images.has_masks
    outputs = images.outputs(trained.detector, maps=maps)
    results = list(results_of(spec, run.dataset, outputs, maps=maps))
    found = evaluation_of(results, spec)
    return RunResult(
        class_name=run.class_name,
        seed=run.seed,
        image_auroc=found.image_auroc.value,
        pixel_auroc=_known(found.pixel_auroc),
        aupro=_known(found.aupro),
        epoch=int(spec.metrics.get("epoch", config.epochs)),
        epochs=config.epochs,
        trained_on=spec.training_set.images,
        good=found.good,
        defective=found.defective,
        seconds=round(time.monotonic() - start, 1),
        incomplete=differences(run.dataset),
    )


def _known(estimate: Estimate) -> float | None:
    return None if math.isnan(estimate.value) else estimate.value
