"""Whether a change of this project made its own export or pipeline slower; prints, never fails.

    python benchmarks/change.py [--against REV] [--budget 6s]

REV is the last commit where the package has uncommitted changes, else the one before. A detector
with the embedded backbone is trained in a few seconds and exported. The export is compared where
its code differs: the older revision exports the same detector, and if the graphs differ, the
artifacts are measured. Then both revisions' pipelines run the new artifact. The budget is that of
each comparison; what would take longer to be sure of is "cannot tell".
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
from rich.console import Console

from generalad.bench import bench
from generalad.bench.checkout import checkout, own_revision
from generalad.bench.outputs.table import render
from generalad.bench.quantities import duration
from generalad.config import EMBEDDED, PRESETS
from generalad.data.synth import write_dataset
from generalad.errors import GadError
from generalad.export.export import export_detector
from generalad.runtime.onnx_hash import HASH_KEY
from generalad.training.train import train_detector

ROOT = Path(__file__).resolve().parents[1]
PICTURES = 16
EXPORT = "import sys, generalad; generalad.export_detector(sys.argv[1], sys.argv[2])"


def main() -> None:
    """Train, export twice, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", metavar="REV", help="the older revision")
    parser.add_argument("--budget", type=duration, default=6.0, help="of each comparison")
    options = parser.parse_args()
    screen = Console(highlight=False, soft_wrap=True)
    try:
        revision = options.against or ("HEAD" if own_revision().endswith("+") else "HEAD~1")
        with tempfile.TemporaryDirectory() as name:
            compare(Path(name), revision, options.budget, screen)
    except GadError as error:
        screen.print(f"not compared: {error}")


def compare(folder: Path, revision: str, budget: float, screen: Console) -> None:
    """Both comparisons."""
    detector, new = trained(folder), folder / "new.onnx"
    export_detector(detector, new)
    screen.print("[bold]export[/bold]", end=": ")
    if same_code(revision, "export", "model"):
        screen.print(f"its code is that of {revision}")
    else:
        compare_exports(detector, new, revision, budget, screen)
    screen.print("\n[bold]pipeline[/bold]", end=": ")
    screen.print(render(bench(new, against_rev=revision, budget=budget)))


def compare_exports(
    detector: Path, new: Path, revision: str, budget: float, screen: Console
) -> None:
    """Export by the older revision too; measure where the graphs differ."""
    old = new.with_name("old.onnx")
    with checkout(revision) as (root, commit):
        failure = exported_by(root, detector, old)
    if failure:
        screen.print(f"not compared, {commit} cannot export this detector: {failure}")
    elif graph_hash(new) == graph_hash(old):
        screen.print(f"the same graph as that of {commit}")
    else:
        screen.print(f"another graph than that of {commit}")
        screen.print(render(bench(new, against=old, budget=budget)))


def same_code(revision: str, *folders: str) -> bool:
    """Whether these parts of the package are as they were."""
    places = [f"generalad/{folder}" for folder in folders]
    command = ["git", "-C", str(ROOT), "diff", "--quiet", revision, "--", *places]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def trained(folder: Path) -> Path:
    """A detector with the embedded backbone; its scores mean little, its time is the real one."""
    write_dataset(folder, categories=["washer"], train=PICTURES, test_good=0, per_defect=0, seed=11)
    changes = {"epochs": 1, "calibration_fraction": 0.5, "shots": 0}
    config = PRESETS[EMBEDDED].replaced(changes)
    train_detector(folder / "washer", folder / "run", config, cache=folder / "cache")
    return folder / "run"


def exported_by(root: Path, detector: Path, out: Path) -> str:
    """Export with the package in `root`; returns the last line of what went wrong, if anything."""
    done = subprocess.run(
        [sys.executable, "-c", EXPORT, str(detector), str(out)],
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=out.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.stderr.strip().splitlines() or ["?"])[-1] if done.returncode else ""


def graph_hash(path: Path) -> str:
    """The hash of all but the metadata."""
    model = onnx.load(path, load_external_data=False)
    return str(next(entry.value for entry in model.metadata_props if entry.key == HASH_KEY))


if __name__ == "__main__":
    main()
