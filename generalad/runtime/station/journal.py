"""`Journal`: what a station must know after a kill: the ids it used and whom it owes an answer.

    station.json      ids up to which have been reserved, starts so far, the recipe in use
    station.journal   one line for each trigger, verdict and delivery since

Ids are reserved in blocks, and a block reaches the disk before the first of them is used, so none
is used twice even when the power fails. Lines are not forced to the disk: they survive a kill of
the process, and a power failure loses the last seconds of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from generalad.errors import StorageError
from generalad.files import make_folder, open_claimed, storage_error, write_json
from generalad.records import RecordError, from_json
from generalad.runtime.station.verdict import MAX_ID, Verdict

BLOCK = 10_000
"""Ids reserved at a time. The next block is reserved when half of one is left, so that a disk that
is full for half an hour stops no station of three parts a second."""

_LARGE = 4 << 20
"""Bytes after which the journal is written anew with what is still owed."""


@dataclasses.dataclass(frozen=True)
class _Head:
    reserved: int = 0
    started: int = 0
    clean: bool = True
    recipe: str = ""

    def __post_init__(self) -> None:
        if not (0 <= self.reserved <= MAX_ID and self.started >= 0):
            raise ValueError(f"reserved: expected 0 to {MAX_ID}")


class Journal:
    """One station's memory; whoever calls holds a lock."""

    def __init__(self, folder: Path, *, block: int = BLOCK) -> None:
        """Take the folder over, and count a start.

        Args:
            folder: is made if it is not there.
            block: ids reserved at a time.

        Raises:
            StorageError: it cannot be written.
            UsageError: another process has it.
        """
        make_folder(folder)
        self._head_file, self._lines_file = folder / "station.json", folder / "station.journal"
        self._block = block
        self._head_lock = threading.Lock()
        # Not the journal itself, which is replaced now and then.
        self._claim = _claimed(folder / "station.lock")
        try:
            head = _read_head(self._head_file, new=not self._lines_file.exists())
            owed = _read_lines(self._lines_file)
            highest = max([head.reserved, *owed])
            self.started, self.recipe = head.started + 1, head.recipe
            self.started_anew = not head.clean
            self.answered = [verdict for verdict in owed.values() if isinstance(verdict, Verdict)]
            """Verdicts that were given but perhaps not delivered, in order."""
            self.unanswered = [
                (id, part) for id, part in owed.items() if not isinstance(part, Verdict)
            ]
            """Ids and names of parts without a verdict, in order."""
            self._owed: dict[int, str | Verdict | None] = owed
            self._next = highest + 1
            self._reserved = highest
            self._reserve()
            self._file = self._write_anew()
        except BaseException:
            self._claim.close()
            raise
        self.problem = ""
        """Why the last line could not be written, on one line."""
        self.lost = 0
        """Lines that could not be written."""

    def next_id(self) -> int:
        """An id that was never used.

        Raises:
            StorageError: none is left, and no block can be reserved.
        """
        if self._next > self._reserved:
            self._reserve()
        id, self._next = self._next, self._next + 1
        return id

    def keep_ahead(self) -> None:
        """Reserve the next block in time; not with the lock of the station, as a disk is slow.

        Raises:
            StorageError: it cannot be written.
        """
        if self._reserved - self._next < self._block // 2:
            self._reserve()

    def triggered(self, id: int, part: str | None) -> None:
        """A part is owed a verdict from now on."""
        self._owed[id] = part
        self._append({"t": id, "part": part})

    def decided(self, verdict: Verdict) -> None:
        """The verdict is this one; it is owed to those who are to be told."""
        self._owed[verdict.id] = verdict
        self._append({"v": dataclasses.asdict(verdict)})

    def delivered(self, id: int) -> None:
        """All who are to be told have been told."""
        if self._owed.pop(id, self) is not self:
            self._append({"d": id})
        if self._size > _LARGE:
            with contextlib.suppress(StorageError):
                self._file, old = self._write_anew(), self._file
                old.close()

    def chose(self, recipe: str) -> None:
        """The recipe with which the next process begins; raises StorageError."""
        with self._head_lock:
            self.recipe = recipe
            self._write_head(clean=False)

    def close(self) -> None:
        """The process comes to its end: the next one goes on where this one ends."""
        try:
            self._reserved = self._next - 1
            with contextlib.suppress(StorageError):
                self._write_head(clean=True)
        finally:
            self._file.close()
            self._claim.close()

    def _reserve(self) -> None:
        with self._head_lock:
            top = self._next - 1 + self._block
            if top > MAX_ID:
                raise StorageError("all ids are used", remedy="choose another state folder")
            self._write_head(clean=False, reserved=top)
            self._reserved = top

    def _write_head(self, *, clean: bool, reserved: int | None = None) -> None:
        reserved = self._reserved if reserved is None else reserved
        head = _Head(reserved, self.started, clean, self.recipe)
        write_json(self._head_file, dataclasses.asdict(head))

    def _write_anew(self) -> FileIO:
        """A journal of what is still owed, in place of the old one."""
        lines = [
            _line(
                {"v": dataclasses.asdict(owed)}
                if isinstance(owed, Verdict)
                else {"t": id, "part": owed}
            )
            for id, owed in self._owed.items()
        ]
        temporary = self._lines_file.with_suffix(".part")
        try:
            # Not forced to the disk, which would hold up the parts that come meanwhile.
            temporary.write_bytes(b"".join(lines))
            os.replace(temporary, self._lines_file)
            self._size = sum(map(len, lines))
            return FileIO(self._lines_file, "ab")
        except OSError as error:
            raise storage_error(error, self._lines_file) from error

    def _append(self, entry: dict[str, Any]) -> None:
        """Without a buffer: what is written outlives a kill. A full disk is counted."""
        # Behind a line that was cut off, the first one begins anew.
        line = b"\n" * bool(self.problem) + _line(entry)
        try:
            if self._file.write(line) != len(line):
                raise OSError(28, os.strerror(28))
            self._size += len(line)
            self.problem = ""
        except OSError as error:
            self.lost += 1
            self.problem = storage_error(error, self._lines_file).message


def _claimed(path: Path) -> FileIO:
    try:
        return open_claimed(path)
    except OSError as error:
        raise storage_error(error, path) from error


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=True).encode() + b"\n"


def _read_head(path: Path, *, new: bool) -> _Head:
    """What the process before left. Without it nobody knows which ids are used."""
    try:
        return from_json(path.read_bytes(), _Head)
    except (OSError, RecordError) as error:
        if new and isinstance(error, FileNotFoundError):
            return _Head()
        raise StorageError(
            f"{path} cannot be read: {error}",
            remedy="put it back from a copy, or choose another state folder: ids begin anew there",
        ) from error


def _read_lines(path: Path) -> dict[int, str | Verdict | None]:
    """What is owed by a journal, by id; lines that were cut off or damaged are left out."""
    owed: dict[int, str | Verdict | None] = {}
    for entry in _entries(path):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            if "t" in entry:
                owed[_id(entry["t"])] = _text(entry["part"])
            elif "v" in entry:
                # What a newer version says, and this one cannot read, is answered like a restart.
                owed.setdefault(_id(entry["v"]["id"]), _text(entry["v"].get("part")))
                verdict = from_json(json.dumps(entry["v"]), Verdict)
                # Another process's monotonic clock means nothing here; the time it took stays.
                took, now = verdict.decided - verdict.triggered, time.monotonic()
                verdict = dataclasses.replace(verdict, triggered=now - took, decided=now)
                owed[verdict.id] = verdict
            elif "d" in entry:
                owed.pop(_id(entry["d"]), None)
    return dict(sorted(owed.items()))


def _id(value: Any) -> int:
    """Raises ValueError where it is none: the ids of a damaged line are not to be counted from."""
    if type(value) is not int or not 1 <= value <= MAX_ID:
        raise ValueError("no id")
    return value


def _text(value: Any) -> str | None:
    """The name of a part; what no PLC and no file could be given is none."""
    if not isinstance(value, str) or value.encode(errors="ignore").decode() != value:
        return None
    return value


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage_error(error, path) from error
    for line in lines:
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                yield entry
