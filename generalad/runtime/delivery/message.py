"""`Message`: what is delivered, and which of two is given up first when there is no room."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from generalad.runtime.notification import NotificationKind

MessageKind = Literal[NotificationKind, "result"]

IMPORTANCE: dict[MessageKind, int] = {
    "result": 0,
    "camera": 1,
    "fault": 1,
    "drift": 1,
    "event": 2,
    "verdict": 2,
    "station": 2,
}
"""Of the kinds; the least important is dropped first."""


_UNSAFE = re.compile(r"[/+#\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def safe_level(name: str) -> str:
    """A name as one level of a topic: what has a meaning in topics becomes `_`."""
    return _UNSAFE.sub("_", name) or "_"


@dataclass(frozen=True)
class Message:
    """One message on its way.

    Attributes:
        id: the same one twice is one delivery repeated.
        kind: decides what is dropped first.
        topic: where it belongs below the receiver's own address, as `STREAM/event`.
        payload: JSON in UTF-8.
    """

    id: str
    kind: MessageKind
    topic: str
    payload: bytes
