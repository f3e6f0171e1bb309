"""`infer`: an artifact over files, folders, videos and cameras."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from generalad.decision import Rule
from generalad.errors import UsageError
from generalad.progress import Log
from generalad.runtime.addresses import Given, resolve
from generalad.runtime.backends.open import open_for_pipeline
from generalad.runtime.backends.session import Session
from generalad.runtime.pipeline.pipeline import MAX_WAIT, Pipeline
from generalad.runtime.pipeline.summary import Summary
from generalad.runtime.pipeline.tracker import SourceTracker
from generalad.runtime.pipeline.writer import OnNotification, OnResult
from generalad.runtime.sinks.sink import Sink
from generalad.runtime.sources import LiveSource, Source
from generalad.runtime.view import Observer
from generalad.spec import Spec

if TYPE_CHECKING:
    from generalad.runtime.line.stream import Stream


def infer(
    artifact: str | Path | Session,
    sources: Given | Sequence[Given],
    *,
    sinks: Sequence[Sink] = (),
    batch_size: int = 1,
    max_wait: float = MAX_WAIT,
    threshold: float | None = None,
    threads: int | None = None,
    device: str | None = None,
    stop: threading.Event | None = None,
    observers: Sequence[Observer] = (),
    on_result: OnResult | None = None,
    on_notification: OnNotification | None = None,
    on_problem: Log | None = None,
) -> Summary:
    """Run an artifact over sources and hand every result to the sinks.

    Args:
        artifact: a path, or an open session, which stays open.
        sources: addresses, paths, images, sources or streams, see `addresses.resolve`. Cameras are
            read side by side, all else one after another.
        sinks: opened and closed here.
        batch_size: images a run of the network.
        max_wait: seconds that a batch may wait to fill once it has an image, if a camera is among
            the sources; files wait until it is full.
        threshold: raw, on the score; None takes the artifact's own. Streams have their own rule.
        threads: CPU threads of a session that is opened here.
        device: of a session that is opened here, see `open_session`.
        stop: when set, reading stops, what is in flight is finished, and the summary is returned.
        observers: shown the run while it goes on.
        on_result: called for every result, in the writer's thread.
        on_notification: called for every notification, in the writer's thread.
        on_problem: told when a sink fails and when it recovers, in a run with cameras.

    Raises:
        GadError: a missing source, an unusable artifact, an output that cannot be written.
        Interrupted: after Ctrl-C or SIGTERM; a second one does not wait for what is in flight.
    """
    if batch_size < 1:
        raise UsageError(f"batch size must be at least 1, found {batch_size}")
    # Sources are checked before a network is loaded.
    found = resolve(sources)
    with contextlib.ExitStack() as stack:
        if isinstance(artifact, (str, Path)):
            session = stack.enter_context(
                open_for_pipeline(artifact, threads=threads, device=device)
            )
        else:
            session = artifact
        pipeline = Pipeline(
            session,
            [_tracker(source, Rule(threshold), session.spec) for source in found],
            sinks,
            batch_size=batch_size,
            max_wait=max_wait,
            on_result=on_result,
            on_notification=on_notification,
            on_problem=on_problem,
        )
        return pipeline.run(stop or threading.Event(), observers)


def _tracker(source: Source | Stream, rule: Rule, spec: Spec) -> SourceTracker:
    """What follows a source; a run over files loads nothing of cameras and their events."""
    if hasattr(source, "tracker"):
        return source.tracker(spec)
    if isinstance(source, LiveSource):
        from generalad.runtime.line.stream import Stream

        return Stream.of(source, rule).tracker(spec)
    return SourceTracker(source, rule, spec)
