"""`gad cameras` and `gad cameras test`: addresses to copy, a picture, and failures in one line."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cli_helpers import Capture, gad, one_line
from fake_device import FakeCamera, buffer

from generalad.cli.cameras import as_text
from generalad.errors import MissingExtraError
from generalad.runtime.cameras import find_cameras, try_camera
from generalad.runtime.cameras.address import parse_address
from generalad.runtime.cameras.camera import CameraLost
from generalad.runtime.cameras.industrial import found_cameras, open
from generalad.runtime.cameras.industrial.identity import Identity, choose

TOP = Identity("Maker", "M1", "123", "Line 1?", ("10.0.0.5", "00:11:22:33:44:55"))
TWIN = Identity("Maker", "M1", "7", "side", ())
OTHER = Identity("Maker", "M1", "7", "other", ())


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three cameras of one library, another that hangs, and one that is not installed."""
    over = threading.Event()

    def listed(kind: str, producers: Sequence[str]) -> list[tuple[Identity, str]]:
        if kind == "gige":
            raise MissingExtraError("a gige: camera", "gige")
        if kind == "basler":
            over.wait()
        return [(TOP, ""), (TWIN, ""), (OTHER, f"?producer={producers[0]}")]

    monkeypatch.setattr(open, "listed", listed)
    monkeypatch.setattr(found_cameras, "_PATIENCE", 0.1)
    monkeypatch.setattr(found_cameras, "_video_devices", list)
    yield
    over.set()


def test_cameras_are_listed_with_addresses_that_mean_one(
    libraries: None, capsys: Capture, tmp_path: Path
) -> None:
    producer = tmp_path / "a.cti"
    code, out, err = gad(capsys, "cameras", "--producer", str(producer), "--json")
    found = json.loads(out)
    assert code == 0
    addresses = [camera["address"] for camera in found["cameras"]]
    assert addresses == ["genicam:123", f"genicam:other?producer={producer}", "genicam:side"]
    assert found["cameras"][0]["model"] == "M1"
    assert found["not_searched"]["basler"] == "no answer within 0.1 s"
    assert "pip install 'generalad[gige]'" in found["not_searched"]["gige"]
    assert all(address in err for address in addresses) and "serial 123, name Line 1?" in err
    assert parse_address(addresses[1]).camera == "other"
    assert parse_address(addresses[1]).producer == str(producer)


def test_special_characters_of_a_name_come_back() -> None:
    address = parse_address("basler:Line%201%3F")
    assert (address.kind, address.camera, address.producer) == ("basler", "Line 1?", "")


@pytest.mark.parametrize("key", ["123", "Line 1?", "line 1?", "10.0.0.5", "00:11:22:33:44:55"])
def test_a_camera_is_known_by_all_that_stays_with_it(key: str) -> None:
    assert choose(key, [TWIN, TOP]) == 1


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("0", "no camera '0' here; there are: 123, 7, 7"),
        ("7", "2 cameras are called '7': serial numbers 7, 7"),
    ],
)
def test_a_camera_is_never_chosen_by_its_place(key: str, words: str) -> None:
    with pytest.raises(CameraLost) as lost:
        choose(key, [TOP, TWIN, OTHER])
    assert str(lost.value) == words


def test_one_camera_is_tried(capsys: Capture, tmp_path: Path) -> None:
    picture = tmp_path / "part.png"
    words = ("test://washer?size=64&rate=200", "--seconds", "0.3", "-o", str(picture), "--json")
    code, out, err = gad(capsys, "cameras", "test", *words)
    found = json.loads(out)
    assert code == 0 and found["frames"] > 5 and found["dropped"] == {}
    assert found["size"] == [64, 64] and found["picture"] == str(picture)
    assert found["pixel_format"] is None and "frames a second" in err
    read = cv2.imread(str(picture))
    assert read is not None and read.shape == (64, 64, 3)


def test_an_industrial_camera_is_tried(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    camera = FakeCamera.triggered()
    camera.answers.extend([[buffer(5)], [buffer(6, problem="2 packets are missing")]] * 500)
    seen: list[Any] = []

    def factory(address: Any, settings: Any) -> FakeCamera:
        seen.append(dict(settings))
        return camera

    monkeypatch.setattr(open, "industrial_factory", factory)
    words = ("basler:1", "--seconds", "0.1", "--set", "Gain=3", "--set", "Mode=On", "--json")
    code, out, err = gad(capsys, "cameras", "test", *words, "--set", "A=true")
    found = json.loads(out)
    assert code == 0 and seen == [{"Gain": 3, "Mode": "On", "A": True}]
    assert (found["pixel_format"], found["trigger"]) == ("Mono8", "software")
    assert found["packets"] == {"lost": 3, "resent": 2}
    assert found["failed_triggers"][0] == "2 packets are missing"
    # Pictures that are under way when the time is over are counted by one of the two.
    assert found["dropped"]["damaged"] > 0 and set(found["failed_triggers"]) >= {
        "2 packets are missing"
    }
    assert found["trigger_ms"]["median"] > 0
    for words_ in ("lost packets", "3, 2 sent again", "by software", "the last one: "):
        assert words_ in err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("usb:99",), "gad: usb:99: cannot be opened"),
        (("basler:",), "gad: basler:: expected the camera's serial number, user name or"),
        (("parts/",), "gad: parts/: not the address of a live source"),
        (("test://washer", "--set", "Gain"), "gad: --set: expected NAME=VALUE, found 'Gain'"),
        (("test://washer", "--set", "Gain=3"), "gad: test://washer: settings are for industrial"),
        (("test://washer", "-o", "part.txt"), "gad: part.txt: expected a name that ends with"),
    ],
)
def test_what_cannot_be_is_one_line(words: Sequence[str], line: str, capsys: Capture) -> None:
    code, out, err = gad(capsys, "cameras", "test", *words)
    assert code in (1, 2) and out == ""
    assert one_line(err.splitlines()[-1] + "\n").startswith(line)


@pytest.mark.parametrize(
    ("kind", "module", "remedy"),
    [
        ("genicam", "genicam", "pip install 'generalad[genicam]'"),
        ("basler", "pypylon", "pip install 'generalad[basler]'"),
        ("gige", "gi", "apt install gir1.2-aravis-0.8 and pip install 'generalad[gige]'"),
    ],
)
def test_a_missing_library_says_what_to_install(
    kind: str, module: str, remedy: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == module else find(name)
    )
    code, out, err = gad(capsys, "cameras", "test", f"{kind}:1")
    assert (code, out) == (2, "") and one_line(err).rstrip().endswith(remedy)


def test_a_picture_of_blocks_shows_two_rows_a_line() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[0] = (255, 0, 0)
    text = as_text(image, columns=4)
    assert text.plain == "▀▀▀▀\n▀▀▀▀\n"
    style: Any = text.spans[0].style
    assert style.color.triplet == (255, 0, 0) and style.bgcolor.triplet == (0, 0, 0)


def test_the_python_calls_are_those_of_the_commands(libraries: None) -> None:
    assert [camera.kind for camera in find_cameras(["a.cti"]).cameras] == ["genicam"] * 3
    trial = try_camera("test://washer?size=32&rate=200", seconds=0.2)
    assert trial.rate > 5 and trial.picture is not None and trial.picture.shape == (32, 32, 3)


def test_listing_without_libraries_loads_none(capsys: Capture) -> None:
    before = {"genicam", "pypylon", "gi"} & sys.modules.keys()
    assert gad(capsys, "cameras", "--help")[0] == 0
    assert {"genicam", "pypylon", "gi"} & sys.modules.keys() == before
