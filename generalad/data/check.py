"""The check of a dataset: every file is read once and what is wrong is listed with its remedy."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from generalad.data.check_masks import mask_problems, missing_masks
from generalad.data.groups import near_copies_in_words
from generalad.data.inspection import InspectedFile, InspectionTask, inspect_file
from generalad.data.near_copies import near_copies
from generalad.data.public_sets import differences
from generalad.data.report import (
    ERROR,
    INFO,
    WARNING,
    CheckReport,
    Problem,
    count_of,
    render_problems,
)
from generalad.data.samples import Dataset, Sample
from generalad.data.unlike_most import of_another_format, of_another_look
from generalad.files import sha256_of_bytes
from generalad.image_formats.accept import IMAGE_SUFFIXES
from generalad.listing import may_hold_images, unnamed_images
from generalad.parallel import map_threads
from generalad.progress import Progress
from generalad.runtime.sources import VIDEO_SUFFIXES

__all__ = ["CheckReport", "Problem", "check_dataset", "fingerprint_of", "render_problems"]

DARK, MOSAIC, FEW_VALUES, MIXED = "dark 16 bits", "mosaic", "few values", "mixed colour"
FORMAT, LOOK = "mixed formats", "unlike most"
TO_TRAINING = frozenset({DARK, MOSAIC, FEW_VALUES, MIXED, FORMAT, LOOK})
"""Kinds of warnings that training repeats."""


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
    tasks = [InspectionTask(path, signed=number < good) for number, path in enumerate(images)]
    tasks += [InspectionTask(path, mask=True) for path in masks]
    files: list[InspectedFile] = []
    for file in map_threads(inspect_file, tasks, workers=workers):
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
        *mask_problems(dataset, seen, seen_masks),
        *missing_masks(dataset),
        *_mixed(seen.values()),
        *_unlike_most(files[:good]),
        *_narrow(seen.values()),
        *_smaller(seen.values()),
        *_mosaics(seen.values()),
        *_of_few_values(files[:good]),
        *_ignored(dataset),
        *_notes(dataset),
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


def _unlike_published(dataset: Dataset) -> Iterator[Problem]:
    if dataset.published is not None and (found := differences(dataset)):
        remedy = f"download it again from {dataset.published.page}, or give your own another name"
        yield Problem("incomplete", WARNING, (), found, remedy)


def _unreadable(files: Iterable[InspectedFile], kind: str) -> Iterator[Problem]:
    by_reason: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        if file.error:
            by_reason[file.error].append(file.path)
    for reason, paths in by_reason.items():
        remedy = "replace or remove, or go on without by --skip-bad"
        yield Problem(kind, ERROR, tuple(paths), reason, remedy)


def _repeated(dataset: Dataset, seen: dict[Path, InspectedFile]) -> Iterator[Problem]:
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


def _near_copies(files: Sequence[InspectedFile]) -> tuple[tuple[Path, ...], ...]:
    """Groups of readable files that are near-copies; equal files count once."""
    first: dict[str, InspectedFile] = {}
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
        detail = f"{count_of(list(split), 'group')} in several of training, calibration and test"
        yield Problem("split group", WARNING, paths, detail, "keep each group in one of them")


def _mixed(files: Iterable[InspectedFile]) -> Iterator[Problem]:
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
        detail = f"{count_of(rare, 'image')} of {len(readable)} {name}, unlike the others"
        yield Problem(MIXED, WARNING, rare, detail, "record all with one camera setting")


def _unlike_most(files: Sequence[InspectedFile]) -> Iterator[Problem]:
    """Good images that are not like most of them in shape, scale or look."""
    readable = [file for file in files if not file.error]
    odd, usual = of_another_format({file.path: file.shape for file in readable})
    if 0 < 2 * len(odd) <= len(readable):
        detail = (
            f"{count_of(odd, 'good image')} of {len(readable)} of another shape or scale than"
            f" {usual}, as most have: all are stretched to one size"
        )
        remedy = "crop them alike, or leave out what is no such part"
        yield Problem(FORMAT, WARNING, tuple(odd), detail, remedy)
    looks = {file.path: file.looks for file in readable if file.looks is not None}
    for what, paths in of_another_look(looks):
        detail = f"{count_of(paths, 'good image')} of {len(readable)} far from the others in {what}"
        remedy = "look at them; leave out what is no good image of a part"
        yield Problem(LOOK, WARNING, tuple(paths), detail, remedy)


def _narrow(files: Iterable[InspectedFile]) -> Iterator[Problem]:
    """16-bit images of which none uses more than 14 bits: cameras of 14 bits leave them so."""
    deep = [file for file in files if file.deep and not file.error]
    if deep and all(file.narrow for file in deep):
        paths = tuple(file.path for file in deep)
        detail = f"{count_of(paths, 'image')} of 16 bits without any value above 16383 (14 bits)"
        remedy = "scale the values to 0...65535 when saving, or save 8 bits"
        yield Problem(DARK, WARNING, paths, detail, remedy)


def _mosaics(files: Iterable[InspectedFile]) -> Iterator[Problem]:
    """Raw data of colour cameras that was saved as grey images."""
    paths = tuple(file.path for file in files if file.mosaic)
    if paths:
        detail = (
            f"{count_of(paths, 'grey image')} that look like raw data of a colour camera (Bayer)"
        )
        yield Problem(MOSAIC, WARNING, paths, detail, "save them in colour, or in grey")


def _of_few_values(files: Sequence[InspectedFile]) -> Iterator[Problem]:
    """Good images that look like label images or frames of nothing, where most do not."""
    readable = [file for file in files if not file.error]
    paths = tuple(file.path for file in readable if file.few_values)
    if 0 < 2 * len(paths) < len(readable):
        detail = (
            f"{count_of(paths, 'good image')} of few values, as label images and dead cameras have"
        )
        yield Problem(FEW_VALUES, WARNING, paths, detail, "look at them; leave out what is no part")


def _smaller(files: Iterable[InspectedFile]) -> Iterator[Problem]:
    """Files of phones and scanners that hold a preview or the like behind the image."""
    paths = tuple(file.path for file in files if file.smaller and not file.error)
    if paths:
        detail = f"{count_of(paths, 'file')} with a smaller image beside the first, which is read"
        yield Problem("smaller image", INFO, paths, detail, "nothing to do")


def _notes(dataset: Dataset) -> Iterator[Problem]:
    if dataset.origin:
        yield Problem("note", INFO, (), f"a copy of {dataset.origin}", "nothing to do")
    for note in dataset.notes:
        yield Problem("note", INFO, (), note, "nothing to do")
    if dataset.taken_as_good:
        remedy = "move images of defective parts into bad/"
        yield Problem("taken as good", INFO, (), dataset.taken_as_good, remedy)


def _ignored(dataset: Dataset) -> Iterator[Problem]:
    images = [path for path in dataset.ignored if path.suffix.lower() in IMAGE_SUFFIXES]
    others = [path for path in dataset.ignored if path.suffix.lower() not in IMAGE_SUFFIXES]
    if images:
        detail = f"{count_of(images, 'image')} outside the layout, not used"
        yield Problem("ignored", WARNING, tuple(images), detail, "move or remove them")
    unnamed = unnamed_images(Path(), others)
    if unnamed:
        detail = f"{count_of(unnamed, 'file')} that are images by content, not by name, not used"
        yield Problem("ignored", WARNING, unnamed, detail, "give them the suffix of their format")
    said = set(unnamed)
    videos = tuple(path for path in others if path.suffix.lower() in VIDEO_SUFFIXES)
    held = tuple(path for path in may_hold_images(others) if path not in said)
    for found, what in ((videos, "videos"), (held, "arrays, archives, streams")):
        if found:
            detail = f"{count_of(found, 'file')} that may hold images, not used ({what})"
            yield Problem("ignored", WARNING, found, detail, "save their images as PNG if meant")
    said.update(videos, held)
    others = [path for path in others if path not in said]
    if others:
        detail = f"{count_of(others, 'file')} without the suffix of an image"
        tables = [path.name for path in others if path.suffix.lower() == ".csv"]
        remedy = (
            f"if {tables[0]} says which are good, give it instead" if tables else "nothing to do"
        )
        yield Problem("ignored", INFO, tuple(others), detail, remedy)


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


def _sizes(files: Iterable[InspectedFile]) -> dict[str, int]:
    count = Counter(file.shape for file in files if not file.error)
    return {f"{width}x{height}": number for (height, width), number in count.most_common()}
