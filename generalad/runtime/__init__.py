"""From images to decisions with an exported artifact; never imports torch.

`infer` runs an artifact over files, folders, videos and cameras. For single images in your own
program there is `generalad.load`.

`backends` open artifacts and run them; `sources` give frames; `pipeline` takes them through the
network in threads and hands results to `sinks`. That is all that files need. For production lines
`cameras` are sources that come and go, `line` finds events, camera faults and drift in what they
show, and `delivery` sends it. `inference`, `recalibrate` and `selftest` are the verbs on top.

A name is loaded when it is first used, so that a start pays for no part that its run does without.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generalad.areas import Areas
    from generalad.decision import (
        Decision,
        Milliseconds,
        Region,
        Result,
        Rule,
        decide,
        regions,
    )
    from generalad.runtime.addresses import open_sources
    from generalad.runtime.backends.open import open_session
    from generalad.runtime.backends.session import Outputs, Session
    from generalad.runtime.batch_choice import choose_batch
    from generalad.runtime.inference import infer
    from generalad.runtime.line.events import EventRule
    from generalad.runtime.line.stream import Stream
    from generalad.runtime.notification import Notification
    from generalad.runtime.pipeline.pipeline import Interrupted
    from generalad.runtime.pipeline.summary import StageTime, Summary
    from generalad.runtime.sinks.json_csv import Csv, JsonLines
    from generalad.runtime.sinks.overlays import Overlays
    from generalad.runtime.sinks.sink import Sink
    from generalad.runtime.sinks.video import AnnotatedVideo
    from generalad.runtime.sources import Frame, LiveSource, Source

_HOMES = {
    "AnnotatedVideo": "runtime.sinks.video",
    "Areas": "areas",
    "Csv": "runtime.sinks.json_csv",
    "Decision": "decision",
    "EventRule": "runtime.line.events",
    "Frame": "runtime.sources",
    "Interrupted": "runtime.pipeline.pipeline",
    "JsonLines": "runtime.sinks.json_csv",
    "LiveSource": "runtime.sources",
    "Milliseconds": "decision",
    "Notification": "runtime.notification",
    "Outputs": "runtime.backends.session",
    "Overlays": "runtime.sinks.overlays",
    "Region": "decision",
    "Result": "decision",
    "Rule": "decision",
    "Session": "runtime.backends.session",
    "Sink": "runtime.sinks.sink",
    "Source": "runtime.sources",
    "StageTime": "runtime.pipeline.summary",
    "Stream": "runtime.line.stream",
    "Summary": "runtime.pipeline.summary",
    "choose_batch": "runtime.batch_choice",
    "decide": "decision",
    "infer": "runtime.inference",
    "open_session": "runtime.backends.open",
    "open_sources": "runtime.addresses",
    "regions": "decision",
}

__all__ = [
    "AnnotatedVideo",
    "Areas",
    "Csv",
    "Decision",
    "EventRule",
    "Frame",
    "Interrupted",
    "JsonLines",
    "LiveSource",
    "Milliseconds",
    "Notification",
    "Outputs",
    "Overlays",
    "Region",
    "Result",
    "Rule",
    "Session",
    "Sink",
    "Source",
    "StageTime",
    "Stream",
    "Summary",
    "choose_batch",
    "decide",
    "infer",
    "open_session",
    "open_sources",
    "regions",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'generalad.runtime' has no attribute {name!r}")
    return getattr(importlib.import_module(f"generalad.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
