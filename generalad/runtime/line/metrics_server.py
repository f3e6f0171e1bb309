"""`Telemetry`: Prometheus metrics and health of a run over HTTP.

/metrics   for Prometheus
/health    200 while the pipeline works, 503 when it hangs; a camera that is down is no reason
           to start the process anew
/ready     200 when every stream is live and without a fault, else 503; both say why in JSON
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from generalad.errors import require_extra
from generalad.runtime.bounded_server import BoundedServer, QuietHandler, hang_up
from generalad.runtime.view import LIVE, Look, StationView, StreamView, View
from generalad.version import __version__

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_HANGS_AFTER = 60.0
"""Seconds at one batch or image after which the pipeline is said to hang."""

_SECONDS_OF_A_CLIENT = 10.0

_MOST_CLIENTS = 16
"""At a time; Prometheus and a health check are two."""


class Telemetry:
    """An observer that serves a run at an address."""

    def __init__(self, address: str) -> None:
        """Bind a port, so that one that is taken is known before the run.

        Args:
            address: "9108", which is reached from this machine only, or "0.0.0.0:9108".

        Raises:
            UsageError: not an address, or the port is taken.
            MissingExtraError: prometheus-client is not installed.
        """
        require_extra("--metrics", "streams", "prometheus_client")
        self._server = _Server(address, _Handler, key="metrics", what="metrics")
        self.port = int(self._server.server_address[1])

    def begin(self, look: Look) -> None:
        """Serve in a thread of its own."""
        self._server.look = look
        thread = threading.Thread(
            target=self._server.serve_forever, name="gad-metrics", daemon=True
        )
        thread.start()

    def end(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Server(BoundedServer):
    most_clients = _MOST_CLIENTS
    look: Look

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer; one that takes too long, byte by byte, is hung up on."""
        late = threading.Timer(_SECONDS_OF_A_CLIENT, hang_up, [request])
        late.daemon = True
        late.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            late.cancel()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news; another error is one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            sys.stderr.write(f"gad: metrics could not be served: {error!r}\n")


class _Handler(QuietHandler):
    timeout = _SECONDS_OF_A_CLIENT
    server: _Server

    def do_GET(self) -> None:
        view = self.server.look()
        if self.path == "/metrics":
            from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

            self.answer(200, CONTENT_TYPE_PLAIN_0_0_4, exposition(families(view)))
        elif self.path in ("/health", "/ready"):
            problems = hanging(view) if self.path == "/health" else not_ready(view)
            body = {"status": "no" if problems else "ok", "problems": problems}
            text = json.dumps(body, ensure_ascii=False).encode()
            self.answer(503 if problems else 200, "application/json", text)
        else:
            self.answer(404, "text/plain", b"/metrics, /health or /ready\n")


def hanging(view: View) -> list[str]:
    """Why the process should be started anew."""
    problems = []
    if view.busy >= _HANGS_AFTER:
        problems.append(f"the network has been at one batch for {view.busy:.0f} s")
    return problems + [
        f"{stage} has been at one image for {seconds:.0f} s"
        for stage, seconds in view.stages.items()
        if seconds >= _HANGS_AFTER
    ]


def not_ready(view: View) -> list[str]:
    """What is not as it should be."""
    problems = hanging(view)
    for stream in view.streams:
        if stream.live and stream.state != LIVE:
            problems.append(f"{stream.name}: {stream.state}: {stream.reason}")
        elif stream.fault is not None:
            problems.append(f"{stream.name}: camera fault: {stream.fault}")
    if view.station is not None and not view.station.ready:
        problems.append(f"{view.station.name}: {view.station.error}")
    problems += [f"{sink.name}: {sink.problem}" for sink in view.sinks if sink.problem]
    return problems


def exposition(metrics: Iterable[Metric]) -> bytes:
    """Metrics in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Collected(Collector):
        def collect(self) -> Iterable[Metric]:
            return metrics

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collected())
    return bytes(generate_latest(registry))


def families(view: View) -> Iterator[Metric]:
    """The metrics of a view."""
    yield from _of_run(view)
    yield from _of_streams(view.streams)
    yield from _of_sinks(view)
    if view.station is not None:
        yield from _of_station(view.station)


def _of_run(view: View) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    info = GaugeMetricFamily("gad_info", "Version and backend", labels=["version", "backend"])
    info.add_metric([__version__, view.backend], 1)
    yield info
    yield GaugeMetricFamily("gad_uptime_seconds", "Since the run began", value=view.seconds)
    yield GaugeMetricFamily(
        "gad_busy_seconds", "That the network has been at its present batch", value=view.busy
    )


def _of_streams(streams: tuple[StreamView, ...]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    def counter(name: str, text: str, field: str) -> Metric:
        family = CounterMetricFamily(f"gad_{name}", text, labels=["stream"])
        for stream in streams:
            family.add_metric([stream.name], getattr(stream, field))
        return family

    def gauge(name: str, text: str, values: list[float | None]) -> Metric:
        family = GaugeMetricFamily(f"gad_{name}", text, labels=["stream"])
        for stream, value in zip(streams, values, strict=True):
            if value is not None:
                family.add_metric([stream.name], value)
        return family

    yield counter("frames_captured", "Frames that sources gave", "captured")
    yield counter("frames_processed", "Frames that were scored", "processed")
    yield counter("frames_anomalous", "Frames at or above the threshold", "anomalous")
    yield counter("events", "Events that began", "events")
    yield counter("reconnects", "Times that frames came again", "reconnects")
    dropped = CounterMetricFamily(
        "gad_frames_dropped", "Frames that were not scored", labels=["stream", "reason"]
    )
    for stream in streams:
        for reason, count in stream.dropped.items():
            dropped.add_metric([stream.name, reason], count)
    yield dropped
    yield gauge("frames_in_flight", "Frames on their way", [s.in_flight for s in streams])
    yield gauge("stream_live", "1 while frames come", [s.state == "live" for s in streams])
    yield gauge("camera_fault", "1 while one is raised", [s.fault is not None for s in streams])
    yield gauge("event_active", "1 while an event goes on", [s.in_event for s in streams])
    yield gauge("drifting", "1 while a drift is seen", [s.drift == "drifting" for s in streams])
    yield gauge("frames_per_second", "Processed", [s.fps for s in streams])
    yield gauge("score", "Normalised, of the last frame", [s.score for s in streams])
    latency = GaugeMetricFamily(
        "gad_latency_seconds", "From capture to decision", labels=["stream", "quantile"]
    )
    for stream in streams:
        latency.add_metric([stream.name, "0.5"], stream.median / 1000)
        latency.add_metric([stream.name, "0.95"], stream.p95 / 1000)
    yield latency


def _of_sinks(view: View) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    kept = GaugeMetricFamily("gad_sink_kept", "Delivered or in the folder", labels=["sink"])
    waiting = GaugeMetricFamily("gad_sink_waiting", "To be delivered", labels=["sink"])
    well = GaugeMetricFamily("gad_sink_ok", "1 without a problem", labels=["sink"])
    dropped = CounterMetricFamily("gad_sink_dropped", "Given up", labels=["sink", "reason"])
    for sink in view.sinks:
        kept.add_metric([sink.name], sink.kept)
        waiting.add_metric([sink.name], sink.waiting)
        well.add_metric([sink.name], not sink.problem)
        for reason, count in sink.dropped.items():
            dropped.add_metric([sink.name, reason], count)
    missed = CounterMetricFamily("gad_not_written", "Not taken by a sink", labels=["kind"])
    for kind, count in view.not_written.items():
        missed.add_metric([kind], count)
    yield from (kept, waiting, well, dropped, missed)


def _of_station(station: StationView) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    def counter(name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"gad_{name}", text, labels=["station"])
        family.add_metric([station.name], value)
        return family

    def gauge(name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"gad_{name}", text, labels=["station"])
        family.add_metric([station.name], value)
        return family

    yield counter("parts", "Triggers that got an id", station.parts)
    yield counter("triggers_refused", "Triggers without an id", station.refused)
    yield counter(
        "pictures_without_trigger", "Pictures that belong to no part", station.without_trigger
    )
    verdicts = CounterMetricFamily(
        "gad_verdicts", "Answers to triggers", labels=["station", "outcome", "reason"]
    )
    for kind, count in station.verdicts.items():
        outcome, _, reason = kind.partition(": ")
        verdicts.add_metric([station.name, outcome, reason], count)
    yield verdicts
    yield gauge("station_ready", "1 while parts are inspected", station.ready)
    yield gauge("parts_waiting", "Triggers without a verdict", station.waiting)
    times = GaugeMetricFamily(
        "gad_verdict_seconds",
        "From trigger to verdict, over the last 10,000 parts",
        labels=["station", "quantile"],
    )
    for name, value in (("0.5", station.median), ("0.99", station.p99), ("0.999", station.p999)):
        times.add_metric([station.name, name], value / 1000)
    yield times
