"""Artifacts of generalad and of anomalib side by side: the network, a folder, training.

    python benchmarks/peers.py [--env DIR] [--folder DIR] [--rounds N] [--epochs N]

Makes an environment with anomalib from the package index, in a temporary folder or in DIR. It sees
the packages of this one, so both run on the same torch, OpenVINO and ONNX Runtime. There both train
GeneralAD on the same drawn images, with a ViT-S/14 at 224 px of the same random weights (no hub is
asked; speed is that of trained ones), and export it. Then all files run in turns in one process, as
their own library opens them, once with all units of the processor visible and once without those
for half precision. Prints a table each: milliseconds, and times as fast as anomalib's two files
with the 95 % interval of the median over rounds. About 1 GB of packages and a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path
from typing import Any

from generalad.bench.machine import describe_machine
from generalad.statistics import quantile_estimate

WORKER = Path(__file__).with_name("peers_worker.py")
HIDDEN = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "OV_CPU_MAX_ISA": "AVX512_CORE"}
"""What hides AMX, AVX512-BF16 and AVX512-FP16 from OpenVINO and its kernels."""


def main() -> None:
    """Environment, training, both measurements, tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", type=Path, help="folder of the environment, kept")
    parser.add_argument("--folder", type=Path, help="where what was trained before is found again")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        python = environment(options.env or Path(name) / "env")
        folder = (options.folder or Path(name) / "runs").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / "made.json"
        if not made.exists():
            run(python, "make", folder, options.epochs, out=made)
        machine = describe_machine()
        print(f"{machine.cpu}, {machine.architecture}, {machine.cores} cores")
        trained(json.loads(made.read_text(encoding="utf-8")))
        for title, hidden in (("all units", {}), ("units for half precision hidden", HIDDEN)):
            found = folder / "found.json"
            run(python, "time", folder, options.rounds, out=found, **hidden)
            table(title, json.loads(found.read_text(encoding="utf-8")))


def environment(folder: Path) -> Path:
    """An environment with anomalib that sees the packages of this one; returns its Python."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    answer = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True)
    packages = Path(answer.stdout.splitlines()[-1])
    root = Path(__file__).resolve().parents[1]
    lines = [f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})", str(root)]
    (packages / "shared.pth").write_text("\n".join(lines), encoding="utf-8")
    if not list(packages.glob("anomalib-*")):
        print(f"installing anomalib in {folder}", file=sys.stderr, flush=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "anomalib"], check=True)
    return python


def run(python: Path, task: str, folder: Path, number: int, *, out: Path, **hidden: str) -> None:
    """A task of the worker, whose answer is JSON."""
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | hidden
    subprocess.run(
        [python, WORKER, task, folder, str(number), out], check=True, env=environ, cwd=folder
    )


def trained(made: dict[str, Any]) -> None:
    """What training took, in both tools."""
    print(f"anomalib {made['anomalib']}, generalad {made['generalad']}, {made['libraries']}")
    theirs, ours = made["theirs"], made["ours"]
    print(
        f"training, {made['images']} images, {made['epochs']} epochs: anomalib's fit"
        f" {theirs:.0f} s, the whole of ours {ours:.0f} s, {theirs / ours:.1f} times as fast"
    )
    for line in made["notes"]:
        print(line)


def table(title: str, found: dict[str, Any]) -> None:
    """Rows of one measurement."""
    references = [name for name in found["network"]["1"] if name.startswith("anomalib")]
    print(f"\n{title}: {found['units'] or 'none for half precision'}")
    for key, heading in (("1", "ms, batch 1"), ("8", "ms an image, batch 8")):
        times = found["network"][key]
        print(f"| {heading} | ms | " + " | ".join(f"x {name}" for name in references) + " |")
        print("|---|---|" + "---|" * len(references))
        for name, own in times.items():
            middle = sorted(own)[len(own) // 2] * 1e3 / int(key)
            cells = [ratio(times[other], own) for other in references]
            print(f"| {found['ran'].get(name, name)} | {middle:.1f} | {' | '.join(cells)} |")
    rates = found["folder"]
    (reference,) = [name for name in rates if name.startswith("anomalib")]
    print(f"| {found['jpegs']} JPEG of 1080p from a folder | images/s | x {reference} |")
    print("|---|---|---|")
    for name, own in rates.items():
        middle = sorted(own)[len(own) // 2]
        print(f"| {name} | {middle:.1f} | {ratio(own, rates[reference])} |")
    commands = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found["command"].items())
    print(f"one image, whole process: {commands}")


def ratio(above: list[float], below: list[float]) -> str:
    """Median of the ratios with its interval, where there are rounds enough for one."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    found = quantile_estimate(ratios, 0.5)
    if found is None or found.low is None:
        return f"{sorted(ratios)[len(ratios) // 2]:.2f}"
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


if __name__ == "__main__":
    main()
