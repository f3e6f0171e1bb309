"""Building TensorRT engines, what can go wrong, and building them again."""

from __future__ import annotations

import dataclasses
import importlib
import os
import platform
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeArtifact
from tensorrt_double import World
from tensorrt_helpers import OPTIONS, Install, make_golden, random_images, refused

from generalad.errors import (
    ArtifactError,
    GadError,
    GateError,
    MissingExtraError,
    StorageError,
    UsageError,
)
from generalad.export.to_tensorrt import (
    EngineOptions,
    build,
    build_engine,
    is_stale,
    read_spec,
    rebuild,
    write_engine,
)
from generalad.runtime.backends.engine_record import read_record
from generalad.runtime.backends.trt import TrtSession
from generalad.spec import Thresholds

pytest_plugins = ["tensorrt_fixtures"]


def test_record_says_what_was_built(world: World, model: Path) -> None:
    options = EngineOptions(
        batch=(1, 2, 3),
        workspace=1 << 20,
        version_compatible=True,
        hardware_compatibility="same_compute_capability",
        tf32=True,
    )
    record = read_record(build_engine(model, options=options))
    assert (record.batch, record.workspace, record.tf32) == ((1, 2, 3), 1 << 20, True)
    assert record.version_compatible
    assert record.hardware_compatibility == "same_compute_capability"
    assert (record.onnx, record.machine.tensorrt) == ("model.onnx", world.version)
    assert (record.machine.gpu, record.machine.compute_capability) == ("NVIDIA L4", "8.9")
    flags, config = world.trt.BuilderFlag, world.config
    assert config._flags == {flags.TF32, flags.VERSION_COMPATIBLE}
    assert config._pools == {world.trt.MemoryPoolType.WORKSPACE: 1 << 20}
    assert config.hardware_compatibility_level.name == "SAME_COMPUTE_CAPABILITY"


def test_an_engine_can_be_written_with_another_spec(world: World, model: Path) -> None:
    engine = build(model, OPTIONS)
    spec = dataclasses.replace(read_spec(model), thresholds=Thresholds(image=0.7, pixel=0.8))
    path = model.with_name("other.engine")
    write_engine(engine, path, spec)
    assert path.read_bytes() == engine.data
    with TrtSession(path) as session:
        assert session.spec == spec
    with pytest.raises(StorageError):
        write_engine(engine, model / "in a file" / "model.engine", spec)


def test_float32_is_exact_by_default(world: World, model: Path) -> None:
    build_engine(model)
    assert world.config._flags == set()


def test_progress_is_told_on_two_levels(world: World, model: Path) -> None:
    told: list[tuple[str, int, int]] = []
    build_engine(model, progress=lambda *what: told.append(what))
    assert told[:2] == [("Building", 0, 2), ("Timing", 0, 3)]
    assert told[-1] == ("Building", 2, 2)
    assert {name for name, _, _ in told} == {"Building", "Timing"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": (0, 1, 1)}, "batch sizes"),
        ({"batch": (1, 4, 2)}, "batch sizes"),
        ({"workspace": 0}, "workspace"),
        ({"hardware_compatibility": "any"}, "'any' is not known, expected one of none"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        EngineOptions(**options)


def test_a_failed_build_leaves_everything_as_it_was(world: World, model: Path) -> None:
    path = build_engine(model)
    before = {file: file.read_bytes() for file in model.parent.iterdir()}
    world.bias = 0.1
    with pytest.raises(GateError, match=r"golden sample 1 of 3: expected score 0, found 0\.1"):
        build_engine(model, options=EngineOptions(batch=(1, 1, 2)))
    world.bias, world.build_fails = 0.0, True
    with pytest.raises(GadError, match=r"could not build an engine \(Could not find any") as caught:
        build_engine(model)
    assert "\n" not in str(caught.value)
    world.build_fails, world.parser_errors = False, ["no importer for Foo", "bad axis"]
    with pytest.raises(GadError, match=r"no importer for Foo \(node /head/Resize\); bad axis"):
        build_engine(model)
    assert {file: file.read_bytes() for file in model.parent.iterdir()} == before
    with TrtSession(path) as session:
        session.run(random_images(1))


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("inside", [True, False])
def test_ctrl_c_ends_the_build(world: World, model: Path, inside: bool) -> None:
    def press(*where: object) -> None:
        if not inside or where == ("Timing", 1, 3):
            # What the interpreter does with a signal, without one.
            pressed: Any = signal.getsignal(signal.SIGINT)
            pressed(signal.SIGINT, None)
            world.between_steps = lambda: None

    if not inside:  # the library was computing when the key was pressed
        world.between_steps = press
    with pytest.raises(KeyboardInterrupt):
        build_engine(model, progress=press if inside else None)
    assert world.steps == 1
    assert [file.name for file in model.parent.iterdir()] == ["model.onnx"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_in_progress_is_raised_after_tensorrt_returned(world: World, model: Path) -> None:
    def fail(stage: str, done: int, total: int) -> None:
        raise BrokenPipeError("no terminal")

    with pytest.raises(BrokenPipeError):
        build_engine(model, progress=fail)


@pytest.mark.parametrize("call", [1, 2])
def test_no_space_keeps_the_engine_that_was_there(
    world: World, model: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    path = build_engine(model)
    before = {file: file.read_bytes() for file in model.parent.iterdir()}
    calls = []

    def full(number: int) -> None:
        calls.append(number)
        if len(calls) == call:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="the disk is full"):
            build_engine(model, options=EngineOptions(batch=(1, 1, 2)))
    assert {file: file.read_bytes() for file in model.parent.iterdir()} == before
    with TrtSession(path) as session:
        session.run(random_images(1))


def test_a_kill_between_the_two_files_is_noticed(
    world: World, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build_engine(model)
    moves: list[Path] = []
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if moves:
            raise SystemExit
        moves.append(target)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(SystemExit):
            build_engine(model, options=EngineOptions(batch=(1, 1, 2)))
    assert moves == [path]
    world.loaded = 0
    refused(path, "its writing was interrupted")
    assert world.loaded == 0
    assert "describes" in str(rebuild(path))
    with TrtSession(path) as session:
        session.run(random_images(1))


def test_jetpack_6_cannot_build_but_runs_what_fits(install: Install, model: Path) -> None:
    world = install(10, "10.3.0.30")
    with pytest.raises(GadError, match=r"10\.3\.0\.30 cannot build .*JetPack 6") as caught:
        build_engine(model)
    assert "JetPack 7" in caught.value.remedy
    assert not model.with_suffix(".engine").exists()
    world.version = world.trt.__version__ = "10.12.0.1"
    path = build_engine(model)
    assert read_record(path).machine.tensorrt == "10.12.0.1"


def test_driver_too_old(world: World, model: Path) -> None:
    path = build_engine(model)
    world.no_runtime = True
    for work in (build_engine, TrtSession):
        with pytest.raises(GadError, match=r"cannot start .*initialization failure"):
            work(model if work is build_engine else path)
    world.cuda.fail = {"cudaGetDevice": 100}
    with pytest.raises(GadError, match="cudaGetDevice") as caught:
        TrtSession(path)
    assert "graphics card" in caught.value.remedy


@pytest.mark.parametrize("module", ["tensorrt", "cuda.bindings.runtime", "onnx"])
def test_missing_library_names_the_extra(
    world: World, model: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"generalad\[trt10\]"):
        build_engine(model)


@pytest.mark.parametrize("words", ["CUDA bindings", "TensorRT"])
def test_a_library_that_cannot_be_loaded(
    world: World, model: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    def fail(name: str) -> Any:
        if name == "tensorrt" and words != "TensorRT":
            return world.trt
        raise ImportError("libnvinfer.so.10: cannot open shared object file")

    with monkeypatch.context() as patch:
        patch.setattr(importlib, "import_module", fail)
        with pytest.raises(GadError, match=rf"{words} .* cannot be loaded \(libnvinfer"):
            build_engine(model)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metadata": None}, "not one made by generalad"),
        ({"golden": ()}, "no golden samples"),
    ],
)
def test_foreign_onnx(
    world: World,
    tmp_path: Path,
    make_artifact: MakeArtifact,
    changes: dict[str, Any],
    words: str,
) -> None:
    with pytest.raises(ArtifactError, match=words):
        build_engine(make_golden(tmp_path, make_artifact, **changes))


def test_not_onnx(world: World, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        build_engine(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(b"\x08\x09garbage" * 50)
    with pytest.raises(ArtifactError, match="not an ONNX file"):
        build_engine(tmp_path / "model.onnx")


def test_name_must_end_in_engine(world: World, model: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.engine"):
        build_engine(model, model.with_suffix(".plan"))


def test_timing_cache_is_used_again(world: World, model: Path) -> None:
    cache = model.parent / "cache" / "timing.bin"
    options = EngineOptions(timing_cache=cache)
    build_engine(model, options=options)
    build_engine(model, options=options)
    assert world.timings == [False, True]
    cache.write_bytes(b"rubbish")
    build_engine(model, options=options)
    assert world.timings == [False, True, False]
    world.cuda.name = "NVIDIA Other"
    build_engine(model, options=options)
    assert world.timings == [False, True, False, False]
    assert list(cache.parent.iterdir()) == [cache]


def test_a_timing_cache_that_cannot_be_written_costs_no_engine(world: World, model: Path) -> None:
    (model.parent / "file").write_bytes(b"")
    options = EngineOptions(timing_cache=model.parent / "file" / "timing.bin")
    assert build_engine(model, options=options).exists()


def test_rebuild_does_what_is_needed(
    world: World, model: Path, make_artifact: MakeArtifact
) -> None:
    path = build_engine(model, options=EngineOptions(batch=(1, 2, 3), tf32=True))
    assert is_stale(path) is None
    assert rebuild(path) is None
    make_golden(model.parent, make_artifact, class_name="other")
    assert "model.onnx has changed" in str(rebuild(path))
    record = read_record(path)
    assert (record.spec.class_name, record.batch, record.tf32) == ("other", (1, 2, 3), True)
    world.cuda.name = "NVIDIA L40S"
    assert "built for NVIDIA L4, this is NVIDIA L40S" in str(rebuild(path))
    path.with_name("model.engine.json").unlink()
    assert "is missing" in str(rebuild(path))
    assert rebuild(path) is None


def test_rebuild_for_another_version(install: Install, model: Path) -> None:
    install(10)
    path = build_engine(model)
    install(11)
    assert "built with TensorRT 10" in str(rebuild(path))
    with TrtSession(path) as session:
        assert session.backend.startswith("tensorrt 11")


def test_rebuild_needs_the_onnx_file(world: World, model: Path) -> None:
    path = build_engine(model)
    model.unlink()
    assert is_stale(path) is None
    path.write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"model\.onnx: no such file"):
        rebuild(path)


def test_this_system_is_recorded(world: World, model: Path) -> None:
    found = read_record(build_engine(model)).machine.system
    assert found == f"{platform.system()} {platform.machine()}"
