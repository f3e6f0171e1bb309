"""How often the gate of `gad bench` is wrong, simulated by its own rules on made-up turns.

Turns follow each other as on a bad machine: they resemble their neighbours, some are wild, and each
opening has a bias of its own. Real ones are in docs/bench.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from generalad.bench.comparison import LOOKS, narrow
from generalad.bench.gates import LIMIT, verdict
from generalad.statistics import Estimate, nested_ratio

TRIALS = 100
MOST = 38
"""Openings of a trial, as a budget would end it."""
TURNS = 6

Floats = NDArray[np.float64]
Noise = Callable[[np.random.Generator], Floats]


def plain(random: np.random.Generator) -> Floats:
    return random.normal(0, 0.04, (MOST, TURNS))


def alike(random: np.random.Generator) -> Floats:
    """Each turn keeps half of what made the one before stray."""
    return carried(random.normal(0, 0.035, MOST * TURNS))


def wild(random: np.random.Generator) -> Floats:
    """Student's t with two degrees of freedom: no variance at all."""
    return carried(0.02 * random.standard_t(2, MOST * TURNS))


def openings(random: np.random.Generator) -> Floats:
    """Two processes differ for as long as they live, by more than their turns."""
    return random.normal(0, 0.005, (MOST, TURNS)) + random.normal(0, 0.02, (MOST, 1))


def carried(shocks: Floats) -> Floats:
    found = shocks.copy()
    for turn in range(1, len(found)):
        found[turn] += 0.5 * found[turn - 1]
    return found.reshape(MOST, TURNS)


def gate(logs: Floats, limit: float) -> Estimate:
    """Look now and then, and stop when it is narrow."""
    found = nested_ratio(list(logs))
    for count in LOOKS:
        if count > MOST or narrow(found := nested_ratio(list(logs[:count])), limit):
            break
    return found


def trials(noise: Noise, ratio: float, limit: float = LIMIT) -> list[Estimate]:
    shift = math.log(ratio)
    return [gate(noise(np.random.default_rng(n)) + shift, limit) for n in range(TRIALS)]


@pytest.mark.parametrize("noise", [plain, alike, wild, openings])
@pytest.mark.parametrize("limit", [0.02, LIMIT])
def test_intervals_of_identical_sides_hold_one(noise: Noise, limit: float) -> None:
    """The aim is 95; of a hundred trials 89 are still likely."""
    found = trials(noise, 1.0, limit)
    assert sum(one.low <= 1 <= one.high for one in found) >= 89  # type: ignore[operator]
    assert all(verdict(one, limit) not in ("slower", "faster") for one in found)


@pytest.mark.parametrize("noise", [plain, alike, wild, openings])
def test_a_slowdown_is_found(noise: Noise) -> None:
    """A tenth at a limit of 5 %, and 5 % at one of 2 %."""
    for ratio, limit in ((1.1, 0.05), (1.05, 0.02)):
        said = [verdict(one, limit) for one in trials(noise, ratio, limit)]
        assert said.count("slower") >= 0.95 * TRIALS


@pytest.mark.parametrize("noise", [plain, alike, wild, openings])
def test_at_exactly_the_limit_it_mostly_cannot_tell(noise: Noise) -> None:
    """2.5 % by construction, and some more because it looks again and again."""
    said = [verdict(one, LIMIT) for one in trials(noise, 1 + LIMIT)]
    assert said.count("slower") <= 0.08 * TRIALS
    assert said.count("faster") == 0
    assert said.count("cannot tell") >= 0.9 * TRIALS
