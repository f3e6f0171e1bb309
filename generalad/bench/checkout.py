"""Another revision of the project, laid out in a temporary folder to be measured."""

from __future__ import annotations

import contextlib
import io
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from generalad.bench.process import OWN_ROOT
from generalad.errors import UsageError

PACKAGE = "generalad"


@contextlib.contextmanager
def checkout(revision: str, *, root: Path = OWN_ROOT) -> Iterator[tuple[Path, str]]:
    """Give a folder with the package as it was at a revision, and the short hash of its commit.

    Nothing is written to the repository: `git archive` needs no worktree that a killed process
    would leave behind in it. The folder is removed afterwards.

    Args:
        revision: as git takes it: a hash, a branch, a tag, HEAD~3.
        root: of the repository.

    Raises:
        UsageError: no repository, no git, no such revision, or none with the package.
    """
    commit = _commit(revision, root)
    try:
        archive = _git(root, "archive", "--format=zip", commit, PACKAGE)
    except subprocess.CalledProcessError as error:
        raise UsageError(
            f"revision {revision!r} has no folder {PACKAGE}", remedy="compare with a later revision"
        ) from error
    with tempfile.TemporaryDirectory(prefix="gad-bench-") as name:
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            files.extractall(name)
        yield Path(name), commit[:9]


def own_revision(root: Path = OWN_ROOT) -> str:
    """Short hash of the present commit, with a + if the package differs from it."""
    commit = _commit("HEAD", root)[:9]
    changed = _git(root, "status", "--porcelain", "--", PACKAGE)
    return commit + ("+" if changed.strip() else "")


def _commit(revision: str, root: Path) -> str:
    if not (root / ".git").exists():
        raise UsageError(
            "comparing revisions needs generalad as a git checkout, this is an installation",
            remedy="clone the repository and install it with pip install -e, or use --against",
        )
    try:
        # Options end before the revision, which could begin with a dash.
        found = _git(
            root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
        )
    except subprocess.CalledProcessError as error:
        raise _no_revision(revision, root, error.stderr.decode("utf-8", "replace")) from error
    return found.decode().strip()


def _no_revision(revision: str, root: Path, words: str) -> UsageError:
    """Why git does not know it; `words` are git's own where it could not even look."""
    if lines := words.strip().splitlines():
        return UsageError(f"git cannot read this repository: {lines[0]}", remedy="see git status")
    try:
        shallow = _git(root, "rev-parse", "--is-shallow-repository").strip() == b"true"
    except subprocess.CalledProcessError:
        shallow = False
    remedy = "git log shows those that are here; git fetch gets more"
    if shallow:
        remedy = "this clone is shallow: git fetch --deepen 1 gets one commit more"
    return UsageError(f"no revision {revision!r} in this repository", remedy=remedy)


def _git(root: Path, *words: str) -> bytes:
    try:
        return subprocess.run(
            ("git", "-C", str(root), *words), check=True, capture_output=True
        ).stdout
    except FileNotFoundError as error:
        raise UsageError("comparing revisions needs git", remedy="install git") from error
