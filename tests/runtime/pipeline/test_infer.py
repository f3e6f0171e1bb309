"""The pipeline keeps order, loses nothing, and ends cleanly whatever fails."""

from __future__ import annotations

import _thread
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeArtifact, MakeImage, WriteImage
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from generalad.errors import ArtifactError, DataError, StorageError, UsageError
from generalad.geometry.geometry import Geometry, Tiles
from generalad.runtime import Csv, Frame, Interrupted, JsonLines, Outputs, Result, Source, infer
from generalad.runtime.backends.fake import FakeSession, fake_spec
from generalad.runtime.backends.open import open_for_pipeline
from generalad.spec import Spec


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Stream:
    """A source of `pattern`: "g" good, "a" anomalous, "b" broken, "x" raises."""

    folder = None

    def __init__(self, pattern: str, address: str = "stream") -> None:
        self.address = address
        self.pattern = pattern
        self.freed = False
        self.read = 0

    def count(self) -> int | None:
        return None

    def __iter__(self) -> Iterator[Frame]:
        try:
            for index, kind in enumerate(self.pattern):
                if kind == "x":
                    raise DataError("the camera caught fire")
                image = np.full((40, 50, 3), 30, np.uint8)
                if kind == "a":
                    image[10:20, 10:20] = 255
                self.read += 1
                broken = kind == "b"
                yield Frame(
                    self.address, index, 0.0, "", f"{index}.png",
                    None if broken else image, "broken" if broken else None,
                )  # fmt: skip
        finally:
            self.freed = True


class Recorder:
    """A sink that records, and does `at(index)` before it records a frame."""

    needs_image = True

    def __init__(self, at: Callable[[int], None] = lambda index: None) -> None:
        self.results: list[Result] = []
        self.closed: list[bool] = []
        self.at = at

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        pass

    def write(self, frame: Frame, result: Result, anomaly_map: NDArray[np.float32] | None) -> None:
        self.at(result.index)
        assert (anomaly_map is None) == (result.error is not None)
        assert (frame.image is None) == (result.error is not None)
        self.results.append(result)

    def close(self, *, complete: bool) -> None:
        self.closed.append(complete)


class Uneven(FakeSession):
    """A session that may be run side by side, and takes longer for every third run."""

    def __init__(self, side_by_side: int) -> None:
        super().__init__()
        self.side_by_side = side_by_side
        self.calls = self.most = self.running = 0

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        if self.calls % 3 == 1:
            time.sleep(0.002)
        found = super().run(images)
        self.running -= 1
        return found


class Broken(FakeSession):
    """A session whose outputs `change` alters, call by call."""

    def __init__(self, change: Callable[[int, Outputs], Outputs], side_by_side: int = 1) -> None:
        super().__init__()
        self.change = change
        self.calls = 0
        self.side_by_side = side_by_side

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        self.calls += 1
        return self.change(self.calls, super().run(images))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.text("gab", max_size=20), min_size=1, max_size=3),
    st.integers(1, 7),
    st.integers(1, 4),
)
def test_order_and_counts(patterns: list[str], batch_size: int, side_by_side: int) -> None:
    sink = Recorder()
    streams = [Stream(pattern, str(number)) for number, pattern in enumerate(patterns)]
    summary = infer(Uneven(side_by_side), streams, sinks=[sink], batch_size=batch_size)
    expected = [
        (str(number), index, {"g": False, "a": True, "b": None}[kind])
        for number, pattern in enumerate(patterns)
        for index, kind in enumerate(pattern)
    ]
    assert [(r.source, r.index, r.anomalous) for r in sink.results] == expected
    text = "".join(patterns)
    assert summary.frames == len(text) == summary.processed + summary.failed
    assert (summary.failed, summary.anomalous) == (text.count("b"), text.count("a"))
    assert sink.closed == [True]
    assert all(stream.freed for stream in streams)


@pytest.mark.parametrize("fixed", [None, 4])
def test_batches_give_the_same_scores(
    tmp_path: Path, make_artifact: MakeArtifact, fixed: int | None
) -> None:
    artifact = make_artifact(tmp_path, batch=fixed or "B")
    scores = []
    for batch_size in (1, 3):
        sink = Recorder()
        infer(artifact, [Stream("gagbaag")], sinks=[sink], batch_size=batch_size)
        scores.append([result.score for result in sink.results])
    assert scores[0] == scores[1] and len(scores[0]) == 7


def test_threshold_can_be_changed() -> None:
    said: list[str] = []

    def anomalous(threshold: float) -> int:
        run = infer(FakeSession(), [Stream("ga")], threshold=threshold, on_problem=said.append)
        return run.anomalous

    assert (anomalous(0.6), said) == (1, [])
    assert anomalous(-0.6) == 2
    assert (
        "threshold -0.6 lies far below the artifact's 0.25: nearly every image will be" in said[0]
    )
    assert anomalous(50) == 0
    assert "lies far above the artifact's 0.25: nearly every image will be normal" in said[1]
    with pytest.warns(UserWarning, match="far above"):
        infer(FakeSession(), [Stream("ga")], threshold=2.0)


def test_times_are_those_of_the_stages() -> None:
    sink = Recorder()
    summary = infer(FakeSession(), [Stream("gg")], sinks=[sink])
    for result in sink.results:
        parts = result.milliseconds
        assert 0 < parts.read + parts.preprocess + parts.infer <= parts.total
    assert list(summary.milliseconds) == ["read", "preprocess", "infer", "total", "write"]
    assert summary.backend == "fake"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_a_failure(value: float) -> None:
    def change(call: int, outputs: Outputs) -> Outputs:
        return Outputs(outputs.scores * value, outputs.maps) if call == 2 else outputs

    sink = Recorder(lambda index: None)
    sink.write = lambda frame, result, anomaly_map: sink.results.append(result)  # type: ignore[method-assign]
    summary = infer(Broken(change), [Stream("aaa")], sinks=[sink])
    assert (summary.frames, summary.processed, summary.failed) == (3, 2, 1)
    assert "not finite" in str(sink.results[1].error) and sink.results[1].anomalous is None


def fail(error: BaseException) -> Callable[[int], None]:
    def at(index: int) -> None:
        if index == 5:
            raise error

    return at


def test_failing_source() -> None:
    sink = Recorder()
    stream = Stream("ggggx" + "g" * 1000)
    with pytest.raises(DataError, match="caught fire"):
        infer(FakeSession(), [stream], sinks=[sink])
    assert sink.closed == [False] and stream.freed


def test_runs_go_on_side_by_side() -> None:
    session, sink = Uneven(3), Recorder()
    infer(session, [Stream("ga" * 30)], sinks=[sink])
    assert session.calls == 60
    assert 2 <= session.most <= 3
    assert [result.index for result in sink.results] == list(range(60))
    alone = Uneven(1)
    infer(alone, [Stream("ga" * 10)])
    assert alone.most == 1


def test_side_by_side_gives_the_same_scores(tmp_path: Path, make_artifact: MakeArtifact) -> None:
    artifact = make_artifact(tmp_path)
    expected, found = Recorder(), Recorder()
    with open_for_pipeline(artifact, threads=2) as session:
        assert getattr(session, "side_by_side", 1) == 1
        infer(session, [Stream("gab" * 10)], sinks=[expected])
    with open_for_pipeline(artifact, threads=2, throughput=True) as session:
        assert getattr(session, "side_by_side", 1) == 2
        infer(session, [Stream("gab" * 10)], sinks=[found])
    assert [one.score for one in found.results] == [one.score for one in expected.results]


def test_frames_in_tiles_run_one_at_a_time(tmp_path: Path, make_artifact: MakeArtifact) -> None:
    geometry = Geometry(tiles=Tiles(64, 32, (256, 256)))
    size = geometry.tiled_size()
    artifact = make_artifact(tmp_path, geometry=geometry, image_size=size)
    with open_for_pipeline(artifact, threads=2, throughput=True) as session:
        assert getattr(session, "side_by_side", 1) == 1


@pytest.mark.parametrize("side_by_side", [1, 3])
def test_failing_session(side_by_side: int) -> None:
    def change(call: int, outputs: Outputs) -> Outputs:
        if call == 5:
            raise ArtifactError("no memory on the device")
        return outputs

    sink = Recorder()
    stream = Stream("g" * 1000)
    with pytest.raises(ArtifactError, match="no memory"):
        infer(Broken(change, side_by_side), [stream], sinks=[sink])
    assert sink.closed == [False] and stream.freed and stream.read < 50


@pytest.mark.parametrize("side_by_side", [1, 3])
def test_failing_sink(side_by_side: int) -> None:
    other = Recorder()
    sink = Recorder(fail(StorageError("the disk is full")))
    stream = Stream("g" * 1000)
    with pytest.raises(StorageError, match="disk is full"):
        infer(Uneven(side_by_side), [stream], sinks=[other, sink])
    assert sink.closed == other.closed == [False]
    assert len(other.results) == 6 and len(sink.results) == 5 and stream.read < 50


def test_sink_that_fails_to_open_closes_the_earlier() -> None:
    class Refusing(Recorder):
        def open(self, sources: Sequence[Source], spec: Spec) -> None:
            raise StorageError("no permission")

    first, second = Recorder(), Refusing()
    with pytest.raises(StorageError, match="no permission"):
        infer(FakeSession(), [Stream("g")], sinks=[first, second])
    assert (first.closed, second.closed) == ([False], [])


def test_sink_that_fails_to_close_is_reported_and_the_others_are_closed() -> None:
    class Stuck(Recorder):
        def close(self, *, complete: bool) -> None:
            raise StorageError("cannot rename")

    other = Recorder()
    with pytest.raises(StorageError, match="cannot rename"):
        infer(FakeSession(), [Stream("g")], sinks=[Stuck(), other])
    assert other.closed == [True]


def test_failing_callback() -> None:
    def on_result(result: Result) -> None:
        raise ValueError("the caller's mistake")

    with pytest.raises(ValueError, match="mistake"):
        infer(FakeSession(), [Stream("g" * 100)], on_result=on_result)


def test_slow_sink_holds_the_reader_back() -> None:
    stream = Stream("g" * 60)
    ahead: list[int] = []

    def at(index: int) -> None:
        time.sleep(0.002)
        ahead.append(stream.read - index)

    infer(FakeSession(), [stream], sinks=[Recorder(at)])
    assert max(ahead) <= 10


def test_ctrl_c_finishes_what_is_in_flight(tmp_path: Path) -> None:
    stream = Stream("ga" * 5000)

    def at(index: int) -> None:
        if index == 10:
            _thread.interrupt_main()
        time.sleep(0.002)

    sink = Recorder(at)
    target = tmp_path / "out.jsonl"
    with pytest.raises(Interrupted) as caught:
        infer(FakeSession(), [stream], sinks=[sink, JsonLines(target)], batch_size=3)
    summary = caught.value.summary
    assert isinstance(caught.value, KeyboardInterrupt)
    assert summary.frames == summary.processed == stream.read == len(sink.results) < 10_000
    assert sink.closed == [True] and stream.freed
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(stream.read))


def test_ctrl_c_before_the_first_frame_leaves_finished_files(tmp_path: Path) -> None:
    class Interrupting(Recorder):
        def open(self, sources: Sequence[Source], spec: Spec) -> None:
            _thread.interrupt_main()
            super().open(sources, spec)

    target = tmp_path / "out.csv"
    with pytest.raises(Interrupted) as caught:
        infer(FakeSession(), [Stream("g" * 5000)], sinks=[Csv(target), Interrupting()])
    assert caught.value.summary.frames <= 1
    assert len(target.read_text().splitlines()) == 1 + caught.value.summary.frames


def test_ctrl_c_handler_is_the_usual_one_afterwards() -> None:
    infer(FakeSession(), [Stream("g")])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_second_ctrl_c_does_not_wait() -> None:
    def at(index: int) -> None:
        if index in (10, 11):
            _thread.interrupt_main()
            time.sleep(0.5)

    sink = Recorder(at)
    with pytest.raises(KeyboardInterrupt) as caught:
        infer(FakeSession(), [Stream("g" * 5000)], sinks=[sink])
    assert not isinstance(caught.value, Interrupted)
    assert sink.closed == [False] and len(sink.results) < 20


def test_session_given_stays_open_and_path_is_closed(
    tmp_path: Path, make_artifact: MakeArtifact, make_image: MakeImage, write_image: WriteImage
) -> None:
    session = FakeSession(fake_spec())
    path = write_image(tmp_path / "a.png", make_image(30, spot=250))
    for _ in range(2):
        assert infer(session, [str(path)]).anomalous == 1
    assert infer(make_artifact(tmp_path), [str(path)]).backend.startswith("onnxruntime")


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(UsageError, match="batch size"):
        infer(FakeSession(), [Stream("g")], batch_size=0)
