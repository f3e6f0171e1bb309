"""`Sender`: a thread that takes messages from an outbox and delivers them, for months.

connect ─► oldest message ─► wait for the rate limit ─► deliver ─► delivered | refused
   ▲                                                       │
   └──────── wait: doubled from attempt to attempt ◄── unavailable
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from generalad.progress import Log, no_log
from generalad.runtime.backoff import Backoff, Clock, SystemClock
from generalad.runtime.delivery.message import Message
from generalad.runtime.delivery.outbox import Outbox
from generalad.runtime.delivery.rate import TokenBucket
from generalad.runtime.delivery.transport import Refused, Transport, Unavailable

RATE_LIMIT = "rate limit"
REFUSED = "refused"

_IDLE_SECONDS = 1.0  # between checks of a connection on which nothing happens
_GOODBYE_SECONDS = 2.0


@dataclass(frozen=True)
class DeliveryStatus:
    """A sink at one moment; `promised == delivered + sum(dropped) + waiting` always holds.

    Attributes:
        name: where to, without secrets.
        connected: whether the receiver can be reached, as far as is known.
        reason: "connected", or why not.
        problem: what is wrong with the queue's file, or empty.
        promised: messages since the queue exists.
        delivered: confirmed by the receiver.
        dropped: given up, by reason.
        waiting: in the queue, on disk or in memory.
        unsaved: those of them that are only in memory.
    """

    name: str
    connected: bool
    reason: str
    problem: str
    promised: int
    delivered: int
    dropped: Mapping[str, int]
    waiting: int
    unsaved: int


class Sender:
    """Delivers at least once and in order. `put` and `status` may be called from any thread."""

    def __init__(
        self,
        outbox: Outbox,
        transport: Transport,
        *,
        per_minute: float | None = None,
        backoff: Backoff | None = None,
        timeout: float = 10.0,
        log: Log | None = None,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Nothing happens before `start`.

        Args:
            outbox: stays open at the end.
            transport: is closed at the end.
            per_minute: rate limit. Results beyond it are dropped, everything else waits.
            backoff: waiting times between attempts.
            timeout: seconds for one step: connecting, or delivering one message.
            log: called with one line for every change worth telling, in the sender's thread.
            clock: for tests.
            chance: for tests, 0...1.
        """
        self._outbox = outbox
        self._transport = transport
        self._bucket = TokenBucket(per_minute)
        self._backoff = backoff or Backoff()
        self._timeout = timeout
        self._log = log or no_log
        self._clock = clock or SystemClock()
        self._chance = chance
        self._changed = outbox.changed
        self._told = {"connection": "not connected yet"}
        self._counted = dict(outbox.tally.dropped)
        self._connected_at: float | None = None
        self._reason = self._told["connection"]
        self._saturated = False
        self._failures = 0
        self._deadline: float | None = None  # set when it is to end
        self._thread = threading.Thread(target=self._run, name="gad-delivery", daemon=True)

    def start(self) -> None:
        """Return at once; a receiver that is down is the same as one that goes down later."""
        self._thread.start()

    def put(self, message: Message, *, if_killed: Message | None = None) -> None:
        """Put into the outbox; a result that the rate limit would drop anyway is not written."""
        if message.kind == "result" and self._saturated:
            self._outbox.drop(RATE_LIMIT)
        else:
            self._outbox.put(message, if_killed=if_killed)

    @property
    def status(self) -> DeliveryStatus:
        """State and counts of one moment."""
        with self._changed:
            tally = self._outbox.tally
            return DeliveryStatus(
                self._transport.name,
                self._connected_at is not None,
                self._reason,
                self._outbox.problem,
                tally.promised,
                tally.delivered,
                tally.dropped,
                tally.waiting,
                tally.unsaved,
            )

    def close(self, drain: float) -> None:
        """Deliver what waits for at most `drain` seconds; the rest stays in the outbox.

        One attempt to connect is made at once, even if the next one was not due yet.
        """
        with self._changed:
            self._deadline = self._clock.now() + drain
            self._changed.notify_all()
        if self._thread.is_alive():
            # A step that hangs, as in a name server, is left behind; it can do no harm any more.
            self._thread.join(drain + _GOODBYE_SECONDS + 1)

    # The thread

    def _run(self) -> None:
        try:
            while not self._finished():
                try:
                    self._transport.connect(self._outbox.name, self._limit())
                    while not self._finished():
                        self._step()
                except Unavailable as error:
                    self._lost(str(error), error.retry_after)
                except Exception as error:  # of a library; its text may hold anything
                    self._lost(f"unexpected error ({type(error).__name__})", 0.0)
        finally:
            self._tell_all()
            self._transport.close(_GOODBYE_SECONDS)
            with self._changed:
                self._connected_at, self._reason = None, "closed"

    def _connected(self) -> None:
        """Said only when a message got through or none waits: a web server may answer, and fail."""
        with self._changed:
            if self._connected_at is None:
                self._connected_at, self._reason = self._clock.now(), "connected"

    def _step(self) -> None:
        """Deliver one message, or wait a little."""
        self._outbox.save()
        self._tell_all()
        message = self._outbox.next()
        wait = self._bucket.wait(self._clock.now())
        self._saturated = wait > 0
        if message is None:
            self._transport.check()
            self._connected()
            self._tell_all()
            until_message = not self._outbox.problem  # else it may be one that cannot be read
            self._pause(min(wait or _IDLE_SECONDS, _IDLE_SECONDS), until_message=until_message)
        elif wait == 0:
            self._deliver(message)
        elif message.kind == "result":
            self._outbox.refused(message.id, RATE_LIMIT)
        else:
            self._outbox.released(message.id)
            self._transport.check()
            self._connected()
            self._pause(min(wait, _IDLE_SECONDS))

    def _deliver(self, message: Message) -> None:
        self._bucket.take()
        try:
            self._transport.deliver(message, self._limit())
        except Refused as error:
            self._outbox.refused(message.id, REFUSED)
            self._tell("refused", f"a message of the kind {message.kind} was refused: {error}")
        except BaseException:
            self._outbox.released(message.id)
            raise
        else:
            self._outbox.delivered(message.id)
        self._failures = 0
        self._connected()

    def _lost(self, reason: str, retry_after: float) -> None:
        """Say why, and wait before the next attempt."""
        now = self._clock.now()
        with self._changed:
            since, self._connected_at = self._connected_at, None
            self._reason = reason
        self._saturated = False  # what cannot be delivered is kept, within the queue's limits
        if since is not None and now - since >= self._backoff.good_after:
            self._failures = 0
        self._failures += 1
        until = now + max(self._backoff.delay(self._failures, self._chance()), retry_after)
        closing = self._deadline is not None
        while (now := self._clock.now()) < until and not self._finished():
            self._outbox.save()
            self._tell_all()
            self._pause(min(until - now, _IDLE_SECONDS))
            if not closing and self._deadline is not None:
                return

    def _finished(self) -> bool:
        if self._deadline is None:
            return False
        return self._outbox.tally.waiting == 0 or self._clock.now() >= self._deadline

    def _limit(self) -> float:
        """Seconds for one step; while ending, not beyond the end."""
        if self._deadline is None:
            return self._timeout
        return max(0.1, min(self._timeout, self._deadline - self._clock.now()))

    def _pause(self, seconds: float, *, until_message: bool = False) -> None:
        """Wait; cut short by `close`, and by a message if wanted."""
        with self._changed:
            closing = self._deadline is not None
            until = self._clock.now() + seconds
            if closing:
                until = min(until, self._deadline or until)
            while (left := until - self._clock.now()) > 0:
                if closing != (self._deadline is not None):
                    return
                if until_message and self._outbox.tally.waiting:
                    return
                self._clock.wait(self._changed, left)

    # What is told

    def _tell_all(self) -> None:
        self._tell("connection", self._reason)
        self._tell("queue", self._outbox.problem)
        if self._outbox.moved_aside is not None:
            self._tell("moved", f"a damaged queue was moved to {self._outbox.moved_aside}")
        for reason, number in self._outbox.tally.dropped.items():
            if number != self._counted.get(reason):
                self._counted[reason] = number
                self._tell(f"dropped {reason}", f"messages are dropped: {reason}")

    def _tell(self, about: str, text: str) -> None:
        """Report a change; the same thing again is none."""
        before = self._told.get(about, "")
        if text == before:
            return
        self._told[about] = text
        with contextlib.suppress(Exception):  # a terminal that is gone must not stop deliveries
            self._log(f"{self._transport.name}: {text or 'the queue can be written again'}")
