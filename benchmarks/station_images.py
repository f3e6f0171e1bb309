"""Parts and recipes of the test bed of `station.py`: for arithmetic, or for a real artifact."""

from __future__ import annotations

import base64
import dataclasses
import shutil
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from shared import tiny_artifact

from generalad.preprocess import resize
from generalad.runtime.backends.fake import fake_spec
from generalad.runtime.backends.open import open_session
from generalad.runtime.selftest import golden_images
from generalad.spec import GoldenSample, Thresholds

Image = NDArray[np.uint8]


def prepare_recipes(folder: Path, artifact: Path | None) -> dict[str, Path]:
    """Two that work, and a third one that cannot be opened."""
    recipes = {name: folder / f"{name}.onnx" for name in ("washer", "other", "broken")}
    if artifact is None:
        artifact = arithmetic(folder)
    for name in ("washer", "other"):
        shutil.copy(artifact, recipes[name])
    recipes["broken"].write_bytes(recipes["washer"].read_bytes()[:500])
    return recipes


def arithmetic(folder: Path) -> Path:
    """A network whose score is the brightest spot, with a golden sample."""
    spec = dataclasses.replace(fake_spec(), thresholds=Thresholds(image=0.6, pixel=0.6))
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    with open_session(tiny_artifact(folder / "bare.onnx", spec)) as session:
        scores, maps = session.run(image[None])
    png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    golden = GoldenSample(base64.b64encode(png).decode(), float(scores[0]), float(maps[0].max()))
    return tiny_artifact(folder / "golden.onnx", dataclasses.replace(spec, golden=(golden,)))


def images(artifact: Path | None) -> tuple[list[Image], list[Image]]:
    """Pictures that pass and that are rejected; golden images of an artifact, and other parts."""
    if artifact is None:
        rng = np.random.default_rng(1)
        good = [rng.integers(60, 120, (96, 96, 3), np.uint8) for _ in range(8)]
        bad = [image.copy() for image in good]
        for image in bad:
            image[30:60, 30:60] = 255
        return good, bad
    from generalad.synth import render_part

    rng = np.random.default_rng(1)
    with open_session(artifact) as session:
        spec = session.spec
        side = spec.image_size[0]
        drawn = [render_part("washer", rng, size=side)[0] for _ in range(4)]
        found = [*golden_images(spec, artifact.name), *(resize(i, spec.image_size) for i in drawn)]
        scores = [float(session.run(image[None]).scores[0]) for image in found]
    # What is near the threshold says nothing of the station.
    level, clear = spec.thresholds.image, spec.normalisation.scale * 0.5
    good = [large(i) for i, score in zip(found, scores, strict=True) if score < level - clear]
    bad = [large(i) for i, score in zip(found, scores, strict=True) if score > level + clear]
    return good, bad


def large(image: Image) -> Image:
    """16 times the pixels, as of a real camera; the network's resize gives the same again."""
    return np.ascontiguousarray(image.repeat(4, axis=0).repeat(4, axis=1))
