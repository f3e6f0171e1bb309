"""Back to the thresholds that an artifact had before it was last calibrated."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from generalad import records
from generalad.errors import ArtifactError, UsageError
from generalad.runtime.artifact_copy import check_copy, copy_with_spec
from generalad.runtime.backends.open import open_session
from generalad.spec import Calibration, Normalisation, Reference, Spec, Thresholds


def earlier(spec: Spec) -> Spec:
    """The record before the last calibration; what was undone is kept under `undone`.

    Artifacts of older versions did not keep the scale of the normalised score and the reference:
    those stay as they are.

    Raises:
        ArtifactError: what is kept of it is damaged.
        UsageError: it was never calibrated again.
    """
    history = spec.provenance.get("recalibrations")
    if not history:
        raise UsageError(
            "these are the thresholds of its export, there are no earlier ones",
            remedy="gad info shows how they were set",
        )
    try:
        *rest, last = history
        before: dict[str, Any] = last["before"]
        kept: dict[str, Any] = {
            "thresholds": records.convert(before["thresholds"], Thresholds),
            "calibration": records.convert(before["calibration"], Calibration),
        }
        if "normalisation" in before:
            kept["normalisation"] = records.convert(before["normalisation"], Normalisation)
            reference = before["reference"]
            kept["reference"] = reference and records.convert(reference, Reference)
    except (records.RecordError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"what is kept of the earlier thresholds is damaged ({error})",
            remedy="export the detector again",
        ) from error
    now = {
        name: dataclasses.asdict(getattr(spec, name))
        for name in ("thresholds", "calibration", "normalisation")
    }
    undone = [*spec.provenance.get("undone", []), {**last, "after": now}]
    provenance = {**spec.provenance, "recalibrations": rest, "undone": undone}
    return dataclasses.replace(spec, provenance=provenance, **kept)


def write_earlier(artifact: Path, out: Path) -> tuple[Spec, Spec]:
    """Write a copy of an artifact with its earlier thresholds; returns its record and that one.

    Raises:
        ArtifactError: no artifact, or damaged.
        StorageError: the copy cannot be written.
        UsageError: there are no earlier ones, or `out` exists.
    """
    if artifact.is_file():  # what else there may be, opening it says
        check_copy(artifact, out)
    with open_session(artifact) as session:
        old = session.spec
    new = earlier(old)
    copy_with_spec(artifact, out, new)
    return old, new
