"""`make bench`: what benchmarks/change.py says in every state of a repository."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from bench_report_helpers import comparison, side
from conftest import MakeArtifact

from generalad.bench.checkout import checkout, own_revision
from generalad.bench.report import BenchReport, Comparison
from generalad.errors import GadError
from generalad.statistics import Estimate

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
Capture = pytest.CaptureFixture[str]

if not (BENCHMARKS / "change.py").exists():
    pytest.skip("runs from a checkout only", allow_module_level=True)
if shutil.which("git") is None:
    pytest.skip("needs git", allow_module_level=True)

STUB = "import shutil\nexport = lambda detector, out: shutil.copy(detector, out)\n"
"""Stands for the whole package: its export is a copy."""


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import change

    return change


class Repository:
    """A repository with a stub of the package."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.git("init", "-q", "-b", "main")
        (root / "generalad").mkdir()
        self.commit(STUB)

    def git(self, *words: str) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        done = subprocess.run(("git", *who, *words), cwd=self.root, check=True, capture_output=True)
        return done.stdout.decode().strip()

    def write(self, text: str) -> None:
        (self.root / "generalad" / "__init__.py").write_text(text)

    def commit(self, text: str) -> str:
        self.write(text)
        self.git("add", "generalad")
        self.git("commit", "-q", "-m", "x")
        return self.git("rev-parse", "HEAD")[:9]


Run = Callable[..., str]


@pytest.fixture
def run(
    change: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    tmp_path: Path,
    make_artifact: MakeArtifact,
) -> Run:
    """Run it in a repository; training and export are doubled, and what a bench finds is given."""
    artifact = make_artifact(tmp_path, name="exported.onnx")
    monkeypatch.setattr(change, "graph_hash", Path.read_bytes)  # the double's holds no hash

    def run(root: Path, *words: str, found: Any = None, calls: list[Any] | None = None) -> str:
        def bench(new: Path, **options: Any) -> BenchReport:
            if calls is not None:
                calls.append(options)
            if isinstance(found, GadError):
                raise found
            return found or comparison(1.0)

        monkeypatch.setattr(change, "checkout", functools.partial(checkout, root=root))
        monkeypatch.setattr(change, "own_revision", functools.partial(own_revision, root=root))
        monkeypatch.setattr(change, "OWN_ROOT", root)
        monkeypatch.setattr(change, "trained", lambda folder: artifact)
        monkeypatch.setattr(change, "export_detector", shutil.copy)
        monkeypatch.setattr(change, "bench", bench)
        monkeypatch.setattr(sys, "argv", ["change.py", *words])
        change.main()
        return capsys.readouterr().out

    return run


def test_one_commit_is_nothing_to_compare_with(run: Run, tmp_path: Path) -> None:
    out = run(Repository(tmp_path / "r").root)
    assert out.startswith("nothing to compare with: no revision 'HEAD~1'")
    assert len(out.splitlines()) == 1


def test_a_shallow_clone_says_how_to_deepen_it(run: Run, tmp_path: Path) -> None:
    origin = Repository(tmp_path / "origin")
    origin.commit(STUB + "# second\n")
    clone = tmp_path / "clone"
    words = ("git", "clone", "-q", "--depth", "1", origin.root.as_uri(), str(clone))
    subprocess.run(words, check=True, capture_output=True)
    out = run(clone)
    assert "no revision 'HEAD~1'" in out
    assert "git fetch --deepen 1" in out


def test_no_repository(run: Run, tmp_path: Path) -> None:
    assert "needs generalad as a git checkout" in run(tmp_path)


def test_a_clean_tree_is_compared_with_the_commit_before(run: Run, tmp_path: Path) -> None:
    repository, calls = Repository(tmp_path / "r"), []  # type: ignore[var-annotated]
    first = repository.git("rev-parse", "HEAD")[:9]
    repository.commit(STUB + "# second\n")
    out = run(repository.root, calls=calls)
    assert f"export: its code is that of {first}" in out
    assert [call["against_rev"] for call in calls] == [first]


def test_a_dirty_tree_is_compared_with_its_commit(run: Run, tmp_path: Path) -> None:
    repository, calls = Repository(tmp_path / "r"), []  # type: ignore[var-annotated]
    second = repository.commit(STUB + "# second\n")
    repository.write(STUB + "# third\n")
    run(repository.root, calls=calls)
    assert [call["against_rev"] for call in calls] == [second]


def doubtful() -> BenchReport:
    found = (Comparison("total", Estimate(1.02, 0.9, 1.2), 8, "cannot tell"),)
    sentence = "Cannot tell in the time given"
    return comparison(comparisons=found, verdict="cannot tell", verdict_text=sentence, gates=())


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (comparison(1.2), "new.onnx is slower than old.onnx"),
        (comparison(0.8), "new.onnx is faster than old.onnx"),
        (doubtful(), "Cannot tell in the time given"),
    ],
)
def test_whatever_is_found_is_said_and_stops_nothing(
    run: Run, tmp_path: Path, found: BenchReport, words: str
) -> None:
    repository = Repository(tmp_path / "r")
    repository.commit(STUB + "# second\n")
    assert words in run(repository.root, found=found)


def with_export(repository: Repository) -> None:
    """The export's own code changes."""
    (repository.root / "generalad" / "export").mkdir()
    (repository.root / "generalad" / "export" / "__init__.py").write_text("")
    repository.git("add", "generalad")
    repository.commit(STUB)


def test_an_export_with_the_same_graph_is_not_measured(run: Run, tmp_path: Path) -> None:
    repository, calls = Repository(tmp_path / "r"), []  # type: ignore[var-annotated]
    with_export(repository)
    assert "export: the same graph as that of" in run(repository.root, calls=calls)
    assert [list(call) for call in calls] == [["against_rev", "budget"]]


def test_another_graph_is_measured(
    run: Run, tmp_path: Path, change: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, calls = Repository(tmp_path / "r"), []  # type: ignore[var-annotated]
    with_export(repository)
    monkeypatch.setattr(change, "graph_hash", lambda path: path.name)
    assert "export: another graph than that of" in run(repository.root, calls=calls)
    assert [list(call) for call in calls] == [["against", "budget"], ["against_rev", "budget"]]


def test_an_older_commit_that_cannot_export_is_named(run: Run, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    old = repository.commit("import a_package_that_is_gone\n")
    with_export(repository)
    out = run(repository.root)
    assert f"not compared, {old} cannot export this detector: ModuleNotFoundError" in out
    assert "pipeline: " in out  # the rest goes on


def test_an_older_commit_that_cannot_run_is_named(run: Run, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    old = repository.git("rev-parse", "HEAD")[:9]
    repository.commit(STUB + "# second\n")
    out = run(repository.root, found=GadError("its process died (exit code 1)"))
    assert f"pipeline: not compared with {old}: its process died" in out


def test_a_crash_of_the_present_code_is_seen(
    run: Run, tmp_path: Path, change: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(tmp_path / "r")
    repository.commit(STUB + "# second\n")
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no artifact")
    check = change.check_present
    monkeypatch.setattr(change, "check_present", lambda new: check(bad))
    with pytest.raises(GadError, match=r"bad\.onnx"):
        run(repository.root, found=GadError("its process died"))


def test_the_report_of_a_slowdown_names_both_revisions(run: Run, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    repository.commit(STUB + "# second\n")
    new, old = (side(revision=f"{letter * 9}") for letter in "ab")
    out = run(repository.root, found=comparison(1.2, new=new, old=old))
    assert "model.onnx at aaaaaaaaa against model.onnx at bbbbbbbbb" in out
