"""Metrics and health say what the views say."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from stream_helpers import STATION, STREAM

from generalad.errors import UsageError
from generalad.runtime.line import metrics_server
from generalad.runtime.line.metrics_server import (
    Telemetry,
    exposition,
    families,
    hanging,
    not_ready,
)
from generalad.runtime.view import SinkView, View

pytest.importorskip("prometheus_client")

SINK = SinkView("mqtt://broker", True, "", kept=7, waiting=3, dropped={"queue full": 1})
VIEW = View((STREAM,), (SINK,), {"Csv": 6}, seconds=100.0, busy=0.0, backend="fake")


def changed(**changes: object) -> View:
    stream = STREAM._replace(**changes)  # type: ignore[arg-type]
    return VIEW._replace(streams=(stream,))


def samples(view: View) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample, by name and label values."""
    from prometheus_client.parser import text_string_to_metric_families

    read = text_string_to_metric_families(exposition(families(view)).decode())
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in read
        for sample in family.samples
    }


def test_metrics_hold_every_number_of_a_stream() -> None:
    found, name = samples(VIEW), "line-1"
    assert found["gad_frames_captured_total", (name,)] == 20
    assert found["gad_frames_processed_total", (name,)] == 12
    assert found["gad_frames_in_flight", (name,)] == 1
    dropped = {
        labels: value for (key, labels), value in found.items() if key == "gad_frames_dropped_total"
    }
    by_reason = {next(part for part in labels if part != name): v for labels, v in dropped.items()}
    assert by_reason == {"newer frame": 5, "camera fault: black": 2}
    assert found["gad_frames_anomalous_total", (name,)] == 3
    assert found["gad_events_total", (name,)] == 2
    assert found["gad_reconnects_total", (name,)] == 4
    assert found["gad_stream_live", (name,)] == 1
    assert found["gad_event_active", (name,)] == 1
    assert found["gad_camera_fault", (name,)] == 0
    assert found["gad_score", (name,)] == 0.25
    latency = {v for (key, _), v in found.items() if key == "gad_latency_seconds"}
    assert latency == {0.008, 0.012}


def test_metrics_hold_every_number_of_a_sink() -> None:
    found = samples(VIEW)
    assert found["gad_sink_kept", ("mqtt://broker",)] == 7
    assert found["gad_sink_waiting", ("mqtt://broker",)] == 3
    assert found["gad_sink_ok", ("mqtt://broker",)] == 1
    assert found["gad_not_written_total", ("Csv",)] == 6


def test_metrics_hold_every_number_of_a_station() -> None:
    view = VIEW._replace(station=STATION)
    found = {(name, frozenset(labels)): value for (name, labels), value in samples(view).items()}
    of = frozenset({"press-4"})
    assert found["gad_parts_total", of] == 100
    assert found["gad_parts_waiting", of] == 2
    assert found["gad_triggers_refused_total", of] == 1
    assert found["gad_pictures_without_trigger_total", of] == 3
    assert found["gad_station_ready", of] == 0
    assert found["gad_verdicts_total", of | {"pass", ""}] == 80
    assert found["gad_verdicts_total", of | {"no verdict", "late"}] == 4
    for quantile, seconds in (("0.5", 0.02125), ("0.99", 0.0485), ("0.999", 0.097)):
        assert found["gad_verdict_seconds", of | {quantile}] == pytest.approx(seconds)
    assert not_ready(view) == ["press-4: side: reconnecting: unplugged"]


def test_a_stream_without_a_score_has_none() -> None:
    assert ("gad_score", ("line-1",)) not in samples(changed(score=None))


def test_a_camera_that_is_down_is_not_ready_but_no_reason_to_start_anew() -> None:
    down = changed(state="reconnecting", reason="refused")
    assert not hanging(down)
    assert not_ready(down) == ["line-1: reconnecting: refused"]


def test_a_fault_and_a_lost_broker_are_told() -> None:
    assert not_ready(changed(fault="black")) == ["line-1: camera fault: black"]
    lost = SINK._replace(connected=False, problem="refused")
    assert not_ready(VIEW._replace(sinks=(lost,))) == ["mqtt://broker: refused"]


def test_a_network_that_does_not_come_back_is_told() -> None:
    assert not hanging(VIEW._replace(busy=59.0))
    assert hanging(VIEW._replace(busy=61.0))


@pytest.fixture
def served() -> Iterator[tuple[str, list[View]]]:
    views = [VIEW]
    telemetry = Telemetry("0")
    telemetry.begin(lambda: views[0])
    yield f"http://127.0.0.1:{telemetry.port}", views
    telemetry.end()


def get(address: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_pages(served: tuple[str, list[View]]) -> None:
    address, views = served
    code, body = get(f"{address}/metrics")
    assert code == 200 and b"gad_frames_captured_total" in body
    assert [get(f"{address}/{page}")[0] for page in ("health", "ready", "other")] == [200, 200, 404]
    views[0] = changed(state="stalled", reason="no frame for 5 s")
    assert get(f"{address}/health")[0] == 200
    code, body = get(f"{address}/ready")
    assert code == 503
    assert json.loads(body)["problems"] == ["line-1: stalled: no frame for 5 s"]
    views[0] = VIEW._replace(busy=1e6)
    assert get(f"{address}/health")[0] == 503


def test_a_port_that_is_taken_is_told(served: tuple[str, list[View]]) -> None:
    port = served[0].rpartition(":")[2]
    with pytest.raises(UsageError, match="cannot be served at"):
        Telemetry(port)


@pytest.mark.parametrize("address", ["http", "99999", "1.2.3.4:x", ""])
def test_what_is_no_port_is_told(address: str) -> None:
    with pytest.raises(UsageError, match=r"expected PORT or HOST:PORT"):
        Telemetry(address)


@pytest.mark.parametrize("stage", ["reading files", "reading line-1", "writing"])
def test_a_stage_that_has_been_at_one_image_for_a_minute_hangs(stage: str) -> None:
    assert hanging(VIEW._replace(stages={stage: 59.0})) == []
    (problem,) = hanging(VIEW._replace(stages={stage: 61.0}))
    assert problem == f"{stage} has been at one image for 61 s"
    assert problem in not_ready(VIEW._replace(stages={stage: 61.0}))


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    found = Telemetry("0")
    found.begin(lambda: VIEW)
    yield found
    found.end()


def test_a_client_that_resets_is_no_news(
    telemetry: Telemetry, capfd: pytest.CaptureFixture[str]
) -> None:
    for request in (b"", b"GET /met", b"GET /metrics HTTP/1.0\r\n\r\n"):
        client = socket.create_connection(("127.0.0.1", telemetry.port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(request)
        client.close()
    assert answer(telemetry.port) == 200
    assert capfd.readouterr() == ("", "")


def answer(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as found:
        return int(found.status)


def test_slow_clients_are_few_and_hung_up_on(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "_SECONDS_OF_A_CLIENT", 1.0)
    clients = [socket.create_connection(("127.0.0.1", telemetry.port)) for _ in range(60)]
    for client in clients:
        with contextlib.suppress(OSError):
            client.sendall(b"GET /")  # and no more
    most = sum("process_request_thread" in thread.name for thread in threading.enumerate())
    assert most <= metrics_server._MOST_CLIENTS
    for client in clients:
        client.settimeout(20)
        with contextlib.suppress(ConnectionError):
            while client.recv(4096):
                pass
        client.close()
    assert answer(telemetry.port) == 200
