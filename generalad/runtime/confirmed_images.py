"""Images that an operator gives for new thresholds, scored one by one as a camera sends them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generalad import image_statistics
from generalad.errors import DataError
from generalad.files import sha256_of_bytes, sha256_of_file
from generalad.geometry.placement import NOT_FOUND, PartNotFound, Prepared, prepare
from generalad.progress import Progress
from generalad.runtime.backends.session import Session
from generalad.runtime.line.faults import Limits
from generalad.runtime.sources import Frame, Source
from generalad.runtime.threshold_cost import KNOWN_DIGITS, Sample

MOST_LISTED = 20
"""Problems that are named one by one."""


@dataclass(frozen=True)
class Scored:
    """An image that was given.

    Attributes:
        name: its file, or its video and number.
        digest: of its pixels after the resize, hexadecimal.
        score: raw.
        peak: largest raw map value.
        statistics: after the resize.
        image_size: (height, width) before it.
        file: first digits of the hash of its file, where the artifact knows those it learned from.
    """

    name: str
    digest: str
    score: float
    peak: float
    statistics: image_statistics.Statistics
    image_size: tuple[int, int]
    file: str = ""


def score(session: Session, pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Score and largest map value of one resized image; one by one, as a camera sends them."""
    scores, maps = session.run(pixels[None])
    return float(scores[0]), float(maps.max())


def score_defects(session: Session, sources: Sequence[Source], progress: Progress) -> list[float]:
    """Raw scores of images with defects; they may look as they like, but must be readable."""
    total, scores, problems = sum(source.count() or 0 for source in sources), [], []
    for done, frame in enumerate(_frames(sources), start=1):
        if frame.image is None:
            problems.append(frame.error or f"{frame.path}: no image")
            continue
        try:
            pixels = _prepared(session, frame.image).pixels
        except PartNotFound:  # it is refused, so no threshold misses it
            scores.append(math.inf)
            continue
        scores.append(score(session, pixels)[0])
        progress("scoring defects", done, max(total, done))
    if problems:
        _refuse(problems)
    return scores


def score_all(
    session: Session, sources: Sequence[Source], progress: Progress, sample: Sample
) -> tuple[list[Scored], int]:
    """Every image once, and how many copies there were; `sample` sees those that count."""
    total = sum(source.count() or 0 for source in sources)
    limits = Limits(session.spec.reference)
    images: list[Scored] = []
    seen: set[str] = set()
    problems: list[str] = []
    done = copies = 0
    for frame in _frames(sources):
        done += 1
        if done < total:
            progress("scoring", done, total)
        name = frame.path if frame.rate is None else f"{frame.path}, frame {frame.index}"
        if frame.image is None:
            problems.append(frame.error or f"{name}: no image")
            continue
        try:
            pixels = _prepared(session, frame.image).pixels
        except PartNotFound as missing:
            problems.append(f"{name}: {NOT_FOUND}: {missing.message}")
            continue
        digest = sha256_of_bytes(pixels.tobytes())
        if digest in seen:
            copies += 1
            continue
        seen.add(digest)
        sample.add(pixels)
        size = (frame.image.shape[0], frame.image.shape[1])
        scored = Scored(
            name,
            digest,
            *score(session, pixels),
            image_statistics.statistics(pixels),
            size,
            _file_digest(frame) if session.spec.training_set.digests else "",
        )
        if fault := limits.fault(scored.statistics, scored.image_size):
            problems.append(f"{name}: {fault}")
        images.append(scored)
    progress("scoring", done, done)
    if problems:
        _refuse(problems)
    return images, copies


def _prepared(session: Session, image: NDArray[np.uint8]) -> Prepared:
    return prepare(image, session.spec.image_size, session.spec.geometry)


def _file_digest(frame: Frame) -> str:
    """What `TrainingSet.digests` would hold of its file; nothing of a video."""
    if frame.rate is not None:
        return ""
    try:
        return sha256_of_file(Path(frame.path))[:KNOWN_DIGITS]
    except OSError:  # removed meanwhile
        return ""


def _frames(sources: Sequence[Source]) -> Iterator[Frame]:
    for source in sources:
        yield from source


def _refuse(problems: list[str]) -> None:
    more = len(problems) - MOST_LISTED
    lines = problems[:MOST_LISTED] + ([f"and {more} more"] if more > 0 else [])
    raise DataError(
        f"{len(problems)} images cannot be calibrated on:\n"
        + "\n".join(f"  {line}" for line in lines),
        remedy="remove them; after a change of the camera or its place, train again",
    )
