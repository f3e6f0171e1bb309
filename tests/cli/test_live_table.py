"""The live table and the log lines say what the views and notifications say."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console
from sink_helpers import START
from stream_helpers import STATION, STREAM

from generalad.cli.live_table import LogLines, in_a_line, in_words, render, station_in_a_line
from generalad.runtime.notification import Notification, NotificationKind
from generalad.runtime.view import SinkView, StreamView, View


def shown(*streams: StreamView, sinks: tuple[SinkView, ...] = (), width: int = 120) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(render(View(streams, sinks, {}, 1.0, 0.0, "fake"), width))
    return console.export_text()


def changed(**changes: Any) -> StreamView:
    return STREAM._replace(**changes)


def test_a_row_holds_what_people_look_for() -> None:
    row = next(line for line in shown(STREAM).splitlines() if "line-1" in line)
    assert " ".join(row.split()) == "line-1 live 9.5 8 (12) 12 7 0.25 2 ● 512 x 512"


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (changed(state="reconnecting", reason="refused"), ["reconnecting", "refused"]),
        (changed(fault="black"), ["fault", "camera fault: black"]),
        (changed(drift="drifting"), ["live", "drifting"]),
        (changed(in_event=True), ["2 ●"]),
        (changed(score=0.5), ["0.50"]),
        (changed(processed=0, score=None), ["live"]),
    ],
)
def test_what_is_wrong_is_seen(stream: StreamView, words: list[str]) -> None:
    text = shown(stream)
    assert all(word in text for word in words), text


@pytest.mark.parametrize("width", [80, 100, 200])
def test_names_are_cut_not_wrapped(width: int) -> None:
    text = shown(changed(name="rtsp://***@10.0.0.21/" + "x" * 200), width=width)
    rows = [line for line in text.splitlines() if "live" in line]
    assert len(rows) == 1 and "rtsp://***@1" in rows[0]
    assert max(map(len, text.splitlines())) <= width


def test_sinks_are_below_the_table() -> None:
    sink = SinkView("mqtt://broker", False, "refused", kept=7, waiting=3, dropped={"full": 1})
    assert "mqtt://broker: refused, 7 delivered, 3 waiting, 1 dropped (full)" in shown(
        STREAM, sinks=(sink,)
    )


PEAK = {"normalised": 0.83}
EVENT = {"event": "E1", "phase": "begin", "begin": START, "end": None, "peak": PEAK}


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("event", EVENT, "line-1: event E1 begins, score 0.83"),
        (
            "event",
            {**EVENT, "phase": "end", "end": START + 2, "ended_by": "normal"},
            "line-1: event E1 ended after 2.0 s (normal), peak 0.83",
        ),
        ("camera", {"state": "live", "reason": "64 x 48"}, "line-1: live: 64 x 48"),
        ("camera", {"state": "live", "reason": ""}, "line-1: live"),
        (
            "fault",
            {"state": "raised", "fault": "black", "reason": "brightness 0"},
            "line-1: camera fault: black: brightness 0",
        ),
        (
            "fault",
            {"state": "cleared", "fault": "black", "seconds": 4.2},
            "line-1: camera fault is over: black, 4 s",
        ),
        (
            "drift",
            {"state": "drifting", "changes": [], "suggestion": "check the light"},
            "line-1: drifting: check the light",
        ),
        (
            "drift",
            {"state": "stable", "changes": [], "suggestion": ""},
            "line-1: stable: as at calibration again",
        ),
    ],
)
def test_notices_in_words(kind: NotificationKind, data: dict[str, Any], words: str) -> None:
    assert in_words(Notification(kind, "line-1", START, data)) == words


def test_a_stream_in_a_line() -> None:
    text = in_a_line(changed(fault="black", drift="drifting"))
    assert text == (
        "line-1: live, 12 frames, 9.5 fps, 8 ms (p95 12), 7 dropped, 2 events,"
        " camera fault: black, drifting"
    )


def test_log_lines_have_a_time_and_end_with_the_counts(capsys: pytest.CaptureFixture[str]) -> None:
    log = LogLines()
    log.begin(lambda: View((STREAM,), (), {}, 1.0, 0.0, "fake"))
    log.say("line-1: live")
    log.end()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["line-1: live", in_a_line(STREAM)]
    assert all(line[:2] == "20" and "T" in line.split(" ")[0] for line in lines)


def test_a_station_is_above_its_cameras() -> None:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(render(View((STREAM,), (), {}, 1.0, 0.0, "fake", station=STATION), 200))
    state, counts, times, *rest = console.export_text().splitlines()
    assert " ".join(state.split()) == (
        "press-4 not ready recipe washer, loading bracket side: reconnecting: unplugged"
    )
    assert counts.strip() == (
        "100 parts, 80 pass, 8 reject, 4 no verdict: late, 6 no verdict: camera fault, 2 waiting,"
        " 3 pictures without trigger, 1 triggers refused"
    )
    assert times.strip() == "trigger to verdict: 21.2 ms, p99 48.5, p99.9 97.0"
    assert any("line-1" in line for line in rest)
    words = station_in_a_line(STATION)
    assert "not ready: side" in words and "4 no verdict: late" in words and "p99.9 97.0" in words


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        (
            "verdict",
            {
                "verdict": 7,
                "part": "A-7",
                "outcome": "no verdict",
                "reason": "late",
                "detail": "1 of 2 pictures judged within 500 ms",
                "milliseconds": 500.4,
            },
            "7 (A-7): no verdict: late: 1 of 2 pictures judged within 500 ms, 500 ms",
        ),
        (
            "verdict",
            {
                "verdict": 8,
                "part": None,
                "outcome": "reject",
                "reason": None,
                "detail": "",
                "milliseconds": 21.0,
            },
            "8: reject, 21 ms",
        ),
        (
            "station",
            {"state": "started", "anew": True, "unanswered": 2},
            "started anew after a kill, 2 parts had no verdict",
        ),
    ],
)
def test_what_a_station_tells(kind: NotificationKind, data: dict[str, Any], words: str) -> None:
    assert in_words(Notification(kind, "press-4", START, data)) == f"press-4: {words}"
