"""Processor seconds an epoch of the paper's three methods, beside the authors' own code.

    python benchmarks/training.py generalad-small [--authors DIR] [--images 32] [--repeats 3]
    python benchmarks/training.py generalad-large --authors DIR --images 4 --batch 4 --repeats 1
    python benchmarks/training.py simplenet --authors DIR --images 16
    python benchmarks/training.py kdad --authors DIR --images 4 --batch 4 --repeats 1

DIR is a checkout of github.com/LucStrater/GeneralAD at the commit of `tests/helpers/authors.py`, or
for SimpleNet one of github.com/DonaldRR/SimpleNet, which then runs at our input size. Their code
runs in this process, in turns with ours, on the same drawn images and with random weights, since
speed depends on neither; `authors_training.py` says how. Theirs reads and passes the training
images in every epoch, and the test images to choose one; ours computes features once.

A busy machine disturbs processor time little; with one thread, as by default here, it is the time
that passes on an idle one. Medians over the repeats. The first ratio compares their steps with ours
in float32, the second with ours as it runs by default, in bfloat16 where the processor has it and
the method allows it; the goal is for the second. Takes two to ten minutes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from authors_training import authors_epoch

from generalad.config import PRESETS, Config
from generalad.files import sha256_of_file
from generalad.model.backbone import Backbone, wrap
from generalad.model.detector import Detector
from generalad.model.heads import GeneralADHead, KDADHead, SimpleNetHead
from generalad.model.weights import build_body
from generalad.training.cache import Features, cached_features
from generalad.training.images import Images
from generalad.training.kdad import fit_kdad
from generalad.training.loop import fit
from generalad.training.precision import training_dtype
from generalad.training.simplenet import fit_simplenet

CPU = torch.device("cpu")
KEPT = 1 << 32
"""Bytes of images that KDAD may keep in memory."""


class Case(NamedTuple):
    """A preset at an input size, and how many times as fast as the authors' code it is to be."""

    preset: str
    size: int
    goal: float | None


CASES = {
    "generalad-small": Case("small", 224, 3.0),
    "generalad-large": Case("large", 518, 6.0),
    "simplenet": Case("simplenet", 224, 1.0),
    "kdad": Case("kdad", 518, None),
}


def main() -> None:
    """Time one case and print a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--authors", type=Path, metavar="DIR")
    parser.add_argument("--images", type=int, default=32, help="training images")
    parser.add_argument("--tests", type=int, default=0, help="test images (default: 0.475 times)")
    parser.add_argument("--batch", type=int, help="default: that of the method")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--side", type=int, default=900, help="of the files, pixels")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    case = CASES[options.case]
    config = PRESETS[case.preset].replaced({"image_size": case.size, "epochs": 1})
    batch = min(options.batch or config.batch_size, options.images)
    config = config.replaced({"batch_size": batch})
    tests = options.tests or max(2, round(0.475 * options.images))  # MVTec AD: 1725 for 3629
    with tempfile.TemporaryDirectory() as name:
        root = write_tree(Path(name), options.images, tests, options.side)
        ways, filling = our_epochs(config, sorted((root / "train" / "good").iterdir()), Path(name))
        if options.authors is not None:
            ways |= authors_epoch(options.authors, config, root)
        seconds = in_turns(ways, options.repeats)
    print(
        f"{options.case}: {config.backbone} at {case.size}, {options.images} training and {tests}"
        f" test images, batch {batch}, {torch.get_num_threads()} threads, torch"
        f" {torch.__version__}; features once {filling:.1f} s"
    )
    report(seconds, case.goal)


def write_tree(folder: Path, train: int, tests: int, side: int) -> Path:
    """A class of MVTec AD of smooth images with a little noise; half of the test ones defective."""
    root, rng = folder / "mvtec_ad" / "bottle", np.random.default_rng(train)
    places = [root / "train" / "good" / f"{number:03d}.png" for number in range(train)]
    for number in range(tests):
        kind = ("good", "cut")[number % 2]
        places.append(root / "test" / kind / f"{number:03d}.png")
    for place in places:
        coarse = rng.integers(40, 200, (12, 12, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        noisy = smooth.astype(np.int16) + rng.integers(-3, 4, smooth.shape)
        place.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place), np.clip(noisy, 0, 255).astype(np.uint8))
        if place.parent.name == "cut":
            mask = root / "ground_truth" / "cut" / f"{place.stem}_mask.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(
                str(mask),
                cv2.rectangle(np.zeros((side, side), np.uint8), (9, 9), (99, 99), 255, -1),
            )
    return root


def our_epochs(
    config: Config, paths: list[Path], folder: Path
) -> tuple[dict[str, Callable[[], object]], float]:
    """An epoch of ours in each type it may be computed in, and the seconds to fill the cache."""
    backbone = wrap(
        build_body(config.backbone, config.image_size), config.layers, config.image_size
    )
    head = Detector(config, backbone).head
    start = time.process_time()
    features = filled(config, backbone, paths, folder / "cache")
    filling = time.process_time() - start
    epoch: Callable[..., object]
    if isinstance(head, GeneralADHead):
        epoch = partial(fit, head.discriminator, features, config, device=CPU)
    elif isinstance(head, KDADHead):
        images = Images(paths, config.image_size, KEPT)
        mean, std = backbone.mean, backbone.std
        epoch = partial(fit_kdad, head, features, images, config, mean=mean, std=std, device=CPU)
    else:
        assert isinstance(head, SimpleNetHead)
        return {
            "ours, float32": partial(fit_simplenet, head, features, config, device=CPU)
        }, filling
    types = dict.fromkeys((torch.float32, training_dtype(CPU)))
    return {
        f"ours, {str(dtype).removeprefix('torch.')}": partial(epoch, dtype=dtype) for dtype in types
    }, filling


def filled(config: Config, backbone: Backbone, paths: list[Path], folder: Path) -> Features:
    """The cached features."""
    return cached_features(
        paths,
        [sha256_of_file(path) for path in paths],
        backbone,
        identity={"name": config.backbone},
        image_size=config.image_size,
        attention=False,
        device=CPU,
        folder=folder,
        batch_size=config.batch_size,
    )


def in_turns(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each way; the first round warms up where there are several."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + (repeats > 1)):
        for name, way in ways.items():
            start = time.process_time()
            way()
            if turn or repeats == 1:
                taken[name].append(time.process_time() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def report(seconds: dict[str, float], goal: float | None) -> None:
    """Print what was measured and the ratios."""
    for name, value in seconds.items():
        print(f"  {name:24} {value:8.2f} s")
    ours = [value for name, value in seconds.items() if name.startswith("ours")]
    for name, theirs in seconds.items():
        if name.endswith("steps"):
            print(f"  {name} / ours: {theirs / ours[0]:.2f} in float32", end="")
            print(f", {theirs / ours[-1]:.2f} as it runs", end="")
            print("" if goal is None else f" (goal {goal:g})")


if __name__ == "__main__":
    main()
