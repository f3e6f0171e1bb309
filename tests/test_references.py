"""Plain methods beside a detector."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training_helpers import start

from generalad.data.dataset import open_dataset
from generalad.errors import UsageError
from generalad.export.export import Exported
from generalad.references import METHODS, evaluate_references

pytest_plugins = ["training_fixtures"]


def test_references_are_measured_on_the_same_images(
    run_folder: Path, parts: Path, tiny_weights: Path, cache: Path
) -> None:
    data = open_dataset(parts)
    found = evaluate_references(run_folder, data, weights=tiny_weights, cache=cache)
    assert tuple(found) == METHODS
    for method, one in found.items():
        assert one.spec.method.lower() == method
        assert [result.path for result in one.results] == [str(s.path) for s in data.test]
        assert one.spec.backbone.layers == (2,)


def test_an_exported_file_cannot_be_learned_with(exported: Exported, parts: Path) -> None:
    with pytest.raises(UsageError, match="folder of a detector"):
        evaluate_references(exported.path, open_dataset(parts))


def test_the_command_shows_them(
    run_folder: Path, parts: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    words = ["eval", run_folder, parts, "--references", "--weights", tiny_weights, "--json"]
    process = start([str(word) for word in words])
    out, err = process.communicate()
    assert process.returncode == 0, err
    found = json.loads(out)
    assert list(found["references"]) == list(METHODS)
    assert 0 <= found["references"]["gaussian"]["image_auroc"]["value"] <= 1
    assert "by gaussian" in err and "by patchcore" in err
