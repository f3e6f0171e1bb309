"""`BoundedFolder`: entries that appear whole, and of which the oldest go when there are too many.

An entry is a file or a folder. It is written under a hidden name that ends in ".part" and renamed
when it is whole; it goes the other way round. What a killed process left half-way is removed by the
next one. When an entry cannot be written (disk full, folder gone), the run goes on: that is counted
and said once, every further entry tries again, and that it works again is said too.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from generalad.errors import StorageError, UsageError
from generalad.files import claim, make_folder, storage_error
from generalad.progress import Log, no_log

_LOOK_AGAIN = 60.0  # seconds between looks for entries that have become too old


@dataclass(frozen=True)
class Bounds:
    """What a folder may hold; None does not bound.

    Attributes:
        number: of entries.
        bytes: of their content.
        age: in seconds, since an entry was written.
    """

    number: int | None = None
    bytes: int | None = None
    age: float | None = None

    def __post_init__(self) -> None:
        for name in ("number", "bytes", "age"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"expected a bound above 0 for {name}, found {value}")


@dataclass(frozen=True)
class FolderStatus:
    """A folder at one moment.

    Attributes:
        path: which one.
        kept: entries in it.
        bytes: of their content.
        removed: entries removed in this run because of the bounds.
        not_kept: entries of this run that could not be written.
        problem: why the last one could not be, None if it could.
    """

    path: Path
    kept: int
    bytes: int
    removed: int
    not_kept: int
    problem: str | None


class _Entry(NamedTuple):
    time: float  # when it was written, seconds since 1970
    bytes: int


class BoundedFolder:
    """A folder that one process writes into, in one thread; `status` may be read by any."""

    def __init__(
        self,
        path: Path,
        pattern: str,
        bounds: Bounds,
        *,
        sync: bool = True,
        log: Log | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is touched before `open`.

        Args:
            path: of the folder.
            pattern: regular expression of the entries' names; what does not match is left alone.
            bounds: the oldest entries go first.
            sync: entries survive a power failure too, at the price of waiting for the disk.
            log: told when writing fails, when it works again, and of the first entry removed.
            clock: seconds since 1970, for tests.
        """
        self.path = path
        self._pattern = re.compile(pattern)
        self._bounds = bounds
        self._sync = sync
        self._log = log or no_log
        self._clock = clock
        self._lock: IO[str] | None = None
        self._entries: dict[str, _Entry] = {}  # oldest first
        self._bytes = self._removed = self._not_kept = 0
        self._problem: str | None = None
        self._looked = 0.0

    @property
    def status(self) -> FolderStatus:
        """Counts of this moment."""
        return FolderStatus(
            path=self.path,
            kept=len(self._entries),
            bytes=self._bytes,
            removed=self._removed,
            not_kept=self._not_kept,
            problem=self._problem,
        )

    def open(self) -> None:
        """Take the folder over: make it, remove leftovers, count what is there, apply the bounds.

        Raises:
            StorageError: it cannot be made or written.
            UsageError: another process has it.
        """
        make_folder(self.path)
        try:
            self._lock = lock_folder(self.path / ".lock")
            found = []
            for item in list(os.scandir(self.path)):
                if item.name.startswith(".") and item.name.endswith(".part"):
                    _remove(Path(item.path))
                elif self._pattern.fullmatch(item.name):
                    found.append((item.stat().st_mtime, item.name, _size(Path(item.path))))
        except OSError as error:
            self.close()
            raise storage_error(error, self.path) from error
        self._entries = {name: _Entry(written, size) for written, name, size in sorted(found)}
        self._bytes = sum(entry.bytes for entry in self._entries.values())
        self._looked = -_LOOK_AGAIN
        self.expire()

    def add(self, name: str, write: Callable[[Path], None]) -> bool:
        """Write an entry.

        Args:
            name: matches the pattern; no other entry has it.
            write: makes the file or folder at the path it is given, and nothing beside it.

        Returns:
            Whether it was kept.
        """
        try:
            size = self._write(name, write)
        except (OSError, StorageError) as error:
            self._not_kept += 1
            if isinstance(error, OSError):
                error = storage_error(error, self.path)
            self._in_trouble(error)
            return False
        self._forget(name)
        self._entries[name] = _Entry(self._clock(), size)
        self._bytes += size
        if self._problem is not None:
            self._problem = None
            self._log(f"{self.path}: can be written again")
        return True

    def expire(self) -> None:
        """Remove what has become too old; cheap enough to be called with every frame."""
        if 0 <= self._clock() - self._looked < _LOOK_AGAIN:
            return
        try:
            self._make_room(0, 0)
        except OSError as error:
            self._in_trouble(storage_error(error, self.path))

    def close(self) -> None:
        """Leave the folder to others."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _write(self, name: str, write: Callable[[Path], None]) -> int:
        temporary = self.path / f".{name}.part"
        try:
            write(temporary)
            size = _size(temporary)
            if self._sync:
                _sync(temporary)
            self._make_room(1, size)
            os.replace(temporary, self.path / name)
            with contextlib.suppress(OSError):  # it is there, whole
                if self._sync:
                    _sync_names(self.path)
        finally:
            _remove(temporary)
        return size

    def _make_room(self, number: int, size: int) -> None:
        """Remove the oldest entries until so many more, of so many bytes together, fit."""
        bounds, self._looked = self._bounds, self._clock()
        if bounds.bytes is not None and size > bounds.bytes:
            raise StorageError(
                f"{self.path}: {size} bytes are more than its bound of {bounds.bytes}",
                remedy="allow more",
            )
        failed: OSError | None = None
        for name, entry in list(self._entries.items()):
            too_old = bounds.age is not None and self._looked - entry.time > bounds.age
            if self._fits(number, size) and not too_old:
                return
            try:
                self._drop(name)
            except OSError as error:  # such as one that a viewer holds open: the next one goes
                failed = error
        if failed is not None and not self._fits(number, size):
            raise failed

    def _fits(self, number: int, size: int) -> bool:
        bounds = self._bounds
        few = bounds.number is None or len(self._entries) + number <= bounds.number
        return few and (bounds.bytes is None or self._bytes + size <= bounds.bytes)

    def _drop(self, name: str) -> None:
        gone = self.path / f".{name}.gone.part"
        try:
            os.replace(self.path / name, gone)
        except FileNotFoundError:  # somebody else removed it
            self._forget(name)
            return
        self._forget(name)
        _remove(gone)
        self._removed += 1
        if self._removed == 1:
            self._log(f"{self.path}: its bound is reached, the oldest entries are removed")

    def _forget(self, name: str) -> None:
        entry = self._entries.pop(name, None)
        self._bytes -= entry.bytes if entry else 0

    def _in_trouble(self, error: StorageError) -> None:
        if self._problem is None:
            self._log(f"{error.message}; it is tried again with every entry")
        self._problem = error.message


def lock_folder(path: Path) -> IO[str]:
    """Hold a folder for this process by a file in it, as long as that is open.

    Raises:
        OSError: it cannot be opened.
        UsageError: another process holds the folder.
    """
    file = path.open("a", encoding="utf-8")
    try:
        claim(file, path.parent, remedy="choose another folder")
    except UsageError:
        file.close()
        raise
    return file


def _files(path: Path) -> list[Path]:
    return list(path.iterdir()) if path.is_dir() else [path]


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in _files(path))


def _sync(path: Path) -> None:
    for file in _files(path):
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())
    if path.is_dir():
        _sync_names(path)


def _sync_names(folder: Path) -> None:
    """Make renames in a folder survive a power failure, where the system knows how."""
    if sys.platform != "win32":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _remove(path: Path) -> None:
    """Remove a file or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
