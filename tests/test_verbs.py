"""The verbs of the package: lazy, callable in any order, with the defaults of the commands."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import MakeArtifact
from import_helpers import ROOT
from training_helpers import part_image, tiny_config, write_toml

import generalad
from generalad.bench.measure import bench
from generalad.cli.infer_options import Options, plan
from generalad.errors import ConfigError, UsageError
from generalad.evaluation import evaluate
from generalad.export.export import Exported
from generalad.localisation_figure import figure
from generalad.reproduction.reproduce import reproduce
from generalad.runtime import infer
from generalad.runtime.selftest import selftest
from generalad.verbs import calibrate, export, train

pytest_plugins = ["training_fixtures"]


def test_onnx_runtime_reports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    in_fresh_python("import generalad, onnxruntime")
    assert not [*tmp_path.rglob("*")]


def in_fresh_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the package ---


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, generalad; print({'numpy', 'cv2', 'torch', 'onnxruntime'} & set(sys.modules))"
    )
    assert in_fresh_python(code).strip() == "set()"


def test_every_name_is_there_and_no_other() -> None:
    for name in generalad.__all__:
        assert getattr(generalad, name) is not None
    assert set(dir(generalad)) == set(generalad.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        getattr(generalad, "trian")  # noqa: B009


ORDERS = [
    "import generalad.{0}",
    "from generalad import {0}",
    "from generalad.{0} import {1}",
    "import generalad.{0}.{1}",
    "import generalad.{0}.{1} as module; assert module.__name__ == 'generalad.{0}.{1}'",
    "generalad.{0}",
    "from generalad import *",
]


@pytest.mark.parametrize("step", [1, -1])
def test_a_verb_with_the_name_of_a_module_works_in_any_order(step: int) -> None:
    code = """
import generalad, inspect
def check(name, first):
    verb = getattr(generalad, name)
    assert callable(verb)
    assert next(iter(inspect.signature(verb).parameters)) == first
    try:
        verb()
    except TypeError as error:
        assert first in str(error), error
    else:
        raise AssertionError
"""
    for order in ORDERS[::step]:
        for name, submodule, first in (
            ("export", "engine", "detector"),
            ("bench", "gates", "artifact"),
            ("overlay", "", "image"),
        ):
            if submodule or "{1}" not in order:
                code += f"{order.format(name, submodule)}\ncheck({name!r}, {first!r})\n"
    in_fresh_python(code)


def test_the_export_package_is_loaded_without_torch() -> None:
    code = "import sys, generalad; generalad.export; from generalad.export import engine; "
    in_fresh_python(code + "assert 'torch' not in sys.modules")


def test_overlay_and_resize_and_decide() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    marked = generalad.overlay(image, np.eye(4, dtype=np.float32), threshold=0.5)
    assert marked.shape == (8, 8, 3)
    assert generalad.resize(image, (4, 6)).shape == (4, 6, 3)


# --- the defaults of the commands ---

COMMANDS: dict[str, tuple[Any, dict[str, str], set[str]]] = {
    # verb, names that differ (of the command: of the verb), what only the command has
    "train": (train, {}, {"all_classes", "ray"}),
    "export": (export, {"format": "format"}, {"fp16", "int8", "json"}),
    "evaluate": (evaluate, {}, {"min_image_auroc", "json", "references"}),
    "reproduce": (reproduce, {}, {"json"}),
    "figure": (figure, {}, set()),
    "calibrate": (calibrate, {}, {"images", "back", "yes", "json"}),
    "selftest": (selftest, {}, {"verify_precision", "json"}),
    "bench": (
        bench,
        {"batch": "batches", "soak": "soak_for"},
        {"max_slowdown", "max_p95", "max_memory", "json", "markdown", "github", "history"},
    ),
}
SAME: dict[tuple[str, object], object] = {
    ("seeds", "0"): (0,),
    ("classes", None): (),
    ("defects", None): (),
    ("budget", "60s"): 60.0,
    ("batch", "1"): (1,),
    ("format", "onnx"): "onnx",
    ("align", False): None,
}
"""Defaults that the command has as text, or as a switch."""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_verb_has_the_options_and_defaults_of_its_command(name: str) -> None:
    verb, renamed, only_command = COMMANDS[name]
    command = getattr(importlib.import_module(f"generalad.cli.{name}"), name)
    options = inspect.signature(verb).parameters
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in only_command:
            continue
        ours = options[renamed.get(parameter.name, parameter.name)]
        if parameter.name == "out" and parameter.default is parameter.empty:
            assert ours.default is None  # calibrate only proposes without
            continue
        default = getattr(parameter.default, "value", parameter.default)
        assert ours.default == SAME.get((parameter.name, default), default), parameter.name


def test_infer_has_the_defaults_of_its_command(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "part.png"), np.zeros((8, 8, 3), np.uint8))
    wanted = plan(Options(Path("model.onnx"), [str(tmp_path)]), to_terminal=False)
    verb = {name: found.default for name, found in inspect.signature(infer).parameters.items()}
    for ours, theirs in {
        "threshold": wanted.threshold,
        "threads": wanted.threads,
        "device": wanted.device,
        "batch_size": wanted.batch,
        "max_wait": wanted.max_wait,
    }.items():
        assert verb[ours] == theirs, ours


# --- what the verbs do ---


def test_train_puts_its_arguments_over_preset_and_file(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_weights: Path, cache: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    trained = generalad.train(
        str(parts),
        config=str(write_toml(tmp_path / "tiny.toml")),
        weights=str(tiny_weights),
        image_size=(64, 48),
        epochs=1,
        seed=3,
        false_alarm_rate=0.2,
        cache=str(cache),
    )
    settings = trained.detector.config
    assert trained.folder == Path("runs") / "parts-edge"
    assert (settings.image_size, settings.epochs, settings.seed) == ((64, 48), 1, 3)
    assert (settings.false_alarm_rate, settings.hidden) == (0.2, 32)
    whole = generalad.train(
        parts, config=tiny_config(epochs=1), image_size=32, weights=tiny_weights, cache=cache
    )
    assert whole.folder == Path("runs") / "parts"
    assert whole.detector.config == tiny_config(epochs=1, image_size=[32, 32])


def test_train_refuses_an_unknown_preset(parts: Path) -> None:
    with pytest.raises(ConfigError, match="unknown preset 'tiny'"):
        generalad.train(parts, preset="tiny")


def test_export_and_evaluate_and_load(run_folder: Path, parts: Path, tmp_path: Path) -> None:
    stages: set[str] = set()
    done = generalad.export(
        run_folder, tmp_path / "model.onnx", progress=lambda stage, *_: stages.add(stage)
    )
    assert stages
    found = generalad.evaluate(done.path, parts, html=str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").is_file()
    scores = {result.path: result.score for result in found.results}
    with generalad.load(done.path) as model:
        for one in model.predict(sorted(scores)):
            assert one.score == pytest.approx(scores[one.path], abs=1e-5)
    assert generalad.selftest(done.path).equal


def test_an_exported_file_is_no_detector(exported: Exported) -> None:
    with pytest.raises(UsageError, match="is exported already") as caught:
        generalad.export(exported.path)
    assert "build_engine" in caught.value.remedy


def test_calibrate_proposes_and_writes(tmp_path: Path, make_artifact: MakeArtifact) -> None:
    artifact, rng = make_artifact(tmp_path), np.random.default_rng(0)
    good = tmp_path / "good"
    good.mkdir()
    for index in range(20):
        cv2.imwrite(str(good / f"{index}.png"), part_image(rng))
    proposal = generalad.calibrate(artifact, good)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "model.onnx"]
    assert proposal.images[0].score >= proposal.images[-1].score
    written = generalad.calibrate(artifact, [str(good)], tmp_path / "new.onnx")
    assert written.new.thresholds == proposal.new.thresholds
    with generalad.load(tmp_path / "new.onnx") as model:
        assert model.spec.thresholds == proposal.new.thresholds
    with pytest.raises(UsageError, match=r"new\.onnx"):
        generalad.calibrate(artifact, good, tmp_path / "new.onnx")
    assert proposal.write(tmp_path / "again.onnx").is_file()
