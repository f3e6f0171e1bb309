"""Splits of good images, and the thread pool that reads them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.calibration import calibration_needed
from generalad.data.samples import Sample
from generalad.data.splits import few_shot, hold_out, split_calibration
from generalad.errors import DataError
from generalad.parallel import map_threads


def samples(number: int) -> list[Sample]:
    return [Sample(Path(f"{index:03}.png"), "good") for index in range(number)]


@given(
    contents=st.lists(st.integers(0, 12), min_size=2, max_size=40),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_calibration_split(contents: list[int], fraction: float, seed: int) -> None:
    given_samples = samples(len(contents))
    hashes = {s.path: f"{c:x}" for s, c in zip(given_samples, contents, strict=True)}

    def split() -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
        rng = np.random.default_rng(seed)
        return split_calibration(given_samples, fraction=fraction, rng=rng, groups=hashes)

    if len(set(contents)) == 1:
        with pytest.raises(DataError, match="1 different good image"):
            split()
        return
    train, calibration = split()
    assert train
    assert calibration
    assert sorted([*train, *calibration], key=lambda s: s.path) == given_samples
    assert list(train) == sorted(train, key=lambda s: s.path)
    assert list(calibration) == sorted(calibration, key=lambda s: s.path)
    assert not {hashes[s.path] for s in train} & {hashes[s.path] for s in calibration}
    assert split() == (train, calibration)


@given(number=st.integers(2, 200), fraction=st.floats(0.01, 0.99))
def test_calibration_takes_its_share(number: int, fraction: float) -> None:
    rng = np.random.default_rng(0)
    train, calibration = split_calibration(samples(number), fraction=fraction, rng=rng)
    assert len(calibration) == min(max(round(fraction * number), 1), number - 1)
    assert len(train) + len(calibration) == number


def test_the_generator_decides() -> None:
    seen = {
        split_calibration(samples(30), fraction=0.2, rng=np.random.default_rng(seed))[1]
        for seed in range(10)
    }
    assert len(seen) == 10


def test_large_groups_of_copies_still_leave_both_sides() -> None:
    three = samples(10)
    hashes = {s.path: "a" if index < 6 else "b" for index, s in enumerate(three)}
    rng = np.random.default_rng(0)  # whatever it draws: more than half is needed to train on
    train, calibration = split_calibration(three, fraction=0.2, rng=rng, groups=hashes)
    assert (len(train), len(calibration)) == (6, 4)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=30),
    fraction=st.floats(0.05, 0.9),
    seed=st.integers(0, 3),
)
def test_whole_groups_are_held_out_a_share_of_their_number(
    sizes: list[int], fraction: float, seed: int
) -> None:
    names = [f"group {number}" for number, size in enumerate(sizes) for _ in range(size)]
    all_samples = samples(len(names))
    groups = {s.path: name for s, name in zip(all_samples, names, strict=True)}
    rng = np.random.default_rng(seed)
    train, held = split_calibration(all_samples, fraction=fraction, rng=rng, groups=groups)
    trained, left = ({groups[s.path] for s in side} for side in (train, held))
    assert not trained & left
    assert sorted([*train, *held], key=lambda s: s.path) == all_samples
    large = sum(2 * size > len(names) for size in sizes)
    wanted = min(max(round(fraction * len(sizes)), 1), len(sizes) - 1)
    assert len(left) == min(wanted, len(sizes) - large)


def test_how_large_a_group_is_does_not_decide_whether_it_is_held_out() -> None:
    names = ["large"] * 8 + [f"small {number}" for number in range(9)]
    all_samples = samples(len(names))
    groups = {s.path: name for s, name in zip(all_samples, names, strict=True)}
    drawn = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        _, held = split_calibration(all_samples, fraction=0.2, rng=rng, groups=groups)
        drawn += any(groups[s.path] == "large" for s in held)
    assert 40 < drawn < 125  # 2 of 10 groups: 80 of 400


@pytest.mark.parametrize("number", [0, 1])
def test_too_few_images_for_calibration(number: int) -> None:
    with pytest.raises(DataError, match="expected at least 2") as raised:
        split_calibration(samples(number), fraction=0.2, rng=np.random.default_rng(0))
    assert "1 % takes 99" in raised.value.remedy


def test_images_needed_for_a_rate() -> None:
    rates = (0.5, 0.1, 0.05, 0.03, 0.01, 0.001, 0.9)
    assert [calibration_needed(rate) for rate in rates] == [1, 9, 19, 33, 99, 999, 1]


@given(st.floats(0.0005, 0.9))
def test_the_number_needed_is_the_smallest(rate: float) -> None:
    needed = calibration_needed(rate)
    assert 1 / (needed + 1) <= rate * (1 + 1e-6)
    assert needed == 1 or 1 / needed > rate * (1 - 1e-6)


def test_few_shot_follows_the_offset_and_wraps() -> None:
    ten = samples(10)
    assert few_shot(ten, 3, 0) == tuple(ten[:3])
    assert few_shot(ten, 3, 4) == tuple(ten[4:7])
    assert few_shot(ten, 4, 8) == (ten[8], ten[9], ten[0], ten[1])
    assert few_shot(ten, 2, 40) == tuple(ten[:2])
    assert few_shot(ten, 0, 5) == tuple(ten)
    assert set(few_shot(ten, 10, 7)) == set(ten)
    with pytest.raises(DataError, match="11 shots, but only 10"):
        few_shot(ten, 11, 0)


def test_hold_out_takes_about_a_fifth_and_keeps_copies_together(tmp_path: Path) -> None:
    good = []
    for index in range(400):
        path = tmp_path / f"{index:03}.png"
        path.write_bytes(str(index // 2).encode())
        good.append(Sample(path, "good"))
    train, held_out = hold_out(good)
    assert 50 <= len(held_out) <= 110
    assert sorted([*train, *held_out], key=lambda s: s.path) == good
    trained = {s.path.read_bytes() for s in train}
    assert not trained & {s.path.read_bytes() for s in held_out}


def test_hold_out_keeps_groups_together_and_reads_no_file_for_it() -> None:
    good = [Sample(Path(f"{n}.png"), "good", group=f"lot {n // 5}") for n in range(200)]
    train, held_out = hold_out(good)
    assert train and held_out
    assert not {s.group for s in train} & {s.group for s in held_out}


def test_hold_out_of_unreadable_and_of_equal_files(tmp_path: Path) -> None:
    missing = Sample(tmp_path / "none.png", "good")
    assert hold_out([missing]) == ((missing,), ())
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.write_bytes(b"same")
    equal = tuple(Sample(path, "good") for path in paths)
    assert hold_out(equal) == (equal, ())
    assert hold_out([]) == ((), ())


@pytest.mark.parametrize("below", [True, False])
def test_hold_out_fills_both_sides(tmp_path: Path, below: bool) -> None:
    def fraction(path: Path) -> float:
        return int(hashlib.sha256(path.read_bytes()).hexdigest()[:8], 16) / 2**32

    good: list[Sample] = []
    for number in range(1000):
        path = tmp_path / f"{number}.png"
        path.write_bytes(str(number).encode())
        if (fraction(path) < 0.2) == below and len(good) < 3:
            good.append(Sample(path, "good"))
    train, held_out = hold_out(good)
    assert (len(train), len(held_out)) == ((1, 2) if below else (2, 1))
    largest_held_out = max(fraction(sample.path) for sample in held_out)
    assert largest_held_out < min(fraction(sample.path) for sample in train)


def test_map_threads_keeps_the_order_and_does_not_run_ahead() -> None:
    taken = 0

    def numbers() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    results = map_threads(lambda number: number * 2, numbers(), workers=2)
    assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
    assert taken <= 5 + 8
    assert list(results) == [number * 2 for number in range(5, 1000)]


def test_map_threads_uses_the_workers_and_passes_errors_on() -> None:
    # Nobody passes the barrier unless three tasks run at the same time.
    barrier = threading.Barrier(3, timeout=10)
    assert len(list(map_threads(lambda _: barrier.wait(), range(3), workers=3))) == 3
    with pytest.raises(ZeroDivisionError):
        list(map_threads(lambda number: 1 / number, [1, 0, 1], workers=2))
