"""Files that appear whole or not at all, and the hashes that identify them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import IO, Any

from generalad.errors import ArtifactError, StorageError, UsageError


def storage_error(error: OSError, path: Path) -> StorageError:
    """The one-line form of a failed write to `path`, with its remedy."""
    reason, remedy = {
        errno.ENOSPC: ("the disk is full", "free some space or choose another place"),
        errno.EDQUOT: ("the disk quota is used up", "free some space or choose another place"),
        errno.EACCES: ("no permission to write", "choose a place you may write to"),
        errno.EPERM: ("no permission to write", "choose a place you may write to"),
        errno.EROFS: ("the file system is read-only", "choose a place you may write to"),
        errno.ENOTDIR: ("a part of the path is a file", "choose another place"),
        errno.EEXIST: ("a file of that name is in the way", "choose another place"),
    }.get(error.errno or 0, (error.strerror or str(error), "check the path"))
    return StorageError(f"cannot write {path}: {reason}", remedy=remedy)


def make_folder(path: Path) -> Path:
    """Create `path` with its parents; an existing folder is fine."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error
    return path


def refuse_no_file(path: Path) -> None:
    """Refuse an output that is a pipe or a device: it would be replaced by a file, or never end.

    Raises:
        StorageError: it is there, and is neither a file nor a folder.
    """
    with contextlib.suppress(OSError):
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise StorageError(
                f"cannot write {path}: a pipe, a device or a socket, expected a file",
                remedy="name a file; results go to standard output where none is named",
            )


def check_writable(path: Path) -> None:
    """Refuse before long work what could not be written after it; makes the folder of `path`.

    Raises:
        StorageError: nothing can be written beside `path`, or it is a folder.
    """
    import tempfile  # not at the start of every command

    make_folder(path.parent)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise storage_error(error, path) from error


def check_place(folder: Path) -> None:
    """Refuse before long work a folder that could not be written to; nothing is made.

    Raises:
        StorageError: it, or the first folder above it that exists, is read-only.
    """
    existing = next((path for path in (folder, *folder.absolute().parents) if path.exists()), None)
    if existing is not None and not os.access(existing, os.W_OK):
        raise storage_error(PermissionError(errno.EACCES, "no permission"), folder)


def claim(file: IO[Any], path: Path, *, remedy: str) -> None:
    """Hold an open file for this process as long as it stays open, also against a kill.

    Raises:
        UsageError: another process holds it; the message names `path`.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            raise UsageError(f"{path} is written by another process", remedy=remedy) from error
        # Some network file systems know no locks.


def open_claimed(path: Path) -> FileIO:
    """Open a file for appending, without a buffer, and hold it, see `claim`.

    Raises:
        OSError: it cannot be opened.
        UsageError: another process holds it.
    """
    while True:
        file = FileIO(path, "a+")
        try:
            claim(file, path, remedy="wait for its end, or choose another name")
            # Between the two the other process may have given it its final name.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed over `path`.

    The temporary keeps the suffix of `path`, because some writers choose their format by it. After
    an exception, or a kill at any moment, `path` is what it was before.
    """
    path = Path(path)
    refuse_no_file(path)
    make_folder(path.parent)
    # Names may be 255 bytes long, 4 a letter, and this one is longer than that of `path`.
    temporary = path.with_name(f".{path.stem[:50]}.{os.urandom(4).hex()}.part{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


_PIPE_WITHIN = 10.0  # seconds
_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
"""How a file is opened that may be a pipe, without waiting for its other end."""


def read_file(path: Path, most: int = 100_000_000) -> bytes:
    """The content of a small file, at most one byte more than `most`.

    Of a pipe, as a shell makes one of `<(command)`, it is what comes out of it: one into which
    nobody writes must not hold up a command for ever.

    Raises:
        OSError: it cannot be read, or for 10 s nothing came out of a pipe.
    """
    if sys.platform == "win32":
        with path.open("rb") as file:
            return file.read(most + 1)
    descriptor = os.open(path, os.O_RDONLY | _NO_WAIT)
    with os.fdopen(descriptor, "rb") as file:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return file.read(most + 1)
        import select  # for pipes alone

        found = bytearray()
        while len(found) <= most:
            if not select.select([descriptor], [], [], _PIPE_WITHIN)[0]:
                why = f"nothing comes out of this pipe in {_PIPE_WITHIN:.0f} s"
                raise TimeoutError(errno.ETIMEDOUT, why)
            part = os.read(descriptor, 1 << 16)
            if not part:
                break
            found += part
        return bytes(found[: most + 1])


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN is refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file that this project wrote."""
    try:
        return json.loads(read_file(path).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # no JSON, no UTF-8, nested too deeply
        raise ArtifactError(f"cannot read {path}: {error}") from error


def sha256_of_bytes(data: bytes) -> str:
    """Hex SHA-256 of `data`."""
    import hashlib  # not at the start of every command

    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hex SHA-256 of a regular file, read in blocks; a pipe or a device is an OSError."""
    import hashlib

    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | _NO_WAIT)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "a pipe, a device or a folder, expected a file")
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def cache_folder() -> Path:
    """For what can be made again: `$GAD_CACHE`, or `generalad` in the user's cache folder."""
    if chosen := os.environ.get("GAD_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "generalad"
