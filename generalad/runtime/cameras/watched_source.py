"""`WatchedSource`: a watched folder as a source of `infer`."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from generalad.errors import DataError
from generalad.runtime.cameras.source import FramesAlone
from generalad.runtime.cameras.state import State, Status
from generalad.runtime.cameras.watch import Arrived, WatchedFolder
from generalad.runtime.notification import Notification
from generalad.runtime.sources import Frame

_LOOK_EVERY = 0.2


class WatchedSource(FramesAlone):
    """Images that other programs write into a folder, each once; none is left out."""

    def __init__(
        self, folder: Path, *, name: str | None = None, memory: Path | None = None
    ) -> None:
        """Watch a folder.

        Args:
            folder: with its subfolders; it may appear later, or go away for a while.
            name: what results and notifications call it; None takes "watch:FOLDER".
            memory: a file that remembers what is done, also for the next run; None forgets.
        """
        self.address = name or f"watch:{folder}"
        self.folder: Path | None = folder
        self._watched = WatchedFolder(folder, memory=memory)
        self._handed_out: dict[int, Arrived] = {}
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._state, self._reason, self._since = State.CONNECTING, "", time.monotonic()
        self._captured = self._processed = self._returns = 0
        self._dropped: Counter[str] = Counter()
        self._size: tuple[int, int] | None = None

    def read(self) -> Iterator[Frame | Notification]:
        """See `LiveSource`; ends after `stop`."""
        while not self._stop.is_set():
            try:
                for arrived in self._watched.look():
                    yield from self._enter(State.LIVE, "")
                    yield self._frame(arrived)
                    if self._stop.is_set():
                        break
                yield from self._enter(State.LIVE, "")
            except DataError as error:
                yield from self._enter(State.RECONNECTING, error.message)
            self._stop.wait(_LOOK_EVERY)
        yield from self._enter(State.ENDED, "closed")

    def settle(self, frame: Frame, *, dropped: str | None) -> None:
        """See `LiveSource`; raises StorageError when it cannot be remembered."""
        with self._lock:
            arrived = self._handed_out.pop(frame.index, None)
            if arrived is None:
                return
            if dropped is None:
                self._processed += 1
            else:
                self._dropped[dropped] += 1
        self._watched.done(arrived)

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
                in_flight=len(self._handed_out),
                attempts=1,
                reconnects=self._returns,
                fps=0.0,
                resolution=self._size,
            )

    def stop(self) -> None:
        """See `LiveSource`; images that were not handed out are found by the next run."""
        self._stop.set()

    def _frame(self, arrived: Arrived) -> Frame:
        with self._lock:
            index = self._captured
            self._captured += 1
            self._handed_out[index] = arrived
            if arrived.image is not None:
                self._size = (arrived.image.shape[0], arrived.image.shape[1])
        return Frame(
            source=self.address,
            index=index,
            time=time.time(),
            path=str(arrived.path),
            name=arrived.name,
            image=arrived.image,
            error=arrived.error,
        )

    def _enter(self, state: State, reason: str) -> Iterator[Notification]:
        with self._lock:
            if (state, reason) == (self._state, self._reason):
                return
            self._returns += self._state is State.RECONNECTING and state is State.LIVE
            self._state, self._reason, self._since = state, reason, time.monotonic()
        data = {"state": state.value, "reason": reason}
        yield Notification("camera", self.address, time.time(), data)
