"""Evaluation: a detector and its artifact are measured the same way."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from generalad.errors import ArtifactError, DataError
from generalad.evaluation import Evaluated, evaluate
from generalad.export.export import Exported
from generalad.model.storage import Trained

pytest_plugins = ["training_fixtures"]


@pytest.fixture(scope="module")
def of_detector(run_folder: Path, parts: Path) -> Evaluated:
    return evaluate(run_folder, parts)


def test_detector_and_artifact_agree(
    of_detector: Evaluated, exported: Exported, parts: Path
) -> None:
    steps: list[tuple[int, int]] = []
    found = evaluate(
        exported.path,
        parts,
        threads=1,
        batch_size=3,
        progress=lambda stage, done, total: steps.append((done, total)),
    )
    assert steps == [(3, 8), (6, 8), (8, 8)]
    assert "torch" in of_detector.backend
    assert "onnxruntime" in found.backend
    for ours, theirs in zip(of_detector.results, found.results, strict=True):
        assert (ours.path, ours.label, ours.decision) == (
            theirs.path,
            theirs.label,
            theirs.decision,
        )
        assert ours.score == pytest.approx(theirs.score, abs=1e-4)
        np.testing.assert_allclose(ours.map, theirs.map, atol=1e-4)
        assert theirs.decision == (theirs.score >= found.spec.thresholds.image)
        assert theirs.decision == (theirs.normalised >= 0.5)
    first, second = of_detector.evaluation, found.evaluation
    assert first.image_auroc.value == second.image_auroc.value
    assert first.pixel_auroc.value == pytest.approx(second.pixel_auroc.value, abs=1e-4)
    assert (second.good, second.defective) == (4, 4)
    assert [kind.name for kind in second.defect_types] == ["spot"]


def test_every_test_image_is_scored_once_with_its_mask(of_detector: Evaluated) -> None:
    assert len({result.path for result in of_detector.results}) == 8
    for result in of_detector.results:
        assert result.defective == (result.label == "spot")
        assert result.mask is not None
        assert result.mask.shape == (72, 80)
        assert bool(result.mask.any()) == result.defective


def test_a_dataset_without_test_images(run_folder: Path, parts: Path, tmp_path: Path) -> None:
    shutil.copytree(parts / "train" / "good", tmp_path / "only good")
    with pytest.raises(DataError, match="no test images") as caught:
        evaluate(run_folder, tmp_path / "only good")
    assert "test/good" in caught.value.remedy


def test_an_unreadable_test_image_is_an_error(
    run_folder: Path, parts: Path, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(parts, tmp_path / "parts"))
    (broken / "test" / "good" / "001.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"001\.png"):
        evaluate(run_folder, broken)


def test_what_is_neither_detector_nor_artifact(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a trained detector"):
        evaluate(tmp_path, parts)
    with pytest.raises(ArtifactError, match="no such file"):
        evaluate(tmp_path / "no.onnx", parts)


def test_the_report_is_written(
    run_folder: Path, parts: Path, tmp_path: Path, trained: Trained
) -> None:
    evaluate(run_folder, parts, html=tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert trained.spec.backbone.name in text
    assert "last epoch" in text
