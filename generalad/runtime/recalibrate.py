"""New thresholds for an artifact, from recent images that an operator confirms as good.

`recalibrate` scores the images and proposes; `Proposal.write` makes the new artifact.
The network is the same, so its parity report and golden samples stay valid.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from generalad import image_statistics
from generalad.calibration import Calibrated, calibrate
from generalad.errors import DataError, UsageError
from generalad.files import sha256_of_bytes
from generalad.preprocess import resize
from generalad.progress import Progress, no_progress
from generalad.runtime.addresses import open_sources
from generalad.runtime.artifact_copy import copy_with_spec
from generalad.runtime.backends.open import open_session
from generalad.runtime.backends.session import Session
from generalad.runtime.line.faults import Limits
from generalad.runtime.sources import Frame, Source
from generalad.spec import Normalisation, Spec, Thresholds

SOURCE = "recent images that an operator confirmed as good"
MOVED = "; too few for the rate, so not below the old threshold moved by the shift of the median"
LEAST = 8
"""Images; the median of fewer says little."""

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
    """

    name: str
    digest: str
    score: float
    peak: float
    statistics: image_statistics.Statistics
    image_size: tuple[int, int]


@dataclass(frozen=True)
class Proposal:
    """What a recalibration would change; nothing is written yet.

    Attributes:
        artifact: the one that the images were scored with.
        backend: what ran it.
        old: its spec.
        new: the proposed one.
        images: by falling score.
        copies: images left out because their pixels were given before.
        shift: median score of the images less that of the old calibration; None where that is
            not known.
    """

    artifact: Path
    backend: str
    old: Spec
    new: Spec
    images: tuple[Scored, ...]
    copies: int
    shift: float | None

    def anomalous(self, spec: Spec) -> int:
        """How many of the images the thresholds of `spec` call anomalous."""
        return sum(spec.is_anomalous(scored.score) for scored in self.images)

    def write(self, out: str | Path) -> Path:
        """Write the artifact with the proposed thresholds; the old one is left as it is.

        Raises:
            StorageError: it cannot be written.
            UsageError: `out` exists, or has another suffix.
        """
        copy_with_spec(self.artifact, Path(out), self.new)
        return Path(out)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; images by falling score."""
        return {
            "artifact": str(self.artifact),
            "backend": self.backend,
            "pictures": len(self.images),
            "copies": self.copies,
            "target": self.new.calibration.target,
            "reached": self.new.calibration.reached,
            "shift": self.shift,
            **{
                name: {**dataclasses.asdict(spec.thresholds), "anomalous": self.anomalous(spec)}
                for name, spec in (("old", self.old), ("new", self.new))
            },
            "scores": [{"picture": one.name, "score": one.score} for one in self.images],
        }


def recalibrate(
    artifact: str | Path,
    addresses: Sequence[str],
    *,
    target: float | None = None,
    threads: int | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Proposal:
    """Score good images and propose thresholds.

    Args:
        artifact: made by `gad export`.
        addresses: files, folders, patterns and videos that show good parts only.
        target: wished false-alarm rate, 0...1; None for that of the artifact.
        threads: see `open_session`.
        device: see `open_session`.
        progress: called with ("scoring", images done, images).

    Raises:
        ArtifactError: no artifact.
        DataError: addresses that hold no images, images that cannot be read or show a camera
            fault, or fewer than `LEAST`.
        UsageError: the target is no rate.
    """
    if target is not None and not 0 < target < 1:
        raise UsageError(f"the target must lie between 0 and 1, found {target:g}")
    sources = open_sources(addresses)
    with open_session(artifact, threads=threads, device=device) as session:
        old, backend = session.spec, session.backend
        images, copies = _score_all(session, sources, progress or no_progress)
    if len(images) < LEAST:
        left_out = f" and {copies} copies of them" if copies else ""
        raise DataError(
            f"expected at least {LEAST} different images, found {len(images)}{left_out}",
            remedy="give more good images; 99 promise a false-alarm rate of 1 %",
        )
    goal = old.calibration.target if target is None else target
    shift = _median_shift(old, images)
    new = _proposed(old, images, goal, backend, shift)
    by_score = tuple(sorted(images, key=lambda scored: -scored.score))
    return Proposal(Path(artifact), backend, old, new, by_score, copies, shift)


def _median_shift(old: Spec, images: Sequence[Scored]) -> float | None:
    """How far good images score from where they did; None for artifacts without a reference."""
    if old.reference is None:
        return None
    before = old.reference.scores[len(old.reference.scores) // 2]
    return float(np.median([scored.score for scored in images])) - before


def _score_all(
    session: Session, sources: Sequence[Source], progress: Progress
) -> tuple[list[Scored], int]:
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
        pixels = np.ascontiguousarray(resize(frame.image, session.spec.image_size))
        digest = sha256_of_bytes(pixels.tobytes())
        if digest in seen:
            copies += 1
            continue
        seen.add(digest)
        # One by one, as a camera sends them.
        scores, maps = session.run(pixels[None])
        size = (frame.image.shape[0], frame.image.shape[1])
        scored = Scored(
            name,
            digest,
            float(scores[0]),
            float(maps.max()),
            image_statistics.statistics(pixels),
            size,
        )
        if fault := limits.fault(scored.statistics, scored.image_size):
            problems.append(f"{name}: {fault}")
        images.append(scored)
    progress("scoring", done, done)
    if problems:
        _refuse(problems)
    return images, copies


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


def _proposed(
    old: Spec, images: Sequence[Scored], target: float, backend: str, shift: float | None
) -> Spec:
    from generalad.version import __version__

    scores = np.array([scored.score for scored in images], np.float32)
    peaks = np.array([scored.peak for scored in images], np.float32)
    again = calibrate(scores, peaks, target=target, source=SOURCE)
    if shift is not None and again.calibration.reached > target + 1e-12:
        again = _not_below(again, old.thresholds, shift, float(np.median(scores)))
    entry = {
        "generalad": __version__,
        "backend": backend,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "pictures": len(images),
        "fingerprint": sha256_of_bytes("\n".join(sorted(p.digest for p in images)).encode()),
        "before": {
            "thresholds": dataclasses.asdict(old.thresholds),
            "calibration": dataclasses.asdict(old.calibration),
            "anomalous": sum(old.is_anomalous(scored.score) for scored in images),
        },
    }
    history = [*old.provenance.get("recalibrations", []), entry]
    return dataclasses.replace(
        old,
        thresholds=again.thresholds,
        normalisation=again.normalisation,
        calibration=again.calibration,
        reference=image_statistics.reference(
            scores, [one.statistics for one in images], [one.image_size for one in images]
        ),
        provenance={**old.provenance, "recalibrations": history},
    )


def _not_below(again: Calibrated, old: Thresholds, shift: float, median: float) -> Calibrated:
    """Thresholds of few images, where they lie below the old ones moved by `shift`.

    The largest of few scores promises a rate of 1 / (n + 1). Where a new lamp or codec has moved
    the scores of all images alike, the old threshold moved along keeps the old rate; never lower
    than any score of an image that was confirmed as good.
    """
    image = _higher(again.thresholds.image, old.image + shift)
    pixel = _higher(again.thresholds.pixel, old.pixel + shift)
    scale = max((image - median) / 2, again.normalisation.scale)
    return Calibrated(
        Thresholds(image=image, pixel=pixel),
        Normalisation(scale=scale),
        dataclasses.replace(again.calibration, method=again.calibration.method + MOVED),
    )


def _higher(found: float, moved: float) -> float:
    """The higher one; `moved` by more than the six digits in which old medians are known."""
    return moved if moved > found + 1e-5 * max(1.0, abs(moved)) else found
