"""The GitHub action and workflow: their scripts run here, with doubles of gad and gh."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from bench_report_helpers import comparison, measurement
from conftest import MakeArtifact

from generalad.bench.outputs.github import markdown
from generalad.bench.report import read_report

GITHUB = Path(__file__).resolve().parents[2] / ".github"
ACTION = GITHUB / "actions" / "bench"

if not ACTION.exists():
    pytest.skip("runs from a checkout only", allow_module_level=True)
if shutil.which("bash") is None:
    pytest.skip("needs bash", allow_module_level=True)

DOUBLE = """#!{python}
import json, os, pathlib, shutil, sys
here = pathlib.Path(__file__).parent
with (here / "calls.jsonl").open("a") as file:
    file.write(json.dumps(sys.argv) + "\\n")
{body}
"""

GAD = """
code = int(os.environ["DOUBLE_CODE"])
if code in (0, 3):
    for option in ("--json", "--markdown"):
        target = sys.argv[sys.argv.index(option) + 1]
        shutil.copy(here / ("given" + option), target)
sys.exit(code)
"""

GH = """
if "--jq" in sys.argv:
    print(os.environ["DOUBLE_FOUND"])
    sys.exit(int(os.environ["DOUBLE_CODE"]))
sys.exit(int(os.environ["DOUBLE_WRITES"]))
"""


class Machine:
    """A runner: its environment, and a folder of doubles before all other commands."""

    def __init__(self, folder: Path) -> None:
        self.commands = folder / "commands"
        self.commands.mkdir()
        (folder / "temp").mkdir()
        self.output, self.summary = folder / "output", folder / "summary"
        self.environment = {
            "PATH": os.pathsep.join([str(self.commands), os.environ["PATH"]]),
            "RUNNER_TEMP": str(folder / "temp"),
            "GITHUB_OUTPUT": str(self.output),
            "GITHUB_STEP_SUMMARY": str(self.summary),
        }
        os.symlink(sys.executable, self.commands / "python")

    def double(self, name: str, body: str) -> None:
        path = self.commands / name
        path.write_text(DOUBLE.format(python=sys.executable, body=body), encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def run(self, script: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(ACTION / script)],
            cwd=self.commands.parent,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> list[list[str]]:
        lines = (self.commands / "calls.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)[1:] for line in lines]

    def outputs(self) -> dict[str, str]:
        lines = self.output.read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def inputs(**given: str) -> dict[str, str]:
    names = ("AGAINST", "MAX_SLOWDOWN", "MAX_P95", "MAX_MEMORY", "OPTIONS")
    rest = {"ARTIFACT": "model.onnx", "BUDGET": "60s", "NAME": "bench", "DOUBLE_CODE": "0"}
    return {**dict.fromkeys(names, ""), **rest, **given}


def with_gad(machine: Machine) -> None:
    machine.double("gad", GAD)
    (machine.commands / "given--json").write_text(comparison().to_json(), encoding="utf-8")
    (machine.commands / "given--markdown").write_text(markdown(comparison()), encoding="utf-8")


def test_all_inputs_become_options(machine: Machine) -> None:
    with_gad(machine)
    done = machine.run(
        "bench.sh",
        **inputs(
            ARTIFACT="a model.onnx",
            AGAINST="old/a model.onnx",
            MAX_SLOWDOWN="5%",
            MAX_P95="40",
            MAX_MEMORY="300",
            OPTIONS="--threads 2\n  --batch 1\n",
        ),
    )
    assert done.returncode == 0, done.stderr
    (call,) = machine.calls()
    folder = machine.outputs()["folder"]
    assert call == [
        *("bench", "a model.onnx", "--budget", "60s", "--against", "old/a model.onnx"),
        *("--max-slowdown", "5%", "--max-p95", "40", "--max-memory", "300"),
        *("--threads", "2", "--batch", "1"),
        *("--json", f"{folder}/bench.json", "--markdown", f"{folder}/bench.md"),
        *("--github", f"{folder}/github-action-benchmark.json"),
    ]


def test_empty_inputs_become_no_options(machine: Machine) -> None:
    with_gad(machine)
    assert machine.run("bench.sh", **inputs()).returncode == 0
    (call,) = machine.calls()
    assert [word for word in call if word.startswith("--")] == [
        "--budget",
        "--json",
        "--markdown",
        "--github",
    ]


def known_options() -> set[str]:
    from generalad.cli.bench import bench
    from generalad.cli.options import parameters

    return {flag for option in parameters(bench) for flag in option.flags}


def test_the_options_are_those_of_the_command(machine: Machine) -> None:
    with_gad(machine)
    machine.run("bench.sh", **inputs(AGAINST="a", MAX_SLOWDOWN="5%", MAX_P95="4", MAX_MEMORY="3"))
    (call,) = machine.calls()
    assert {word for word in call if word.startswith("--")} <= known_options()


@pytest.mark.parametrize("code", [0, 3])
def test_a_gate_that_says_no_still_leaves_a_report(machine: Machine, code: int) -> None:
    with_gad(machine)
    assert machine.run("bench.sh", **inputs(DOUBLE_CODE=str(code))).returncode == 0
    outputs = machine.outputs()
    assert outputs["exit-code"] == str(code)
    assert outputs["verdict"] == "slower"
    assert Path(outputs["report"]).read_text(encoding="utf-8") == comparison().to_json()
    assert machine.summary.read_text(encoding="utf-8") == markdown(comparison())


def test_a_measurement_has_no_verdict(machine: Machine) -> None:
    with_gad(machine)
    (machine.commands / "given--json").write_text(measurement().to_json(), encoding="utf-8")
    machine.run("bench.sh", **inputs())
    assert machine.outputs()["verdict"] == ""


@pytest.mark.parametrize("code", [1, 2])
def test_a_bench_that_fails_leaves_its_exit_code_alone(machine: Machine, code: int) -> None:
    with_gad(machine)
    assert machine.run("bench.sh", **inputs(DOUBLE_CODE=str(code))).returncode == 0
    assert set(machine.outputs()) == {"exit-code", "folder"}
    assert machine.outputs()["exit-code"] == str(code)
    assert not machine.summary.exists()


def test_an_earlier_report_is_not_taken_for_this_one(machine: Machine) -> None:
    with_gad(machine)
    machine.run("bench.sh", **inputs())
    machine.output.unlink()
    machine.run("bench.sh", **inputs(DOUBLE_CODE="1"))
    assert "report" not in machine.outputs()


@pytest.mark.parametrize("which", ["ARTIFACT", "AGAINST"])
def test_a_pointer_of_git_lfs_is_named(machine: Machine, tmp_path: Path, which: str) -> None:
    with_gad(machine)
    pointer = tmp_path / "a model.onnx"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    done = machine.run("bench.sh", **inputs(**{which: str(pointer)}))
    assert done.returncode == 1
    assert done.stdout == f"::error::{pointer} is a Git LFS pointer: check out with lfs: true\n"
    assert not (machine.commands / "calls.jsonl").exists()


def test_a_real_bench_of_real_artifacts(
    machine: Machine, tmp_path: Path, make_artifact: MakeArtifact
) -> None:
    """The command itself instead of a double; the artifact has not changed."""
    (machine.commands / "gad").symlink_to(Path(sys.executable).with_name("gad"))
    (tmp_path / "base").mkdir()
    new = make_artifact(tmp_path, name="a model.onnx")
    old = shutil.copy(new, tmp_path / "base" / new.name)
    done = machine.run(
        "bench.sh",
        **inputs(ARTIFACT=str(new), AGAINST=str(old), MAX_SLOWDOWN="50%", BUDGET="4s"),
    )
    assert done.returncode == 0, done.stderr
    outputs = machine.outputs()
    assert outputs["exit-code"] == "0", done.stderr
    assert outputs["verdict"] in {"same", "cannot tell", "not slower"}
    assert read_report(Path(outputs["report"])).new.name == "a model.onnx"
    assert "the new a model.onnx" in machine.summary.read_text(encoding="utf-8")


@pytest.mark.parametrize("there", [True, False])
def test_a_base_without_the_artifact_is_no_error(
    machine: Machine, tmp_path: Path, there: bool
) -> None:
    (tmp_path / ".gad-base").mkdir()
    if there:
        (tmp_path / ".gad-base" / "a model.onnx").write_text("old")
    machine.output.touch()
    steps = load(GITHUB / "workflows" / "bench.yml")["jobs"]["bench"]["steps"]
    (step,) = (one for one in steps if one.get("id") == "old")
    script = tmp_path / "step.sh"
    script.write_text("set -eo pipefail\n" + step["run"])  # as GitHub calls bash
    done = machine.run(script, OLD=".gad-base/a model.onnx", MAX_SLOWDOWN="5%")
    assert done.returncode == 0
    assert ("measured alone" in done.stdout) != there
    found = {"against": ".gad-base/a model.onnx", "max-slowdown": "5%"}
    assert machine.outputs() == (found if there else {})


@pytest.mark.parametrize("name", ["", "../up", "a b", "x;ls", 'a" b'])
def test_a_name_that_is_no_file_name_is_refused(machine: Machine, name: str) -> None:
    with_gad(machine)
    done = machine.run("bench.sh", **inputs(NAME=name))
    assert done.returncode == 2
    assert "::error::name: expected letters" in done.stdout
    assert not machine.output.exists()


def comment(machine: Machine, tmp_path: Path, *, found: str, code: int = 0, writes: int = 0) -> Any:
    (tmp_path / "bench.md").write_text("### the report\n", encoding="utf-8")
    machine.double("gh", GH)
    return machine.run(
        "comment.sh",
        NAME="bench",
        FOLDER=str(tmp_path),
        REPOSITORY="o/r",
        PULL_REQUEST="7",
        DOUBLE_FOUND=found,
        DOUBLE_CODE=str(code),
        DOUBLE_WRITES=str(writes),
    )


@pytest.mark.parametrize(
    ("found", "request_"),
    [
        ("", ["--method", "POST", "repos/o/r/issues/7/comments"]),
        ("11", ["--method", "PATCH", "repos/o/r/issues/comments/11"]),
        ("11\n12", ["--method", "PATCH", "repos/o/r/issues/comments/11"]),
    ],
)
def test_a_comment_is_made_or_replaced(
    machine: Machine, tmp_path: Path, found: str, request_: list[str]
) -> None:
    done = comment(machine, tmp_path, found=found)
    assert done.returncode == 0, done.stderr
    look, write = machine.calls()
    assert look[1] == "repos/o/r/issues/7/comments"
    assert write == ["api", *request_, "-F", f"body=@{tmp_path / 'comment.md'}"]
    text = (tmp_path / "comment.md").read_text(encoding="utf-8")
    assert text == "<!-- gad bench: bench -->\n\n### the report\n"
    assert text.splitlines()[0] in look[-1]


@pytest.mark.parametrize(
    ("code", "writes", "words"), [(1, 1, "cannot be read"), (0, 1, "pull-requests: write")]
)
def test_a_token_that_may_not_comment_is_a_warning(
    machine: Machine, tmp_path: Path, code: int, writes: int, words: str
) -> None:
    done = comment(machine, tmp_path, found="", code=code, writes=writes)
    assert done.returncode == 0
    assert done.stdout.startswith("::warning::")
    assert words in done.stdout


def load(path: Path) -> dict[Any, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def test_the_workflow_gives_only_inputs_that_the_action_has() -> None:
    action = load(ACTION / "action.yml")
    workflow = load(GITHUB / "workflows" / "bench.yml")
    steps = workflow["jobs"]["bench"]["steps"]
    (step,) = (one for one in steps if one.get("id") == "bench")
    assert set(step["with"]) <= set(action["inputs"])
    required = {name for name, one in action["inputs"].items() if one.get("required")}
    assert required <= set(step["with"])
    assert step["uses"].removeprefix("./.generalad/") == str(ACTION.relative_to(GITHUB.parent))


def test_the_action_hands_its_scripts_what_they_read() -> None:
    steps = load(ACTION / "action.yml")["runs"]["steps"]
    for script in ACTION.glob("*.sh"):
        (step,) = (one for one in steps if script.name in one.get("run", ""))
        text = script.read_text(encoding="utf-8")
        assert all(
            f"${name}" in text or f"{{{name}" in text for name in step["env"] if name != "GH_TOKEN"
        )


def test_no_input_is_pasted_into_a_script() -> None:
    for path in (ACTION / "action.yml", GITHUB / "workflows" / "bench.yml"):
        document = load(path)
        steps = document.get("runs", document.get("jobs", {}).get("bench"))["steps"]
        assert not [step["run"] for step in steps if "${{" in step.get("run", "")]


def test_the_page_names_only_options_and_inputs_that_there_are() -> None:
    text = (GITHUB.parent / "docs" / "bench.md").read_text(encoding="utf-8")
    assert set(re.findall(r"--[a-z][a-z0-9-]+", text)) <= known_options()
    workflow, action = (yaml.safe_load(one) for one in re.findall(r"```yaml\n(.*?)```", text, re.S))
    job = workflow["jobs"]["latency"]
    called = load(GITHUB / "workflows" / "bench.yml")[True]["workflow_call"]  # YAML's "on"
    assert set(job["with"]) <= set(called["inputs"])
    assert set(action[0]["with"]) <= set(load(ACTION / "action.yml")["inputs"])
    for used in (job["uses"], action[0]["uses"]):
        place = used.removeprefix("OWNER/generalad/").removesuffix("@v1")
        assert (GITHUB.parent / place).exists()


def steps_of(path: Path) -> list[dict[str, Any]]:
    document = load(path)
    found = document.get("runs", document.get("jobs", {}).get("bench"))["steps"]
    assert isinstance(found, list)
    return found


FILES = (ACTION / "action.yml", GITHUB / "workflows" / "bench.yml")


def test_actions_are_pinned_by_commit() -> None:
    used = [step["uses"] for path in FILES for step in steps_of(path) if "uses" in step]
    others = [one for one in used if not one.startswith("./")]
    assert others and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", one) for one in others)


def test_the_workflow_says_what_it_may_do() -> None:
    found = load(GITHUB / "workflows" / "bench.yml")["permissions"]
    assert found == {"contents": "read", "pull-requests": "write"}


def test_python_is_isolated_from_the_checkout() -> None:
    texts = [step.get("run", "") for path in FILES for step in steps_of(path)]
    texts += [path.read_text(encoding="utf-8") for path in ACTION.glob("*.sh")]
    calls = re.findall(r"\bpython3? +(\S+)", "\n".join(texts))
    assert calls and set(calls) == {"-I"}


@pytest.mark.parametrize("name", ["json.py", "sys.py", "encodings/__init__.py"])
def test_modules_of_a_checkout_do_not_run(machine: Machine, tmp_path: Path, name: str) -> None:
    """As a pull request would bring them."""
    planted = tmp_path / name
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    with_gad(machine)
    done = machine.run("bench.sh", **inputs())
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()
