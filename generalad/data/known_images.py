"""Which test images a detector learned from: figures that they are in are too good."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from generalad.data.samples import Dataset
from generalad.files import sha256_of_file
from generalad.parallel import map_threads


def learned_from(dataset: Dataset, digests: Collection[str]) -> tuple[Path, ...]:
    """Test images that are equal to ones of the training, byte by byte.

    Args:
        dataset: its images to train and calibrate with are compared, too.
        digests: first digits of the SHA-256 of the files that a detector learned from.

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
    hashes = (
        _hashes(tested) if digits else _hashes([one for one in tested if _size(one) in by_size])
    )
    return tuple(
        path
        for path, found in hashes
        if found and (found in known or (digits > 0 and found[:digits] in digests))
    )


def _hashes(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    return list(zip(paths, map_threads(_digest, paths), strict=True))


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
