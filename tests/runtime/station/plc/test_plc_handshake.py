"""Each verdict is taken once, in order and whole, and each trigger answered, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from plc_helpers import READY, FakeStation, PlcMemory, PlcProgram, check_taken, verdict

from generalad.runtime.delivery.transport import Unavailable
from generalad.runtime.station.plc.exchange import Exchange
from generalad.runtime.station.plc.handshake import Handshake
from generalad.runtime.station.plc.interface import Accepted, Refused
from generalad.runtime.station.plc.signals import NO_COMMANDS, RESULT_END, STATION, Value
from generalad.runtime.station.verdict import Counts, StationState


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def commands(**changes: Value) -> dict[str, Value]:
    return {**NO_COMMANDS, **changes}


@pytest.fixture
def station() -> FakeStation:
    return FakeStation()


@pytest.fixture
def shaken(station: FakeStation) -> Handshake:
    """A handshake that has met a PLC that asks for nothing."""
    handshake = Handshake(clock=Clock())
    handshake.start(station)
    handshake.publish(READY)
    handshake.look(commands())
    return handshake


def test_a_trigger_is_asked_once_and_answered_until_it_is_taken_back(
    shaken: Handshake, station: FakeStation
) -> None:
    for _ in range(3):
        shaken.look(commands(Trigger=True, TriggerPart="a"))
        signals = shaken.signals()
        assert (signals["TriggerAcknowledged"], signals["TriggerId"]) == (True, 1)
        assert not signals["Missed"] and not signals["Overrun"]
    shaken.look(commands())
    assert not shaken.signals()["TriggerAcknowledged"]
    shaken.look(commands(Trigger=True))
    assert station.parts == {1: "a", 2: None}


@pytest.mark.parametrize(
    ("answer", "missed", "overrun", "id"),
    [
        (Refused("not ready"), True, False, 0),
        (Refused("overrun"), True, True, 0),
        (Accepted(7, overrun=True), False, True, 7),
    ],
)
def test_the_answer_says_why_there_is_no_result(
    answer: Accepted | Refused, missed: bool, overrun: bool, id: int
) -> None:
    class Station(FakeStation):
        def trigger(self, part: str | None) -> Accepted | Refused:
            return answer

    handshake = Handshake(known=True)
    handshake.start(Station())
    handshake.look(commands(Trigger=True))
    signals = handshake.signals()
    assert signals["TriggerAcknowledged"]
    assert (signals["Missed"], signals["Overrun"], signals["TriggerId"]) == (missed, overrun, id)


def test_what_stands_at_the_first_look_is_no_trigger(station: FakeStation) -> None:
    handshake = Handshake()
    handshake.start(station)
    handshake.look(commands(Trigger=True))
    assert handshake.signals()["Missed"]
    assert station.parts == {}


def test_no_result_is_shown_to_an_acknowledgement_that_belongs_to_another(
    station: FakeStation,
) -> None:
    handshake = Handshake()
    handshake.start(station)
    handshake.deliver(verdict(1))
    assert not handshake.signals()["ResultValid"]
    handshake.look(commands(ResultAcknowledged=True))
    assert not handshake.signals()["ResultValid"]
    handshake.look(commands())
    assert handshake.signals()["ResultValid"]
    assert station.acknowledged == []


def test_a_result_waits_for_the_one_before_and_its_acknowledgement(
    shaken: Handshake, station: FakeStation
) -> None:
    shaken.deliver(verdict(1))
    shaken.deliver(verdict(2))
    assert (shaken.signals()["ResultId"], shaken.signals()["Waiting"]) == (1, 1)
    shaken.look(commands(ResultAcknowledged=True))
    assert (shaken.signals()["ResultId"], shaken.signals()["ResultValid"]) == (1, False)
    assert station.acknowledged == [1]
    shaken.look(commands())
    assert (shaken.signals()["ResultId"], shaken.signals()["ResultValid"]) == (2, True)
    status = shaken.status("plc", connected=True, reason="")
    assert (status.waiting, status.delivered, status.lost) == (1, 1, 0)


def test_without_acknowledgement_the_newest_is_shown(station: FakeStation) -> None:
    handshake, shown = Handshake(acknowledge=False), list[int]()
    handshake.on_shown = lambda verdict: shown.append(verdict.id)
    handshake.start(station)
    for id in (1, 2):
        handshake.deliver(verdict(id))
    assert (handshake.signals()["ResultId"], handshake.signals()["ResultValid"]) == (2, True)
    assert shown == station.acknowledged == [1, 2]


def test_what_nobody_takes_is_counted_as_lost(station: FakeStation) -> None:
    handshake = Handshake(known=True, most_waiting=3)
    handshake.start(station)
    for id in range(1, 7):
        handshake.deliver(verdict(id))
    signals = handshake.signals()
    assert (signals["ResultId"], signals["Waiting"], signals["Lost"]) == (1, 3, 2)
    assert signals["ResultsLost"]
    status = handshake.status("plc", connected=False, reason="")
    assert status.waiting + status.lost + status.delivered == 6


def test_a_part_without_verdict_has_a_reason_and_no_score(shaken: Handshake) -> None:
    late = verdict(
        1, outcome="no verdict", reason="late", counts_as="reject", score=None, part=None
    )
    shaken.deliver(late)
    signals = shaken.signals()
    assert (signals["Outcome"], signals["Reason"], signals["CountsAs"]) == (3, 3, 2)
    assert (signals["Score"], signals["ResultPart"]) == (-1.0, "")


def test_a_recipe_is_answered_when_it_is_loaded(shaken: Handshake, station: FakeStation) -> None:
    request = commands(RecipeRequest=True, RequestedRecipe="nut")
    shaken.look(request)
    shaken.publish(StationState(ready=True, recipe="washer"))  # from before the request
    shaken.look(request)
    assert not shaken.signals()["RecipeLoaded"]
    shaken.publish(StationState(recipe="washer", asked="nut"))
    assert not shaken.signals()["RecipeLoaded"] and not shaken.signals()["Ready"]
    shaken.publish(StationState(ready=True, recipe="nut"))
    assert shaken.signals()["RecipeLoaded"] and not shaken.signals()["RecipeRefused"]
    assert station.recipes == ["nut"]
    shaken.look(commands())
    assert not shaken.signals()["RecipeLoaded"]


def test_a_recipe_that_fails_is_refused_and_an_old_refusal_is_none(shaken: Handshake) -> None:
    old = StationState(ready=True, recipe="washer", refused="bolt: no such recipe")
    shaken.publish(old)
    shaken.look(commands(RecipeRequest=True, RequestedRecipe="nut"))
    shaken.publish(old)
    assert not shaken.signals()["RecipeRefused"]
    shaken.publish(StationState(recipe="washer", asked="nut"))
    shaken.publish(StationState(ready=True, recipe="washer", refused="nut: self-test failed"))
    signals = shaken.signals()
    assert signals["RecipeRefused"] and not signals["RecipeLoaded"]
    assert signals["RecipeText"] == "nut: self-test failed"


def test_a_start_after_a_kill_is_said_until_it_is_seen(station: FakeStation) -> None:
    handshake = Handshake()
    handshake.start(station)
    handshake.publish(StationState(started=65537, started_anew=True))
    assert handshake.signals()["Starts"] == 1
    said = []
    # The first acknowledgement stands there from before the kill, the last one is another start's.
    for acknowledged in (True, False, False, True, False, True, False):
        handshake.look(commands(StartAcknowledged=acknowledged))
        said.append(handshake.signals()["StartedAnew"])
    assert said == [False, True, True, False, False, False, False]


def test_a_plc_that_mirrors_the_start_acknowledges_it(station: FakeStation) -> None:
    handshake, said = Handshake(), True  # what a killed station left in the PLC
    handshake.start(station)
    handshake.publish(StationState(started_anew=True))
    seen = []
    for _ in range(6):
        handshake.look(commands(StartAcknowledged=said))
        said = bool(handshake.signals()["StartedAnew"])
        seen.append(said)
    assert seen == [False, True, False, False, False, False]


def test_the_heartbeat_stops_with_the_station() -> None:
    clock = Clock()
    handshake = Handshake(clock=clock)
    beats = []
    for _ in range(20):
        handshake.publish(READY)
        beats.append(handshake.signals()["HeartbeatCount"])
        clock.now += 0.5
    assert beats == list(range(1, 21))
    clock.now += 60.0
    stopped = handshake.signals()
    clock.now += 60.0
    assert handshake.signals()["HeartbeatCount"] == stopped["HeartbeatCount"]
    assert stopped["Error"] and not stopped["Ready"]
    handshake.publish(READY)
    assert handshake.signals()["Ready"] and not handshake.signals()["Error"]


def test_the_heartbeat_goes_on_after_its_largest_count() -> None:
    clock = Clock()
    handshake = Handshake(clock=clock)
    clock.now += 0.5 * 65532
    beats = []
    for _ in range(5):
        handshake.publish(READY)
        found = handshake.signals()
        beats.append((found["HeartbeatCount"], found["Heartbeat"]))
        clock.now += 0.5
    assert beats == [(65533, True), (65534, False), (1, True), (2, False), (3, True)]


def test_names_without_end_are_cut(shaken: Handshake, station: FakeStation) -> None:
    shaken.look(commands(Trigger=True, TriggerPart="x" * 100_000))
    shaken.look(commands(RecipeRequest=True, RequestedRecipe="y" * 100_000))
    assert station.parts == {1: "x" * 200} and station.recipes == ["y" * 200]


def test_state_and_counts_are_passed_on(shaken: Handshake) -> None:
    counts = Counts(9, 4, 2, {"late": 1, "restart": 1}, refused=5)
    shaken.publish(StationState(busy=True, error="camera top: no frame", counts=counts))
    signals = shaken.signals()
    assert signals["Error"] and signals["Busy"] and not signals["Ready"]
    names = ("Parts", "Passed", "Rejected", "NoVerdict", "Refused")
    assert [signals[name] for name in names] == [9, 4, 2, 2, 5]
    assert signals["ErrorText"] == "camera top: no frame"


def test_a_station_that_ends_is_not_ready(shaken: Handshake) -> None:
    shaken.close()
    assert not shaken.signals()["Ready"]
    shaken.look(commands(Trigger=True))
    assert shaken.signals()["Missed"]


def test_a_result_may_be_taken_by_its_id(station: FakeStation) -> None:
    handshake = Handshake(known=True)
    handshake.start(station)
    for id in (1, 2):
        handshake.deliver(verdict(id))
    assert [handshake.take(id) for id in (2, 1, 1, 2, 3)] == [False, True, False, True, False]
    assert station.acknowledged == [1, 2]
    assert handshake.status("plc", connected=True, reason="").delivered == 2


def meeting(station: FakeStation) -> tuple[PlcMemory, Exchange, Handshake]:
    """A PLC's memory, and a station that has met it."""
    memory, handshake = PlcMemory(), Handshake(clock=Clock())
    handshake.start(station)
    handshake.publish(READY)
    exchange = Exchange(memory, handshake)
    exchange.meet()
    exchange.look()
    exchange.write()
    return memory, exchange, handshake


def test_a_trigger_after_a_restart_of_the_plc_is_a_new_one(station: FakeStation) -> None:
    memory, exchange, _ = meeting(station)
    for part in ("a", "b"):
        memory.command(commands(Trigger=True, TriggerPart=part))
        exchange.meet()
        exchange.look()
        exchange.write()
        assert memory.station()["TriggerId"] == station.next - 1
        memory.words = [0] * len(memory.words)
    assert station.parts == {1: "a", 2: "b"}


@pytest.mark.parametrize("fails", ["lost", "unanswered"])
def test_a_trigger_is_the_same_after_a_loss_of_the_connection(
    station: FakeStation, fails: str
) -> None:
    memory, exchange, handshake = meeting(station)
    handshake._clock.now += 0.6  # type: ignore[attr-defined]  # another heartbeat
    handshake.publish(READY)
    memory.command(commands(Trigger=True, TriggerPart="a"))
    memory.plan = [None, fails]
    exchange.look()
    with pytest.raises(Unavailable):
        exchange.write()
    exchange.meet()
    exchange.look()
    exchange.write()
    assert (memory.station()["TriggerId"], station.parts) == (1, {1: "a"})


def test_a_result_that_another_process_left_is_never_mixed_with_ours(
    station: FakeStation,
) -> None:
    for cut in range(1, RESULT_END):
        memory, exchange, handshake = meeting(station)
        handshake.deliver(verdict(900))
        exchange.write()  # and the process ends
        program = PlcProgram()
        program.scan({**memory.station(), "ResultValid": False})

        def scan(memory: PlcMemory = memory, program: PlcProgram = program) -> None:
            memory.command(program.scan(memory.station()))

        memory.torn, memory.cut = scan, cut
        ours = Handshake()
        ours.start(station)
        ours.deliver(verdict(901))
        exchange = Exchange(memory, ours)
        exchange.meet()
        for _ in range(4):
            exchange.look()
            exchange.write()
            scan()
        taken = [int(values["ResultId"]) for values in program.taken]
        assert taken in ([900, 901], [901])
        check_taken(program, taken)


class PolledServer(RuleBasedStateMachine):
    """A PLC that asks a server: it reads flags and result with two requests, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.station, self.program = FakeStation(), PlcProgram()
        self.handshake = Handshake()
        self.handshake.start(self.station)
        self.handshake.publish(READY)
        self.delivered = 0
        self.flags: dict[str, Value] = self.handshake.signals()
        self.parts = 0
        self.plc_writes()  # as the documentation asks, before anything else

    @rule()
    def verdict_comes(self) -> None:
        self.delivered += 1
        self.handshake.deliver(verdict(self.delivered))

    @rule()
    def part_arrives(self) -> None:
        self.parts += 1
        self.program.to_trigger.append(f"p{self.parts}")

    @rule()
    def plc_reads_flags(self) -> None:
        self.flags = self.handshake.signals()

    @rule()
    def plc_reads_the_rest_and_scans(self) -> None:
        bits = {name: value for name, value in self.flags.items() if isinstance(value, bool)}
        self.program.scan({**result_fields(), **self.handshake.signals(), **bits})

    @rule()
    def plc_writes(self) -> None:
        self.handshake.look(self.program.commands)

    @invariant()
    def each_once_in_order_and_whole(self) -> None:
        check_taken(self.program, list(range(1, len(self.program.taken) + 1)))
        parts = self.station.parts
        assert all(parts[id] == part for part, id in self.program.answers)

    def teardown(self) -> None:
        for _ in range(4 * (self.delivered + self.parts) + 8):
            self.plc_writes()
            self.plc_reads_flags()
            self.plc_reads_the_rest_and_scans()
        check_taken(self.program, list(range(1, self.delivered + 1)))
        assert [part for part, _ in self.program.answers] == [
            f"p{number}" for number in range(1, self.parts + 1)
        ]
        assert len(self.station.parts) == self.parts
        assert self.station.acknowledged == list(range(1, self.delivered + 1))


def result_fields() -> dict[str, Value]:
    return {"ResultId": 0, "ResultIdEnd": 0}


class HeldMemory(RuleBasedStateMachine):
    """A PLC whose memory the station writes: requests fail, both sides lose what they knew."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.program = PlcMemory(), PlcProgram()
        self.memory.torn = self.scan
        self.clock = Clock()
        self.delivered = self.parts = 0
        self.answers: dict[int, str | None] = {}
        self.acknowledged: set[int] = set()
        self.station = FakeStation()
        self.start_station()

    def start_station(self) -> None:
        self.answers.update(self.station.parts)
        self.acknowledged |= set(self.station.acknowledged)
        self.station = FakeStation(first=self.station.next)
        self.handshake = Handshake(clock=self.clock)
        self.handshake.start(self.station)
        self.handshake.publish(READY)
        self.exchange = Exchange(self.memory, self.handshake)
        self.connected = False
        for id in range(1, self.delivered + 1):
            if id not in self.acknowledged:
                self.handshake.deliver(verdict(id))

    def scan(self) -> None:
        self.memory.command(self.program.scan(self.memory.station()))

    @rule()
    def verdict_comes(self) -> None:
        self.delivered += 1
        self.handshake.deliver(verdict(self.delivered))

    @rule()
    def part_arrives(self) -> None:
        self.parts += 1
        self.program.to_trigger.append(f"p{self.parts}")

    @rule()
    def plc_scans(self) -> None:
        self.scan()

    @rule(seconds=st.sampled_from([0.1, 0.6]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        self.handshake.publish(READY)

    @rule(
        fails=st.lists(st.sampled_from([None, None, None, "lost", "unanswered"]), max_size=4),
        cut=st.integers(0, len(STATION)),
    )
    def station_looks(self, fails: list[str | None], cut: int) -> None:
        self.memory.plan, self.memory.cut = fails, cut
        self.attempt(self.meet, self.exchange.look, self.exchange.write)

    @rule(fails=st.sampled_from([None, "lost", "unanswered"]))
    def station_writes(self, fails: str | None) -> None:
        if self.connected:
            self.memory.plan = [fails]
            self.attempt(self.exchange.write)

    def meet(self) -> None:
        if not self.connected:
            self.exchange.meet()
            self.connected = True

    def attempt(self, *requests: Callable[[], None]) -> None:
        try:
            for request in requests:
                request()
        except Unavailable:
            self.connected = False

    @rule()
    def station_is_killed(self) -> None:
        self.start_station()

    @precondition(lambda self: self.memory.station()["HeartbeatCount"] != 0)
    @rule()
    def plc_restarts(self) -> None:
        self.connected = False
        self.program.restart()
        self.memory.words = [0] * len(self.memory.words)

    @invariant()
    def each_once_in_order_and_whole(self) -> None:
        check_taken(self.program, list(range(1, len(self.program.taken) + 1)))

    @invariant()
    def a_trigger_has_the_id_of_its_part(self) -> None:
        parts = {**self.answers, **self.station.parts}
        assert all(parts[id] == part for part, id in self.program.answers if id)
        assert len(set(parts.values())) == len(parts)  # no part is triggered twice

    def teardown(self) -> None:
        for _ in range(4 * (self.delivered + self.parts) + 8):
            self.station_looks([], 0)
            self.scan()
        check_taken(self.program, list(range(1, self.delivered + 1)))


TestPolledServer: Any = PolledServer.TestCase
TestHeldMemory: Any = HeldMemory.TestCase
TestPolledServer.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestHeldMemory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
