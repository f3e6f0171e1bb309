"""What a watched folder remembers between processes: the content of what is done, by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from generalad.errors import DataError
from generalad.files import atomic_write, make_folder, storage_error


def load(journal: Path) -> dict[str, str]:
    """SHA-256 by name; a last line that was cut off by a crash is not there."""
    lines = journal.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    try:
        return {str(name): str(sha256) for name, sha256 in map(json.loads, lines)}
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(
            f"{journal}: does not remember a watched folder", remedy="name another file"
        ) from error


def append(journal: Path, name: str, sha256: str) -> None:
    """Remember a file; raises StorageError."""
    make_folder(journal.parent)
    try:
        with journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, sha256]) + "\n")
    except OSError as error:
        raise storage_error(error, journal) from error


def compact(journal: Path, known: Mapping[str, str], folder: Path) -> None:
    """Forget files that are gone, unless all of them are, as when the folder is not mounted."""
    kept = {name: sha256 for name, sha256 in known.items() if (folder / name).exists()}
    lines = [json.dumps([name, sha256]) + "\n" for name, sha256 in (kept or known).items()]
    with atomic_write(journal) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
