"""What displays and metrics are shown of a station and its PLCs."""

from __future__ import annotations

from collections.abc import Sequence

from generalad.runtime.station.plc.interface import Plc
from generalad.runtime.station.verdict import StationState
from generalad.runtime.view import SinkView, StationView
from generalad.statistics import quantile


def station_view(
    name: str, state: StationState, times: Sequence[float], problem: str
) -> StationView:
    """A station at one moment; `times` are milliseconds from trigger to verdict."""
    counts, ascending = state.counts, sorted(times)
    quantiles = [quantile(ascending, q) if ascending else 0.0 for q in (0.5, 0.99, 0.999)]
    return StationView(
        name=name,
        ready=state.ready,
        error=state.error or problem,
        recipe=state.recipe,
        asked=state.asked,
        parts=counts.parts,
        waiting=counts.waiting,
        verdicts={
            "pass": counts.passed,
            "reject": counts.rejected,
            **{f"no verdict: {reason}": count for reason, count in counts.no_verdict.items()},
        },
        without_trigger=counts.without_trigger,
        refused=counts.refused,
        started_anew=state.started_anew,
        median=quantiles[0],
        p99=quantiles[1],
        p999=quantiles[2],
    )


def plc_view(plc: Plc) -> SinkView:
    """A PLC takes verdicts as a sink takes messages."""
    status = plc.status
    return SinkView(
        name=status.name,
        connected=status.connected,
        problem="" if status.connected else status.reason,
        kept=status.delivered,
        waiting=status.waiting,
        dropped={"no room": status.lost} if status.lost else {},
    )
