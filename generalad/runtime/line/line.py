"""`Line`: a production line as its TOML file describes it, before anything is opened.

Nothing is loaded here, because a run on plain files, which has no such file, asks for a `Line` too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from generalad.runtime.line.open_sinks import SinkEntry
    from generalad.runtime.line.stream import Stream


class Line(NamedTuple):
    """What runs on a line; None is what was not said.

    Attributes:
        artifact: path of the exported file.
        streams: what is read, and how it is judged.
        sinks: where results go, for `generalad.runtime.line.open_sinks`.
        batch: images a run of the network, or "auto".
        max_wait: seconds that a batch may wait to fill.
        threads: CPU threads of the network.
        device: see `open_session`.
        metrics: port, or address and port, to serve metrics and health on.
        state: folder for what must outlive the process.
    """

    artifact: str | None = None
    streams: tuple[Stream, ...] = ()
    sinks: tuple[SinkEntry, ...] = ()
    batch: int | Literal["auto"] | None = None
    max_wait: float | None = None
    threads: int | None = None
    device: str | None = None
    metrics: str | None = None
    state: Path | None = None
