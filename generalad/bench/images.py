"""The images of a bench: files that the workers read, or one video."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from generalad.errors import DataError, UsageError
from generalad.runtime.addresses import is_live_address, open_sources
from generalad.runtime.videos.video_file import VideoFile

PARTS = 8
SIDE = 640
DRAWN = f"{PARTS} drawn parts of {SIDE} x {SIDE} pixels, JPEG"
"""What is run where no source is named."""

MOST = 64  # images of a folder that are run, and kept in memory: the first of it


@contextlib.contextmanager
def images(source: str | None) -> Iterator[list[str]]:
    """Give paths of encoded images, or of one video; drawn parts are removed afterwards.

    Raises:
        DataError: the source has no images, or its first one cannot be read.
        UsageError: it is a camera.
    """
    if source is not None:
        yield _of_source(source)
        return
    from generalad.synth import render_part

    with tempfile.TemporaryDirectory(prefix="gad-bench-") as folder:
        paths = [str(Path(folder, f"{number}.jpg")) for number in range(PARTS)]
        for number, path in enumerate(paths):
            part, _ = render_part("washer", np.random.default_rng(number), size=SIDE)
            cv2.imwrite(path, part[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        yield paths


def _of_source(address: str) -> list[str]:
    if is_live_address(address) or address == "-":
        raise UsageError(
            f"a bench needs the same images again and again, {address} cannot give them",
            remedy="record a video or some images, and name those",
        )
    source = open_sources([address])[0]
    most = 1 if isinstance(source, VideoFile) else MOST
    paths = []
    with contextlib.closing(iter(source)) as frames:  # type: ignore[type-var]
        for frame in itertools.islice(frames, most):
            if frame.error is not None:
                raise DataError(frame.error, remedy="remove it, or name another source")
            paths.append(str(Path(frame.path).absolute()))
    return paths
