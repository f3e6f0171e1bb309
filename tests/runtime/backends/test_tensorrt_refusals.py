"""Engines that must not run here: refused before TensorRT sees them, in one line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorrt_double import World
from tensorrt_helpers import Install, change_record, random_images, refused, same

from generalad.errors import (
    ArtifactError,
)
from generalad.export.to_tensorrt import (
    EngineOptions,
    build_engine,
)
from generalad.runtime.backends.engine_record import read_record
from generalad.runtime.backends.ort import OrtSession
from generalad.runtime.backends.trt import TrtSession

pytest_plugins = ["tensorrt_fixtures"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"machine": {"tensorrt": "10.14.0.1"}}, r"built with TensorRT 10\.14\.0\.1, this is 1"),
        ({"machine": {"compute_capability": "7.5", "gpu": "T4"}}, r"built for T4 \(.* 7\.5\)"),
        ({"machine": {"system": "Windows AMD64"}}, "built on Windows AMD64, this is"),
        ({"engine_sha256": "0" * 64}, "not the file that model.engine.json describes"),
    ],
)
def test_foreign_engine(world: World, model: Path, changes: dict[str, Any], words: str) -> None:
    path = build_engine(model)
    change_record(path, **changes)
    world.loaded = 0
    refused(path, words)
    assert world.loaded == 0


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_cut_off_engine(world: World, model: Path, part: float) -> None:
    path = build_engine(model)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    world.loaded = 0
    refused(path, "damaged")
    assert world.loaded == 0


def test_all_that_does_not_fit_is_said_at_once(world: World, model: Path) -> None:
    path = build_engine(model)
    change_record(path, machine={"tensorrt": "10.14.0.1", "system": "Windows AMD64"})
    path.write_bytes(b"x")
    refused(path, "TensorRT.*; .*Windows.*; .*not the file")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[1]",
        lambda text: "null",
        lambda text: text.replace('"batch"', '"batches"'),
        lambda text: text.replace('"tensorrt": "', '"tensorrt": 1, "x": "'),
        lambda text: text.replace('"tf32": false', '"tf32": 0'),
        lambda text: text.replace(
            '"hardware_compatibility": "none"', '"hardware_compatibility": "x"'
        ),
        lambda text: text.replace('"onnx": "model', '"onnx": "../model'),
    ],
)
def test_damaged_record(world: World, model: Path, damage: Callable[[str], str]) -> None:
    path = build_engine(model)
    file = path.with_name("model.engine.json")
    file.write_text(damage(file.read_text(encoding="utf-8")), encoding="utf-8")
    world.loaded = 0
    refused(path, "record is damaged")
    assert world.loaded == 0


def test_missing_files(world: World, model: Path) -> None:
    path = build_engine(model)
    data = path.read_bytes()
    path.unlink()
    refused(path, "cannot be read")
    path.write_bytes(data)
    path.with_name("model.engine.json").unlink()
    refused(path, "model.engine.json is missing")


def test_newer_record(world: World, model: Path) -> None:
    path = build_engine(model)
    change_record(path, format_version=99, more=1)
    with pytest.raises(ArtifactError, match="format 99 is newer") as caught:
        TrtSession(path)
    assert caught.value.remedy == "pip install --upgrade generalad"


def test_a_newer_spec_in_the_record(world: World, model: Path) -> None:
    path = build_engine(model)
    change_record(path, spec={"format_version": 99})
    with pytest.raises(ArtifactError, match="format 99 is newer"):
        TrtSession(path)


@pytest.mark.parametrize(
    ("built", "found", "compatible", "runs"),
    [
        (10, "10.16.2.1", True, True),
        (10, "11.0.0.114", True, True),
        (10, "10.15.1.29", True, False),
        (11, "11.5.0.1", True, True),
        (11, "12.0.0.1", True, False),
        (11, "10.16.1.11", True, False),
        (10, "10.16.2.1", False, False),
        (10, "11.0.0.114", False, False),
    ],
)
def test_other_versions(
    install: Install, model: Path, built: int, found: str, compatible: bool, runs: bool
) -> None:
    install(built)
    path = build_engine(model, options=EngineOptions(version_compatible=compatible))
    install(10 if found.startswith("10") else 11, found)
    if not runs:
        refused(path, "built with TensorRT")
        return
    with TrtSession(path) as session, OrtSession(model) as ort:
        same(session, ort, random_images(2))


@pytest.mark.parametrize(
    ("level", "found", "runs"),
    [
        ("ampere_plus", (9, 0), True),
        ("ampere_plus", (7, 5), False),
        ("same_compute_capability", (8, 9), True),
        ("same_compute_capability", (8, 6), False),
        ("none", (9, 0), False),
    ],
)
def test_other_cards(
    world: World, model: Path, level: str, found: tuple[int, int], runs: bool
) -> None:
    path = build_engine(model, options=EngineOptions(hardware_compatibility=level))
    world.cuda.name, world.cuda.capability = "NVIDIA Other", found
    if not runs:
        refused(path, "built for NVIDIA L4")
        return
    with TrtSession(path) as session:
        assert session.backend.endswith("NVIDIA Other")


def test_what_tensorrt_refuses_is_one_line(world: World, model: Path) -> None:
    path = build_engine(model)
    older = world.version
    world.version = "10.99"  # TensorRT's own check, behind ours
    refused(path, "cannot load it .*not compatible")
    assert older != world.version


def test_engine_must_match_the_spec(world: World, model: Path) -> None:
    path = build_engine(model)
    spec = dataclasses.replace(read_record(path).spec, map_size=(8, 8))
    change_record(path, spec=spec.to_dict())
    with pytest.raises(ArtifactError, match="its spec says"):
        TrtSession(path)


def test_other_resize_rule(world: World, model: Path) -> None:
    path = build_engine(model)
    spec = dataclasses.replace(read_record(path).spec, resize="letterbox")
    change_record(path, spec=spec.to_dict())
    with pytest.raises(ArtifactError, match="resized by 'letterbox'"):
        TrtSession(path)
