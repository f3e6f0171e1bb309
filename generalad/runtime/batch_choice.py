"""`choose_batch`: how many images a run of the network is fastest with, measured once a machine.

What was found is kept in the cache folder, under all that it depends on: artifact, library, device
and precision, processor, cores and threads. Smaller batches are preferred: they answer sooner and
take less memory.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from generalad.errors import ArtifactError, StorageError, UsageError
from generalad.files import cache_folder, read_json, sha256_of_bytes, write_json
from generalad.processor import memory, read_processor, usable_cores
from generalad.runtime.backends.session import Session
from generalad.runtime.sources import LiveSource
from generalad.spec import Spec

SIZES = (1, 2, 4, 8, 16, 32)

GAIN = 0.03
"""What a larger batch must gain to be taken: less is noise, and it would answer later."""

ROUNDS = 5
BUDGET = 3.0
"""Seconds that measuring takes, about; a size that would need more of them is not tried."""

_BYTES_A_PIXEL = 15
"""Of an image on its way in: 8 bits, and cast to float32, three colours each."""


class Choice(NamedTuple):
    """A batch that was chosen.

    Attributes:
        size: images a run of the network.
        speeds: images a second by size, of those that were tried; empty where there is no choice.
        remembered: whether it was measured by an earlier run.
    """

    size: int
    speeds: dict[int, float]
    remembered: bool = False

    def in_words(self) -> str:
        """In one line."""
        if not self.speeds:
            return f"batches of {self.size}, there is no choice"
        tried = ", ".join(f"{speed:.3g} with {size}" for size, speed in self.speeds.items())
        when = "measured before on this machine" if self.remembered else "measured now"
        return f"batches of {self.size}: images a second of the network alone {tried}; {when}"


def choose_batch(session: Session, *, most: int = SIZES[-1], threads: int | None = None) -> Choice:
    """Measure, or remember, the batch that a session is fastest with.

    Args:
        session: open; it is run with noise for up to about `BUDGET` seconds.
        most: images that there can be at a time: a camera has one.
        threads: with which the session was opened, None for the library's choice.
    """
    fixed = session.fixed_batch
    sizes = [size for size in SIZES if size <= most and size <= _most(session.spec)]
    if fixed is not None or len(sizes) < 2:
        return Choice(fixed or 1, {})
    file = cache_folder() / "batches" / f"{_key(session, sizes, threads)}.json"
    if known := _read(file, sizes):
        return Choice(_best(known), known, remembered=True)
    speeds = _measure(session, sizes)
    with contextlib.suppress(StorageError):  # then it is measured again next time
        write_json(file, speeds)
    return Choice(_best(speeds), speeds)


def batch_for(session: Session, sources: Sequence[Any], *, threads: int | None) -> Choice:
    """`choose_batch` for sources or streams; cameras give one image each at a time."""
    plain = [getattr(item, "source", item) for item in sources]
    live = [source for source in plain if isinstance(source, LiveSource)]
    most = max(1, len(live)) if len(live) == len(plain) else SIZES[-1]
    return choose_batch(session, most=most, threads=threads)


def check_batch(size: int, spec: Spec) -> None:
    """Refuse a batch whose images alone do not fit into the machine.

    Raises:
        UsageError: they need more memory than there is.
    """
    if size <= (most := _most(spec)):
        return
    raise UsageError(
        f"a batch of {size} images of {spec.image_size[1]} x {spec.image_size[0]} takes"
        f" {_bytes(spec) * size / 1e9:.0f} GB before the network has begun, this machine has"
        f" {(memory() or 0) / 1e9:.0f}",
        remedy=f"take a smaller batch, far below {most}",
    )


def _most(spec: Spec) -> int:
    there = memory()
    return 1 << 30 if there is None else max(1, there // _bytes(spec))


def _bytes(spec: Spec) -> int:
    return _BYTES_A_PIXEL * spec.image_size[0] * spec.image_size[1]


def _measure(session: Session, sizes: Sequence[int]) -> dict[int, float]:
    """Images a second by size, of the fastest run of each, in turns."""
    noise = np.random.default_rng(0).integers(0, 256, (1, *session.spec.image_size, 3), np.uint8)
    began = time.perf_counter()
    session.run(noise)
    one = _seconds(session, noise)
    tried = [size for size in sizes if size * one * 2 <= BUDGET] or [1]
    rounds = max(1, min(ROUNDS, int(BUDGET / max(sum(tried) * one, 1e-9))))
    images = {size: np.ascontiguousarray(np.repeat(noise, size, axis=0)) for size in tried}
    seconds: dict[int, list[float]] = {size: [] for size in tried}
    for _ in range(rounds):
        for size in tried:
            seconds[size].append(_seconds(session, images[size]))
        if time.perf_counter() - began > 2 * BUDGET:
            break
    return {size: round(size / min(found), 3) for size, found in seconds.items()}


def _seconds(session: Session, images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> float:
    began = time.perf_counter()
    session.run(images)
    return time.perf_counter() - began


def _best(speeds: dict[int, float]) -> int:
    """The smallest size that is as fast as the fastest, but for `GAIN`."""
    fastest = max(speeds.values())
    return min(size for size, speed in speeds.items() if speed * (1 + GAIN) >= fastest)


def _key(session: Session, sizes: Sequence[int], threads: int | None) -> str:
    processor = read_processor()
    facts = [
        session.spec.to_json(),
        session.backend,
        session.precision,
        processor.name,
        sorted(processor.flags),
        usable_cores(),
        getattr(session, "side_by_side", 1),
        threads,
        list(sizes),
    ]
    return sha256_of_bytes(json.dumps(facts).encode())[:32]


def _read(file: Path, sizes: Sequence[int]) -> dict[int, float]:
    """What an earlier run wrote, or nothing where it cannot be read."""
    if not file.exists():
        return {}
    try:
        found = {int(size): float(speed) for size, speed in read_json(file).items()}
    except (ArtifactError, AttributeError, TypeError, ValueError):
        return {}
    usable = all(size in sizes and speed > 0 for size, speed in found.items())
    return found if usable else {}
