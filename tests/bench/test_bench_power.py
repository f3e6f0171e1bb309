"""How often the gate of `gad bench` is wrong, simulated by its own rules on made-up turns.

Turns follow each other as on a bad machine: they resemble their neighbours, some are wild, and each
set of processes has a bias of its own. Real ones are in docs/bench.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from generalad.bench.comparison import LOOK_EVERY, MIN_PAIRS, Floats, narrow
from generalad.bench.gates import LIMIT, verdict
from generalad.bench.report import Verdict
from generalad.statistics import median_ratio

TRIALS = 100
MOST = 250
"""Turns of a trial, as a budget would end it."""

Noise = Callable[[np.random.Generator], Floats]


def plain(random: np.random.Generator) -> Floats:
    return random.normal(0, 0.04, MOST)


def alike(random: np.random.Generator) -> Floats:
    """Each turn keeps half of what made the one before stray."""
    return carried(random.normal(0, 0.035, MOST))


def wild(random: np.random.Generator) -> Floats:
    """Student's t with two degrees of freedom: no variance at all."""
    return carried(0.02 * random.standard_t(2, MOST))


def rounds(random: np.random.Generator) -> Floats:
    """Two processes differ a little for as long as they live."""
    bias = np.repeat(random.normal(0, 0.01, MOST // 25), 25)
    return random.normal(0, 0.03, MOST) + bias


def carried(shocks: Floats) -> Floats:
    found = shocks.copy()
    for turn in range(1, len(found)):
        found[turn] += 0.5 * found[turn - 1]
    return found


def gate(logs: Floats) -> Verdict:
    """Look now and then, stop when it is narrow, judge."""
    found = median_ratio(logs[:MIN_PAIRS])
    for turns in range(MIN_PAIRS, len(logs) + 1, LOOK_EVERY):
        found = median_ratio(logs[:turns])
        if narrow(found, LIMIT):
            break
    return verdict(found, LIMIT)


def verdicts(noise: Noise, ratio: float, trials: int) -> list[Verdict]:
    return [gate(noise(np.random.default_rng(n)) + math.log(ratio)) for n in range(trials)]


@pytest.mark.parametrize("noise", [plain, alike, wild, rounds])
def test_identical_sides_raise_no_alarm_and_a_tenth_is_found(noise: Noise) -> None:
    """One alarm in a hundred trials would already be many: the true rate is far below that."""
    null, slower = (verdicts(noise, ratio, TRIALS) for ratio in (1.0, 1.1))
    assert null.count("slower") == 0
    assert null.count("faster") == 0
    assert null.count("same") >= 0.9 * TRIALS
    assert slower.count("slower") >= 0.95 * TRIALS


@pytest.mark.parametrize(
    ("noise", "most"),
    # 2.5 % by construction where turns are independent, as real ones are found to be. Turns that
    # resemble each other are worth fewer than they are counted for; that costs at the edge only.
    [(plain, 0.05), (alike, 0.2), (wild, 0.25), (rounds, 0.2)],
)
def test_at_exactly_the_limit_it_mostly_cannot_tell(noise: Noise, most: float) -> None:
    found = verdicts(noise, 1 + LIMIT, TRIALS)
    assert found.count("slower") <= most * TRIALS
    assert found.count("faster") == 0
    assert found.count("cannot tell") >= 0.65 * TRIALS
