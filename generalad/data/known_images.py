"""Which test images a detector learned from: figures that they are in are too good."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

from generalad.data.masks import is_turned_in_doubt
from generalad.data.samples import Dataset, Sample
from generalad.files import sha256_of_bytes, sha256_of_file
from generalad.parallel import map_threads
from generalad.spec import Reference


class FilesOfTest:
    """What is to be known of test images besides their pixels, taken while they are read.

    Attributes:
        hashes: SHA-256 of the files that may be ones of the training.
        turned: of those with masks, whether EXIF data turns them in doubt.
        sizes: height and width of each image.
    """

    def __init__(self, dataset: Dataset, digests: Collection[str]) -> None:
        """Arguments as of `learned_from`."""
        trained = (*dataset.train, *dataset.calibration)
        self._sizes = None if digests else {_size(sample.path) for sample in trained}
        self.hashes: dict[Path, str] = {}
        self.turned: dict[Path, bool] = {}
        self.sizes: dict[Path, tuple[int, int]] = {}

    def take(self, sample: Sample, data: bytes) -> None:
        """Look at the content of a file; from any thread."""
        if self._sizes is None or len(data) in self._sizes:
            self.hashes[sample.path] = sha256_of_bytes(data)
        if sample.masks:
            self.turned[sample.path] = is_turned_in_doubt(data)

    def in_another_format(self, reference: Reference | None) -> str:
        """How many images differ in shape or scale from those of a calibration, and how."""
        if reference is None:
            return ""
        said = [text for size in self.sizes.values() if (text := reference.other_format(size))]
        if not said:
            return ""
        return f"{len(said)} of {len(self.sizes)} test images are of another format: {said[0]}"


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
