"""`load` on the folder of a detector, which runs with torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import generalad
from generalad.errors import UsageError
from generalad.export.export import Exported

pytest_plugins = ["training_fixtures"]


def test_a_detector_runs_as_its_artifact(run_folder: Path, exported: Exported, parts: Path) -> None:
    path = next((parts / "test").rglob("*.png"))
    with (
        generalad.load(run_folder, device="cpu") as detector,
        generalad.load(exported.path) as file,
    ):
        ours, theirs = detector.predict(path), file.predict(path)
        assert ours.score == pytest.approx(theirs.score, abs=1e-4)
        np.testing.assert_allclose(ours.anomaly_map, theirs.anomaly_map, atol=1e-3)
        assert "torch" in detector.backend
    with pytest.raises(UsageError, match="is closed"):
        detector.predict(path)


def test_options_of_the_other_kind_of_model(run_folder: Path, exported: Exported) -> None:
    with pytest.raises(UsageError, match="whose threads torch decides"):
        generalad.load(run_folder, threads=1)
    with pytest.raises(UsageError, match="carries its weights"):
        generalad.load(exported.path, weights="weights.safetensors")
