"""`Version`: an artifact that is loaded, has passed its golden samples, and scores what comes."""

from __future__ import annotations

import time
from pathlib import Path

from generalad.errors import ArtifactError, UsageError
from generalad.files import sha256_of_file
from generalad.predictor import Predictor
from generalad.runtime.backends.onnx_hash import check_unchanged
from generalad.runtime.backends.open import open_for_pipeline
from generalad.runtime.backends.session import Session
from generalad.runtime.backends.signature import check_as_asked
from generalad.runtime.selftest import SelfTest, selftest_of
from generalad.serve.batcher import Batcher
from generalad.serve.settings import Settings

_BATCH_OF_A_GPU = 8


class Version:
    """An artifact that is loaded and has passed its golden samples.

    Attributes:
        name: of its file.
        path: of its file.
        sha256: of its file.
        predictor: scores images.
        batcher: collects them.
        selftest: what the golden samples gave.
        loaded: seconds since 1970.
    """

    def __init__(self, path: Path, settings: Settings, *, class_name: str | None) -> None:
        """Load and test; `class_name` is what it must be for.

        Raises:
            GadError: it cannot be loaded, is for another class, or its golden samples differ.
        """
        session = open_for_pipeline(path, threads=settings.threads, device=settings.device)
        try:
            if path.suffix.lower() == ".onnx":
                check_unchanged(path)
            if class_name not in (None, session.spec.class_name):
                raise ArtifactError(
                    f"{path.name} is for {session.spec.class_name!r}, the model for {class_name!r}",
                    remedy="serve it as a model of its own",
                )
            _check_frame(session, path.name, settings.max_megapixels)
            self.selftest: SelfTest = selftest_of(session, path.name)
            self.selftest.check()
            check_as_asked(path)  # once more: not exchanged between that and loading
        except BaseException:
            session.close()
            raise
        self.path, self.name, self.sha256 = path, path.name, sha256_of_file(path)
        self.predictor = Predictor(session, name=path.name)
        self.batcher = Batcher(
            self.predictor.score,
            size=settings.batch or _batch_for(session),
            max_wait=settings.max_wait,
            name=path.stem,
        )
        self.loaded = time.time()

    def seconds_an_image(self) -> float:
        """That the network needs for one."""
        run = self.batcher.counts()
        return run.seconds / run.images if run.images else 0.05

    def close(self) -> None:
        """Free the network when what waits is answered."""
        self.batcher.close()
        self.predictor.close()


def _check_frame(session: Session, name: str, most: float) -> None:
    """Frames that are cut have one size, and a service that refuses it could answer nothing."""
    geometry = session.spec.geometry
    if geometry is None or geometry.tiles is None:
        return
    height, width = geometry.tiles.frame
    if height * width > most * 1e6:
        raise UsageError(
            f"{name} judges frames of {height * width / 1e6:.1f} megapixels, and"
            f" --max-megapixels is {most:g}",
            remedy="allow as much, and --max-body for its files",
        )


def _batch_for(session: Session) -> int:
    """On a processor 1: batches are no faster there, and round otherwise in the last bits."""
    return 1 if ", CPU" in session.backend else _BATCH_OF_A_GPU
