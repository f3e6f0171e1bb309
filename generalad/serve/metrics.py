"""Prometheus metrics of a service: requests, models, and the streams of its line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from generalad.serve.models import Models

if TYPE_CHECKING:
    from prometheus_client.core import Metric


def families(
    models: Models, requests: Counter[tuple[str, int]], in_flight: int
) -> Iterator[Metric]:
    """The metrics of a moment.

    Args:
        models: that are served.
        requests: answers so far, by route and status.
        in_flight: images.
    """
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    answered = CounterMetricFamily("gad_requests", "Answers", labels=["route", "status"])
    for (route, status), count in sorted(requests.items()):
        answered.add_metric([route, str(status)], count)
    yield answered
    yield GaugeMetricFamily("gad_images_in_flight", "Decoded, waiting or scored", value=in_flight)

    def counter(name: str, text: str) -> Metric:
        family = CounterMetricFamily(f"gad_model_{name}", text, labels=["model"])
        for model, counts in counted:
            family.add_metric([model.name], counts[name])
        return family

    counted = [(model, model.counts()) for model in models]
    yield counter("images", "Images answered")
    yield counter("anomalous", "At or above the threshold")
    yield counter("failed", "Not read or not scored")
    latency = GaugeMetricFamily(
        "gad_model_latency_seconds", "From request to decision", labels=["model", "quantile"]
    )
    version = GaugeMetricFamily(
        "gad_model_info", "What serves", labels=["model", "version", "sha256", "backend"]
    )
    swaps = CounterMetricFamily("gad_model_swaps", "Versions exchanged", labels=["model"])
    refused = CounterMetricFamily("gad_model_swaps_refused", "Not fit", labels=["model"])
    for model, counts in counted:
        for quantile, milliseconds in (("0.5", counts["median_ms"]), ("0.99", counts["p99_ms"])):
            if milliseconds is not None:
                latency.add_metric([model.name, quantile], milliseconds / 1000)
        now = model.current
        version.add_metric([model.name, now.name, now.sha256, now.predictor.backend], 1)
        swaps.add_metric([model.name], model.swaps)
        refused.add_metric([model.name], model.refused)
    yield from (latency, version, swaps, refused)
