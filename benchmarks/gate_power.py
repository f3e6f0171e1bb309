"""How often the gate of `gad bench` raises a false alarm, and how often it finds a slowdown.

    python benchmarks/gate_power.py run ARTIFACT TRIALS.jsonl [--trials 10] [--budget 60]
    python benchmarks/gate_power.py table TRIALS.jsonl

`run` adds trials to the file, in turn: the artifact against itself, and against copies that are
slower by 5 % and by 10 %, which extra products in their graph make them; each trial is a bench with
fresh processes and takes its budget at most. `table` prints how often the gate said what, beside
the common way: the mean of one run against the stored mean of another run of the plain artifact, at
the same limit and from as many images. Then it simulates many more trials in about a minute:
stretches of the recorded turns are drawn, their signs flipped at random (sides that are identical
can be exchanged), the slowdown added, and the gate's own rules applied.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from shared import planted_artifact

from generalad.bench import summary
from generalad.bench.comparison import (
    LOOK_EVERY,
    MIN_PAIRS,
    Floats,
    compare,
    log_ratios,
    narrow,
    narrow_enough,
    ratio,
)
from generalad.bench.gates import verdict
from generalad.bench.images import images
from generalad.bench.interleaved import Plan, Recording, measure_interleaved
from generalad.bench.worker_process import RunOptions, Subject
from generalad.statistics import Estimate, median_ratio

SLOWDOWNS = (0.0, 0.05, 0.10)
LIMIT = 0.05
SIMULATED = 1000
STRETCH = 10
"""Turns that are drawn together, so that what resembles each other stays together."""
ROWS_TO_DOUBLE = 15000  # first guess of the rows that cost as much as the embedded network
PLANTING_ROUNDS = 3
PRECISE = 0.01
"""A limit whose intervals, a quarter of it to each side, are narrow enough for planting."""


@dataclass(frozen=True)
class Trial:
    """One bench.

    Attributes:
        slowdown: that was aimed at.
        logs: logarithms of the turns' ratios, new over old, in their order.
        means: wall-clock milliseconds an image of each side, over all of its runs.
        verdict: of the gate.
        seconds: that it took.
        waiting: share of the time that other programs had the cores.
        load: the machine's load average at the end.
    """

    slowdown: float
    logs: list[float]
    means: tuple[float, float]
    verdict: str
    seconds: float
    waiting: float | None
    load: float


def main() -> None:
    """Run or print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("artifact", type=Path)
    run.add_argument("trials_file", type=Path)
    run.add_argument("--trials", type=int, default=10, help="of each slowdown")
    run.add_argument("--budget", type=float, default=60.0, help="seconds of each")
    table = commands.add_parser("table")
    table.add_argument("trials_file", type=Path)
    given = parser.parse_args()
    if given.command == "run":
        run_trials(given.artifact, given.trials_file, given.trials, given.budget)
    else:
        print_table(read(given.trials_file))


def run_trials(artifact: Path, trials_file: Path, count: int, budget: float) -> None:
    """Plant the slowdowns, then run all conditions in turn and append what comes out."""
    with images(None) as paths, tempfile.TemporaryDirectory() as name:
        options, folder = RunOptions(paths), Path(name)
        sides = {0.0: artifact}
        for share in SLOWDOWNS[1:]:
            rows = rows_for(artifact, folder, options, share=share, seconds=6 * budget)
            target = folder / f"slower-{share:.2f}.onnx"
            sides[share] = planted_artifact(artifact, target, rows=rows)
            print(f"{share:.0%} slower by {rows} rows", flush=True)
        for number in range(count):
            for share, slower in sides.items():
                trial = run_trial(artifact, slower, options, share, budget, seed=number)
                with trials_file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(trial)) + "\n")
                print(number, share, trial.verdict, f"{trial.seconds:.0f} s", flush=True)


def run_trial(
    artifact: Path, slower: Path, options: RunOptions, share: float, budget: float, *, seed: int
) -> Trial:
    """One bench, by the rules of `gad bench --against ... --max-slowdown 5%`."""
    began = time.monotonic()
    plan = Plan(
        budget=budget,
        enough=lambda sides: narrow_enough(sides[0], sides[1], LIMIT),
        seed=seed,
    )
    new, old = measure_interleaved(
        [Subject("new", slower), Subject("old", artifact)], options, plan
    )
    judged = compare(new, old, limit=LIMIT)
    return Trial(
        slowdown=share,
        logs=log_ratios(new.blocks, old.blocks, "total").tolist(),
        means=(wall_mean(new), wall_mean(old)),
        verdict=judged.verdict,
        seconds=time.monotonic() - began,
        waiting=summary.waiting([*new.blocks, *old.blocks]),
        load=os.getloadavg()[0],
    )


def wall_mean(recording: Recording) -> float:
    """Of all runs."""
    return float(np.mean([time for block in recording.blocks for time in block.times["total"]]))


def read(path: Path) -> list[Trial]:
    """All trials of a file."""
    return [Trial(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def print_table(trials: Sequence[Trial]) -> None:
    """Markdown: what was found in real trials and in simulated ones."""
    waits = [trial.waiting for trial in trials if trial.waiting is not None]
    seconds = [trial.seconds for trial in trials]
    print(
        f"{len(trials)} real trials; the sides stood without a core for {min(waits):.0%} to "
        f"{max(waits):.0%} of the time (median {np.median(waits):.0%}); a trial took "
        f"{np.median(seconds):.0f} s (median, {min(seconds):.0f} to {max(seconds):.0f})\n"
    )
    heads = ["slowdown", "real trials: pooled ratio", "number", "gate: slower", "cannot tell"]
    heads += ["simulated at exactly that: slower", "cannot tell"]
    heads += ["one run against a stored mean: slower"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    plain = [trial.means[1] for trial in trials]
    null = [trial.logs for trial in trials if trial.slowdown == 0]
    for share in SLOWDOWNS:
        some = [trial for trial in trials if trial.slowdown == share]
        pooled = median_ratio(np.concatenate([trial.logs for trial in some]))
        simulated = simulate(null, 1 + share)
        print(
            f"| {share:.0%} | {in_words(pooled)} | {len(some)} "
            f"| {rate(sum(t.verdict == 'slower' for t in some), len(some))} "
            f"| {sum(t.verdict == 'cannot tell' for t in some)}/{len(some)} "
            f"| {rate(simulated.count('slower'), len(simulated))} "
            f"| {rate(simulated.count('cannot tell'), len(simulated))} "
            f"| {stored_mean_alarms(some, plain)} |"
        )


def simulate(null: Sequence[Sequence[float]], ratio: float) -> list[str]:
    """Verdicts over trials put together from recorded ones of identical artifacts.

    Each has as many turns as one recorded trial had in its time, or fewer if the rule stops it.
    """
    random = np.random.default_rng(0)
    return [_simulated(random, null, math.log(ratio)) for _ in range(SIMULATED)]


def _simulated(random: np.random.Generator, null: Sequence[Sequence[float]], shift: float) -> str:
    recorded = np.asarray(null[int(random.integers(len(null)))])
    stretches = [recorded[i : i + STRETCH] for i in range(0, len(recorded), STRETCH)]
    drawn = random.integers(0, len(stretches), len(stretches))
    signs = random.choice((-1.0, 1.0), len(stretches))
    logs = np.concatenate([stretches[i] * sign for i, sign in zip(drawn, signs, strict=True)])
    return gate(logs + shift)


def gate(logs: Floats) -> str:
    """The verdict on turns that come one after another."""
    found = median_ratio(logs)
    for turns in range(MIN_PAIRS, len(logs) + 1, LOOK_EVERY):
        found = median_ratio(logs[:turns])
        if narrow(found, LIMIT):
            break
    return verdict(found, LIMIT)


def stored_mean_alarms(some: Sequence[Trial], plain: Sequence[float]) -> str:
    """How often one trial's mean lies above another trial's stored mean by more than the limit."""
    alarms = [
        trial.means[0] > stored * (1 + LIMIT)
        for trial in some
        for stored in plain
        if stored != trial.means[1]
    ]
    return f"{np.mean(alarms):.0%} ({len(alarms)} combinations)"


def rate(count: int, total: int) -> str:
    """A share with its exact 95 % interval (Clopper and Pearson)."""
    if total == 0:
        return "none"
    low, high = clopper_pearson(count, total)
    return f"{count}/{total} ({low:.1%} to {high:.1%})"


def clopper_pearson(count: int, total: int) -> tuple[float, float]:
    """By bisection of the binomial tails."""

    def at_least(p: float, k: int) -> float:
        return sum(math.comb(total, i) * p**i * (1 - p) ** (total - i) for i in range(k, total + 1))

    def solve(k: int, wanted: float) -> float:
        below, above = 0.0, 1.0
        for _ in range(60):
            middle = (below + above) / 2
            below, above = (middle, above) if at_least(middle, k) < wanted else (below, middle)
        return below

    low = 0.0 if count == 0 else solve(count, 0.025)
    high = 1.0 if count == total else solve(count + 1, 0.975)
    return low, high


def in_words(ratio: Estimate) -> str:
    """Such as 1.05 (1.04 to 1.06)."""
    return f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


def rows_for(
    artifact: Path, folder: Path, options: RunOptions, *, share: float, seconds: float
) -> int:
    """Rows that make the artifact slower by a share of its own time.

    Found by measuring and correcting, because small products cost more a row than large ones; the
    last of the rounds only has to correct what the ones before left over.
    """
    rows = ROWS_TO_DOUBLE * share
    for _ in range(PLANTING_ROUNDS):
        slower = planted_artifact(artifact, folder / "trial.onnx", rows=round(rows))
        subjects = [Subject("slower", slower), Subject("plain", artifact)]
        plan = Plan(
            budget=seconds / PLANTING_ROUNDS,
            enough=lambda sides: narrow_enough(sides[0], sides[1], PRECISE),
        )
        new, old = measure_interleaved(subjects, options, plan)
        found = ratio(new.blocks, old.blocks, "total").value - 1
        rows *= min(2.0, max(0.5, share / max(found, 1e-3)))
    return max(1, round(rows))


if __name__ == "__main__":
    main()
