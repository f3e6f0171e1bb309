"""A station as a whole: cameras that are told by the test, a network of arithmetic, a PLC."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from camera_helpers import until
from stream_helpers import Recorder, part

from generalad.areas import Areas
from generalad.errors import StorageError
from generalad.geometry.geometry import Geometry, Tiles
from generalad.runtime.backends.fake import FakeSession, fake_spec
from generalad.runtime.cameras.camera import DamagedFrame, NoPicture, NothingYet
from generalad.runtime.cameras.camera_source import CameraSource
from generalad.runtime.line.stream import Stream
from generalad.runtime.station import teller
from generalad.runtime.station.cameras import CameraPlan
from generalad.runtime.station.coordinator import How
from generalad.runtime.station.plan import StationPlan
from generalad.runtime.station.plc.interface import Accepted, PlcStatus, Requests
from generalad.runtime.station.recipes import Chooser, Recipes
from generalad.runtime.station.station import Station
from generalad.runtime.station.triggers.photo_eye import PhotoEye
from generalad.runtime.station.verdict import StationState, Verdict


class Told:
    """A camera that gives what it is told: an image, or an exception to raise."""

    def __init__(self, name: str = "top", how: How = "line", pictures: int = 1) -> None:
        self.things: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stream = Stream(CameraSource(lambda: _Attempt(self), name=name))
        self.plan = CameraPlan(stream, how, pictures)
        self.asked = 0

    def give(self, thing: Any = None, *, defect: bool = False) -> None:
        self.things.put(part(self.asked, defect=defect) if thing is None else thing)

    @property
    def status(self) -> Any:
        return self.plan.stream.source.status()  # type: ignore[attr-defined]


class _Attempt:
    def __init__(self, told: Told) -> None:
        self._told = told

    def open(self) -> None:
        pass

    def read(self) -> Any:
        try:
            thing = self._told.things.get(timeout=0.02)
        except queue.Empty:
            raise NothingYet(armed=True) from None
        if isinstance(thing, Exception):
            raise thing
        return thing

    def trigger(self, timeout: float) -> None:
        self._told.asked += 1
        if not self._told.answers.empty():
            self._told.things.put(self._told.answers.get())

    def close(self) -> None:
        pass


class FakePlc:
    """Keeps what it is told; acknowledges at once, unless it is `away`."""

    def __init__(self) -> None:
        self.states: list[StationState] = []
        self.verdicts: list[Verdict] = []
        self.away = False

    def start(self, requests: Requests) -> None:
        self.requests = requests

    def publish(self, state: StationState) -> None:
        self.states.append(state)

    def deliver(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)
        if not self.away:
            self.requests.acknowledge(verdict.id)

    @property
    def status(self) -> PlcStatus:
        return PlcStatus("plc", not self.away, "", 0, len(self.verdicts), 0)

    def close(self) -> None:
        pass


class Line:
    """A station with what the test holds of it."""

    def __init__(self, folder: Path, *cameras: Told, **changes: Any) -> None:
        self.cameras, self.plc, self.sink = cameras, FakePlc(), Recorder()
        changes.setdefault("recipes", {"washer": FakeSession()})
        changes.setdefault("deadline", 5.0)
        changes.setdefault("window", 1.0)
        self.plan = StationPlan(
            cameras=[camera.plan for camera in cameras], state=folder, **changes
        )
        self.station = Station(self.plan, sinks=[self.sink], plcs=[self.plc])

    def __enter__(self) -> Line:
        self.station.start()
        until(lambda: self.station.state().ready)
        return self

    def __exit__(self, *_: object) -> None:
        self.station.close()

    def verdicts(self, count: int) -> list[tuple[str, str | None]]:
        until(lambda: len(self.plc.verdicts) >= count)
        return [(verdict.outcome, verdict.reason) for verdict in self.plc.verdicts]


def test_each_picture_of_a_triggered_camera_is_a_part(tmp_path: Path) -> None:
    with Line(tmp_path, Told(), by="camera", window=0.001) as line:
        for number, defect in enumerate([False, True, False]):
            line.cameras[0].give(defect=defect)
            line.verdicts(number + 1)
        line.cameras[0].give(DamagedFrame("packets are missing"))
        found = line.verdicts(4)
    assert found == [
        ("pass", None),
        ("reject", None),
        ("pass", None),
        ("no verdict", "picture lost"),
    ]
    assert [verdict.id for verdict in line.plc.verdicts] == [1, 2, 3, 4]


def test_two_cameras_make_one_part(tmp_path: Path) -> None:
    with Line(tmp_path, Told("top"), Told("side"), by="camera", window=4.0) as line:
        line.cameras[0].give()
        line.cameras[1].give(defect=True)
        assert line.verdicts(1) == [("reject", None)]
    (told,) = [n for n in line.sink.notifications if n.kind == "verdict"]
    assert {p["stream"] for p in told.data["pictures"]} <= {"top", "side"}
    assert told.evidence is not None and told.data["outcome"] == "reject"


def test_a_picture_is_that_of_the_trigger_beside_it(tmp_path: Path) -> None:
    before, after = Told(), Told()
    with Line(tmp_path / "before", before, by="plc", window=4.0) as line:
        before.give(defect=True)  # before the PLC's message
        until(lambda: before.status.captured == 1)
        assert line.plc.requests.trigger("A-1") == Accepted(1)
        assert line.verdicts(1) == [("reject", None)]
    assert line.plc.verdicts[0].part == "A-1"
    with Line(tmp_path / "after", after, by="plc", window=4.0) as line:
        assert line.plc.requests.trigger("A-2") == Accepted(1)
        after.give(defect=True)
        assert line.verdicts(1) == [("reject", None)]


def test_a_trigger_without_picture_and_a_picture_without_trigger(tmp_path: Path) -> None:
    camera = Told()
    with Line(tmp_path, camera, by="plc", window=0.02) as line:
        camera.give()
        until(lambda: line.station.state().counts.without_trigger == 1)
        line.plc.requests.trigger(None)
        assert line.verdicts(1) == [("no verdict", "picture lost")]
        camera.give()  # too late for the trigger
        until(lambda: camera.status.dropped.get("late") == 1)
        assert line.station.state().counts.without_trigger == 1
    assert len(line.plc.verdicts) == 1


def test_a_camera_is_told_to_take_the_picture(tmp_path: Path) -> None:
    camera = Told(how="software")
    camera.answers.put(part(1, defect=True))
    camera.answers.put(NoPicture("no picture within 1 s of the trigger"))
    with Line(tmp_path, camera) as line:
        line.station.trigger("A-1")
        assert line.verdicts(1) == [("reject", None)]
        line.station.trigger("A-2")
        assert line.verdicts(2)[1] == ("no verdict", "picture lost")


def test_a_free_running_camera_gives_the_next_picture(tmp_path: Path) -> None:
    camera = Told(how="free")
    with Line(tmp_path, camera, by="call") as line:
        camera.give(defect=True)
        until(lambda: camera.status.dropped.get("between parts") == 1)
        line.station.trigger(None)
        camera.give()
        assert line.verdicts(1) == [("pass", None)]


def test_a_photo_eye_begins_a_part_with_the_picture_that_it_saw(tmp_path: Path) -> None:
    camera = Told(how="free")
    whole = Areas(inspect=(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)),))
    eye = PhotoEye(whole, enter=0.05, leave=0.01, empty=part(0))
    with Line(tmp_path, camera, by="eye", eye=("top", eye)) as line:
        for number, defect in enumerate([False, True, True, False, False]):
            camera.give(defect=defect)
            until(lambda number=number: camera.status.captured == number + 1)  # type: ignore[misc]
            until(lambda: camera.status.in_flight == 0)
        assert line.verdicts(1) == [("reject", None)]
        assert camera.status.dropped == {"between parts": 4}
    assert len(line.plc.verdicts) == 1


def test_a_camera_that_is_away_is_said_at_once(tmp_path: Path) -> None:
    with Line(tmp_path, Told()) as line:
        line.cameras[0].give(ConnectionError("unplugged"))
        until(lambda: not line.station.state().ready)
        line.station.trigger(None)
        assert line.verdicts(1) == [("no verdict", "camera fault")]
        assert "unplugged" in line.plc.verdicts[0].detail


def test_too_many_triggers_are_answered_in_order(tmp_path: Path) -> None:
    camera = Told(how="software")
    with Line(tmp_path, camera, by="plc", at_once=2, window=4.0) as line:
        answers = [line.plc.requests.trigger(None) for _ in range(4)]
        assert answers == [Accepted(1), Accepted(2), Accepted(3, True), Accepted(4, True)]
        for number in (1, 2):
            until(lambda number=number: camera.asked == number)  # type: ignore[misc]
            camera.give()
        found = line.verdicts(4)
    assert found == [("pass", None)] * 2 + [("no verdict", "overrun")] * 2


def test_triggers_whose_pictures_could_be_exchanged_are_no_pass(tmp_path: Path) -> None:
    with Line(tmp_path, Told(), by="plc", window=1.0) as line:
        assert line.plc.requests.trigger(None) == Accepted(1)
        assert line.plc.requests.trigger(None) == Accepted(2, True)
        line.cameras[0].give()
        assert line.verdicts(2) == [("no verdict", "picture lost"), ("no verdict", "overrun")]
        assert "the next trigger" in line.plc.verdicts[0].detail


def test_a_slow_network_is_late_and_only_for_the_part_that_it_holds_up(tmp_path: Path) -> None:
    let_go = threading.Event()

    class Slow(FakeSession):
        def run(self, images: Any) -> Any:
            let_go.wait(10)
            return super().run(images)

    with Line(tmp_path, Told(), recipes={"slow": Slow()}, by="camera", deadline=0.8) as line:
        line.cameras[0].give()
        assert line.verdicts(1) == [("no verdict", "late")]
        assert line.plc.verdicts[0].counts_as == "reject"
        let_go.set()
        line.cameras[0].give()
        assert line.verdicts(2)[1] == ("pass", None)


def test_a_network_that_fails_loses_the_part_and_goes_on(tmp_path: Path) -> None:
    class Failing(FakeSession):
        fail = True

        def run(self, images: Any) -> Any:
            if self.fail:
                raise RuntimeError("out of memory on the device")
            return super().run(images)

    session = Failing()
    with Line(tmp_path, Told(), recipes={"bad": session}, by="camera", window=0.001) as line:
        line.cameras[0].give()
        assert line.verdicts(1) == [("no verdict", "picture lost")]
        assert not line.station.state().ready
        session.fail = False
        line.cameras[0].give()
        assert line.verdicts(2)[1] == ("pass", None)
        assert line.station.state().ready


def test_verdicts_that_the_plc_did_not_take_are_told_by_the_next_process(tmp_path: Path) -> None:
    with Line(tmp_path, Told(), by="camera") as line:
        line.plc.away = True
        line.cameras[0].give(defect=True)
        line.verdicts(1)
    with Line(tmp_path, Told(), by="camera") as line:
        assert line.verdicts(1) == [("reject", None)]
        assert line.plc.verdicts[0].id == 1
        assert not line.plc.states[0].started_anew  # the first one came to its end
    with Line(tmp_path, Told(), by="camera") as line:
        line.cameras[0].give()
        line.verdicts(1)
        assert line.plc.verdicts[0].id == 2


def test_what_nobody_takes_is_given_up_at_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teller, "MOST_OWED", 3)
    with Line(tmp_path, Told(), by="camera", window=0.001) as line:
        line.plc.away = True
        for number in range(5):
            line.cameras[0].give()
            line.verdicts(number + 1)
    with Line(tmp_path, Told(), by="camera") as line:
        line.verdicts(3)
        assert [verdict.id for verdict in line.plc.verdicts] == [3, 4, 5]


def test_a_recipe_is_used_from_the_next_part_on(tmp_path: Path) -> None:
    class Strict(FakeSession):
        def run(self, images: Any) -> Any:
            scores, maps = super().run(images)
            return type(super().run(images))(scores + 1, maps + 1)

    recipes = {"washer": FakeSession(), "strict": Strict()}
    with Line(tmp_path, Told(), by="camera", window=0.001, recipes=recipes) as line:
        line.cameras[0].give()
        line.verdicts(1)
        line.plc.requests.select_recipe("strict")
        until(lambda: line.plc.states[-1].recipe == "strict" and not line.plc.states[-1].asked)
        line.cameras[0].give()
        assert line.verdicts(2) == [("pass", None), ("reject", None)]
        line.plc.requests.select_recipe("bracket")
        until(lambda: bool(line.plc.states[-1].refused))
        assert any(state.asked == "bracket" for state in line.plc.states)
        assert line.plc.states[-1].recipe == "strict"
    with Line(tmp_path, Told(), by="camera", recipes=recipes) as line:  # remembered
        assert line.station.state().recipe == "strict"


def test_a_part_on_its_way_keeps_its_recipe(tmp_path: Path) -> None:
    camera, recipes = Told(), {"washer": FakeSession(), "other": FakeSession()}
    with Line(tmp_path, camera, by="plc", window=4.0, recipes=recipes) as line:
        assert line.plc.requests.trigger("A-1") == Accepted(1)
        line.plc.requests.select_recipe("other")
        until(lambda: line.station.state().recipe == "other")
        camera.give(defect=True)
        assert line.verdicts(1) == [("reject", None)]
        assert line.plc.verdicts[0].recipe == "washer"


@pytest.mark.parametrize(
    "picture",
    [np.full((40, 50), 90, np.uint16), np.full((40, 50, 4), 90, np.uint8), "no picture"],
    ids=["16 bits", "four channels", "text"],
)
def test_a_camera_that_comes_back_with_another_format_is_a_fault_and_no_end(
    tmp_path: Path, picture: Any
) -> None:
    camera = Told()
    with Line(tmp_path, camera, by="plc", window=2.0) as line:
        line.plc.requests.trigger("A-1")
        camera.give(picture)
        ((outcome, reason),) = line.verdicts(1)
        assert outcome == "no verdict" and reason in ("camera fault", "picture lost")
        until(lambda: line.station.state().ready)
    assert line.plc.verdicts[0].counts_as == "reject"


def test_frames_of_another_size_than_the_tiles_of_an_artifact_are_no_pass(tmp_path: Path) -> None:
    tiles = Geometry(tiles=Tiles(64, 0, (128, 128)))
    session = FakeSession(
        dataclasses.replace(fake_spec(), geometry=tiles, image_size=(128, 128), reference=None)
    )
    with Line(tmp_path, Told(), by="camera", recipes={"tiled": session}) as line:
        line.cameras[0].give(np.full((40, 50, 3), 90, np.uint8))
        assert line.verdicts(1) == [("no verdict", "picture lost")]
        assert "the frame is 50 x 40, expected 128 x 128" in line.plc.verdicts[0].detail


def test_the_recipe_that_is_asked_for_last_wins(tmp_path: Path) -> None:
    states: list[tuple[str, str]] = []
    used: list[str] = []
    waits = threading.Event()

    def slow(path: Path) -> Any:
        waits.wait(10)
        raise StorageError("cannot be read")

    recipes = Recipes({"one": FakeSession(), "slow": tmp_path / "slow.onnx"}, [], slow)
    chooser = Chooser(
        recipes,
        use=lambda recipe: used.append(recipe.name),
        changed=lambda: states.append((chooser.asked, chooser.refused)),
        remember=lambda name: None,
    )
    chooser.ask("slow")
    chooser.ask("one")
    waits.set()
    until(lambda: used == ["one"] and states[-1] == ("", ""))
    chooser.ask("none")
    until(lambda: "no recipe 'none'" in states[-1][1])
    assert states[-2] == ("none", "")  # was told before it was answered


def test_inspect_waits_for_the_verdict(tmp_path: Path) -> None:
    camera = Told(how="software")
    camera.answers.put(np.full((40, 50, 3), 90, np.uint8))
    with Line(tmp_path, camera) as line:
        verdict = line.station.inspect("A-1")
        assert isinstance(verdict, Verdict) and verdict.outcome == "pass"
    assert line.station.inspect("A-2") == "not ready"


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    until(lambda: set(threading.enumerate()) <= before)
