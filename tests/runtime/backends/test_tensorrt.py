"""Running TensorRT engines, on the doubles of TensorRT 10 and 11 and of CUDA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import MakeArtifact
from cuda_double import COPY
from tensorrt_double import NETWORK, World
from tensorrt_helpers import OPTIONS, make_golden, random_images, same

from generalad.errors import (
    GadError,
    UsageError,
)
from generalad.export.export import Exported
from generalad.export.to_tensorrt import (
    EngineOptions,
    build_engine,
)
from generalad.runtime import open_session
from generalad.runtime.backends.engine_record import read_record
from generalad.runtime.backends.ort import OrtSession
from generalad.runtime.backends.session import STAGES
from generalad.runtime.backends.trt import TrtSession

pytest_plugins = ["tensorrt_fixtures", "training_fixtures"]


def test_batches_are_those_of_onnx_runtime(world: World, model: Path) -> None:
    path = build_engine(model, options=OPTIONS)
    assert path == model.with_suffix(".engine")
    with TrtSession(path, threads=1) as session, OrtSession(model) as ort:
        assert session.spec == ort.spec
        assert session.fixed_batch is None
        for batch in (1, 3, 4, 9, 1, 3, 2, 4, 13):
            same(session, ort, random_images(batch))
        assert session.backend == f"tensorrt {world.version}, NVIDIA L4"
    assert world.cuda.held == 0
    assert sorted(file.name for file in model.parent.iterdir()) == [
        "model.engine",
        "model.engine.json",
        "model.onnx",
    ]


def test_the_network_of_a_real_detector(world: World, tmp_path: Path, exported: Exported) -> None:
    path = build_engine(exported.path, tmp_path / "engines" / "part.engine", options=OPTIONS)
    record = read_record(path)
    assert (record.spec, record.onnx) == (exported.spec, "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (3, *record.spec.image_size, 3), np.uint8)
    with TrtSession(path) as session, OrtSession(exported.path) as ort:
        for found, expected in zip(session.run(images), ort.run(images), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_graphs_are_captured_once_a_size_and_replayed(world: World, model: Path) -> None:
    path = build_engine(model, options=OPTIONS)
    world.cuda.calls.clear()
    with TrtSession(path) as session, OrtSession(model) as ort:
        for batch in (1, 1, 3, 1, 3, 3, 1):
            same(session, ort, random_images(batch))
    assert world.cuda.calls["cudaStreamBeginCapture"] == 2
    assert world.cuda.calls["cudaGraphLaunch"] == 5


def test_outputs_belong_to_the_caller(world: World, model: Path) -> None:
    with TrtSession(build_engine(model)) as session:
        first = session.run(random_images(2))
        kept = first.maps.copy()
        session.run(255 - random_images(2))
    np.testing.assert_array_equal(first.maps, kept)


@pytest.mark.parametrize("function", ["cudaStreamEndCapture", "cudaGraphInstantiate", "TensorRT"])
def test_without_graphs_it_runs_all_the_same(world: World, model: Path, function: str) -> None:
    path = build_engine(model, options=OPTIONS)
    if function == "TensorRT":
        world.no_capture = True
    with TrtSession(path) as session, OrtSession(model) as ort:
        same(session, ort, random_images(2))
        if function == "cudaGraphInstantiate":  # the first size has its graph and keeps it
            world.cuda.fail = {function: 801}
        elif function == "cudaStreamEndCapture":
            world.no_capture = True
        for batch in (3, 3, 2, 1, 9):
            same(session, ort, random_images(batch))
        assert session.backend == f"tensorrt {world.version}, NVIDIA L4, without CUDA graphs"
        captures = world.cuda.calls["cudaStreamBeginCapture"]
        same(session, ort, random_images(4))
        assert world.cuda.calls["cudaStreamBeginCapture"] == captures
    assert world.cuda.held == 0


def test_a_smallest_batch_is_padded(world: World, model: Path) -> None:
    path = build_engine(model, options=EngineOptions(batch=(2, 3, 3)))
    with TrtSession(path) as session, OrtSession(model) as ort:
        for batch in (1, 2, 3, 4):
            same(session, ort, random_images(batch))


def test_a_fixed_batch(world: World, tmp_path: Path, make_artifact: MakeArtifact) -> None:
    model = make_golden(tmp_path, make_artifact, batch=4)
    path = build_engine(model, options=EngineOptions(batch=(1, 1, 2)))
    assert read_record(path).batch == (4, 4, 4)
    with TrtSession(path) as session, OrtSession(model) as ort:
        assert session.fixed_batch == 4
        for batch in (1, 4, 6):
            same(session, ort, random_images(batch))


def test_closed_session_refuses(world: World, model: Path) -> None:
    session = TrtSession(build_engine(model))
    session.close()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.run(random_images(1))


def test_wrong_input_is_named(world: World, model: Path) -> None:
    with TrtSession(build_engine(model)) as session, pytest.raises(UsageError, match="uint8"):
        session.run(random_images(1).astype(np.float32))


@pytest.mark.parametrize("function", ["cudaMalloc", "cudaMallocHost", "cudaStreamCreateWithFlags"])
def test_no_memory_is_one_line_and_frees_all(world: World, model: Path, function: str) -> None:
    path = build_engine(model)
    world.cuda.fail = {function: 2}
    with pytest.raises(GadError, match=f"{function}: out of memory") as caught:
        TrtSession(path)
    assert "smaller batch" in caught.value.remedy
    assert world.cuda.held == 0


def test_error_while_running_is_one_line(world: World, model: Path) -> None:
    with TrtSession(build_engine(model)) as session:
        session.run(random_images(1))
        world.cuda.fail = {"cudaStreamSynchronize": 2}
        with pytest.raises(GadError, match="out of memory"):
            session.run(random_images(1))


def device_times(session: TrtSession, batch: int) -> dict[str, float]:
    """What a run adds to `stages`."""
    before = dict(session.stages)
    session.run(random_images(batch))
    return {stage: session.stages[stage] - before[stage] for stage in STAGES}


@pytest.mark.parametrize("captured", [True, False])
def test_stages_are_timed_by_the_device(world: World, model: Path, captured: bool) -> None:
    """Within the first run, the launches of a graph, and runs without one."""
    path = build_engine(model, options=OPTIONS)
    world.no_capture = not captured
    with TrtSession(path, timed=True) as session, OrtSession(model) as ort:
        for batch, runs in ((1, 1), (1, 1), (3, 1), (4, 1), (9, 3), (1, 1)):
            found = device_times(session, batch)
            assert found["infer"] == pytest.approx(runs * NETWORK), "by the device's clock alone"
            # Copies into and out of pinned memory are added by the clock of the processor.
            assert runs * COPY[1] < found["upload"] < runs * COPY[1] + 500
            assert runs * 2 * COPY[2] < found["download"] < runs * 2 * COPY[2] + 500
            same(session, ort, random_images(batch))
        assert session.backend.endswith("without CUDA graphs") != captured
    assert world.cuda.held == 0


def test_a_padded_run_is_timed_too(world: World, model: Path) -> None:
    path = build_engine(model, options=EngineOptions(batch=(2, 3, 3)))
    with TrtSession(path, timed=True) as session:
        for _ in range(2):
            assert device_times(session, 4)["infer"] == pytest.approx(2 * NETWORK)


def test_nothing_is_timed_unless_asked_for(world: World, model: Path) -> None:
    path = build_engine(model, options=OPTIONS)
    with TrtSession(path) as session:
        for batch in (1, 1, 3, 9):
            session.run(random_images(batch))
        assert session.stages == {}
    assert not any(name.startswith("cudaEvent") for name in world.cuda.calls)
    with open_session(path, timed=True) as timed:
        timed.run(random_images(1))
        assert world.cuda.calls["cudaEventRecordWithFlags"] == 8, "a run, and its capture"


@pytest.mark.parametrize("function", ["cudaEventCreate", "cudaEventRecordWithFlags"])
def test_events_that_fail_are_one_line_and_free_all(
    world: World, model: Path, function: str
) -> None:
    path = build_engine(model)
    world.cuda.fail = {function: 2}
    with (
        pytest.raises(GadError, match=f"{function}: out of memory"),
        TrtSession(path, timed=True) as session,
    ):
        session.run(random_images(1))
    assert world.cuda.held == 0
