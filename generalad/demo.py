"""The whole road in one go: make parts, train, export, verify, measure, run, and show an image."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.config import EMBEDDED, PRESETS
from generalad.evaluation import Evaluated, evaluate, score_dataset
from generalad.export.export import export_detector
from generalad.files import atomic_write, read_json
from generalad.metrics.evaluate import ImageResult
from generalad.overlay import outline, overlay
from generalad.predictor import open_model
from generalad.preprocess import read_image
from generalad.progress import Progress, no_progress
from generalad.runtime import (
    AnnotatedVideo,
    JsonLines,
    Session,
    infer,
    open_session,
)
from generalad.synth import CATEGORIES, write_conveyor, write_dataset
from generalad.training.run_folder import RUN_FILE
from generalad.training.train import train_detector

GOOD_IMAGES = 240
CALIBRATION_SHARE = 0.42  # of them: no false-alarm rate of 1 % can be promised with less than 99
TEST_GOOD = 40
TEST_PER_DEFECT = 15
CONVEYOR_CATEGORY = "washer"
CONVEYOR_FRAMES = 80
_TILE = 256


@dataclass(frozen=True)
class CategoryResult:
    """What the demo found for one category.

    Attributes:
        name: of the category.
        training_seconds: features, epochs and calibration; None if an earlier run did some of it.
        evaluated: the exported artifact on the test images.
        flips: test images that detector and artifact decide differently.
        megabytes: size of the artifact.
        milliseconds: median of one image through the artifact, batch 1, without reading it.
        artifact: the exported file.
        report: the HTML page.
    """

    name: str
    training_seconds: float | None
    evaluated: Evaluated
    flips: int
    megabytes: float
    milliseconds: float
    artifact: Path
    report: Path


@dataclass(frozen=True)
class Conveyor:
    """What was found on the conveyor, against what is known of its frames.

    Attributes:
        frames: of the video.
        defective: how many show a defect.
        found: defective frames that were called anomalous.
        false_alarms: good frames that were called anomalous.
        video: the inspected video.
    """

    frames: int
    defective: int
    found: int
    false_alarms: int
    video: Path


@dataclass(frozen=True)
class DemoResult:
    """Everything the demo made."""

    categories: list[CategoryResult]
    image: Path
    conveyor: Conveyor


def run_demo(
    out: Path, *, categories: Sequence[str] | None = None, progress: Progress | None = None
) -> DemoResult:
    """Run the whole road with the embedded backbone; a second run goes on where one stopped.

    Args:
        out: a folder for data, detectors, artifacts, reports and images.
        categories: of `generalad.synth.CATEGORIES`; default all.
        progress: told how far each stage is.
    """
    progress = progress or no_progress
    names = list(categories or CATEGORIES)
    data = write_dataset(
        out / "data",
        categories=names,
        train=GOOD_IMAGES,
        test_good=TEST_GOOD,
        per_defect=TEST_PER_DEFECT,
        progress=progress,
    )
    results = [_category(out, data / name, progress) for name in names]
    image = out / "overview.png"
    _write_overview(image, results)
    moving = next((r for r in results if r.name == CONVEYOR_CATEGORY), results[0])
    progress("conveyor", 0, 1)
    conveyor = _inspect_conveyor(out, moving)
    progress("conveyor", 1, 1)
    return DemoResult(results, image, conveyor)


def _inspect_conveyor(out: Path, moving: CategoryResult) -> Conveyor:
    belt = write_conveyor(out / "conveyor.mkv", category=moving.name, frames=CONVEYOR_FRAMES)
    video, lines = out / "conveyor-inspected.mp4", out / "conveyor.jsonl"
    infer(moving.artifact, [str(belt)], sinks=[JsonLines(lines), AnnotatedVideo(video)])
    truth = [
        frame["defect"] is not None for frame in read_json(belt.with_suffix(".json"))["frames"]
    ]
    called = [json.loads(line)["anomalous"] for line in lines.read_text().splitlines()]
    pairs = list(zip(truth, called, strict=True))
    return Conveyor(
        frames=len(pairs),
        defective=sum(truth),
        found=pairs.count((True, True)),
        false_alarms=pairs.count((False, True)),
        video=video,
    )


def _category(out: Path, data: Path, progress: Progress) -> CategoryResult:
    name = data.name
    folder = out / "detectors" / name

    def staged(stage: str, done: int, total: int) -> None:
        progress(f"{name}: {stage}", done, total)

    begun, started = (folder / RUN_FILE).exists(), time.monotonic()
    config = PRESETS[EMBEDDED].replaced({"calibration_fraction": CALIBRATION_SHARE})
    trained = train_detector(data, folder, config, cache=out / "cache", progress=staged)
    seconds = time.monotonic() - started
    exported = export_detector(trained, progress=staged)
    page = out / "reports" / f"{name}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    on_artifact = evaluate(exported.path, data, html=page, progress=staged)
    with open_model(folder) as session:
        on_detector = score_dataset(session, data)
    flips = sum(
        a.decision != b.decision for a, b in zip(on_artifact.results, on_detector, strict=True)
    )
    with open_session(exported.path) as session:
        milliseconds = _median_milliseconds(session)
    return CategoryResult(
        name=name,
        training_seconds=None if begun else seconds,
        evaluated=on_artifact,
        flips=flips,
        megabytes=exported.path.stat().st_size / 1e6,
        milliseconds=milliseconds,
        artifact=exported.path,
        report=page,
    )


def _median_milliseconds(session: Session, runs: int = 30) -> float:
    image = np.full((1, *session.spec.image_size, 3), 128, np.uint8)
    times = []
    for _ in range(runs + 3):
        started = time.perf_counter()
        session.run(image)
        times.append(time.perf_counter() - started)
    return float(np.median(times[3:]) * 1e3)


def _write_overview(path: Path, results: Sequence[CategoryResult]) -> None:
    """One row a category: a good part, then one of each defect type beside its heat map."""
    rows = [np.hstack(_row(result)) for result in results]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    with atomic_write(path) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(np.vstack(padded), cv2.COLOR_RGB2BGR))


def _row(result: CategoryResult) -> list[NDArray[np.uint8]]:
    evaluated = result.evaluated
    kinds = ["good", *(kind.name for kind in evaluated.evaluation.defect_types)]
    tiles = []
    for kind in kinds:
        examples = sorted((r for r in evaluated.results if r.label == kind), key=_score)
        image, heat = _pair(examples[len(examples) // 2], evaluated.spec.thresholds.pixel)
        tiles += [_titled(image, kind), heat]
    return tiles


def _pair(example: ImageResult, threshold: float) -> list[NDArray[np.uint8]]:
    image = cv2.resize(read_image(example.path), (_TILE, _TILE)).astype(np.uint8, copy=False)
    heat = overlay(image, example.map, threshold=threshold)
    if example.mask is not None and example.mask.any():
        truth = cv2.resize(example.mask.view(np.uint8), (_TILE, _TILE)) > 0
        outline(heat, truth, (60, 230, 150))
    return [image, heat]


def _titled(image: NDArray[np.uint8], title: str) -> NDArray[np.uint8]:
    """A copy with `title` in a corner, dark on a light ground."""
    size, font = 0.5, cv2.FONT_HERSHEY_SIMPLEX
    (width, height), _ = cv2.getTextSize(title, font, size, 1)
    titled = image.copy()
    cv2.rectangle(titled, (0, 0), (width + 12, height + 12), (240, 240, 240), cv2.FILLED)
    cv2.putText(titled, title, (6, height + 5), font, size, (30, 30, 30), 1, cv2.LINE_AA)
    return titled


def _score(result: ImageResult) -> float:
    return result.score
