"""How often the gate of `gad bench` raises a false alarm, and how often it finds a slowdown.

    python benchmarks/gate_power.py run ARTIFACT TRIALS.jsonl [--slowdown 5%] [--limit 2%]
                                        [--trials 100] [--budget 60s] [--threads N]
    python benchmarks/gate_power.py table TRIALS.jsonl

Each trial is a bench of the artifact against itself, or against a copy that is slower, which extra
products in its graph make it. `run` appends trials until the file holds as many of this slowdown
and limit, so it can be broken off and run again. `table` prints how often an interval held the true
ratio and what the gate said at each limit, wider ones replayed from the beginning of the recording.
Then it puts many more trials together from recorded openings of identical sides, with their signs
flipped at random (such sides can be exchanged) and a slowdown added: how long it takes to tell it.
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
from generalad.bench.comparison import LOOKS, log_ratios, narrow, narrow_enough, ratio
from generalad.bench.gates import percent, verdict
from generalad.bench.images import images
from generalad.bench.interleaved import Plan, Recording, measure_interleaved
from generalad.bench.worker_process import RunOptions, Subject
from generalad.cli.bench import duration, share
from generalad.statistics import Estimate, nested_ratio, wilson

LIMITS = (0.01, 0.02, 0.05, 0.10)
SIMULATED = 1000
MOST = 110
"""Openings of a trial that is put together, at most."""
FOUND = 0.95
"""The share of trials that tells a slowdown, for which the table gives the time."""
ROWS_TO_DOUBLE = 15000  # first guess of the rows that cost as much as the embedded network
PLANTING_ROUNDS = 3
PRECISE = 0.01
"""A limit whose intervals, a quarter of it to each side, are narrow enough for planting."""


@dataclass(frozen=True)
class Trial:
    """One bench.

    Attributes:
        slowdown: that was aimed at.
        limit: the gate's, by which it ended.
        logs: by opening, logarithms of the turns' ratios, new over old.
        ends: seconds from the beginning to the end of each opening.
        waiting: share of the time that other programs had the cores.
        load: the machine's load average at the end.
    """

    slowdown: float
    limit: float
    logs: list[list[float]]
    ends: list[float]
    waiting: float | None
    load: float

    def replayed(self, limit: float) -> tuple[Estimate, float]:
        """What a bench at a limit would have found in this recording, and after how long."""
        for openings in LOOKS:
            if openings >= len(self.logs):
                break
            found = nested_ratio(self.logs[:openings])
            if narrow(found, limit):
                return found, self.ends[openings - 1]
        return nested_ratio(self.logs), self.ends[-1]


def main() -> None:
    """Run or print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("artifact", type=Path)
    run.add_argument("trials_file", type=Path)
    run.add_argument("--slowdown", type=share, default=0.0)
    run.add_argument("--limit", type=share, default=0.02)
    run.add_argument("--trials", type=int, default=100)
    run.add_argument("--budget", type=duration, default=60.0, help="of each trial")
    run.add_argument("--threads", type=int)
    table = commands.add_parser("table")
    table.add_argument("trials_file", type=Path)
    given = parser.parse_args()
    if given.command == "run":
        run_trials(given)
    else:
        print_tables(read(given.trials_file))


def run_trials(given: argparse.Namespace) -> None:
    """Plant the slowdown, then append trials."""
    with images(None) as paths, tempfile.TemporaryDirectory() as name:
        options = RunOptions(paths, threads=given.threads)
        slower = given.artifact
        if given.slowdown:
            slower = planted(given.artifact, Path(name), options, given.slowdown)
        while True:
            done = read(given.trials_file) if given.trials_file.exists() else []
            alike = [t for t in done if (t.slowdown, t.limit) == (given.slowdown, given.limit)]
            if len(alike) >= given.trials:
                return
            trial = run_trial(slower, given, options, seed=len(alike))
            with given.trials_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(trial)) + "\n")
            found, seconds = trial.replayed(given.limit)
            words = f"{in_words(found)} {verdict(found, given.limit)}"
            print(len(alike), f"{words}, {len(trial.logs)} openings, {seconds:.0f} s", flush=True)


def run_trial(slower: Path, given: argparse.Namespace, options: RunOptions, *, seed: int) -> Trial:
    """One bench, by the rules of `gad bench --against ... --max-slowdown`."""
    began, ends = time.monotonic(), list[float]()

    def enough(sides: Sequence[Recording]) -> bool:
        ends.append(time.monotonic() - began)
        return narrow_enough(sides[0], sides[1], given.limit)

    subjects = [Subject("new", slower), Subject("old", given.artifact)]
    plan = Plan(budget=given.budget, enough=enough, seed=seed)
    new, old = measure_interleaved(subjects, options, plan)
    ends += [time.monotonic() - began] * (len(new.openings) - len(ends))
    logs = [[round(log, 6) for log in logs] for logs in log_ratios(new, old, "total")]
    waiting = summary.waiting([*new.blocks, *old.blocks])
    return Trial(given.slowdown, given.limit, logs, ends, waiting, os.getloadavg()[0])


def read(path: Path) -> list[Trial]:
    """All trials of a file."""
    return [Trial(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def print_tables(trials: Sequence[Trial]) -> None:
    """Markdown: what was found in real trials and in those put together."""
    waits = [trial.waiting for trial in trials if trial.waiting is not None]
    loads = [trial.load for trial in trials]
    print(
        f"{len(trials)} real trials; the sides stood without a core for {min(waits):.0%} to "
        f"{max(waits):.0%} of the time (median {np.median(waits):.0%}), load {min(loads):.1f} to "
        f"{max(loads):.1f}\n"
    )
    heads = ["slowdown", "limit", "trials", "ratio of all", "interval holds it", "slower"]
    heads += ["faster", "cannot tell", "half width, %", "seconds, median", "most"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for slowdown in sorted({trial.slowdown for trial in trials}):
        for limit in LIMITS:
            some = [t for t in trials if t.slowdown == slowdown and t.limit <= limit]
            if some:
                print(f"| {' | '.join(real_row(some, slowdown, limit))} |")
    null = [trial for trial in trials if trial.slowdown == 0]
    if null:
        print_times(null)


def real_row(trials: Sequence[Trial], slowdown: float, limit: float) -> list[str]:
    """Cells of a slowdown and a limit; identical sides have a true ratio of 1."""
    pooled = nested_ratio([logs for trial in trials for logs in trial.logs])
    truth = pooled.value if slowdown else 1.0
    found, seconds = zip(*(trial.replayed(limit) for trial in trials), strict=True)
    said = [verdict(one, limit) for one in found]
    held = [one.low is not None and one.low <= truth <= one.high for one in found]
    counts = [rate(sum(held), len(held))]
    counts += [rate(said.count(word), len(said)) for word in ("slower", "faster", "cannot tell")]
    widths = [100 * one.half_width for one in found]
    times = [f"{np.median(seconds):.0f}", f"{max(seconds):.0f}"]
    width = f"{np.median(widths):.2f}"
    return [
        percent(slowdown),
        percent(limit),
        str(len(said)),
        in_words(pooled),
        *counts,
        width,
        *times,
    ]


def print_times(null: Sequence[Trial]) -> None:
    """How long it takes to tell a slowdown, in trials put together from recorded openings."""
    openings = [np.asarray(logs) for trial in null for logs in trial.logs]
    each = float(np.median(np.concatenate([np.diff([0.0, *trial.ends]) for trial in null])))
    centres = np.array([np.median(logs) for logs in openings])
    inner = np.sqrt(np.mean([np.var(logs, ddof=1) for logs in openings if len(logs) > 1]))
    print(
        f"\n{len(openings)} openings of identical sides, {each:.2f} s each (median): their medians"
        f" stray by {100 * centres.std(ddof=1):.2f} %, turns within one by {100 * inner:.2f} %\n"
    )
    shares = (0.01, 0.02, 0.05, 0.10)
    print("| to tell from 0 % | openings | seconds |\n|---|---|---|")
    for slowdown in shares:
        count = openings_to_tell(centres, math.log1p(slowdown))
        print(f"| {percent(slowdown)} | {count} | {count * each:.0f} |")
    print("\n| limit | identical: held | slower | 2 x limit: slower | cannot tell | seconds |")
    print(f"|{'---|' * 6}")
    for limit in shares:
        ends = [simulated(centres, 0.0, limit, seed) for seed in range(SIMULATED)]
        twice = [simulated(centres, math.log1p(2 * limit), limit, s) for s in range(SIMULATED)]
        held = sum(one.low <= 1 <= one.high for one, _ in ends)  # type: ignore[operator]
        said = [verdict(one, limit) for one, _ in twice]
        alarms = sum(verdict(one, limit) == "slower" for one, _ in ends)
        seconds = np.median([count * each for _, count in ends])
        cells = [rate(held, SIMULATED), rate(alarms, SIMULATED)]
        cells += [rate(said.count(word), SIMULATED) for word in ("slower", "cannot tell")]
        print(f"| {' | '.join([percent(limit), *cells, f'{seconds:.0f}'])} |")


def drawn(centres: np.ndarray, count: int, random: np.random.Generator) -> list[list[float]]:
    """Openings of identical sides, which can be exchanged."""
    signs = random.choice((-1.0, 1.0), count)
    return [[value] for value in centres[random.integers(0, len(centres), count)] * signs]


def openings_to_tell(centres: np.ndarray, shift: float) -> int:
    """After how many the interval of most trials excludes that both sides are the same."""
    for count in range(6, MOST):
        random, told = np.random.default_rng(count), 0
        for _ in range(SIMULATED // 5):
            found = nested_ratio([[v[0] + shift] for v in drawn(centres, count, random)])
            told += found.low is not None and found.low > 1
        if told >= FOUND * (SIMULATED // 5):
            return count
    return MOST


def simulated(centres: np.ndarray, shift: float, limit: float, seed: int) -> tuple[Estimate, int]:
    """A trial that ends by the gate's rule, and its openings."""
    random = np.random.default_rng(seed)
    logs = [[v[0] + shift] for v in drawn(centres, MOST, random)]
    for count in LOOKS:
        found = nested_ratio(logs[:count])
        if narrow(found, limit) or count >= MOST:
            break
    return found, count


def rate(count: int, total: int) -> str:
    """A share with its 95 % interval."""
    found = wilson(count, total)
    return f"{count}/{total} ({found.low:.1%} to {found.high:.1%})"


def in_words(ratio: Estimate) -> str:
    """Such as 1.05 (1.04 to 1.06)."""
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.3f}"
    return f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


def planted(artifact: Path, folder: Path, options: RunOptions, slowdown: float) -> Path:
    """A copy that is slower by a share of its own time.

    The rows that make it so are found by measuring and correcting, because small products cost more
    a row than large ones; the last of the rounds only has to correct what the ones before left.
    """
    target, rows = folder / "slower.onnx", ROWS_TO_DOUBLE * slowdown
    for _ in range(PLANTING_ROUNDS):
        planted_artifact(artifact, target, rows=max(1, round(rows)))
        plan = Plan(budget=120, enough=lambda sides: narrow_enough(sides[0], sides[1], PRECISE))
        subjects = [Subject("slower", target), Subject("plain", artifact)]
        new, old = measure_interleaved(subjects, options, plan)
        found = ratio(new, old, "total")
        print(f"{rows:.0f} rows: {in_words(found)}", flush=True)
        rows *= min(2.0, max(0.5, slowdown / max(found.value - 1, 1e-3)))
    return planted_artifact(artifact, target, rows=max(1, round(rows)))


if __name__ == "__main__":
    main()
