"""A station's TOML file: what it says is what runs; what it cannot say is told with a remedy."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from camera_helpers import PATIENCE, until
from cli_helpers import Capture, gad, one_line
from conftest import MakeArtifact
from ports import free_port

from generalad.errors import ConfigError
from generalad.runtime.sinks.json_csv import VERDICT_COLUMNS
from generalad.runtime.station.check import check_station
from generalad.runtime.station.station_file import plan_of, read_station

CAMERA = "test://washer?size=64&rate=100&defects=0&trigger=software"
STREAM = f'[[stream]]\nname = "top"\nsource = "{CAMERA}"\n'
HEAD = 'artifact = "model.onnx"\n'


def written(folder: Path, text: str) -> Path:
    file = folder / "station.toml"
    file.write_text(text, encoding="utf-8")
    return file


def minimal(folder: Path, *, head: str = HEAD, by: str = 'by = "http"', more: str = "") -> Path:
    return written(folder, f"{head}[trigger]\n{by}\n{STREAM}{more}")


def test_a_whole_file(tmp_path: Path) -> None:
    text = """
        state = "memory"
        [station]
        name = "press-4"
        deadline_ms = 200
        safe = "pass"
        pass_when = 2
        at_once = 3
        window_ms = 20
        [trigger]
        by = "plc"
        [[plc]]
        type = "modbus-server"
        address = "127.0.0.1:5020"
        [[recipe]]
        name = "washer"
        artifact = "washer.onnx"
        [[recipe]]
        name = "bracket"
        artifact = "bracket.onnx"
        [[stream]]
        name = "top"
        source = "test://washer?trigger=software"
        pictures = 3
        """
    found = read_station(written(tmp_path, text))
    plan = plan_of(found, print)
    assert (plan.name, plan.deadline, plan.safe, plan.needed) == ("press-4", 0.2, "pass", 2)
    assert (plan.at_once, plan.window, plan.by) == (3, 0.02, "plc")
    assert list(plan.recipes) == ["washer", "bracket"]
    assert plan.recipes["bracket"] == tmp_path / "bracket.onnx"
    assert (plan.cameras[0].how, plan.cameras[0].pictures) == ("software", 3)
    assert plan.state == tmp_path / "memory"


@pytest.mark.parametrize(
    ("trigger", "source", "settings", "how"),
    [
        ("camera", "test://washer", "", "line"),
        ("plc", "test://washer", "", "free"),
        ("plc", "basler:1", 'settings = { TriggerMode = "On", TriggerSource = "Line1" }', "line"),
        (
            "plc",
            "basler:1",
            'settings = { TriggerMode = "On", TriggerSource = "Software" }',
            "software",
        ),
    ],
)
def test_how_a_camera_takes_pictures_is_in_its_settings(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trigger: str,
    source: str,
    settings: str,
    how: str,
) -> None:
    from generalad.runtime.cameras.industrial import open

    monkeypatch.setattr(open, "industrial_factory", lambda address, settings: None)
    text = f"""{HEAD}[trigger]\nby = "{trigger}"
        [[plc]]\ntype = "modbus-server"
        [[stream]]\nname = "top"\nsource = "{source}"\n{settings}"""
    assert read_station(written(tmp_path, text)).cameras[0].how == how


USB = '[[stream]]\nname = "c"\nsource = "usb:0"\n'


def server(address: str) -> str:
    return f'[[plc]]\ntype = "modbus-server"\naddress = "{address}"\n'


def recipes(*names: str) -> str:
    return "".join(f'[[recipe]]\nname = "{name}"\nartifact = "a.onnx"\n' for name in names)


EYE = 'by = "eye"\ncamera = "top"\narea = [[[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]]]'


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"head": ""}, "artifact, or one"),
        ({"head": f'{HEAD}batch = "auto"\n'}, "is for streams"),
        ({"head": f'{HEAD}recipe = [{{ name = "a", artifact = "b" }}]\n'}, "artifact, or one"),
        (
            {"head": 'recipe = [{ name = "a", artifact = "b" }, { name = "a", artifact = "c" }]\n'},
            "names that differ",
        ),
        ({"by": 'by = "plc"'}, "needs a [[plc]]"),
        ({"by": 'by = "ftp"'}, "unknown by 'ftp'"),
        ({"by": 'by = "camera"'}, "triggered by software"),
        ({"by": EYE.replace('"top"', '"side"')}, "no camera 'side'"),
        ({"by": EYE.replace("0.1", "1.5")}, "between 0 and 1"),
        ({"by": f"{EYE}\nenter = 0.05"}, "leave < enter"),
        ({"by": f'{EYE}\nempty = "none.png"'}, "none.png"),
        ({"more": "event = { frames = 2 }"}, "event is for streams"),
        ({"more": "pictures = 0"}, "number 1: pictures: expected 1 to 1000, found 0"),
        ({"more": "pictures = 2000000000"}, "pictures: expected 1 to 1000"),
        ({"more": f"[station]\nat_once = {10**12}"}, "[station]: at_once: expected 1 to 1000"),
        ({"more": "[station]\nwindow_ms = 0"}, "[station]: window_ms"),
        ({"head": f"{HEAD}batch = 0\n"}, "batch: expected 1 to 1000, found 0"),
        ({"head": f"metrics = '9200'\n{HEAD}"}, "[trigger]: port 9200 is that of metrics"),
        ({"more": server("0.0.0.0:9200")}, "[[plc]] number 1: port 9200 is that of [trigger]"),
        ({"more": server("localhost:5020") * 2}, "number 2: port 5020 is that of [[plc]] number 1"),
        ({"head": recipes("Gr\u00f6\u00dfe"), "more": server("5.5.5.5:5020")}, "ask for 'Gr"),
        ({"head": recipes("a" * 33), "more": server("5.5.5.5:5020")}, "at most 32 letters"),
        ({"more": '[[stream]]\nname = "b"\nsource = "usb:0"\n' + USB}, "usb:0 is that of number 2"),
        ({"more": "[station]\npass_when = 2"}, "1 pictures, 2 of them"),
        ({"more": "[station]\npass_when = 0"}, "cannot pass"),
        ({"more": '[station]\npass_when = "most"'}, "pass_when"),
        (
            {"more": "[station]\ndeadline_ms = -5"},
            "deadline_ms: expected 1 to 3600000 milliseconds, found -5",
        ),
        ({"more": "[station]\ndeadline_ms = 0.5"}, "milliseconds, found 0.5"),
        ({"more": "[station]\ndeadline_ms = nan"}, "expected a number, found nan"),
        ({"more": "[station]\nwindow_ms = inf"}, "expected a number, found inf"),
        ({"more": "[station]\ndeadline_ms = 1e300"}, "milliseconds, found 1e+300"),
        ({"more": '[station]\ndeadline_ms = "500"'}, "deadline_ms: expected a number"),
        ({"by": f"{EYE}\nlongest_s = nan"}, "expected a number, found nan"),
        ({"more": '[station]\nsafe = "maybe"'}, "expected one of pass, reject"),
        ({"more": "[station]\ndeadline = 5"}, "did you mean deadline_ms"),
        ({"more": STREAM}, "one name"),
        ({"more": '[[stream]]\nsource = "watch:in"'}, "expected a camera"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, changes: dict[str, str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_station(minimal(tmp_path, **changes))
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_station_is_no_line(tmp_path: Path, capsys: Capture) -> None:
    file = minimal(tmp_path, more="[station]\n")
    code, _, err = gad(capsys, "infer", "--config", file)
    assert code == 2 and "gad station run" in one_line(err)


def test_without_a_trigger_there_is_no_station(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[trigger\] is missing"):
        read_station(written(tmp_path, HEAD + STREAM))


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    found = read_station(minimal(tmp_path, by=f'by = "http"\naddress = "{free_port()}"'))
    first = plan_of(found, print)
    with pytest.raises(ConfigError, match="cannot be served"):
        plan_of(found, print)
    assert first.receiver is not None
    first.receiver.close()


@pytest.fixture
def station(tmp_path: Path, make_artifact: MakeArtifact) -> Iterator[tuple[Path, int]]:
    """A file whose artifact passes all parts of its camera, and the port of its trigger."""
    from generalad.spec import Thresholds

    make_artifact(
        tmp_path,
        thresholds=Thresholds(image=2.0, pixel=2.0),
        golden=golden(tmp_path, make_artifact),
    )
    port = free_port()
    yield (
        minimal(
            tmp_path,
            by=f'by = "http"\naddress = "{port}"',
            more='[station]\ndeadline_ms = 5000\n[[sink]]\ntype = "json"\nfile = "out.jsonl"\n'
            '[[sink]]\ntype = "csv"\nfile = "out.csv"\n',
        ),
        port,
    )


def golden(folder: Path, make_artifact: MakeArtifact) -> Any:
    """One golden sample of the tiny artifact."""
    import base64

    import cv2
    import numpy as np

    from generalad.runtime.backends.open import open_session
    from generalad.spec import GoldenSample

    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    with open_session(make_artifact(folder, name="bare.onnx")) as session:
        scores, maps = session.run(image[None])
    png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    text = base64.b64encode(png).decode()
    return (GoldenSample(png=text, score=float(scores[0]), map_peak=float(maps[0].max())),)


def post(port: int, part: str) -> dict[str, Any]:
    body = json.dumps({"part": part}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/trigger", data=body)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return dict(json.load(answer))


def test_a_station_is_killed_and_the_next_process_answers(station: tuple[Path, int]) -> None:
    file, port = station
    metrics = free_port()
    file.write_text(f'metrics = "{metrics}"\n{file.read_text()}')
    first = started(file, metrics)
    assert post(port, "A-1")["outcome"] == "pass"
    journal_file = file.parent / "gad-state" / "station.journal"
    until(lambda: b'{"d": 1}' in journal_file.read_bytes())
    # As if it had been killed between trigger and verdict.
    first.send_signal(signal.SIGSTOP)
    with journal_file.open("ab") as journal:
        journal.write(b'{"t": 2, "part": "A-2"}\n')
    first.kill()
    first.communicate()
    second = started(file, metrics)
    assert post(port, "A-3")["verdict"] == 10_001  # the first id of a new block
    second.send_signal(signal.SIGTERM)
    _, err = second.communicate(timeout=PATIENCE)
    assert second.returncode == 143, err
    rows = [json.loads(line) for line in (file.parent / "out.jsonl").read_text().splitlines()]
    verdicts = [
        (r["verdict"], r["part"], r["outcome"], r["reason"])
        for r in rows
        if r.get("notice") == "verdict"
    ]
    assert verdicts == [
        (1, "A-1", "pass", None),
        (2, "A-2", "no verdict", "restart"),
        (10_001, "A-3", "pass", None),
    ]
    starts = [row for row in rows if row.get("notice") == "station"]
    assert [(row["anew"], row["unanswered"]) for row in starts] == [(False, 0), (True, 1)]
    csv = (file.parent / "out.csv").read_text().splitlines()
    assert csv[0] == ",".join(VERDICT_COLUMNS) and len(csv) == 4


def started(file: Path, metrics: int) -> subprocess.Popen[str]:
    """The process of a station, once it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "generalad", "station", "run", str(file)],
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{metrics}/ready", timeout=5),
        ):
            return process
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate()[1])


def test_check_of_a_station_that_is_as_it_is_to_be(
    station: tuple[Path, int], capsys: Capture
) -> None:
    file, _ = station
    code, out, err = gad(capsys, "station", "check", file, "--parts", 5, "--wait", 0.1, "--json")
    found = json.loads(out)
    rows = {row["what"]: row["ok"] for row in found["rows"]}
    assert rows == {
        "recipe model": True,
        "camera top": True,
        "trigger": False,  # nobody posts
        "verdicts": True,
        "trigger to verdict": True,
    }
    assert code == 3 and not found["ok"] and found["parts"] == 5
    assert found["triggered_by"] == "check" and "the check triggered" in err and "Name ...." in err
    assert set(found["milliseconds"]) == {"p50", "p99", "p99.9", "max"}


def test_check_says_why_a_recipe_cannot_be_used(
    tmp_path: Path, make_artifact: MakeArtifact
) -> None:
    make_artifact(tmp_path)  # without golden samples there is no self-test
    found = check_station(read_station(minimal(tmp_path)), parts=1, wait=0.1)
    assert [row.ok for row in found.rows] == [False, None, None, None]
    assert "golden" in found.rows[0].found and not found.ok


def test_the_map_is_printed(tmp_path: Path, capsys: Capture) -> None:
    code, out, _ = gad(capsys, "station", "map")
    assert code == 0 and "Heartbeat" in out
    code, _, err = gad(capsys, "station", "map", minimal(tmp_path))
    assert code == 2 and "has no [[plc]]" in one_line(err)
    plc = '[[plc]]\ntype = "modbus-server"\naddress = "127.0.0.1:5020"\nregister = 100\n'
    code, out, _ = gad(capsys, "station", "map", minimal(tmp_path, more=plc), "--format", "json")
    assert code == 0 and json.loads(out)["places"][0]["where"] == "127.0.0.1:5020"
