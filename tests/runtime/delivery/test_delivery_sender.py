"""The thread that delivers: order, waiting times, rate limit, end. Against a scripted receiver."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from camera_helpers import FakeClock
from delivery_helpers import QUICK, FakeTransport, message, until
from hypothesis import given
from hypothesis import strategies as st

from generalad.errors import UsageError
from generalad.runtime.backoff import Backoff
from generalad.runtime.delivery.outbox import Outbox
from generalad.runtime.delivery.rate import BURST_SECONDS, TokenBucket
from generalad.runtime.delivery.sender import Sender
from generalad.runtime.delivery.transport import Refused, Unavailable


class Rig:
    def __init__(self, path: Path, **settings: Any) -> None:
        self.outbox = Outbox(path)
        self.transport = FakeTransport()
        self.lines: list[str] = []
        settings.setdefault("backoff", QUICK)
        self.sender = Sender(self.outbox, self.transport, log=self.lines.append, **settings)

    def put(self, *numbers: int, kind: Any = "event") -> None:
        for number in numbers:
            self.sender.put(message(number, kind))

    @property
    def delivered(self) -> list[str]:
        return self.transport.delivered


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "q")
    yield rig
    rig.sender.close(0)
    rig.outbox.close()


def test_delivers_in_order_through_failures(rig: Rig) -> None:
    rig.transport.plan = [None, Unavailable("busy"), None, Unavailable("busy"), OSError("secret")]
    rig.sender.start()
    rig.put(*range(20))
    until(lambda: rig.outbox.tally.delivered == 20)
    assert rig.delivered == [f"m{number}" for number in range(20)]
    assert rig.transport.connects == 4
    assert not any("secret" in line for line in rig.lines)
    assert "fake://receiver: unexpected error (OSError)" in rig.lines


def test_refused_is_dropped_counted_and_said(rig: Rig) -> None:
    rig.transport.plan = [Refused("HTTP 400, bad request")]
    rig.put(0, 1)
    rig.sender.start()
    until(lambda: rig.outbox.tally.waiting == 0)
    assert rig.delivered == ["m1"] and rig.outbox.tally.dropped == {"refused": 1}
    rig.sender.close(1)
    assert any("was refused: HTTP 400" in line for line in rig.lines)
    assert rig.transport.connects == 1


def test_down_at_the_start_is_the_same_as_down_later(rig: Rig) -> None:
    rig.transport.down = Unavailable("connection refused")
    rig.sender.start()
    rig.put(0)
    until(lambda: rig.transport.connects > 3)
    status = rig.sender.status
    assert not status.connected and status.reason == "connection refused" and status.waiting == 1
    rig.transport.down = None
    until(lambda: rig.sender.status.connected)
    rig.transport.down = Unavailable("the connection was lost")
    until(lambda: rig.sender.status.reason == "the connection was lost")  # found while idle
    rig.put(1)
    rig.transport.down = None
    until(lambda: rig.delivered == ["m0", "m1"])
    until(lambda: rig.sender.status.connected)
    rig.sender.close(1)
    told = [line.removeprefix("fake://receiver: ") for line in rig.lines]
    assert told == ["connection refused", "connected", "the connection was lost", "connected"]


def test_connected_is_only_said_when_a_message_got_through(rig: Rig) -> None:
    rig.transport.plan = [Unavailable("HTTP 503, service unavailable")] * 4
    rig.put(0)
    rig.sender.start()
    until(lambda: rig.delivered)
    rig.sender.close(1)
    assert len(rig.lines) == 2  # the reason and the return, not one for every attempt


class Jumping(FakeClock):
    """Time that passes by waiting only, and then at once."""

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        condition.wait(0.0005)
        self.advance(timeout or 0.0)


def test_waiting_times_double_and_obey_the_receiver(tmp_path: Path) -> None:
    clock = Jumping()
    backoff = Backoff(first=1.0, cap=4.0, jitter=0.0, good_after=10.0)
    rig = Rig(tmp_path / "q", clock=clock, backoff=backoff)
    times: list[float] = []
    answers = [Unavailable("no")] * 4 + [Unavailable("later", retry_after=60.0)]

    def connect(sender: str, timeout: float) -> None:
        times.append(clock.now())
        if answers:
            raise answers.pop(0)

    rig.transport.connect = connect  # type: ignore[method-assign]
    rig.put(0)
    rig.sender.start()
    until(lambda: rig.delivered)
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert waits == pytest.approx([1, 2, 4, 4, 60], abs=1e-3)
    rig.sender.close(1)
    rig.outbox.close()


def test_waiting_times_start_anew_after_a_good_while(tmp_path: Path) -> None:
    clock = Jumping()
    backoff = Backoff(first=1.0, cap=64.0, jitter=0.0, good_after=10.0)
    rig = Rig(tmp_path / "q", clock=clock, backoff=backoff)
    times: list[float] = []
    plan = iter([0.0, 0.0, 0.0, 20.0, 0.0])  # how long each connection lasts; no message comes

    def connect(sender: str, timeout: float) -> None:
        times.append(clock.now())
        rig.transport.lasts = next(plan, 1e9)  # type: ignore[attr-defined]

    def check() -> None:
        if clock.now() - times[-1] >= rig.transport.lasts:  # type: ignore[attr-defined]
            raise Unavailable("the connection was lost")

    rig.transport.connect = connect  # type: ignore[method-assign]
    rig.transport.check = check  # type: ignore[method-assign]
    rig.sender.start()
    until(lambda: len(times) == 6)
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert waits == pytest.approx([1, 2, 4, 20 + 1, 2], abs=1e-3)
    rig.sender.close(1)
    rig.outbox.close()


def test_rate_limit_delays_events_and_drops_results(tmp_path: Path) -> None:
    clock = Jumping()
    rig = Rig(tmp_path / "q", clock=clock, per_minute=6.0)  # a burst of one, then one in 10 s
    times: list[float] = []
    deliver = rig.transport.deliver

    def timed(message: Any, timeout: float) -> None:
        times.append(clock.now())
        deliver(message, timeout)

    rig.transport.deliver = timed  # type: ignore[method-assign]
    rig.put(0)
    rig.put(1, 2, kind="result")
    rig.put(3, 4)
    rig.sender.start()
    until(lambda: rig.delivered == ["m0", "m3", "m4"])
    assert rig.outbox.tally.dropped == {"rate limit": 2}
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert waits == pytest.approx([10, 10], abs=1e-3)
    rig.sender.close(1)
    rig.outbox.close()
    assert any("messages are dropped: rate limit" in line for line in rig.lines)


def test_results_beyond_the_rate_are_not_even_written(tmp_path: Path) -> None:
    clock = FakeClock()
    rig = Rig(tmp_path / "q", clock=clock, per_minute=6.0)
    rig.put(0)
    rig.put(1, kind="result")
    rig.sender.start()
    until(lambda: rig.outbox.tally.dropped == {"rate limit": 1})
    rig.put(2, kind="result")
    assert rig.outbox.tally.dropped == {"rate limit": 2} and rig.outbox.tally.waiting == 0
    rig.transport.down = Unavailable("away")  # then they are kept for later
    clock.advance(1.5)
    until(lambda: not rig.sender.status.connected)
    rig.put(3, kind="result")
    assert rig.outbox.tally.waiting == 1
    rig.sender.close(0)
    rig.outbox.close()


@given(
    per_minute=st.floats(0.1, 10_000),
    steps=st.lists(st.floats(0, 30), max_size=50),
)
def test_token_bucket_keeps_its_rate(per_minute: float, steps: list[float]) -> None:
    bucket = TokenBucket(per_minute)
    now, taken, longest_wait = 0.0, 0, 0.0
    for step in [0.0, *steps]:
        now += step
        while taken < 100_000 and (wait := bucket.wait(now)) == 0:
            bucket.take()
            taken += 1
        longest_wait = max(longest_wait, wait)
    burst = max(1.0, per_minute / 60 * BURST_SECONDS)
    assert taken <= burst + now * per_minute / 60 + 1e-6
    assert longest_wait <= 60 / per_minute + 1e-6
    if bucket.wait(now) > 0:  # waiting for as long as it says is enough
        assert bucket.wait(now + bucket.wait(now)) == 0


def test_no_limit_and_wrong_limits() -> None:
    assert TokenBucket(None).wait(0) == 0
    for wrong in (0, -1, float("inf"), float("nan")):
        with pytest.raises(UsageError):
            TokenBucket(wrong)


def test_closing_delivers_what_waits(rig: Rig) -> None:
    rig.transport.down = Unavailable("away")
    rig.put(*range(50))
    rig.sender.start()
    until(lambda: rig.transport.connects)
    rig.transport.down = None
    rig.sender.close(30)
    assert len(rig.delivered) == 50 and rig.transport.closed == 1


def test_closing_tries_once_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "q", backoff=Backoff(first=3600.0, cap=3600.0, jitter=0.0))
    rig.transport.down = Unavailable("away")
    rig.put(1)
    rig.sender.start()
    until(lambda: rig.sender.status.reason == "away")
    rig.transport.down = None
    rig.sender.close(30)
    assert rig.delivered == ["m1"]
    rig.outbox.close()


def test_what_cannot_be_delivered_in_time_stays(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "q")
    rig.transport.down = Unavailable("away")
    rig.put(1, 2)
    rig.sender.start()
    until(lambda: rig.transport.connects)
    rig.sender.close(0.2)
    assert not rig.sender.status.connected
    rig.outbox.close()
    again = Rig(tmp_path / "q")
    again.sender.start()
    until(lambda: again.delivered == ["m1", "m2"])
    again.sender.close(1)
    assert again.outbox.tally.promised == again.outbox.tally.delivered == 2
    again.outbox.close()


def test_a_step_that_hangs_is_left_behind(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "q")
    hangs, go_on = threading.Event(), threading.Event()

    def deliver(message: Any, timeout: float) -> None:
        hangs.set()
        go_on.wait()

    rig.transport.deliver = deliver  # type: ignore[method-assign]
    rig.put(1)
    rig.sender.start()
    assert hangs.wait(30)
    rig.sender.close(0)
    rig.outbox.close()
    go_on.set()
    until(lambda: rig.transport.closed)
    again = Outbox(tmp_path / "q")
    assert again.tally.waiting == 1  # not known to have arrived: once more next time
    again.close()


def test_a_report_that_fails_stops_nothing(tmp_path: Path) -> None:
    def report(line: str) -> None:
        raise BrokenPipeError

    outbox, transport = Outbox(tmp_path / "q"), FakeTransport()
    sender = Sender(outbox, transport, log=report, backoff=QUICK)
    transport.plan = [Unavailable("busy")]
    sender.put(message(1))
    sender.start()
    until(lambda: transport.delivered)
    sender.close(1)
    outbox.close()


def test_many_threads_put_at_once(rig: Rig) -> None:
    rig.sender.start()
    threads = [
        threading.Thread(target=lambda base=base: rig.put(*range(base, base + 50)))
        for base in range(0, 200, 50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: rig.outbox.tally.delivered == 200)
    assert len(set(rig.delivered)) == 200
    for base in range(0, 200, 50):
        mine = [int(id[1:]) for id in rig.delivered if base <= int(id[1:]) < base + 50]
        assert mine == sorted(mine)
