"""The record of an artifact: round trip, versions, damage, and the normalised score."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from generalad.errors import ArtifactError
from generalad.runtime.backends.fake import fake_spec
from generalad.spec import FORMAT_VERSION, Normalisation, Spec

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(max_size=20)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def specs(draw: Callable[..., Any]) -> Spec:
    spec = fake_spec()
    sizes = st.tuples(st.integers(1, 4096), st.integers(1, 2048))  # no more than MOST_PIXELS
    return dataclasses.replace(
        spec,
        class_name=draw(TEXT),
        image_size=draw(sizes),
        map_size=draw(sizes),
        top_k=draw(st.integers(1, 5000)),
        backbone=dataclasses.replace(
            spec.backbone, layers=tuple(draw(st.lists(st.integers(1, 40), max_size=3)))
        ),
        training_set=dataclasses.replace(
            spec.training_set, skipped=tuple(draw(st.lists(TEXT, max_size=2)))
        ),
        thresholds=dataclasses.replace(spec.thresholds, image=draw(NUMBERS), pixel=draw(NUMBERS)),
        normalisation=Normalisation(draw(st.floats(1e-9, 1e9))),
        metrics=draw(st.dictionaries(TEXT, PLAIN, max_size=3)),
    )


@given(specs())
def test_json_round_trip(spec: Spec) -> None:
    assert Spec.from_json(spec.to_json()) == spec


@given(specs(), TEXT)
def test_unknown_fields_are_ignored_at_every_level(spec: Spec, word: str) -> None:
    raw = spec.to_dict()
    raw[f"new {word}"] = {"a": 1}
    raw["backbone"][f"new {word}"] = [1]
    assert Spec.from_dict(raw) == spec


def test_a_newer_format_is_refused_with_the_remedy() -> None:
    raw = fake_spec().to_dict() | {"format_version": FORMAT_VERSION + 1}
    with pytest.raises(ArtifactError, match="newer") as caught:
        Spec.from_dict(raw, name="model.onnx")
    assert "model.onnx" in caught.value.message
    assert "upgrade" in caught.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "3", "null", '"text"', "{}", "1" * 5000, "[" * 100_000),
        *('{"format_version": "1"}', '{"format_version": true}', '{"format_version": null}'),
    ],
)
def test_what_is_no_spec_says_so(text: str) -> None:
    with pytest.raises(ArtifactError, match="holds no generalad spec"):
        Spec.from_json(text)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Spec)])
@pytest.mark.parametrize("value", [None, "text", 1.5, [1, "a"], {"a": 1}])
def test_a_damaged_field_is_refused_or_is_of_its_type(field: str, value: Any) -> None:
    raw = fake_spec().to_dict() | {field: value}
    try:
        spec = Spec.from_dict(raw)
    except ArtifactError:
        return
    assert type(getattr(spec, field)) is type(getattr(fake_spec(), field))


REQUIRED = ("method", "image_size", "top_k", "backbone", "thresholds", "normalisation")


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_field_is_named(field: str) -> None:
    raw = fake_spec().to_dict()
    del raw[field]
    with pytest.raises(ArtifactError, match=f"damaged.*{field}"):
        Spec.from_dict(raw)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("thresholds", "image"), math.nan),
        (("thresholds", "image"), math.inf),
        (("thresholds", "image"), 10**400),
        (("thresholds", "image"), True),
        (("thresholds", "image"), "0.5"),
        (("normalisation", "scale"), 0.0),
        (("normalisation", "scale"), -1.0),
        (("image_size",), [64]),
        (("image_size",), [64, 64, 3]),
        (("image_size",), [64, 64.0]),
        (("image_size",), [0, 64]),
        (("map_size",), [16, -1]),
        (("output_names",), ["scores"]),
        (("golden",), [{"png": "", "score": 1.0}]),
        (("calibration", "images"), 2.5),
    ],
)
def test_values_no_artifact_can_have(path: tuple[str, ...], value: Any) -> None:
    raw = fake_spec().to_dict()
    place = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ArtifactError, match="damaged"):
        Spec.from_dict(raw)


def test_nan_is_neither_written_nor_read() -> None:
    spec = dataclasses.replace(fake_spec(), metrics={"auroc": math.nan})
    with pytest.raises(ValueError, match="not JSON compliant"):
        spec.to_json()
    with pytest.raises(ArtifactError):
        Spec.from_json(json.dumps(spec.to_dict()))


@given(raw=NUMBERS, threshold=NUMBERS, scale=st.floats(1e-300, 1e300))
def test_normalised_scores_never_overflow(raw: float, threshold: float, scale: float) -> None:
    assert 0.0 <= Normalisation(scale)(raw, threshold) <= 1.0


@given(threshold=NUMBERS, scale=st.floats(1e-300, 1e300))
def test_the_threshold_lies_at_one_half(threshold: float, scale: float) -> None:
    assert Normalisation(scale)(threshold, threshold) == 0.5


@given(
    low=st.floats(-15, 15), high=st.floats(-15, 15), threshold=st.floats(-5, 5), scale=st.just(0.7)
)
def test_normalised_scores_strictly_increase(
    low: float, high: float, threshold: float, scale: float
) -> None:
    assume(high - low > 1e-6)
    mapping = Normalisation(scale)
    assert mapping(low, threshold) < mapping(high, threshold)


@given(score=st.floats(-1e6, 1e6), threshold=st.floats(-1e6, 1e6))
def test_a_decision_is_score_at_or_above_the_threshold(score: float, threshold: float) -> None:
    spec = fake_spec()
    spec = dataclasses.replace(
        spec, thresholds=dataclasses.replace(spec.thresholds, image=threshold)
    )
    assert spec.is_anomalous(score) == (score >= threshold)
    assert spec.is_anomalous(threshold)
    assert (spec.normalised(score) >= 0.5) or score < threshold
