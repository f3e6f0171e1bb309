"""The live table of `gad infer`, and the log lines where there is no terminal."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

from generalad.cli.console import console
from generalad.printable import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from generalad.runtime.notification import Notification
    from generalad.runtime.view import Look, SinkView, StationView, StreamView, View

REFRESH = 4
"""Times a second."""

LOG_EVERY = 60.0
"""Seconds between two lines a stream where there is no terminal."""

_WIDE = 100
"""Columns from which there is room for remarks; the log lines above say them too."""

_COLOURS = {
    "live": "green",
    "connecting": "yellow",
    "stalled": "red",
    "reconnecting": "yellow",
    "failed": "bold red",
    "ended": "dim",
    "waiting": "dim",
    "reading": "green",
}


class LiveTable:
    """An observer: a table of all streams on a terminal, with what happens above it."""

    def begin(self, look: Look) -> None:
        """Show the table."""
        from rich.live import Live

        out = console()
        self._live = Live(
            console=out,
            get_renderable=lambda: render(look(), out.width),
            refresh_per_second=REFRESH,
            transient=False,
        )
        self._live.start()

    def end(self) -> None:
        """Leave the table as it was last."""
        self._live.stop()

    def say(self, text: str) -> None:
        """Print a line above the table."""
        from rich.text import Text

        moment = time.strftime("%H:%M:%S")
        self._live.console.print(Text.assemble((moment, "dim"), " ", text))


class LogLines:
    """An observer: one line when something happens, and one a stream every minute."""

    def __init__(self) -> None:
        self._over = threading.Event()

    def begin(self, look: Look) -> None:
        """Start the thread of the regular lines."""
        self._look = look
        self._thread = threading.Thread(target=self._regularly, name="gad-log", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """The last lines."""
        self._over.set()
        self._thread.join(timeout=5)
        self._log()

    def say(self, text: str) -> None:
        """Print a line with the time."""
        sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {one_line(text)}\n")
        sys.stderr.flush()

    def _regularly(self) -> None:
        while not self._over.wait(LOG_EVERY):
            self._log()

    def _log(self) -> None:
        view = self._look()
        if view.station is not None:
            self.say(station_in_a_line(view.station))
        for stream in view.streams:
            self.say(in_a_line(stream))
        for sink in view.sinks:
            if sink.problem or sink.waiting:
                self.say(f"{sink.name}: {_sink_state(sink)}")


def in_a_line(stream: StreamView) -> str:
    """A stream in words."""
    parts = [
        stream.state,
        f"{stream.processed} frames",
        f"{stream.fps:.1f} fps",
        f"{stream.median:.0f} ms (p95 {stream.p95:.0f})",
        f"{sum(stream.dropped.values())} dropped",
        f"{stream.events} events",
    ]
    if stream.fault:
        parts.append(f"camera fault: {stream.fault}")
    if stream.drift == "drifting":
        parts.append("drifting")
    return f"{stream.name}: {', '.join(parts)}"


def station_in_a_line(station: StationView) -> str:
    """A station in words."""
    parts = ["ready" if station.ready else f"not ready: {station.error}", f"{station.parts} parts"]
    parts += [f"{count} {kind}" for kind, count in station.verdicts.items()]
    if any(station.verdicts.values()):
        parts += [f"{station.median:.1f} ms (p99 {station.p99:.1f}, p99.9 {station.p999:.1f})"]
    return f"{station.name}: {', '.join(parts)}"


def in_words(notification: Notification) -> str:
    """A notification as one line."""
    data, stream = notification.data, notification.stream
    if notification.kind == "event":
        peak = data["peak"]
        if data["phase"] == "begin":
            return f"{stream}: event {data['event']} begins, score {peak['normalised']:.2f}"
        seconds = data["end"] - data["begin"]
        return (
            f"{stream}: event {data['event']} ended after {seconds:.1f} s ({data['ended_by']}),"
            f" peak {peak['normalised']:.2f}"
        )
    if notification.kind == "fault":
        if data["state"] == "raised":
            return f"{stream}: camera fault: {data['fault']}: {data['reason']}"
        if data["state"] == "cleared":
            return f"{stream}: camera fault is over: {data['fault']}, {data['seconds']:.0f} s"
        what = "an image was not scored" if data["state"] == "refused" else "a strange image"
        return f"{stream}: {what}: {data['fault']}: {data['reason']}"
    if notification.kind == "verdict":
        part = f" ({data['part']})" if data["part"] else ""
        why = f": {data['reason']}: {data['detail']}" if data["reason"] else ""
        took = f"{data['milliseconds']:.0f} ms"
        return f"{stream}: {data['verdict']}{part}: {data['outcome']}{why}, {took}"
    if notification.kind == "station":
        anew = "started anew after a kill" if data["anew"] else "started"
        left = f", {data['unanswered']} parts had no verdict" if data["unanswered"] else ""
        return f"{stream}: {anew}{left}"
    if notification.kind == "drift":
        suggestion = data.get("suggestion") or "as at calibration again"
        return f"{stream}: {data['state']}: {suggestion}"
    return (
        f"{stream}: {data['state']}: {data['reason']}"
        if data["reason"]
        else (f"{stream}: {data['state']}")
    )


def render(view: View, width: int) -> RenderableType:
    """The table of a view, for a terminal of so many columns."""
    from rich.console import Group
    from rich.text import Text

    above = _station(view.station) if view.station is not None else []
    lines = [Text(f"{sink.name}: {_sink_state(sink)}", _sink_style(sink)) for sink in view.sinks]
    for kind, count in view.not_written.items():
        lines.append(Text(f"{kind}: {count} not written", "red"))
    return Group(*above, _table(view, remarks=width >= _WIDE), *lines)


def _station(station: StationView) -> list[Text]:
    """What a station has come to, in two lines."""
    from rich.text import Text

    state = ("ready", "green") if station.ready else ("not ready", "bold red")
    recipe = station.recipe + (f", loading {station.asked}" if station.asked else "")
    head = Text.assemble((station.name, "bold"), "  ", state, f"  recipe {recipe}")
    if station.error:
        head.append(f"  {station.error}", "red")
    counts = Text(f"{station.parts} parts")
    for kind, count in station.verdicts.items():
        style = {"pass": "green", "reject": "red"}.get(kind, "yellow" if count else "dim")
        counts.append(f", {count} {kind}", style)
    for count, what in (
        (station.waiting, "waiting"),
        (station.without_trigger, "pictures without trigger"),
        (station.refused, "triggers refused"),
    ):
        counts.append(f", {count} {what}" if count else "", "yellow")
    times = f"trigger to verdict: {station.median:.1f} ms, p99 {station.p99:.1f}"
    return [head, counts, Text(f"{times}, p99.9 {station.p999:.1f}")]


def _table(view: View, *, remarks: bool) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
    table.add_column("stream", ratio=3, no_wrap=True, overflow="ellipsis")
    table.add_column("state", min_width=12, no_wrap=True)
    table.add_column("fps", min_width=5, justify="right", no_wrap=True)
    table.add_column("ms (p95)", min_width=9, justify="right", no_wrap=True)
    table.add_column("frames", min_width=7, justify="right", no_wrap=True)
    table.add_column("dropped", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("events", justify="right", no_wrap=True)
    if remarks:
        table.add_column("", ratio=3, no_wrap=True, overflow="ellipsis")
    for stream in view.streams:
        row = _row(stream)
        table.add_row(*(row if remarks else row[:-1]))
    return table


def _row(stream: StreamView) -> list[RenderableType]:
    from rich.text import Text

    state, style = stream.state, _COLOURS.get(stream.state, "")
    remark = stream.reason
    if stream.fault is not None and stream.state == "live":
        state, style, remark = "fault", "bold red", f"camera fault: {stream.fault}"
    elif stream.drift == "drifting":
        remark = "drifting, see the log"
    times = f"{stream.median:.0f} ({stream.p95:.0f})" if stream.processed else ""
    score = "" if stream.score is None else f"{stream.score:.2f}"
    alarm = stream.score is not None and stream.score >= 0.5
    dropped = sum(stream.dropped.values())
    return [
        stream.name,
        Text(state, style),
        f"{stream.fps:.1f}",
        times,
        str(stream.processed),
        Text(str(dropped), "" if not dropped else "yellow"),
        Text(score, "bold red" if alarm else ""),
        Text(f"{stream.events}{' ●' if stream.in_event else ''}", "red" if stream.in_event else ""),
        Text(remark, "dim"),
    ]


def _sink_state(sink: SinkView) -> str:
    parts = []
    if sink.problem:
        parts.append(sink.problem)
    elif sink.connected:
        parts.append("connected")
    parts.append(f"{sink.kept} delivered" if sink.connected is not None else f"{sink.kept} kept")
    if sink.waiting:
        parts.append(f"{sink.waiting} waiting")
    parts += [f"{count} dropped ({reason})" for reason, count in sink.dropped.items()]
    return ", ".join(parts)


def _sink_style(sink: SinkView) -> str:
    return "yellow" if sink.problem else "dim"
