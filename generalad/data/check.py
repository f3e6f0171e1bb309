"""The check of a dataset: every file is read once and what is wrong is listed with its remedy."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generalad.data.groups import near_copies_in_words
from generalad.data.near_copies import near_copies, signature
from generalad.data.public_sets import differences
from generalad.data.report import ERROR, INFO, WARNING, CheckReport, Problem, render_problems
from generalad.data.samples import Dataset, Sample
from generalad.errors import DataError
from generalad.files import sha256_of_bytes
from generalad.parallel import map_threads
from generalad.preprocess import IMAGE_SUFFIXES, decode_image, decode_mask, read_bytes
from generalad.progress import Progress

__all__ = ["CheckReport", "Problem", "check_dataset", "fingerprint_of", "render_problems"]


@dataclass(frozen=True)
class _File:
    """What one reading of an image or mask showed; `error` is empty where it is readable."""

    path: Path
    error: str = ""
    sha256: str = ""
    shape: tuple[int, int] = (0, 0)
    grey: bool = False
    marked: bool = False
    signature: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class _Task:
    """A file to be read."""

    path: Path
    mask: bool = False
    signed: bool = False


def check_dataset(
    dataset: Dataset,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
) -> CheckReport:
    """Read every image and mask once and list what is wrong. Nothing is raised for their faults.

    Args:
        dataset: as opened.
        progress: called with ("check", files done, files), in the calling thread.
        workers: number of threads.
    """
    samples = [*dataset.train, *dataset.calibration, *dataset.test]
    images = [sample.path for sample in samples]
    masks = sorted({mask for sample in samples for mask in sample.masks})
    good = len(dataset.train) + len(dataset.calibration)
    tasks = [_Task(path, signed=number < good) for number, path in enumerate(images)]
    tasks += [_Task(path, mask=True) for path in masks]
    files: list[_File] = []
    for file in map_threads(_inspect, tasks, workers=workers):
        files.append(file)
        if progress is not None:
            progress("check", len(files), len(tasks))
    seen = {file.path: file for file in files[: len(images)]}
    seen_masks = {file.path: file for file in files[len(images) :]}
    copies = _near_copies(files[:good])
    problems = [
        *_unlike_published(dataset),
        *_unreadable(seen.values(), "unreadable"),
        *_unreadable(seen_masks.values(), "unreadable mask"),
        *_repeated(dataset, seen),
        *_groups_on_both_sides(dataset),
        *_alike(copies, good),
        *_mask_problems(dataset.test, seen, seen_masks),
        *_missing_masks(dataset),
        *_mixed(seen.values()),
        *_ignored(dataset),
        *(Problem("note", INFO, (), note, "nothing to do") for note in dataset.notes),
    ]
    order = (ERROR, WARNING, INFO)
    return CheckReport(
        root=dataset.root,
        problems=tuple(sorted(problems, key=lambda problem: order.index(problem.severity))),
        counts=_counts(dataset, len(masks)),
        sizes=_sizes(seen.values()),
        sha256={path: file.sha256 for path, file in seen.items() if file.sha256},
        fingerprint=fingerprint_of(
            seen[sample.path].sha256 for sample in dataset.train if not seen[sample.path].error
        ),
        unusable=tuple(file.path for file in files if file.error),
        near_copies=copies,
    )


def fingerprint_of(hashes: Iterable[str]) -> str:
    """SHA-256 over the sorted content hashes of images: names and order do not count."""
    return sha256_of_bytes("\n".join(sorted(hashes)).encode())


def _inspect(task: _Task) -> _File:
    path, content = task.path, ""
    try:
        data = read_bytes(path)
        content = sha256_of_bytes(data)
        if task.mask:
            mask = decode_mask(data, name=str(path))
            return _File(path, "", content, (mask.shape[0], mask.shape[1]), marked=bool(mask.any()))
        image = decode_image(data, name=str(path))
    except DataError as error:
        return _File(path, error.message.removeprefix(f"{path}: "), content)
    grey = bool(np.array_equal(image[..., 0], image[..., 1])) and bool(
        np.array_equal(image[..., 1], image[..., 2])
    )
    signed = signature(image) if task.signed else None
    return _File(path, "", content, (image.shape[0], image.shape[1]), grey, signature=signed)


def _unlike_published(dataset: Dataset) -> Iterator[Problem]:
    if dataset.published is not None and (found := differences(dataset)):
        remedy = f"download it again from {dataset.published.page}, or give your own another name"
        yield Problem("incomplete", WARNING, (), found, remedy)


def _unreadable(files: Iterable[_File], kind: str) -> Iterator[Problem]:
    by_reason: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        if file.error:
            by_reason[file.error].append(file.path)
    for reason, paths in by_reason.items():
        remedy = "replace or remove, or go on without by --skip-bad"
        yield Problem(kind, ERROR, tuple(paths), reason, remedy)


def _repeated(dataset: Dataset, seen: dict[Path, _File]) -> Iterator[Problem]:
    """Images of the same content: harmless, a leak, or a contradiction."""
    groups: dict[str, list[tuple[str, Sample]]] = defaultdict(list)
    for part in ("train", "calibration", "test"):
        for sample in getattr(dataset, part):
            # Damaged files are reported as such; all empty ones, say, have the same content.
            if not seen[sample.path].error:
                groups[seen[sample.path].sha256].append((part, sample))
    for group in groups.values():
        if len(group) < 2:
            continue
        paths = tuple(sample.path for _, sample in group)
        parts = sorted({part for part, _ in group})
        if len({sample.defective for _, sample in group}) == 2:
            detail, remedy = "the same image is good and defective", "decide which it is"
            yield Problem("contradiction", ERROR, paths, detail, remedy)
        elif len(parts) > 1:
            detail = f"the same image in {' and '.join(parts)}"
            yield Problem("leak", ERROR, paths, detail, "keep it in one of them")
        else:
            detail = f"{len(group)} times the same image in {parts[0]}"
            yield Problem("duplicate", WARNING, paths, detail, "keep one of them")


def _near_copies(files: Sequence[_File]) -> tuple[tuple[Path, ...], ...]:
    """Groups of readable files that are near-copies; equal files count once."""
    first: dict[str, _File] = {}
    for file in files:
        if file.signature is not None:
            first.setdefault(file.sha256, file)
    different = list(first.values())
    groups = near_copies([file.signature for file in different if file.signature is not None])
    return tuple(tuple(different[index].path for index in group) for group in groups)


def _alike(groups: tuple[tuple[Path, ...], ...], images: int) -> Iterator[Problem]:
    if groups:
        yield Problem(
            "near-copy",
            INFO,
            tuple(path for group in groups for path in group),
            near_copies_in_words(images, groups),
            "training keeps each group on one side; the setting `group` names other groups",
        )


def _groups_on_both_sides(dataset: Dataset) -> Iterator[Problem]:
    """Groups that a table names and that lie in two parts."""
    parts: dict[str, dict[str, Path]] = defaultdict(dict)
    for part in ("train", "calibration", "test"):
        for sample in getattr(dataset, part):
            if sample.group:
                parts[sample.group].setdefault(part, sample.path)
    split = {group: found for group, found in parts.items() if len(found) > 1}
    if split:
        paths = tuple(path for found in split.values() for path in found.values())
        detail = f"{_count(list(split), 'group')} in several of training, calibration and test"
        yield Problem("split group", WARNING, paths, detail, "keep each group in one of them")


def _mask_problems(
    samples: Sequence[Sample], seen: dict[Path, _File], masks: dict[Path, _File]
) -> Iterator[Problem]:
    wrong_size: list[Path] = []
    empty: list[Path] = []
    marked: list[Path] = []
    for sample in samples:
        own = [masks[path] for path in sample.masks]
        if not own or seen[sample.path].error or any(mask.error for mask in own):
            continue
        wrong_size += [mask.path for mask in own if mask.shape != seen[sample.path].shape]
        if any(mask.marked for mask in own) != sample.defective:
            (empty if sample.defective else marked).append(sample.path)
    if wrong_size:
        detail = f"{_count(wrong_size, 'mask')} of another size than the image"
        remedy = "draw masks on the images themselves"
        yield Problem("mask size", ERROR, tuple(wrong_size), detail, remedy)
    if marked:
        detail = f"{_count(marked, 'good image')} whose mask marks a defect"
        yield Problem("marked good", ERROR, tuple(marked), detail, "correct the label or the mask")
    if empty:
        detail = f"{_count(empty, 'defective image')} whose mask is all black"
        yield Problem("empty mask", WARNING, tuple(empty), detail, "draw the mask or remove it")


def _missing_masks(dataset: Dataset) -> Iterator[Problem]:
    defective = [sample for sample in dataset.test if sample.defective]
    without_mask = tuple(sample.path for sample in defective if not sample.masks)
    if without_mask:
        some = len(without_mask) < len(defective)
        yield Problem(
            "no mask",
            WARNING if some else INFO,
            without_mask,
            f"{_count(without_mask, 'defective image')} of {len(defective)} without a mask",
            "add masks if the location of defects is to be measured",
        )
    if dataset.stray_masks:
        yield Problem(
            "stray mask",
            WARNING,
            dataset.stray_masks,
            f"{_count(dataset.stray_masks, 'mask')} without an image",
            "name a mask like its image, or remove it",
        )


def _mixed(files: Iterable[_File]) -> Iterator[Problem]:
    readable = [file for file in files if not file.error]
    sizes = _sizes(readable)
    if len(sizes) > 1:
        most, number = next(iter(sizes.items()))
        detail = f"{len(sizes)} different sizes, the most frequent {most} ({number} images)"
        remedy = "all are stretched to one size; check that their scale is the same"
        yield Problem("mixed sizes", INFO, (), detail, remedy)
    grey = tuple(file.path for file in readable if file.grey)
    colour = tuple(file.path for file in readable if not file.grey)
    if grey and colour:
        rare, name = (grey, "grey") if len(grey) < len(colour) else (colour, "in colour")
        detail = f"{_count(rare, 'image')} of {len(readable)} {name}, unlike the others"
        yield Problem("mixed colour", WARNING, rare, detail, "record all with one camera setting")


def _ignored(dataset: Dataset) -> Iterator[Problem]:
    images = [path for path in dataset.ignored if path.suffix.lower() in IMAGE_SUFFIXES]
    others = [path for path in dataset.ignored if path.suffix.lower() not in IMAGE_SUFFIXES]
    if images:
        detail = f"{_count(images, 'image')} outside the layout, not used"
        yield Problem("ignored", WARNING, tuple(images), detail, "move or remove them")
    if others:
        detail = f"{_count(others, 'file')} without the suffix of an image"
        yield Problem("ignored", INFO, tuple(others), detail, "nothing to do")


def _counts(dataset: Dataset, masks: int) -> dict[str, int]:
    defective = sum(sample.defective for sample in dataset.test)
    return {
        "train": len(dataset.train),
        "calibration": len(dataset.calibration),
        "test good": len(dataset.test) - defective,
        "test defective": defective,
        "masks": masks,
        "ignored": len(dataset.ignored),
    }


def _sizes(files: Iterable[_File]) -> dict[str, int]:
    count = Counter(file.shape for file in files if not file.error)
    return {f"{width}x{height}": number for (height, width), number in count.most_common()}


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"
