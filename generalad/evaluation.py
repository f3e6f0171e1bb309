"""Measure a detector or any exported artifact on a test set, the same way for both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from generalad.data.dataset import Dataset, Sample, as_dataset, load_masks
from generalad.data.known_images import FilesOfTest, kept_for_training, learned_from
from generalad.data.masks import doubtful_masks
from generalad.data.public_sets import differences
from generalad.data.samples import Saturation
from generalad.data.saturation import saturated_regions
from generalad.decision import framed
from generalad.errors import DataError, UsageError
from generalad.files import check_writable
from generalad.geometry.placement import PartNotFound, Placement, prepare
from generalad.metrics.evaluate import Evaluation, ImageResult
from generalad.metrics.evaluate import evaluate as measure
from generalad.metrics.pixel import resize_mask
from generalad.metrics.region_overlap import SaturatedPixels, saturated_pixels
from generalad.metrics.report import write_report
from generalad.predictor import open_model
from generalad.preprocess import decode_image, read_bytes, read_image
from generalad.progress import Progress
from generalad.runtime import Session
from generalad.runtime.backends.session import Outputs
from generalad.spec import Spec

_MAP_PIXELS_A_PATCH = 4  # on each axis, in every graph that is exported


@dataclass(frozen=True)
class Evaluated:
    """An evaluation with what it was made of.

    Attributes:
        evaluation: every metric, with its interval where there is one.
        results: one for each test image, in order of their names.
        spec: of the artifact.
        backend: what it ran on.
        incomplete: in how far a public data set is not as it was published; empty where it is.
        doubtful_masks: what is odd about the masks, so that pixel metrics may be wrong; or empty.
        not_found: paths of test images in which the part was not found. They are refused as faults
            and have no score, so they are in no figure.
        learned_from: paths of test images that the detector learned from, or that are copies of
            training images of the dataset: figures are too good.
        other_format: how test images differ in shape or scale from those of the calibration; or
            empty.
        contradictions: paths of test images whose content is labelled both good and defective.
        other_look: how most good test images look otherwise than those of the calibration; or
            empty.
        untested: good images that a plain folder keeps for training, though the detector learned
            from others.
    """

    evaluation: Evaluation
    results: list[ImageResult]
    spec: Spec
    backend: str
    incomplete: str = ""
    doubtful_masks: str = ""
    not_found: tuple[str, ...] = ()
    learned_from: tuple[str, ...] = ()
    other_format: str = ""
    contradictions: tuple[str, ...] = ()
    other_look: str = ""
    untested: int = 0


def evaluate(
    artifact: str | Path,
    data: str | Path | Dataset,
    *,
    class_name: str | None = None,
    anomalous: str | None = None,
    all_good: bool = False,
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
        data: a dataset with test images, see docs/data.md; its address, "s3://bucket/parts"; or
            what `open_dataset` returned.
        class_name: which of several classes.
        anomalous: in its place, the class that is anomalous, see `open_dataset`.
        all_good: all images of a plain folder show good parts, see `open_dataset`.
        weights: for a detector whose backbone weights moved since training.
        device: to run on; for an exported file see `open_session`.
        threads: CPU threads, for an exported file.
        batch_size: images a run.
        html: where to write a self-contained report.
        progress: called with ("scoring", images done, images).

    Raises:
        DataError: no test images, or some cannot be read.
        ArtifactError: not a detector or artifact.
        UsageError: the report has another name than one of HTML.
        StorageError: it cannot be written.
    """
    dataset = as_dataset(
        data, class_name, anomalous=anomalous, all_good=all_good, progress=progress
    )
    if html is not None:
        _check_report(Path(html))
    with open_model(artifact, weights=weights, device=device, threads=threads) as session:
        spec, backend = session.spec, session.backend
        digests = set(spec.training_set.digests)
        files = FilesOfTest(spec.reference)
        results = score_dataset(
            session,
            dataset,
            batch_size=batch_size,
            maps=html is not None or any(sample.masks for sample in dataset.test),
            files=files,
            progress=progress,
        )
    evaluation = evaluation_of(results, spec)
    doubts = doubtful_masks(dataset, files.turned)
    known = tuple(map(str, learned_from(dataset, digests, files.hashes)))
    if html is not None:
        write_report(
            Path(html),
            evaluation,
            results,
            title=f"{spec.class_name}: {spec.method}",
            read_image=read_image,
            pixel_threshold=spec.thresholds.pixel,
            facts={
                "Data": dataset.origin or str(dataset.root),
                **({"Doubtful": f"{doubts}; pixel figures may be wrong"} if doubts else {}),
                **({"Learned from": f"{len(known)} test images: too good"} if known else {}),
                **facts(spec, backend),
            },
        )
    scored = {result.path for result in results}
    lost = tuple(str(one.path) for one in dataset.test if str(one.path) not in scored)
    odd = differences(dataset)
    other = files.in_another_format(spec.reference)
    both = tuple(map(str, files.good_and_defective(dataset.test)))
    return Evaluated(
        *(evaluation, results, spec, backend, odd, doubts, lost, known, other, both),
        other_look=files.of_another_look(),
        untested=kept_for_training(dataset, digests),
    )


def _check_report(path: Path) -> None:
    if path.suffix.lower() not in (".html", ".htm"):  # it may be that of an image
        raise UsageError(
            f"{path}: expected the name of a report in HTML", remedy="such as report.html"
        )
    check_writable(path)


def evaluation_of(results: Sequence[ImageResult], spec: Spec) -> Evaluation:
    """Every metric of the results of a detector or artifact on a test set."""
    return measure(
        results,
        image_size=_pixel_size(spec),
        image_threshold=spec.thresholds.image,
        pixel_threshold=spec.thresholds.pixel,
        patch=_patch_side(spec),
    )


def results_of(
    spec: Spec, dataset: Dataset, outputs: Iterable[Outputs], *, maps: bool = True
) -> Iterator[ImageResult]:
    """Results on a test set whose scores and maps are known already.

    Args:
        spec: of what gave them.
        dataset: its test images are read only where they have masks.
        outputs: of all test images in their order, some at a time.
        maps: as in `score_dataset`.
    """
    masks = any(sample.masks for sample in dataset.test)
    load = partial(_load, spec=spec, table=dataset.saturation)
    samples = iter(dataset.test)
    for part in outputs:
        batch = [next(samples) for _ in part.scores]
        truths = load(batch).truths if masks else [(None, (), None)] * len(batch)
        yield from _results(spec, batch, truths, part, maps)


def score_dataset(
    session: Session,
    data: str | Path | Dataset,
    *,
    batch_size: int = 8,
    maps: bool = True,
    files: FilesOfTest | None = None,
    progress: Progress | None = None,
) -> list[ImageResult]:
    """Score the test images of a dataset, in order of their names.

    Args:
        session: what scores them.
        data: a dataset with test images.
        batch_size: images a run.
        maps: whether maps are kept; else (1, 1) stands for each, its largest value. Those of the
            ten thousand images of a semantic data set would fill the memory.
        files: shown what is read.
        progress: called with ("scoring", images done, images).

    Raises:
        DataError: no test images, some cannot be read, or none shows the part.
    """
    dataset = as_dataset(data)
    if not dataset.test:
        raise DataError(
            f"{dataset.root} has no test images",
            remedy="add test/good and test/DEFECT, or a bad folder; see docs/data.md",
        )
    if _is_tiled(session.spec):  # two batches of large frames would fill the memory
        batch_size = 1
    found = list(_score(session, dataset, batch_size, maps, files, progress))
    if not found:
        raise DataError(f"{dataset.root}: the part was found in none of the test images")
    return found


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
    session: Session,
    dataset: Dataset,
    batch_size: int,
    maps: bool,
    files: FilesOfTest | None,
    progress: Progress | None,
) -> Iterator[ImageResult]:
    spec, samples = session.spec, dataset.test
    load = partial(_load, spec=spec, table=dataset.saturation, files=files)
    with ThreadPoolExecutor(max_workers=2) as pool:
        batches = [samples[i : i + batch_size] for i in range(0, len(samples), batch_size)]
        # One batch is read ahead while the network works on another; more would fill the memory.
        ahead = [pool.submit(load, batch) for batch in batches[:1]]
        for index in range(len(batches)):
            loaded = ahead.pop(0).result()
            if index + 1 < len(batches):
                ahead.append(pool.submit(load, batches[index + 1]))
            if loaded.samples:
                outputs = session.run(np.stack(loaded.images))
                yield from _results(spec, loaded.samples, loaded.truths, outputs, maps)
            if progress is not None:
                progress("scoring", min((index + 1) * batch_size, len(samples)), len(samples))


def _results(
    spec: Spec,
    batch: Sequence[Sample],
    truths: Sequence[_Truth],
    outputs: Outputs,
    maps: bool,
) -> Iterator[ImageResult]:
    for sample, (mask, defects, placement), score, anomaly_map in zip(
        batch, truths, outputs.scores, outputs.maps, strict=True
    ):
        anomaly_map = framed(anomaly_map, placement, spec)
        yield ImageResult(
            path=str(sample.path),
            label=sample.label,
            defective=sample.defective,
            score=float(score),
            normalised=spec.normalised(float(score)),
            decision=spec.is_anomalous(float(score)),
            map=anomaly_map if maps else anomaly_map.max(keepdims=True),
            mask=mask,
            defects=defects,
            counted=None if placement is None else placement.counted(_pixel_size(spec)),
        )


_Truth = tuple[NDArray[np.bool_] | None, tuple[SaturatedPixels, ...], Placement | None]


class _Loaded(NamedTuple):
    """Those of some samples in which the part was found, or all where it is not looked for."""

    samples: list[Sample]
    images: list[NDArray[np.uint8]]
    truths: list[_Truth]


def _load(
    samples: Sequence[Sample],
    spec: Spec,
    table: Sequence[Saturation],
    files: FilesOfTest | None = None,
) -> _Loaded:
    loaded = _Loaded([], [], [])
    for sample in samples:
        data = read_bytes(sample.path)
        if files is not None:
            files.take(sample, data)
        image = decode_image(data, name=str(sample.path))
        if files is not None:
            files.sizes[sample.path] = image.shape[0], image.shape[1]
        try:
            pixels, placement = prepare(image, spec.image_size, spec.geometry)
        except PartNotFound:
            continue
        if files is not None:
            files.look(sample, pixels)
        loaded.samples.append(sample)
        loaded.images.append(pixels)
        size = _pixel_size(spec)
        defects = saturated_regions(sample, table) if table and sample.defective else ()
        found = [
            saturated_pixels(resize_mask(one.mask, size), one.saturation / float(one.mask.sum()))
            for one in defects
        ]
        mask = _mask(sample, image.shape[:2])
        if mask is not None and _is_tiled(spec):
            mask = resize_mask(mask, size) > 0
        loaded.truths.append((mask, tuple(found), placement))
    return loaded


def _mask(sample: Sample, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    if not sample.defective:
        return np.zeros(shape, dtype=np.bool_)
    return load_masks(sample, (shape[0], shape[1])) if sample.masks else None


def _patch_side(spec: Spec) -> int:
    """Of the network's patches, in pixels of the evaluation: a map has four for each side."""
    return max(1, round(_MAP_PIXELS_A_PATCH * _pixel_size(spec)[0] / spec.frame_map_size[0]))


def _pixel_size(spec: Spec) -> tuple[int, int]:
    """(H, W) at which pixels are measured: the whole frame at the network's scale.

    Of frames that are cut into tiles it is the size of their maps: all their pixels would have to
    be sorted.
    """
    return spec.frame_map_size if _is_tiled(spec) else spec.frame_size


def _is_tiled(spec: Spec) -> bool:
    return spec.geometry is not None and spec.geometry.tiles is not None
