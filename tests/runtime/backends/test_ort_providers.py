"""ONNX Runtime's providers: what is asked for, what is refused, what is read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from conftest import MakeArtifact

from generalad.errors import GadError, UsageError
from generalad.runtime import open_session
from generalad.runtime.backends import ort_providers
from generalad.runtime.backends.ort import OrtSession, _Bound
from generalad.runtime.backends.ort_providers import CPU, CUDA, TENSORRT


class Offering:
    """onnxruntime as a GPU build shows it: offers everything, loads what `loads` names."""

    OrtValue = onnxruntime.OrtValue
    SessionOptions = onnxruntime.SessionOptions
    GraphOptimizationLevel = onnxruntime.GraphOptimizationLevel
    __version__ = "9.9"

    def __init__(self, loads: tuple[str, ...] = (CPU,)) -> None:
        self.loads, self.preloaded = loads, False
        self.asked: list[list[Any]] = []

    def get_available_providers(self) -> list[str]:
        return [TENSORRT, CUDA, CPU]

    def preload_dlls(self) -> None:
        self.preloaded = True

    def InferenceSession(self, path: str, sess_options: Any, providers: list[Any]) -> Any:
        self.asked.append(providers)
        real = onnxruntime.InferenceSession(path, sess_options=sess_options, providers=[CPU])
        names = [item if isinstance(item, str) else item[0] for item in providers]
        found = [name for name in names if name in self.loads]

        class Shown:
            def __getattr__(self, name: str) -> Any:
                return (lambda: found) if name == "get_providers" else getattr(real, name)

        return Shown()


@pytest.fixture
def artifact(tmp_path: Path, make_artifact: MakeArtifact) -> Path:
    return make_artifact(tmp_path)


def offer(monkeypatch: pytest.MonkeyPatch, *loads: str) -> Offering:
    ort = Offering((*loads, CPU))
    monkeypatch.setattr("generalad.runtime.backends.ort.library", lambda: ort)
    return ort


def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bind buffers in the CPU's memory, as there is no other here."""
    real = _Bound.__init__

    def init(self: _Bound, *arguments: Any) -> None:
        real(self, *arguments, device="cpu")

    monkeypatch.setattr(_Bound, "__init__", init)


def test_the_cpu_is_what_a_cpu_build_uses(artifact: Path) -> None:
    for device in (None, "cpu"):
        with open_session(artifact, device=device) as session:
            assert session.backend.endswith(", CPU")


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_device_that_is_not_offered_is_refused(device: str, artifact: Path) -> None:
    with pytest.raises(UsageError, match=f"offers no {device}, only") as caught:
        open_session(artifact, device=device)
    assert "generalad[cuda]" in caught.value.remedy


def test_an_unknown_device_is_refused(artifact: Path) -> None:
    with pytest.raises(UsageError, match="cannot run on 'tpu'"):
        open_session(artifact, device="tpu")


def test_the_default_may_fall_to_the_cpu_and_says_so(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ort = offer(monkeypatch)
    session = OrtSession(artifact)
    assert session.backend == "onnxruntime 9.9, CPU"
    assert [name for name, _ in ort.asked[0]] == [CUDA, CPU] and ort.preloaded
    assert ort.asked[0][0][1]["use_tf32"] == "0"


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_named_device_never_falls_back(
    device: str, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAD_CACHE", str(tmp_path / "cache"))
    offer(monkeypatch)
    with pytest.raises(GadError, match=f"could not load its {device} provider") as caught:
        OrtSession(artifact, device=device)
    assert ("does not load 11" in caught.value.remedy) == (device == "tensorrt")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_gets_caches_and_a_profile(
    precision: str, make_artifact: MakeArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = make_artifact(tmp_path, precision=precision)
    monkeypatch.setenv("GAD_CACHE", str(tmp_path / "cache"))
    on_cpu(monkeypatch)
    ort = offer(monkeypatch, TENSORRT, CUDA)
    session = OrtSession(artifact, device="tensorrt")
    assert session.backend == "onnxruntime 9.9, Tensorrt"
    name, options = ort.asked[-1][0]
    height, width = session.spec.image_size
    assert name == TENSORRT and [n for n, _ in ort.asked[-1]] == [TENSORRT, CUDA, CPU]
    assert options["trt_profile_max_shapes"] == f"images:16x{height}x{width}x3"
    assert options.get("trt_fp16_enable", False) == (precision == "fp16")
    assert Path(options["trt_engine_cache_path"]).is_dir()
    assert Path(options["trt_engine_cache_path"]).is_relative_to(tmp_path / "cache")


def test_bound_buffers_give_the_same_numbers(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = OrtSession(artifact, device="cpu")
    height, width = plain.spec.image_size
    images = np.random.default_rng(0).integers(0, 256, (5, height, width, 3), dtype=np.uint8)
    on_cpu(monkeypatch)
    offer(monkeypatch, CUDA)
    bound = OrtSession(artifact, device="cuda")
    kept = []
    for part in (images[:1], images[:3], images[3:4], images):
        found, expected = bound.run(part), plain.run(part)
        np.testing.assert_array_equal(found.scores, expected.scores)
        np.testing.assert_array_equal(found.maps, expected.maps)
        kept.append((found, expected))
    for found, expected in kept:  # later runs did not write into them
        np.testing.assert_array_equal(found.scores, expected.scores)
    bound.close()


def test_stages_of_a_run_on_a_device(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the three calls into ONNX Runtime falls into its own stage."""
    on_cpu(monkeypatch)
    offer(monkeypatch, CUDA)
    ticks = [0.0]
    monkeypatch.setattr("generalad.runtime.backends.ort.time.perf_counter", lambda: ticks[0])

    def slow(name: str, seconds: float) -> None:
        real = getattr(_Bound, name)

        def step(self: _Bound, given: Any) -> Any:
            ticks[0] += seconds
            return real(self, given)

        monkeypatch.setattr(_Bound, name, step)

    for name, seconds in (("_upload", 0.001), ("_infer", 0.02), ("_download", 0.003)):
        slow(name, seconds)
    with OrtSession(artifact, device="cuda", timed=True) as session, OrtSession(artifact) as plain:
        height, width = session.spec.image_size
        images = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
        for runs in (1, 2):
            found, expected = session.run(images), plain.run(images)
            np.testing.assert_array_equal(found.scores, expected.scores)
            per_run = {stage: total / runs for stage, total in session.stages.items()}
            assert per_run == pytest.approx({"upload": 1, "infer": 20, "download": 3})
        assert plain.stages == {}, "unless asked for"


def test_a_run_on_the_cpu_is_one_stage(artifact: Path) -> None:
    with OrtSession(artifact, device="cpu", timed=True) as session:
        height, width = session.spec.image_size
        session.run(np.zeros((1, height, width, 3), np.uint8))
        assert session.stages == {}


def test_names_of_devices_are_those_of_open_session() -> None:
    from generalad.runtime.backends.open import KINDS

    assert set(ort_providers.DEVICES) == set(KINDS[".onnx"])
