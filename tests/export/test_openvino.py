"""OpenVINO artifacts: two files that belong together, the same numbers as ONNX, clear refusals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openvino
import pytest

from generalad.errors import ArtifactError, MissingExtraError, StorageError, UsageError
from generalad.export.export import Exported, export_detector
from generalad.export.to_openvino import write_ir
from generalad.model.storage import Trained
from generalad.runtime import open_session
from generalad.runtime.backends.ov import INFO
from generalad.spec import Spec

pytest_plugins = ["training_fixtures"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, trained: Trained) -> Path:
    folder = tmp_path_factory.mktemp("openvino")
    return export_detector(trained, folder / "model.xml", format="openvino").path


@pytest.fixture
def copied(artifact: Path, tmp_path: Path) -> Path:
    for suffix in (".xml", ".bin"):
        shutil.copy(artifact.with_suffix(suffix), tmp_path / f"m{suffix}")
    return tmp_path / "m.xml"


def test_the_same_numbers_as_the_onnx_file(
    artifact: Path, exported: Exported, trained: Trained
) -> None:
    images = trained.calibration_images()
    with open_session(artifact, threads=1) as session, open_session(exported.path) as other:
        for batch in (1, 2, 3):
            found, expected = session.run(images[:batch]), other.run(images[:batch])
            np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-4, atol=1e-4)
        assert session.backend.endswith("CPU, f32")


def test_outputs_belong_to_the_caller(artifact: Path, trained: Trained) -> None:
    images = trained.calibration_images()
    with open_session(artifact) as session:
        first = session.run(images[:1])
        kept = first.scores.copy(), first.maps.copy()
        session.run(images[1:2])
        assert np.array_equal(first.scores, kept[0]) and np.array_equal(first.maps, kept[1])


def test_runs_side_by_side_give_the_same(artifact: Path, trained: Trained) -> None:
    images = trained.calibration_images()
    with open_session(artifact, threads=2) as session:
        expected = session.run(images)
    with (
        open_session(artifact, threads=2, side_by_side=2) as session,
        ThreadPoolExecutor(4) as pool,
    ):
        found = list(pool.map(lambda _: session.run(images), range(12)))
    for one in found:
        np.testing.assert_allclose(one.scores, expected.scores, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(one.maps, expected.maps, rtol=1e-5, atol=1e-5)


def test_a_closed_session_says_so(artifact: Path, trained: Trained) -> None:
    session = open_session(artifact)
    session.close()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.run(trained.calibration_images())


def cut_bin(path: Path) -> None:
    data = path.with_suffix(".bin").read_bytes()
    path.with_suffix(".bin").write_bytes(data[: len(data) // 2])


def flip_bin(path: Path) -> None:
    data = bytearray(path.with_suffix(".bin").read_bytes())
    data[len(data) // 2] ^= 1
    path.with_suffix(".bin").write_bytes(bytes(data))


def no_bin(path: Path) -> None:
    path.with_suffix(".bin").unlink()


def cut_xml(path: Path) -> None:
    path.write_text(path.read_text()[:2000])


def no_xml(path: Path) -> None:
    path.write_text("this is no XML")


def no_spec(path: Path) -> None:
    path.write_text(
        path.read_text().replace(f"<{INFO}>", "<other>").replace(f"</{INFO}>", "</other>")
    )


def newer(path: Path) -> None:
    old, new = (f"&quot;format_version&quot;: {number}" for number in (1, 9))
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_bin, "damaged"),
        (flip_bin, "does not belong to m.xml, or is damaged"),
        (no_bin, "m.bin is missing"),
        (cut_xml, "cannot be loaded"),
        (no_xml, "cannot be loaded"),
        (no_spec, "not one made by generalad"),
        (newer, "format 9 is newer"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    damage: Callable[[Path], None], words: str, copied: Path
) -> None:
    damage(copied)
    with pytest.raises(ArtifactError) as caught:
        open_session(copied)
    assert words in str(caught.value) and caught.value.remedy
    assert "\n" not in str(caught.value)


def test_somebody_elses_model(tmp_path: Path) -> None:
    from openvino import opset13 as ops

    given = ops.parameter([1, 3], np.float32)
    openvino.save_model(openvino.Model([ops.relu(given)], [given]), tmp_path / "m.xml")
    with pytest.raises(ArtifactError, match="not one made by generalad"):
        open_session(tmp_path / "m.xml")


def test_without_the_library(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'generalad\[openvino\]'"):
        open_session(artifact)


def test_no_space_leaves_the_older_artifact(
    copied: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in copied.parent.iterdir()}

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="disk is full"):
        export_detector(trained, copied, format="openvino")
    assert {path: path.read_bytes() for path in copied.parent.iterdir()} == before


def test_commands_take_it_like_any_artifact(artifact: Path, parts: Path) -> None:
    gad = (sys.executable, "-m", "generalad")
    for words in (["selftest", "--json"], ["info"]):
        done = subprocess.run(
            [*gad, words[0], str(artifact), *words[1:]], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    images = parts / "test" / "good"
    done = subprocess.run(
        [*gad, "infer", str(artifact), str(images)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == 4 and all(result["error"] is None for result in results)
    assert "openvino" in done.stderr


def test_a_graph_that_fills_the_memory_is_refused_before_it_is_compiled(copied: Path) -> None:
    from openvino import opset13 as ops

    model = openvino.Core().read_model(copied)
    results = {next(iter(one.output(0).get_names())): one for one in model.get_results()}
    scores, maps = (results[name].input_value(0) for name in ("scores", "maps"))
    tiled = ops.tile(maps, ops.constant(np.array([1, 30_000, 30_000], np.int64)))
    least = ops.reduce_min(tiled, ops.constant(np.array([0, 1, 2], np.int64)))
    other = ops.add(scores, ops.multiply(least, ops.constant(np.float32(0))))
    scores.set_names(set())
    other.output(0).set_names({"scores"})
    results["scores"].input(0).replace_source_output(other.output(0))
    spec = Spec.from_json(str(model.get_rt_info([INFO, "spec"]).astype(str)))
    write_ir(model, copied, spec, half=False)
    with pytest.raises(ArtifactError, match=r"has Tile of \d+ values, expected at most"):
        open_session(copied)
