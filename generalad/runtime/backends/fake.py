"""A session without a network, for trying pipelines, sinks and integrations anywhere."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad import spec as specs
from generalad.errors import UsageError
from generalad.runtime.backends.session import Closing, Outputs, check_images
from generalad.spec import RESIZE_RULE, Spec


class FakeSession(Closing):
    """Takes for anomalous what differs in brightness from the rest of the image.

    map = |brightness - median brightness| / 255 at the spec's map size, score = the map's maximum:
    0 for an even image, at most 1. Deterministic, and independent of the other images.
    """

    backend = "fake"
    precision = "fp32"
    fixed_batch = None

    def __init__(self, spec: Spec | None = None) -> None:
        self._spec = spec or fake_spec()
        self._open = True

    @property
    def spec(self) -> Spec:
        """The spec given, or `fake_spec()`."""
        return self._spec

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """See `Session.run`."""
        if not self._open:
            raise UsageError("the session is closed")
        check_images(images, self._spec)
        maps = np.stack([self._map(image) for image in images])
        return Outputs(maps.max(axis=(1, 2)), maps)

    def _map(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        height, width = self._spec.map_size
        grey = image.mean(axis=2, dtype=np.float32)
        small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(np.abs(small - np.median(small)) / 255, np.float32)

    def close(self) -> None:
        """Refuse further runs."""
        self._open = False


def fake_spec() -> Spec:
    """Of a 64 x 64 detector with 16 x 16 maps and both thresholds at 0.25."""
    return Spec(
        method="fake",
        class_name="fake",
        image_size=(64, 64),
        map_size=(16, 16),
        resize=RESIZE_RULE,
        top_k=1,
        backbone=specs.Backbone(name="none", layers=(), weights="none", weights_sha256=""),
        training_set=specs.TrainingSet(fingerprint="", images=0),
        calibration=specs.Calibration(method="fixed", images=0, target=0.0, reached=0.0),
        thresholds=specs.Thresholds(image=0.25, pixel=0.25),
        normalisation=specs.Normalisation(scale=0.1),
    )
