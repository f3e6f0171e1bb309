"""`infer`: an artifact over files, folders, videos and cameras."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, cast

import numpy as np

from generalad.decision import Rule
from generalad.errors import UsageError
from generalad.pixels import Pixels, check_pixels, is_pixels
from generalad.progress import Log
from generalad.runtime.addresses import (
    doubts_in_words,
    given_twice_in_words,
    left_out_in_words,
    open_sources,
)
from generalad.runtime.backends.open import MANY, open_for_pipeline
from generalad.runtime.backends.session import Session
from generalad.runtime.pipeline.pipeline import MAX_WAIT, Pipeline
from generalad.runtime.pipeline.summary import Summary
from generalad.runtime.pipeline.tracker import SourceTracker
from generalad.runtime.pipeline.writer import OnNotification, OnResult
from generalad.runtime.sinks.sink import Sink
from generalad.runtime.sources import LEFT_OUT, ImageFiles, ImagesInMemory, LiveSource, Source
from generalad.runtime.view import Observer
from generalad.spec import Spec

if TYPE_CHECKING:
    from generalad.runtime.line.stream import Stream


Given = Union[str, "os.PathLike[str]", Pixels, Source, "Stream"]
"""What `resolve` takes for a source."""


def infer(
    artifact: str | Path | Session,
    sources: Given | Sequence[Given],
    *,
    sinks: Sequence[Sink] = (),
    batch_size: int | Literal["auto"] = 1,
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
        sources: addresses, paths, images, sources or streams, see `resolve`. Cameras are
            read side by side, all else one after another.
        sinks: opened and closed here.
        batch_size: images a run of the network; "auto" for what is fastest, see `choose_batch`.
        max_wait: seconds that a batch may wait to fill once it has an image, if a camera is among
            the sources; files wait until it is full.
        threshold: raw, on the score; None takes the artifact's own. Streams have their own rule.
        threads: CPU threads of a session that is opened here.
        device: of a session that is opened here, see `open_session`.
        stop: when set, reading stops, what is in flight is finished, and the summary is returned.
        observers: shown the run while it goes on.
        on_result: called for every result, in the writer's thread.
        on_notification: called for every notification, in the writer's thread.
        on_problem: told when a sink fails and when it recovers, in a run with cameras, of files
            that are given more than once, of a threshold on another scale, and at the end of what
            is odd about all images of 16 bits, a video, or how files look; these are warnings
            without it.

    Raises:
        GadError: a missing source, an unusable artifact, an output that cannot be written.
        Interrupted: after Ctrl-C or SIGTERM; a second one does not wait for what is in flight.
    """
    if batch_size != "auto" and batch_size < 1:
        raise UsageError(f"batch size must be at least 1 or auto, found {batch_size}")
    # Sources are checked before a network is loaded.
    found = resolve(sources)
    plain: list[Any] = [getattr(source, "source", source) for source in found]
    if on_problem is not None and len(plain) > 1 and (twice := given_twice_in_words(plain)):
        on_problem(twice)
    with contextlib.ExitStack() as stack:
        if isinstance(artifact, (str, Path)):
            session = stack.enter_context(
                open_for_pipeline(
                    artifact, threads=threads, device=device, throughput=are_many(found)
                )
            )
        else:
            session = artifact
        if batch_size != 1:
            from generalad.runtime.batch_choice import batch_for, check_batch  # only if asked for

            if batch_size == "auto":
                batch_size = batch_for(session, found, threads=threads).size
            check_batch(batch_size, session.spec)
        trackers = [_tracker(source, Rule(threshold), session.spec) for source in found]
        for said in filter(None, (one.far_off() for one in trackers)):
            (on_problem or warnings.warn)(said)
        pipeline = Pipeline(
            session,
            trackers,
            sinks,
            batch_size=batch_size,
            max_wait=max_wait,
            on_result=on_result,
            on_notification=on_notification,
            on_problem=on_problem,
        )
        summary = pipeline.run(stop or threading.Event(), observers)
    for odd in filter(None, (doubts_in_words(plain), *(one.doubts() for one in trackers))):
        (on_problem or warnings.warn)(odd)
    left_out = [path for source in plain for kind in LEFT_OUT for path in getattr(source, kind, ())]
    return summary._replace(left_out=tuple(map(str, left_out)))


def resolve(given: Given | Sequence[Given]) -> list[Source | Stream]:
    """Resolve what a program gives: one thing or several.

    Addresses and paths are as in `open_sources`; arrays and images of Pillow, as in
    `pixels.to_rgb` or as an array of several (B, H, W, 3), become one source called "memory";
    sources and streams stay what they are. Files of a folder that are left out are a warning.

    Raises:
        DataError: nothing was given, or see `open_sources`.
        UsageError: something else, or an array that is no image.
    """
    alone = isinstance(given, (str, os.PathLike)) or not isinstance(given, Iterable)
    alone = alone or is_pixels(given) or _is_source(given)
    images: list[Pixels] = []
    found: list[Source | Stream] = []
    items: list[Any] = [given] if alone else list(cast(Any, given))
    for item in items:
        if isinstance(item, (str, os.PathLike)):
            opened = open_sources([os.fspath(item)])
            found += opened
            for said in filter(None, map(left_out_in_words, opened)):
                warnings.warn(said, stacklevel=3)
        elif is_pixels(item):
            if not images:
                found.append(ImagesInMemory(images))
            if isinstance(item, np.ndarray) and item.ndim == 4:
                images.extend(item)
            else:
                images.append(item)
        elif _is_source(item):
            found.append(item)
        else:
            raise UsageError(
                f"expected addresses, paths, images or sources, found {type(item).__name__}",
                remedy="give a list of them",
            )
    for index, image in enumerate(images):
        if isinstance(image, np.ndarray):
            check_pixels(image, name=f"image {index}")
    return found or list(open_sources([]))  # which says that nothing was given


def are_many(sources: Sequence[Source | Stream]) -> bool:
    """Whether so many images wait already that runs side by side pay; of cameras none wait."""
    plain = [getattr(item, "source", item) for item in sources]
    if any(isinstance(source, LiveSource) for source in plain):
        return False
    files = [source for source in plain if isinstance(source, (ImageFiles, ImagesInMemory))]
    return len(files) < len(plain) or sum(source.count() or 0 for source in files) >= MANY


def _is_source(item: object) -> bool:
    return hasattr(item, "source") or (hasattr(item, "address") and hasattr(item, "__iter__"))


def _tracker(source: Source | Stream, rule: Rule, spec: Spec) -> SourceTracker:
    """What follows a source; a run over files loads nothing of cameras and their events."""
    if hasattr(source, "tracker"):
        return source.tracker(spec)
    if isinstance(source, LiveSource):
        from generalad.runtime.line.stream import Stream

        return Stream.of(source, rule).tracker(spec)
    return SourceTracker(source, rule, spec)
