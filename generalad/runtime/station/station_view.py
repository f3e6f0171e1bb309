"""What displays and metrics are shown of a station and its PLCs."""

from __future__ import annotations

from collections.abc import Sequence

from generalad.runtime.station.coordinator import Coordinator
from generalad.runtime.station.journal import Journal
from generalad.runtime.station.plc.interface import Plc
from generalad.runtime.station.recipes import Chooser, Recipe
from generalad.runtime.station.verdict import StationState
from generalad.runtime.view import SinkView, StationView
from generalad.statistics import quantile


def state_of(
    error: str, coordinator: Coordinator, chooser: Chooser, journal: Journal
) -> StationState:
    """What PLCs are told at one moment; ready where there is no error."""
    counts, recipe = coordinator.counts(), coordinator.recipe
    return StationState(
        ready=not error and recipe is not None,
        busy=counts.waiting > 0,
        error=error,
        recipe="" if recipe is None else recipe.name,
        model=recipe.model if isinstance(recipe, Recipe) else "",
        asked=chooser.asked,
        refused=chooser.refused,
        started=journal.started,
        started_anew=journal.started_anew,
        counts=counts,
    )


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
