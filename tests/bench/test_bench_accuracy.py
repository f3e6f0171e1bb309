"""The gate on accuracy: `gad eval --min-image-auroc`."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_helpers import gad

from generalad.cli.evaluate import check_image_auroc
from generalad.errors import DataError, GateError
from generalad.evaluation import Evaluated
from generalad.export.export import Exported
from generalad.statistics import Estimate

pytest_plugins = ["training_fixtures"]


def evaluated(value: float) -> Any:
    return SimpleNamespace(
        evaluation=SimpleNamespace(image_auroc=Estimate(value, value - 0.01, value + 0.01))
    )


def test_the_value_is_judged() -> None:
    check_image_auroc(evaluated(0.95), 0.95)
    with pytest.raises(GateError, match=r"0\.9499 \(95 %: 0\.940 to 0\.960\), below .* 0\.95"):
        check_image_auroc(evaluated(0.9499), 0.95)


def test_none_cannot_be_judged() -> None:
    with pytest.raises(DataError, match="good and defective"):
        check_image_auroc(evaluated(math.nan), 0.5)


def test_the_command_exits_with_3_after_its_report(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    exported: Exported,
    parts: Path,
) -> None:
    words = ("eval", exported.path, parts, "--min-image-auroc")
    assert gad(capsys, *words, "0")[0] == 0
    monkeypatch.setattr("generalad.cli.evaluate.check_image_auroc", refuse)
    code, out, err = gad(capsys, *words, "1")
    assert code == 3
    assert "image_auroc" in out
    assert err.splitlines()[-1] == "gad: below 1.0"


def refuse(done: Evaluated, least: float) -> None:
    assert done.evaluation.image_auroc.value <= 1
    raise GateError(f"below {least}")
