"""What the check of a dataset finds in masks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from generalad.data.inspection import InspectedFile
from generalad.data.masks import (
    EQUAL,
    INVERTED,
    REMEDIES,
    SHARED,
    TURNED,
    equal_masks,
    in_words,
    shared_masks,
)
from generalad.data.report import ERROR, INFO, WARNING, Problem, count_of
from generalad.data.samples import Dataset


def mask_problems(
    dataset: Dataset, seen: Mapping[Path, InspectedFile], masks: Mapping[Path, InspectedFile]
) -> Iterator[Problem]:
    """Masks that do not fit their images, and those that may not say what they seem to."""
    wrong_size: list[Path] = []
    empty: list[Path] = []
    marked: list[Path] = []
    for sample in dataset.test:
        own = [masks[path] for path in sample.masks]
        if not own or seen[sample.path].error or any(mask.error for mask in own):
            continue
        wrong_size += [mask.path for mask in own if mask.shape != seen[sample.path].shape]
        if any(mask.marked for mask in own) != sample.defective:
            (empty if sample.defective else marked).append(sample.path)
    if wrong_size:
        detail = f"{count_of(wrong_size, 'mask')} of another size than the image"
        remedy = "draw masks on the images themselves"
        yield Problem("mask size", ERROR, tuple(wrong_size), detail, remedy)
    if marked:
        detail = f"{count_of(marked, 'good image')} whose mask marks a defect"
        yield Problem("marked good", ERROR, tuple(marked), detail, "correct the label or the mask")
    if empty:
        detail = f"{count_of(empty, 'defective image')} whose mask is all black"
        yield Problem("empty mask", WARNING, tuple(empty), detail, "draw the mask or remove it")
    yield from _doubts(dataset, seen, masks)


def _doubts(
    dataset: Dataset, seen: Mapping[Path, InspectedFile], masks: Mapping[Path, InspectedFile]
) -> Iterator[Problem]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path, mask in masks.items():
        found[mask.doubt].append(path)
    found[SHARED] = shared_masks(dataset.test)
    found[TURNED] = [
        mask for sample in dataset.test if seen[sample.path].turned for mask in sample.masks
    ]
    of_defects = {mask for sample in dataset.test if sample.defective for mask in sample.masks}
    digests = {mask: masks[mask].sha256 for mask in of_defects if masks[mask].marked}
    found[EQUAL] = equal_masks(digests)
    for kind, remedy in REMEDIES.items():
        paths = tuple(found[kind])
        if not paths:
            continue
        # A table may mean it so; and a defect may fill one image, but not most of them.
        wrong = kind == INVERTED and 2 * len(paths) > len(masks)
        wrong |= kind == SHARED and dataset.layout != "table"
        detail = in_words(kind, len(paths), len(masks))
        yield Problem(kind, ERROR if wrong else WARNING, paths, detail, remedy)


def missing_masks(dataset: Dataset) -> Iterator[Problem]:
    """Defective images without masks, and masks without images."""
    defective = [sample for sample in dataset.test if sample.defective]
    without_mask = tuple(sample.path for sample in defective if not sample.masks)
    if without_mask:
        some = len(without_mask) < len(defective)
        yield Problem(
            "no mask",
            WARNING if some else INFO,
            without_mask,
            f"{count_of(without_mask, 'defective image')} of {len(defective)} without a mask",
            "add masks if the location of defects is to be measured",
        )
    if dataset.stray_masks:
        yield Problem(
            "stray mask",
            WARNING,
            dataset.stray_masks,
            f"{count_of(dataset.stray_masks, 'mask')} without an image",
            "name a mask like its image, or remove it",
        )
