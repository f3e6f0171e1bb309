"""Splits of good pictures: for the test, for calibration, for few-shot training."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from generalad.data.samples import Sample
from generalad.files import sha256_of_file

HELD_OUT_SHARE = 0.2
"""Share of the good pictures kept for the test where a dataset has defects but no test split."""


def hold_out(good: Sequence[Sample]) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split good pictures into those to train on and those to test with.

    A picture is tested with when the first 32 bits of its content's SHA-256, read as a fraction of
    2^32, lie below `HELD_OUT_SHARE`. So the split stays as it is when files are added or renamed,
    and equal files stay together. Where this leaves one side without pictures, the one of the
    smallest (largest) hash moves there with its copies, if there are two different pictures at all.
    """
    with ThreadPoolExecutor() as pool:
        hashes = list(pool.map(_content_hash, (sample.path for sample in good)))
    limit = f"{int(HELD_OUT_SHARE * 2**32):08x}"
    different = sorted(set(hashes))
    if len(different) > 1:
        limit = min(max(limit, different[1]), different[-1])
        tested = [content < limit for content in hashes]
    else:
        tested = [False] * len(good)
    return (
        tuple(sample for sample, held in zip(good, tested, strict=True) if not held),
        tuple(sample for sample, held in zip(good, tested, strict=True) if held),
    )


def _content_hash(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError:
        return "f" * 64  # stays in the training set, where the check reports it
