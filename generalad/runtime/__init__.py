"""From pictures to decisions with an exported artifact; never imports torch.

`infer` runs an artifact over files, folders and videos. For single pictures in your own program:
`open_session`, `preprocess.resize`, `Session.run`, `decide`.
`golden.selftest` checks that this device computes what an artifact's export recorded; it is not
loaded with the rest, which every start of `gad infer` would pay for.
"""

from generalad.runtime.decision import Decision, Milliseconds, Region, Result, decide, regions
from generalad.runtime.pipeline import Interrupted, infer
from generalad.runtime.session import Outputs, Session, open_session
from generalad.runtime.sinks import AnnotatedVideo, Csv, JsonLines, Overlays, Sink
from generalad.runtime.sources import Frame, Source, open_sources
from generalad.runtime.summary import StageTime, Summary

__all__ = [
    "AnnotatedVideo",
    "Csv",
    "Decision",
    "Frame",
    "Interrupted",
    "JsonLines",
    "Milliseconds",
    "Outputs",
    "Overlays",
    "Region",
    "Result",
    "Session",
    "Sink",
    "Source",
    "StageTime",
    "Summary",
    "decide",
    "infer",
    "open_session",
    "open_sources",
    "regions",
]
