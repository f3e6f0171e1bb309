"""`PolledPlc`: a PLC that holds the registers; the station reads and writes them there.

connect ─► look at what stands there ─► read commands ─► answer ─► write what has changed ─┐
   ▲                                         ▲                                             │
   │                                         └────── next poll, or a new verdict ◄─────────┘
   └──── wait: doubled from attempt to attempt ◄── anything that goes wrong
"""

from __future__ import annotations

import contextlib
import random
import threading

from generalad.progress import Log, no_log
from generalad.runtime.backoff import Backoff, Clock, SystemClock
from generalad.runtime.delivery.transport import Unavailable
from generalad.runtime.station.plc.exchange import Exchange, Memory
from generalad.runtime.station.plc.handshake import Handshake
from generalad.runtime.station.plc.interface import PlcStatus, Requests
from generalad.runtime.station.plc.registers import WordOrder
from generalad.runtime.station.verdict import StationState, Verdict

POLL_SECONDS = 0.01
BACKOFF = Backoff(first=0.1, cap=5.0, jitter=0.5, good_after=10.0)
"""Shorter than for cameras: a line stands still while its PLC is away."""

_GOODBYE_SECONDS = 2.0


class PolledPlc:
    """See `Plc`."""

    def __init__(
        self,
        memory: Memory,
        handshake: Handshake,
        *,
        order: WordOrder = "big",
        poll: float = POLL_SECONDS,
        backoff: Backoff = BACKOFF,
        log: Log = no_log,
        clock: Clock | None = None,
    ) -> None:
        """Nothing is opened before `start`; `poll` is in seconds."""
        self._memory = memory
        self._handshake = handshake
        self._exchange = Exchange(memory, handshake, order)
        self._poll = poll
        self._backoff = backoff
        self._log = log
        self._clock = clock or SystemClock()
        self._wake = threading.Condition()
        self._news = False
        self._closing = False
        # Since when it is connected, and the reason: one value, as `status` is for any thread.
        self._link: tuple[float | None, str] = (None, "not connected yet")
        self._told = ""
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="gad-plc", daemon=True)
        handshake.changed = self._notify

    def start(self, requests: Requests) -> None:
        """See `Plc`."""
        self._handshake.start(requests)
        self._thread.start()

    def publish(self, state: StationState) -> None:
        """See `Plc`."""
        self._handshake.publish(state)

    def deliver(self, verdict: Verdict) -> None:
        """See `Plc`."""
        self._handshake.deliver(verdict)

    @property
    def status(self) -> PlcStatus:
        """See `Plc`."""
        since, reason = self._link
        return self._handshake.status(self._memory.name, connected=since is not None, reason=reason)

    def close(self) -> None:
        """See `Plc`."""
        self._closing = True
        self._handshake.close()
        if self._thread.is_alive():
            self._thread.join(_GOODBYE_SECONDS)

    def _notify(self) -> None:
        with self._wake:
            self._news = True
            self._wake.notify()

    # The thread

    def _run(self) -> None:
        while not self._closing:
            try:
                self._memory.connect()
                self._exchange.meet()
                while not self._closing:
                    self._exchange.look()
                    self._exchange.write()
                    self._connected()
                    if self._wait(self._poll, for_news=True):
                        self._exchange.write()  # a request earlier than the next look
            except Unavailable as error:
                self._lost(str(error))
            except Exception as error:  # of a library; its text may hold anything
                self._lost(f"unexpected error ({type(error).__name__})")
        if self._link[0] is not None:
            with contextlib.suppress(Exception):
                self._exchange.write()  # not ready any more
        self._memory.close()
        self._link = (None, "closed")

    def _connected(self) -> None:
        now, since = self._clock.now(), self._link[0]
        if since is None:
            self._link = (now, "connected")
            self._tell("connected")
        elif self._failures and now - since >= self._backoff.good_after:
            self._failures = 0

    def _lost(self, reason: str) -> None:
        self._memory.close()
        self._link = (None, reason)
        self._failures += 1
        self._tell(reason)
        self._wait(self._backoff.delay(self._failures, random.random()), for_news=False)

    def _wait(self, seconds: float, *, for_news: bool) -> bool:
        """Whether there are news; without `for_news` they do not end the wait."""
        until = self._clock.now() + seconds
        with self._wake:
            while not (self._closing or (for_news and self._news)):
                left = until - self._clock.now()
                if left <= 0:
                    break
                self._clock.wait(self._wake, left)
            news, self._news = self._news, False
            return news

    def _tell(self, text: str) -> None:
        """Report a change; the same thing again is none."""
        if text != self._told:
            self._told = text
            with contextlib.suppress(Exception):  # a terminal that is gone must not stop this
                self._log(f"{self._memory.name}: {text}")
