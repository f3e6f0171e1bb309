from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.metrics.evaluate import Evaluation, ImageResult, evaluate
from generalad.metrics.ranking import auroc

THRESHOLD = 3.0
SIZE = (16, 24)


def make_result(i: int, label: str, score: float, *, masked: bool = True) -> ImageResult:
    rng = np.random.default_rng(i)
    values = rng.normal(size=(8, 12)).astype(np.float32)
    mask: NDArray[np.bool_] | None = np.zeros((32, 48), np.bool_)
    if label != "good":
        mask = np.zeros((32, 48), np.bool_) if masked else None
        values[2:5, 3:7] += 2
        if mask is not None:
            mask[8:20, 12:28] = True
    return ImageResult(
        path=f"test/{label}/{i:03d}.png",
        label=label,
        defective=label != "good",
        score=score,
        normalised=float(1 / (1 + np.exp(THRESHOLD - score))),
        decision=score >= THRESHOLD,
        map=values,
        mask=mask,
    )


def make_results() -> list[ImageResult]:
    """20 good, 6 dents, 4 scratches of which one has no mask."""
    rng = np.random.default_rng(0)
    good = [make_result(i, "good", float(rng.normal(2, 0.7))) for i in range(20)]
    dents = [make_result(20 + i, "dent", float(rng.normal(4, 1))) for i in range(6)]
    scratches = [
        make_result(30 + i, "scratch", float(rng.normal(3, 1)), masked=i > 0) for i in range(4)
    ]
    return good + dents + scratches


def run(results: list[ImageResult]) -> Evaluation:
    return evaluate(results, image_size=SIZE, image_threshold=THRESHOLD)


def test_counts_and_rates_follow_the_decisions() -> None:
    results = make_results()
    found = run(results)
    assert (found.good, found.defective, found.without_mask, found.regions) == (20, 10, 1, 9)
    alarms = sum(r.decision for r in results if not r.defective)
    misses = sum(not r.decision for r in results if r.defective)
    assert (found.false_alarms.count, found.false_alarms.total) == (alarms, 20)
    assert (found.misses.count, found.misses.total) == (misses, 10)
    assert found.misses.value == misses / 10
    assert sum(t.missed.count for t in found.defect_types) == misses
    assert [(t.name, t.images, t.without_mask) for t in found.defect_types] == [
        ("dent", 6, 0),
        ("scratch", 4, 1),
    ]


def test_a_type_is_measured_against_all_good_images() -> None:
    results = make_results()
    dent = run(results).defect_types[0]
    chosen = [r for r in results if r.label in ("good", "dent")]
    labels, scores = [r.defective for r in chosen], [r.score for r in chosen]
    assert dent.image_auroc.value == auroc(labels, scores)


def test_every_interval_holds_its_value_and_the_chosen_f1_has_none() -> None:
    found = run(make_results())
    assert (found.best_f1.low, found.best_f1.high) == (None, None)
    for estimate in (
        found.image_auroc,
        found.image_average_precision,
        found.pixel_auroc,
        found.pixel_average_precision,
        found.aupro,
        found.false_alarms,
        found.misses,
    ):
        assert estimate.low is not None and estimate.high is not None
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.low < estimate.high


def test_values_and_intervals_do_not_depend_on_the_order() -> None:
    results = make_results()
    first, again, turned = run(results), run(results), run(results[::-1])
    assert first == again
    for name in ("image_auroc", "image_average_precision", "pixel_auroc", "aupro"):
        one, other = (dataclasses.astuple(getattr(found, name)) for found in (first, turned))
        assert one == pytest.approx(other, abs=1e-12)


@pytest.mark.parametrize("keep", ["good", "defective"])
def test_json_has_null_and_no_nan_when_a_class_is_missing(keep: str) -> None:
    results = [r for r in make_results() if r.defective == (keep == "defective")]
    found = run(results)
    assert np.isnan(found.image_auroc.value)
    text = json.dumps(found.to_json(), allow_nan=False)
    assert json.loads(text)["image_auroc"] == {"value": None, "low": None, "high": None}


def test_json_states_how_the_numbers_were_obtained() -> None:
    found = json.loads(json.dumps(run(make_results()).to_json(), allow_nan=False))
    definition = " ".join(found["definition"].values())
    for part in ("DeLong", "16 by 24", "0.3", "9 ground-truth regions", "Wilson"):
        assert part in definition
    assert found["aupro"]["value"] == run(make_results()).aupro.value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "good", "defective": True}, "disagree"),
        ({"label": "dent", "defective": False}, "disagree"),
        ({"mask": np.ones((4, 4), np.bool_)}, "marks a defect"),
        ({"decision": True}, "was decided as True"),
        ({"score": float("nan")}, "finite"),
        ({"map": np.full((4, 4), np.inf, np.float32)}, "finite"),
    ],
)
def test_contradictory_results_are_refused(changes: dict[str, object], message: str) -> None:
    results = make_results()
    assert not results[0].decision
    results[0] = dataclasses.replace(results[0], **changes)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        run(results)


def test_an_empty_test_set_is_refused() -> None:
    with pytest.raises(DataError, match="found none"):
        run([])


def test_a_float32_comparison_beside_the_threshold_is_accepted() -> None:
    results = make_results()
    score = float(np.nextafter(THRESHOLD, 0))
    results[0] = dataclasses.replace(results[0], score=score, decision=True)
    run(results)
