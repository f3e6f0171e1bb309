"""`gad infer` as a process: output, exit codes, interruption."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MakeArtifact, MakeImage, WriteImage

ROOT = Path(__file__).resolve().parents[2]
GAD = (sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
       "from generalad.cli import main; main()")  # fmt: skip


def gad(*words: Path | str) -> subprocess.CompletedProcess[str]:
    command = (*GAD, "infer", *map(str, words))
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path, make_image: MakeImage, write_image: WriteImage) -> Path:
    write_image(tmp_path / "in/1.png", make_image(30))
    write_image(tmp_path / "in/2.png", make_image(30, spot=255))
    return tmp_path / "in"


def test_json_lines_by_default(folder: Path, tmp_path: Path, make_artifact: MakeArtifact) -> None:
    done = gad(make_artifact(tmp_path), folder, "--batch", "2")
    assert done.returncode == 0
    assert [json.loads(line)["anomalous"] for line in done.stdout.splitlines()] == [False, True]
    assert done.stderr.startswith("2 images: 1 anomalous, 1 normal, 0 failed\n")


def test_files_instead(folder: Path, tmp_path: Path, make_artifact: MakeArtifact) -> None:
    done = gad(make_artifact(tmp_path), folder, "--csv", tmp_path / "o.csv", "--overlays",
               tmp_path / "out", "--threshold", "2")  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    assert "2 images: 0 anomalous" in done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 3


def test_broken_image_is_exit_code_1(
    folder: Path, tmp_path: Path, make_artifact: MakeArtifact
) -> None:
    (folder / "0.png").write_bytes(b"x")
    done = gad(make_artifact(tmp_path), folder)
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 3
    assert "0.png" in done.stderr and "1 failed" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [(("none.onnx", "."), 1), (("model.onnx", "none.png"), 1), (("model.onnx",), 2)],
)
def test_wrong_use(
    tmp_path: Path, make_artifact: MakeArtifact, words: tuple[str, ...], code: int
) -> None:
    make_artifact(tmp_path)
    done = gad(*(tmp_path / word for word in words))
    assert done.returncode == code
    assert done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c(tmp_path: Path, make_artifact: MakeArtifact, make_image: MakeImage,
                write_image: WriteImage) -> None:  # fmt: skip
    data = write_image(tmp_path / "a.png", make_image(30)).read_bytes()
    (tmp_path / "many").mkdir()
    for index in range(5000):
        (tmp_path / f"many/{index:05d}.png").write_bytes(data)
    target = tmp_path / "o.csv"
    command = (*GAD, "infer", str(make_artifact(tmp_path)), str(tmp_path / "many"))
    with subprocess.Popen(
        (*command, "--json", "-", "--csv", str(target)),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert process.returncode == 130
    assert [int(row["index"]) for row in rows] == list(range(len(rows)))
    assert 0 < len(rows) < 4999 and f"{len(rows)} images" in err
    json.loads(out.splitlines()[-1])  # no line is torn


def test_a_start_loads_nothing_that_only_cameras_need(
    folder: Path, tmp_path: Path, make_artifact: MakeArtifact
) -> None:
    code = (
        "import sys; from generalad.cli.infer import infer; from generalad.cli.parser import run;"
        "code = run('infer', infer, sys.argv[1:]);"
        "print(code, *sorted(sys.modules))"
    )
    outputs = ("--json", tmp_path / "out.jsonl", "--csv", tmp_path / "out.csv")
    words = (make_artifact(tmp_path), folder, *outputs)
    command = (sys.executable, "-c", code, *map(str, words))
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    code_, *loaded = done.stdout.split()
    assert code_ == "0"
    unwanted = ("rich", "typer", "torch", "sqlite3", "ssl", "av", "tomllib",
                "generalad.runtime.cameras", "generalad.runtime.sinks.video",
                "generalad.runtime.delivery",
                "generalad.runtime.sinks.bounded_folder")  # fmt: skip
    assert not {*unwanted} & {*loaded}
    # Each is a file to be found and read: about a millisecond on a small machine.
    formats = {"generalad.image_formats.tiff", "generalad.image_formats.netpbm"}
    ours = {name for name in loaded if name.partition(".")[0] == "generalad"}
    assert not ours & formats and len(ours) <= 68, sorted(ours)
    line = {name for name in loaded if name.startswith("generalad.runtime.line.")}
    assert line == {"generalad.runtime.line.line"}  # defaults, and nothing that reads a line's file


AT_THE_END = """
import gc, os, sys

def tell(code):
    loaded = [name for name in sys.modules if name in ("onnxruntime", "cv2")]
    print(*loaded, os.environ["OPENBLAS_NUM_THREADS"], gc.isenabled(), gc.get_freeze_count() > 0)
    sys.stdout.flush()
    leave(code)

leave, os._exit = os._exit, tell
from generalad.cli import main
main()
"""


@pytest.mark.parametrize(("threads", "found"), [(None, "1"), ("2", "2")])
def test_a_start_is_quick_by_order_and_settings(
    folder: Path, tmp_path: Path, make_artifact: MakeArtifact, threads: str | None, found: str
) -> None:
    """The network's library first, no threads for BLAS unless asked for, collection at the end."""
    words = ("infer", make_artifact(tmp_path), folder, "--json", tmp_path / "out.jsonl")
    command = (sys.executable, "-c", AT_THE_END, *map(str, words))
    env = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    env |= {} if threads is None else {"OPENBLAS_NUM_THREADS": threads}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=env)
    assert done.stdout.split() == ["onnxruntime", "cv2", found, "True", "True"]


def test_results_survive_the_quick_end_of_the_process(
    folder: Path, tmp_path: Path, make_artifact: MakeArtifact
) -> None:
    (folder / "3.png").write_bytes(b"x")
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        command = (*GAD, "infer", str(make_artifact(tmp_path)), str(folder))
        code = subprocess.run(command, stdout=out, stderr=err, check=False).returncode
    assert code == 1
    assert len((tmp_path / "out").read_text().splitlines()) == 3
    assert "3 images" in (tmp_path / "err").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="closes a descriptor as a shell does")
def test_a_service_may_start_it_with_closed_outputs(
    folder: Path, tmp_path: Path, make_artifact: MakeArtifact
) -> None:
    words = (make_artifact(tmp_path), folder, "--csv", tmp_path / "out.csv")
    command = ("sh", "-c", 'exec "$@" >&- 2>&-', "sh", *GAD, "infer", *map(str, words))
    assert subprocess.run(command, check=False).returncode == 0
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 3
