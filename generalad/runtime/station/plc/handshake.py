r"""`Handshake`: what a station and a PLC answer each other, bit by bit; knows no protocol.

Every request is a level and not a pulse, so that polling may be as slow as it likes:

    PLC      Trigger              __/▔▔▔▔▔▔▔▔\_______
    station  TriggerAcknowledged  _____/▔▔▔▔▔▔▔▔▔\___

    station  ResultValid          __/▔▔▔▔▔▔▔▔▔\________/▔▔ the next one
    PLC      ResultAcknowledged   _______/▔▔▔▔▔▔▔▔\______

A result does not change while it is valid, and the next one is valid only after the PLC has taken
its acknowledgement back: no PLC sees the id of one part with the verdict of another, however many
requests it reads them with.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from generalad.runtime.station.plc.interface import Accepted, PlcStatus, Refused, Requests
from generalad.runtime.station.plc.signals import Value, Values
from generalad.runtime.station.verdict import (
    MOST_NAME,
    REASONS,
    Outcome,
    StationState,
    Verdict,
)

MOST_WAITING = 10_000
"""Results that are kept for a PLC that is away; then the oldest go, counted as lost."""

BEAT_SECONDS = 0.5
SILENCE_SECONDS = 3.0
"""After so long without `publish` the station counts as hung."""

OUTCOMES: tuple[Outcome, ...] = ("pass", "reject", "no verdict")
"""In the order of their codes, from 1."""


class Handshake:
    """The state of one PLC's handshake.

    `publish`, `deliver`, `signals`, `status` and `close` may be called from any thread, the rest
    from one.
    """

    def __init__(
        self,
        *,
        acknowledge: bool = True,
        known: bool = False,
        most_waiting: int = MOST_WAITING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is asked of the station before `start`.

        `changed` and `on_shown` may be set before it: called when there is something new to show,
        and, in order, with each result that becomes valid; both must return at once.

        Args:
            acknowledge: whether a result stays until the PLC has acknowledged it; else the next
                one takes its place at once.
            known: whether the PLC's commands are known to begin as none. Otherwise the first look
                at them only tells where the PLC is: a trigger that stands then may be the one that
                a killed process has answered, and is refused.
            most_waiting: see `MOST_WAITING`.
            clock: monotonic seconds.
        """
        self.changed: Callable[[], None] = lambda: None
        self.on_shown: Callable[[Verdict], object] = lambda verdict: None
        self._acknowledge = acknowledge
        self._most_waiting = most_waiting
        self._clock = clock
        self._lock = threading.Lock()
        self._requests: Requests | None = None
        self._state = StationState()
        self._began = self._published = clock()
        self._closing = False
        self._looked = known
        # Trigger
        self._trigger_answer: Accepted | Refused | None = None
        # Result
        self._queue: deque[Verdict] = deque()
        self._result: Verdict | None = None
        self._valid = False
        self._acknowledged: bool | None = False if known else None
        self._delivered = self._lost = 0
        # Recipe: what was requested, whether the station said it is at it, and the answer
        self._requested: str | None = None
        self._loading = False
        self._recipe_answer: bool | None = None
        # Start
        self._start_seen = False
        self._start_acknowledged: bool | None = False if known else None

    def start(self, requests: Requests) -> None:
        """From now on commands are passed to the station."""
        self._requests = requests

    # From the station

    def publish(self, state: StationState) -> None:
        """See `Plc.publish`."""
        with self._lock:
            self._state, self._published = state, self._clock()
            if self._requested is not None and self._recipe_answer is None:
                self._loading |= state.asked == self._requested
                if not state.asked:
                    if state.recipe == self._requested and not state.refused:
                        self._recipe_answer = True
                    elif self._loading and state.refused:
                        self._recipe_answer = False
        self.changed()

    def deliver(self, verdict: Verdict) -> None:
        """See `Plc.deliver`."""
        taken = None
        with self._lock:
            if not self._acknowledge:
                self._result, self._valid, taken = verdict, True, verdict.id
                self.on_shown(verdict)
                self._delivered += 1
            else:
                if len(self._queue) >= self._most_waiting:
                    self._queue.popleft()
                    self._lost += 1
                self._queue.append(verdict)
                self._show_next()
        if taken is not None and self._requests is not None:
            self._requests.acknowledge(taken)
        self.changed()

    def close(self) -> None:
        """The station is not ready any more."""
        self._closing = True
        self.changed()

    # From the PLC

    def look(self, commands: Values) -> None:
        """Answer the PLC's commands as they are now."""
        self._answer_trigger(bool(commands["Trigger"]), str(commands["TriggerPart"]))
        self._answer_acknowledgement(bool(commands["ResultAcknowledged"]))
        self._answer_recipe(bool(commands["RecipeRequest"]), str(commands["RequestedRecipe"]))
        start = bool(commands["StartAcknowledged"])
        self._start_seen |= start and self._start_acknowledged is False
        self._start_acknowledged = start
        self._looked = True

    def take(self, id: int) -> bool:
        """The PLC has taken a result by its id; False where that one is not valid."""
        with self._lock:
            if not (self._acknowledge and self._valid and self._result and self._result.id == id):
                return False
            self._done()
            self._show_next()
        self._asked.acknowledge(id)
        return True

    def plc_restarted(self) -> None:
        """The PLC has lost its memory: what stands there was asked after it, not before."""
        self._trigger_answer = None
        with self._lock:
            self._requested, self._recipe_answer = None, None

    @property
    def _asked(self) -> Requests:
        if self._requests is None:
            raise RuntimeError("not started")
        return self._requests

    def _answer_trigger(self, trigger: bool, part: str) -> None:
        if not trigger:
            self._trigger_answer = None
        elif self._trigger_answer is None:
            if self._looked and not self._closing:
                self._trigger_answer = self._asked.trigger(part[:MOST_NAME] or None)
            else:
                self._trigger_answer = Refused("not ready")

    def _answer_acknowledgement(self, acknowledged: bool) -> None:
        taken = None
        with self._lock:
            if self._acknowledge and self._valid and acknowledged and self._result is not None:
                taken = self._result.id
                self._done()
            self._acknowledged = acknowledged
            self._show_next()
        if taken is not None:
            self._asked.acknowledge(taken)

    def _done(self) -> None:
        self._valid = False
        self._delivered += 1

    def _show_next(self) -> None:
        if not self._valid and self._acknowledged is False and self._queue:
            self._result, self._valid = self._queue.popleft(), True
            self.on_shown(self._result)

    def _answer_recipe(self, request: bool, name: str) -> None:
        if not request:
            with self._lock:
                self._requested, self._recipe_answer = None, None
        elif self._requested is None:
            name = name[:MOST_NAME]
            with self._lock:
                self._requested, self._loading, self._recipe_answer = name, False, None
            self._asked.select_recipe(name)

    # To the PLC

    def signals(self) -> dict[str, Value]:
        """All signals to the PLC as they are now."""
        with self._lock:
            now = self._clock()
            return {
                **self._result_signals(),
                **self._state_signals(),
                **self._trigger_signals(),
                **self._heartbeat_signals(now),
                "ResultValid": self._valid,
                "Waiting": min(len(self._queue), 0xFFFF),
                "Lost": self._lost,
                "ResultsLost": self._lost > 0,
                "RecipeLoaded": self._recipe_answer is True,
                "RecipeRefused": self._recipe_answer is False,
            }

    def status(self, name: str, *, connected: bool, reason: str) -> PlcStatus:
        """With the counts of one moment."""
        with self._lock:
            waiting = len(self._queue) + (self._acknowledge and self._valid)
            return PlcStatus(name, connected, reason, waiting, self._delivered, self._lost)

    def _result_signals(self) -> dict[str, Value]:
        return {} if self._result is None else result_signals(self._result)

    def _trigger_signals(self) -> dict[str, Value]:
        answer = self._trigger_answer
        accepted = isinstance(answer, Accepted)
        return {
            "TriggerAcknowledged": answer is not None,
            "TriggerId": answer.id if isinstance(answer, Accepted) else 0,
            "Missed": answer is not None and not accepted,
            "Overrun": answer.overrun
            if isinstance(answer, Accepted)
            else answer is not None and answer.reason == "overrun",
        }

    def _state_signals(self) -> dict[str, Value]:
        state = self._state
        counts = state.counts
        return {
            "Busy": state.busy,
            "Starts": state.started & 0xFFFF,
            # Not while an acknowledgement stands from before: the PLC takes that back first.
            "StartedAnew": state.started_anew
            and self._start_acknowledged is False
            and not self._start_seen,
            "Parts": counts.parts,
            "Passed": counts.passed,
            "Rejected": counts.rejected,
            "NoVerdict": sum(counts.no_verdict.values()),
            "Refused": counts.refused,
            "Recipe": state.recipe,
            "Model": state.model,
            "ErrorText": state.error,
            "RecipeText": state.refused,
        }

    def _heartbeat_signals(self, now: float) -> dict[str, Value]:
        well = now <= self._published + SILENCE_SECONDS
        seen = min(now, self._published + SILENCE_SECONDS) - self._began
        # Never 0, which is what empty memory holds; an even number, so that the bit changes too.
        beat = 1 + int(seen / BEAT_SECONDS) % 0xFFFE
        return {
            "HeartbeatCount": beat,
            "Heartbeat": bool(beat & 1),
            "Ready": self._state.ready and well and not self._closing,
            "Error": bool(self._state.error) or not well,
        }


def result_signals(verdict: Verdict) -> dict[str, Value]:
    """A verdict as its signals."""
    return {
        "ResultId": verdict.id,
        "Outcome": 1 + OUTCOMES.index(verdict.outcome),
        "Reason": 0 if verdict.reason is None else 1 + REASONS.index(verdict.reason),
        "CountsAs": 1 if verdict.counts_as == "pass" else 2,
        "Score": -1.0 if verdict.score is None else verdict.score,
        "Milliseconds": verdict.milliseconds,
        "ResultPart": verdict.part or "",
        "ResultRecipe": verdict.recipe,
        "ResultIdEnd": verdict.id,
        "ResultText": verdict.detail,
    }
