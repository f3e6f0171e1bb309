"""How long a training run will take on this machine, from a few forward passes and one step."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from generalad.config import PRESETS, QUICK_PRESET, Config
from generalad.model.backbone import normalise
from generalad.model.detector import Detector
from generalad.model.heads import GeneralADHead, KDADHead, SimpleNetHead
from generalad.progress import in_words
from generalad.training.kdad import add_gradients
from generalad.training.precision import autocast, feature_dtype, training_dtype
from generalad.training.simplenet import objective
from generalad.training.step import PATCHES, Step

LONG = 3600.0
"""Seconds from which on a run is announced."""

_CALLS = 6  # the first ones are slow
_SURE = 2.0  # seconds after which what is done only once no longer counts


@dataclass(frozen=True)
class Duration:
    """Seconds of the two long stages."""

    features: float
    training: float

    def announcement(self, config: Config) -> str:
        """A line for whoever waits, with what is quicker; "" where it is not long."""
        total = self.features + self.training
        if total < LONG:
            return ""
        quicker = "" if config == PRESETS[QUICK_PRESET] else f"--preset {QUICK_PRESET} is quick; "
        return (
            f"this will take about {in_words(total)} on this machine"
            f" (features {in_words(self.features)}, {config.epochs} epochs"
            f" {in_words(self.training)}) → {quicker}a GPU, fewer --epochs or a smaller"
            " --image-size shorten it"
        )


def estimate(detector: Detector, config: Config, *, images: int, cached: int) -> Duration:
    """Measure on random numbers; the detector and all sources of chance stay as they are.

    Args:
        detector: on the device of the training.
        config: the schedule.
        images: to train on.
        cached: those whose features need not be computed.
    """
    device = next(detector.parameters()).device
    cuda = [device] if device.type == "cuda" else []
    features = 0.0
    with torch.random.fork_rng(devices=cuda):
        if cached < images:
            features = (images - cached) * _image_seconds(detector, device)
        images = min(images, config.epoch_images or images)
        batch = min(config.batch_size, images)
        steps = config.epochs * (images // batch)
        return Duration(features, steps * batch * _training_seconds(detector, batch, device))


@torch.inference_mode()
def _image_seconds(detector: Detector, device: torch.device) -> float:
    """Of the backbone on one image."""
    backbone = detector.backbone
    count = 1 if device.type == "cpu" else 16
    blank = torch.zeros(count, *detector.config.image_size, 3, dtype=torch.uint8, device=device)

    def work() -> None:
        with autocast(device, feature_dtype(device)):
            backbone(normalise(blank, backbone.mean, backbone.std))

    return _seconds(work, device) / count


def _training_seconds(detector: Detector, batch: int, device: torch.device) -> float:
    """Of a training step, for each image in it."""
    config, head = detector.config, copy.deepcopy(detector.head).train()
    # On a CPU a step goes through its batch in parts of this size anyway.
    count = batch if device.type != "cpu" else min(batch, max(1, PATCHES // head.patches))
    generator = torch.Generator(device).manual_seed(0)
    shape = (count, head.patches, head.dim)
    features = torch.randn(shape, generator=generator, device=device)
    if isinstance(head, GeneralADHead):
        attention = torch.rand(count, 1, head.patches, generator=generator, device=device)
        step = Step(head.discriminator, config, device)
        return _seconds(lambda: step(features, attention, generator), device) / count
    if isinstance(head, SimpleNetHead):

        def work() -> None:
            loss = objective(head, features, config.noise_std, generator)
            loss.backward()  # type: ignore[no-untyped-call]

        return _seconds(work, device) / count
    assert isinstance(head, KDADHead)
    images = torch.randn(count, 3, *config.image_size, generator=generator, device=device)
    dtype = training_dtype(device)
    return _seconds(lambda: add_gradients(head, features, images, dtype), device) / count


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of the quickest of some calls; of one, where that is enough."""
    found: list[float] = []
    while len(found) < _CALLS and sum(found) < _SURE:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - start)
    return min(found)
