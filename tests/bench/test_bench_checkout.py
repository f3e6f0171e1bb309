"""Older revisions of the project, laid out to be measured; repositories that are none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from generalad.bench.checkout import checkout, own_revision
from generalad.errors import UsageError

if shutil.which("git") is None:
    pytest.skip("needs git", allow_module_level=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits: one without the package, one with a stub of it."""
    root = tmp_path / "repository"
    root.mkdir()

    def git(*words: str) -> None:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run(("git", *who, *words), cwd=root, check=True, capture_output=True)

    git("init", "-q")
    (root / "README").write_text("x")
    git("add", "README")
    git("commit", "-q", "-m", "nothing yet")
    git("tag", "empty")
    (root / "generalad").mkdir()
    (root / "generalad" / "__init__.py").write_text("stub = True")
    git("add", "generalad")
    git("commit", "-q", "-m", "package")
    return root


def test_a_checkout_is_laid_out_and_removed(repository: Path) -> None:
    with checkout("HEAD", root=repository) as (folder, commit):
        assert (folder / "generalad" / "__init__.py").read_text() == "stub = True"
        assert len(commit) == 9
    assert not folder.exists()
    assert not list((repository / ".git").glob("worktrees/*"))


@pytest.mark.parametrize("revision", ["nowhere", "-h", "--all", ""])
def test_no_such_revision(repository: Path, revision: str) -> None:
    with pytest.raises(UsageError, match="no revision"), checkout(revision, root=repository):
        pass


def test_a_revision_without_the_package(repository: Path) -> None:
    with pytest.raises(UsageError, match="has no folder"), checkout("empty", root=repository):
        pass


def test_no_checkout_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="git checkout"), checkout("HEAD", root=tmp_path):
        pass


def test_its_own_revision_needs_a_checkout_and_marks_changes(
    repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="git checkout"):
        own_revision(tmp_path)
    assert len(own_revision(repository)) == 9
    (repository / "generalad" / "__init__.py").write_text("stub = False")
    assert own_revision(repository).endswith("+")


def test_a_repository_that_git_cannot_read_is_no_missing_revision(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")
    with pytest.raises(UsageError, match="git cannot read this repository: fatal: ") as caught:
        own_revision(tmp_path)
    assert "\n" not in str(caught.value)
