"""What sinks tell of themselves reaches displays and metrics in one form."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from sink_helpers import SPEC, LiveSource

from generalad.runtime.sinks.event_folder import EventFolder
from generalad.runtime.sinks.samples import Samples
from generalad.runtime.sinks.sink import Sink
from generalad.runtime.sinks.sink_views import sink_views
from generalad.runtime.view import SinkView


def view(**values: Any) -> list[SinkView]:
    return list(sink_views(cast(Sink, SimpleNamespace(**values))))


def test_folders_are_called_by_their_path(tmp_path: Path) -> None:
    events, samples = EventFolder(tmp_path / "events"), Samples(tmp_path / "samples")
    streams = [LiveSource("line-1"), LiveSource("line-2")]
    for sink in (events, samples):
        sink.open(streams, SPEC)
    assert [found.name for found in sink_views(events)] == [str(tmp_path / "events")]
    names = [Path(found.name).name for found in sink_views(samples)]
    assert names == ["line-1", "line-2"]
    assert all(found.kept == 0 and not found.problem for found in sink_views(samples))
    for sink in (events, samples):
        sink.close(complete=True)


def test_a_receiver_that_is_away_is_a_problem() -> None:
    status = SimpleNamespace(
        name="mqtt://broker", connected=False, reason="refused", problem="", delivered=3,
        waiting=2, dropped={"queue full": 1},
    )  # fmt: skip
    (found,) = view(status=status)
    assert found == SinkView("mqtt://broker", False, "refused", 3, 2, {"queue full": 1})


def test_lost_lines_are_told_and_whole_files_are_not() -> None:
    assert view(lost=0) == []
    (found,) = view(lost=4)
    assert found.problem == "lines were lost" and found.dropped == {"not written": 4}
