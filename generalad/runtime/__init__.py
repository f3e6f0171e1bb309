"""From pictures to decisions with an exported artifact; never imports torch.

`infer` runs an artifact over files, folders, videos and cameras; a `Stream` says how the pictures
of one are judged. For single pictures in your own program:
`open_session`, `preprocess.resize`, `Session.run`, `decide`.
`golden.selftest` checks that this device computes what an artifact's export recorded.

`backends` run artifacts behind `session`; `live` reads cameras; `streams` judges what each stream
shows; `flow` has the threads that `pipeline` ties together; `sinks` write, and `delivery` sends.

A name is loaded when it is first used, so that a start pays for no part that its run does without.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generalad.runtime.addresses import open_sources
    from generalad.runtime.decision import (
        Decision,
        Milliseconds,
        Region,
        Result,
        Rule,
        decide,
        regions,
    )
    from generalad.runtime.opening import open_session
    from generalad.runtime.pipeline import Interrupted, infer
    from generalad.runtime.session import Outputs, Session
    from generalad.runtime.sinks.lines import Csv, JsonLines
    from generalad.runtime.sinks.overlays import Overlays
    from generalad.runtime.sinks.sink import Sink
    from generalad.runtime.sinks.video import AnnotatedVideo
    from generalad.runtime.sources import Frame, LiveSource, Source
    from generalad.runtime.streams.areas import Areas
    from generalad.runtime.streams.events import EventRule
    from generalad.runtime.streams.notice import Notice
    from generalad.runtime.streams.stream import Stream
    from generalad.runtime.summary import StageTime, Summary

_HOMES = {
    "AnnotatedVideo": "sinks.video",
    "Areas": "streams.areas",
    "Csv": "sinks.lines",
    "Decision": "decision",
    "EventRule": "streams.events",
    "Frame": "sources",
    "Interrupted": "pipeline",
    "JsonLines": "sinks.lines",
    "LiveSource": "sources",
    "Milliseconds": "decision",
    "Notice": "streams.notice",
    "Outputs": "session",
    "Overlays": "sinks.overlays",
    "Region": "decision",
    "Result": "decision",
    "Rule": "decision",
    "Session": "session",
    "Sink": "sinks.sink",
    "Source": "sources",
    "StageTime": "summary",
    "Stream": "streams.stream",
    "Summary": "summary",
    "decide": "decision",
    "infer": "pipeline",
    "open_session": "opening",
    "open_sources": "addresses",
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
    "Notice",
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
    "decide",
    "infer",
    "open_session",
    "open_sources",
    "regions",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'generalad.runtime' has no attribute {name!r}")
    return getattr(importlib.import_module(f"generalad.runtime.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
