"""Whether a change of this project made its own export or pipeline slower; prints what it finds.

    python benchmarks/change.py [--against REV] [--budget 15s]

REV is the last commit where the package has uncommitted changes, else the one before. A detector
with the embedded backbone is trained in a few seconds and exported. The export is compared where
its code differs: the older revision exports the same detector, and if the graphs differ, the
artifacts are measured. Then both revisions' pipelines run the new artifact. The budget is that of
each comparison; what would take longer to be sure of is "cannot tell".

It exits with 0 whatever the verdicts, and where there is no older commit or that one does not run;
if the present code crashes, so does this. Takes about a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
from rich.console import Console

from generalad.bench import bench
from generalad.bench.checkout import checkout, own_revision
from generalad.bench.images import images
from generalad.bench.outputs.terminal import render
from generalad.bench.worker_process import OWN_ROOT, RunOptions, Subject, WorkerProcess
from generalad.cli.bench import duration
from generalad.config import EMBEDDED, PRESETS
from generalad.errors import GadError, UsageError
from generalad.export.export import export_detector
from generalad.runtime.backends.onnx_hash import HASH_KEY
from generalad.synth import write_dataset
from generalad.training.train import train_detector

IMAGES = 16
EXPORT = "import sys, generalad; generalad.export(sys.argv[1], sys.argv[2])"


def main() -> None:
    """Train, export twice, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", metavar="REV", help="the older revision")
    parser.add_argument("--budget", type=duration, default=15.0, help="of each comparison")
    options = parser.parse_args()
    screen = Console(highlight=False, soft_wrap=True)
    with contextlib.ExitStack() as stack:
        try:
            changed = own_revision().endswith("+")
            revision = options.against or ("HEAD" if changed else "HEAD~1")
            old = stack.enter_context(checkout(revision))
        except UsageError as error:  # a first commit, a shallow clone, no repository at all
            screen.print(f"nothing to compare with: {error}", markup=False)
            return
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        compare(Path(folder), *old, options.budget, screen)


def compare(folder: Path, root: Path, commit: str, budget: float, screen: Console) -> None:
    """Both comparisons with the older commit, which lies in `root`."""
    detector, new = trained(folder), folder / "new.onnx"
    export_detector(detector, new)
    screen.print("[bold]export[/bold]", end=": ")
    if same_code(root, "export", "model"):
        screen.print(f"its code is that of {commit}")
    else:
        compare_exports(detector, new, root, commit, budget, screen)
    screen.print("\n[bold]pipeline[/bold]", end=": ")
    try:
        screen.print(render(bench(new, against_rev=commit, budget=budget)))
    except GadError as error:
        check_present(new)
        screen.print(f"not compared with {commit}: {error}", markup=False)


def compare_exports(
    detector: Path, new: Path, root: Path, commit: str, budget: float, screen: Console
) -> None:
    """Export by the older code too; measure where the graphs differ."""
    old = new.with_name("old.onnx")
    failure = exported_by(root, detector, old)
    if failure:
        words = f"not compared, {commit} cannot export this detector: {failure}"
        screen.print(words, markup=False)
    elif graph_hash(new) == graph_hash(old):
        screen.print(f"the same graph as that of {commit}")
    else:
        screen.print(f"another graph than that of {commit}")
        try:
            screen.print(render(bench(new, against=old, budget=budget)))
        except GadError as error:
            check_present(new)
            screen.print(f"not compared with {commit}: {error}", markup=False)


def check_present(new: Path) -> None:
    """Raise if the present code cannot run its own artifact: that is no matter of the older one."""
    with images(None) as paths, WorkerProcess(Subject("the present code", new), RunOptions(paths)):
        pass


def same_code(root: Path, *folders: str) -> bool:
    """Whether these parts of the package are as they were."""
    places = [Path("generalad", folder) for folder in folders]
    return all(sources(root / place) == sources(OWN_ROOT / place) for place in places)


def sources(folder: Path) -> dict[str, bytes]:
    """The text of each module at and below a folder."""
    found = folder.rglob("*.py")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def trained(folder: Path) -> Path:
    """A detector with the embedded backbone; its scores mean little, its time is the real one."""
    write_dataset(folder, categories=["washer"], train=IMAGES, test_good=0, per_defect=0, seed=11)
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
