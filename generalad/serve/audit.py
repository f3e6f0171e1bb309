"""`Audit`: every decision of a person and every change of what decides, in a file that only grows.

Each entry is a line of JSON with the hash of the line before, so that a line that was changed or
removed in the middle is noticed. An entry is never taken back: undoing is an entry of its own.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from generalad.errors import ArtifactError, UsageError
from generalad.files import make_folder, open_claimed, sha256_of_bytes, storage_error

COLUMNS = ("number", "time", "by", "what", "subject", "before", "after", "undoes")
_FIRST = "0" * 64
_KEPT = 500
"""Entries that are held in memory, the newest ones."""


class Audit:
    """One file, held by one process; may be used from several threads."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open or make it, and check its chain.

        Raises:
            ArtifactError: lines were changed or removed.
            StorageError: it cannot be written.
            UsageError: another process has it, or it is no file of its own, but a link or a pipe.
        """
        make_folder(path.parent)
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise UsageError(
                f"{path}: expected a file, found a link or something else",
                remedy="remove it, or name another --state",
            )
        self._path, self._clock, self._lock = path, clock, threading.Lock()
        try:
            self._file = open_claimed(path)
        except OSError as error:
            raise storage_error(error, path) from error
        self._number, self._hash = 0, _FIRST
        self._entries: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        try:
            for entry, digest in self._checked():
                self._entries.append(entry)
                self._number, self._hash = entry["number"], digest
        except BaseException:
            self._file.close()
            raise

    def add(
        self,
        what: str,
        subject: str,
        *,
        before: Any = None,
        after: Any = None,
        by: str = "",
        undoes: int | None = None,
    ) -> dict[str, Any]:
        """Write an entry down, on the disk before this returns.

        Args:
            what: "verdict", "acknowledge", "threshold", "swap" or "rollback".
            subject: what it is about.
            before: JSON value that held until now.
            after: what holds from now on.
            by: who says so.
            undoes: number of the entry that this one takes back.

        Raises:
            StorageError: it cannot be written; then nothing is changed.
        """
        with self._lock:
            entry = {
                "number": self._number + 1,
                "time": self._clock(),
                "by": by,
                "what": what,
                "subject": subject,
                "before": before,
                "after": after,
                "undoes": undoes,
                "hash": self._hash,
            }
            line = json.dumps(entry).encode() + b"\n"
            place = os.lseek(self._file.fileno(), 0, os.SEEK_END)
            try:
                if self._file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._file.fileno())
            except OSError as error:
                os.ftruncate(self._file.fileno(), place)
                raise storage_error(error, self._path) from error
            self._number, self._hash = self._number + 1, sha256_of_bytes(line)
            self._entries.append(entry)
            return entry

    def entries(self) -> list[dict[str, Any]]:
        """The newest ones, newest first."""
        with self._lock:
            return list(reversed(self._entries))

    def undoable(self, number: int) -> dict[str, Any]:
        """The entry of a number, if it can be undone: the last one about its subject.

        Raises:
            UsageError: it cannot.
        """
        entries = self.entries()
        entry = next((one for one in entries if one["number"] == number), None)
        if entry is None:
            raise UsageError(f"there is no recent entry {number}")
        last = next(one for one in entries if _about(one) == _about(entry))
        if last is not entry:
            raise UsageError(
                f"entry {number} is not the last one about {entry['subject']}",
                remedy=f"undo entry {last['number']} first",
            )
        return entry

    def since(self, moment: float) -> list[dict[str, Any]]:
        """All entries from a moment on, oldest first, read from the file."""
        return [entry for entry in self._all() if entry["time"] >= moment]

    def to_csv(self) -> str:
        """All entries; texts that a spreadsheet would take for a formula have a ' before them."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for entry in self._all():
            writer.writerow([_cell(entry[name]) for name in COLUMNS])
        return text.getvalue()

    def close(self) -> None:
        """Leave it to others."""
        self._file.close()

    def _all(self) -> list[dict[str, Any]]:
        with self._lock:
            lines = self._path.read_bytes().splitlines()
        return [json.loads(line) for line in lines]

    def _checked(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Entries with the hashes of their lines; a last line that was cut off is removed."""
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        digest = _FIRST
        for number, line in enumerate(data[:whole].splitlines(keepends=True), start=1):
            try:
                entry = json.loads(line)
                right = entry["number"] == number and entry["hash"] == digest
            except (ValueError, KeyError, TypeError):
                right = False
            if not right:
                raise ArtifactError(
                    f"{self._path}: line {number} is not what was written",
                    remedy="keep the file as evidence, and name another --state",
                )
            digest = sha256_of_bytes(line)
            yield entry, digest
        # The power failed while it was written, so nobody was told that it is. Only now: a file
        # that is no trail stays as it was.
        if whole < len(data):
            os.ftruncate(self._file.fileno(), whole)


def _about(entry: dict[str, Any]) -> tuple[str, str]:
    """What an entry changes: a rollback changes what a swap does."""
    return "swap" if entry["what"] == "rollback" else entry["what"], entry["subject"]


def _cell(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") and isinstance(value, str) else text
