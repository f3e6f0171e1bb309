"""What is written, under which names, and what is left after a failure."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import MakeImage, WriteImage, WriteVideo
from numpy.typing import NDArray
from sink_helpers import small_disk

from generalad.errors import DataError, StorageError, UsageError
from generalad.preprocess import read_image
from generalad.runtime import (
    AnnotatedVideo,
    Csv,
    JsonLines,
    Outputs,
    Overlays,
    Sink,
    infer,
    open_sources,
)
from generalad.runtime.backends.fake import FakeSession, fake_spec
from generalad.runtime.sinks.text_files import PartFile


@pytest.fixture
def folder(tmp_path: Path, make_image: MakeImage, write_image: WriteImage) -> Path:
    """Two images of the same name, one broken one, and one with a comma in its name."""
    write_image(tmp_path / "in/a/x.png", make_image(30))
    write_image(tmp_path / "in/b/x.png", make_image(30, spot=255))
    write_image(tmp_path / "in/c, d.png", make_image(30))
    (tmp_path / "in/e.png").write_bytes(b"broken")
    return tmp_path / "in"


def run(*sources: Path, sinks: list[Sink]) -> None:
    infer(FakeSession(), [str(source) for source in sources], sinks=sinks)


def test_json_lines(folder: Path, tmp_path: Path) -> None:
    run(folder, sinks=[JsonLines(tmp_path / "new/out.jsonl")])
    lines = [json.loads(line) for line in (tmp_path / "new/out.jsonl").read_text().splitlines()]
    assert [line["anomalous"] for line in lines] == [False, True, False, None]
    assert lines[1]["regions"][0]["box"] == [16, 6, 16, 18]
    assert lines[3]["error"] and lines[3]["score"] is None
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.jsonl"]


def test_json_lines_to_stdout(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, sinks=[JsonLines("-")])
    assert len([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == 4


def test_csv(folder: Path, tmp_path: Path) -> None:
    run(folder, sinks=[Csv(tmp_path / "out.csv")])
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["anomalous"] for row in rows] == ["false", "true", "false", ""]
    assert [row["regions"] for row in rows] == ["", "16x18+16+6", "", ""]
    assert rows[2]["path"].endswith("c, d.png") and rows[3]["error"]


def test_overlays_keep_places_and_leave_good_areas(folder: Path, tmp_path: Path) -> None:
    run(folder, sinks=[Overlays(tmp_path / "out")])
    written = sorted(
        p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.glob("out/**/*.*")
    )
    assert written == ["a/x.png", "b/x.png", "c, d.png"]
    before, after = read_image(folder / "b/x.png"), read_image(tmp_path / "out/b/x.png")
    assert before.shape == after.shape
    np.testing.assert_array_equal(before[30:], after[30:])
    assert (before[8:24, 16:32] != after[8:24, 16:32]).any()


def test_overlays_of_several_sources_share_no_name(
    folder: Path, tmp_path: Path, make_image: MakeImage, write_image: WriteImage
) -> None:
    other = write_image(tmp_path / "other/a/y.png", make_image(30)).parent
    files = [write_image(tmp_path / name / "z.png", make_image(30)) for name in ("p", "q")]
    run(folder / "a", other, *files, sinks=[Overlays(tmp_path / "out")])
    written = sorted(
        p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.glob("out/**/*.*")
    )
    assert written == ["2/z.png", "a-2/y.png", "a/x.png", "z.png"]


def test_overlays_of_a_video(
    tmp_path: Path, make_image: MakeImage, write_video: WriteVideo
) -> None:
    video = write_video(tmp_path / "v.avi", [make_image(30)] * 3)
    run(video, sinks=[Overlays(tmp_path / "out")])
    assert len(list((tmp_path / "out/v.avi").iterdir())) == 3


@pytest.mark.parametrize("place", ["in", "in/out"])
def test_overlays_do_not_go_where_images_are_read(folder: Path, place: str) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    with pytest.raises(UsageError, match="where images are read"):
        run(folder, sinks=[Overlays(folder.parent / place)])
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_overlays_do_not_overwrite_through_a_second_source(folder: Path) -> None:
    with pytest.raises(UsageError, match="where images are read"):
        run(folder / "a", folder / "b", sinks=[Overlays(folder)])


def test_overlays_do_not_overwrite_a_single_image(folder: Path) -> None:
    with pytest.raises(UsageError, match="where images are read"):
        run(folder / "a/x.png", sinks=[Overlays(folder / "a")])


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_annotated_video(
    tmp_path: Path, make_image: MakeImage, write_video: WriteVideo, suffix: str
) -> None:
    video = write_video(tmp_path / "v.avi", [make_image(30), make_image(30, spot=255)] * 4)
    run(video, sinks=[AnnotatedVideo(tmp_path / f"out{suffix}")])
    capture = cv2.VideoCapture(str(tmp_path / f"out{suffix}"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 8
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert capture.get(cv2.CAP_PROP_FRAME_WIDTH) == 64
    capture.release()
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.parametrize(
    ("name", "words"), [("out.gif", r"\.mp4 or \.avi"), ("v.avi", "is the video that is read")]
)
def test_annotated_video_refuses(
    tmp_path: Path, make_image: MakeImage, write_video: WriteVideo, name: str, words: str
) -> None:
    video = write_video(tmp_path / "v.avi", [make_image(30)] * 3)
    before = video.read_bytes()
    with pytest.raises(UsageError, match=words):
        run(video, sinks=[AnnotatedVideo(tmp_path / name)])
    assert video.read_bytes() == before


def test_annotated_video_needs_one_video(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a video"):
        run(folder, sinks=[AnnotatedVideo(tmp_path / "out.mp4")])
    with pytest.raises(UsageError, match="found 2 sources"):
        run(folder / "a", folder / "b", sinks=[AnnotatedVideo(tmp_path / "out.mp4")])


def test_failure_leaves_the_part_with_earlier_results(folder: Path, tmp_path: Path) -> None:
    class Dying(FakeSession):
        calls = 0

        def run(self, images: NDArray[np.uint8]) -> Outputs:
            self.calls += 1
            if self.calls == 3:
                raise DataError("gone")
            return super().run(images)

    target = tmp_path / "out.jsonl"
    target.write_text("of an earlier run")
    with pytest.raises(DataError, match="gone"):
        infer(Dying(), [str(folder)], sinks=[JsonLines(target)])
    assert target.read_text() == "of an earlier run"
    for line in (tmp_path / "out.part.jsonl").read_text().splitlines():
        json.loads(line)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out.part.jsonl").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="disk is full"):
        run(folder, sinks=[JsonLines(tmp_path / "out.jsonl")])


@pytest.mark.parametrize("kind", [JsonLines, Csv])
@pytest.mark.parametrize("name", ["model.onnx", "a.png", "v.mp4", "folder"])
def test_text_does_not_overwrite_something_else(
    folder: Path, tmp_path: Path, kind: type[JsonLines] | type[Csv], name: str
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="text file"):
        run(folder, sinks=[kind(tmp_path / name)])


def test_place_that_is_a_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for sink in (Overlays(tmp_path / "file"), JsonLines(tmp_path / "file/out.jsonl")):
        with pytest.raises(StorageError, match="cannot write"):
            run(folder, sinks=[sink])


@pytest.mark.parametrize("make", [JsonLines, Csv])
def test_two_runs_on_one_file(folder: Path, tmp_path: Path, make: type[JsonLines]) -> None:
    target = tmp_path / "out.jsonl"
    first = make(target)
    first.open([], fake_spec())
    with pytest.raises(UsageError, match=r"out\.part\.jsonl is written by another process"):
        run(folder, sinks=[make(target)])
    first.close(complete=True)
    run(folder, sinks=[make(target)])
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out.jsonl"]


def test_two_runs_on_one_video(
    tmp_path: Path, make_image: MakeImage, write_video: WriteVideo
) -> None:
    clip = write_video(tmp_path / "clip.avi", [make_image(20 * n) for n in range(4)])
    (source,) = open_sources([str(clip)])
    first = AnnotatedVideo(tmp_path / "out.avi")
    first.open([source], fake_spec())
    with pytest.raises(UsageError, match=r"out\.part\.avi is written by another process"):
        run(clip, sinks=[AnnotatedVideo(tmp_path / "out.avi")])
    first.close(complete=False)
    run(clip, sinks=[AnnotatedVideo(tmp_path / "out.avi")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.avi", "out.avi"]


RACE = """
import sys
from pathlib import Path
from generalad.runtime.sinks.text_files import PartFile
from generalad.errors import UsageError
name, target = sys.argv[1:]
for turn in range(60):
    try:
        file = PartFile(target)
    except UsageError:
        continue
    for number in range(20):
        file.append(f"{name} {turn} {number} " + name * 200)
    file.close(complete=True)
    lines = Path(target).read_text().splitlines()
"""


def test_runs_that_race_for_a_file_leave_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    racers = [
        subprocess.Popen([sys.executable, "-c", RACE, name, str(target)]) for name in ("a", "bb")
    ]
    assert [racer.wait(timeout=60) for racer in racers] == [0, 0]
    lines = target.read_text().splitlines()
    assert len(lines) == 20 and len({line.split()[0] for line in lines}) == 1
    assert [int(line.split()[2]) for line in lines] == list(range(20))


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as place:
        file = PartFile(str(place / "out.txt"))
        with pytest.raises(StorageError, match="disk is full"):
            for number in range(10_000):
                file.append(f"{number:>5} " + "x" * 993)
        file.close(complete=False)
        text = (place / "out.part.txt").read_text()
    lines = text.split("\n")
    assert lines[-1] == "" and len(lines) > 100
    assert all(len(line) == 999 for line in lines[:-1])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("=1+1.png", "'=1+1.png"),
        ("+1.png", "'+1.png"),
        ("-1.png", "'-1.png"),
        ("@x.png", "'@x.png"),
        ("a\nb.png", "a\nb.png"),
        ("a\rb.png", "a\rb.png"),
        ('a",b.png', 'a",b.png'),
        ("a.png", "a.png"),
    ],
)
def test_names_in_csv(
    tmp_path: Path, name: str, shown: str, monkeypatch: pytest.MonkeyPatch,
    make_image: MakeImage, write_image: WriteImage,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_image(Path("a.png"), make_image(30))
    Path("a.png").rename(name)
    run(Path(name), sinks=[Csv("out.csv")])
    with Path("out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["source"] == row["path"] == shown
    assert float(row["score"]) >= 0


def test_overlays_remove_what_a_killed_run_left(folder: Path, tmp_path: Path) -> None:
    left = tmp_path / "out/a/.x.0123abcd.part.png"
    new, other = left.with_name(".y.0123abcd.part.png"), left.with_name(".hidden.png")
    left.parent.mkdir(parents=True)
    for path in (left, new, other):
        path.write_bytes(b"half")
    os.utime(left, (1, 1))
    os.utime(other, (1, 1))
    run(folder, sinks=[Overlays(tmp_path / "out")])
    assert [path.exists() for path in (left, new, other)] == [False, True, True]


def test_json_on_a_terminal_holds_no_commands(
    tmp_path: Path, make_image: MakeImage, write_image: WriteImage,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in/a.png", make_image(30)).rename(tmp_path / "in/\x9b31m\x1b[2J.png")
    run(tmp_path / "in", sinks=[JsonLines("-")])
    out = capsys.readouterr().out
    assert not set(out) & {"\x1b", "\x9b"}
    assert json.loads(out)["path"].endswith("\x9b31m\x1b[2J.png")
