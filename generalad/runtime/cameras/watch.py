"""`WatchedFolder`: images that other programs write into a folder, each once and whole.

When is a file complete? JPEG, PNG, BMP and WebP tell their end, so one that decodes counts at once,
as do files that are renamed into place. Of the other formats, size and time must stay unchanged for
a moment. What is still no image after longer is handed out as an error, never left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.files import atomic_write, make_folder, storage_error
from generalad.preprocess import IMAGE_SUFFIXES, decode_image

_TELL_THEIR_END = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


@dataclass(frozen=True, eq=False)
class Arrived:
    """One image that has arrived, or the reason why it is none.

    Attributes:
        path: the file.
        name: its path relative to the folder, with "/".
        image: (H, W, 3) uint8 RGB, or None.
        error: why there is no image, or None.
        sha256: of the content, empty where it could not be read.
    """

    path: Path
    name: str
    image: NDArray[np.uint8] | None
    error: str | None
    sha256: str


@dataclass
class _Seen:
    """A file at the last look."""

    stamp: tuple[int, int]  # modification time in nanoseconds, size
    since: float
    tried: bool = False


class WatchedFolder:
    """A folder with its subfolders; hidden files and folders are left out.

    A file counts again when its content changes. With `memory`, also a new process leaves out what
    was `done`; what was handed out but not done is handed out again: at least once, never lost.
    """

    def __init__(
        self,
        folder: Path,
        *,
        memory: Path | None = None,
        settle: float = 1.0,
        give_up: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is read before `look`.

        Args:
            folder: which one.
            memory: a small file that remembers what is done; None forgets with the process.
            settle: seconds without a change after which a file counts as complete.
            give_up: seconds without a change after which what is no image is an error.
            clock: for tests.

        Raises:
            DataError: the memory is not one.
        """
        self.folder = Path(folder)
        self._memory = memory
        self._settle = settle
        self._give_up = max(settle, give_up)
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._handed_out: dict[str, str] = {}  # content by name
        if memory is not None and memory.exists():
            self._handed_out = _load(memory)
            _compact(memory, self._handed_out, self.folder)

    def look(self) -> Iterator[Arrived]:
        """What has become complete since the last look, by name.

        Raises:
            DataError: the folder is not there (any more); looking again later is fine.
        """
        if not self.folder.is_dir():
            raise DataError(f"{self.folder}: no such folder", remedy="check the path or the mount")
        names = sorted(_images(self.folder))
        for gone in self._seen.keys() - set(names):
            del self._seen[gone]
            self._handed_out.pop(gone, None)  # the same name later is another image
        for name in names:
            if (arrived := self._check(name)) is not None:
                self._handed_out[name] = arrived.sha256
                yield arrived

    def done(self, arrived: Arrived) -> None:
        """Remember it beyond this process; raises StorageError."""
        if self._memory is None:
            return
        make_folder(self._memory.parent)
        try:
            with self._memory.open("a", encoding="utf-8") as file:
                file.write(json.dumps([arrived.name, arrived.sha256]) + "\n")
        except OSError as error:
            raise storage_error(error, self._memory) from error

    def _check(self, name: str) -> Arrived | None:
        path, now = self.folder / name, self._clock()
        try:
            found = path.stat()
        except OSError:  # gone since it was listed
            return None
        stamp = (found.st_mtime_ns, found.st_size)
        seen = self._seen.get(name)
        if seen is None or seen.stamp != stamp:
            seen = self._seen[name] = _Seen(stamp, now)
            if path.suffix.lower() not in _TELL_THEIR_END:
                return None
            return self._read(path, name, seen, final=False)
        if seen.tried or now - seen.since < self._settle:
            return None
        return self._read(path, name, seen, final=now - seen.since >= self._give_up)

    def _read(self, path: Path, name: str, seen: _Seen, *, final: bool) -> Arrived | None:
        """The image if it is complete; `final` makes a failure an error."""
        data, image, error = b"", None, None
        try:
            data = path.read_bytes()
            image = decode_image(data, name=str(path))
        except DataError as failure:
            error = failure.message
        except OSError as failure:
            error = f"{path}: {failure.strerror}"
        if image is None and not final:
            return None
        seen.tried = True
        sha256 = hashlib.sha256(data).hexdigest() if data else ""
        # Copying programs set the time when all is written: the same content is the same image.
        if self._handed_out.get(name) == sha256:
            return None
        return Arrived(path, name, image, error, sha256)


def _images(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(parent, name)
            if path.suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                yield path.relative_to(folder).as_posix()


def _load(memory: Path) -> dict[str, str]:
    """Content by name; a last line that was cut off by a crash is not there."""
    lines = memory.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    try:
        return {str(name): str(sha256) for name, sha256 in map(json.loads, lines)}
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{memory}: does not remember a watched folder", remedy="name another file"
        ) from error


def _compact(memory: Path, known: dict[str, str], folder: Path) -> None:
    """Forget files that are gone, unless all of them are, as when the folder is not mounted."""
    kept = {name: sha256 for name, sha256 in known.items() if (folder / name).exists()}
    lines = [json.dumps([name, sha256]) + "\n" for name, sha256 in (kept or known).items()]
    with atomic_write(memory) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
