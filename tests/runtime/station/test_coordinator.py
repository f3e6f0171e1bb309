"""Triggers, pictures and time in any order: one verdict each, in order, and the right picture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generalad.runtime.sources import Frame
from generalad.runtime.station.coordinator import CameraFacts, Coordinator, How
from generalad.runtime.station.matching import Matcher
from generalad.runtime.station.parts import Part, Parts, Picture
from generalad.runtime.station.plc.interface import Accepted, Refused
from generalad.runtime.station.verdict import Verdict


@dataclass
class Recipe:
    name: str = "washer"


class Memory:
    """A journal in memory."""

    def __init__(self) -> None:
        self.ids = 0
        self.decided_: list[Verdict] = []
        self.unanswered: list[tuple[int, str | None]] = []

    def next_id(self) -> int:
        self.ids += 1
        return self.ids

    def triggered(self, id: int, part: str | None) -> None:
        pass

    def decided(self, verdict: Verdict) -> None:
        self.decided_.append(verdict)


class Bench:
    """A coordinator with a clock, whose tasks are done by the test."""

    def __init__(self, begun_by_pictures: bool = False, at_once: int = 3, **cameras: How) -> None:
        self.now = 100.0
        self.away: set[str] = set()
        self.asked: list[tuple[str, Part]] = []
        self.to_judge: list[tuple[str, Part, Frame]] = []
        self.left: Counter[str] = Counter()
        self.journal = Memory()
        facts = {name: CameraFacts(how, 1, self._fault(name)) for name, how in cameras.items()}
        self.coordinator = Coordinator(
            Parts(dict.fromkeys(cameras, 1), deadline=0.5, at_once=at_once),
            facts,
            self.journal,  # type: ignore[arg-type]
            self,
            window=0.05,
            begun_by_pictures=begun_by_pictures,
            clock=lambda: self.now,
        )
        self.coordinator.recipe = Recipe()
        self.pictures = 0

    def _fault(self, camera: str) -> Callable[[], str]:
        return lambda: f"{camera}: away" if camera in self.away else ""

    def take_picture(self, camera: str, part: Part) -> None:
        self.asked.append((camera, part))

    def judge(self, camera: str, part: Part, frame: Frame) -> None:
        self.to_judge.append((camera, part, frame))

    def unwanted(self, camera: str, frame: Frame, reason: str) -> None:
        self.left[reason] += 1

    def picture(self, camera: str, part: Part | None = None) -> Frame:
        self.pictures += 1
        frame = Frame(camera, self.pictures, 0.0, "", "", None, captured_at=self.now)
        self.coordinator.picture(camera, frame, part)
        return frame

    def judged(self, number: int = 0, outcome: Any = "pass") -> None:
        camera, part, _ = self.to_judge.pop(number)
        self.coordinator.judged(part, Picture(camera, outcome))

    def answers(self) -> list[tuple[int, str, str | None]]:
        found = [part.verdict for part in self.coordinator.answers(self.now)]
        return [(v.id, v.outcome, v.reason) for v in found if v is not None]


def test_an_overrun_takes_its_picture_with_it() -> None:
    bench = Bench(top="line", at_once=1)
    for _ in range(3):
        bench.coordinator.trigger(None)
        bench.picture("top")
        bench.now += 0.1
    assert [part.id for _, part, _ in bench.to_judge] == [1]
    assert bench.left == {"overrun": 2}
    bench.judged()
    assert [reason for _, _, reason in bench.answers()] == [None, "overrun", "overrun"]


def test_a_picture_that_is_lost_is_that_of_its_part() -> None:
    bench = Bench(top="line")
    bench.coordinator.trigger(None)
    bench.coordinator.lost("top", bench.now + 0.01, "packets are missing")
    bench.now += 0.2
    bench.coordinator.trigger(None)
    bench.picture("top")
    bench.judged()
    assert bench.answers() == [(1, "no verdict", "picture lost"), (2, "pass", None)]


def test_a_flood_takes_no_memory() -> None:
    bench = Bench(top="line", at_once=1)
    found = [bench.coordinator.trigger(None) for _ in range(1100)]
    assert found[1000:] == [Refused("overrun")] * 100
    assert bench.coordinator.counts().refused == 100


def test_without_a_recipe_and_at_the_end_triggers_are_refused() -> None:
    bench = Bench(top="line")
    bench.coordinator.recipe = None
    assert bench.coordinator.trigger(None) == Refused("not ready")
    bench.coordinator.recipe = Recipe()
    bench.coordinator.close()
    assert bench.coordinator.trigger(None) == Refused("not ready")


def test_pictures_of_two_cameras_begin_one_part() -> None:
    bench = Bench(begun_by_pictures=True, top="line", side="line")
    bench.picture("side")
    bench.now += 0.03
    bench.picture("top")
    bench.now += 0.2
    bench.picture("top")
    assert [part.id for _, part, _ in bench.to_judge] == [1, 1, 2]
    bench.now += 0.06
    for _ in range(3):
        bench.judged()
    assert bench.answers() == [(1, "pass", None), (2, "no verdict", "picture lost")]


def test_a_camera_that_is_asked_and_away() -> None:
    bench = Bench(top="software", side="software")
    bench.coordinator.trigger(None)
    (_, part), _ = bench.asked
    bench.picture("top", part)
    bench.coordinator.camera_lost("side", "side: unplugged")
    assert bench.answers() == []  # the other one may still reject it
    bench.judged(outcome="reject")
    assert bench.answers() == [(1, "reject", None)]
    bench.away.add("side")
    bench.coordinator.trigger(None)
    bench.picture("top", bench.asked[-1][1])
    bench.judged()
    assert bench.answers() == [(2, "no verdict", "camera fault")]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["trigger", "picture", "lost", "judge", "reject", "away", "back", "wait"]),
        st.integers(0, 9),
        st.sampled_from(["top", "side"]),
    ),
    max_size=60,
)


@settings(max_examples=150)
@given(steps=STEPS, how=st.sampled_from(["line", "free"]), by_pictures=st.booleans())
def test_any_order_gives_each_trigger_one_verdict_in_order(
    steps: list[tuple[str, int, str]], how: How, by_pictures: bool
) -> None:
    bench = Bench(begun_by_pictures=by_pictures and how == "line", top=how, side=how)
    triggered, answered = 0, []
    for what, number, camera in steps:
        if what == "trigger":
            triggered += isinstance(bench.coordinator.trigger(None), Accepted)
        elif what == "picture":
            bench.picture(camera)
        elif what == "lost":
            bench.coordinator.lost(camera, bench.now, "damaged")
        elif what in ("judge", "reject") and bench.to_judge:
            outcome = "reject" if what == "reject" else "pass"
            bench.judged(number % len(bench.to_judge), outcome)
        elif what == "away":
            bench.away.add(camera)
            bench.coordinator.camera_lost(camera, "away")
        elif what == "back":
            bench.away.discard(camera)
        elif what == "wait":
            bench.now += number * 0.03
        answered += bench.answers()
    bench.now += 1.0
    answered += bench.answers()
    assert [id for id, *_ in answered] == list(range(1, bench.journal.ids + 1))
    assert bench.journal.ids >= triggered
    assert [verdict.id for verdict in bench.journal.decided_] == [id for id, *_ in answered]
    # Each picture went to one place at most, and each part got one of a camera at most.
    places = [(camera, part.id) for camera, part, _ in bench.to_judge]
    assert len(set(places)) == len(places)
    assert bench.coordinator.waiting == 0


@given(
    gaps=st.lists(st.floats(0.11, 0.5), min_size=1, max_size=12),
    delays=st.one_of(  # pictures that may be late, or that may come before their triggers
        st.lists(st.floats(0.001, 0.3), min_size=12, max_size=12),
        st.integers(0, 5).map(lambda late: [0.155 if n % 6 == late else 0.01 for n in range(12)]),
        st.lists(st.floats(-0.049, -0.001), min_size=12, max_size=12),
    ),
    lost=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_a_picture_is_never_that_of_another_part(
    gaps: list[float], delays: list[float], lost: list[bool]
) -> None:
    matcher: Matcher[int] = Matcher(0.05, 0.05)
    triggers = [10.0 + sum(gaps[:number]) for number in range(len(gaps))]
    events = [(at, "trigger", number) for number, at in enumerate(triggers)]
    end = math.inf
    for number in reversed(range(len(gaps))):
        # All that must be true: before the next trigger, but for one alone, and in their order.
        comes = not any(lost[number + 1 : number + 2]) and 0.01 in delays[number + 1 : number + 2]
        alone = delays[number] == 0.155 and comes
        last = triggers[number + 1] + 0.009 if alone and number + 1 < len(gaps) else end
        at = min(triggers[number] + delays[number], last - 0.001)
        end = min(at, triggers[number])
        if not lost[number]:
            events.append((at, "picture", number))
    matched: dict[int, int] = {}
    for at, what, number in sorted(events):
        matcher.expire(at)
        if what == "trigger":
            part = Part(number, None, Recipe(), at, at + 1.0, Counter())
            matched.update(dict.fromkeys(matcher.trigger(part, 1), number))
        elif isinstance(found := matcher.picture(at, number), Part):
            matched[number] = found.id
        matched.update({p: owner.id for owner, p in matcher.settled() if owner is not None})
    matcher.expire(math.inf)
    matched.update({p: owner.id for owner, p in matcher.settled() if owner is not None})
    assert all(picture == part for picture, part in matched.items())
    in_time = {n for n in range(len(gaps)) if not lost[n] and delays[n] <= 0.049}
    if delays[0] > 0 or not lost[0]:  # how the camera is must have been seen once
        assert in_time <= set(matched)


def test_a_camera_before_its_triggers_loses_one_picture_and_not_all_that_follow() -> None:
    matcher: Matcher[int] = Matcher(0.05, 0.05)
    matched = []
    for number in range(6):
        at = 10.0 + number * 0.2
        matcher.expire(at - 0.02)
        if number != 2:
            assert matcher.picture(at - 0.02, number) == "held"
        part = Part(number, None, Recipe(), at, at + 1.0, Counter())
        matched += matcher.trigger(part, 1)
    assert matched == [0, 1, 3, 4, 5]


def test_a_late_picture_is_not_that_of_the_next_part() -> None:
    bench = Bench(top="line")
    bench.coordinator.trigger(None)
    bench.now += 0.06
    assert bench.answers() == [(1, "no verdict", "picture lost")]
    bench.now += 0.08
    bench.picture("top")  # of the first part, a moment before the second trigger
    bench.now += 0.02
    bench.coordinator.trigger(None)
    bench.picture("top")
    bench.judged()
    assert bench.answers() == [(2, "pass", None)]
    assert bench.left == {"late": 1}
    assert bench.coordinator.counts().without_trigger == 0


@pytest.mark.parametrize("own", [True, False], ids=["late", "lost"])
def test_a_picture_after_the_next_trigger_is_not_that_of_the_next_part(own: bool) -> None:
    bench = Bench(top="line")
    bench.coordinator.trigger(None)
    bench.now += 0.15
    assert bench.answers() == [(1, "no verdict", "picture lost")]
    bench.coordinator.trigger(None)
    bench.now += 0.01
    bench.picture("top")  # of the first part, or of the second if that of the first was lost
    assert not bench.to_judge
    if own:
        bench.now += 0.01
        bench.picture("top")
    bench.now += 0.04
    bench.coordinator.answers(bench.now)
    bench.judged()
    assert bench.answers() == [(2, "pass", None)]
    assert bench.left == ({"late": 1} if own else {})
    bench.now += 0.2  # and after it all is as before
    bench.coordinator.trigger(None)
    bench.picture("top")
    bench.judged()
    assert bench.answers() == [(3, "pass", None)]


def test_what_no_picture_and_no_trigger_belongs_to_is_told() -> None:
    matcher: Matcher[str] = Matcher(0.05, 0.05)
    part = Part(1, None, Recipe(), 10.0, 11.0, Counter())
    matcher.trigger(part, 2)
    assert matcher.picture(10.02, "first") is part
    assert matcher.picture(10.2, "alone") == "held"
    assert matcher.next_end == pytest.approx(10.05)
    assert matcher.expire(10.3) == ([(part, 1)], ["alone"])
    assert matcher.next_end is None


def test_parts_of_an_earlier_process_are_answered_first(tmp_path: Path) -> None:
    bench = Bench(top="line")
    bench.journal.unanswered = [(7, "A-7"), (8, None)]
    bench.coordinator.begin(Recipe())
    assert bench.answers() == [(7, "no verdict", "restart"), (8, "no verdict", "restart")]
