"""`Model`: what is served under a name, one version at a time, exchanged while requests go on.

    swap: load ─► golden samples equal? ─ yes ─► serves; the one before stays loaded for `rollback`
                                        └ no ──► closed; the one before goes on serving

A model is an artifact, or a folder of artifacts, whose files are its versions. Versions are told
by their names among those that the folder holds: what a request says is compared, never opened.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from generalad.errors import ArtifactError, GadError, StorageError, UsageError, word_hint
from generalad.files import atomic_write
from generalad.prediction import Prediction
from generalad.predictor import Predictor
from generalad.runtime.backends.open import KINDS
from generalad.serve.settings import Settings
from generalad.serve.version import Version
from generalad.statistics import quantile

_RECENT = 300
"""Images over which latency is shown."""

_LARGEST_REPORT = 100_000_000
"""Bytes."""

SERVING = ".serving"
"""File of a folder of versions with the name of the one that serves."""

Check = Callable[[Predictor, Predictor], None]


class UnknownVersionError(UsageError):
    """A model has no version of that name."""


class BusyError(UsageError):
    """The model is being exchanged already."""


class Model:
    """A name under which the versions of an artifact are served.

    Attributes:
        name: of its file without suffix, or of its folder.
        place: the file or folder.
        current: the version that serves.
        previous: the one before, still loaded; None where there is none.
        swaps: how often the version was exchanged, rollbacks among them.
        refused: how often a version was not taken.
        rollout: what becomes of the version that is wanted, see `follow`; None where nobody says.
    """

    swaps = refused = 0
    previous: Version | None = None
    rollout: dict[str, Any] | None = None

    def __init__(self, place: Path, settings: Settings) -> None:
        """Load an artifact; of a folder the one that served last, or else the last by name.

        Raises:
            GadError: there is none, or see `Version`.
        """
        self.name = place.name if place.is_dir() else place.stem
        self.place, self._settings = place, settings
        self._exchange = threading.Lock()
        versions = self._files()
        if not versions:
            raise ArtifactError(
                f"{place}: the folder holds no artifact", remedy="export one into it"
            )
        served = [path for path in versions if path.name == self._remembered()]
        self.current = Version((served or versions)[-1], settings, class_name=None)
        self._lock = threading.Lock()
        self._images = self._anomalous = self._failed = 0
        self._seconds: deque[float] = deque(maxlen=_RECENT)

    def versions(self) -> list[str]:
        """Names of the files that `swap` takes, in order."""
        return [path.name for path in self._files()]

    def reports(self) -> list[str]:
        """Names of the versions beside which an evaluation report lies."""
        return [path.name for path in self._files() if _report_of(path).is_file()]

    def report(self, version: str) -> bytes:
        """The evaluation report of a version, as `gad eval --html` wrote it beside its file.

        Raises:
            UnknownVersionError: there is none of that name, or no report of it.
        """
        found = next((path for path in self._files() if path.name == version), None)
        place = None if found is None else _report_of(found)
        if place is None or not place.is_file() or place.stat().st_size > _LARGEST_REPORT:
            raise UnknownVersionError(
                f"{self.name} has no evaluation report of {version[:80]!r}",
                remedy="write one beside its file: gad eval FILE.onnx DATA --html FILE.html",
            )
        return place.read_bytes()

    def swap(self, version: str, *, check: Check | None = None) -> Version:
        """Serve another version; the same name again loads what its file holds now.

        Args:
            version: one of `versions`.
            check: called with the old and the new predictor; what it raises refuses the new one.

        Raises:
            UnknownVersionError: there is none of that name.
            BusyError: another exchange goes on.
            GadError: the version is not fit to serve, so the one before goes on.
        """
        with self._exchanging():
            new = self.load(version, check=check)
            self._put(new)
        return new

    def load(self, version: str, *, check: Check | None = None) -> Version:
        """Load a version beside the one that serves; whoever asks for it puts or closes it.

        Args and errors are those of `swap`.
        """
        files = {path.name: path for path in self._files()}
        if version not in files:
            raise UnknownVersionError(
                f"{self.name} has no version {version[:80]!r}",
                remedy=word_hint(version[:80], list(files), f"GET /v1/models/{self.name}"),
            )
        serving = self.current.predictor
        try:
            new = Version(files[version], self._settings, class_name=serving.spec.class_name)
            try:
                if check is not None:
                    check(serving, new.predictor)
            except BaseException:
                new.close()
                raise
        except (GadError, OSError, MemoryError):
            self.refused += 1
            raise
        return new

    def put(self, new: Version) -> None:
        """Serve a version from `load`; raises BusyError while another exchange goes on."""
        with self._exchanging():
            self._put(new)

    def rollback(self) -> Version:
        """Serve the version before, which is still loaded; doing it twice comes back.

        Raises:
            UsageError: there is none.
            BusyError: another exchange goes on.
        """
        with self._exchanging():
            if self.previous is None:
                raise UsageError(f"{self.name} has served one version only, there is none before")
            self.current, self.previous = self.previous, self.current
            self.swaps += 1
            self._remember()
            return self.current

    @contextlib.contextmanager
    def _exchanging(self) -> Iterator[None]:
        """One exchange at a time."""
        if not self._exchange.acquire(blocking=False):
            raise BusyError(f"{self.name} is being exchanged", remedy="try again when that is done")
        try:
            yield
        finally:
            self._exchange.release()

    def count(self, found: Prediction | None, seconds: float) -> None:
        """An image was answered after so many seconds; None where it could not be read."""
        with self._lock:
            self._images += 1
            if found is None or found.raw_map is None:
                self._failed += 1
                return
            self._anomalous += found.is_anomalous
            self._seconds.append(seconds)

    def counts(self) -> dict[str, Any]:
        """Images so far, and milliseconds from the end of a request's body to the decision."""
        run = self.current.batcher.counts()
        with self._lock:
            recent = sorted(self._seconds)
            return {
                "images": self._images,
                "anomalous": self._anomalous,
                "failed": self._failed,
                "images_a_run": round(run.images / run.runs, 2) if run.runs else None,
                "busy_seconds": run.busy,
                "median_ms": round(quantile(recent, 0.5) * 1000, 3) if recent else None,
                "p99_ms": round(quantile(recent, 0.99) * 1000, 3) if recent else None,
            }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        version, spec = self.current, self.current.predictor.spec
        return {
            "name": self.name,
            "version": version.name,
            "sha256": version.sha256,
            "previous": None if self.previous is None else self.previous.name,
            "versions": self.versions(),
            "reports": self.reports(),
            "loaded": version.loaded,
            "backend": version.predictor.backend,
            "precision": version.predictor.precision,
            "method": spec.method,
            "class": spec.class_name,
            "image_size": list(spec.image_size),
            "threshold": spec.thresholds.image,
            "pixel_threshold": spec.thresholds.pixel,
            "false_alarm_rate": spec.calibration.reached,
            "calibration_images": spec.calibration.images,
            "selftest": version.selftest.in_words(),
            "swaps": self.swaps,
            "refused": self.refused,
            "rollout": self.rollout,
            "counts": self.counts(),
        }

    def close(self) -> None:
        """Free both versions."""
        for version in (self.current, self.previous):
            if version is not None:
                version.close()

    def _put(self, new: Version) -> None:
        dropped, self.previous = self.previous, self.current
        self.current = new
        self.swaps += 1
        self._remember()
        if dropped is not None:
            # What waits for it is answered first; nobody waits for that here.
            threading.Thread(target=dropped.close, name="gad-close", daemon=True).start()

    def _remember(self) -> None:
        """Write down which version serves, for the next start, where the folder can be written."""
        if self.place.is_dir():
            with contextlib.suppress(StorageError), atomic_write(self.place / SERVING) as temporary:
                temporary.write_text(self.current.name, encoding="utf-8")

    def _remembered(self) -> str:
        try:
            return (self.place / SERVING).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""

    def _files(self) -> list[Path]:
        if not self.place.is_dir():
            return [self.place]
        found = self.place.iterdir()
        return sorted(
            path
            for path in found
            if path.suffix.lower() in KINDS and path.is_file() and not path.name.startswith(".")
        )


def _report_of(version: Path) -> Path:
    return version.with_suffix(".html")


class Models:
    """All models of a service, by name, in the order given."""

    def __init__(self, places: Sequence[str | Path], settings: Settings) -> None:
        """Load them.

        Raises:
            GadError: one cannot be served, or two have the same name.
        """
        self._models: dict[str, Model] = {}
        try:
            for place in map(Path, places):
                model = Model(place, settings)
                if model.name in self._models:
                    model.close()
                    raise UsageError(
                        f"two models are called {model.name!r}", remedy="rename one of the files"
                    )
                self._models[model.name] = model
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def get(self, name: str) -> Model | None:
        """The model of a name, compared with those there are."""
        return self._models.get(name)

    def names(self) -> list[str]:
        """In the order given."""
        return list(self._models)

    def close(self) -> None:
        """Free all."""
        for model in self._models.values():
            model.close()
