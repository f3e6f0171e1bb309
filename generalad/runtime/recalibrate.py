"""New thresholds for an artifact, from recent images that an operator confirms as good.

`recalibrate` scores the images and proposes; `Proposal.write` makes the new artifact.
The network is the same, so its parity report and golden samples stay valid.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from generalad import image_statistics
from generalad.calibration import Calibrated, calibrate
from generalad.errors import DataError, UsageError
from generalad.files import sha256_of_bytes
from generalad.progress import Progress, no_progress
from generalad.runtime.addresses import doubts_in_words, left_out_in_words, open_sources
from generalad.runtime.artifact_copy import copy_with_spec
from generalad.runtime.backends.open import open_session
from generalad.runtime.backends.session import as_stored
from generalad.runtime.confirmed_images import Scored, score, score_all, score_defects
from generalad.runtime.threshold_cost import Misses, Sample, apart, missed, missed_drawn
from generalad.spec import Normalisation, Spec, Thresholds

SOURCE = "recent images that an operator confirmed as good"
MOVED = "; too few for the rate, so not below the old threshold moved by the shift of the median"
FEW_RATE = 0.05
"""Of confirmed images, where they are too few for the wished rate: they allow for one odd image in
twenty, and the old threshold moved along stands for the rest."""

LEAST = 8
"""Images; the median of fewer says little."""


@dataclass(frozen=True)
class Proposal:
    """What a recalibration would change; nothing is written yet.

    Attributes:
        artifact: the one that the images were scored with.
        backend: what ran it.
        old: its spec, as it holds in the precision that the images were scored in.
        new: the proposed one.
        stored: what is written of it; in other precisions the thresholds move alike.
        images: by falling score.
        copies: images left out because their pixels were given before.
        noticed: label images that were left out of a folder, and dark images, in words, or empty.
        shift: median score of the images less that of the old calibration; None where that is
            not known.
        apart: images whose scores stand above those of the others, as defects among them would.
        without_apart: the image threshold that the others would give; None where there are none.
        learned: images that the detector was trained on; None where the artifact cannot tell.
        drawn: what the thresholds miss of defects drawn on the images.
        known: what they miss of defects that were given; None where none were.
    """

    artifact: Path
    backend: str
    old: Spec
    new: Spec
    stored: Spec
    images: tuple[Scored, ...]
    copies: int
    noticed: str
    shift: float | None
    apart: tuple[Scored, ...]
    without_apart: float | None
    learned: tuple[Scored, ...] | None
    drawn: Misses
    known: Misses | None

    def anomalous(self, spec: Spec) -> int:
        """How many of the images the thresholds of `spec` call anomalous."""
        return sum(spec.is_anomalous(scored.score) for scored in self.images)

    def write(self, out: str | Path) -> Path:
        """Write the artifact with the proposed thresholds; the old one is left as it is.

        Raises:
            StorageError: it cannot be written.
            UsageError: `out` exists, or has another suffix.
        """
        copy_with_spec(self.artifact, Path(out), self.stored)
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
            "apart": _named(self.apart),
            "threshold_without_apart": self.without_apart,
            "learned": None if self.learned is None else _named(self.learned),
            "drawn_defects": self.drawn._asdict(),
            "known_defects": None if self.known is None else self.known._asdict(),
            **{
                name: {**dataclasses.asdict(spec.thresholds), "anomalous": self.anomalous(spec)}
                for name, spec in (("old", self.old), ("new", self.new))
            },
            "scores": _named(self.images),
        }


def _named(images: Sequence[Scored]) -> list[dict[str, Any]]:
    return [{"picture": one.name, "score": one.score} for one in images]


def recalibrate(
    artifact: str | Path,
    addresses: Sequence[str],
    *,
    defects: Sequence[str] = (),
    target: float | None = None,
    threads: int | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Proposal:
    """Score good images and propose thresholds.

    Args:
        artifact: made by `gad export`.
        addresses: files, folders, patterns and videos that show good parts only.
        defects: files, folders, patterns and videos that show defects, to see what the new
            thresholds miss of them; they set nothing.
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
    sources, progress = open_sources(addresses), progress or no_progress
    bad = open_sources(defects) if defects else ()
    with open_session(artifact, threads=threads, device=device) as session:
        old, backend, sample = session.spec, session.backend, Sample()
        images, copies = score_all(session, sources, progress, sample)
        _check_number(images, copies)
        goal = old.calibration.target if target is None else target
        shift = _median_shift(old, images)
        new = _proposed(old, images, goal, backend, shift)
        stored = as_stored(session, new)
        drawn = missed_drawn(lambda image: score(session, image)[0], sample.images, old, new)
        known = score_defects(session, bad, progress)
    noticed = (*map(left_out_in_words, [*sources, *bad]), doubts_in_words(sources))
    by_score = tuple(sorted(images, key=lambda scored: -scored.score))
    standing_out = apart([scored.score for scored in by_score])
    rest = by_score[len(standing_out) :]
    return Proposal(
        Path(artifact),
        backend,
        old,
        new,
        stored,
        by_score,
        copies,
        "; ".join(filter(None, noticed)),
        shift,
        apart=by_score[: len(standing_out)],
        without_apart=(
            _proposed(old, rest, goal, backend, _median_shift(old, rest)).thresholds.image
            if standing_out
            else None
        ),
        learned=_learned(old, by_score),
        drawn=drawn,
        known=missed(known, old, new) if bad else None,
    )


def _check_number(images: Sequence[Scored], copies: int) -> None:
    if len(images) < LEAST:
        left_out = f" and {copies} copies of them" if copies else ""
        raise DataError(
            f"expected at least {LEAST} different images, found {len(images)}{left_out}",
            remedy="give more good images; 99 promise a false-alarm rate of 1 %",
        )


def _learned(old: Spec, images: Sequence[Scored]) -> tuple[Scored, ...] | None:
    """The images that the detector was trained on; None where its artifact does not say."""
    digests = frozenset(old.training_set.digests)
    return tuple(one for one in images if one.file in digests) if digests else None


def _median_shift(old: Spec, images: Sequence[Scored]) -> float | None:
    """How far good images score from where they did; None for artifacts without a reference."""
    if old.reference is None:
        return None
    before = old.reference.scores[len(old.reference.scores) // 2]
    return float(np.median([scored.score for scored in images])) - before


def _proposed(
    old: Spec, images: Sequence[Scored], target: float, backend: str, shift: float | None
) -> Spec:
    from generalad.version import __version__

    scores = np.array([scored.score for scored in images], np.float32)
    peaks = np.array([scored.peak for scored in images], np.float32)
    again = calibrate(scores, peaks, target=target, source=SOURCE)
    if shift is not None and again.calibration.reached > target + 1e-12:
        again = calibrate(scores, peaks, target=max(target, FEW_RATE), source=SOURCE)
        again = _not_below(again, old.thresholds, shift, float(np.median(scores)), target)
    entry = {
        "generalad": __version__,
        "backend": backend,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "pictures": len(images),
        "fingerprint": sha256_of_bytes("\n".join(sorted(p.digest for p in images)).encode()),
        "before": {
            "thresholds": dataclasses.asdict(old.thresholds),
            "calibration": dataclasses.asdict(old.calibration),
            "normalisation": dataclasses.asdict(old.normalisation),
            "reference": None if old.reference is None else dataclasses.asdict(old.reference),
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


def _not_below(
    again: Calibrated, old: Thresholds, shift: float, median: float, target: float
) -> Calibrated:
    """Thresholds of few images for `FEW_RATE`, where they lie below the old ones moved by `shift`.

    Where a new lamp or codec has moved the scores of all images alike, the old threshold moved
    along keeps the old rate. The largest of 50 scores would often be that of one odd image, and
    miss most defects.
    """
    image = _higher(again.thresholds.image, old.image + shift)
    pixel = _higher(again.thresholds.pixel, old.pixel + shift)
    scale = max((image - median) / 2, again.normalisation.scale)
    return Calibrated(
        Thresholds(image=image, pixel=pixel),
        Normalisation(scale=scale),
        dataclasses.replace(
            again.calibration, target=target, method=again.calibration.method + MOVED
        ),
    )


def _higher(found: float, moved: float) -> float:
    """The higher one; `moved` by more than the six digits in which old medians are known."""
    return moved if moved > found + 1e-5 * max(1.0, abs(moved)) else found
