"""The proof that an exported artifact decides like the detector it was made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.errors import GateError
from generalad.runtime.session import Outputs, spread

SCORE_LIMIT = 1e-3
"""Largest allowed score difference in fp32, in units of the spread of the calibration scores."""

MAP_LIMIT = 1e-3
"""Largest allowed map difference in fp32, in units of the spread of the calibration maps."""

REPORT = "nothing was written; please report this with the output of gad doctor"


@dataclass(frozen=True)
class Parity:
    """How far an artifact is from its original on the same n pictures.

    Attributes:
        images: n.
        spread: largest minus smallest score of the original, the unit of `score_largest`.
        score_largest: largest score difference in units of `spread`.
        score_mean: mean score difference, same unit.
        map_largest: largest map difference in units of the spread of the original's map values.
        flips: decisions that differ, each side with its own thresholds.
        backend: what the artifact ran on.
    """

    images: int
    spread: float
    score_largest: float
    score_mean: float
    map_largest: float
    flips: int
    backend: str

    def problems(self) -> list[str]:
        """What exceeds its limit, in words; empty if the artifact may be used."""
        found = []
        if not np.isfinite([self.score_largest, self.map_largest]).all():
            found.append("scores or maps are not finite")
        if self.score_largest > SCORE_LIMIT:
            found.append(
                f"scores differ by up to {self.score_largest:.2g} of their spread,"
                f" allowed are {SCORE_LIMIT:g}"
            )
        if self.map_largest > MAP_LIMIT:
            found.append(
                f"maps differ by up to {self.map_largest:.2g} of their spread,"
                f" allowed are {MAP_LIMIT:g}"
            )
        if self.flips:
            found.append(f"{self.flips} of {self.images} decisions differ, allowed are none")
        return found

    def check(self) -> None:
        """Refuse an artifact that decides differently.

        Raises:
            GateError: with every limit that is exceeded.
        """
        if found := self.problems():
            raise GateError(
                f"the exported model is not equal to the detector: {'; '.join(found)}",
                remedy=REPORT,
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the spec, the limits included."""
        return {**asdict(self), "limits": {"score": SCORE_LIMIT, "map": MAP_LIMIT, "flips": 0}}


def check_finite(exported: Outputs) -> None:
    """Refuse an artifact whose outputs no threshold could be set on.

    Raises:
        GateError: a score or map value is NaN or infinite.
    """
    if not all(np.isfinite(values).all() for values in exported):
        raise GateError(
            "the exported model is not equal to the detector: scores or maps are not finite",
            remedy=REPORT,
        )


def compare(
    original: Outputs,
    exported: Outputs,
    *,
    decisions: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    backend: str,
) -> Parity:
    """Compare outputs on the same pictures.

    Args:
        original: of the trained detector.
        exported: of the artifact.
        decisions: (n,) of the original and of the artifact, each with its own threshold.
        backend: what the artifact ran on.
    """
    unit = spread(original.scores)
    differences = np.abs(original.scores - exported.scores) / unit
    map_difference = np.abs(original.maps - exported.maps).max() / spread(original.maps)
    return Parity(
        images=len(original.scores),
        spread=unit,
        score_largest=float(differences.max()),
        score_mean=float(differences.mean()),
        map_largest=float(map_difference),
        flips=int((decisions[0] != decisions[1]).sum()),
        backend=backend,
    )
