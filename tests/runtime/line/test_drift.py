"""Drift: what is a change, what is chance, and when it is reported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from generalad.image_statistics import Statistics, reference
from generalad.runtime.line.drift import DriftMonitor, ks_distance
from generalad.spec import Reference

WINDOW = 100
USUAL = Statistics(100.0, 30.0, 0.02, 8.0, 20.0, 0.4)
SPREAD = Statistics(2.0, 1.0, 0.005, 0.4, 1.0, 0.01)

Seen = tuple[float, Statistics]


def seen(rng: np.random.Generator, *, score: float = 0.0, **factors: float) -> Seen:
    """An image of the usual source; its score is raised, its statistics multiplied."""
    values = dict(zip(Statistics._fields, rng.normal(USUAL, SPREAD), strict=True))
    changed = {name: value * factors.get(name, 1.0) for name, value in values.items()}
    return float(rng.normal(1, 0.1)) + score, Statistics(**changed)


def known(count: int = 100, seed: int = 0) -> Reference:
    rng = np.random.default_rng(seed)
    scores, looks = zip(*(seen(rng) for _ in range(count)), strict=True)
    return reference(np.array(scores, np.float32), looks, [(10, 10)] * count)


def feed(monitor: DriftMonitor, images: list[Seen]) -> list[dict[str, Any]]:
    return [change for one in images if (change := monitor.add(*one))]


def many(count: int, seed: int, **changes: float) -> list[Seen]:
    rng = np.random.default_rng(seed)
    return [seen(rng, **changes) for _ in range(count)]


def test_it_learns_first_and_is_stable_then() -> None:
    monitor, states = DriftMonitor(known(), window=WINDOW), []
    for one in many(2 * WINDOW, 1):
        assert monitor.add(*one) is None
        states.append(monitor.state)
    assert set(states[: WINDOW // 2]) == {"learning"}
    assert states[-1] == "stable"
    assert monitor.changes == ()


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), count=st.sampled_from([20, 50, 200]))
def test_the_usual_source_does_not_drift(seed: int, count: int) -> None:
    monitor = DriftMonitor(known(count, seed), window=WINDOW)
    assert feed(monitor, many(6 * WINDOW, seed + 1)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"brightness": 0.8},
            "brightness is lower",
        ),
        ({"brightness": 1.2}, "brightness is higher"),
        ({"contrast": 0.8}, "contrast is lower"),
        ({"saturated": 3.0}, "saturated is higher"),
        ({"sharpness": 0.7}, "sharpness is lower"),
        ({"score": 0.5}, "score is higher"),
        ({"score": -0.5}, "score is lower"),
    ],
)
def test_a_change_is_reported_once_with_advice_and_ends(
    changes: dict[str, float], words: str
) -> None:
    monitor = DriftMonitor(known(), window=WINDOW)
    reports = feed(monitor, many(2 * WINDOW, 1) + many(4 * WINDOW, 2, **changes))
    assert [one["state"] for one in reports] == ["drifting"]
    assert words in reports[0]["suggestion"]
    assert monitor.state == "drifting"
    (change,) = monitor.changes
    assert change.quantity == next(iter(changes))
    assert change.distance == pytest.approx(1, abs=0.1)
    back = feed(monitor, many(4 * WINDOW, 3))
    assert back == [{"state": "stable", "changes": [], "suggestion": ""}]
    assert monitor.changes == ()


def test_what_matters_is_named_with_its_figures() -> None:
    monitor = DriftMonitor(known(), window=WINDOW)
    (report,) = feed(monitor, many(3 * WINDOW, 1, brightness=0.7, score=0.5))
    assert [one["quantity"] for one in report["changes"]] == ["brightness", "score"]
    first = report["changes"][0]
    assert first["direction"] == "lower" and first["distance"] == 1
    assert first["median"] == pytest.approx(70, abs=2)
    assert first["reference"] == pytest.approx(100, abs=2)
    assert "check the lighting" in report["suggestion"] and "gad calibrate" in report["suggestion"]


def test_anomalous_images_count_too() -> None:
    monitor = DriftMonitor(known(), window=WINDOW)
    (report,) = feed(monitor, many(3 * WINDOW, 1, score=100.0))
    assert report["changes"][0]["quantity"] == "score"


def test_some_defects_are_no_drift() -> None:
    monitor, rng = DriftMonitor(known(), window=WINDOW), np.random.default_rng(1)
    images = [seen(rng, score=5.0 * (rng.random() < 0.2)) for _ in range(6 * WINDOW)]
    assert feed(monitor, images) == []


def test_changes_too_small_to_matter_are_not_reported() -> None:
    """All calibration images are alike, so that any change is far outside of them."""
    alike = reference(np.linspace(0, 1, 50).astype(np.float32), [USUAL] * 50, [(10, 10)] * 50)
    for factor, reports in ((0.97, 0), (0.9, 1)):
        monitor, rng = DriftMonitor(alike, window=WINDOW), np.random.default_rng(1)
        shifted = USUAL._replace(brightness=USUAL.brightness * factor)
        images = [
            (float(rng.random()), shifted._replace(contrast=30 + rng.normal(0, 0.01)))
            for _ in range(3 * WINDOW)
        ]
        assert len(feed(monitor, images)) == reports


def test_a_part_that_stands_still_is_one_image() -> None:
    monitor, rng = DriftMonitor(known(), window=WINDOW), np.random.default_rng(5)
    feed(monitor, many(2 * WINDOW, 1))
    part = USUAL._replace(brightness=USUAL.brightness + 1.9 * SPREAD.brightness)
    still = [
        (1.25 + float(rng.normal(0, 0.02)), part._replace(contrast=30 + rng.normal(0, 0.02)))
        for _ in range(50 * WINDOW)
    ]
    assert feed(monitor, still) == []
    assert monitor.state == "stable"


def test_a_few_other_images_are_not_reported() -> None:
    monitor = DriftMonitor(known(), window=WINDOW)
    short = many(WINDOW // 3, 2, brightness=0.7)
    assert feed(monitor, many(2 * WINDOW, 1) + short + many(3 * WINDOW, 3)) == []


def test_one_score_within_the_range_is_no_drift() -> None:
    """Its distance is 0.8, as that of any value at the end of a range."""
    monitor = DriftMonitor(known(), window=WINDOW)
    assert feed(monitor, [(1.08, looks) for _, looks in many(3 * WINDOW, 1)]) == []
    (report,) = feed(monitor, [(1.3, looks) for _, looks in many(3 * WINDOW, 2)])
    assert "score is higher" in report["suggestion"]


def test_what_does_not_begin_a_drift_does_not_end_one() -> None:
    between = many(4 * WINDOW, 2, score=0.135)
    monitor = DriftMonitor(known(), window=WINDOW)
    assert feed(monitor, between) == []
    assert [one["state"] for one in feed(monitor, many(2 * WINDOW, 3, score=1.0))] == ["drifting"]
    assert feed(monitor, between) == []
    assert [one["state"] for one in feed(monitor, many(3 * WINDOW, 4))] == ["stable"]


samples = st.lists(st.floats(-100, 100), min_size=1, max_size=50).map(lambda v: np.sort(v))


@given(samples, samples)
def test_the_distance_is_one_of_distributions(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> None:
    distance = ks_distance(first, second)
    assert 0 <= distance <= 1
    assert distance == ks_distance(second, first)
    assert ks_distance(first, first) == 0
    assert ks_distance(np.repeat(first, 3), second) == pytest.approx(distance)
    points = np.concatenate([first, second])
    slow = max(abs(float((first <= p).mean()) - float((second <= p).mean())) for p in points)
    assert distance == pytest.approx(slow)
    assert ks_distance(first, second + 300) == 1


FINISHES = {"brightness": (0.7, 1.0, 1.3), "saturation": (0.4, 1.0, 1.6), "contrast": (0.8, 1, 1.2)}


def in_lots(rng: np.random.Generator, finish: int) -> Seen:
    """A part of one finish; its score differs with it too."""
    score, looks = seen(rng)
    looks = looks._replace(saturation=float(rng.normal(40, 1)), red_green=float(rng.normal(130, 1)))
    changed = {name: getattr(looks, name) * by[finish] for name, by in FINISHES.items()}
    return score + 0.3 * finish, looks._replace(**changed)


def mixed(shares: tuple[int, ...], seed: int = 0) -> Reference:
    rng = np.random.default_rng(seed)
    images = [in_lots(rng, finish) for finish, n in enumerate(shares) for _ in range(n)]
    scores, looks = zip(*images, strict=True)
    return reference(np.array(scores, np.float32), looks, [(10, 10)] * len(looks))


@pytest.mark.parametrize("shares", [(20, 20, 20), (7, 7, 6), (60, 20, 20), (20, 60, 20)])
@pytest.mark.parametrize("seed", range(4))
def test_lots_of_known_products_are_no_drift(shares: tuple[int, ...], seed: int) -> None:
    monitor, rng = DriftMonitor(mixed(shares, seed), window=WINDOW), np.random.default_rng(seed)
    lots = [0, 2, 1, 2, 0, 1]
    images = [in_lots(rng, finish) for finish in lots for _ in range(3 * WINDOW)]
    assert feed(monitor, images) == []


def test_what_no_lot_shows_is_a_drift_and_ends_in_any_lot() -> None:
    monitor, rng = DriftMonitor(mixed((20, 20, 20)), window=WINDOW), np.random.default_rng(9)
    usual = [in_lots(rng, 0) for _ in range(2 * WINDOW)]
    dim = [
        (score, looks._replace(brightness=looks.brightness * 0.8))
        for score, looks in (in_lots(rng, 0) for _ in range(2 * WINDOW))
    ]
    (report,) = feed(monitor, usual + dim)
    assert [one["quantity"] for one in report["changes"]] == ["brightness"]
    back = [in_lots(rng, 0) for _ in range(3 * WINDOW)]
    assert [one["state"] for one in feed(monitor, back)] == ["stable"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"saturation": 0.0}, "saturation is lower"),
        ({"yellow_blue": 120.0}, "yellow_blue is lower"),
        ({"red_green": 140.0}, "red_green is higher"),
    ],
)
def test_colours_drift(change: dict[str, float], words: str) -> None:
    def coloured(rng: np.random.Generator) -> Seen:
        score, looks = seen(rng)
        colour = rng.normal((128, 132, 30), (0.3, 0.3, 1))
        return score, looks._replace(
            red_green=float(colour[0]), yellow_blue=float(colour[1]), saturation=float(colour[2])
        )

    rng = np.random.default_rng(2)
    usual = [coloured(rng) for _ in range(2 * WINDOW)]
    scores, looks = zip(*usual[:50], strict=True)
    monitor = DriftMonitor(
        reference(np.array(scores, np.float32), looks, [(10, 10)] * 50), window=WINDOW
    )
    after = [(score, looks._replace(**change)) for score, looks in usual]
    (report,) = feed(monitor, usual + after)
    assert words in report["suggestion"]
