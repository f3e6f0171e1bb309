"""`Follower`: brings each model to the version that a source wants, and back if it is worse.

    wanted ─► fetch ─► load, golden samples ─► shadow ─► serve ─► watch ─► kept
                         │ refused              │ refused          │ rolled back

Shadow and watch last a stated time and `shadow.LEAST` images at least. A version that was refused
or rolled back is not tried again until its name changes or the service starts anew.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from generalad.errors import DataError, GadError, StorageError, UsageError
from generalad.files import write_json
from generalad.progress import Log
from generalad.runtime.names import safe_name
from generalad.runtime.selftest import selftest_of
from generalad.serve.exchange import Exchange
from generalad.serve.models import BusyError, Model
from generalad.serve.shadow import Shadow
from generalad.serve.source import FleetSource
from generalad.serve.version import Version

BY = "fleet"
"""Who exchanges, in the audit trail."""

ASK_EVERY = 30.0
"""Seconds between two questions to the source."""

_LOOK_EVERY = 0.2


class _LaterError(GadError):
    """Something that may go otherwise next time."""


class Follower:
    """Follows in a thread of its own until it is closed."""

    def __init__(
        self,
        source: FleetSource,
        models: Sequence[Model],
        exchange: Exchange,
        *,
        seconds: float,
        reports: Path | None = None,
        log: Log,
    ) -> None:
        """Begin.

        Args:
            source: says what is wanted.
            models: folders of versions; others are left alone.
            exchange: by which versions are exchanged.
            seconds: that shadow and watch last, each.
            reports: folder that is told, for this device and each model, what became of it.
            log: told in one line of each step.

        Raises:
            UsageError: no model is a folder.
        """
        self._models = [model for model in models if model.place.is_dir()]
        if not self._models:
            raise UsageError(
                "--follow is for folders of versions, and no model is one",
                remedy="name a folder in place of a file",
            )
        self._source, self._exchange, self._seconds = source, exchange, seconds
        self._reports, self._log = reports, log
        self._refused: dict[str, str] = {}
        self._said = ""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="gad-follow", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End; a version that is in the shadow is let go, one that is watched is kept."""
        self._closed.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._closed.is_set():
            try:
                wanted = self._source.wanted()
                self._said = ""
            except GadError as error:
                self._say(str(error))
                wanted = {}
            for model in self._models:
                version = wanted.get(model.name)
                if version is not None and self._refused.get(model.name) != version:
                    self._bring(model, version)
            self._closed.wait(ASK_EVERY)

    def _bring(self, model: Model, version: str) -> None:
        if model.current.name == version:
            if model.rollout is None:
                self._tell(model, version, "kept")
            return
        try:
            if version not in model.versions():
                self._fetch(model, version)
            new = model.load(version, check=self._exchange.check)
        except _LaterError as error:
            self._say(str(error))
            return
        except (GadError, OSError) as error:
            self._refuse(model, version, getattr(error, "message", str(error)))
            return
        objection = self._shadow(model, new)
        if objection or self._closed.is_set():
            new.close()
            if objection:
                self._refuse(model, version, objection)
            return
        try:
            self._exchange.put(model, new, by=BY)
        except BusyError as error:  # somebody exchanges it now; it is tried again
            new.close()
            self._say(str(error))
            return
        except GadError as error:
            if model.current is not new:
                new.close()
            self._refuse(model, version, error.message)
            return
        self._watch(model, new, version)

    def _fetch(self, model: Model, version: str) -> None:
        """Bring the files; what another attempt may help is a `_LaterError`."""
        if (model.rollout or {}).get("version") != version:
            self._tell(model, version, "fetching")
        try:
            self._source.fetch(model.name, version, model.place)
        except (DataError, StorageError) as error:
            raise _LaterError(error.message, remedy=error.remedy) from error

    def _shadow(self, model: Model, new: Version) -> str:
        """Compare before it serves; why it should not, or empty."""
        serving = model.current
        if new.predictor.spec.image_size != serving.predictor.spec.image_size:
            return "its input has another size, so both cannot be compared on the same images"
        shadow = Shadow(serving, new)
        try:
            while not self._closed.wait(_LOOK_EVERY):
                self._show(model, new.name, "shadow", shadow)
                if model.current is not serving:
                    return "somebody exchanged the version meanwhile"
                if shadow.problem or (shadow.enough and shadow.seconds >= self._seconds):
                    return shadow.objection()
            return ""
        finally:
            shadow.close()

    def _watch(self, model: Model, new: Version, version: str) -> None:
        """Compare with the version before while it serves; roll back where it is worse."""
        before = model.previous
        if before is None:
            return
        self._tell(model, version, "serving")
        shadow = Shadow(new, before)
        try:
            while not self._closed.wait(_LOOK_EVERY):
                self._show(model, version, "watch", shadow)
                if model.current is not new or model.previous is not before:
                    self._tell(model, version, "exchanged by somebody")
                    return
                over = shadow.enough and shadow.seconds >= self._seconds
                if shadow.enough and (objection := self._objection(new, shadow, over=over)):
                    try:
                        self._exchange.rollback(model, by=BY)
                    except BusyError:
                        continue
                    self._refuse(model, version, f"rolled back: {objection}")
                    return
                if over:
                    self._tell(model, version, "kept", shadow.to_dict())
                    return
        except GadError as error:  # of the rollback
            self._refuse(model, version, error.message)
        finally:
            shadow.close()

    @staticmethod
    def _objection(new: Version, shadow: Shadow, *, over: bool) -> str:
        """Why a version that serves should not; when it is `over`, by its golden samples too."""
        if objection := shadow.objection():
            return f"compared with it, {objection}"
        found = selftest_of(new.predictor.session, new.name).problems() if over else []
        return "; ".join(found)

    def _refuse(self, model: Model, version: str, reason: str) -> None:
        """Try it no more, and put it aside, so that the next start does not serve it."""
        self._refused[model.name] = version
        if model.current.name != version:
            path = model.place / version
            with contextlib.suppress(OSError):
                path.replace(path.with_name(f".{version}.refused"))
        counts = (model.rollout or {}).get("compared")
        self._tell(model, version, "refused", counts, reason)

    def _show(self, model: Model, version: str, state: str, shadow: Shadow) -> None:
        model.rollout = {
            "version": version,
            "state": state,
            "reason": "",
            "compared": shadow.to_dict(),
        }

    def _tell(
        self,
        model: Model,
        version: str,
        state: str,
        compared: dict[str, Any] | None = None,
        reason: str = "",
    ) -> None:
        """Show a step on the page, in the log and in the report of this device."""
        model.rollout = {
            "version": version,
            "state": state,
            "reason": reason,
            "compared": compared,
        }
        self._log(f"{model.name}: {version}: {state}{f': {reason}' if reason else ''}")
        if self._reports is None:
            return
        name = f"{safe_name(socket.gethostname())}-{safe_name(model.name)}.json"
        report = {"model": model.name, "serves": model.current.name, **model.rollout}
        try:
            write_json(self._reports / name, report)
        except GadError as error:
            self._say(str(error))

    def _say(self, text: str) -> None:
        """Once, however often it is tried."""
        if text != self._said:
            self._said = text
            self._log(text)
