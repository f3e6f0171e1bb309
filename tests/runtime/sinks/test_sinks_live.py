"""Images and videos of live streams: in folders named after them, bounded, in real time."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sink_helpers import LiveSource, close_opened, faulty, names, opened, scored, tree

from generalad.errors import UsageError
from generalad.preprocess import read_image
from generalad.runtime import AnnotatedVideo, JsonLines, Overlays, open_sources
from generalad.runtime.line.events import EventRule, EventTracker
from generalad.runtime.sinks import overlays, video
from generalad.runtime.sinks.event_folder import EventFolder
from generalad.runtime.sinks.samples import Samples


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    yield
    close_opened()


def test_overlays_of_live_streams_go_to_folders_of_their_own(tmp_path: Path) -> None:
    sink = Overlays(tmp_path)
    opened(sink, LiveSource(), LiveSource("rtsp://***@camera/2"))
    sink.write(*scored(7))
    sink.write(*scored(8, anomalous=True))
    sink.write(*faulty(9))
    sink.write(*scored(7, stream="rtsp://***@camera/2"))
    first, second, third = tree(tmp_path)
    assert first == "line-1/20251124T160007.000Z-000000007.jpg"
    assert second == "line-1/20251124T160008.000Z-000000008.jpg"
    assert third.startswith("rtsp-camera-2-")
    faint, strong = (read_image(tmp_path / name).mean() for name in (first, second))
    assert 25 < faint < 45 and strong > 100
    assert sink.status["line-1"].kept == 2


def test_one_live_stream_has_a_folder_too(tmp_path: Path) -> None:
    opened(Overlays(tmp_path)).write(*scored(1))
    assert tree(tmp_path) == ["line-1/20251124T160001.000Z-000000001.jpg"]


def test_live_streams_beside_a_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/a.png"), np.zeros((8, 8, 3), np.uint8))
    sources = [*open_sources([str(tmp_path / "in")]), LiveSource()]
    sink = Overlays(tmp_path / "out")
    opened(sink, *sources)
    frame = next(iter(sources[0]))
    sink.write(frame, *scored(0)[1:])
    sink.write(*scored(0))
    assert [name.split("/")[0] for name in tree(tmp_path / "out")] == ["in", "line-1"]


def test_overlays_of_a_watched_folder_name_the_file(tmp_path: Path) -> None:
    sink = Overlays(tmp_path / "out")
    opened(sink, LiveSource("parts", tmp_path / "in"))
    sink.write(*scored(1, stream="parts", path="sub/nut 7.png"))
    (name,) = tree(tmp_path / "out")
    assert name.startswith("parts/20251124T160001.000Z-000000001-nut-7-")


@pytest.mark.parametrize("kind", [Overlays, EventFolder, Samples])
@pytest.mark.parametrize("place", ["in", "in/below"])
def test_images_are_not_written_into_a_watched_folder(
    tmp_path: Path, kind: type[Overlays] | type[EventFolder] | type[Samples], place: str
) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(UsageError, match="where images are read"):
        opened(kind(tmp_path / place), LiveSource("parts", tmp_path / "in"))
    opened(kind(tmp_path / "other"), LiveSource("parts", tmp_path / "in"))


def test_the_newest_overlays_are_kept_also_over_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlays, "LIVE_KEPT", 3)
    for first in (0, 100):
        sink = Overlays(tmp_path)
        opened(sink)
        for index in range(5):
            sink.write(*scored(index, time=1000.0 + first + index))
        sink.close(complete=True)
        expected = [f"19700101T00{(1000 + first + n) // 60:02d}" for n in (2, 3, 4)]
        assert [name[:13] for name in names(tmp_path / "line-1")] == expected


def frames_of(path: Path) -> list[int]:
    """Mean brightness of the frames of a video."""
    capture, found = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        found.append(round(float(np.mean(read[1]))))
    capture.release()
    return found


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_a_live_video_keeps_to_real_time(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    sink = AnnotatedVideo(path, rate=10)
    opened(sink)
    for number, seconds in enumerate([0.0, 0.1, 0.12, 0.5, 0.6]):  # one too many, then a pause
        image = np.full((48, 64, 3), 40 * (number + 1), np.uint8)
        sink.write(*scored(number, time=1000 + seconds, image=image))
    sink.close(complete=True)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    capture.release()
    found = frames_of(path)
    expected = [40, 80, 80, 80, 80, 160, 200]
    assert len(found) == 7 and max(abs(np.subtract(found, expected))) <= 18  # steps are 40


@given(
    st.lists(st.floats(0, 1.9), min_size=1, max_size=60), st.sampled_from([0.5, 5.0, 10.0, 29.97])
)
def test_the_length_of_a_live_video_is_that_of_its_time(steps: list[float], rate: float) -> None:
    sink = AnnotatedVideo("x.avi", rate=rate)
    sink._began, time = 0.0, 0.0
    sink._frames = sink._missing(0.0, rate)
    for step in steps:
        time += step
        sink._frames += sink._missing(time, rate)
    assert abs((sink._frames - 1) / rate - time) <= 1 / rate


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_gaps_and_clocks_that_are_set_are_cut_out(tmp_path: Path, jump: float) -> None:
    sink = AnnotatedVideo(tmp_path / "out.avi", rate=10)
    opened(sink)
    for number in range(10):
        time = 10_000 + number / 10 + (jump if number >= 5 else 0)
        sink.write(*scored(number, time=time))
    sink.close(complete=True)
    assert len(frames_of(tmp_path / "out.avi")) == 10


def test_another_resolution_after_a_reconnect(tmp_path: Path) -> None:
    sink = AnnotatedVideo(tmp_path / "out.avi", rate=10)
    opened(sink)
    for number, size in enumerate([(48, 64), (96, 128), (20, 30), (48, 64)]):
        image = np.full((*size, 3), 100, np.uint8)
        sink.write(*scored(number, time=number / 10, image=image))
    sink.close(complete=True)
    assert frames_of(tmp_path / "out.avi") == pytest.approx([100] * 4, abs=5)


def test_a_live_video_ends_by_itself_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "LIVE_SECONDS", 1)
    said: list[str] = []
    sink = AnnotatedVideo(tmp_path / "out.avi", rate=10, log=said.append)
    opened(sink)
    for number in range(30):
        sink.write(*scored(number, time=number / 10))
    assert names(tmp_path) == ["out.avi"]
    sink.close(complete=True)
    assert len(frames_of(tmp_path / "out.avi")) == 10 and len(said) == 1


def test_a_live_video_needs_a_rate(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a rate"):
        opened(AnnotatedVideo(tmp_path / "out.avi"))
    with pytest.raises(UsageError, match="rate"):
        AnnotatedVideo(tmp_path / "out.avi", rate=0)
    with pytest.raises(UsageError, match="found 2 sources"):
        opened(AnnotatedVideo(tmp_path / "out.avi", rate=5), LiveSource("a"), LiveSource("b"))


def test_an_older_video_of_a_live_stream_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out.avi").write_bytes(b"old")
    sink = AnnotatedVideo(tmp_path / "out.avi", rate=10)
    opened(sink)
    sink.write(*scored(0))
    assert (tmp_path / "out.avi").read_bytes() == b"old"
    sink.close(complete=True)
    assert len(frames_of(tmp_path / "out.avi")) == 1


def test_json_lines_of_a_killed_run_get_the_end_that_receivers_get(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    rule, begun = EventRule(), []
    for stream in ("line-1", "line-2"):
        tracker = EventTracker(stream, rule)
        for index in (1, 2):
            frame, result, anomaly_map = scored(index, stream=stream, anomalous=True)
            begun += tracker.add(frame, result, anomaly_map)
        if stream == "line-2":
            begun += tracker.close("normal")
    sink = JsonLines(target)
    opened(sink)
    for notification in begun:
        sink.notification(notification)
    # Killed: the file is not closed in any way that matters.
    sink.close(complete=False)
    for _ in range(2):
        opened(JsonLines(target)).close(complete=True)
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    told = begun[0].if_killed
    assert told is not None and len(lines) == 4, "once, however often it is started"
    assert lines[-1] == json.loads(json.dumps(told.to_dict()))
    assert lines[-1]["ended_by"] == "gad was killed"


def test_strange_images_are_no_samples(tmp_path: Path) -> None:
    sink = opened(Samples(tmp_path, every=0))
    frame, result, anomaly_map = scored(1)
    sink.write(frame, dataclasses.replace(result, fault="over-exposed: 40 %"), anomaly_map)
    assert tree(tmp_path) == []
    sink.write(frame, result, anomaly_map)
    assert len(tree(tmp_path)) == 1
