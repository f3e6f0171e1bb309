"""Verdicts of `gad bench`, on made-up times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.bench.comparison import compare, narrow_enough, ratio
from generalad.bench.gates import LIMIT, verdict
from generalad.bench.interleaved import Opening, Recording
from generalad.bench.worker_process import Block, Facts, Subject
from generalad.statistics import Estimate

TURNS = 8
STAGES = {"decode": 1.0, "preprocess": 0.5, "infer": 8.0, "postprocess": 0.1}


def recording(
    random: np.random.Generator,
    *,
    name: str = "model.onnx",
    openings: int = 12,
    strays: float = 0.0,
    slower: dict[str, float] | None = None,
    noise: float = 0.05,
    weather: np.ndarray[tuple[int], np.dtype[np.float64]] | None = None,
    waits: bool = True,
) -> Recording:
    """A side whose stages take as long as `STAGES` say, times `slower`.

    An opening has `TURNS` turns and strays as a whole; `weather` hits a turn.
    """
    found = Recording(
        Subject(name, Path(name)), Facts("onnxruntime 1, CPU", "fp32", (64, 64), None, 1.0, 1.0)
    )
    for turn in range(openings * TURNS):
        if turn % TURNS == 0:
            found.openings.append(Opening(1.0, 1.0))
            luck = np.exp(strays * random.normal())
        times = {
            stage: (
                value
                * luck
                * (slower or {}).get(stage, 1)
                * np.exp(noise * random.normal(size=4))
                * (1 if weather is None else weather[turn])
            )
            for stage, value in STAGES.items()
        }
        times["total"] = sum(times.values(), np.zeros(4))
        waited = {stage: random.exponential(0.5, 4) * value for stage, value in times.items()}
        block = {stage: (value + waited[stage]).tolist() for stage, value in times.items()}
        plain = {stage: value.tolist() for stage, value in times.items()}
        told = {stage: value.tolist() for stage, value in waited.items()}
        found.openings[-1].blocks.append(Block(block, told) if waits else Block(plain))
    return found


def test_verdicts_by_the_whole_interval() -> None:
    assert verdict(Estimate(1.08, 1.051, 1.1), 0.05) == "slower"
    assert verdict(Estimate(1.08, 1.049, 1.1), 0.05) == "cannot tell"
    assert verdict(Estimate(1.0, 0.96, 1.04), 0.05) == "same"
    assert verdict(Estimate(0.9, 0.88, 0.92), 0.05) == "faster"
    assert verdict(Estimate(0.95, 0.90, 1.0), 0.05) == "not slower"
    assert verdict(Estimate(0.98, 0.90, 1.06), 0.05) == "cannot tell"
    assert verdict(Estimate(2.0), 0.05) == "cannot tell"


@given(
    st.floats(0.3, 3), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.005, 0.3), st.booleans()
)
def test_exchanging_the_sides_exchanges_the_verdict(
    value: float, below: float, above: float, limit: float, wide: bool
) -> None:
    low, high = value / (1 + below), value * (1 + above)
    there = verdict(Estimate(value, low, high), limit)
    back = verdict(Estimate(1 / value, 1 / high, 1 / low), limit * (1 + 1e-12))
    opposite = {"slower": {"faster"}, "faster": {"slower"}, "same": {"same"}}
    open_ = {"not slower", "cannot tell"}
    assert back in opposite.get(there, open_)
    assert {there, back} != {"not slower"}  # each would deny that the other is the slower one


@pytest.mark.parametrize("waits", [True, False])
def test_a_slowdown_is_found_and_its_stage_named(waits: bool) -> None:
    random = np.random.default_rng(0)
    old = recording(random, name="a.onnx", waits=waits)
    new = recording(random, name="b.onnx", slower={"preprocess": 3.0}, waits=waits)
    found = compare(new, old)
    assert found.verdict == "slower"
    assert "b.onnx is slower than a.onnx: 1." in found.text
    assert "preprocess takes" in found.text
    assert [one.stage for one in found.comparisons][-1] == "total"
    assert {one.stage: one.verdict for one in found.comparisons}["infer"] == "same"
    assert compare(old, new).verdict == "faster"


def test_weather_that_both_sides_share_is_no_slowdown() -> None:
    """Each turn up to four times as slow as another; a comparison of means would see that."""
    random = np.random.default_rng(0)
    weather = np.exp(random.normal(0, 0.7, 25 * TURNS))
    old, new = (recording(random, openings=25, weather=weather) for _ in range(2))
    assert compare(new, old).verdict == "same"


def test_false_alarms_and_power_on_made_up_noise() -> None:
    verdicts = {1.0: [], 1.1: []}  # type: dict[float, list[str]]
    for seed in range(60):
        random = np.random.default_rng(seed)
        weather = np.exp(random.normal(0, 0.3, 10 * TURNS))
        old = recording(random, openings=10, weather=weather)
        for factor, found in verdicts.items():
            slower = dict.fromkeys(STAGES, factor)
            new = recording(random, openings=10, weather=weather, slower=slower)
            found.append(compare(new, old).verdict)
    assert verdicts[1.0].count("slower") == 0
    assert verdicts[1.1].count("slower") >= 57


def test_few_openings_cannot_tell() -> None:
    random = np.random.default_rng(0)
    new, old = (recording(random, openings=5) for _ in range(2))
    found = compare(new, old)
    assert found.verdict == "cannot tell"
    assert "Cannot tell in the time given" in found.text
    assert "(40 pairs in 5 openings)" in found.text


@given(st.floats(0.2, 5), st.integers(0, 5))
def test_stopping_does_not_depend_on_the_ratio(factor: float, seed: int) -> None:
    """The rule looks at the width alone, which is relative: a multiple stops as early."""
    old = recording(np.random.default_rng(seed), openings=10, noise=0.02)
    new, other = (
        recording(
            np.random.default_rng(seed + 100),
            openings=10,
            noise=0.02,
            slower=dict.fromkeys(STAGES, value),
        )
        for value in (1.0, factor)
    )
    for limit in (0.01, 0.03, LIMIT):
        assert narrow_enough(new, old, limit) == narrow_enough(other, old, limit)


def test_it_stops_when_narrow_and_not_before() -> None:
    random = np.random.default_rng(0)
    quiet = [recording(random, openings=10, noise=0.005) for _ in range(2)]
    noisy = [recording(random, openings=10, noise=0.9) for _ in range(2)]
    early = [recording(random, openings=9, noise=0.0) for _ in range(2)]
    assert narrow_enough(quiet[0], quiet[1], LIMIT)
    assert not narrow_enough(noisy[0], noisy[1], LIMIT)
    assert not narrow_enough(early[0], early[1], LIMIT)


def test_what_differs_from_opening_to_opening_is_in_the_interval() -> None:
    """Turns alone would make this one a slowdown: each opening is known to a thousandth."""
    random = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        new, old = (recording(random, strays=0.02, noise=0.002) for _ in range(2))
        found = ratio(new, old, "total")
        assert found.low is not None and found.high is not None
        assert found.half_width > 0.004
        held += found.low <= 1 <= found.high
    assert held >= 88


def test_waiting_for_cores_is_left_out() -> None:
    random = np.random.default_rng(0)
    old, new = recording(random), recording(random)
    for block in [*old.blocks, *new.blocks]:  # by the clock nothing can be told
        assert block.waits is not None
        for run, wait in enumerate(random.exponential(30, 4)):
            block.times["total"][run] += wait
            block.waits["total"][run] += wait
    by_clock = ratio(new, old, "total", waiting=True)
    assert verdict(by_clock, LIMIT) == "cannot tell"
    found = compare(new, old)
    assert found.verdict == "same"
    assert not found.waiting_counts


def test_a_side_that_takes_its_own_cores_away_does_not_hide() -> None:
    random = np.random.default_rng(0)
    old, new = recording(random), recording(random)
    for block in new.blocks:
        assert block.waits is not None
        for stage in ("infer", "total"):
            block.times[stage] = [time + 8 for time in block.times[stage]]
            block.waits[stage] = [wait + 8 for wait in block.waits[stage]]
    found = compare(new, old)
    assert found.waiting_counts
    assert found.verdict == "slower"
    assert "infer takes" in found.text
