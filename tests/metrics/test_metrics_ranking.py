from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from generalad.errors import DataError
from generalad.metrics.ranking import (
    area_below,
    auroc,
    average_precision,
    best_f1,
    count_by_threshold,
    thinned,
)

# Few distinct scores, so that ties are the rule; any scale, logits included.
pairs = st.lists(st.tuples(st.booleans(), st.integers(-6, 6)), min_size=2, max_size=60).filter(
    lambda items: len({label for label, _ in items}) == 2
)


def split(items: list[tuple[bool, int]]) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = zip(*items, strict=True)
    return np.array(labels), np.array(scores, dtype=np.float64)


@given(pairs)
def test_agrees_with_scikit_learn(items: list[tuple[bool, int]]) -> None:
    labels, scores = split(items)
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    expected = average_precision_score(labels, scores)
    assert average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)
    f1, threshold = best_f1(labels, scores)
    assert f1 == pytest.approx(max(f1_score(labels, scores >= t) for t in scores), abs=1e-12)
    assert f1 == pytest.approx(f1_score(labels, scores >= threshold), abs=1e-12)


@given(pairs)
def test_a_rising_transform_changes_nothing(items: list[tuple[bool, int]]) -> None:
    labels, scores = split(items)
    moved = np.exp(0.5 * scores) * 1e6 - 3e7
    assert auroc(labels, moved) == auroc(labels, scores)
    assert average_precision(labels, moved) == average_precision(labels, scores)
    assert best_f1(labels, moved)[0] == best_f1(labels, scores)[0]


@given(pairs)
def test_swapped_labels_mirror_auroc(items: list[tuple[bool, int]]) -> None:
    labels, scores = split(items)
    assert auroc(~labels, scores) == pytest.approx(1 - auroc(labels, scores), abs=1e-12)


@given(pairs)
def test_perfect_separation_is_one(items: list[tuple[bool, int]]) -> None:
    labels, scores = split(items)
    separated = scores + 100.0 * labels
    assert auroc(labels, separated) == 1.0
    assert average_precision(labels, separated) == 1.0
    f1, threshold = best_f1(labels, separated)
    assert (f1, threshold) == (1.0, separated[labels].min())


def test_all_tied_is_chance() -> None:
    labels = np.array([0, 1, 0, 0])
    assert auroc(labels, np.zeros(4)) == 0.5
    assert average_precision(labels, np.zeros(4)) == 0.25


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_float32_scores_outside_zero_to_one_are_not_clamped(scale: float) -> None:
    labels = np.array([False, False, True, True])
    scores = (np.array([1.5, 2.5, 2.0, 3.0]) * scale).astype(np.float32)
    assert auroc(labels, scores) == 0.75
    assert auroc(labels, -scores) == 0.25


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_a_missing_class_gives_nan(labels: list[int]) -> None:
    scores = np.arange(len(labels))
    assert np.isnan(auroc(labels, scores))
    assert np.isnan(average_precision(labels, scores))
    assert np.isnan(best_f1(labels, scores)).all()


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [1.0], "one label per score"),
        ([0, 2], [1.0, 2.0], "labels 0 and 1"),
        ([0, 1], [1.0, np.nan], "finite"),
        ([0, 1], [1.0, np.inf], "finite"),
    ],
)
def test_unusable_input_is_refused(labels: list[int], scores: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        auroc(labels, scores)


def test_counts_end_with_everything_passing() -> None:
    counts = count_by_threshold([0, 1, 1, 0], [2.0, 2.0, 5.0, -1.0])
    np.testing.assert_array_equal(counts.thresholds, [5, 2, -1])
    np.testing.assert_array_equal(counts.true, [1, 2, 2])
    np.testing.assert_array_equal(counts.false, [0, 1, 2])


@given(st.floats(0.01, 1.0), st.integers(0, 2**32 - 1))
def test_area_below_cuts_at_the_limit(limit: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = np.sort(rng.random((2, 9)), axis=1)
    x[-1] = 1.0
    assume(np.diff(x).min() > 1e-6)
    fine = np.linspace(0, limit, 20001)
    heights = np.interp(fine, np.append(0, x), np.append(0, y))
    expected = np.mean((heights[1:] + heights[:-1]) / 2)
    assert area_below(x, y, limit) == pytest.approx(expected, abs=1e-3)


def test_thinned_keeps_the_ends_and_the_shape() -> None:
    x = np.linspace(0, 1, 50_001)[1:]
    y = x ** (1 / 20)
    points = thinned(x, y)
    assert len(points) <= 401
    np.testing.assert_array_equal(points[[0, -1]], [[0, 0], [1, 1]])
    assert np.abs(np.interp(x, *points.T) - y).mean() < 1e-3
