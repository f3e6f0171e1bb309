"""`load` opens a model, a `Predictor`; its `predict` turns images into predictions.

    image -> to_rgb -> prepare -> session -> Prediction

Torch is loaded for the folder of a detector only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeGuard, overload

import numpy as np
from numpy.typing import NDArray

from generalad.decision import Rule, framed, is_finite
from generalad.errors import DataError, GadError, UsageError, require_extra
from generalad.geometry.placement import NOT_FOUND, PartNotFound, Placement
from generalad.geometry.placement import prepare as bring_to_network
from generalad.image_limits import Limits
from generalad.pixels import PillowImage, Pixels, check_pixels, is_pixels, to_rgb
from generalad.prediction import Prediction, Scored
from generalad.preprocess import read_image
from generalad.runtime.backends.open import open_session
from generalad.runtime.backends.session import Closing, Session, SharedSession
from generalad.spec import Spec

if TYPE_CHECKING:
    from generalad.runtime.inference import Given
    from generalad.runtime.notification import Notification

OneImage = str | os.PathLike[str] | Pixels
"""A path, an array as `pixels.to_rgb` takes it, or an image of Pillow."""


def load(
    path: str | os.PathLike[str],
    *,
    device: str | None = None,
    threads: int | None = None,
    threshold: float | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> Predictor:
    """Open a model.

    Args:
        path: an exported file (.onnx, .xml, .engine), or the folder of a detector, which needs
            torch.
        device: "cpu", "cuda" or "tensorrt" for a file, "cpu", "cuda" ... for a detector; None for
            the best there is.
        threads: CPU threads of a file's network; None for all cores.
        threshold: raw score that is anomalous; None for the model's own.
        weights: a detector's backbone weights, if they moved since training.

    Raises:
        ArtifactError: not a model, cut off, of a newer format, or made for another machine.
        MissingExtraError: the library that runs it is not installed.
        UsageError: the device cannot run it, or an option is of the other kind of model.
    """
    opened = open_model(path, device=device, threads=threads, weights=weights)
    return Predictor(opened, threshold=threshold, name=os.fspath(path))


def open_model(
    path: str | os.PathLike[str],
    *,
    device: str | None = None,
    threads: int | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> Session:
    """A session on an exported file, or on the folder of a detector; see `load`."""
    path = Path(path)
    if not path.is_dir():
        if weights is not None:
            raise UsageError(f"{path} carries its weights; `weights` is for a detector's folder")
        return open_session(path, threads=threads, device=device)
    if threads is not None:
        raise UsageError(
            f"{path} is a detector's folder, whose threads torch decides",
            remedy="call torch.set_num_threads, or export the detector",
        )
    require_extra("running a detector", "train", "torch", "timm", "safetensors")
    import torch

    from generalad.model.session import TorchSession
    from generalad.model.storage import load_detector

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    trained = load_detector(path, weights=None if weights is None else Path(weights), device=place)
    return TorchSession(trained)


class Predictor(Closing):
    """A model that is open: images in, predictions out.

    May be used from several threads: they decode and resize side by side and take turns at the
    network, which has a lock. A `Prediction` belongs to the thread that got it. Close it, or use
    it in a `with` block, to free the network at a certain moment; else it is freed with the object.

    Attributes:
        spec: the record of the model: input size, thresholds, class name, provenance.
        backend: library, version and device that run it.
        precision: in which what is not quantised is computed: "fp32", "bf16" or "fp16".
    """

    def __init__(
        self, session: Session, *, threshold: float | None = None, name: str = "model"
    ) -> None:
        """Take over an open session, which is closed here."""
        self.spec: Spec = session.spec
        self.backend: str = session.backend
        self.precision: str = session.precision
        self._threshold = threshold
        self._level = Rule(threshold).level(self.spec)
        self._name = name
        self._session = SharedSession(session, name)
        known = session.spec.reference
        self._limits = None if known is None else Limits(known)

    @overload
    def predict(  # type: ignore[overload-overlap]  # a str is an iterable too
        self,
        images: str | os.PathLike[str] | PillowImage,
        *,
        batch_size: int = ...,
        bgr: bool = ...,
    ) -> Prediction: ...
    @overload
    def predict(self, images: NDArray[Any], *, batch_size: int = ..., bgr: bool = ...) -> Any: ...
    @overload
    def predict(
        self, images: Iterable[OneImage], *, batch_size: int = ..., bgr: bool = ...
    ) -> Iterator[Prediction]: ...
    def predict(
        self, images: OneImage | Iterable[OneImage], *, batch_size: int = 8, bgr: bool = False
    ) -> Any:
        """Score one image, or many.

        Args:
            images: one image: a path, an array (H, W, 3) or (H, W), uint8 RGB, or an image of
                Pillow; what else is taken, and how, says `pixels.to_rgb`. Or many: an array
                (B, H, W, 3) or any iterable, whose images may be mixed in kind and size and are
                taken as the predictions are.
            batch_size: images a run of the network, where there are many. With an iterator as slow
                as a camera, take 1: a prediction comes when its batch is full.
            bgr: whether arrays are BGR as OpenCV reads them; files and Pillow's images are known.

        Returns:
            A `Prediction` of one image, an iterator of them of many, in their order. Of many, one
            that cannot be decoded has an `error`, and the others are still done.

        Raises:
            DataError: the one image is missing or cannot be decoded.
            UsageError: what is no image, such as an array of floats; nothing at all; the model is
                closed. Of many, when its turn comes, as whatever the iterable itself raises.
        """
        if batch_size < 1:
            raise UsageError(f"batch size must be at least 1, found {batch_size}")
        if _is_one(images):
            return self._one(images, bgr)
        if isinstance(images, np.ndarray) and images.ndim == 4 and len(images):
            check_pixels(images[0])
        if isinstance(images, (bytes, bytearray, Mapping)) or not isinstance(images, Iterable):
            raise UsageError(
                f"expected an image or several, found {type(images).__name__}",
                remedy="give paths, arrays (H, W, 3) uint8 or images of Pillow",
            )
        if isinstance(images, Sized) and len(images) == 0:
            raise UsageError(
                f"expected at least one image, found an empty {type(images).__name__}",
                remedy="check where the images come from",
            )
        return self._many(iter(images), max(batch_size, self._session.fixed_batch or 1), bgr)

    def stream(
        self,
        *sources: Given | Sequence[Given],
        batch_size: int | Literal["auto"] = 1,
        on_notification: Callable[[Notification], None] | None = None,
    ) -> Iterator[Prediction]:
        """Score whatever `gad infer` reads, one frame at a time.

        Args:
            sources: files, folders, patterns, videos, cameras ("rtsp://...", "usb:0"),
                "test://washer", "watch:FOLDER"; or `runtime.Stream`s with rules of their own.
            batch_size: images a run of the network, or "auto" for what is fastest on this machine.
            on_notification: called, in another thread, when a camera is lost or comes back.

        Returns:
            An iterator of predictions. What cannot be read has an `error`, an image that shows a
            fault of its camera a `fault`. Cameras go on until the loop is left, by break or by an
            exception; then they are freed. While the loop works on one frame, those that come in
            between are dropped, so the next one is new; files wait.

        Raises:
            DataError: a source that does not exist; or, when all others have ended, a camera that
                no further attempt could have helped.
        """
        from generalad.runtime.iterate import iterate

        self._session.check_open()
        given = sources[0] if len(sources) == 1 else sources
        found = iterate(
            self._session,
            given,  # type: ignore[arg-type]
            batch_size=batch_size,
            threshold=self._threshold,
            on_notification=on_notification,
        )
        return (Prediction.of_frame(self.spec, *one) for one in found)

    def prepare(self, image: OneImage, *, index: int = 0, bgr: bool = False) -> Prepared:
        """Decode and resize one image, for `score`; may be called in several threads at once.

        Args:
            image: see `predict`.
            index: its position among others.
            bgr: see `predict`.

        Raises:
            DataError: it is missing or cannot be decoded.
            UsageError: it is no image.
        """
        began = perf_counter()
        # Asking for an array first is faster.
        if isinstance(image, np.ndarray) or not isinstance(image, (str, os.PathLike)):
            path, pixels = "", to_rgb(image, bgr=bgr, name=f"image {index}")
        else:
            path = os.fspath(image)
            if os.path.isdir(path):
                raise UsageError(
                    f"{path} is a folder, expected one image", remedy="give it to model.stream"
                )
            pixels = read_image(path)
        read = perf_counter()
        fault, placement = None, None
        try:
            resized, placement = bring_to_network(pixels, self.spec.image_size, self.spec.geometry)
            if self._limits is not None:
                strange = self._limits.of_image(resized, (pixels.shape[0], pixels.shape[1]))
                fault = None if strange is None else str(strange)
        except PartNotFound as missing:
            resized, fault = np.empty((0, 0, 3), np.uint8), f"{NOT_FOUND}: {missing.message}"
        ready = perf_counter()
        height, width, _ = pixels.shape
        return Prepared(
            index, path, pixels, (height, width), resized, began, read, ready, placement, fault
        )

    def score(self, batch: Sequence[Prepared | Prediction]) -> Iterator[Prediction]:
        """Run the network once on images from `prepare`; those that failed before pass through."""
        batch = [self._refused(taken) for taken in batch]
        ready = [taken for taken in batch if isinstance(taken, Prepared)]
        outputs: Iterator[tuple[np.float32, NDArray[np.float32]]] = iter(())
        if ready:
            scores, maps = self._session.run(np.stack([taken.resized for taken in ready]))
            outputs = zip(scores, maps, strict=True)
        done = perf_counter()
        for taken in batch:
            if isinstance(taken, Prediction):
                yield taken
            else:
                score, anomaly_map = next(outputs)
                yield self._prediction(taken, float(score), anomaly_map, done, len(ready))

    def _refused(self, taken: Prepared | Prediction) -> Prepared | Prediction:
        """What is said of an image that is not to be scored; others as they are."""
        if isinstance(taken, Prediction) or taken.fault is None or taken.resized.size:
            return taken
        name, size = taken.path, taken.image_size
        return Prediction.refused(self.spec, name, taken.position, taken.fault, taken.image, size)

    @property
    def session(self) -> SharedSession:
        """The open model, for `infer`; it takes turns with this predictor and ends with it."""
        return self._session

    def close(self) -> None:
        """Free the network, after the run that goes on; a second call does nothing."""
        self._session.close()

    def __repr__(self) -> str:
        height, width = self.spec.image_size
        return (
            f"<Predictor {self._name}: {self.spec.class_name}, {height} x {width}, {self.backend}>"
        )

    def _one(self, image: OneImage, bgr: bool) -> Prediction:
        taken = self.prepare(image, bgr=bgr)
        if isinstance(refused := self._refused(taken), Prediction):
            return refused
        scores, maps = self._session.run(taken.resized[None])
        found = self._prediction(taken, scores.item(), maps[0], perf_counter(), 1)
        if found.error is not None:
            raise GadError(found.error, remedy="check this device with generalad.selftest")
        return found

    def _many(self, images: Iterator[OneImage], size: int, bgr: bool) -> Iterator[Prediction]:
        first = 0
        while True:
            batch, failure = self._take(images, first, size, bgr)
            yield from self.score(batch)
            if failure is not None:
                raise failure
            if len(batch) < size:
                return
            first += size

    def _take(
        self, images: Iterator[OneImage], first: int, size: int, bgr: bool
    ) -> tuple[list[Prepared | Prediction], Exception | None]:
        """The next images, ready for the network or failed; and what ended them, if an error did.

        The error waits until the images before it are answered.
        """
        batch: list[Prepared | Prediction] = []
        for index in range(first, first + size):
            try:
                image = next(images)
            except StopIteration:
                break
            except Exception as error:
                return batch, error
            try:
                taken = self.prepare(image, index=index, bgr=bgr)
                # Else a list of all predictions would be a list of all images.
                batch.append(taken._replace(image=None) if taken.path else taken)
            except DataError as error:
                batch.append(Prediction.failed(self.spec, _path_of(image), index, error.message))
            except UsageError as error:
                return batch, error
        return batch, None

    def _prediction(
        self,
        taken: Prepared,
        score: float,
        anomaly_map: NDArray[np.float32],
        done: float,
        share: int,
    ) -> Prediction:
        if not is_finite(score, anomaly_map):
            name = taken.path or f"image {taken.position}"
            error = f"{name}: the network returned a number that is not finite"
            return Prediction.failed(self.spec, taken.path, taken.position, error)
        times = (
            (taken.read - taken.began) * 1000,
            (taken.ready - taken.read) * 1000,
            (done - taken.ready) * 1000 / share,
            (done - taken.began) * 1000,
        )
        match = None if taken.placement is None else taken.placement.match
        scored = Scored(taken.path, taken.position, score, self._level, match, times, taken.fault)
        anomaly_map = framed(anomaly_map, taken.placement, self.spec)
        return Prediction(self.spec, scored, anomaly_map, taken.image, taken.image_size)


def _is_one(images: object) -> TypeGuard[OneImage]:
    if isinstance(images, np.ndarray):
        return images.ndim not in (1, 4)  # of paths, of images
    return isinstance(images, (str, os.PathLike)) or is_pixels(images)


def _path_of(image: object) -> str:
    return os.fspath(image) if isinstance(image, (str, os.PathLike)) else ""


class Prepared(NamedTuple):
    """An image that is ready for the network.

    Attributes:
        position: among others.
        path: of its file, or empty.
        image: (H, W, 3) uint8 RGB; None where it can be read again, or nobody asks for it.
        image_size: (height, width) of it.
        resized: (h, w, 3) uint8 RGB of the network's size.
        began: when its reading began, in seconds of `time.perf_counter`.
        read: when it had been decoded.
        ready: when it had been resized.
        placement: where what the network sees lies in it; None for all of it.
        fault: how it lies beyond the images of the calibration, or None; without pixels in
            `resized` it is not to be scored.
    """

    position: int
    path: str
    image: NDArray[np.uint8] | None
    image_size: tuple[int, int]
    resized: NDArray[np.uint8]
    began: float
    read: float
    ready: float
    placement: Placement | None = None
    fault: str | None = None
