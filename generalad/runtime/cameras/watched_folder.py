"""`WatchedFolder`: images that other programs write into a folder, each once and whole.

When is a file complete? JPEG, PNG, BMP and WebP tell their end, so one that decodes counts at once,
as do files that are renamed into place. Of the other formats, size and time must stay unchanged for
a moment. What is still no image after longer is handed out as an error, never left out.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.files import atomic_write, make_folder, storage_error
from generalad.listing import list_files
from generalad.preprocess import decode_image, read_bytes
from generalad.runtime.notification import Notification
from generalad.runtime.sources import Frame, LiveSourceMixin, State, Status

_POLL_EVERY = 0.2  # seconds
_COMPLETE_AFTER = 1.0
"""Seconds without a change after which a file counts as complete."""
_GIVE_UP_AFTER = 10.0
"""Seconds without a change after which what is no image is an error."""
_TELL_THEIR_END = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


@dataclass
class _Seen:
    """A file at the last poll."""

    stamp: tuple[int, int]  # modification time in nanoseconds, size
    since: float
    tried: bool = False


class WatchedFolder(LiveSourceMixin):
    """A folder with its subfolders as a live source; hidden files and folders are left out.

    A file counts again when its content changes. With a `journal`, also a new process leaves out
    what is done; what was handed out but is not done is handed out again: at least once, never
    lost.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str | None = None,
        journal: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is read before `read` or `poll`.

        Args:
            folder: which one; it may appear later, or go away for a while.
            name: what results and notifications call it; None takes "watch:FOLDER".
            journal: a small file that remembers what is done; None forgets with the process.
            clock: for tests.

        Raises:
            DataError: the journal is not one.
        """
        self.address = name or f"watch:{folder}"
        self.folder: Path | None = folder
        self._folder = folder
        self._journal = journal
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._content: dict[str, str] = {}  # SHA-256 of what was handed out, by name
        if journal is not None and journal.exists():
            self._content = _load(journal)
            _compact(journal, self._content, folder)
        self._busy_since: float | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._state, self._reason, self._since = State.CONNECTING, "", clock()
        self._captured = self._processed = self._reconnects = 0
        self._dropped: Counter[str] = Counter()
        self._in_flight: dict[int, tuple[str, str]] = {}  # name and SHA-256 by index
        self._size: tuple[int, int] | None = None

    def read(self) -> Iterator[Frame | Notification]:
        """See `LiveSource`; ends after `stop`."""
        while not self._stop.is_set():
            try:
                for frame in self.poll():
                    yield from self._enter(State.LIVE, "")
                    yield frame
                    if self._stop.is_set():
                        break
                yield from self._enter(State.LIVE, "")
            except DataError as error:
                yield from self._enter(State.RECONNECTING, error.message)
            self._stop.wait(_POLL_EVERY)
        yield from self._enter(State.ENDED, "closed")

    @property
    def busy(self) -> float:
        """Seconds that it has been at one file."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def poll(self) -> Iterator[Frame]:
        """What has become complete since the last poll, by name.

        Raises:
            DataError: the folder is not there (any more); polling again later is fine.
        """
        if not self._folder.is_dir():
            raise DataError(f"{self._folder}: no such folder", remedy="check the path or the mount")
        names = [path.as_posix() for path in list_files(self._folder).named_images]
        for gone in self._seen.keys() - set(names):
            del self._seen[gone]
            self._content.pop(gone, None)  # the same name later is another image
        for name in names:
            self._busy_since = time.monotonic()
            frame = self._check(name)
            self._busy_since = None
            if frame is not None:
                yield frame

    def done(self, frame: Frame, *, dropped: str | None = None) -> None:
        """See `LiveSource`; raises StorageError when it cannot be remembered."""
        with self._lock:
            entry = self._in_flight.pop(frame.index, None)
            if entry is None:
                return
            if dropped is None:
                self._processed += 1
            else:
                self._dropped[dropped] += 1
        if self._journal is None:
            return
        make_folder(self._journal.parent)
        try:
            with self._journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise storage_error(error, self._journal) from error

    def status(self) -> Status:
        """See `LiveSource`."""
        with self._lock:
            return Status(
                state=self._state,
                reason=self._reason,
                since=self._since,
                captured=self._captured,
                processed=self._processed,
                dropped=dict(self._dropped),
                in_flight=len(self._in_flight),
                attempts=1,
                reconnects=self._reconnects,
                fps=0.0,
                resolution=self._size,
            )

    def stop(self) -> None:
        """See `LiveSource`; images that were not handed out are found by the next run."""
        self._stop.set()

    def _check(self, name: str) -> Frame | None:
        """The image of a file if it is complete and was not handed out before."""
        path, now = self._folder / name, self._clock()
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
            return self._load_image(path, name, seen, final=False)
        if seen.tried or now - seen.since < _COMPLETE_AFTER:
            return None
        return self._load_image(path, name, seen, final=now - seen.since >= _GIVE_UP_AFTER)

    def _load_image(self, path: Path, name: str, seen: _Seen, *, final: bool) -> Frame | None:
        """The image if it is complete; `final` makes a failure an error."""
        data, image, error = b"", None, None
        try:
            data = read_bytes(path)
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
        if self._content.get(name) == sha256:
            return None
        self._content[name] = sha256
        return self._frame(path, name, sha256, image, error)

    def _frame(
        self, path: Path, name: str, sha256: str, image: NDArray[np.uint8] | None, error: str | None
    ) -> Frame:
        """Count an image and hand it out."""
        with self._lock:
            index = self._captured
            self._captured += 1
            self._in_flight[index] = name, sha256
            if image is not None:
                self._size = (image.shape[0], image.shape[1])
        return Frame(
            source=self.address,
            index=index,
            time=time.time(),
            path=str(path),
            name=name,
            image=image,
            error=error,
        )

    def _enter(self, state: State, reason: str) -> Iterator[Notification]:
        with self._lock:
            if (state, reason) == (self._state, self._reason):
                return
            self._reconnects += self._state is State.RECONNECTING and state is State.LIVE
            self._state, self._reason, self._since = state, reason, self._clock()
        data = {"state": state.value, "reason": reason}
        yield Notification("camera", self.address, time.time(), data)


def _load(journal: Path) -> dict[str, str]:
    """SHA-256 by name; a last line that was cut off by a crash is not there."""
    lines = journal.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    try:
        return {str(name): str(sha256) for name, sha256 in map(json.loads, lines)}
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(
            f"{journal}: does not remember a watched folder", remedy="name another file"
        ) from error


def _compact(journal: Path, known: dict[str, str], folder: Path) -> None:
    """Forget files that are gone, unless all of them are, as when the folder is not mounted."""
    kept = {name: sha256 for name, sha256 in known.items() if (folder / name).exists()}
    lines = [json.dumps([name, sha256]) + "\n" for name, sha256 in (kept or known).items()]
    with atomic_write(journal) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
