"""`WatchedFolder`: images that other programs write into a folder, each once and whole.

When is a file complete? JPEG, PNG, BMP and WebP tell their end, so one that decodes counts at once,
as do files that are renamed into place. Of the other formats, size and time must stay unchanged for
a moment, and so of files that end in zeros, whose size may have been set before they were written.
What is still no image after longer is handed out as an error, never left out, and so are files that
are images by their content alone.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.listing import list_files, may_hold_images, unnamed_images
from generalad.preprocess import decode_image, read_bytes
from generalad.runtime.cameras import watch_journal
from generalad.runtime.notification import Notification
from generalad.runtime.sources import VIDEO_SUFFIXES, Frame, LiveSourceMixin, State, Status

_POLL_EVERY = 0.2  # seconds
_COMPLETE_AFTER = 1.0
"""Seconds without a change after which a file counts as complete."""
_GIVE_UP_AFTER = 10.0
"""Seconds without a change after which what is no image is an error."""
_TELL_THEIR_END = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
_UNWRITTEN = bytes(64)
"""How a file ends whose size was set before all was written."""
_COARSE = 2.5
"""Seconds in which a file system that knows whole seconds only gives two contents one time."""


@dataclass
class _Seen:
    """A file at the last poll.

    Attributes:
        stamp: times of its content and of its name in nanoseconds, and its size.
        inode: 0 where the system has none.
        since: when it had this stamp first.
        wait: seconds without a change after which it is looked at.
        tried: whether it was handed out, or needs not be.
    """

    stamp: tuple[int, int, int]
    inode: int
    since: float
    wait: float
    tried: bool = False

    def is_same_file(self, other: _Seen) -> bool:
        """Whether it may be the other one under a new name."""
        mine, others = self.stamp, other.stamp
        return self.inode == other.inode != 0 and (mine[0], mine[2]) == (others[0], others[2])


class WatchedFolder(LiveSourceMixin):
    """A folder with its subfolders as a live source; hidden files and folders are left out.

    A file counts again when its content changes, and not when it is renamed. With a `journal`, also
    a new process leaves out what is done; what was handed out but is not done is handed out again:
    at least once, never lost.
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
            self._content = watch_journal.load(journal)
            watch_journal.compact(journal, self._content, folder)
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
        found = list_files(self._folder)
        images = [path.as_posix() for path in found.named_images]
        others = sorted({path.as_posix() for path in found.others}.difference(images))
        gone = {name: self._seen.pop(name) for name in self._seen.keys() - {*images, *others}}
        left = {self._content.pop(name, ""): seen for name, seen in gone.items()}
        for name in images:
            self._busy_since = time.monotonic()
            frame = self._check(name, left)
            self._busy_since = None
            if frame is not None:
                yield frame
        for name in others:
            frame = self._check_other(name)
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
        if self._journal is not None:
            watch_journal.append(self._journal, *entry)

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

    def _check(self, name: str, left: Mapping[str, _Seen]) -> Frame | None:
        """The image of a file if it is complete and was not handed out before.

        Args:
            name: of the file.
            left: files that were there at the last poll and no longer are, by their SHA-256.
        """
        path, now = self._folder / name, self._clock()
        try:
            found = path.stat() if path.exists() else path.lstat()  # a link that leads nowhere
        except OSError:  # gone since it was listed
            return None
        seen = self._seen.get(name)
        if seen is None or seen.stamp != _stamp(found):
            wait = _COMPLETE_AFTER
            if path.suffix.lower() in _TELL_THEIR_END:
                # Of what is written over what was there, the end may be that of before.
                again = seen is not None and name in self._content and seen.inode == found.st_ino
                wait = _POLL_EVERY / 2 if again else 0.0
            seen = self._seen[name] = _Seen(_stamp(found), found.st_ino, now, wait)
        if (seen.tried and not _is_coarse(found)) or now - seen.since < seen.wait:
            return None
        return self._load_image(path, name, seen, left)

    def _load_image(
        self, path: Path, name: str, seen: _Seen, left: Mapping[str, _Seen]
    ) -> Frame | None:
        """The image if it is complete; after a while a failure is an error."""
        data, sha256, image, error = b"", "", None, None
        unchanged = self._clock() - seen.since
        try:
            data = read_bytes(path)
            sha256 = hashlib.sha256(data).hexdigest()
            # Copying programs set the time when all is written: the same content is the same image.
            if self._content.get(name) == sha256:
                seen.tried = True
                return None
            image = decode_image(data, name=str(path))
        except DataError as failure:
            error = failure.message
        except OSError as failure:
            error = f"{path}: {failure.strerror}"
        unwritten = data.endswith(_UNWRITTEN) and unchanged < _COMPLETE_AFTER
        if unwritten or (image is None and unchanged < _GIVE_UP_AFTER):
            seen.wait, seen.tried = max(seen.wait, _COMPLETE_AFTER), False
            return None
        seen.tried = True
        if not sha256 and self._content.get(name) == sha256:  # it still cannot be opened
            return None
        self._content[name] = sha256
        if sha256 in left and sha256 and seen.is_same_file(left[sha256]):
            self._remember(name, sha256)
            return None
        return self._frame(path, name, sha256, image, error)

    def _remember(self, name: str, sha256: str) -> None:
        """That a file has a new name; while it is not done, that is not said."""
        with self._lock:
            in_flight = sha256 in {entry[1] for entry in self._in_flight.values()}
        if self._journal is not None and not in_flight:
            watch_journal.append(self._journal, name, sha256)

    def _check_other(self, name: str) -> Frame | None:
        """An error if a file is an image by its content, or a video, and stays as it is."""
        path, now = self._folder / name, self._clock()
        try:
            found = path.stat()
        except OSError:
            return None
        seen = self._seen.get(name)
        if seen is None or seen.stamp != _stamp(found):
            seen = self._seen[name] = _Seen(_stamp(found), 0, now, _GIVE_UP_AFTER)
        if seen.tried or now - seen.since < seen.wait:
            return None
        seen.tried = True
        if path.suffix.lower() in VIDEO_SUFFIXES:
            error = f"{path}: a video, expected an image"
        elif unnamed_images(self._folder, [Path(name)]):
            error = f"{path}: an image by its content, not by its name"
        elif may_hold_images([path]):
            error = f"{path}: an array, archive or stream, which may hold images, expected an image"
        else:
            return None
        known = f"{found.st_mtime_ns}, {found.st_size}"  # videos are large
        if self._content.get(name) == known:
            return None
        self._content[name] = known
        return self._frame(path, name, known, None, error)

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


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _is_coarse(found: os.stat_result) -> bool:
    """Whether a file may get another content without another time."""
    return found.st_mtime_ns % 10**9 == 0 and abs(time.time() - found.st_mtime) < _COARSE
