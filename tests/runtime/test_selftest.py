"""The self-test: equal on a sound device, a refusal wherever something differs."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from cli_helpers import gad, one_line
from conftest import MakeArtifact
from import_helpers import BLOCKED, ROOT

import generalad
from generalad.errors import ArtifactError, GateError
from generalad.export import parity
from generalad.export.export import Exported
from generalad.runtime import selftest as module
from generalad.runtime.backends.session import value_range
from generalad.spec import METADATA_KEY, GoldenSample, Normalisation, Thresholds

pytest_plugins = ["training_fixtures"]
Capture = pytest.CaptureFixture[str]
MakeGolden = Callable[..., Path]

SPREAD = 0.5
LEVELS = (0, 51, 204)
"""Brightness of the golden images; `make_artifact`'s network scores brightness / 255."""


def sample(brightness: int, size: tuple[int, int] = (64, 64), **changes: Any) -> GoldenSample:
    """A golden sample of an even image; `changes` alter what is recorded of it."""
    _, png = cv2.imencode(".png", np.full((*size, 3), brightness, np.uint8))
    value = float(np.float32(brightness) / np.float32(255))
    right = GoldenSample(base64.b64encode(png.tobytes()).decode("ascii"), value, value)
    return dataclasses.replace(right, **changes)


@pytest.fixture
def make_golden(tmp_path: Path, make_artifact: MakeArtifact) -> MakeGolden:
    """`make_golden(**changes)`: a tiny artifact; `altered={0: {...}}` alters its records."""

    def make(*, altered: dict[int, dict[str, Any]] | None = None, **changes: Any) -> Path:
        wrong = altered or {}
        samples = tuple(sample(level, **wrong.get(i, {})) for i, level in enumerate(LEVELS))
        return make_artifact(
            tmp_path, **{"golden": samples, "parity": {"spread": SPREAD}, **changes}
        )

    return make


def score(index: int) -> float:
    return sample(LEVELS[index]).score


def test_a_real_artifact_is_equal_here(capsys: Capture, exported: Exported) -> None:
    found = generalad.selftest(exported.path)
    assert found.equal
    assert (found.unit, found.unit_value) == ("range", exported.parity.score_range)
    assert [each.expected_score for each in found.samples] == [
        each.score for each in exported.spec.golden
    ]
    code, out, err = gad(capsys, "selftest", exported.path)
    assert code == 0
    assert re.fullmatch(
        re.escape(str(exported.path)) + r": 3 golden samples within \S+ of the range"
        r" \(limit 0\.001\), 0 decisions differ.*, onnxruntime \S+, \w+\n",
        err,
    )
    record = json.loads(out)
    assert record["equal"] is True
    assert record["score_largest"] <= 1e-3
    assert len(record["samples"]) == 3


def test_it_runs_without_the_training_side(exported: Exported) -> None:
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({BLOCKED}));"
        "from generalad.cli import main; main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "selftest", str(exported.path), "--threads", "1", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["equal"] is True
    assert len(done.stderr.splitlines()) == 1


def test_unit_and_limits_are_those_of_the_export(exported: Exported) -> None:
    found = generalad.selftest(exported.path)
    assert found.limit == module.LIMIT == parity.LIMITS["fp32"].device
    for values, expected in (([[1.5, -2.0]], 3.5), ([[3.0, 3.0]], 3.0), ([[0.0, 0.0]], 1e-6)):
        assert value_range(np.array([values], np.float32)) == expected


def test_an_altered_score_is_3(capsys: Capture, make_golden: MakeGolden) -> None:
    path = make_golden(altered={1: {"score": 0.202}})
    code, out, err = gad(capsys, "selftest", path)
    assert code == 3
    line = one_line(err)
    assert "golden sample 2 of 3: expected score 0.202, found 0.2" in line
    assert "sample 1" not in line
    assert "sample 3" not in line
    assert "gad doctor" in line
    record = json.loads(out)
    assert record["equal"] is False
    assert record["score_largest"] == pytest.approx(0.002 / SPREAD, rel=1e-3)
    assert record["decisions_differ"] == 0


def test_every_sample_that_differs_is_named(make_golden: MakeGolden) -> None:
    found = generalad.selftest(make_golden(altered={0: {"score": 1.0}, 2: {"map_peak": 0.7}}))
    first, second = found.problems()
    assert "sample 1 of 3" in first
    assert "expected anomalous, found normal" in first
    assert "sample 3 of 3: expected map peak 0.7, found 0.8" in second
    with pytest.raises(GateError, match="onnxruntime"):
        found.check()


def test_within_the_limit_is_equal(make_golden: MakeGolden) -> None:
    altered = {1: {"score": score(1) + 0.0009 * SPREAD}}
    assert generalad.selftest(make_golden(altered=altered)).equal


def test_a_threshold_in_between_is_3(capsys: Capture, make_golden: MakeGolden) -> None:
    recorded, threshold = score(1) + 4e-4 * SPREAD, score(1) + 2e-4 * SPREAD
    path = make_golden(
        altered={1: {"score": recorded}}, thresholds=Thresholds(image=threshold, pixel=0.25)
    )
    code, out, err = gad(capsys, "selftest", path)
    assert code == 3
    assert "golden sample 2 of 3: expected anomalous, found normal" in one_line(err)
    record = json.loads(out)
    assert record["decisions_differ"] == 1
    assert record["score_largest"] < 1e-3


def test_rounding_on_the_threshold_is_no_difference(
    capsys: Capture, make_golden: MakeGolden
) -> None:
    found = np.float32(generalad.selftest(make_golden()).samples[2].score)
    recorded = np.nextafter(found, np.float32(0))
    path = make_golden(
        altered={2: {"score": float(recorded)}}, thresholds=Thresholds(float(found), 0.25)
    )
    code, out, err = gad(capsys, "selftest", path)
    assert code == 0, err
    assert "0 decisions differ (1 set the threshold, not judged)" in err
    last = json.loads(out)["samples"][2]
    assert (last["expected_anomalous"], last["anomalous"], last["on_threshold"]) == (
        False,
        True,
        True,
    )


@pytest.mark.parametrize(("levels", "kind"), [((0,), math.isnan), ((51, 204), math.isinf)])
def test_what_is_not_finite_differs(
    capsys: Capture, make_golden: MakeGolden, levels: tuple[int, ...], kind: Callable[[float], bool]
) -> None:
    path = make_golden(golden=tuple(map(sample, levels)))
    model = onnx.load(path)
    (white,) = (each for each in model.graph.initializer if each.name == "white")
    white.float_data[0] = 0  # 0 / 0 is NaN, all else infinite
    onnx.save(model, path)
    found = generalad.selftest(path)
    assert all(kind(each.score) and math.isnan(each.map_peak) for each in found.samples)
    assert found.decisions_differ == len(levels)
    code, out, err = gad(capsys, "selftest", path, "--json")
    assert code == 3
    assert "found nan" in one_line(err)
    record = json.loads(out)
    assert record["samples"][0]["score"] is None
    assert record["map_largest"] is None


@pytest.mark.parametrize("spread", [{}, {"spread": 0.0}, {"spread": "x"}, {"spread": True}])
def test_without_a_spread_the_scale_is_the_unit(
    capsys: Capture, make_golden: MakeGolden, spread: dict[str, Any]
) -> None:
    path = make_golden(parity=spread, normalisation=Normalisation(scale=0.2))
    assert generalad.selftest(path).unit_value == 0.2
    code, _, err = gad(capsys, "selftest", path)
    assert code == 0
    assert "of the normalisation scale, as no range is recorded (limit 0.001)" in err


def test_a_fixed_batch_is_filled(make_golden: MakeGolden) -> None:
    assert generalad.selftest(make_golden(batch=4), threads=1).equal


@pytest.mark.parametrize(
    ("golden", "words"),
    [
        ((), "no golden samples"),
        ((sample(0), sample(0, png="no base64")), "golden sample 2 of 2: is no base64"),
        ((sample(0, png=""),), "empty"),
        ((sample(0, png="YWJj"),), "not an image"),
        ((sample(0, png=sample(0).png[:80]),), "cut off"),
        ((sample(0, size=(32, 64)),), r"is \(32, 64\), the network takes \(64, 64\)"),
    ],
)
def test_missing_or_damaged_samples_are_1(
    capsys: Capture, make_golden: MakeGolden, golden: tuple[GoldenSample, ...], words: str
) -> None:
    path = make_golden(golden=golden)
    with pytest.raises(ArtifactError, match=words):
        generalad.selftest(path)
    code, out, err = gad(capsys, "selftest", path)
    assert (code, out) == (1, "")
    assert "gad export" in one_line(err)


def test_what_is_no_artifact_is_1(capsys: Capture, tmp_path: Path, exported: Exported) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "cut.onnx").write_bytes(exported.path.read_bytes()[:-4000])
    model = onnx.load(exported.path)
    onnx.helper.set_model_props(model, {METADATA_KEY: "{}"})
    onnx.save(model, tmp_path / "foreign.onnx")
    for name in ("none.onnx", "text.onnx", "cut.onnx", "foreign.onnx", "."):
        code, out, err = gad(capsys, "selftest", tmp_path / name)
        assert (code, out) == (1, ""), name
        one_line(err)
