"""Camera faults and drift, measured: what is called a fault wrongly, and what is recognised.

    python benchmarks/faults.py [--data DIR]

Trains a detector with the embedded backbone on the demo parts, and on `--data` (an MVTec class
folder), exports it and runs what `gad infer` runs on the test images: as they are, with faults
put in, and in long random sequences that change half way. The limits were chosen with these
images in sight, so the figures say that they can be told apart, not how often others can.
Takes some minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.config import EMBEDDED, PRESETS
from generalad.data.dataset import open_dataset
from generalad.export.export import export_detector
from generalad.image_statistics import Statistics, reference, statistics
from generalad.preprocess import read_image, resize
from generalad.runtime import Session, open_session
from generalad.runtime.line.drift import WINDOW, DriftMonitor
from generalad.runtime.line.faults import FaultDetector, Limits
from generalad.spec import Reference
from generalad.synth import CATEGORIES, write_dataset
from generalad.training.train import train_detector

Image = NDArray[np.uint8]
Change = Callable[[Image], Image]
Seen = tuple[float, Statistics]

RNG = np.random.default_rng(0)
MOST, SEQUENCES = 60, 20


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="one more class folder with test images")
    options = parser.parse_args()
    print_cost()
    with tempfile.TemporaryDirectory() as name:
        root = write_dataset(Path(name) / "parts", train=100, test_good=100, per_defect=15)
        for data in [root / category for category in CATEGORIES] + [options.data] * bool(
            options.data
        ):
            measure(data, Path(name) / f"run-{data.name}")


def measure(data: Path, folder: Path) -> None:
    """Both tables of one dataset."""
    config = PRESETS[EMBEDDED].replaced({"epochs": 5})
    path = export_detector(train_detector(data, folder, config, cache=folder / "cache")).path
    test = open_dataset(data).test
    good, defective = (
        [read_image(sample.path) for sample in test if sample.defective is kind]
        for kind in (False, True)
    )
    with open_session(path) as session:
        known = session.spec.reference
        assert known is not None
        limits, size = Limits(known), session.spec.image_size
        print(f"\n{data.name}: {known.images} calibration images, input {size}")
        print(row("good", good, limits, size))
        print(row("defective", defective, limits, size))
        for fault, change in FAULTS.items():
            print(row(fault, [change(image) for image in good[:MOST]], limits, size))
        print(few(data, good + defective, size))
        print(f"  frozen after: {frozen(known, resize(good[0], size))}")
        for name, change in GROSS.items():
            print(f"  one in 20 {name}: {told(known, good, size, change, lambda n: n % 20 == 10)}")
        print(f"  black, two of three: {told(known, good, size, np.zeros_like, lambda n: n % 3)}")
        drift(known, session, good)


def row(name: str, images: Sequence[Image], limits: Limits, size: tuple[int, int]) -> str:
    """One line: what images are called."""
    found = [limits.fault(*described(image, size)) for image in images]
    counts = Counter("no fault" if fault is None else fault.kind for fault in found)
    words = ", ".join(f"{kind} {count}" for kind, count in counts.most_common())
    return f"  {name:<24} {len(images):>4}: {words}"


def described(image: Image, size: tuple[int, int]) -> tuple[Statistics, tuple[int, int]]:
    """Statistics and original size."""
    return statistics(resize(image, size)), (image.shape[0], image.shape[1])


def few(data: Path, test: Sequence[Image], size: tuple[int, int], count: int = 5) -> str:
    """Wrong faults when only `count` images were there to calibrate on."""
    train = [described(read_image(sample.path), size) for sample in open_dataset(data).train]
    seen, wrong = [described(image, size) for image in test], 0
    for _ in range(SEQUENCES):
        chosen = [train[i] for i in RNG.choice(len(train), count, replace=False)]
        looks, sizes = zip(*chosen, strict=True)
        limits = Limits(reference(np.zeros(count, np.float32), looks, sizes))
        wrong += sum(limits.fault(*one) is not None for one in seen)
    return (
        f"  {f'{count} to calibrate on':<24} wrongly a fault: {wrong / SEQUENCES / len(seen):.2%}"
    )


def frozen(known: Reference, pixels: Image) -> str:
    """When a camera at 10 frames a second that stops is reported."""
    detector = FaultDetector(known)
    for frame in range(300):
        if change := detector.check(pixels, known.largest, frame / 10).change:
            return f"{frame / 10:.1f} s, {change['reason']}"
    return "never"


def told(
    known: Reference,
    good: Sequence[Image],
    size: tuple[int, int],
    change: Change,
    changed: Callable[[int], object],
) -> str:
    """What becomes of the changed ones of 200 images: scored or not, and said or not."""
    detector, count, scored, silent, raised = FaultDetector(known), 0, 0, 0, ""
    for number in range(200):
        image = good[number % len(good)]
        image = change(image) if changed(number) else image
        found = detector.check(resize(image, size), image.shape[:2], number / 10)
        state = found.change["state"] if found.change else ""
        raised = raised or (f", raised at image {number}" if state == "raised" else "")
        if changed(number):
            count += 1
            scored += not found.refused
            silent += found.refused and not found.change and detector.state is None
    return f"{count} images, {scored} scored, {silent} neither scored nor said{raised}"


def drift(known: Reference, session: Session, good: Sequence[Image]) -> None:
    """False alarms in long sequences, and how soon a change is found."""
    as_is = look(session, good)
    median, high = float(np.median(known.scores)), known.scores[-1]
    alarms = sum(len(notifications(known, sample(as_is, 10 * WINDOW))) for _ in range(SEQUENCES))
    print(f"  drift: {alarms} false alarms in {SEQUENCES} sequences of {10 * WINDOW} images")
    still = [resize(good[0], session.spec.image_size)] * 200
    noisy = look(session, [noise(image, 2) for image in still])
    print(
        f"  drift, one part standing still: {len(notifications(known, sample(noisy, 10 * WINDOW)))}"
    )
    shifted = [(score + (high - median), found) for score, found in as_is]
    changed = {name: look(session, [change(p) for p in good]) for name, change in DRIFTS.items()}
    for name, after in {**changed, "score + (maximum - median)": shifted}.items():
        begun = [
            [at - 2 * WINDOW for at, change in notifications(known, sequence) if change["changes"]]
            for _ in range(SEQUENCES)
            for sequence in [sample(as_is, 2 * WINDOW) + sample(after, 2 * WINDOW)]
        ]
        found = [at[0] for at in begun if at]
        last = notifications(known, sample(after, 2 * WINDOW))
        first = last[0][1]["suggestion"].split(":")[0] if last else ""
        soon = f", median after {np.median(found):.0f} images: {first}" if found else ""
        print(f"  drift, {name:<28} found {len(found)} of {SEQUENCES}{soon}")


def look(session: Session, images: Sequence[Image]) -> list[Seen]:
    """Score and statistics of each image."""
    seen = []
    for image in images:
        pixels = np.ascontiguousarray(resize(image, session.spec.image_size))
        seen.append((float(session.run(pixels[None]).scores[0]), statistics(pixels)))
    return seen


def sample(seen: Sequence[Seen], count: int) -> list[Seen]:
    """A random sequence of them."""
    return [seen[i] for i in RNG.integers(0, len(seen), count)]


def notifications(known: Reference, sequence: Sequence[Seen]) -> list[tuple[int, dict[str, Any]]]:
    """What a monitor reports, with the number of the image."""
    monitor, found = DriftMonitor(known), []
    for index, seen in enumerate(sequence):
        if change := monitor.add(*seen):
            found.append((index, change))
    return found


def noise(image: Image, deviation: float) -> Image:
    """With sensor noise."""
    values = image + RNG.normal(0, deviation, image.shape)
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def exposed(stops: float) -> Change:
    """Another exposure; cameras give values that grow with light to the power of 1 / 2.2."""
    factor = 2 ** (stops / 2.2)
    return lambda image: np.asarray(np.clip(image * factor, 0, 255), np.uint8)


def blurred(pixels: float) -> Change:
    """Out of focus by a Gaussian of so many of 256 pixels, with the noise that a sensor adds."""

    def change(image: Image) -> Image:
        sigma = pixels * max(image.shape) / 256
        return noise(np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8), 2)

    return change


def hand(image: Image) -> Image:
    """Something near and unsharp in front of the whole lens."""
    shade = np.linspace(0.5, 1, image.shape[1])[None, :, None]
    skin = np.broadcast_to(np.array([150, 105, 85]) * shade, image.shape)
    return noise(np.asarray(skin, np.uint8), 3)


def compressed(quality: int) -> Change:
    """As JPEG."""

    def change(image: Image) -> Image:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)

    return change


def scaled(width: float, height: float) -> Change:
    """In another size."""
    return lambda image: np.asarray(cv2.resize(image, None, fx=width, fy=height), np.uint8)


def covered(value: int, share: float = 0.4) -> Change:
    """A label over a part of the image, or a part that is missing there."""

    def change(image: Image) -> Image:
        found, (height, width) = image.copy(), image.shape[:2]
        top, left = (round(side * (1 - share**0.5) / 2) for side in (height, width))
        found[top : height - top, left : width - left] = value
        return found

    return change


GROSS: dict[str, Change] = {
    "with a white label on 40 %": covered(255),
    "with a black hole of 40 %": covered(0),
    "with a grey label on 70 %": covered(128, 0.7),
}

FAULTS: dict[str, Change] = {
    "grey camera": lambda image: np.repeat(image.mean(axis=2, keepdims=True), 3, 2).astype(
        np.uint8
    ),
    "red and blue exchanged": lambda image: np.ascontiguousarray(image[..., ::-1]),
    "JPEG 50 (no fault)": compressed(50),
    "black": np.zeros_like,
    "cap with noise": lambda image: noise(np.full_like(image, 8), 5),
    "hand on the lens": hand,
    **{f"blur {sigma} of 256 px": blurred(sigma) for sigma in (1, 2, 4, 8)},
    **{f"exposure {stops:+d} stops": exposed(stops) for stops in (-4, -2, -1, 1, 2, 3, 4)},
    "4:3 from a square": scaled(4 / 3, 1),
    "third of the size": scaled(1 / 3, 1 / 3),
    "three times the size": scaled(3, 3),
}

DRIFTS: dict[str, Change] = {
    "brightness -20 %": lambda image: np.asarray(image * 0.8, np.uint8),
    "brightness -10 %": lambda image: np.asarray(image * 0.9, np.uint8),
    "contrast -20 %": lambda image: np.asarray(image * 0.8 + 0.2 * image.mean(), np.uint8),
    "blur 0.7 of 256 px": blurred(0.7),
    "JPEG 80": compressed(80),
}


def print_cost() -> None:
    """Milliseconds an image for statistics and for the whole check."""
    print("ms an image, statistics / whole check:")
    for side in (224, 256, 392, 518):
        pixels = [RNG.integers(0, 256, (side, side, 3), np.uint8) for _ in range(8)]
        detector = FaultDetector(None)
        times: list[list[float]] = [[], []]
        for turn in range(200):
            image = pixels[turn % 8]
            began = time.perf_counter()
            statistics(image)
            middle = time.perf_counter()
            detector.check(image, (side, side), turn / 10)
            times[0].append(middle - began)
            times[1].append(time.perf_counter() - middle)
        first, second = (float(np.median(values)) * 1000 for values in times)
        print(f"  {side} x {side}: {first:.2f} / {second:.2f}")


if __name__ == "__main__":
    main()
