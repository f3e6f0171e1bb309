"""The published rule: the epoch with the best image AUROC on the test set.

It is an upper bound, for the epoch was chosen on the images that it is measured on.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from generalad.errors import ArtifactError
from generalad.files import atomic_write
from generalad.model.detector import Detector
from generalad.reproduction.cached_test_images import CachedTestImages
from generalad.training.loop import EpochEnd

DIGITS = 3
"""The published code rounds the AUROC before it compares; of equal epochs the first is taken."""


class BestEpoch:
    """An `EpochChoice`; what is best so far lies in a file and survives a kill.

    Args:
        file: for the best weights so far.
        images: to choose on.
    """

    def __init__(self, file: Path, images: CachedTestImages) -> None:
        self.file, self.images = file, images
        self.epoch, self.best = 0, -1.0
        self._detector: Detector | None = None

    def watch(self, detector: Detector, weights_sha256: str) -> None:
        """See `EpochChoice`."""
        from safetensors import safe_open

        self._detector = detector
        self.images.prepare(detector, weights_sha256)
        if self.file.exists():
            with _readable(self.file), safe_open(self.file, framework="pt") as opened:
                found = opened.metadata()
                self.epoch, self.best = int(found["epoch"]), float(found["image_auroc"])

    def after(self, end: EpochEnd) -> None:
        """See `EpochChoice`."""
        from safetensors.torch import save

        assert self._detector is not None
        found = round(self.images.image_auroc(self._detector), DIGITS)
        if found <= self.best:
            return
        self.epoch, self.best = end.number, found
        state = self._detector.trained_state()
        plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        metadata = {"epoch": str(end.number), "image_auroc": str(found)}
        with atomic_write(self.file) as path:
            path.write_bytes(save(plain, metadata=metadata))

    def settle(self) -> dict[str, Any]:
        """See `EpochChoice`."""
        from safetensors.torch import load_file

        assert self._detector is not None
        if not self.file.exists():
            return {"selection_rule": "no epochs to choose from"}
        with _readable(self.file):
            self._detector.load_trained_state(load_file(self.file))
        return {
            "selection_rule": "best epoch by image AUROC on the test set, measured after each",
            "epoch": self.epoch,
        }


@contextlib.contextmanager
def _readable(file: Path) -> Any:
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError(
            f"{file} is damaged or belongs to another run",
            remedy="delete the folder of that run; it is then trained again",
        ) from error
