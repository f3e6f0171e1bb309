"""`PredictionRequests`: from the bytes of a request to predictions, within the bounds.

    body ──► images ──► decode and resize, in threads ──► batcher ──► predictions
      │ 413, 408, 429      │ 429: too many in flight         │ 503: too late

All counting is done in the loop's thread.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from generalad.errors import DataError
from generalad.image_formats.accept import check_header
from generalad.prediction import Prediction
from generalad.preprocess import decode_image
from generalad.serve import answers
from generalad.serve.batcher import Closed
from generalad.serve.models import Model
from generalad.serve.settings import Settings
from generalad.serve.uploads import Buffers, Refused, Upload, images_in, read_body
from generalad.serve.version import Version

_BODIES = 8
"""Bodies of the largest size that all bodies in memory may take together."""

_LARGE = 4e6
"""Pixels from which images are decoded one at a time, so that they hold up no smaller ones."""

_LONGEST_WAIT = 30
"""Seconds that a client is asked to wait at most."""


class ClientGone(Exception):
    """Nobody waits for the answer, so what is left of the work is not done."""


class PredictionRequests:
    """Answers requests for predictions.

    Attributes:
        in_flight: images that are decoded, wait or are scored.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._buffers = Buffers(_BODIES * settings.max_body)
        self._decoders = ThreadPoolExecutor(settings.decoders, thread_name_prefix="gad-decode")
        self._large = ThreadPoolExecutor(1, thread_name_prefix="gad-decode-large")
        self.in_flight = 0

    async def answer(
        self,
        model: Model,
        chunks: AsyncIterator[bytes],
        gone: Callable[[], Awaitable[object]],
        *,
        length: str | None,
        content_type: str,
        with_map: bool,
    ) -> dict[str, Any]:
        """What the model says of the images of a request.

        Args:
            model: whose version serves now.
            chunks: of the body.
            gone: comes back when the client has gone away; asked after the body.
            length: the header Content-Length.
            content_type: the header.
            with_map: whether maps are asked for.

        Raises:
            ClientGone: nobody waits for the answer.
            Refused: with the status of the answer.
        """
        self._check_room(1, model)  # before anything is read
        body = await read_body(
            chunks,
            length,
            self._buffers,
            most=self._settings.max_body,
            seconds=self._settings.client_timeout,
        )
        size = len(body)
        try:
            uploads = images_in(body, content_type, most=self._settings.max_in_flight)
            self._check_room(len(uploads), model)
            self.in_flight += len(uploads)
            try:
                return await self._in_time(self._predict(model, uploads, with_map), gone, model)
            finally:
                self.in_flight -= len(uploads)
        finally:
            self._buffers.give_back(size)

    async def _in_time(
        self,
        work: Coroutine[Any, Any, dict[str, Any]],
        gone: Callable[[], Awaitable[object]],
        model: Model,
    ) -> dict[str, Any]:
        """What some work comes to, unless it takes too long or the client goes away."""
        working, going = asyncio.ensure_future(work), asyncio.ensure_future(gone())
        try:
            await asyncio.wait(
                {working, going},
                timeout=self._settings.timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if working.done():
                return working.result()
            if going.done():
                raise ClientGone
            raise Refused(
                503,
                f"no answer within {self._settings.timeout:g} s",
                remedy="send fewer images at a time",
                retry_after=self._wait(model),
            )
        finally:
            for task in (working, going):
                task.cancel()
            await asyncio.gather(working, going, return_exceptions=True)

    def close(self) -> None:
        """End the threads."""
        self._decoders.shutdown(cancel_futures=True)
        self._large.shutdown(cancel_futures=True)

    def _decode(self, version: Version, number: int, upload: Upload) -> Future[Future[Prediction]]:
        """Begin to decode an image, in a thread for its size."""
        try:
            pixels = _pixels(upload, number, self._settings.max_megapixels)
        except DataError as error:
            failed: Future[Future[Prediction]] = Future()
            failed.set_exception(error)
            return failed
        threads = self._large if pixels > _LARGE else self._decoders
        return threads.submit(_prepare, version, number, upload)

    def _check_room(self, images: int, model: Model) -> None:
        if self.in_flight + images > self._settings.max_in_flight:
            raise Refused(
                429,
                f"{self.in_flight} images are in flight, at most {self._settings.max_in_flight}",
                remedy="send the request again later",
                retry_after=self._wait(model),
            )

    def _wait(self, model: Model) -> int:
        """Seconds after which what is in flight will be done."""
        needed = self.in_flight * model.current.seconds_an_image()
        return max(1, min(_LONGEST_WAIT, math.ceil(needed)))

    async def _predict(
        self, model: Model, uploads: Sequence[Upload], with_map: bool
    ) -> dict[str, Any]:
        while True:
            version = model.current
            try:
                found = await self._score(model, version, uploads)
                break
            except Closed:  # exchanged twice while the images were decoded
                continue
        predictions = [
            answers.prediction(each, upload.name, with_map=with_map)
            for each, upload in zip(found, uploads, strict=True)
        ]
        return {"model": model.name, "version": version.name, "predictions": predictions}

    async def _score(
        self, model: Model, version: Version, uploads: Sequence[Upload]
    ) -> list[Prediction]:
        """Predictions of images; raises Refused where the only one cannot be read."""
        began, alone = time.perf_counter(), len(uploads) == 1
        version.batcher.coming(len(uploads))
        decoding = [self._decode(version, number, upload) for number, upload in enumerate(uploads)]
        for each in decoding:  # decoded, failed or cancelled
            each.add_done_callback(lambda _: version.batcher.coming(-1))
        try:
            scoring = await asyncio.gather(
                *map(asyncio.wrap_future, decoding), return_exceptions=True
            )
            if alone and isinstance(scoring[0], DataError):
                model.count(None, 0.0)
                raise Refused(422, scoring[0].message, remedy=scoring[0].remedy)
            found = await asyncio.gather(
                *(_prediction(version, one, number) for number, one in enumerate(scoring))
            )
        finally:
            for each in decoding:
                each.cancel()
                each.add_done_callback(_forget)
        for prediction in found:
            model.count(prediction, time.perf_counter() - began)
        return found


def _pixels(upload: Upload, number: int, megapixels: float) -> int:
    """Of an image as its header says; raises DataError where they are too many, or it is none."""
    name = _name(upload, number)
    header = check_header(upload.data, name)
    pixels = header.width * header.height
    if pixels > megapixels * 1e6:
        raise DataError(
            f"{name}: {header.width} x {header.height} pixels are {pixels / 1e6:.0f} megapixels,"
            f" this service takes {megapixels:g}",
            remedy="make it smaller",
        )
    return pixels


def _name(upload: Upload, number: int) -> str:
    return upload.name or f"image {number}"


def _prepare(version: Version, number: int, upload: Upload) -> Future[Prediction]:
    """Decode an image and have it scored, without its pixels; raises DataError, Closed."""
    pixels = decode_image(upload.data, name=_name(upload, number))
    prepared = version.predictor.prepare(pixels, index=number)
    return version.batcher.submit(prepared._replace(image=None))


async def _prediction(
    version: Version, scoring: Future[Prediction] | BaseException, number: int
) -> Prediction:
    """What is found in an image, or why it could not be read."""
    if isinstance(scoring, Future):
        return await asyncio.wrap_future(scoring)
    if not isinstance(scoring, DataError):
        raise scoring
    return Prediction.failed(version.predictor.spec, "", number, scoring.message)


def _forget(decoding: Future[Future[Prediction]]) -> None:
    """Have an image that nobody waits for any more not scored."""
    if not decoding.cancelled() and decoding.exception() is None:
        decoding.result().cancel()
