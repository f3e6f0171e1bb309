"""Where results go: JSON lines, CSV, a folder of overlays, an annotated video.

What grows in a finite run does so in a file named like the final one with ".part" before its
suffix, and takes its own name when the run ends or is interrupted with Ctrl-C. A killed or failed
run leaves the part. Live sources have no such end: their files have their names from the start, go
on after a restart, and are bounded.
"""

from generalad.runtime.sinks.lines import Csv, JsonLines
from generalad.runtime.sinks.overlays import Overlays, draw, encode
from generalad.runtime.sinks.places import refuse_sources
from generalad.runtime.sinks.sink import Map, Sink
from generalad.runtime.sinks.video import AnnotatedVideo

__all__ = [
    "AnnotatedVideo",
    "Csv",
    "JsonLines",
    "Map",
    "Overlays",
    "Sink",
    "draw",
    "encode",
    "refuse_sources",
]
