"""A session runs one artifact: images of the network's input size in, raw scores and maps out.

Every backend implements `Session`; `opening.open_session` picks it by the file's suffix. The spec
is checked once when a session opens, the images once at the door of `run`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from generalad.errors import ArtifactError, DataError, GadError, UsageError
from generalad.half_precision import Choice
from generalad.spec import RESIZE_RULE, Spec

EXPORT_AGAIN = "export the detector again with gad export"

STAGES = ("upload", "infer", "download")
"""Of a run on a GPU: images to the device, the network, scores and maps back."""

S = TypeVar("S", bound="Session")


class Outputs(NamedTuple):
    """What the network says about B images; raw, never clamped. The caller owns both arrays.

    `scores` is (B,) float32, higher is more anomalous; `maps` is (B, h, w) float32 of the spec's
    `map_size`.
    """

    scores: NDArray[np.float32]
    maps: NDArray[np.float32]


def value_range(values: NDArray[np.float32]) -> float:
    """Largest minus smallest finite value, the unit in which outputs are compared; above 0.

    One image, or equal ones, have no range; then the size of the values is the unit.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    found = float(np.ptp(finite)) if finite.size else 0.0
    return found if found > 0 else max(float(np.abs(finite).max(initial=0.0)), 1e-6)


class Session(Protocol):
    """One opened artifact. `run` may be called from one thread at a time."""

    @property
    def spec(self) -> Spec:
        """The record that travels with the artifact."""

    @property
    def backend(self) -> str:
        """Library, version and device really in use, read back after loading."""

    @property
    def precision(self) -> str:
        """In what it computes what is not quantised: "fp32", "bf16" or "fp16"."""

    @property
    def fixed_batch(self) -> int | None:
        """The batch size compiled into the artifact; None where any size is native.

        `run` takes any number of images either way: it cuts and pads them.
        """

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """Score (B, H, W, 3) uint8 RGB, contiguous, B >= 1; only read during the call.

        Raises:
            UsageError: another type or shape, or the session is closed.
        """

    def close(self) -> None:
        """Free the network; a second call does nothing."""

    def __enter__(self: S) -> S: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Closing:
    """Makes a session a context manager that closes itself."""

    def close(self) -> None:
        """Free what is held."""

    def __enter__(self: C) -> C:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


C = TypeVar("C", bound=Closing)


class LibrarySession(Closing):
    """What sessions on ONNX Runtime and OpenVINO share: facts, checks, cutting into batches.

    A subclass sets `_spec`, `_backend` and `_fixed_batch`, calls `_take`, and gives `_run` and
    `_free`.

    Attributes:
        choice: in what it computes, and why.
        side_by_side: runs that may go on at a time, in threads of their own.
        stored_spec: as it stands in the artifact; `spec` is what holds in half precision, where
            the session computes in that.
    """

    _spec: Spec
    _backend: str
    side_by_side = 1
    _fixed_batch: int | None
    _closed = False
    choice: Choice
    stored_spec: Spec

    def _take(self, choice: Choice) -> None:
        """Make `_spec`, as it was read, that of a precision."""
        self.choice, self.stored_spec = choice, self._spec
        if choice.verified is not None:
            self._spec = self._spec.computed_in(choice.verified)

    @property
    def spec(self) -> Spec:
        """See `Session.spec`."""
        return self._spec

    @property
    def precision(self) -> str:
        """See `Session.precision`."""
        return self.choice.precision

    @property
    def backend(self) -> str:
        """See `Session.backend`."""
        return self._backend

    @property
    def fixed_batch(self) -> int | None:
        """See `Session.fixed_batch`."""
        return self._fixed_batch

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """See `Session.run`."""
        if self._closed:
            raise UsageError("the session is closed")
        check_images(images, self._spec)
        if self._fixed_batch is None or self._fixed_batch == len(images):
            outputs = self._guarded(images)
        else:
            outputs = in_batches(images, self._fixed_batch, self._guarded)
        return check_outputs(outputs, len(images), self._spec)

    def _guarded(self, images: NDArray[np.uint8]) -> Outputs:
        try:
            return self._run(images)
        except Exception as error:  # the libraries' errors share no base class
            raise GadError(
                f"{self._backend} could not run {len(images)} images ({self._reason(error)})",
                remedy="when memory is short, use a smaller batch",
            ) from error

    def _run(self, images: NDArray[np.uint8]) -> Outputs:
        """Run a batch of a size that the network takes."""
        raise NotImplementedError

    def _free(self) -> None:
        """Let go of the network."""
        raise NotImplementedError

    @staticmethod
    def _reason(error: Exception) -> str:
        """What a library's error says, in one line."""
        raise NotImplementedError

    def close(self) -> None:
        """Free the network."""
        self._closed = True
        self._free()


class SharedSession(Closing):
    """A session that several threads may run: they take turns.

    Attributes:
        listener: called after each run with its images (B, H, W, 3) and outputs, in the thread
            that ran it; None for nobody. It must not change them, and not take long.
    """

    listener: Callable[[NDArray[np.uint8], Outputs], None] | None = None

    def __init__(self, session: Session, name: str) -> None:
        """Take over an open session; `name` is used in errors."""
        self.spec, self.backend = session.spec, session.backend
        self.precision, self.fixed_batch = session.precision, session.fixed_batch
        self._session: Session | None = session
        self._name = name
        self._lock = threading.Lock()

    def check_open(self) -> Session:
        """Raises UsageError if it is closed."""
        if self._session is None:
            raise UsageError(f"{self._name} is closed", remedy="load it again")
        return self._session

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """See `Session.run`."""
        with self._lock:
            outputs = self.check_open().run(images)
        listener = self.listener
        if listener is not None:
            listener(images, outputs)
        return outputs

    def close(self) -> None:
        """Close the session when no run goes on; a second call does nothing."""
        with self._lock:
            if self._session is not None:
                self._session.close()
            self._session = None


def stored_spec(session: Session) -> Spec:
    """The spec as it stands in the artifact, see `LibrarySession`."""
    return getattr(session, "stored_spec", session.spec)


def as_stored(session: Session, spec: Spec) -> Spec:
    """What to write of a changed copy of a session's spec."""
    choice: Choice | None = getattr(session, "choice", None)
    if choice is None or choice.verified is None:
        return spec
    return spec.stored_as(stored_spec(session), choice.verified)


def check_spec(spec: Spec, *, name: str) -> None:
    """Refuse an artifact whose images this version cannot prepare as its training did."""
    if spec.resize != RESIZE_RULE:
        raise ArtifactError(
            f"{name}: its images are resized by {spec.resize[:40]!r}, this version does"
            f" {RESIZE_RULE!r}",
            remedy=EXPORT_AGAIN,
        )
    if spec.geometry is not None and spec.geometry.template is not None:
        from generalad.geometry.teach import finder_of  # only where parts are looked for

        try:
            finder_of(spec.geometry.template)
        except DataError as error:
            raise ArtifactError(f"{name}: {error.message}", remedy=EXPORT_AGAIN) from error


def check_images(images: NDArray[np.uint8], spec: Spec) -> None:
    """Refuse input that the network would misread."""
    found = f"{getattr(images, 'dtype', type(images).__name__)} {getattr(images, 'shape', '')}"
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        raise UsageError(f"expected uint8 pixels, found {found}")
    height, width = spec.image_size
    if images.ndim != 4 or len(images) < 1 or images.shape[1:] != (height, width, 3):
        raise UsageError(
            f"expected images of shape (B, {height}, {width}, 3), found {found}",
            remedy="bring images to the network's size with generalad.preprocess.resize",
        )
    if not images.flags.c_contiguous:
        raise UsageError(
            "expected contiguous images, found a strided view", remedy="np.ascontiguousarray"
        )


def check_outputs(outputs: Outputs, batch: int, spec: Spec) -> Outputs:
    """Refuse a network whose outputs are not what its spec says."""
    expected = ((batch,), (batch, *spec.map_size))
    found = (outputs.scores.shape, outputs.maps.shape)
    if found != expected:
        raise ArtifactError(
            f"the network returned shapes {found}, its spec says {expected}", remedy=EXPORT_AGAIN
        )
    return outputs


def in_batches(
    images: NDArray[np.uint8], batch: int, run: Callable[[NDArray[np.uint8]], Outputs]
) -> Outputs:
    """Call `run` on groups of exactly `batch` images; the last one is repeated as padding."""
    padding = -len(images) % batch
    padded = np.concatenate([images, np.repeat(images[-1:], padding, axis=0)])
    parts = [run(padded[i : i + batch]) for i in range(0, len(padded), batch)]
    scores, maps = (np.concatenate(arrays)[: len(images)] for arrays in zip(*parts, strict=True))
    return Outputs(scores, maps)
