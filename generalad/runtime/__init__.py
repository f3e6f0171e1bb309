"""From pictures to decisions with an exported artifact; never imports torch.

`infer` runs an artifact over files, folders, videos and cameras; a `Stream` says how the pictures
of one are judged. For single pictures in your own program:
`open_session`, `preprocess.resize`, `Session.run`, `decide`.
`golden.selftest` checks that this device computes what an artifact's export recorded; it is not
loaded with the rest, which every start of `gad infer` would pay for.
"""

from generalad.runtime.areas import Areas
from generalad.runtime.decision import Decision, Milliseconds, Region, Result, Rule, decide, regions
from generalad.runtime.events import EventRule
from generalad.runtime.notice import Notice
from generalad.runtime.pipeline import Interrupted, infer
from generalad.runtime.session import Outputs, Session, open_session
from generalad.runtime.sinks import AnnotatedVideo, Csv, JsonLines, Overlays, Sink
from generalad.runtime.sources import Frame, LiveSource, Source, open_sources
from generalad.runtime.stream import Stream
from generalad.runtime.summary import StageTime, Summary

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
