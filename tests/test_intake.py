"""Batches are taken from all lanes in turn, within a time, and nothing is lost or reordered."""

from __future__ import annotations

import threading
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.runtime.flow.channel import BrokenOff
from generalad.runtime.flow.intake import Intake

Item = tuple[int, int]


def counts(item: Item) -> bool:
    return item[1] % 5 != 4


@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(1, 6))
def test_all_items_in_the_order_of_their_lane(lengths: list[int], size: int) -> None:
    intake: Intake[Item] = Intake([20] * len(lengths), counts)
    for lane, length in enumerate(lengths):
        for number in range(length):
            intake.put(lane, (lane, number))
        intake.end(lane)
    found: dict[int, list[int]] = defaultdict(list)
    while batch := intake.batch(size, None):
        assert sum(map(counts, batch)) <= size
        for lane, number in batch:
            found[lane].append(number)
    assert {lane: list(range(n)) for lane, n in enumerate(lengths) if n} == found


@given(st.integers(2, 6), st.integers(1, 7))
def test_full_lanes_get_the_same_share(lanes: int, size: int) -> None:
    intake: Intake[int] = Intake([1000] * lanes, lambda item: True)
    for lane in range(lanes):
        for _ in range(70):
            intake.put(lane, lane)
    taken = [item for _ in range(20) for item in intake.batch(size, 0.0)]
    shares = [taken.count(lane) for lane in range(lanes)]
    assert max(shares) - min(shares) <= 1


def test_a_quiet_lane_is_served_next() -> None:
    intake: Intake[str] = Intake([100, 1], lambda item: True)
    for _ in range(10):
        intake.put(0, "busy")
    assert intake.batch(3, 0.0) == ["busy"] * 3
    intake.put(1, "quiet")
    assert "quiet" in intake.batch(2, 0.0)


def test_a_batch_waits_no_longer_than_it_may() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.3
        return now[0]

    intake: Intake[int] = Intake([4], lambda item: True, clock)
    intake.put(0, 1)
    assert intake.batch(4, 0.2) == [1]


def test_without_a_limit_a_batch_waits_until_it_is_full() -> None:
    intake: Intake[int] = Intake([4], lambda item: True)
    found: list[list[int]] = []
    consumer = threading.Thread(target=lambda: found.append(intake.batch(2, None)))
    consumer.start()
    intake.put(0, 1)
    consumer.join(0.05)
    assert consumer.is_alive()
    intake.put(0, 2)
    consumer.join(10)
    assert found == [[1, 2]]


def test_what_does_not_count_waits_for_nobody() -> None:
    intake: Intake[Item] = Intake([4], counts)
    intake.put(0, (0, 4))
    assert intake.batch(8, None) == [(0, 4)]


def test_a_full_lane_holds_its_producer_only() -> None:
    intake: Intake[int] = Intake([1, 1], lambda item: True)
    intake.put(0, 0)
    held = threading.Thread(target=lambda: intake.put(0, 0))
    held.start()
    intake.put(1, 1)
    assert held.is_alive()
    assert sorted(intake.batch(2, 0.0)) == [0, 1]
    held.join(10)
    assert not held.is_alive()


def test_breaking_off_wakes_both_sides() -> None:
    intake: Intake[int] = Intake([1, 1], lambda item: True)
    intake.put(0, 0)
    woken: list[str] = []

    def producer() -> None:
        with pytest.raises(BrokenOff):
            intake.put(0, 1)
        woken.append("producer")

    thread = threading.Thread(target=producer)
    thread.start()
    intake.break_off()
    thread.join(10)
    assert woken == ["producer"]
    with pytest.raises(BrokenOff):
        intake.batch(1, None)
