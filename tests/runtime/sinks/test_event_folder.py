"""Every event is there whole or not at all, whatever happens to the process or the disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sink_helpers import (
    SPEC,
    LiveSource,
    Moment,
    close_opened,
    event_end,
    faulty,
    names,
    noise,
    opened,
    scored,
    small_disk,
    tree,
)  # fmt: skip

from generalad.errors import StorageError, UsageError
from generalad.overlay import draw
from generalad.preprocess import read_image
from generalad.runtime.line.events import EventTracker
from generalad.runtime.notification import Notification, TakesNotifications
from generalad.runtime.sinks.event_folder import EventFolder


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    yield
    close_opened()


def test_an_event_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    sink = EventFolder(tmp_path / "events")
    opened(sink)
    assert isinstance(sink, TakesNotifications)
    tracker = EventTracker("line 1")
    for index, anomalous in enumerate([True, True, False]):
        frame, result, anomaly_map = scored(index, anomalous=anomalous, image=noise(index))
        for notification in tracker.add(frame, result, anomaly_map):
            sink.notification(notification)
        sink.write(frame, result, anomaly_map)
    sink.close(complete=True)
    (place,) = [path for path in (tmp_path / "events").iterdir() if path.is_dir()]
    assert names(place) == ["event.json", "map.npy", "overlay.jpg", "peak.png"]
    record = json.loads((place / "event.json").read_text())
    assert place.name.startswith(record["event"] + "-line-1-")
    assert (record["phase"], record["stream"], record["frames"]) == ("end", "line 1", 2)
    np.testing.assert_array_equal(read_image(place / "peak.png"), noise(0))
    anomaly_map = np.load(place / "map.npy", allow_pickle=False)
    assert anomaly_map.dtype == np.float32
    np.testing.assert_array_equal(anomaly_map, np.full((16, 16), 0.9, np.float32))
    expected = draw(noise(0), anomaly_map, SPEC)
    difference = read_image(place / "overlay.jpg").astype(int) - expected
    assert abs(difference).mean() < 30 < abs(noise(0).astype(int) - expected).mean()


def test_other_notices_and_an_event_without_a_image(tmp_path: Path) -> None:
    sink = EventFolder(tmp_path)
    opened(sink)
    sink.notification(Notification("camera", "line-1", 0.0, {"state": "live"}))
    end = event_end(1)
    begin = {**end.data, "phase": "begin"}
    sink.notification(Notification("event", "line-1", 0.0, begin))
    assert names(tmp_path) == []
    sink.notification(Notification("event", "line-1", 0.0, end.data))
    sink.write(*faulty(2))
    assert [name.rpartition("/")[2] for name in tree(tmp_path)] == ["event.json"]


def test_the_oldest_go_when_the_bound_is_reached(tmp_path: Path) -> None:
    said: list[str] = []
    sink = EventFolder(tmp_path, max_bytes=50_000, log=said.append)
    opened(sink)
    for number in range(12):
        sink.notification(event_end(number))
        assert sum(path.stat().st_size for path in tmp_path.rglob("*")) < 50_000 + 20 * 4096
    status = sink.status
    assert status.kept + status.removed == 12 and 2 <= status.kept <= 5
    assert status.bytes <= 50_000
    assert names(tmp_path) == [
        f"{event_end(n).data['event']}-line-1" for n in range(12 - status.kept, 12)
    ]
    assert len(said) == 1 and "oldest" in said[0]


def test_old_events_go_with_any_frame(tmp_path: Path) -> None:
    clock = Moment()
    sink = EventFolder(tmp_path, max_age=3600, clock=clock)
    opened(sink)
    sink.notification(event_end(1))
    clock.now += 3700
    sink.write(*scored(2))
    assert names(tmp_path) == [] and sink.status.removed == 1


KILLED = """
import sys, time
from pathlib import Path
from sink_helpers import event_end, opened
from generalad.runtime.sinks import event_folder

def hang(*arguments):
    print("half", flush=True)
    time.sleep(600)

sink = event_folder.EventFolder(Path(sys.argv[1]))
opened(sink)
sink.notification(event_end(1))
event_folder.draw = hang
sink.notification(event_end(2))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_kill_half_way_leaves_whole_events_only(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n", process.communicate()
    with pytest.raises(UsageError, match="another process"):
        opened(EventFolder(tmp_path))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    first = f"{event_end(1).data['event']}-line-1"
    hidden, *visible = names(tmp_path)
    assert hidden.endswith(".part") and (tmp_path / hidden / "peak.png").exists()
    assert visible == [first]
    sink = EventFolder(tmp_path)
    opened(sink)
    assert names(tmp_path) == [first] and sink.status.kept == 1


def test_a_full_disk_keeps_nothing_half(tmp_path: Path) -> None:
    said: list[str] = []
    with small_disk(tmp_path / "disk") as disk:
        sink = EventFolder(disk / "events", log=said.append)
        opened(sink)
        sink.notification(event_end(0))
        room = 1024 * 1024 - sum(path.stat().st_size for path in disk.rglob("*"))
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(room - 40 * 1024))
        for number in range(1, 9):
            sink.notification(event_end(number))
        status = sink.status
        assert status.not_kept > 0 and status.kept + status.not_kept == 9
        assert status.problem is not None and "the disk is full" in status.problem
        assert len(names(disk / "events")) == status.kept
        ballast.unlink()
        sink.notification(event_end(10))
        assert sink.status.problem is None and sink.status.kept == status.kept + 1
        for place in names(disk / "events"):
            assert len(names(disk / "events" / place)) == 4
            assert read_image(disk / "events" / place / "peak.png").shape == (48, 64, 3)
        sink.close(complete=True)
    assert len(said) == 2
    assert "the disk is full" in said[0] and said[1].endswith("can be written again")


def test_an_unwritable_folder_is_said_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        opened(EventFolder(tmp_path / "file"))
    with small_disk(tmp_path / "disk", "1m,ro") as disk:
        for place in (disk, disk / "below"):
            with pytest.raises(StorageError, match="read-only"):
                opened(EventFolder(place))


def test_a_image_that_a_format_cannot_hold_does_not_end_the_run(tmp_path: Path) -> None:
    sink = EventFolder(tmp_path)
    opened(sink, LiveSource())
    sink.notification(event_end(1, np.zeros((1, 70_000, 3), np.uint8)))  # wider than JPEG allows
    assert sink.status.not_kept == 1 and names(tmp_path) == []


def test_bounds_are_above_0(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="bytes"):
        EventFolder(tmp_path, max_bytes=0)
