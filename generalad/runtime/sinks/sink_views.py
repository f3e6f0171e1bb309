"""What sinks tell of themselves, in one form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from generalad.runtime.sinks.bounded_folder import FolderStatus
from generalad.runtime.sinks.sink import Sink
from generalad.runtime.view import SinkView


def sink_views(sink: Sink) -> Iterator[SinkView]:
    """One view for each place of a sink; none where it has no `status`."""
    status = getattr(sink, "status", None)
    if isinstance(status, Mapping):
        for folder in status.values():
            yield _folder(folder)
    elif isinstance(status, FolderStatus):
        yield _folder(status)
    elif status is not None and hasattr(status, "connected"):
        yield _delivery(status)
    elif lost := getattr(sink, "lost", 0):
        yield SinkView(type(sink).__name__, None, "lines were lost", 0, 0, {"not written": lost})


def _folder(status: FolderStatus) -> SinkView:
    dropped = {"quota": status.removed, "not written": status.not_kept}
    counted = {reason: count for reason, count in dropped.items() if count}
    return SinkView(str(status.path), None, status.problem or "", status.kept, 0, counted)


def _delivery(status: Any) -> SinkView:
    """Of a `DeliveryStatus`, whose module loads SQLite."""
    problem = "" if status.connected else status.reason
    return SinkView(
        name=status.name,
        connected=status.connected,
        problem=status.problem or problem,
        kept=status.delivered,
        waiting=status.waiting,
        dropped=dict(status.dropped),
    )
