"""What a run comes to: its rate does not count the time in which there was nothing to do."""

from __future__ import annotations

import pytest

from generalad.decision import Milliseconds, Result
from generalad.runtime.pipeline.summary import Tally

RESULT = Result("line", 0, 0.0, "", 1.0, 0.5, True, (), Milliseconds())


@pytest.mark.parametrize(("pauses", "rate"), [(True, 10.0), (False, 20 / 602)])
def test_pauses_of_cameras_do_not_count(
    monkeypatch: pytest.MonkeyPatch, pauses: bool, rate: float
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    tally = Tally(pauses=pauses)
    for _ in range(2):
        now[0] += 300.0  # a camera that is down
        for _ in range(10):
            tally.read()
            now[0] += 0.05
            tally.add(RESULT, 0.0)
            now[0] += 0.05
    found = tally.summary("fake")
    assert found.seconds == pytest.approx(602)
    assert found.images_per_second == pytest.approx(rate, rel=0.03)


def test_a_frame_on_its_way_is_no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    tally = Tally(pauses=True)
    tally.read()
    now[0] += 60.0
    tally.add(RESULT, 0.0)
    assert tally.summary("fake").images_per_second == pytest.approx(1 / 60)
