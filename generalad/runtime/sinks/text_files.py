"""Where lines of text go: `PartFile` in a finite run, `LogFile` in an endless one, or stdout."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Protocol

from generalad import files
from generalad.errors import UsageError
from generalad.image_formats.accept import IMAGE_SUFFIXES
from generalad.printable import json_printable
from generalad.progress import Log, no_log
from generalad.runtime.names import utc_stamp
from generalad.runtime.sources import VIDEO_SUFFIXES

_NO_TEXT = IMAGE_SUFFIXES | VIDEO_SUFFIXES | {".onnx"}
"""Suffixes that text is not written to: the name was meant for something else."""

LOG_BYTES = 64 << 20
"""Size at which a log file is put aside and a new one begun."""

LOGS_KEPT = 16
"""Log files that are kept aside, the newest ones: about 1 GiB."""


class Lines(Protocol):
    """Where lines go."""

    lost: int
    """Lines that could not be written."""

    def append(self, line: str) -> None:
        """Write one line through to the operating system; raises StorageError."""

    def close(self, *, complete: bool) -> None:
        """End it; not complete: the run broke off."""


_ODD = "backslashreplace"
"""Names of files that are no UTF-8 become \\udc80, which in JSON stands for the same."""


class PartFile:
    """A text file that grows line by line beside its final name."""

    lost = 0

    def __init__(self, target: str, header: str | None = None) -> None:
        """Create the part.

        Raises:
            StorageError: it cannot be written.
            UsageError: the name is not for text, or another process writes it.
        """
        self._path = text_path(target)
        self._part = part_of(self._path)
        try:
            self._file = files.open_claimed(self._part)
            if self._file.seek(0, os.SEEK_END):  # of an earlier run; a device has no size
                self._file.truncate(0)
        except OSError as error:
            raise files.storage_error(error, self._path) from error
        if header is not None:
            self.append(header)

    def append(self, line: str) -> None:
        """Write one line through to the operating system."""
        try:
            _write_all(self._file, (line + "\n").encode(errors=_ODD))
        except OSError as error:
            raise files.storage_error(error, self._part) from error

    def close(self, *, complete: bool) -> None:
        """Take the final name if the run is complete, and close; in between nobody else has it."""
        if sys.platform == "win32":  # open files keep their names there
            self._file.close()
        try:
            if complete:
                rename_part(self._path)
        finally:
            self._file.close()


class LogFile:
    """A text file of an endless run: it is there from the start and goes on after a restart.

    At 64 MiB it is put aside as "results-20261125T071233.123Z.jsonl"; of these the newest 16 are
    kept. When a line cannot be written the run goes on: lines are counted as lost, which is said
    once and when it works again. Lines are whole: an older file that ends within one, as after a
    power failure, is put aside. A file that somebody renames or removes is begun anew.
    """

    def __init__(
        self,
        target: str,
        header: str | None = None,
        *,
        log: Log | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open or create it.

        Args:
            target: the file.
            header: first line of every file; an older file with another one is put aside.
            log: told in one line of what goes wrong.
            clock: seconds since 1970, for tests.

        Raises:
            StorageError: it cannot be written.
            UsageError: the name is not for text, or another process writes it.
        """
        self._path = text_path(target)
        self._header = b"" if header is None else header.encode() + b"\n"
        self._log = log or no_log
        self._clock = clock
        self._file: FileIO | None = None
        self.lost = 0
        """Lines that could not be written."""
        self._in_trouble = False
        try:
            self._file = self._open()
        except OSError as error:
            raise files.storage_error(error, self._path) from error

    def append(self, line: str) -> None:
        """Write one line through to the operating system, or count it as lost."""
        try:
            self._write((line + "\n").encode(errors=_ODD))
        except (OSError, UsageError) as error:
            self.lost += 1
            if not self._in_trouble:
                self._in_trouble = True
                known = (
                    files.storage_error(error, self._path) if isinstance(error, OSError) else error
                )
                message = known.message
                self._log(f"{message}; lines are lost until it can be written")
            return
        if self._in_trouble:
            self._in_trouble = False
            self._log(f"{self._path}: can be written again; {self.lost} lines were lost so far")

    def close(self, *, complete: bool) -> None:
        """Close it; the file has its name already."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, data: bytes) -> None:
        if self._file is None or not self._is_the_file(self._file):
            self.close(complete=True)
            self._file = self._open()
        if self._file.tell() >= LOG_BYTES:
            self._put_aside()
            self._file = self._open()
        _write_all(self._file, data)

    def _open(self) -> FileIO:
        """Go on with the file, unless it has another header or ends within a line."""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as found:
            begins_otherwise = found.readline() != self._header if self._header else False
            if found.seek(0, os.SEEK_END) > 0:
                found.seek(-1, os.SEEK_END)
                if begins_otherwise or found.read() != b"\n":
                    found.close()
                    self._put_aside()
        # Without a buffer: what is written is in the hands of the system, or an error.
        file = files.open_claimed(self._path)
        try:
            if file.seek(0, os.SEEK_END) == 0:
                _write_all(file, self._header)
        except OSError:
            file.close()
            raise
        return file

    def _is_the_file(self, file: FileIO) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _put_aside(self) -> None:
        self.close(complete=True)
        stem, suffix, folder = self._path.stem, self._path.suffix, self._path.parent
        os.replace(self._path, folder / f"{stem}-{utc_stamp(self._clock())}{suffix}")
        name = re.compile(re.escape(stem) + r"-\d{8}T\d{6}\.\d{3}Z" + re.escape(suffix))
        aside = sorted(path for path in folder.iterdir() if name.fullmatch(path.name))
        for old in aside[:-LOGS_KEPT]:
            old.unlink()


def _write_all(file: FileIO, data: bytes) -> None:
    """Append all of it or, on an error, nothing."""
    size, rest = file.tell(), memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(size)
            file.seek(size)
        raise


class StandardOutput:
    """Lines to standard output."""

    lost = 0

    def append(self, line: str) -> None:
        """Write one line through to whoever listens."""
        try:
            sys.stdout.write(json_printable(line.encode(errors=_ODD).decode()) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            raise  # the reader went away, as `| head` does: no failure of a disk
        except OSError as error:
            raise files.storage_error(error, Path("standard output")) from error

    def close(self, *, complete: bool) -> None:
        """Nothing to do."""


def part_of(path: Path) -> Path:
    """The name under which a file grows."""
    return path.with_name(f"{path.stem}.part{path.suffix}")


def rename_part(path: Path) -> None:
    """Give the part its final name; raises StorageError."""
    try:
        os.replace(part_of(path), path)
    except OSError as error:
        raise files.storage_error(error, path) from error


def text_path(target: str) -> Path:
    """A file for text, in a folder that is there; raises UsageError or StorageError."""
    path = Path(target)
    if path.is_dir() or path.suffix.lower() in _NO_TEXT:
        raise UsageError(f"{path}: expected the name of a text file such as results.jsonl")
    files.refuse_no_file(path)
    files.make_folder(path.parent)
    return path
