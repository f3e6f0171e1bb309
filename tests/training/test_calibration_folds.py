"""All images teach the detector, and none is scored by a head that it taught."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from training_helpers import tiny_config

from generalad.calibration import FOLDS
from generalad.config import PRESETS, Config
from generalad.export.export import export_detector
from generalad.model.heads import GaussianHead
from generalad.model.storage import Trained, load_detector
from generalad.preprocess import read_image, resize
from generalad.runtime import open_session
from generalad.spec import ScoredImage
from generalad.training import calibrated_spec, calibration_folds
from generalad.training import split as split_module
from generalad.training.cross_fit import CrossFit
from generalad.training.residual import fit_discriminators
from generalad.training.synthetic_defects import DrawnDefects
from generalad.training.train import train_detector

pytest_plugins = ["training_fixtures"]

Train = Callable[..., Path]


@pytest.fixture
def train(tmp_path: Path, parts: Path, cache: Path, tiny_weights: Path) -> Train:
    def run(config: Config, out: str = "run") -> Path:
        train_detector(parts, tmp_path / out, config, weights=tiny_weights, cache=cache)
        return tmp_path / out

    return run


def test_all_images_teach_and_calibrate(train: Train) -> None:
    spec = load_detector(train(tiny_config(method="gaussian"))).spec
    found = spec.calibration
    assert (spec.training_set.images, found.images, found.groups) == (16, 16, 16)
    assert found.folds == FOLDS
    assert found.reached == pytest.approx(1 / 17)
    assert "did not learn from it" in found.method


@pytest.mark.parametrize("changes", [{"method": "generalad"}, {"shots": 4}])
def test_images_are_held_out_where_heads_take_long_or_shots_say_so(
    train: Train, changes: dict[str, object]
) -> None:
    spec = load_detector(train(tiny_config(**{"method": "gaussian", "epochs": 1, **changes}))).spec
    assert spec.calibration.folds == 0
    assert spec.training_set.images + spec.calibration.images == 16


def test_images_of_many_groups_are_held_out(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_module, "FEW_GROUPS", 16)
    spec = load_detector(train(tiny_config(method="gaussian"))).spec
    assert (spec.training_set.images, spec.calibration.images) == (13, 3)


def test_scores_of_what_was_learned_are_lower_than_the_threshold_allows(train: Train) -> None:
    """The distance to a memory of all patches: 0 for images that fill it, not so out of fold."""
    config = tiny_config(method="patchcore", memory_size=2000, top_k=1)
    folder = train(config)
    trained = load_detector(folder)
    scores = np.array(trained.spec.reference and trained.spec.reference.scores)
    with torch.inference_mode():
        own, _ = trained.detector(torch.from_numpy(trained.calibration_images()))
    assert float(own.max()) < 0.01 * scores.min()
    assert trained.spec.thresholds.image == pytest.approx(scores.max(), rel=1e-5)


def test_no_head_learns_from_its_fold(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[int] = []
    fit = GaussianHead.fit

    def watched(head: GaussianHead, features: Any, shown: Any) -> None:
        taught.append(len(features))
        fit(head, features, shown)

    monkeypatch.setattr(GaussianHead, "fit", watched)
    train(tiny_config(method="gaussian", seed=3))
    assert sorted(taught) == [12, 13, 13, 13, 13, 16]


class Residual(NamedTuple):
    """A training of the residual head, and what was seen of it."""

    trained: Trained
    config: Config
    taught: list[tuple[Any, Any]]
    lessons: list[CrossFit]
    judged: list[tuple[int, ...]]
    told: list[tuple[str, int, int]]


@pytest.fixture(scope="module")
def residual(
    tmp_path_factory: pytest.TempPathFactory, parts: Path, cache: Path
) -> Iterator[Residual]:
    changes = {"image_size": [64, 64], "fit_images": False, "memory_size": 50, "members": 1}
    config = PRESETS["edge"].replaced({**changes, "drawn": 30})
    taught, lessons, shapes, told = [], [], [], []
    call, scored = CrossFit.__call__, calibration_folds._scored

    def fit(head: Any, given: Any, config: Any, **others: Any) -> Any:
        taught.append((others["good"], others["drawn"]))
        return fit_discriminators(head, given, config, **others)

    def called(self: CrossFit, *given: Any, **others: Any) -> Any:
        lessons.append(self)
        return call(self, *given, **others)

    def watched(*given: Any) -> Any:
        shapes.append(given[1].shape)
        return scored(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("generalad.training.residual.STEPS", 4)
        patch.setattr("generalad.training.cross_fit.fit_discriminators", fit)
        patch.setattr(CrossFit, "__call__", called)
        patch.setattr(calibration_folds, "_scored", watched)
        trained = train_detector(
            parts,
            tmp_path_factory.mktemp("residual") / "run",
            config,
            cache=cache,
            progress=lambda *state: told.append(state),
        )
    yield Residual(trained, config, taught, lessons, shapes, told)


def test_discriminators_look_at_images_that_nothing_was_fitted_to(residual: Residual) -> None:
    """Images of a fold are not in the statistics that it is seen with, nor in its own lessons.

    Their views and the defects drawn in them, or pasted from them, are left out too.
    """
    lessons = residual.lessons[0]
    assert all(one is lessons for one in residual.lessons) and len(residual.taught) == FOLDS + 1
    of_good, of_drawn = lessons.folds_of_good, lessons.folds_of_drawn
    folds = set(range(FOLDS))
    left_out = [sorted(folds - set(of_good[good].tolist())) for good, _ in residual.taught]
    assert sorted(left_out) == [[], *([fold] for fold in range(FOLDS))]
    for (_, drawn), without in zip(residual.taught, left_out, strict=True):
        assert not np.isin(of_drawn[drawn], without).any()
    drawing = DrawnDefects(16, 30, seed=residual.config.seed)
    sources = np.array([drawing.sources(index) for index in range(30)])
    assert np.array_equal(of_drawn, lessons.fold_of[sources])
    assert np.array_equal(of_good[:16], lessons.fold_of)


def test_a_drawn_defect_names_the_images_it_is_made_of() -> None:
    drawing, read = DrawnDefects(5, 12, seed=2), []

    def reader(number: int) -> np.ndarray:
        read.append(number)
        return np.full((32, 48, 3), 100 + number, np.uint8)

    for index in range(12):
        read.clear()
        drawing(index, reader)
        assert tuple(read) == drawing.sources(index)


def test_the_residual_head_is_scaled_by_all_folds_together(
    residual: Residual, parts: Path, captures: list[str]
) -> None:
    trained, told = residual.trained, residual.told
    assert residual.judged == [(16, 2, 3, 16)]  # images, with a view each, judges, patches
    assert trained.spec.calibration.folds == FOLDS
    folds = [state for state in told if state[0] == calibration_folds.STAGE]
    total = 4 * (FOLDS + 1)  # with the detector itself
    assert folds[-1] == (calibration_folds.STAGE, total, total)
    assert [state[1] for state in folds] == sorted(state[1] for state in folds)
    exported = export_detector(trained)
    assert captures == ["once"]
    before, after = trained.spec.thresholds, exported.spec.thresholds
    assert after.image == pytest.approx(before.image, abs=1e-3)
    assert after.pixel == pytest.approx(before.pixel, abs=1e-3)
    assert exported.spec.calibration == trained.spec.calibration
    good = [path for path in sorted((parts / "train" / "good").iterdir())]
    images = np.stack([resize(read_image(path), (64, 64)) for path in good])
    with open_session(exported.path) as session:
        scores = session.run(images).scores
    assert (scores < after.image).all()


def test_a_detector_keeps_some_of_its_images_for_exports(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrated_spec, "MOST_KEPT", 6)
    trained = load_detector(train(tiny_config(method="gaussian")))
    assert len(trained.calibration_images()) == 6
    assert trained.spec.calibration.images == 16
    assert trained.spec.reference is not None and trained.spec.reference.images == 16
    done = export_detector(trained)
    assert not done.refused
    assert done.spec.thresholds.image == pytest.approx(trained.spec.thresholds.image, rel=1e-4)


@pytest.mark.parametrize("changes", [{}, {"method": "generalad", "epochs": 1}])
def test_exports_leave_out_the_outliers_of_training(
    train: Train, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    def first(scores: Any, names: list[str], *, lengths: bool) -> tuple[ScoredImage, ...]:
        assert lengths == ("method" not in changes)  # of the Gaussian
        assert len(scores) == len(names) and all(name.startswith("good/") for name in names)
        return (ScoredImage(int(np.argmax(scores)), names[0], float(np.max(scores))),)

    monkeypatch.setattr(calibrated_spec, "outliers_of", first)
    trained = load_detector(train(tiny_config(**{"method": "gaussian", **changes})))
    found, reference = trained.spec.calibration, trained.spec.reference
    assert reference is not None
    assert found.images == reference.images - 1
    assert trained.spec.thresholds.image == pytest.approx(reference.scores[-1], rel=1e-4)
    assert trained.spec.thresholds.image < found.outliers[0].score
    done = export_detector(trained)
    assert done.spec.calibration.outliers == found.outliers
    assert done.spec.calibration.highest == found.highest != ()
    assert found.highest[0].score == pytest.approx(trained.spec.thresholds.image, rel=1e-4)
    assert done.spec.thresholds.image == pytest.approx(trained.spec.thresholds.image, rel=1e-4)


@pytest.mark.parametrize("method", ["gaussian", "patchcore"])
def test_a_detector_whose_images_all_score_alike_is_exported(train: Train, method: str) -> None:
    """A memory of all patches gives its own images a score of about 0, in every precision."""
    folder = train(tiny_config(method=method, memory_size=2000, top_k=1))
    done = export_detector(load_detector(folder))
    assert not done.refused and done.parity.flips == 0
    reference = load_detector(folder).spec.reference
    assert reference is not None
    assert done.parity.score_range >= reference.scores[-1] - reference.scores[0]
