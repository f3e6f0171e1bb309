"""Opens what runs beside the models: the line, its review, the audit trail and the counts."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from generalad.errors import UsageError
from generalad.printable import one_line
from generalad.runtime.line.line import Line as LineFile
from generalad.runtime.line.open_sinks import STATE
from generalad.serve.audit import Audit
from generalad.serve.line import Line
from generalad.serve.line_run import LineRun
from generalad.serve.models import Model, Models
from generalad.serve.review import Review
from generalad.serve.tally import Tally


@contextlib.contextmanager
def open_line(
    read: Callable[[], LineFile], models: Models, state: str | os.PathLike[str] | None
) -> Iterator[Line]:
    """Start a line; it is ended when the block is left.

    Args:
        read: reads its file.
        models: one of them scores its streams.
        state: folder for what must outlive the process; None for that of the file.

    Raises:
        GadError: the file cannot be, or its state folder cannot be used.
    """
    line = read()
    if not line.streams:
        raise UsageError("the line's file has no [[stream]]", remedy="see docs/streams.md")
    folder = Path(state or line.state or STATE) / "serve"
    model = _model(models, line)
    with contextlib.ExitStack() as stack:
        audit = stack.enter_context(contextlib.closing(Audit(folder / "audit.jsonl")))
        review = Review(folder, audit, log=log_line)
        stack.callback(review.end)
        run = LineRun(read, model, folder, audit=audit, review=review, log=log_line)
        stack.callback(run.close)
        tally = stack.enter_context(
            contextlib.closing(Tally(folder / "tally.json", run.latest, log=log_line))
        )
        yield Line(run, review, audit, tally)


def holds(place: Path, artifact: Path) -> bool:
    """Whether a model of that file or folder has an artifact among its versions."""
    return artifact.resolve() in (place.resolve(), place.resolve() / artifact.name)


def _model(models: Models, line: LineFile) -> Model:
    if line.artifact is None:
        return next(iter(models))
    return next(model for model in models if holds(model.place, Path(line.artifact)))


def log_line(text: str) -> None:
    """Say something on stderr, as commands do."""
    sys.stderr.write(f"gad: {one_line(text)}\n")
