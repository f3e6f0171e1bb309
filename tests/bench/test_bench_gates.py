"""Limits of `gad bench`, and the quantities they are written in."""

from __future__ import annotations

import re

import pytest
from bench_report_helpers import side
from hypothesis import given
from hypothesis import strategies as st

from generalad.bench.gates import (
    Limits,
    judge_limits,
    memory_gate,
    p95_gate,
    slowdown_gate,
    verdict,
    verdict_text,
)
from generalad.cli.bench import batch_sizes, duration, share
from generalad.errors import UsageError
from generalad.progress import in_words
from generalad.statistics import Estimate


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0.1, 100))
def test_p95_is_judged_by_its_interval(one: float, other: float, limit: float) -> None:
    low, high = sorted((one, other))
    gate = p95_gate(Estimate((low + high) / 2, low, high), limit)
    assert gate.passed == (False if low > limit else True if high <= limit else None)
    assert f"{limit:g} ms" in gate.reason
    assert ("cannot tell" in gate.reason) == (gate.passed is None)


def test_no_interval_is_no_pass() -> None:
    assert p95_gate(None, 10).passed is None
    assert p95_gate(Estimate(5.0), 10).passed is None
    assert slowdown_gate(Estimate(1.0), 0.05).passed is None
    assert memory_gate(None, 100).passed is None


def test_slowdown_is_said_as_a_change() -> None:
    gate = slowdown_gate(Estimate(1.1, 1.08, 1.12), 0.05)
    assert gate.passed is False
    assert gate.reason == "+10.0 % (95 %: +8.0 % to +12.0 %), above the limit of 5 %"
    assert slowdown_gate(Estimate(1.04, 1.03, 1.06), 0.05).passed is None
    assert slowdown_gate(Estimate(0.5, 0.4, 0.6), 0.05).passed is True


SAYS = {
    # How the verdict_text of a verdict begins, by what the gate says.
    False: r"new is slower than old: ",
    None: r"Cannot tell in the time given whether new is slower than old by more than ",
    True: r"new is (not slower than old by more than|as fast as|faster than) ",
}
NEAR_LIMIT = st.sampled_from([1.05, 1 / 1.05, 1.0500000000000003, 1.0499999999999998])


@given(
    st.lists(st.floats(0.5, 2) | NEAR_LIMIT, min_size=3, max_size=3).map(sorted),
    st.floats(0.01, 0.9) | st.just(0.05),
    st.booleans(),
)
def test_the_sentence_and_the_gate_never_disagree(
    ends: list[float], limit: float, known: bool
) -> None:
    low, value, high = ends
    ratio = Estimate(value, low, high) if known else Estimate(value)
    judged, gate = verdict(ratio, limit), slowdown_gate(ratio, limit)
    said = verdict_text(
        ratio,
        limit,
        sides=("new", "old"),
        basis="60 pairs",
        given="in the time given",
        cause="infer takes 1.1 times its time",
    )
    assert [passed for passed, words in SAYS.items() if re.match(words, said)] == [gate.passed]
    assert ("cannot tell" in gate.reason) == (gate.passed is None)
    assert ("above the limit" in gate.reason) == (gate.passed is False)
    assert ("infer takes" in said) == (judged in ("slower", "faster"))
    assert gate.passed is not False or low > 1  # nothing that may be faster is stopped


def test_where_a_baseline_refused_there_is_no_answer() -> None:
    (gate,) = judge_limits(Limits(slowdown=0.05), side(), ())
    assert gate.passed is None
    assert gate.reason == "not judged (limit 5 %)"


def test_memory() -> None:
    assert memory_gate(100.0, 100).passed is True
    assert memory_gate(100.1, 100).passed is False


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("5m", 300), ("1.5 h", 5400), ("250ms", 0.25), ("2min", 120)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["60", "0s", "-5s", "5 d", "s", "", "1e3s", "nan s", "5%"])
def test_no_durations(text: str) -> None:
    with pytest.raises(UsageError, match="60s"):
        duration(text)


@pytest.mark.parametrize(("text", "value"), [("5%", 0.05), ("0.5 %", 0.005), ("99%", 0.99)])
def test_shares(text: str, value: float) -> None:
    assert share(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["5", "0.05", "0%", "100%", "-5%", "%", "five%"])
def test_no_shares(text: str) -> None:
    with pytest.raises(UsageError, match="5%"):
        share(text)


def test_batches() -> None:
    assert batch_sizes("1") == (1,)
    assert batch_sizes("8, 1") == (8, 1)


@pytest.mark.parametrize("text", ["", "0", "1,", "1,1", "-1", "1.5", "x", "9999999"])
def test_no_batches(text: str) -> None:
    with pytest.raises(UsageError):
        batch_sizes(text)


def test_in_words() -> None:
    assert in_words(59.7) == "60 s"
    assert in_words(600) == "10 min"
