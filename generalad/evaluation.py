"""Measure a detector or any exported artifact on a test set, the same way for both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generalad.data.dataset import Sample, load_masks, open_dataset
from generalad.errors import DataError
from generalad.metrics.evaluate import Evaluation, ImageResult
from generalad.metrics.evaluate import evaluate as measure
from generalad.metrics.report import write_report
from generalad.predictor import open_model
from generalad.preprocess import read_image, resize
from generalad.progress import Progress
from generalad.runtime import Session
from generalad.spec import Spec


@dataclass(frozen=True)
class Evaluated:
    """An evaluation with what it was made of.

    Attributes:
        evaluation: every metric, with its interval where there is one.
        results: one for each test image, in order of their names.
        spec: of the artifact.
        backend: what it ran on.
    """

    evaluation: Evaluation
    results: list[ImageResult]
    spec: Spec
    backend: str


def evaluate(
    artifact: str | Path,
    data: str | Path,
    *,
    weights: str | Path | None = None,
    device: str | None = None,
    threads: int | None = None,
    batch_size: int = 8,
    html: str | Path | None = None,
    progress: Progress | None = None,
) -> Evaluated:
    """Score the test images of a dataset and measure image and pixel metrics.

    Args:
        artifact: an exported file, or the folder of a detector.
        data: a dataset with test images, see docs/data.md.
        weights: for a detector whose backbone weights moved since training.
        device: to run on; for an exported file see `open_session`.
        threads: CPU threads, for an exported file.
        batch_size: images a run.
        html: where to write a self-contained report.
        progress: called with ("scoring", images done, images).

    Raises:
        DataError: no test images, or some cannot be read.
        ArtifactError: not a detector or artifact.
    """
    with open_model(artifact, weights=weights, device=device, threads=threads) as session:
        spec, backend = session.spec, session.backend
        results = score_dataset(session, data, batch_size=batch_size, progress=progress)
    evaluation = measure(results, image_size=spec.image_size, image_threshold=spec.thresholds.image)
    if html is not None:
        write_report(
            Path(html),
            evaluation,
            results,
            title=f"{spec.class_name}: {spec.method}",
            read_image=read_image,
            pixel_threshold=spec.thresholds.pixel,
            facts={"Data": str(data), **facts(spec, backend)},
        )
    return Evaluated(evaluation, results, spec, backend)


def score_dataset(
    session: Session,
    data: str | Path,
    *,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> list[ImageResult]:
    """Score the test images of a dataset, in order of their names.

    Raises:
        DataError: no test images, or some cannot be read.
    """
    dataset = open_dataset(data)
    if not dataset.test:
        raise DataError(
            f"{data} has no test images",
            remedy="add test/good and test/DEFECT, or a bad folder; see docs/data.md",
        )
    return list(_score(session, dataset.test, batch_size, progress))


def facts(spec: Spec, backend: str) -> dict[str, str]:
    """What a reader of figures should know about their origin."""
    height, width = spec.image_size
    calibration = spec.calibration
    return {
        "Backbone": f"{spec.backbone.name}, layers {', '.join(map(str, spec.backbone.layers))}",
        "Input": f"{height} x {width}, {spec.precision}",
        "Ran on": backend,
        "Trained on": f"{spec.training_set.images or 'an unknown number of'} good images",
        "Threshold": (
            f"{spec.thresholds.image:.4g}, for false alarms of at most {calibration.reached:.2%}"
            f" ({calibration.images} calibration images)"
        ),
        "Selection": str(spec.metrics.get("selection_rule", "not recorded")),
    }


def _score(
    session: Session, samples: Sequence[Sample], batch_size: int, progress: Progress | None
) -> Iterator[ImageResult]:
    spec = session.spec
    with ThreadPoolExecutor(max_workers=2) as pool:
        batches = [samples[i : i + batch_size] for i in range(0, len(samples), batch_size)]
        # One batch is read ahead while the network works on another; more would fill the memory.
        ahead = [pool.submit(_load, batch, spec.image_size) for batch in batches[:1]]
        for index, batch in enumerate(batches):
            images, masks = ahead.pop(0).result()
            if index + 1 < len(batches):
                ahead.append(pool.submit(_load, batches[index + 1], spec.image_size))
            outputs = session.run(images)
            for sample, mask, score, anomaly_map in zip(
                batch, masks, outputs.scores, outputs.maps, strict=True
            ):
                yield ImageResult(
                    path=str(sample.path),
                    label=sample.label,
                    defective=sample.defective,
                    score=float(score),
                    normalised=spec.normalised(float(score)),
                    decision=spec.is_anomalous(float(score)),
                    map=anomaly_map,
                    mask=mask,
                )
            if progress is not None:
                progress("scoring", min((index + 1) * batch_size, len(samples)), len(samples))


def _load(
    samples: Sequence[Sample], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_] | None]]:
    images, masks = [], []
    for sample in samples:
        image = read_image(sample.path)
        images.append(resize(image, size))
        masks.append(_mask(sample, image.shape[:2]))
    return np.stack(images), masks


def _mask(sample: Sample, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    if not sample.defective:
        return np.zeros(shape, dtype=np.bool_)
    return load_masks(sample, (shape[0], shape[1])) if sample.masks else None
