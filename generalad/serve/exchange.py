"""`Exchange`: what goes with exchanging a version: the check, the audit trail, the line."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from generalad.errors import StorageError
from generalad.serve.models import BusyError, Check, Model
from generalad.serve.version import Version

if TYPE_CHECKING:
    from generalad.serve.line import Line


class Exchange:
    """Exchanges versions for people and for the fleet."""

    def __init__(self, line: Line | None) -> None:
        """Without a line there is no check with confirmed defects, and no trail."""
        self._line = line
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    @property
    def check(self) -> Check | None:
        """Refuses a version that misses confirmed defects."""
        return None if self._line is None else self._line.review.check

    def swap(self, model: Model, version: str, *, by: str, undoes: int | None = None) -> None:
        """Serve a version, by its name.

        Raises:
            GadError: see `Model.swap`; or it cannot be written down, and the old one goes on.
        """
        with self._alone(model) as before:
            model.swap(version, check=self.check)
            self._written("swap", model, before, by, undoes)

    def put(self, model: Model, version: Version, *, by: str) -> None:
        """Serve a version that is loaded; errors as in `swap`."""
        with self._alone(model) as before:
            model.put(version)
            self._written("swap", model, before, by, None)

    def rollback(self, model: Model, *, by: str) -> None:
        """Serve the version before; errors as in `Model.rollback` and `swap`."""
        with self._alone(model) as before:
            model.rollback()
            self._written("rollback", model, before, by, None)

    @contextlib.contextmanager
    def _alone(self, model: Model) -> Iterator[str]:
        """The version that serves, until the next one is written down too; raises BusyError."""
        lock = self._locks[model.name]
        if not lock.acquire(blocking=False):
            raise BusyError(
                f"{model.name} is being exchanged", remedy="try again when that is done"
            )
        try:
            yield model.current.name
        finally:
            lock.release()

    def _written(self, what: str, model: Model, before: str, by: str, undoes: int | None) -> None:
        line, after = self._line, model.current.name
        if line is None:
            return
        try:
            line.audit.add(what, model.name, before=before, after=after, by=by, undoes=undoes)
        except StorageError:  # what is not written down does not hold
            model.rollback()
            raise
        if model is line.run.model:
            line.run.restart()
