"""Inputs that people do have: odd paths, files with byte-order marks, images of other formats."""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import Capture, gad, one_line
from encoders import pillow
from image_helpers import part, reference_of
from import_helpers import import_all
from numpy.typing import NDArray
from tiny_artifacts import tiny_artifact

from generalad.cli.process import escape_what_cannot_be_written
from generalad.config import load_config
from generalad.data.dataset import open_dataset
from generalad.errors import ConfigError, DataError
from generalad.files import sha256_of_file
from generalad.preprocess import read_image
from generalad.runtime.backends.fake import fake_spec
from generalad.spec import TrainingSet


def image(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def put(path: Path, data: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pillow(image(len(str(path))), "PNG") if data is None else data)
    return path


@pytest.mark.parametrize("name", ["[/", "[/bold]", "[red]x", "a[b]c", "[link=x]"])
def test_brackets_in_a_path_are_no_style(name: str, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / name.replace("/", os.sep)
    put(folder / "0.png")
    put(folder / "1.png", b"")
    code, _, err = gad(capsys, "data", "check", folder)
    assert code == 1
    assert f"{folder}: 2 train; 1 errors" in err


@pytest.mark.parametrize("name", ["n" * 3000, "loop/x"])
@pytest.mark.parametrize("words", ["info {}", "infer {} 0.png", "infer {a} 0.png --overlays {}"])
def test_a_name_that_the_system_refuses_is_one_line(
    name: str, words: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "0.png")
    (tmp_path / "loop").symlink_to("loop")
    artifact = tiny_artifact(tmp_path / "model.onnx")
    code, out, err = gad(capsys, *words.format(name, a=artifact).split())
    assert (code != 0, out) == (True, "")
    assert one_line(err)


def test_brackets_in_a_kind_of_defect(tmp_path: Path, capsys: Capture) -> None:
    artifact = tiny_artifact(tmp_path / "model.onnx")
    put(tmp_path / "parts/train/good/0.png")
    put(tmp_path / "parts/test/ok/1.png")
    put(tmp_path / "parts/test/a[red]b/2.png")
    code, out, err = gad(capsys, "eval", artifact, tmp_path / "parts", "--json")
    assert code == 0
    assert "a[red]b" in err
    found = json.loads(out)
    assert (found["good"], found["defective"], found["doubtful_masks"]) == (1, 1, None)


@pytest.mark.parametrize("kind", ["ok", "scratch"])
def test_a_test_of_one_kind_has_no_best_f1(kind: str, tmp_path: Path, capsys: Capture) -> None:
    artifact = tiny_artifact(tmp_path / "model.onnx")
    put(tmp_path / "parts/train/good/0.png")
    put(tmp_path / f"parts/test/{kind}/1.png")
    code, out, err = gad(capsys, "eval", artifact, tmp_path / "parts", "--json")
    assert code == 0
    assert "nan" not in err.lower()
    assert "Best F1" not in err
    assert json.loads(out)["best_f1"]["value"] is None


def test_doubtful_masks_are_said_beside_the_figures(tmp_path: Path, capsys: Capture) -> None:
    artifact = tiny_artifact(tmp_path / "model.onnx")
    put(tmp_path / "parts/train/good/0.png")
    for number in range(3):
        put(tmp_path / f"parts/test/cut/{number}.png", pillow(image(number), "PNG"))
        mask = np.full((24, 32), 255, np.uint8)
        mask[5:9, 6:12] = 0
        put(tmp_path / f"parts/ground_truth/cut/{number}_mask.png", pillow(mask, "PNG"))
    report = tmp_path / "report.html"
    code, out, err = gad(capsys, "eval", artifact, tmp_path / "parts", "--json", "--html", report)
    assert code == 0
    assert "warning: 3 of 3 masks marked along the edge" in err
    assert "3 of 3 masks" in json.loads(out)["doubtful_masks"]
    assert "3 of 3 masks" in report.read_text(encoding="utf-8")
    assert gad(capsys, "data", "check", tmp_path / "parts")[0] == 1


@pytest.mark.parametrize("known", ["in the dataset", "by the artifact"])
def test_test_images_that_were_learned_from_are_said(
    known: str, tmp_path: Path, capsys: Capture
) -> None:
    copy = pillow(image(5), "PNG")
    digests = (hashlib.sha256(copy).hexdigest()[:12],) if known == "by the artifact" else ()
    training = TrainingSet("0", 1, digests=digests)
    artifact = tiny_artifact(tmp_path / "model.onnx", replace(fake_spec(), training_set=training))
    put(tmp_path / "parts/train/good/0.png", copy if known == "in the dataset" else None)
    put(tmp_path / "parts/test/good/1.png", copy)
    put(tmp_path / "parts/test/good/2.png", pillow(image(6), "PNG"))
    put(tmp_path / "parts/test/cut/3.png", pillow(image(7), "PNG"))
    report = tmp_path / "report.html"
    code, out, err = gad(capsys, "eval", artifact, tmp_path / "parts", "--json", "--html", report)
    assert code == 0
    assert "warning: 1 test images are ones that were learned from" in err
    assert [Path(path).name for path in json.loads(out)["learned_from"]] == ["1.png"]
    assert "1 test images: too good" in report.read_text(encoding="utf-8")
    put(tmp_path / "parts/test/cut/9.png", pillow(image(6), "PNG"))
    code, out, err = gad(capsys, "eval", artifact, tmp_path / "parts", "--json")
    assert "warning: 2 test images are labelled both good and defective: 9.png, 2.png" in err
    assert len(json.loads(out)["contradictions"]) == 2
    put(tmp_path / "parts/test/good/1.png", pillow(image(8), "PNG"))
    code, out, err = gad(capsys, "eval", artifact, tmp_path / "parts", "--json")
    assert (code, "learned_from" in json.loads(out), "learned" in err) == (0, False, False)


def test_good_images_that_a_plain_folder_keeps_from_the_test_are_said(
    tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "parts"
    for number in range(12):
        name = f"bad/{number}.png" if number < 2 else f"good/{number}.png"
        put(folder / name, pillow(image(number), "PNG"))
    kept = len(open_dataset(folder).train)
    learned = sha256_of_file(open_dataset(folder).train[0].path)[:12]
    for digests, said in ((("0" * 12,), True), (("0" * 12, learned), False), ((), False)):
        training = TrainingSet("x", 1, (), digests)
        spec = replace(fake_spec(), training_set=training)
        artifact = tiny_artifact(tmp_path / "model.onnx", spec)
        code, out, err = gad(capsys, "eval", artifact, folder, "--json")
        assert code == 0
        assert (f"warning: {kept} good images are not tested" in err) == said
        assert json.loads(out).get("untested", 0) == kept * said


def test_test_images_of_another_look_are_said(tmp_path: Path, capsys: Capture) -> None:
    rng = np.random.default_rng(0)
    parts = [part(rng, size=(64, 64)) for _ in range(24)]
    known = reference_of(parts[:20], image_size=(64, 64))
    artifact = tiny_artifact(tmp_path / "model.onnx", replace(fake_spec(), reference=known))
    for name, light in (("a", 1), ("b", 5)):
        for number, one in enumerate(parts[20:]):
            put(tmp_path / name / f"test/good/{number}.png", pillow(one // light, "PNG"))
        put(tmp_path / name / "test/cut/9.png", pillow(parts[0] // 9, "PNG"))
        put(tmp_path / name / "train/good/8.png", pillow(parts[1], "PNG"))
        code, out, err = gad(capsys, "eval", artifact, tmp_path / name, "--json")
        assert code == 0
        said = "4 of 4 good test images do not look like those of the calibration: black: "
        assert (f"warning: {said}" in err) == (light > 1)
        assert json.loads(out).get("other_look", "").startswith(said) == (light > 1)


def test_test_images_are_read_once(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    opened = os.open

    def open_(path: Any, *more: Any, **names: Any) -> int:
        read.append(str(path))
        return opened(path, *more, **names)

    monkeypatch.setattr(os, "open", open_)
    for number in range(4):
        put(
            tmp_path / f"a/test/{'cut' if number % 2 else 'good'}/{number}.png",
            pillow(image(number), "PNG"),
        )
    put(tmp_path / "a/train/good/9.png", pillow(image(9), "PNG"))
    put(tmp_path / "a/ground_truth/cut/1_mask.png", pillow(image(1) // 255, "PNG"))
    training = TrainingSet("x", 1, (), ("0" * 16,))
    artifact = tiny_artifact(tmp_path / "model.onnx", replace(fake_spec(), training_set=training))
    code, _, _ = gad(capsys, "eval", artifact, tmp_path / "a")
    tested = [Path(path).name for path in read if f"{os.sep}test{os.sep}" in path]
    assert code == 0 and sorted(tested) == ["0.png", "1.png", "2.png", "3.png"]


def test_a_report_replaces_no_image(tmp_path: Path, capsys: Capture) -> None:
    artifact = tiny_artifact(tmp_path / "model.onnx")
    put(tmp_path / "parts/train/good/0.png")
    tested = put(tmp_path / "parts/test/ok/1.png")
    before = tested.read_bytes()
    code, _, err = gad(capsys, "eval", artifact, tmp_path / "parts", "--html", tested)
    assert code == 2
    assert "expected the name of a report in HTML → such as report.html" in one_line(err)
    assert tested.read_bytes() == before


def test_images_of_other_formats_are_counted_and_named(tmp_path: Path, capsys: Capture) -> None:
    artifact = tiny_artifact(tmp_path / "model.onnx")
    folder = tmp_path / "parts"
    put(folder / "a.jfif", pillow(image(1), "JPEG"))
    put(folder / "b.gif", pillow(image(2), "GIF"))
    put(folder / "c.tga", pillow(image(3), "TGA"))
    put(folder / "d.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    code, out, err = gad(capsys, "infer", artifact, folder)
    assert code == 1
    rows = [json.loads(line) for line in out.splitlines()]
    assert [Path(row["path"]).name for row in rows] == ["a.jfif", "b.gif", "c.tga", "d.heic"]
    assert [row["error"] is None for row in rows] == [True, True, False, False]
    assert "c.tga: TGA, a format that is not read" in err
    assert "d.heic: HEIC, a format that is not read" in err
    assert "2 failed" in err
    code, _, err = gad(capsys, "data", "check", folder)
    assert code == 1
    assert "c.tga" in err and "d.heic" in err and "4 train" in err


def test_images_without_the_name_of_one_are_named(tmp_path: Path, capsys: Capture) -> None:
    artifact = tiny_artifact(tmp_path / "model.onnx")
    folder = tmp_path / "parts"
    for name in ("a.png", "b", "c.png.old", "d.THM"):
        put(folder / name)
    for name, data in (("e.bin", b"\x89PN"), ("f.json", b"{}"), ("g", b"")):
        put(folder / name, data)
    said = "3 files are images by their content, not by their names"
    code, out, err = gad(capsys, "infer", artifact, folder)
    assert (code, len(out.splitlines())) == (0, 1)
    assert f"{said}, and are left out: b, c.png.old, d.THM → " in err
    code, _, err = gad(capsys, "data", "check", folder)
    assert code == 0
    assert "warning: ignored: 3 files that are images by content, not by name" in err
    assert "info: ignored: 3 files without the suffix" in err
    (folder / "a.png").unlink()
    code, _, err = gad(capsys, "infer", artifact, folder)
    assert code == 1
    assert one_line(err).endswith("give images the suffix of their format, such as b")


def test_what_may_hold_images_is_named(tmp_path: Path, capsys: Capture) -> None:
    artifact = tiny_artifact(tmp_path / "model.onnx")
    folder = tmp_path / "parts"
    put(folder / "a.png")
    for name in ("1.npy", "2.NPY", "all.zip", "line/cam.h264"):
        put(folder / name, bytes(16))
    said = "4 files are arrays, archives or streams, which may hold images and are left out: 1.npy,"
    code, out, err = gad(capsys, "infer", artifact, folder)
    assert (code, len(out.splitlines())) == (0, 1)
    assert f"parts: {said} 2.NPY, all.zip and 1 more → " in err
    code, out, err = gad(capsys, "infer", artifact, f"{folder}/**")
    assert (code, len(out.splitlines())) == (0, 1) and f"parts/**: {said} 2.NPY" in err
    put(folder / "clip.mp4", b"x")
    code, _, err = gad(capsys, "data", "check", folder)
    assert code == 0
    assert "warning: ignored: 4 files that may hold images, not used (arrays, archives" in err
    assert "warning: ignored: 1 file that may hold images, not used (videos)" in err
    put(folder / "f.raw", bytes(16))  # is one
    code, _, err = gad(capsys, "infer", artifact, folder)
    assert code == 1 and "f.raw: RAW, a format that is not read" in err
    (folder / "a.png").unlink()
    (folder / "f.raw").unlink()
    code, _, err = gad(capsys, "infer", artifact, folder)
    assert code == 1 and "name videos one by one" in one_line(err)
    (folder / "clip.mp4").unlink()
    code, _, err = gad(capsys, "infer", artifact, folder)
    assert code == 1 and "save what is in arrays and archives as PNG, such as 1.npy" in err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("name", ["x.png", "x.mp4"])
def test_a_pipe_does_not_hang(name: str, tmp_path: Path, capsys: Capture) -> None:
    artifact = tiny_artifact(tmp_path / "model.onnx")
    put(tmp_path / "parts/a.png")
    os.mkfifo(tmp_path / "parts" / name)
    code, out, err = gad(capsys, "infer", artifact, tmp_path / "parts")
    assert (code, len(out.splitlines())) == ((1, 2) if name == "x.png" else (0, 1))
    for address in (tmp_path / "parts" / name, f"{tmp_path}/parts/x.*"):
        code, _, err = gad(capsys, "infer", artifact, address)
        assert code == 1
        assert "pipe" in err or "no image or video matches" in err


@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_a_list_on_stdin_may_begin_with_a_mark(
    mark: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = tiny_artifact(tmp_path / "model.onnx")
    names = ["first.png", "zweité.png"]
    lines = f"{mark}" + "".join(f"{put(tmp_path / name)}\r\n" for name in names)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    code, out, _ = gad(capsys, "infer", artifact, "-")
    assert code == 0
    assert [Path(json.loads(line)["path"]).name for line in out.splitlines()] == names


def test_a_list_in_utf_16_says_so(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = tiny_artifact(tmp_path / "model.onnx")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("a.png\r\n".encode("utf-16"))))
    code, _, err = gad(capsys, "infer", artifact, "-")
    assert code == 1
    assert "UTF-16, expected UTF-8" in err


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_is_utf_8_whatever_the_system_writes(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding)
    if encoding != "utf-8":
        escape_what_cannot_be_written(stream)
    stream.write(json.dumps("é 正 \U0001f600", ensure_ascii=False))
    stream.flush()
    assert json.loads(raw.getvalue().decode("utf-8")) == "é 正 \U0001f600"


def test_settings_may_begin_with_a_mark(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('preset = "embedded"\nepochs = 3\n', encoding="utf-8-sig")
    assert load_config(file=file).epochs == 3


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        *(("learning_rate", "lr"), ("learning-rate", "lr"), ("batch", "batch_size")),
        *(("resolution", "image_size"), ("num_epochs", "epochs"), ("encoder", "backbone")),
        *(("random_seed", "seed"), ("epoch", "epochs"), ("false_alarm", "false_alarm_rate")),
    ],
)
def test_settings_by_the_names_of_others(key: str, meant: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config().replaced({key: 1})
    assert raised.value.remedy == f"did you mean {meant}?"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("slash", ["/", "\\"])
def test_tables_as_programs_write_them(separator: str, slash: str, tmp_path: Path) -> None:
    put(tmp_path / "images/1.png")
    put(tmp_path / "images/2.png", pillow(image(7), "PNG"))
    put(tmp_path / "masks/2.png", pillow(image(8) // 255, "PNG"))
    rows = [
        ["path", "label", "mask"],
        [f"images{slash}1.png", "good", ""],
        [f"images{slash}2.png", "cut", f"masks{slash}2.png"],
    ]
    table = tmp_path / "parts.csv"
    table.write_text("".join(separator.join(row) + "\r\n" for row in rows), encoding="utf-8-sig")
    dataset = open_dataset(table)
    assert [sample.path for sample in dataset.train] == [tmp_path / "images/1.png"]
    assert dataset.test[0].masks == (tmp_path / "masks/2.png",)


def test_an_image_that_a_table_names_in_two_ways(tmp_path: Path) -> None:
    put(tmp_path / "images/1.png")
    (tmp_path / "b").symlink_to("images")
    for other in ("images/../images/1.png", "./images//1.png", "b/1.png", "images\\1.png"):
        table = tmp_path / "parts.csv"
        table.write_text(f"path,label,split\nimages/1.png,good,train\n{other},good,test\n")
        with pytest.raises(DataError, match="stands in line 2, too"):
            open_dataset(table)


def test_a_good_image_whose_mask_in_a_table_marks_something(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / f"{number}.png", pillow(image(number), "PNG"))
    put(tmp_path / "black.png", pillow(np.zeros((24, 32), np.uint8), "PNG"))
    put(tmp_path / "mask.png", pillow(image(7) // 255, "PNG"))
    table = tmp_path / "parts.csv"
    table.write_text("path,label,mask\n0.png,good,black.png\n1.png,good,\n2.png,cut,mask.png\n")
    assert len(open_dataset(table).test) == 2
    table.write_text(
        "path,label,split,mask\n0.png,good,train,black.png\n1.png,good,train,mask.png\n"
    )
    with pytest.raises(DataError, match=r"1 of 2 images to learn from .* first 1\.png"):
        open_dataset(table)
    assert len(open_dataset(table, all_good=True).train) == 2


def test_images_that_are_given_twice_are_said(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    artifact = tiny_artifact(tmp_path / "model.onnx")
    put(Path("a/0.png"))
    put(Path("a/1.png"))
    Path("b").symlink_to("a")
    code, out, err = gad(capsys, "infer", artifact, "a/0.png", "b")
    assert (code, len(out.splitlines())) == (0, 3)
    assert "given more than once, and read and counted as often: b/0.png → name each" in err
    code, _, err = gad(capsys, "infer", artifact, "a", "a/../a")
    assert "a/../a/0.png and 1 more" in err


def test_two_outputs_are_not_one_file(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    artifact = tiny_artifact(tmp_path / "model.onnx")
    put(Path("0.png"))
    code, out, err = gad(capsys, "infer", artifact, "0.png", "--csv", "r.txt", "--json", "./r.txt")
    assert (code, out) == (2, "") and "r.txt is named for two outputs" in one_line(err)
    assert not list(tmp_path.glob("r*"))


def test_all_good_is_an_option(tmp_path: Path, capsys: Capture) -> None:
    for name in ("normal/0.png", "scratched/1.png"):
        put(tmp_path / "parts" / name)
    code, _, err = gad(capsys, "data", "check", tmp_path / "parts")
    assert code == 1
    assert "scratched" in one_line(err) and "--all-good" in err
    code, _, err = gad(capsys, "data", "check", tmp_path / "parts", "--all-good")
    assert code == 0
    assert "taken as good parts: 1 in normal/, 1 in scratched/" in err


def test_a_limit_that_is_no_number(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "parts/0.png")
    monkeypatch.setenv("GAD_MAX_MEGAPIXELS", "lots")
    code, _, err = gad(capsys, "data", "check", tmp_path / "parts")
    assert code == 2
    assert "GAD_MAX_MEGAPIXELS" in err


def test_formats_are_known_without_a_decoder() -> None:
    loaded = import_all(["generalad.image_formats.accept"], ("cv2", "onnxruntime", "rich"))
    assert "generalad.image_formats.accept" in loaded


def test_golden_samples_are_bounded(tmp_path: Path) -> None:
    import base64
    import dataclasses

    from encoders import empty_png

    from generalad.errors import ArtifactError
    from generalad.runtime.backends.fake import fake_spec
    from generalad.runtime.selftest import selftest
    from generalad.spec import GoldenSample

    fields: dict[str, Any] = {
        field.name: 0.0 for field in dataclasses.fields(GoldenSample) if field.name != "png"
    }
    golden = GoldenSample(**fields, png=base64.b64encode(empty_png(30000, 30000)).decode())
    spec = dataclasses.replace(fake_spec(), golden=(golden,))
    with pytest.raises(ArtifactError, match="30000 x 30000 pixels are 900 megapixels"):
        selftest(tiny_artifact(tmp_path / "model.onnx", spec))


def test_overlays_of_formats_that_are_only_read(tmp_path: Path, capsys: Capture) -> None:
    artifact = tiny_artifact(tmp_path / "model.onnx")
    put(tmp_path / "in/a.gif", pillow(image(1), "GIF"))
    put(tmp_path / "in/b.jfif", pillow(image(1), "JPEG"))
    code, *_ = gad(capsys, "infer", artifact, tmp_path / "in", "--overlays", tmp_path / "out")
    assert code == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.gif.png", "b.jfif.png"]
    assert all(read_image(tmp_path / "out" / name).shape == (24, 32, 3) for name in names)
