"""Copies of artifacts with another spec: the same network, and all that belongs to it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import MakeArtifact, MakeSpec
from hypothesis import given
from hypothesis import strategies as st
from tensorrt_double import World
from tensorrt_helpers import OPTIONS, make_golden, same

from generalad.errors import ArtifactError, UsageError
from generalad.export import onnx_file
from generalad.export.export import Exported, export_detector
from generalad.export.to_tensorrt import build_engine, is_stale, rebuild
from generalad.files import sha256_of_file
from generalad.model.storage import Trained
from generalad.runtime import open_session
from generalad.runtime.artifact_copy import copy_with_spec
from generalad.runtime.backends.engine_record import read_record
from generalad.runtime.backends.onnx_hash import check_unchanged
from generalad.runtime.backends.protobuf import to_varint, varint
from generalad.runtime.backends.trt import TrtSession
from generalad.runtime.selftest import selftest
from generalad.spec import Spec, Thresholds

pytest_plugins = ["tensorrt_fixtures", "training_fixtures"]


def changed(spec: Spec, **more: Any) -> Spec:
    return dataclasses.replace(spec, thresholds=Thresholds(image=9.0, pixel=8.0), **more)


def hash_of(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of_file(path) for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("class_name", ["", "ü" * 20_000])
def test_onnx_keeps_its_graph_and_all_other_metadata(
    exported: Exported, tmp_path: Path, class_name: str
) -> None:
    old, new = exported.path, tmp_path / "elsewhere" / "new.onnx"
    before = sha256_of_file(old)
    copy_with_spec(old, new, changed(exported.spec, class_name=class_name))
    assert sha256_of_file(old) == before
    check_unchanged(new)
    first, second = onnx.load(old), onnx.load(new)
    assert first.graph == second.graph
    entries = [{e.key: e.value for e in model.metadata_props} for model in (first, second)]
    assert list(entries[0]) == list(entries[1])
    assert {k for k in entries[0] if entries[0][k] != entries[1][k]} == {"generalad.spec"}
    with open_session(old) as one, open_session(new) as other:
        assert other.spec == changed(one.spec, class_name=class_name)
        images = np.random.default_rng(0).integers(0, 256, (2, *one.spec.image_size, 3), np.uint8)
        same(one, other, images)
    assert selftest(new).score_largest == 0


def test_onnx_without_a_hash_and_with_foreign_metadata(
    tmp_path: Path, make_artifact: MakeArtifact
) -> None:
    old, new = make_artifact(tmp_path), tmp_path / "new.onnx"
    end = onnx.ModelProto()
    end.metadata_props.add(key="author", value="somebody")
    old.write_bytes(old.read_bytes() + end.SerializeToString())
    with open_session(old) as session:
        copy_with_spec(old, new, changed(session.spec))
    with open_session(new) as session:
        assert session.spec.thresholds.image == 9.0
    assert onnx.load(new).metadata_props[-1] == end.metadata_props[0]


def test_a_changed_graph_is_not_copied(exported: Exported, tmp_path: Path) -> None:
    data = bytearray(exported.path.read_bytes())
    data[len(data) // 3] ^= 1
    old = tmp_path / "changed.onnx"
    old.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"changed\.onnx is not what was exported"):
        copy_with_spec(old, tmp_path / "new.onnx", exported.spec)
    assert [path.name for path in tmp_path.iterdir()] == ["changed.onnx"]


@pytest.mark.parametrize("folder", [".", "elsewhere"])
def test_weights_apart_are_found(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setattr(onnx_file, "MOST_INLINE", 100_000)
    old = export_detector(trained, tmp_path / "model.onnx").path
    new = tmp_path / folder / "new.onnx"
    with open_session(old) as session:
        copy_with_spec(old, new, changed(session.spec))
    assert selftest(new).equal
    assert len(list(new.parent.glob("*.data"))) == 1


def test_openvino_brings_its_weights(trained: Trained, tmp_path: Path) -> None:
    old = export_detector(trained, tmp_path / "a" / "model.xml", format="openvino").path
    before, new = hash_of(old.parent), tmp_path / "b" / "new.xml"
    name = 'parts & "<more>" \n ü'
    with open_session(old) as session:
        spec = changed(session.spec, class_name=name)
    copy_with_spec(old, new, spec)
    assert hash_of(old.parent) == before
    assert sorted(hash_of(new.parent)) == ["new.bin", "new.xml"]
    with open_session(old) as one, open_session(new) as other:
        assert other.spec == spec
        images = np.random.default_rng(0).integers(0, 256, (2, *spec.image_size, 3), np.uint8)
        same(one, other, images)
    assert selftest(new).equal


def test_an_engine_keeps_the_new_spec_when_it_is_built_again(
    world: World, tmp_path: Path, make_artifact: MakeArtifact
) -> None:
    old = build_engine(make_golden(tmp_path, make_artifact), options=OPTIONS)
    before, new = hash_of(tmp_path), tmp_path / "new.engine"
    spec = changed(read_record(old).spec)
    copy_with_spec(old, new, spec)
    after = hash_of(tmp_path)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before == {"new.engine", "new.engine.json", "new.onnx"}
    assert after["new.engine"] == before["model.engine"]
    with TrtSession(new) as session:
        assert session.spec == spec
    assert is_stale(new) is None
    (tmp_path / "new.engine").write_bytes(b"damaged")
    assert rebuild(new) is not None
    with TrtSession(new) as session:
        assert session.spec.thresholds == spec.thresholds


def test_an_engine_without_its_onnx_file(
    world: World, tmp_path: Path, make_artifact: MakeArtifact
) -> None:
    old = build_engine(make_golden(tmp_path, make_artifact), options=OPTIONS)
    (tmp_path / "model.onnx").unlink()
    copy_with_spec(old, tmp_path / "new.engine", changed(read_record(old).spec))
    with TrtSession(tmp_path / "new.engine") as session:
        assert session.spec.thresholds.image == 9.0


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("model.onnx", "model.onnx"),
        ("other.onnx", "other.onnx"),
        ("other.xml", None),
        ("other", None),
    ],
)
def test_nothing_is_overwritten(
    tmp_path: Path, make_artifact: MakeArtifact, make_spec: MakeSpec, name: str, there: str | None
) -> None:
    old = make_artifact(tmp_path)
    if there and there != old.name:
        (tmp_path / there).write_bytes(b"mine")
    before = hash_of(tmp_path)
    with pytest.raises(UsageError, match="exists already" if there else r"ends in \.onnx"):
        copy_with_spec(old, tmp_path / name, make_spec())
    assert hash_of(tmp_path) == before


@pytest.mark.parametrize("name", ["other.bin", "other.engine.json", "other.onnx"])
def test_neither_is_what_would_lie_beside_it(
    tmp_path: Path, make_spec: MakeSpec, name: str
) -> None:
    suffix = ".xml" if name.endswith(".bin") else ".engine"
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(UsageError, match=name):
        copy_with_spec(tmp_path / f"model{suffix}", tmp_path / f"other{suffix}", make_spec())


def test_damaged_onnx_is_refused_in_one_line(exported: Exported, tmp_path: Path) -> None:
    whole, old, new = exported.path.read_bytes(), tmp_path / "cut.onnx", tmp_path / "new.onnx"
    cuts = np.random.default_rng(0).integers(1, len(whole), 40)
    for content in [b"no model", b"\xff" * 99, *(whole[:cut] for cut in cuts), whole[:-1]]:
        old.write_bytes(content)
        with pytest.raises(ArtifactError) as caught:
            copy_with_spec(old, new, exported.spec)
        assert "\n" not in str(caught.value)
        assert not new.exists()


@pytest.mark.parametrize("content", ["", "<net><rt_info/></net>", "<net"])
def test_damaged_openvino_is_refused_in_one_line(
    tmp_path: Path, make_spec: MakeSpec, content: str
) -> None:
    old = tmp_path / "model.xml"
    old.write_text(content)
    with pytest.raises(ArtifactError) as caught:
        copy_with_spec(old, tmp_path / "new.xml", make_spec())
    assert "\n" not in str(caught.value)
    assert hash_of(tmp_path).keys() == {"model.xml"}


@given(st.integers(0, 2**63 - 1))
def test_numbers_of_protobuf(value: int) -> None:
    data = b"x" + to_varint(value) + b"y"
    assert varint(data, 1) == (value, len(data) - 1)
