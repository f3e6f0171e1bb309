"""Events begin and end once, do not overlap or flap, and know their peak."""

from __future__ import annotations

import gc
import json
import re
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generalad.decision import Milliseconds, Region, Result
from generalad.errors import UsageError
from generalad.runtime.line.events import NORMAL, EventRule, EventTracker
from generalad.runtime.notification import Notification
from generalad.runtime.sources import Frame

START = 1_764_000_000.0


@dataclass(frozen=True)
class Step:
    """One frame: a normalised score, None for an error; `small`: its regions are too small."""

    level: float | None
    small: bool = False

    @property
    def anomalous(self) -> bool:
        return self.level is not None and self.level >= 0.5 and not self.small

    def holds(self, release: float) -> bool:
        return self.anomalous or (self.level is not None and release <= self.level < 0.5)


LEVELS = st.sampled_from([0.05, 0.2, 0.3, 0.45, 0.5, 0.6, 0.7, 0.9])
STEP = st.builds(Step, LEVELS) | st.builds(Step, LEVELS | st.none(), st.booleans())
# Long ones on purpose: short lists, which hypothesis prefers, hold few events.
STEPS = st.lists(STEP, max_size=8) | st.lists(STEP, min_size=25, max_size=60)
RULES = st.sampled_from([1, 2, 3, 5, 8]).flatmap(
    lambda of: st.builds(
        EventRule, st.integers(1, of), st.just(of), st.sampled_from([0.1, 0.3, 0.5])
    )
)


def feed(tracker: EventTracker, steps: list[Step], first: int = 0) -> list[Notification]:
    notifications = []
    for index, step in enumerate(steps, start=first):
        frame = Frame(
            "line", index, START + index, "", f"line/{index:09d}.jpg",
            np.full((4, 6, 3), index % 256, np.uint8),
        )  # fmt: skip
        level, error = step.level, "broken" if step.level is None else None
        regions = (Region((0, 0, 1, 1), 1, 0.5),) if step.anomalous else ()
        result = Result(
            "line", index, frame.time, "", level and level * 10, level,
            None if error else step.anomalous, regions, Milliseconds(), error,
        )  # fmt: skip
        batch = np.full((5, 2, 3), index, np.float32)
        notifications += tracker.add(frame, result, None if error else batch[1])
    return notifications


def levels(*values: float) -> list[Step]:
    return [Step(value) for value in values]


def phases(notifications: list[Notification]) -> list[str]:
    return [notification.data["phase"] for notification in notifications]


def expected_events(steps: list[Step], rule: EventRule) -> list[tuple[int, int, str]]:
    """By definition, from the whole list: (first, last, ended_by) as indices of frames."""
    scored = [(index, step) for index, step in enumerate(steps) if step.level is not None]
    events: list[tuple[int, int, str]] = []
    first: int | None = None
    for at in range(len(scored)):
        window = scored[max(0, at + 1 - rule.of) : at + 1]
        if first is None:
            anomalous = [index for index, step in window if step.anomalous]
            first = anomalous[0] if len(anomalous) >= rule.frames else None
        elif not any(step.holds(rule.release) for _, step in window):
            held = [i for i, step in scored[: at + 1] if step.holds(rule.release)]
            events.append((first, held[-1], NORMAL))
            first = None
    if first is not None:
        held = [i for i, step in scored if step.holds(rule.release)]
        events.append((first, held[-1], "source ended"))
    return events


@settings(max_examples=400)
@given(STEPS, RULES)
def test_events_are_what_the_definition_says(steps: list[Step], rule: EventRule) -> None:
    tracker = EventTracker("line", rule)
    notifications = feed(tracker, steps) + tracker.close("source ended")
    expected = expected_events(steps, rule)
    assert phases(notifications) == ["begin", "end"] * len(expected)
    assert tracker.count == len(expected) and tracker.event is None
    assert tracker.close("again") == []
    last = -1.0
    for (first, end, ended_by), begun, ended in zip(
        expected, notifications[::2], notifications[1::2], strict=True
    ):
        data = ended.data
        assert begun.data["event"] == data["event"] and begun.data["begin"] == data["begin"]
        assert (data["begin"], data["end"]) == (START + first, START + end)
        assert data["ended_by"] == ended_by and begun.data["ended_by"] is None
        assert last < data["begin"] <= begun.time <= ended.time, "events do not overlap"
        last = data["end"]
        inside = [(i, s) for i, s in enumerate(steps) if first <= i <= end and s.level is not None]
        anomalous = [(i, s) for i, s in inside if s.anomalous]
        assert (data["frames"], data["anomalous"]) == (len(inside), len(anomalous))
        peak = max(s.level or 0 for _, s in anomalous)
        assert data["peak"]["normalised"] == peak
        assert data["peak"]["index"] == next(i for i, s in anomalous if s.level == peak)
        assert ended.evidence is not None and begun.evidence is None
        assert (ended.evidence.image == data["peak"]["index"]).all()
        assert (ended.evidence.anomaly_map == data["peak"]["index"]).all()


@given(RULES, LEVELS, st.integers(0, 40))
def test_a_constant_level_never_flaps(rule: EventRule, level: float, count: int) -> None:
    notifications = feed(EventTracker("line", rule), [Step(level)] * count)
    assert phases(notifications) == ["begin"] * (level >= 0.5 and count >= rule.frames)


def test_a_level_between_release_and_threshold_holds_but_does_not_begin() -> None:
    tracker = EventTracker("line", EventRule(release=0.3))
    assert phases(feed(tracker, levels(0.4, 0.49, 0.5, 0.3, 0.4, 0.3, 0.5, 0.29))) == [
        "begin", "end",
    ]  # fmt: skip
    assert phases(feed(tracker, levels(0.4, 0.4))) == []


def test_small_regions_with_a_high_score_hold_nothing() -> None:
    tracker = EventTracker("line", EventRule(release=0.3))
    assert phases(feed(tracker, [Step(0.9), Step(0.9, small=True)])) == ["begin", "end"]


def test_frames_without_a_score_change_nothing() -> None:
    rule = EventRule(frames=2, of=2, release=0.5)
    tracker = EventTracker("line", rule)
    assert phases(feed(tracker, [Step(0.6), *[Step(None)] * 9, Step(0.6)])) == ["begin"]
    assert phases(feed(tracker, [Step(0.1), *[Step(None)] * 9])) == []
    assert phases(feed(tracker, levels(0.1))) == ["end"]


def test_close_names_the_reason_and_forgets_what_might_have_begun() -> None:
    tracker = EventTracker("line", EventRule(frames=2, of=3))
    feed(tracker, levels(0.6))
    assert tracker.close("camera lost") == []
    assert phases(feed(tracker, levels(0.6))) == []
    assert phases(feed(tracker, levels(0.6))) == ["begin"]
    (notification,) = tracker.close("camera lost", time=START + 99)
    assert notification.data["ended_by"] == "camera lost" and notification.time == START + 99
    assert notification.data["end"] <= START + 1


def test_a_notification_is_json_with_an_id_of_its_own() -> None:
    tracker = EventTracker("line")
    (begin,) = feed(tracker, levels(0.7))
    (end,) = feed(tracker, levels(0.1), first=1)
    event = begin.data["event"]
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{8}", event)
    assert (begin.id, end.id) == (f"{event}-begin", f"{event}-end")
    record = json.loads(json.dumps(end.to_dict(), allow_nan=False))
    assert (record["notice"], record["stream"], record["phase"]) == ("event", "line", "end")
    assert record["peak"] == {
        "time": START, "index": 0, "score": 7.0, "normalised": 0.7,
        "regions": [{"box": [0, 0, 1, 1], "area": 1, "peak": 0.5}],
    }  # fmt: skip


@given(st.lists(st.floats(0, 4e9), min_size=2, max_size=5))
def test_ids_sort_by_time_and_differ_for_equal_times(times: list[float]) -> None:
    ids = []
    for time in times:
        frame = Frame("line", 0, time, "", "0.jpg", None)
        result = Result("line", 0, time, "", 1.0, 0.9, True, (), Milliseconds())
        (notification,) = EventTracker("line").add(frame, result, None)
        ids.append(notification.data["event"])
    assert len(set(ids)) == len(ids)
    assert [i[:20] for i in sorted(ids)] == [
        i[:20] for _, i in sorted(zip(times, ids, strict=True))
    ]


def test_a_clock_that_is_set_back_makes_no_event_of_negative_length() -> None:
    tracker = EventTracker("line")
    feed(tracker, levels(0.6), first=100)
    feed(tracker, levels(0.7))
    (notification,) = tracker.close("shut down")
    assert notification.data["begin"] == notification.data["end"] == START + 100


def test_a_long_event_holds_one_image() -> None:
    tracker = EventTracker("line", EventRule(frames=3, of=10))
    alive: list[weakref.ref[object]] = []
    for index in range(500):
        image = np.zeros((4, 6, 3), np.uint8)
        alive.append(weakref.ref(image))
        frame = Frame("line", index, START + index, "", "x.jpg", image)
        score = 1 + (index * 37 % 500) / 500
        result = Result("line", index, frame.time, "", score, 0.9, True, (), Milliseconds())
        tracker.add(frame, result, np.zeros((2, 3), np.float32))
        del image, frame
        assert sum(ref() is not None for ref in alive) <= (3 if index < 3 else 1)
    tracker.close("shut down")
    gc.collect()
    assert not any(ref() is not None for ref in alive)


def test_evidence_does_not_keep_a_batch_of_maps() -> None:
    tracker = EventTracker("line")
    feed(tracker, levels(0.7))
    (notification,) = tracker.close("shut down")
    assert notification.evidence is not None and notification.evidence.anomaly_map.base is None


@pytest.mark.parametrize(
    ("frames", "of", "release"),
    [(0, 1, 0.5), (3, 2, 0.5), (1, 1001, 0.5), (1, 1, 0.0), (1, 1, 0.51), (1, 1, float("nan"))],
)
def test_rule_refuses(frames: int, of: int, release: float) -> None:
    with pytest.raises(UsageError, match="expected"):
        EventRule(frames, of, release)


def live(index: int, wall: float, captured_at: float, level: float) -> tuple[Frame, Result]:
    frame = Frame(
        "line", index, wall, "", "n", np.zeros((4, 6, 3), np.uint8), captured_at=captured_at
    )
    result = Result("line", index, wall, "", level, level, level >= 0.5, (), Milliseconds())
    return frame, result


@pytest.mark.parametrize("jump", [-7200.0, 7200.0, -3.0])
def test_a_clock_that_is_set_during_an_event_does_not_change_its_length(jump: float) -> None:
    tracker = EventTracker("line", EventRule(frames=2, of=3))
    found = []
    for index, level in enumerate((0.1, 0.9, 0.8, 0.9, 0.1, 0.1, 0.1)):
        wall = START + index + (jump if index >= 3 else 0.0)
        frame, result = live(index, wall, 50.0 + index, level)
        found += tracker.add(frame, result, np.zeros((2, 3), np.float32))
    data = found[-1].data
    assert (data["begin"], data["end"]) == (START + 1, START + 3)
    frame, result = live(9, START + 100, 59.0, 0.9)
    tracker.add(frame, result, None)
    frame, result = live(10, START + 101, 60.0, 0.9)
    (begin,) = tracker.add(frame, result, None)
    assert begin.data["begin"] == START + 100, "between events the clock counts again"


def test_events_of_a_video_are_named_by_today_and_count_from_its_start() -> None:
    tracker = EventTracker("clip.mp4", EventRule(), clock=lambda: START)
    image = np.zeros((4, 6, 3), np.uint8)
    found = []
    for index, level in enumerate((0.1, 0.9, 0.9, 0.1)):
        frame = Frame("clip.mp4", index, index / 10, "", "n", image, rate=10.0)
        result = Result("", index, index / 10, "", level, level, level >= 0.5, (), Milliseconds())
        found += tracker.add(frame, result, None)
    begin, end = found
    assert begin.data["event"].startswith("2025") and begin.time == end.time == START
    assert (end.data["begin"], end.data["end"]) == (0.1, 0.2)
