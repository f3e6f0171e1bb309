"""Opening artifacts, refusing what is not one, and running images through sessions."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeArtifact, MakeSpec

from generalad.errors import ArtifactError, GadError, MissingExtraError, UsageError
from generalad.runtime import Session, open_session
from generalad.runtime.backends.fake import FakeSession


def random_images(batch: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (batch, 64, 64, 3), np.uint8)


def test_scores_and_maps_are_those_of_the_graph(
    tmp_path: Path, make_artifact: MakeArtifact
) -> None:
    images = random_images(3)
    with open_session(make_artifact(tmp_path)) as session:
        scores, maps = session.run(images)
    expected = images.reshape(3, 16, 4, 16, 4, 3).mean(axis=(2, 4, 5)) / 255
    assert scores.dtype == maps.dtype == np.float32
    np.testing.assert_allclose(maps, expected, atol=1e-5)
    np.testing.assert_allclose(scores, expected.max(axis=(1, 2)), atol=1e-5)


def test_outputs_belong_to_the_caller(tmp_path: Path, make_artifact: MakeArtifact) -> None:
    images = random_images(2)
    with open_session(make_artifact(tmp_path)) as session:
        first = session.run(images)
        kept = first.maps.copy()
        session.run(255 - images)
    np.testing.assert_array_equal(first.maps, kept)


@pytest.mark.parametrize("batch", [1, 3, 4, 5, 8])
def test_a_fixed_batch_takes_any_number(
    tmp_path: Path, make_artifact: MakeArtifact, batch: int
) -> None:
    images = random_images(batch)
    free = open_session(make_artifact(tmp_path, name="free.onnx"))
    fixed = open_session(make_artifact(tmp_path, name="fixed.onnx", batch=4))
    assert (free.fixed_batch, fixed.fixed_batch) == (None, 4)
    for one, other in zip(free.run(images), fixed.run(images), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_backend_is_read_back(tmp_path: Path, make_artifact: MakeArtifact) -> None:
    with open_session(make_artifact(tmp_path), threads=1) as session:
        assert session.backend.startswith("onnxruntime ")
        assert session.backend.endswith((", CPU", ", CUDA"))


@pytest.mark.parametrize("kind", ["ort", "fake"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.astype(np.float32), "uint8"),
        (lambda a: a[0], "shape"),
        (lambda a: a[:0], "shape"),
        (lambda a: a[:, :32], "shape"),
        (lambda a: a.transpose(0, 3, 1, 2), "shape"),
        (lambda a: a.transpose(0, 2, 1, 3), "contiguous"),
        (lambda a: a.tolist(), "uint8"),
    ],
)
def test_wrong_input_is_named(
    tmp_path: Path, make_artifact: MakeArtifact, kind: str, change: object, words: str
) -> None:
    session: Session = FakeSession() if kind == "fake" else open_session(make_artifact(tmp_path))
    assert callable(change)
    with pytest.raises(UsageError, match=words):
        session.run(change(random_images(2)))


@pytest.mark.parametrize("kind", ["ort", "fake"])
def test_closed_session_refuses(tmp_path: Path, make_artifact: MakeArtifact, kind: str) -> None:
    session: Session = FakeSession() if kind == "fake" else open_session(make_artifact(tmp_path))
    session.close()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.run(random_images(1))


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        open_session(tmp_path / "none.onnx")


def test_a_folder_hints_at_what_is_in_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="name an exported file"):
        open_session(tmp_path)
    write(tmp_path / "detector.json", b"{}")
    with pytest.raises(ArtifactError, match=f"gad export {tmp_path}"):
        open_session(tmp_path)
    exported = write(tmp_path / "model-fp16.onnx", b"")
    with pytest.raises(ArtifactError, match=f"did you mean {exported}\\?"):
        open_session(tmp_path)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x08\x09garbage" * 50, b"\x89PNG\r\n\x1a\n"])
def test_not_onnx(tmp_path: Path, data: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ArtifactError) as caught:
        open_session(write(tmp_path / "model.onnx", data))
    assert caught.value.remedy
    assert str(tmp_path) in caught.value.message
    assert capfd.readouterr() == ("", "")


def test_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"expected \.onnx"):
        open_session(write(tmp_path / "model.pt", b"x"))


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_cut_off_file(tmp_path: Path, make_artifact: MakeArtifact, part: float) -> None:
    data = make_artifact(tmp_path).read_bytes()
    with pytest.raises(ArtifactError):
        open_session(write(tmp_path / "cut.onnx", data[: int(len(data) * part)]))


def test_foreign_onnx(tmp_path: Path, make_artifact: MakeArtifact) -> None:
    with pytest.raises(ArtifactError, match="not one made by generalad"):
        open_session(make_artifact(tmp_path, metadata=None))


def test_damaged_spec(tmp_path: Path, make_artifact: MakeArtifact) -> None:
    with pytest.raises(ArtifactError, match="no generalad spec"):
        open_session(make_artifact(tmp_path, metadata="not json"))


def test_newer_format(tmp_path: Path, make_artifact: MakeArtifact, make_spec: MakeSpec) -> None:
    spec = json.loads(make_spec().to_json()) | {"format_version": 99, "new_field": 1}
    with pytest.raises(ArtifactError, match="newer"):
        open_session(make_artifact(tmp_path, metadata=json.dumps(spec)))


def test_other_resize_rule(tmp_path: Path, make_artifact: MakeArtifact) -> None:
    with pytest.raises(ArtifactError, match="resized by 'letterbox'"):
        open_session(make_artifact(tmp_path, resize="letterbox"))


@pytest.mark.parametrize(
    "lie",
    [
        {"image_size": (32, 64)},
        {"map_size": (8, 16)},
        {"input_name": "pixels"},
        {"output_names": ("scores", "map")},
        {"output_names": ("maps", "scores")},
    ],
)
def test_graph_must_match_the_spec(
    tmp_path: Path, make_artifact: MakeArtifact, make_spec: MakeSpec, lie: dict[str, object]
) -> None:
    spec = dataclasses.replace(make_spec(), **lie)  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="its spec says"):
        open_session(make_artifact(tmp_path, metadata=spec.to_json()))


def test_missing_library_names_the_extra(
    tmp_path: Path, make_artifact: MakeArtifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"generalad\[cpu\]"):
        open_session(make_artifact(tmp_path))


def test_threads_must_be_positive(tmp_path: Path, make_artifact: MakeArtifact) -> None:
    with pytest.raises(UsageError, match="threads"):
        open_session(make_artifact(tmp_path), threads=0)


def test_fake_finds_the_odd_spot() -> None:
    images = np.full((2, 64, 64, 3), 100, np.uint8)
    images[1, 16:24, 32:40] = 255
    scores, maps = FakeSession().run(images)
    assert scores[0] == 0
    assert scores[1] == pytest.approx(155 / 255)
    assert np.argwhere(maps[1] > 0.25).min(axis=0).tolist() == [4, 8]


def test_failure_in_the_library_is_one_line(
    tmp_path: Path, make_artifact: MakeArtifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def run(self, names: object, feed: object) -> None:
            raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : no memory\nmore")

    session = open_session(make_artifact(tmp_path))
    monkeypatch.setattr(session, "_session", Failing())
    with pytest.raises(GadError, match=r"could not run 2 images \(no memory\)"):
        session.run(random_images(2))


def test_a_graph_that_loops_is_refused(tmp_path: Path, make_artifact: MakeArtifact) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    path = make_artifact(tmp_path)
    model = onnx.load(path)
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"])],
        "for ever",
        [
            helper.make_tensor_value_info("turn", onnx.TensorProto.INT64, []),
            helper.make_tensor_value_info("go", onnx.TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("go_on", onnx.TensorProto.BOOL, [])],
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "true"))
    model.graph.node.append(helper.make_node("Loop", ["", "true"], [], body=body))
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match="Loop, which no export has"):
        open_session(path)


@pytest.mark.parametrize("field", ["image_size", "map_size"])
@pytest.mark.parametrize("size", [[20_000, 20_000], [30_000, 30_000], [1, 10**9], [4096, 4096]])
def test_sizes_that_want_all_memory_are_refused(
    tmp_path: Path, make_artifact: MakeArtifact, make_spec: MakeSpec, field: str, size: list[int]
) -> None:
    record = {**make_spec().to_dict(), field: size}
    path = make_artifact(tmp_path, metadata=json.dumps(record))
    with pytest.raises(ArtifactError, match=f"{field} is .* more than 8388608 pixels"):
        open_session(path)


def test_a_graph_may_not_leave_the_size_of_its_maps_open(
    tmp_path: Path, make_artifact: MakeArtifact
) -> None:
    onnx = pytest.importorskip("onnx")
    path = make_artifact(tmp_path)
    model = onnx.load(path)
    for length in model.graph.output[1].type.tensor_type.shape.dim[1:]:
        length.Clear()
        length.dim_param = "any"
    model.graph.node.append(onnx.helper.make_node("Identity", ["images"], ["unused"]))
    del model.graph.value_info[:]
    onnx.save(model, path)
    try:
        session = open_session(path)
    except ArtifactError as error:
        assert "its spec says" in str(error)
        return
    with session:  # the library knew better
        assert session.run(random_images(1)).maps.shape == (1, *session.spec.map_size)
