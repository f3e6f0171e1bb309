"""The command line: exit codes, one-line errors, JSON alone on stdout, a quick help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Capture, gad, one_line
from training_helpers import environment, start, start_python, write_toml

from generalad.cli import main
from generalad.cli.commands import COMMANDS
from generalad.errors import GateError
from generalad.export.export import Exported

pytest_plugins = ["training_fixtures"]


def test_help_lists_every_command_and_exit_code(capsys: Capture) -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        code, out, err = gad(capsys, *words)
        assert (code, err) == (0, "")
        assert all(f"  {name} " in out for name in COMMANDS)
        assert "130, 143 interrupted" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: Capture) -> None:
    code, out, err = gad(capsys, name, "--help")
    assert (code, err) == (0, "")
    assert f"gad {name}" in out


IMPORTS = """
import sys
from generalad.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0, end.code
heavy = {"torch", "timm", "numpy", "cv2", "typer", "rich", "onnx", "onnxruntime"}
print("HEAVY", sorted(heavy & sys.modules.keys()))
"""


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_imports_nothing_heavy(option: str) -> None:
    out, err = start_python(IMPORTS, option).communicate()
    assert out.splitlines()[-1] == "HEAVY []", err


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_loads_nothing_heavy(name: str) -> None:
    out, err = start_python(IMPORTS, name, "--help").communicate()
    assert out.splitlines()[-1] == "HEAVY []", err


def test_the_version(capsys: Capture) -> None:
    from generalad import __version__

    assert gad(capsys, "--version") == (0, f"gad {__version__}\n", "")


@pytest.mark.parametrize(
    ("word", "hint"),
    [("trian", "did you mean train?"), ("xyzzy", "gad --help"), ("--verbose", "no option")],
)
def test_an_unknown_command_is_wrong_usage(word: str, hint: str, capsys: Capture) -> None:
    code, out, err = gad(capsys, word)
    assert (code, out) == (2, "")
    assert hint in err
    assert len(err.splitlines()) == 1


def test_wrong_usage_is_2(capsys: Capture, parts: Path, tmp_path: Path) -> None:
    config = write_toml(tmp_path / "a.toml", epoch=3)
    code, out, err = gad(capsys, "train", parts, "--config", config)
    assert (code, out) == (2, "")
    assert "did you mean epochs?" in one_line(err)
    code, _, err = gad(capsys, "train", parts, "--preset", "huge")
    assert code == 2
    assert "small, base, large" in one_line(err)
    assert gad(capsys, "train")[0] == 2
    assert gad(capsys, "train", parts, "--no-such-option")[0] == 2
    assert gad(capsys, "train", parts, "--epochs", "many")[0] == 2
    assert gad(capsys, "train", parts, "--image-size", "big")[0] == 2


def test_failed_work_is_1(capsys: Capture, parts: Path, tmp_path: Path) -> None:
    for words in (
        ["train", tmp_path / "nowhere", "--preset", "embedded"],
        ["export", tmp_path],
        ["eval", tmp_path / "no.onnx", parts],
        ["info", tmp_path / "no.onnx"],
    ):
        code, out, err = gad(capsys, *words)
        assert (code, out) == (1, ""), words
        one_line(err)


def test_a_gate_is_3_and_ctrl_c_130(
    capsys: Capture, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from generalad.export import export as module

    def refuse(*arguments: Any, **options: Any) -> None:
        raise GateError("the exported model is not equal", remedy="report it")

    def interrupt(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "export_detector", refuse)
    code, out, err = gad(capsys, "export", run_folder)
    assert (code, out) == (3, "")
    one_line(err)
    monkeypatch.setattr(module, "export_detector", interrupt)
    code, out, err = gad(capsys, "export", run_folder)
    assert (code, out) == (130, "")
    assert err.strip() == "gad: interrupted"


def test_debug_shows_the_traceback(capsys: Capture, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--debug", "export", str(tmp_path)])
    assert caught.value.code == 1
    assert "Traceback" in capsys.readouterr().err


def test_train_speaks_to_people_only(
    capsys: Capture, parts: Path, tiny_weights: Path, cache: Path, tmp_path: Path
) -> None:
    words = ["--weights", tiny_weights, "--cache", cache, "--out", tmp_path / "run"]
    config = write_toml(tmp_path / "a.toml")
    code, out, err = gad(
        capsys, "train", parts, *words, "--config", config, "--epochs", 2, "--seed", 7
    )
    assert (code, out) == (0, "")
    assert "trained on 13 images" in err
    assert "3 calibration images can promise 25.00% at best, not the 1.00% asked for" in err
    assert "missed of 30 defects drawn on good images" in err
    assert "5.0%" in err and "cannot be promised with 3 good images, only 25.0%" in err
    assert f"next: gad export {tmp_path / 'run'}" in err.replace("\n", "")
    record = json.loads((tmp_path / "run" / "detector.json").read_text())
    assert (record["config"]["epochs"], record["config"]["seed"]) == (2, 7)


def test_eval_prints_json_alone_on_stdout(
    capsys: Capture, exported: Exported, parts: Path, tmp_path: Path
) -> None:
    code, out, err = gad(capsys, "eval", exported.path, parts, "--html", tmp_path / "report.html")
    assert code == 0
    record = json.loads(out)
    assert record["artifact"] == str(exported.path)
    assert "last epoch" in record["selection_rule"]
    assert "image AUROC" in err
    assert (tmp_path / "report.html").is_file()


def test_info_is_the_same_record_for_people_and_machines(
    capsys: Capture, exported: Exported, run_folder: Path
) -> None:
    for artifact in (exported.path, run_folder):
        code, out, err = gad(capsys, "info", artifact)
        assert code == 0
        record = json.loads(out)
        assert record["backbone"]["name"] == "test_vit"
        assert "test_vit" in err
        assert f"{record['thresholds']['image']:.6g}" in err


def test_doctor_prints_json(capsys: Capture) -> None:
    code, out, _ = gad(capsys, "doctor")
    assert code == 0
    assert {"name", "works", "detail", "remedy"} <= json.loads(out)[0].keys()


def test_the_exit_code_reaches_the_shell(tmp_path: Path) -> None:
    process = start(["export", str(tmp_path)], env=environment(GAD_DEBUG=""))
    out, err = process.communicate()
    assert (process.returncode, out) == (1, "")
    one_line(err)
