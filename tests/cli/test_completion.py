"""Completion: what is offered, and the three scripts in the shells that are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import Capture, gad
from test_parser import functions
from training_helpers import start_python

from generalad.cli.commands import COMMANDS
from generalad.cli.completion import candidates
from generalad.cli.options import parameters

ROOT = Path(__file__).resolve().parents[2]
PRESET_NAMES = ["edge", "small", "base", "large", "simplenet", "kdad", "embedded"]


def offered(*words: str) -> list[str]:
    """Without the explanations."""
    return [line.partition("\t")[0] for line in candidates(words)]


@pytest.mark.parametrize("name", functions())
def test_every_option_of_every_command_is_offered(name: str) -> None:
    flags = [one.flags[-1] for one in parameters(functions()[name]) if one.flags]
    assert offered(*name.split(), "--") == [*flags, "--help"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("",), list(COMMANDS)),
        (("--debug", "tr"), ["train"]),
        (("--",), ["--debug", "--version", "--help"]),
        (("data", ""), ["check", "synth", "unpack"]),
        (("cameras", ""), ["test", "--producer", "--json", "--help"]),
        (("cameras", "--p"), ["--producer"]),
        (("data", "synth", "out", "--category", "w"), ["washer"]),
        (("completion", ""), ["bash", "zsh", "fish"]),
        (("train", ""), [":files"]),
        (("train", "parts", "--preset", ""), PRESET_NAMES),
        (("train", "--preset=e"), ["edge", "embedded"]),
        (("train", "--preset", "=", "em"), ["embedded"]),  # as bash splits it
        (("train", "--preset", "="), PRESET_NAMES),
        (("train", "--cache", ""), [":folders"]),
        (("train", "-o", ""), [":folders"]),
        (("train", "--device", ""), ["cpu", "cuda"]),
        (("train", "--epochs", ""), []),
        (("train", "parts", "--skip-bad", "--sk"), []),
        (("infer", "m.onnx", "a.png", ""), [":files"]),
        (("infer", "m.onnx", "--send", "x", "--sen"), ["--send"]),
        (("infer", "--device=cpu", "--r"), ["--real-time", "--ray", "--rebuild"]),
        (("infer", "--", "--r"), []),
        (("infer", "m.onnx", "--", ""), [":files"]),
        (("info", "m.onnx", ""), ["--json", "--help"]),
        (("nonsense", ""), []),
        (("data", "nonsense", ""), []),
        (("help", ""), []),
    ],
)
def test_what_is_offered(words: tuple[str, ...], found: list[str]) -> None:
    assert offered(*words) == found


def test_explanations_are_for_shells_that_show_them(capsys: Capture) -> None:
    code, out, err = gad(capsys, "_complete", "infe")
    assert (code, out, err) == (0, f"infer\t{COMMANDS['infer'].help}\n", "")


def test_nothing_heavy_is_loaded_at_a_press_of_tab() -> None:
    code = (
        "import sys; from generalad.cli import main\n"
        "try: main(['_complete', 'infer', '--de'])\n"
        "except SystemExit: print(sorted({'torch', 'numpy', 'cv2', 'rich'} & sys.modules.keys()))"
    )
    out, err = start_python(code).communicate()
    assert out.splitlines() == ["--device\tUsed or refused.", "[]"], err


BASH = """
eval "$(gad completion bash)"
COMP_WORDS=(gad "$@"); COMP_CWORD=$#; COMP_LINE="gad $*"; COMP_POINT=${#COMP_LINE}
_gad gad "${COMP_WORDS[COMP_CWORD]}" 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""

ZSH = """
compset() { PREFIX=${PREFIX#*=} }
_files() { print ":files $*" }
_describe() { print -l -- "${(@P)3}" }
compdef() { }
eval "$(gad completion zsh)"
words=(gad "$@"); CURRENT=$#words; PREFIX=$words[-1]
_gad
"""

FISH = """
gad completion fish | source
complete -C "gad $argv"
"""


@pytest.fixture
def shell(tmp_path: Path, request: pytest.FixtureRequest) -> list[str]:
    """A shell with a script that completes its arguments, and `gad` on its path."""
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    script = tmp_path / "script"
    script.write_text({"bash": BASH, "zsh": ZSH, "fish": FISH}[name])
    program = tmp_path / "bin" / "gad"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m generalad "$@"\n')
    program.chmod(0o755)
    bare = {"bash": "--norc", "zsh": "-f", "fish": "--no-config"}[name]
    return [name, bare, str(script)]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"], indirect=True)
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["infe"], ["infer"]),
        (["data", ""], ["check", "synth", "unpack"]),
        (["infer", "a b.onnx", "--dev"], ["--device"]),
        (["infer", "m.onnx", "--device", "c"], ["cpu", "cuda"]),
        (["infer", "m.onnx", "--device=c"], ["cpu", "cuda"]),
        (["export", "--format", ""], ["onnx", "openvino", "tensorrt", "triton"]),
    ],
)
def test_the_scripts(shell: list[str], words: list[str], found: list[str], tmp_path: Path) -> None:
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    if shell[0] == "fish":
        words = [" ".join(word.replace(" ", "\\ ") for word in words)]
    done = subprocess.run(
        [*shell, *words], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    lines = [line.partition("\t")[0].partition(":")[0] for line in done.stdout.splitlines()]
    assert [line.removeprefix("--device=") for line in lines] == found, done.stderr


@pytest.mark.parametrize("shell", ["fish"], indirect=True)
def test_files_and_folders(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "part.png").touch()
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}

    def completed(line: str) -> list[str]:
        done = subprocess.run(
            [*shell, line], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return [line.partition("\t")[0] for line in done.stdout.splitlines()]

    assert sorted(completed("infer m.onnx pa")) == ["part.png", "parts/"]
    assert completed("train --cache pa") == ["parts/"]
    assert completed("train --cache=pa") == ["--cache=parts/"]
