"""`Prediction`: what a model says about one image."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from generalad.decision import Milliseconds, Region, Result, regions
from generalad.errors import DataError
from generalad.overlay import draw, resize_map
from generalad.preprocess import read_image
from generalad.runtime.sources import Frame
from generalad.spec import Spec

T = TypeVar("T")


class Scored(NamedTuple):
    """What a network said about an image, from which all else follows when it is asked for.

    Attributes:
        path: of its file, or empty.
        position: among the images that were given.
        score: raw and finite, as the whole map is.
        level: the threshold for it.
        match: as in `Result`.
        milliseconds: the fields of `Milliseconds`.
        fault: as in `Result`.
    """

    path: str
    position: int
    score: float
    level: float
    match: float | None
    milliseconds: tuple[float, float, float, float]
    fault: str | None = None


class Prediction:
    """What a model says about one image.

    Everything that takes time is made when it is first asked for, and kept. An image that could not
    be scored has an `error`, or a `fault`; asking it for a score, a decision or a map raises a
    `DataError` with that reason, so it cannot be taken for a good one by oversight. One that is
    scored has a `fault` where it does not look like the images of the calibration.

    Attributes:
        image_size: (height, width) in pixels; (0, 0) where there is no image.
        raw_map: (h, w) float32, raw, of the spec's `frame_map_size`; None where there is no score.
        spec: of the artifact: thresholds, class name, provenance.
    """

    __slots__ = ("_anomaly_map", "_found", "_image", "image_size", "raw_map", "spec")

    def __init__(
        self,
        spec: Spec,
        found: Result | Scored,
        raw_map: NDArray[np.float32] | None,
        image: NDArray[np.uint8] | None,
        image_size: tuple[int, int],
    ) -> None:
        """`image` is (H, W, 3) uint8 RGB; None where it is to be read again from its file."""
        self.spec = spec
        self.image_size = image_size
        self.raw_map = raw_map
        self._found = found
        self._image = image
        self._anomaly_map: NDArray[np.float32] | None = None

    @classmethod
    def failed(cls, spec: Spec, path: str, position: int, error: str) -> Prediction:
        """Of an image that could not be read or scored."""
        times = Milliseconds()
        result = Result(path, position, 0.0, path, None, None, None, (), times, error=error)
        return cls(spec, result, None, None, (0, 0))

    @classmethod
    def refused(
        cls,
        spec: Spec,
        path: str,
        position: int,
        fault: str,
        image: NDArray[np.uint8] | None,
        image_size: tuple[int, int],
    ) -> Prediction:
        """Of an image that shows a fault."""
        times = Milliseconds()
        result = Result(path, position, 0.0, path, None, None, None, (), times, fault=fault)
        return cls(spec, result, None, image, image_size)

    @classmethod
    def of_frame(
        cls, spec: Spec, frame: Frame, result: Result, raw_map: NDArray[np.float32] | None
    ) -> Prediction:
        """Of a frame that a run has decided on."""
        height, width = (0, 0) if frame.image is None else frame.image.shape[:2]
        return cls(spec, result, raw_map, frame.image, (height, width))

    # Where it comes from

    @property
    def source(self) -> str:
        """The path or address that it came from; empty for an image in memory."""
        return self._result().source

    @property
    def index(self) -> int:
        """Its position in the source, or in what was given, from 0."""
        return self._result().index

    @property
    def time(self) -> float:
        """Seconds: since the start of a video, else since 1970; 0 where it is not known."""
        return self._result().time

    @property
    def path(self) -> str:
        """The file that the image is in; empty where there is none."""
        return self._found.path

    @property
    def image(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8, RGB.

        The array that was given, not a copy, if it was that already. Of a list of files the images
        are not kept; each is read again here, once.
        """
        if self._image is None:
            if not self.path or self.error is not None:
                self._map()  # which says why
            self._image = read_image(self.path)
        return self._image

    # What was found

    @property
    def error(self) -> str | None:
        """Why the image could not be read or scored, in one line; None if it was."""
        return self._found.error if isinstance(self._found, Result) else None

    @property
    def fault(self) -> str | None:
        """How the image lies beyond those of calibration, else None.

        One with a score is first of all a strange part, one without was refused.
        """
        return self._found.fault

    @property
    def match(self) -> float | None:
        """How well the part matches its template, -1...1; None where it is not looked for."""
        return self._found.match

    @property
    def score(self) -> float:
        """Raw, never clamped; higher is more anomalous."""
        found = self._found
        return found.score if isinstance(found, Scored) else _of(found, found.score)

    @property
    def normalised(self) -> float:
        """The score on a scale from 0 to 1 with the threshold at 0.5."""
        found = self._found
        if isinstance(found, Scored):
            return self.spec.normalisation(found.score, found.level)
        return _of(found, found.normalised)

    @property
    def is_anomalous(self) -> bool:
        """Whether the score has reached the threshold."""
        found = self._found
        if isinstance(found, Scored):
            return found.score >= found.level
        return _of(found, found.anomalous)

    @property
    def regions(self) -> tuple[Region, ...]:
        """Connected areas at or above the pixel threshold, by falling peak, in image pixels."""
        self._map()
        return self._result().regions

    @property
    def anomaly_map(self) -> NDArray[np.float32]:
        """(H, W) float32, raw, in the image's own size."""
        if self._anomaly_map is None:
            self._anomaly_map = resize_map(self._map(), self.image_size)
        return self._anomaly_map

    def overlay(self) -> NDArray[np.uint8]:
        """The image with its map over it, (H, W, 3) uint8 RGB; on one scale for all of an artifact.

        Bright and outlined is what reaches the artifact's pixel threshold.
        """
        return draw(self.image, self._map(), self.spec)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the same as a line of `gad infer`."""
        return self._result().to_dict()

    def __repr__(self) -> str:
        name = self.path or f"{self.source or 'image'} {self.index}"
        found = self._result()
        if found.score is None:
            return f"<Prediction {name}: {found.error or f'camera fault: {found.fault}'}>"
        verdict = "anomalous" if found.anomalous else "normal"
        count = len(found.regions)
        return (
            f"<Prediction {name}: {verdict}, score {found.score:.4g}, normalised"
            f" {found.normalised:.2f}, {count} region{'' if count == 1 else 's'}"
            f"{f'; strange: {found.fault}' if found.fault else ''}>"
        )

    def _map(self) -> NDArray[np.float32]:
        """The raw map, or the reason why there is none."""
        found = self._found
        return _of(found, self.raw_map) if isinstance(found, Result) else self.raw_map  # type: ignore[return-value]

    def _result(self) -> Result:
        """All of it in one record, made once."""
        found = self._found
        if isinstance(found, Scored):
            self._found = found = Result(
                source=found.path,
                index=found.position,
                time=0.0,
                path=found.path,
                score=found.score,
                normalised=self.normalised,
                anomalous=self.is_anomalous,
                regions=regions(self._map(), self.spec.thresholds.pixel, self.image_size),
                milliseconds=Milliseconds(*found.milliseconds),
                match=found.match,
                fault=found.fault,
            )
        return found


def _of(found: Result, value: T | None) -> T:
    """A value of a result, or the reason why there is none."""
    if value is None or found.error is not None:
        raise DataError(found.error or f"camera fault: {found.fault}")
    return value
