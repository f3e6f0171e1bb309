"""A device follows what is wanted: shadow, exchange, watch, and back by itself."""

from __future__ import annotations

import functools
import http.server
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from serve_helpers import Client, golden_artifact, png, running
from serve_line_helpers import until

from generalad.errors import DataError, UsageError
from generalad.serve import follow, shadow
from generalad.serve.exchange import Exchange
from generalad.serve.models import BusyError
from generalad.serve.source import FleetSource
from generalad.spec import Thresholds

HIGHER = Thresholds(image=0.5, pixel=0.5)
"""The usual one of the tiny network is 0.25."""


class Fleet:
    """A folder that says what is wanted, and a device."""

    def __init__(self, folder: Path) -> None:
        self.source, self.device = folder / "fleet", folder / "washer"
        golden_artifact(self.device / "1.onnx")
        (self.source / "washer").mkdir(parents=True)
        self.want("1.onnx")

    def publish(self, name: str, **changes: Any) -> Path:
        """Put a version there and want it."""
        path = golden_artifact(self.source / "washer" / name, **changes)
        self.want(name)
        return path

    def want(self, name: str) -> None:
        temporary = self.source / "wanted.new"
        temporary.write_text(json.dumps({"washer": name, "another": "1.onnx"}))
        temporary.replace(self.source / "wanted.json")

    def serve(self, address: str | None = None) -> Any:
        return running(self.device, follow=address or str(self.source))


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setattr(shadow, "LEAST", 20)
    monkeypatch.setattr(follow, "ASK_EVERY", 0.05)
    monkeypatch.setattr(follow, "_LOOK_EVERY", 0.02)
    return Fleet(tmp_path)


def rollout(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/v1/models/washer").json["rollout"] or {"state": ""}
    return found


def ask_until(client: Client, level: int, ended: Callable[[], Any]) -> Any:
    """Send images of a brightness until something has come about."""
    image = png(np.full((64, 64, 3), level, np.uint8))

    def ask() -> Any:
        assert client.predict(image, model="washer").status == 200
        return ended()

    return until(ask)


def in_state(client: Client, state: str) -> Callable[[], Any]:
    return lambda: (found := rollout(client))["state"] == state and found


def test_a_wanted_version_is_compared_exchanged_and_kept(fleet: Fleet) -> None:
    with fleet.serve() as client:
        fleet.publish("2.onnx", thresholds=HIGHER)
        until(in_state(client, "shadow"))
        assert client.get("/v1/models/washer").json["version"] == "1.onnx"
        found = ask_until(client, 20, in_state(client, "kept"))
        assert found["compared"]["images"] >= 20
        assert client.get("/v1/models/washer").json["version"] == "2.onnx"
    (report,) = (fleet.source / "reports").iterdir()
    said = json.loads(report.read_text())
    assert (said["serves"], said["state"]) == ("2.onnx", "kept")


def test_a_version_that_alarms_otherwise_never_serves(fleet: Fleet) -> None:
    with fleet.serve() as client:
        fleet.publish("2.onnx", thresholds=HIGHER)
        found = ask_until(client, 100, in_state(client, "refused"))
        assert "would be alarms no more" in found["reason"]
        assert client.get("/v1/models/washer").json["version"] == "1.onnx"
        fleet.publish("3.onnx")
        ask_until(client, 100, in_state(client, "kept"))


def test_a_version_that_turns_out_worse_is_rolled_back(fleet: Fleet) -> None:
    with fleet.serve() as client:
        fleet.publish("2.onnx", thresholds=HIGHER)
        # Both are of one mind in the shadow; what comes later tells them apart.
        ask_until(client, 20, in_state(client, "watch"))
        found = ask_until(client, 100, in_state(client, "refused"))
        assert found["reason"].startswith("rolled back")
        model = client.get("/v1/models/washer").json
        assert (model["version"], model["previous"]) == ("1.onnx", "2.onnx")
        assert model["versions"] == ["1.onnx"]  # the next start does not serve it either


def test_a_person_who_exchanges_at_the_same_time_refuses_nothing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    met, put, rollback = list[str](), Exchange.put, Exchange.rollback

    def busy_once(self: Exchange, *arguments: Any, **named: Any) -> None:
        what = put if len(arguments) == 2 else rollback
        if met.count(what.__name__) == 0:
            met.append(what.__name__)
            raise BusyError("washer is being exchanged")
        what(self, *arguments, **named)

    monkeypatch.setattr(Exchange, "put", busy_once)
    monkeypatch.setattr(Exchange, "rollback", busy_once)
    with fleet.serve() as client:
        fleet.publish("2.onnx", thresholds=HIGHER)
        ask_until(client, 20, in_state(client, "watch"))
        ask_until(client, 100, in_state(client, "refused"))
        assert client.get("/v1/models/washer").json["version"] == "1.onnx"
    assert met == ["put", "rollback"]


def test_a_pipe_in_the_source_is_no_file(fleet: Fleet) -> None:
    os.mkfifo(fleet.source / "pipe")
    (fleet.source / "wanted.json").unlink()
    (fleet.source / "wanted.json").symlink_to(fleet.source / "pipe")
    with pytest.raises(DataError, match="No such file"):
        FleetSource(str(fleet.source)).wanted()


def test_a_source_that_comes_back_is_followed(fleet: Fleet) -> None:
    with fleet.serve() as client:
        fleet.want("2.onnx")  # before its file is there
        until(in_state(client, "fetching"))
        fleet.publish("2.onnx")
        ask_until(client, 20, in_state(client, "kept"))


@pytest.mark.parametrize(
    ("change", "words"),
    [({"wrong": True}, "differs"), ({"class_name": "board"}, "is for 'board'")],
)
def test_a_version_that_is_not_fit_is_refused(
    fleet: Fleet, change: dict[str, Any], words: str
) -> None:
    with fleet.serve() as client:
        fleet.publish("2.onnx", **change)
        assert words in until(in_state(client, "refused"))["reason"]
        assert client.get("/v1/models/washer").json["versions"] == ["1.onnx"]
        assert client.get("/v1/models/washer").json["version"] == "1.onnx"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"washer": 1}', '{"washer": "../1.onnx"}', '{"washer": "1.exe"}']
)
def test_a_source_that_says_something_else_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "wanted.json").write_text(text)
    with pytest.raises(DataError, match=r"wanted\.json"):
        FleetSource(str(tmp_path)).wanted()


def test_what_is_missing_is_told_and_nothing_is_left(fleet: Fleet) -> None:
    with pytest.raises(DataError, match=r"9\.onnx"):
        FleetSource(str(fleet.source)).fetch("washer", "9.onnx", fleet.device)
    assert [path.name for path in fleet.device.iterdir()] == ["1.onnx"]
    with pytest.raises(DataError, match="no name"):
        FleetSource(str(fleet.source)).fetch("..", "1.onnx", fleet.device)


def test_what_cannot_be_followed_is_told(fleet: Fleet, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be signed"):
        FleetSource("https://fleet.example/models")
    with pytest.raises(UsageError, match="expected a folder"):
        FleetSource(str(tmp_path / "none"))
    lone = golden_artifact(tmp_path / "lone.onnx")
    with (
        pytest.raises(UsageError, match="folders of versions"),
        running(lone, follow=str(fleet.source)),
    ):
        pass


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def url(fleet: Fleet) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(fleet.source))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_from_a_url_only_signed_versions_are_taken(
    fleet: Fleet, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography")
    from signature_helpers import Keys

    from generalad.runtime.backends.signature import sign

    keys, other = Keys(tmp_path), Keys(tmp_path, "other")
    monkeypatch.setenv("GAD_VERIFY_KEY", str(keys.public))
    sign(fleet.device / "1.onnx", keys.private)
    with fleet.serve(url) as client:
        fleet.publish("2.onnx")
        assert "is not signed" in until(in_state(client, "refused"))["reason"]
        sign(golden_artifact(fleet.source / "washer" / "3.onnx"), other.private)
        fleet.want("3.onnx")
        until(lambda: rollout(client).get("version") == "3.onnx")
        assert "not by the key" in until(in_state(client, "refused"))["reason"]
        assert not (fleet.device / "3.onnx").exists()
        sign(golden_artifact(fleet.source / "washer" / "4.onnx"), keys.private)
        fleet.want("4.onnx")
        ask_until(client, 20, in_state(client, "kept"))
        assert (fleet.device / "4.onnx.sig").exists()
