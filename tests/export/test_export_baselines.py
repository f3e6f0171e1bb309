"""SimpleNet and KDAD leave as GeneralAD does: every format, every precision, the same gate."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from training_helpers import tiny_config

from generalad.config import PRESETS
from generalad.export import gate as gate_module
from generalad.export import parity
from generalad.export.candidates import FORMATS
from generalad.export.export import export_detector
from generalad.export.precision import is_head, scope_of
from generalad.export.quantise import coverages
from generalad.export.to_onnx import to_onnx
from generalad.model.storage import Trained
from generalad.runtime import open_session
from generalad.runtime.backends import ov
from generalad.runtime.selftest import selftest
from generalad.statistics import Estimate
from generalad.training.train import train_detector

pytest_plugins = ["training_fixtures"]

METHODS = ("simplenet", "kdad")


@pytest.fixture(scope="module")
def detectors(
    tmp_path_factory: pytest.TempPathFactory, parts: Path, tiny_weights: Path, cache: Path
) -> dict[str, Trained]:
    tiny = tiny_config()
    changes = {
        "backbone": tiny.backbone, "layers": [2], "image_size": [64, 64], "hidden": 16, "epochs": 2,
        "batch_size": 4,
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("baselines")
    return {
        method: train_detector(
            parts,
            folder / method,
            PRESETS[method].replaced(changes),
            weights=tiny_weights,
            cache=cache,
        )
        for method in METHODS
    }


@pytest.fixture
def loose(monkeypatch: pytest.MonkeyPatch) -> None:
    """For int8 of a hardly trained network on three images, whose ranks mean nothing."""
    free = dataclasses.replace(parity.LIMITS["int8"], flip_margin=1e9, auroc=1.0, aupro=1.0)
    monkeypatch.setitem(parity.LIMITS, "int8", free)
    monkeypatch.setattr(gate_module.Gate, "_speed_up", lambda *_: Estimate(1.5, 1.4, 1.6))
    monkeypatch.setattr(ov, "half_units", lambda core: {})


@pytest.mark.usefixtures("loose")
@pytest.mark.parametrize(
    ("method", "format", "precision"),
    [
        *itertools.product(["simplenet"], ["onnx", "openvino"], ["fp32", "fp16", "int8"]),
        # What KDAD adds to a graph is in each of them; its exports take longest of all.
        ("kdad", "openvino", "int8"),
    ],
)
def test_every_format_and_precision(
    method: str, format: str, precision: str, detectors: dict[str, Trained], tmp_path: Path
) -> None:
    trained = detectors[method]
    path = tmp_path / f"model{FORMATS[format]}"
    done = export_detector(trained, path, format=format, precision=precision)
    assert done.spec.precision == precision
    assert done.spec.method == trained.spec.method
    images = trained.calibration_images()
    with open_session(done.path) as session:
        found = session.run(images)
        one = session.run(images[:1])
    with torch.inference_mode():
        scores, maps = trained.detector(torch.from_numpy(images))
    spread = float(scores.std())
    tolerance = {"fp32": 1e-3, "fp16": 0.05, "int8": 1.0}[precision]
    np.testing.assert_allclose(found.scores, scores, rtol=0, atol=tolerance * spread)
    np.testing.assert_allclose(one.scores, found.scores[:1], rtol=0, atol=tolerance * spread)
    assert found.maps.shape == maps.shape
    assert selftest(done.path).equal


@pytest.mark.parametrize("method", METHODS)
def test_networks_of_the_head_are_lowered_and_scores_are_not(
    method: str, detectors: dict[str, Trained], captures: list[str]
) -> None:
    graph = to_onnx(detectors[method].detector)
    assert captures == ["once"]
    products = [n for n in graph.graph.node if n.op_type in ("MatMul", "Gemm", "Conv")]
    lowered = {scope_of(node) for node in products if not is_head(node)}
    expected = {
        # The exporter folds batch normalisation into the product before it and names that after it.
        "simplenet": {"head.adaptor", "head.discriminator.blocks.0.1"},
        "kdad": {"head.student.patch_embed", "head.student.blocks.3.mlp.3"},
    }[method]
    assert expected <= lowered
    assert "head.discriminator.head" not in lowered
    quantised = {scope_of(node) for node in products if not coverages(graph)[0].keep(node)}
    assert ("head.student.patch_embed" in quantised) is False
    assert expected - {"head.student.patch_embed"} <= quantised


def test_batch_normalisation_is_a_part_of_a_product_in_the_graph(
    detectors: dict[str, Trained],
) -> None:
    graph = to_onnx(detectors["simplenet"].detector)
    onnx.checker.check_model(graph, full_check=True)
    assert "BatchNormalization" not in {node.op_type for node in graph.graph.node}
