"""The paper's three methods on the same data and features: trained, exported, verified, timed.

    python benchmarks/methods.py DIR... [--methods generalad simplenet kdad] [--preset embedded]
                                 [--seed 0] [--out DIR]

DIR is a class folder with test images. Each method is trained with its own schedule on the features
of the preset and exported in both precisions, verified on all test images (`gad export
--verify-on`); `gad bench` then runs both artifacts in turns. Prints one row for each: what the
detector finds, decisions in which the artifacts differ from it, and milliseconds an image. With
`--out` a run that was broken off goes on. Takes some minutes a method with the embedded backbone.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import generalad
from generalad.export.export import Exported
from generalad.metrics.evaluate import Evaluation

PAPER = ("generalad", "simplenet", "kdad")
HEADINGS = (
    *("set", "method", "image AUROC", "pixel AUROC", "AUPRO", "missed"),
    *("false alarms", "fp32: flips, AUROC lost", "fp16: flips, AUROC lost", "ms fp32", "ms fp16"),
)
BUDGET = 20.0
"""Seconds of each comparison of the two precisions."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--methods", nargs="+", choices=PAPER, default=PAPER)
    parser.add_argument("--preset", default="embedded")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="keep detectors and artifacts here")
    given = parser.parse_args()
    print("| " + " | ".join(HEADINGS) + " |")
    print("|" + "---|" * len(HEADINGS), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for data in given.data:
            for method in given.methods:
                out = (given.out or Path(folder)) / f"{data.name}-{method}"
                cells = row(data, method, given.preset, given.seed, out)
                print(f"| {data.name} | {method} | " + " | ".join(cells) + " |", flush=True)


def row(data: Path, method: str, preset: str, seed: int, out: Path) -> list[str]:
    """Train, export, evaluate and time one method; the cells of its row."""
    generalad.train(data, out, preset=preset, method=method, seed=seed)
    single = generalad.export(out, verify_on=data)
    half = generalad.export(out, precision="fp16", verify_on=data)
    found = generalad.evaluate(single.path, data).evaluation
    report = generalad.bench(half.path, against=single.path, threads=1, budget=BUDGET)
    assert report.old is not None
    times = [side.stages["total"].median for side in (report.old, report.new)]
    return [
        *figures(found),
        *(parity(done) for done in (single, half)),
        *(f"{one.value:.1f}" for one in times),
    ]


def figures(found: Evaluation) -> list[str]:
    """What the artifact finds on the test images."""
    metrics = (found.image_auroc, found.pixel_auroc, found.aupro)
    rates = (found.misses, found.false_alarms)
    return [
        *(f"{one.value:.3f}" for one in metrics),
        *(f"{one.count} of {one.total}" for one in rates),
    ]


def parity(done: Exported) -> str:
    """Decisions that differ over all images compared, and points of AUROC lost on labelled ones."""
    sets = done.parity.sets
    flips, images = sum(one.flips for one in sets), sum(one.images for one in sets)
    lost = sets[-1].auroc[0] - sets[-1].auroc[1]
    return f"{flips} of {images}, {100 * lost:.2f}" + (f" ({done.name})" if done.refused else "")


if __name__ == "__main__":
    main()
