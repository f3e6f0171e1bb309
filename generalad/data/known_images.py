"""Which test images a detector learned from: figures that they are in are too good."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generalad.data.masks import is_turned_in_doubt
from generalad.data.samples import Dataset, Sample
from generalad.files import sha256_of_bytes, sha256_of_file
from generalad.image_limits import Fault, Limits
from generalad.parallel import map_threads
from generalad.spec import Reference


class FilesOfTest:
    """What is to be known of test images besides their pixels, taken while they are read.

    Attributes:
        hashes: SHA-256 of the files.
        turned: of those with masks, whether EXIF data turns them in doubt.
        sizes: height and width of each image.
        faults: of good images, how each lies beyond those of the calibration; None of most.
    """

    def __init__(self, reference: Reference | None = None) -> None:
        """`reference` says what images of the calibration look like, if that is known."""
        self._limits = None if reference is None else Limits(reference)
        self.hashes: dict[Path, str] = {}
        self.turned: dict[Path, bool] = {}
        self.sizes: dict[Path, tuple[int, int]] = {}
        self.faults: dict[Path, Fault | None] = {}

    def take(self, sample: Sample, data: bytes) -> None:
        """Look at the content of a file; from any thread."""
        self.hashes[sample.path] = sha256_of_bytes(data)
        if sample.masks:
            self.turned[sample.path] = is_turned_in_doubt(data)

    def look(self, sample: Sample, pixels: NDArray[np.uint8]) -> None:
        """Look at the network's input (H, W, 3) uint8 RGB of an image whose size is known."""
        if self._limits is not None and not sample.defective:
            self.faults[sample.path] = self._limits.of_image(pixels, self.sizes[sample.path])

    def good_and_defective(self, samples: Iterable[Sample]) -> tuple[Path, ...]:
        """Of the test images, those whose content is labelled both good and defective."""
        labels: dict[str, set[bool]] = defaultdict(set)
        known = [sample for sample in samples if sample.path in self.hashes]
        for sample in known:
            labels[self.hashes[sample.path]].add(sample.defective)
        return tuple(one.path for one in known if len(labels[self.hashes[one.path]]) > 1)

    def in_another_format(self, reference: Reference | None) -> str:
        """How many images differ in shape or scale from those of a calibration, and how."""
        if reference is None:
            return ""
        said = [text for size in self.sizes.values() if (text := reference.other_format(size))]
        if not said:
            return ""
        return f"{len(said)} of {len(self.sizes)} test images are of another format: {said[0]}"

    def of_another_look(self) -> str:
        """How most good images look otherwise than those of a calibration; empty if they do not."""
        found = [fault for fault in self.faults.values() if fault and fault.kind != "size"]
        if len(found) < _LEAST or 2 * len(found) <= len(self.faults):
            return ""
        return (
            f"{len(found)} of {len(self.faults)} good test images do not look like those of the"
            f" calibration: {found[0]}"
        )


_LEAST = 3  # images that must show the same before it is said


def kept_for_training(dataset: Dataset, digests: Collection[str]) -> int:
    """Good images that a plain folder keeps from the test, though a detector learned from others.

    Args:
        dataset: a plain folder keeps four fifths of its good images for training.
        digests: as in `learned_from`.

    Returns:
        How many; 0 where it learned from one of the first, its digests are not known, or the
        dataset itself says what is to be tested.
    """
    if not digests or dataset.layout != "plain folder":
        return 0
    digits = len(next(iter(digests)))
    first = [sample.path for sample in dataset.train[:_SOME]]
    known = any(found[:digits] in digests for found in map_threads(_digest, first))
    return 0 if known else len(dataset.train)


_SOME = 20  # training images that are compared, of whom all or none were learned from


def learned_from(
    dataset: Dataset, digests: Collection[str], hashes: Mapping[Path, str] | None = None
) -> tuple[Path, ...]:
    """Test images that are equal to ones of the training, byte by byte.

    Args:
        dataset: its images to train and calibrate with are compared, too.
        digests: first digits of the SHA-256 of the files that a detector learned from.
        hashes: of test images that were read already.

    Returns:
        Their paths. A file that cannot be read is in none.
    """
    tested = [sample.path for sample in dataset.test]
    trained = [sample.path for sample in (*dataset.train, *dataset.calibration)]
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in trained:
        by_size[_size(path)].append(path)
    alike = [path for size in set(map(_size, tested)) for path in by_size.get(size, ())]
    known = set(map_threads(_digest, alike)) - {""}
    digits = len(next(iter(digests), ""))
    given = hashes or {}
    asked = tested if digits else [one for one in tested if _size(one) in by_size]
    unknown = [path for path in asked if path not in given]
    found = {**given, **dict(zip(unknown, map_threads(_digest, unknown), strict=True))}
    return tuple(
        path
        for path in asked
        if found[path]
        and (found[path] in known or (digits > 0 and found[path][:digits] in digests))
    )


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _digest(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError:
        return ""
