"""A line's TOML file: what it says is what runs; what it cannot say is told with a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import MakeImage, WriteImage, WriteVideo

from generalad.errors import ConfigError
from generalad.runtime import AnnotatedVideo, Csv, EventRule, JsonLines, LiveSource, Overlays
from generalad.runtime.cameras.industrial import open
from generalad.runtime.line.line import Line
from generalad.runtime.line.line_file import read_line
from generalad.runtime.line.open_sinks import open_outputs
from generalad.runtime.sinks.event_folder import EventFolder
from generalad.runtime.sinks.samples import Samples


def written(folder: Path, text: str) -> Path:
    file = folder / "line.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_settings_of_an_industrial_camera_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[tuple[str, object]]] = []

    def factory(address: object, settings: dict[str, object]) -> None:
        seen.append(list(settings.items()))

    monkeypatch.setattr(open, "industrial_factory", factory)
    text = """
        [[stream]]
        source = "basler:40012345"
        [stream.settings]
        TriggerSelector = "FrameStart"
        ExposureTime = 5000
        Gain = 1.5
        ReverseX = true
        """
    (stream,) = read_line(written(tmp_path, text)).streams
    assert stream.name == "basler:40012345" and stream.camera_faults
    expected = {
        "TriggerSelector": "FrameStart",
        "ExposureTime": 5000,
        "Gain": 1.5,
        "ReverseX": True,
    }
    assert seen == [list(expected.items())]


@pytest.mark.parametrize("source", ["test://washer", "watch:in", "parts"])
def test_settings_are_for_industrial_cameras(tmp_path: Path, source: str) -> None:
    (tmp_path / "parts").mkdir()
    text = f"[[stream]]\nsource = '{source}'\nsettings = {{ Gain = 1 }}"
    with pytest.raises(ConfigError, match="settings are for"):
        read_line(written(tmp_path, text))


def test_all_that_a_line_can_say(
    tmp_path: Path, make_image: MakeImage, write_image: WriteImage, write_video: WriteVideo
) -> None:
    write_image(tmp_path / "parts" / "a.png", make_image(50))
    write_video(tmp_path / "clip.avi", [make_image(50)])
    line = read_line(
        written(
            tmp_path,
            """
            artifact = "model.onnx"
            batch = 4
            max_wait_ms = 20
            threads = 2
            device = "cpu"
            metrics = "9108"
            state = "state"

            [[stream]]
            name = "line-1"
            source = "test://washer?rate=10"
            threshold = 1.5
            min_area = 40
            inspect = [[[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]]]
            ignore = [[[0, 0], [0.2, 0], [0.2, 0.2]]]
            event = { frames = 3, of = 5, release = 0.4 }
            camera_faults = false
            frozen_after = 3
            drift = false
            stall_after = 2

            [[stream]]
            source = "parts"
            event = { frames = 2 }

            [[stream]]
            source = "clip.avi"
            real_time = true

            [[stream]]
            source = "watch:incoming"
            """,
        )
    )
    assert line.artifact == str(tmp_path / "model.onnx")
    assert (line.batch, line.max_wait, line.threads, line.device) == (4, 0.02, 2, "cpu")
    assert (line.metrics, line.state) == ("9108", tmp_path / "state")
    first, parts, clip, watched = line.streams
    assert (first.name, first.rule.threshold, first.rule.min_area) == ("line-1", 1.5, 40)
    assert first.rule.areas is not None and len(first.rule.areas.inspect) == 1
    assert first.events == EventRule(frames=3, of=5, release=0.4)
    assert (first.camera_faults, first.frozen_after, first.drift) == (False, 3.0, False)
    assert parts.events == EventRule(frames=2, of=2) and not parts.camera_faults
    assert not isinstance(parts.source, LiveSource)
    for live in (clip, watched):
        assert isinstance(live.source, LiveSource)
        assert live.events == EventRule() and live.camera_faults and live.drift
    assert watched.source.folder == tmp_path / "incoming", "relative to the file, as all paths"


def test_an_empty_line_says_nothing(tmp_path: Path) -> None:
    assert read_line(written(tmp_path, "")) == Line()


def test_a_given_state_folder_wins(tmp_path: Path) -> None:
    file = written(tmp_path, 'state = "state"')
    assert read_line(file, state=tmp_path / "other").state == tmp_path / "other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[stream]]\nsorce = 'x'", "source is missing"),
        ("[[stream]]\nsource = 'test://washer'\nthresold = 1", "did you mean threshold"),
        ("[[stream]]\nsource = 'test://washer'\nthreshold = '1'", "expected a number, found '1'"),
        ("[[stream]]\nsource = 'test://washer'\nthreshold = nan", "expected a number, found nan"),
        ("[[stream]]\nsource = 'test://spoon'", "number 1: .*unknown category 'spoon'"),
        ("[[stream]]\nsource = 'test://washer'\nevent = { frames = 0 }", "frames"),
        ("[[stream]]\nsource = 'test://washer'\nevent = { n = 1 }", "event: unknown key 'n'"),
        ("[[stream]]\nsource = 'test://washer'\ninspect = [[[0, 0], [1, 1]]]", "inspect polygon 1"),
        ("[[stream]]\nsource = 'nothing/'", "no such file or folder"),
        ("[[stream]]\nsource = 'rtsp://u:${NOT_SET_ANYWHERE}@h/'", "NOT_SET_ANYWHERE"),
        ("[[stream]]\nsource = 'watch:'", "watch: without a folder"),
        ("stream = 3", "expected a list"),
        ("stream = [3]", r"write \[\[stream\]\]"),
        ("batch = true", "expected a whole number"),
        ("artefact = 'x'", "did you mean artifact"),
        ("= 3", "no TOML"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_line(written(tmp_path, text))


def test_a_name_is_for_live_sources(
    tmp_path: Path, make_image: MakeImage, write_image: WriteImage
) -> None:
    write_image(tmp_path / "a.png", make_image(50))
    with pytest.raises(ConfigError, match="live sources"):
        read_line(written(tmp_path, "[[stream]]\nsource = 'a.png'\nname = 'a'"))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_line(tmp_path / "none.toml")


def test_secrets_come_from_the_environment_and_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av")
    monkeypatch.setenv("CAMERA_PASSWORD", "s3cret/&@")
    text = "[[stream]]\nsource = 'rtsp://gad:${CAMERA_PASSWORD}@10.0.0.21/one'"
    (stream,) = read_line(written(tmp_path, text)).streams
    assert stream.name == "rtsp://***@10.0.0.21/one"


OUTPUTS = """
[[sink]]
type = "json"
file = "results.jsonl"

[[sink]]
type = "csv"
file = "results.csv"

[[sink]]
type = "overlays"
folder = "overlays"

[[sink]]
type = "video"
file = "line.mp4"
rate = 10

[[sink]]
type = "events"
folder = "events"
max_gb = 2
max_days = 30

[[sink]]
type = "samples"
folder = "samples"
keep = 100
every = 0

[[sink]]
type = "send"
address = "https://example.invalid/hook"
token = "${HOOK_TOKEN}"
send = ["event"]
per_minute = 60
"""


def outputs(folder: Path, text: str) -> list[object]:
    sinks = read_line(written(folder, text)).sinks
    return list(open_outputs(sinks, state=folder / "state", log=print))


def test_every_kind_of_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from generalad.runtime.delivery.sink import NetworkSink

    monkeypatch.setenv("HOOK_TOKEN", "s3cret")
    kinds = [type(sink) for sink in outputs(tmp_path, OUTPUTS)]
    assert kinds == [JsonLines, Csv, Overlays, AnnotatedVideo, EventFolder, Samples, NetworkSink]
    assert [path.name for path in tmp_path.iterdir()] == ["line.toml"], "nothing is opened"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[sink]]\nfile = 'a'", "type is missing"),
        ("[[sink]]\ntype = 'cvs'\nfile = 'a'", "unknown type 'cvs' → choose from json, csv"),
        ("[[sink]]\ntype = 'csv'", "file is missing"),
        ("[[sink]]\ntype = 'csv'\nfile = 'a.csv'\nfolder = 'b'", "unknown key 'folder'"),
        ("[[sink]]\ntype = 'events'\nfolder = 'a'\nmax_gb = -1", r"number 1: .*above 0"),
        ("[[sink]]\ntype = 'send'\naddress = 'ftp://x'", "mqtt://, mqtts://, http:// or https://"),
        ("[[sink]]\ntype = 'send'\naddress = 'http://x/'\nsend = ['evnt']", "cannot send evnt"),
        ("[[sink]]\ntype = 'send'\naddress = 'http://x/'\nsend = []", "cannot send nothing"),
    ],
)
def test_mistakes_in_sinks_are_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        outputs(tmp_path, text)
