"""The trained detector behind the interface of the runtime, so both are measured the same way."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from generalad.model.storage import Trained
from generalad.runtime.backends.session import Closing, Outputs, check_images
from generalad.spec import Spec


class TorchSession(Closing):
    """A `Session` that runs the detector in float32 with torch; outputs belong to the caller."""

    def __init__(self, trained: Trained) -> None:
        self._detector = trained.detector.eval()
        self._spec = trained.spec
        self._device = next(trained.detector.parameters()).device

    @property
    def spec(self) -> Spec:
        """The record of the detector."""
        return self._spec

    @property
    def backend(self) -> str:
        """Such as "torch 2.14.1, cpu"."""
        return f"torch {torch.__version__}, {self._device}"

    @property
    def precision(self) -> str:
        """Float32."""
        return "fp32"

    @property
    def fixed_batch(self) -> int | None:
        """None: any batch size."""
        return None

    @torch.inference_mode()
    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """See `Session.run`."""
        check_images(images, self._spec)
        scores, maps = self._detector(torch.from_numpy(images).to(self._device))
        return Outputs(scores.cpu().numpy(), maps.cpu().numpy())
