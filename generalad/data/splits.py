"""Splits of good images: for the test, for calibration, for few-shot training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from generalad.calibration import calibration_needed
from generalad.data.samples import Sample
from generalad.errors import DataError
from generalad.files import sha256_of_bytes, sha256_of_file
from generalad.parallel import map_threads

HELD_OUT_SHARE = 0.2
"""Share of the good images kept for the test where a dataset has defects but no test split."""


def split_calibration(
    samples: Sequence[Sample],
    *,
    fraction: float,
    rng: np.random.Generator,
    groups: Mapping[Path, str] | None = None,
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split good images at random into those to train on and those to calibrate with.

    Whole groups are drawn, a share of their number, for the promise of a calibration is one on
    groups. None that holds more than half of the images is drawn: it is needed to train on.

    Args:
        samples: good ones.
        fraction: share of the groups for calibration; at least one goes to each side.
        rng: decides.
        groups: the group of each image; without it, each image is its own.

    Returns:
        Training and calibration samples, each in the given order.

    Raises:
        DataError: fewer than two groups.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        members[(groups or {}).get(sample.path, str(sample.path))].append(index)
    if len(members) < 2:
        raise DataError(
            f"{len(members)} different good images or groups of them, expected at least 2: one to"
            " train on and one to calibrate with",
            remedy="add good images; a false-alarm rate r takes 1/r - 1 of them for calibration, "
            f"1 % takes {calibration_needed(0.01)}",
        )
    wanted = min(max(1, round(fraction * len(members))), len(members) - 1)
    all_groups = list(members.values())
    drawn = [all_groups[number] for number in rng.permutation(len(all_groups))]
    drawn = [group for group in drawn if 2 * len(group) <= len(samples)][:wanted]
    chosen = {index for group in drawn for index in group}
    return (
        tuple(sample for index, sample in enumerate(samples) if index not in chosen),
        tuple(sample for index, sample in enumerate(samples) if index in chosen),
    )


def few_shot(samples: Sequence[Sample], shots: int, offset: int) -> tuple[Sample, ...]:
    """The `shots` samples from `offset` on, going round at the end; 0 shots mean all samples.

    The rule of the paper's few-shot experiments, whose offset is the seed.

    Raises:
        DataError: fewer samples than shots.
    """
    if shots > len(samples):
        raise DataError(
            f"{shots} shots, but only {len(samples)} good images",
            remedy="lower `shots` or add images",
        )
    if shots == 0:
        return tuple(samples)
    return tuple(samples[(offset + step) % len(samples)] for step in range(shots))


def hold_out(good: Sequence[Sample]) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split good images into those to train on and those to test with.

    An image is tested with when the first 32 bits of its content's SHA-256, read as a fraction of
    2^32, lie below `HELD_OUT_SHARE`. So the split stays as it is when files are added or renamed,
    and equal files stay together. Of an image with a group, the group's name is hashed instead, so
    that groups stay together. Where this leaves one side without images, the one of the smallest
    (largest) hash moves there with its copies, if there are two different images at all.
    """
    hashes = list(map_threads(_hash, good))
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


def _hash(sample: Sample) -> str:
    if sample.group:
        return sha256_of_bytes(sample.group.encode())
    try:
        return sha256_of_file(sample.path)
    except OSError:
        return "f" * 64  # stays in the training set, where the check reports it
