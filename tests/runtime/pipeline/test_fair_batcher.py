"""Batches are taken from all readers in turn, within a time, and nothing is lost or reordered."""

from __future__ import annotations

import threading
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.runtime.pipeline.queues import BrokenOff, FairBatcher

Item = tuple[int, int]


def counts(item: Item) -> bool:
    return item[1] % 5 != 4


@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(1, 6))
def test_all_items_in_the_order_of_their_lane(lengths: list[int], size: int) -> None:
    batcher: FairBatcher[Item] = FairBatcher([20] * len(lengths), counts)
    for reader, length in enumerate(lengths):
        for number in range(length):
            batcher.put(reader, (reader, number))
        batcher.end(reader)
    found: dict[int, list[int]] = defaultdict(list)
    while batch := batcher.batch(size, None):
        assert sum(map(counts, batch)) <= size
        for reader, number in batch:
            found[reader].append(number)
    assert {reader: list(range(n)) for reader, n in enumerate(lengths) if n} == found


@given(st.integers(2, 6), st.integers(1, 7))
def test_full_lanes_get_the_same_share(readers: int, size: int) -> None:
    batcher: FairBatcher[int] = FairBatcher([1000] * readers, lambda item: True)
    for reader in range(readers):
        for _ in range(70):
            batcher.put(reader, reader)
    taken = [item for _ in range(20) for item in batcher.batch(size, 0.0)]
    shares = [taken.count(reader) for reader in range(readers)]
    assert max(shares) - min(shares) <= 1


def test_a_quiet_lane_is_served_next() -> None:
    batcher: FairBatcher[str] = FairBatcher([100, 1], lambda item: True)
    for _ in range(10):
        batcher.put(0, "busy")
    assert batcher.batch(3, 0.0) == ["busy"] * 3
    batcher.put(1, "quiet")
    assert "quiet" in batcher.batch(2, 0.0)


def test_a_batch_waits_no_longer_than_it_may() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.3
        return now[0]

    batcher: FairBatcher[int] = FairBatcher([4], lambda item: True, clock)
    batcher.put(0, 1)
    assert batcher.batch(4, 0.2) == [1]


def test_without_a_limit_a_batch_waits_until_it_is_full() -> None:
    batcher: FairBatcher[int] = FairBatcher([4], lambda item: True)
    found: list[list[int]] = []
    consumer = threading.Thread(target=lambda: found.append(batcher.batch(2, None)))
    consumer.start()
    batcher.put(0, 1)
    consumer.join(0.05)
    assert consumer.is_alive()
    batcher.put(0, 2)
    consumer.join(10)
    assert found == [[1, 2]]


def test_what_does_not_count_waits_for_nobody() -> None:
    batcher: FairBatcher[Item] = FairBatcher([4], counts)
    batcher.put(0, (0, 4))
    assert batcher.batch(8, None) == [(0, 4)]


def test_a_full_lane_holds_its_producer_only() -> None:
    batcher: FairBatcher[int] = FairBatcher([1, 1], lambda item: True)
    batcher.put(0, 0)
    held = threading.Thread(target=lambda: batcher.put(0, 0))
    held.start()
    batcher.put(1, 1)
    assert held.is_alive()
    assert sorted(batcher.batch(2, 0.0)) == [0, 1]
    held.join(10)
    assert not held.is_alive()


def test_breaking_off_wakes_both_sides() -> None:
    batcher: FairBatcher[int] = FairBatcher([1, 1], lambda item: True)
    batcher.put(0, 0)
    woken: list[str] = []

    def producer() -> None:
        with pytest.raises(BrokenOff):
            batcher.put(0, 1)
        woken.append("producer")

    thread = threading.Thread(target=producer)
    thread.start()
    batcher.break_off()
    thread.join(10)
    assert woken == ["producer"]
    with pytest.raises(BrokenOff):
        batcher.batch(1, None)
