"""What is measured, which may be another revision of the project in a temporary folder."""

from __future__ import annotations

import contextlib
import io
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from generalad.bench.worker_process import OWN_ROOT, Subject
from generalad.errors import UsageError

PACKAGE = "generalad"


@contextlib.contextmanager
def subjects_of(
    artifact: Path, against: str | Path | None, against_rev: str | None
) -> Iterator[list[Subject]]:
    """The new side, and the old one if there is one."""
    new = Subject(artifact.name, artifact.absolute())
    if against_rev is not None:
        with checkout(against_rev) as (root, commit):
            old = new._replace(root=root, revision=commit)
            yield [new._replace(revision=own_revision()), old]
    elif against is not None:
        yield [new, Subject(Path(against).name, Path(against).absolute())]
    else:
        yield [new]


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
        message = f"revision {revision!r} has no folder {PACKAGE}"
        raise UsageError(message, remedy="compare with a later revision") from error
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
    # Options end before the revision, which could begin with a dash.
    asked = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    try:
        return _git(root, *asked).decode().strip()
    except subprocess.CalledProcessError as error:
        # Git's own words, where it could not even look.
        if lines := error.stderr.decode("utf-8", "replace").strip().splitlines():
            message = f"git cannot read this repository: {lines[0]}"
            raise UsageError(message, remedy="see git status") from error
    remedy = "git log shows those that are here; git fetch gets more"
    with contextlib.suppress(subprocess.CalledProcessError):
        if _git(root, "rev-parse", "--is-shallow-repository").strip() == b"true":
            remedy = "this clone is shallow: git fetch --deepen 1 gets one commit more"
    raise UsageError(f"no revision {revision!r} in this repository", remedy=remedy)


def _git(root: Path, *words: str) -> bytes:
    command = ("git", "-C", str(root), *words)
    try:
        return subprocess.run(command, check=True, capture_output=True).stdout
    except FileNotFoundError as error:
        raise UsageError("comparing revisions needs git", remedy="install git") from error
