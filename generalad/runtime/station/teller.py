"""`Teller`: gives verdicts to PLCs, callers and sinks, in order, and knows who still lacks which.

One thread alone calls `tell`. A verdict is owed until all who are to have it do; what is still owed
at the end, or after a kill, the next process tells again under the same id.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

from generalad.runtime.station.notices import of_verdict
from generalad.runtime.station.parts import Part
from generalad.runtime.station.plc.interface import Plc
from generalad.runtime.station.recorder import Recorder
from generalad.runtime.station.verdict import StationState, Verdict

PUBLISH_EVERY = 0.5
"""Seconds between two states for the PLCs, whose heartbeat stops without them."""

_RECENT = 1000
"""Verdicts that `wait_for` may still be asked for."""

_TIMES = 10_000
"""Verdicts over which times are shown."""

MOST_OWED = 20_000
"""Verdicts that somebody may lack; of more, the oldest is given up. PLCs give up sooner."""

SINKS = -1
"""The receiver of a verdict that is no PLC; those have their numbers."""


class Teller:
    """See the module; all but `tell` is for any thread."""

    def __init__(
        self,
        name: str,
        plcs: Sequence[Plc],
        recorder: Recorder,
        *,
        on_delivered: Callable[[int], None],
        on_written: Callable[[], None],
        on_verdict: Callable[[Verdict], None] | None,
    ) -> None:
        """Nothing is owed.

        Args:
            name: of the station.
            plcs: each gets every verdict.
            recorder: hands verdicts to the sinks.
            on_delivered: told the id of a verdict that nobody lacks any more.
            on_written: called when the sinks have a verdict, in a thread that may wait for a disk.
            on_verdict: told every verdict of this process.
        """
        self._name, self._plcs, self._recorder = name, plcs, recorder
        self._on_delivered, self._on_written = on_delivered, on_written
        self._on_verdict = on_verdict
        self._owed: dict[int, set[int]] = {}
        self._owing = threading.RLock()
        self._published: tuple[float, StationState | None] = (0.0, None)
        self._publishing = threading.RLock()
        self._recent: OrderedDict[int, Verdict] = OrderedDict()
        self._told = threading.Condition()
        self.times: deque[float] = deque(maxlen=_TIMES)
        """Milliseconds from trigger to verdict."""

    def tell(self, verdict: Verdict, part: Part | None) -> None:
        """Give a verdict to all who are to have it; without a part it is told again."""
        given_up = None
        with self._owing:
            self._owed[verdict.id] = {SINKS, *range(len(self._plcs))}
            if len(self._owed) > MOST_OWED:
                given_up = next(iter(self._owed))
                del self._owed[given_up]
        if given_up is not None:
            self._on_delivered(given_up)
        for plc in self._plcs:
            plc.deliver(verdict)
        if part is not None:
            self._remember(verdict)
        self._recorder.tell(
            of_verdict(self._name, verdict, part), lambda: self._written(verdict.id)
        )

    def acknowledge(self, id: int, receiver: int) -> None:
        """A receiver has a verdict."""
        with self._owing:
            owed = self._owed.get(id)
            if owed is None:
                return
            owed.discard(receiver)
            if owed:
                return
            del self._owed[id]
        self._on_delivered(id)

    def publish(self, look: Callable[[], StationState]) -> None:
        """Tell PLCs what the station is now, where that is news or some time has passed."""
        with self._publishing:  # so that an older state never comes behind a newer one
            state, now = look(), time.monotonic()
            if state != self._published[1] or now - self._published[0] >= PUBLISH_EVERY:
                self._published = (now, state)
                for plc in self._plcs:
                    plc.publish(state)

    def wait_for(self, id: int, seconds: float) -> Verdict | None:
        """The verdict of a trigger of this process; None where it does not come in time."""
        with self._told:
            self._told.wait_for(lambda: id in self._recent, seconds)
            return self._recent.get(id)

    def wait_for_plcs(self, seconds: float) -> None:
        """Give PLCs a moment for the last verdicts; what they do not take, the next run tells."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(
            plc.status.connected and plc.status.waiting for plc in self._plcs
        ):
            time.sleep(0.01)

    def _written(self, id: int) -> None:
        self.acknowledge(id, SINKS)
        self._on_written()

    def _remember(self, verdict: Verdict) -> None:
        with self._told:
            self._recent[verdict.id] = verdict
            if len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
            self._told.notify_all()
        if verdict.reason != "restart":
            self.times.append(verdict.milliseconds)
        if self._on_verdict is not None:
            self._on_verdict(verdict)
