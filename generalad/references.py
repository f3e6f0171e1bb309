"""Plain methods beside a detector: what a Gaussian and a memory of patches find with its features.

A trained head should not see less than its own input. Both references learn in seconds from the
training images of the same dataset, with the detector's backbone and input size.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from generalad.data.dataset import Dataset
from generalad.errors import UsageError
from generalad.evaluation import Evaluated, evaluate
from generalad.model.storage import load_detector
from generalad.progress import Progress
from generalad.training.train import train_detector

METHODS = ("gaussian", "patchcore")


def evaluate_references(
    detector: str | Path,
    data: Dataset,
    *,
    weights: str | Path | None = None,
    device: str | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Evaluated]:
    """Train the reference methods beside a detector and measure them on the same test images.

    Args:
        detector: folder of a detector.
        data: with training and test images.
        weights: of the backbone, if they moved since training.
        device: "cpu", "cuda", ...; None for a GPU if there is one.
        cache: folder of the feature cache; None for the user's cache.
        progress: told how far each stage is.

    Returns:
        By method, but for the detector's own.

    Raises:
        UsageError: an exported file, which holds no backbone that could be learned with.
    """
    if not Path(detector).is_dir():
        raise UsageError(
            f"{detector}: references take the folder of a detector, not an exported file",
            remedy="give the folder that gad train wrote",
        )
    path = None if weights is None else Path(weights)
    config = load_detector(Path(detector), weights=path).detector.config
    found = {}
    for method in METHODS:
        if method == config.method:
            continue
        with tempfile.TemporaryDirectory(prefix="gad-reference-") as folder:
            train_detector(
                data,
                Path(folder) / method,
                config.replaced({"method": method}),
                weights=path,
                device=device,
                skip_bad=True,
                cache=cache,
                progress=progress,
            )
            found[method] = evaluate(
                Path(folder) / method, data, weights=weights, device=device, progress=progress
            )
    return found
