"""A training run's folder: whose it is, who works in it, and what is left of an earlier attempt."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from generalad.errors import ArtifactError, StorageError, UsageError
from generalad.files import make_folder, read_json, storage_error, write_json

RUN_FILE = "run.json"
CHECKPOINT_FILE = "checkpoint.safetensors"


@contextlib.contextmanager
def claimed(folder: Path, identity: dict[str, Any]) -> Iterator[None]:
    """Hold `folder` for the run described by `identity`.

    The same run may come back to its folder, another one may not, and two processes never work in
    it at the same time.

    Raises:
        UsageError: the folder belongs to another run, holds something else, or has a name that
            files of weights cannot lie under.
        ArtifactError: the record of the run is damaged.
        StorageError: the folder cannot be written, or another process works in it.
    """
    _check_name(folder)
    make_folder(folder)
    _check_owner(folder, identity)  # before anything is written there
    lock = filelock.FileLock(folder / ".lock", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise StorageError(
            f"another process is training in {folder}",
            remedy="wait for it, or choose another --out",
        ) from error
    except OSError as error:
        raise storage_error(error, folder) from error
    try:
        _check_owner(folder, identity)  # once more: another process may have been faster
        if not (folder / RUN_FILE).exists():
            write_json(folder / RUN_FILE, identity)
        yield
    finally:
        lock.release()


def _check_name(folder: Path) -> None:
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{folder}: the name is no UTF-8, which files of weights need",
            remedy="choose another --out",
        ) from error


def _check_owner(folder: Path, identity: dict[str, Any]) -> None:
    path = folder / RUN_FILE
    if path.exists():
        before = read_json(path)
        if not isinstance(before, dict):
            raise ArtifactError(f"{path} is damaged", remedy="delete that folder")
        changed = [key for key in identity if before.get(key) != identity[key]]
        if changed:
            raise UsageError(
                f"{folder} belongs to a run with other {_differences(before, identity, changed)}",
                remedy="choose another --out, or delete that folder",
            )
        return
    foreign = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    if foreign:
        raise UsageError(
            f"{folder} is not empty and holds no training run ({foreign[0]} …)",
            remedy="choose another --out",
        )


def _differences(before: dict[str, Any], now: dict[str, Any], keys: list[str]) -> str:
    parts = []
    for key in keys:
        old, new = before.get(key), now[key]
        if isinstance(old, dict) and isinstance(new, dict):
            inner = [name for name in new if old.get(name) != new[name]]
            parts += [f"{name} ({old.get(name)} there, {new[name]} here)" for name in inner]
        else:
            parts.append(key.replace("_", " "))
    return ", ".join(parts)
