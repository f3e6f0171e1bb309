"""What sinks are told of a station: its start, and each verdict."""

from __future__ import annotations

import time
from typing import Any

from generalad.runtime.notification import Notification
from generalad.runtime.station.journal import Journal
from generalad.runtime.station.parts import Part, Picture
from generalad.runtime.station.verdict import Verdict


def of_start(name: str, journal: Journal) -> Notification:
    """A process begins; `anew` where the one before did not come to its end."""
    data = {
        "state": "started",
        "anew": journal.started_anew,
        "started": journal.started,
        "unanswered": len(journal.unanswered),
        "told_again": len(journal.answered),
    }
    return Notification("station", name, time.time(), data, id=f"{name}-start-{journal.started}")


def of_verdict(name: str, verdict: Verdict, part: Part | None) -> Notification:
    """A verdict, with the picture that has the largest score where the part is rejected.

    The id is that of the part, so that one that is told again is known as such.
    """
    pictures = [] if part is None else part.pictures
    worst = max(pictures, key=lambda p: -1.0 if p.score is None else p.score, default=None)
    rejected = verdict.outcome == "reject" and worst is not None
    return Notification(
        "verdict",
        name,
        time.time() - (time.monotonic() - verdict.decided),
        {**verdict.to_dict(), "pictures": [_of_picture(verdict, p) for p in pictures]},
        evidence=worst.evidence if rejected and worst is not None else None,
        id=f"{name}-{verdict.id}",
    )


def _of_picture(verdict: Verdict, picture: Picture) -> dict[str, Any]:
    """One picture; milliseconds count from the trigger, those of the network from its turn."""
    found: dict[str, Any] = {
        "stream": picture.camera,
        "outcome": picture.outcome,
        "score": picture.score,
        "detail": picture.detail,
    }
    result, item = picture.result, picture.item
    if result is not None and item is not None:
        arrived = (item.frame.captured_at or verdict.triggered) - verdict.triggered
        found["index"] = result.index
        found["arrived_ms"] = round(arrived * 1000, 3)
        found["network_ms"] = round(item.preprocess + item.infer, 3)
        found["judged_ms"] = round(arrived * 1000 + result.milliseconds.total, 3)
    return found
