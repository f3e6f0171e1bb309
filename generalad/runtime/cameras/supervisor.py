"""The two threads of a live source: the one that reads, and the watchdog outside of it.

    worker, one for each attempt:  open, read, read, ... ─► LatestFrame
    watchdog, one for each source: gives up attempts that hang, begins new ones

A hung driver call cannot be stopped, so its thread is left behind and what it still brings is
counted as dropped ("late"); when the call returns, the thread closes its camera and ends. How many
may hang at a time is limited, because each holds memory and a connection.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from generalad.errors import GadError, UsageError
from generalad.runtime.backoff import Backoff, Clock
from generalad.runtime.cameras.attempt import Attempt, PendingTrigger
from generalad.runtime.cameras.camera import (
    DAMAGED,
    CameraFactory,
    CameraLost,
    DamagedFrame,
    NoPicture,
    NothingYet,
    TriggeredCamera,
    TriggerFailed,
)
from generalad.runtime.cameras.history import Change, History
from generalad.runtime.cameras.latest_frame import LatestFrame
from generalad.runtime.sources import Frame, State, Status

OnChange = Callable[[Change], None]

_TRIGGER_GRACE = 1.0
"""Seconds beyond its timeout in which a driver must say what became of a trigger."""


class Supervisor:
    """Keeps one attempt at a camera going and says what state it is in."""

    def __init__(
        self,
        name: str,
        make: CameraFactory,
        frames: LatestFrame,
        *,
        stall_after: float,
        open_timeout: float,
        backoff: Backoff,
        max_stuck: int,
        clean: Callable[[str], str],
        on_change: OnChange | None,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        """See `Reader`; `clean` takes the secrets out of a reason. The lock is that of `frames`."""
        self._name = name
        self._make = make
        self._frames = frames
        self._stall_after = stall_after
        self._open_timeout = open_timeout
        self._backoff = backoff
        self._max_stuck = max_stuck
        self._clean = clean
        self._on_change = on_change
        self._clock = clock
        self._random = random
        self._watch = threading.Condition(frames.lock)  # wakes the watchdog
        self._watchdog: threading.Thread | None = None
        self._attempt: Attempt | None = None
        self._left_behind: list[Attempt] = []
        self._next_at: float | None = None
        self._attempts = self._failures = self._reconnects = 0
        self._ever_live = self._over = False
        self._resolution: tuple[int, int] | None = None
        self._pending: PendingTrigger | None = None
        self._history = History(clock.now())

    def start(self) -> None:
        """Begin the first attempt; a second call, or one after the end, does nothing."""
        with self._watch:
            if self._watchdog is None and not self._over:
                self._set(State.CONNECTING, "first attempt")
                self._next_at = self._clock.now()
                self._watchdog = threading.Thread(
                    target=self._supervise, name=f"gad-watchdog {self._name}", daemon=True
                )
                self._watchdog.start()

    def stop(self, reason: str) -> list[threading.Thread]:
        """No further frame; returns the threads to wait for."""
        with self._watch:
            self._finish(State.ENDED, reason)
            threads = [self._watchdog, *(attempt.thread for attempt in self._left_behind)]
            return [thread for thread in threads if thread is not None]

    def trigger(self, timeout: float) -> Frame:
        """Take one picture; see `Reader.trigger`."""
        with self._watch:
            attempt, history = self._attempt, self._history
            if self._pending is not None:
                raise TriggerFailed("overrun: the trigger before this one waits for its picture")
            if attempt is None or history.state is not State.LIVE:
                raise TriggerFailed(f"the camera is {history.state.value}: {history.reason}")
            if not isinstance(attempt.camera, TriggeredCamera):
                raise TriggerFailed("this kind of camera cannot be triggered")
            attempt.camera.trigger(timeout)
            until = self._clock.now() + timeout + _TRIGGER_GRACE
            pending = self._pending = PendingTrigger(attempt, until)
            self._watch.notify_all()
            try:
                while pending.open:
                    self._clock.wait(self._frames.changed, None)
            finally:
                self._pending = None
            if pending.frame is None:
                raise TriggerFailed(self._clean(pending.failure))
            return pending.frame

    @property
    def over(self) -> bool:
        """Whether no further frame will be captured."""
        with self._watch:
            return self._over

    @property
    def status(self) -> Status:
        """State and counts of one moment."""
        with self._watch:
            counts, attempt = self._frames.counts(), self._attempt
            history = self._history
            live = history.state is State.LIVE
            return Status(
                state=history.state,
                reason=history.reason,
                since=history.since,
                captured=counts.captured,
                processed=counts.processed,
                dropped=counts.dropped,
                in_flight=counts.in_flight,
                attempts=self._attempts,
                reconnects=self._reconnects,
                fps=attempt.fps() if live and attempt is not None else 0.0,
                resolution=self._resolution,
            )

    @property
    def changes(self) -> tuple[Change, ...]:
        """The last 1000 changes, oldest first."""
        with self._watch:
            return self._history.changes

    @property
    def stuck(self) -> tuple[str, ...]:
        """Names of the threads that were left behind and have not ended."""
        with self._watch:
            threads = [attempt.thread for attempt in self._left_behind]
        return tuple(thread.name for thread in threads if thread and thread.is_alive())

    # State; all of it with the lock held

    def _set(self, state: State, reason: str) -> None:
        if self._history.enter(state, self._clean(reason), self._clock.now()):
            self._watch.notify_all()

    def _finish(self, state: State, reason: str) -> None:
        """No further attempt and no further frame."""
        if not self._over:
            self._over = True
            if self._attempt is not None:
                self._fail_trigger(self._attempt, reason)
                self._left_behind.append(self._attempt)
                self._attempt = None
            self._set(state, reason)
        self._watch.notify_all()
        self._frames.changed.notify_all()

    def _lost(self, attempt: Attempt, state: State, reason: str) -> None:
        """The current attempt is over; the next one is scheduled."""
        since = attempt.works_since
        if since is not None and attempt.worked_at - since >= self._backoff.good_after:
            self._failures = 0
        self._fail_trigger(attempt, f"the camera was lost: {reason}")
        self._failures += 1
        delay = self._backoff.delay(self._failures, self._random())
        self._attempt, self._next_at = None, self._clock.now() + delay
        self._set(state, reason)
        self._watch.notify_all()
        self._frames.changed.notify_all()

    def _works(self, attempt: Attempt, reason: str) -> None:
        """A frame has come, or the camera waits for a trigger."""
        attempt.worked_at = self._clock.now()
        if attempt.works_since is None:
            attempt.works_since = attempt.worked_at
            self._reconnects += self._ever_live
            self._ever_live = True
        note = getattr(attempt.camera, "note", "")
        self._set(State.LIVE, f"{reason}; {note}" if note else reason)

    def _fail_trigger(self, attempt: Attempt, reason: str) -> None:
        """The picture that was asked of an attempt will not come."""
        if self._pending is not None and self._pending.attempt is attempt and self._pending.open:
            self._pending.failure = reason
            self._frames.changed.notify_all()

    # The watchdog

    def _supervise(self) -> None:
        while True:
            with self._watch:
                rest = self._check()
                changes = self._history.unreported()
                if not changes:
                    if self._over:
                        return
                    self._clock.wait(self._watch, rest)
            for change in changes:
                if self._on_change is not None:
                    with contextlib.suppress(Exception):
                        self._on_change(change)

    def _check(self) -> float | None:
        """Do what is due; returns the seconds until something may be due, None for never."""
        if self._over:
            return None
        now, attempt = self._clock.now(), self._attempt
        if attempt is not None:
            limit = self._open_timeout if attempt.doing == "open" else self._stall_after
            until, reason = attempt.waiting_since + limit, attempt.why_given_up(limit)
            if self._pending is not None and self._pending.attempt is attempt:
                until, reason = self._pending.until, "no answer to a trigger"
            if until > now:
                return until - now
            # What it still brings belongs to nobody.
            self._left_behind.append(attempt)
            self._lost(attempt, State.STALLED, reason)
        if self._next_at is None or self._next_at > now:
            return None if self._next_at is None else self._next_at - now
        if len(self._left_behind) >= self._max_stuck:
            self._set(State.STALLED, f"{len(self._left_behind)} attempts hang in the driver")
            return None  # woken when one of them comes back
        self._begin(now)
        return 0.0

    def _begin(self, now: float) -> None:
        self._attempts += 1
        self._next_at = None
        if self._history.state is State.STALLED:
            self._set(State.RECONNECTING, self._history.reason)
        attempt = Attempt(self._attempts, now)
        name = f"gad-camera {self._name} #{attempt.number}"
        attempt.thread = threading.Thread(
            target=self._work, args=(attempt,), name=name, daemon=True
        )
        self._attempt = attempt
        try:
            attempt.thread.start()
        except RuntimeError as error:  # out of threads or memory: the watchdog must survive it
            self._lost(attempt, State.RECONNECTING, str(error))

    # The worker

    def _work(self, attempt: Attempt) -> None:
        """One attempt from opening to closing."""
        end: tuple[State, str]
        camera = None
        try:
            camera = self._make()
            camera.open()
            with self._watch:
                attempt.camera = camera
            if self._goes_on(attempt, "read"):
                while (image := self._read(attempt, camera.read)) is not None:
                    if not self._deliver(attempt, image):
                        break
            end = State.ENDED, "the source came to its end"
        except UsageError as error:
            end = State.FAILED, str(error)
        except Exception as error:
            end = State.RECONNECTING, _reason(error)
        self._goes_on(attempt, "close")
        if camera is not None:
            with contextlib.suppress(Exception):
                camera.close()
        self._came_back(attempt, *end)

    def _goes_on(self, attempt: Attempt, doing: str) -> bool:
        """Note what the attempt does next; False if it was given up meanwhile."""
        with self._watch:
            attempt.doing, attempt.waiting_since = doing, self._clock.now()
            self._watch.notify_all()
            return attempt is self._attempt

    def _read(
        self, attempt: Attempt, read: Callable[[], NDArray[np.uint8] | None]
    ) -> NDArray[np.uint8] | None:
        """The next whole frame; damaged ones are counted, and do not keep the watchdog quiet."""
        while True:
            try:
                image = read()
            except NothingYet as waiting:
                if not self._waits(attempt, armed=waiting.armed):
                    return None
                continue
            except (DamagedFrame, NoPicture) as lost:
                if not self._misses(attempt, lost):
                    return None
                continue
            if image is not None and (
                image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8
            ):
                raise CameraLost(f"expected (H, W, 3) uint8, found {image.shape} {image.dtype}")
            return image

    def _waits(self, attempt: Attempt, *, armed: bool) -> bool:
        """Nothing has come; False if nobody waits for this attempt any more."""
        with self._watch:
            if armed and attempt is self._attempt:
                attempt.waiting_since = self._clock.now()
                if self._history.state is not State.LIVE:
                    self._works(attempt, "waits for triggers")
                attempt.worked_at = attempt.waiting_since
            return attempt is self._attempt

    def _misses(self, attempt: Attempt, lost: DamagedFrame | NoPicture) -> bool:
        """A frame cannot be used, or did not come; False if nobody waits any more."""
        with self._watch:
            if isinstance(lost, DamagedFrame):
                self._frames.refuse(lost.dropped, lost.count)
            # Other frames that are dropped are not the one that a trigger asked for.
            if isinstance(lost, NoPicture) or lost.dropped == DAMAGED:
                attempt.damaged = attempt.damaged or isinstance(lost, DamagedFrame)
                self._fail_trigger(attempt, _reason(lost))
            return attempt is self._attempt

    def _deliver(self, attempt: Attempt, image: NDArray[np.uint8]) -> bool:
        """Hand a frame over; False if nobody waits for this attempt any more."""
        with self._watch:
            now = self._clock.now()
            attempt.damaged = False
            if attempt is not self._attempt:
                self._frames.refuse("closed" if self._over else "late")
                return False
            index = self._frames.next_index()
            frame = Frame(
                source=self._name,
                index=index,
                time=self._clock.wall(),
                path="",
                name=f"{index:09d}.jpg",
                image=image,
                captured_at=now,
            )
            if self._pending is not None and self._pending.open:
                self._pending.frame = frame
                self._frames.hand_out(frame)
            else:
                self._frames.put(frame)
            attempt.times.append(now)
            self._resolution = height, width = image.shape[0], image.shape[1]
            self._works(attempt, f"{width} x {height}")
            return self._goes_on(attempt, "read")

    def _came_back(self, attempt: Attempt, state: State, reason: str) -> None:
        """The camera is closed and the thread about to end."""
        with self._watch:
            if attempt in self._left_behind:
                self._left_behind.remove(attempt)
                self._watch.notify_all()
            elif attempt is self._attempt and state is State.RECONNECTING:
                self._lost(attempt, state, reason)
            elif attempt is self._attempt:
                self._attempt = None
                self._finish(state, reason)


def _reason(error: Exception) -> str:
    """Why an attempt failed; remedies are left out, they would repeat at every attempt."""
    text = error.message if isinstance(error, GadError) else str(error)
    return text or type(error).__name__
