"""A report survives its JSON, what is none is refused in one line, the schema is the record."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from bench_report_helpers import comparison, measurement
from bench_schema_helpers import report_schema
from hypothesis import given
from hypothesis import strategies as st

from generalad.bench import report as report_module
from generalad.bench.report import (
    LARGEST,
    SCHEMA,
    BenchReport,
    Machine,
    parse,
    read_report,
)
from generalad.errors import ArtifactError, DataError
from generalad.statistics import Estimate

PUBLISHED = Path(__file__).parents[2] / "docs" / "bench.schema.json"

finite = st.floats(allow_nan=False, allow_infinity=False)
st.register_type_strategy(float, finite)
plain = st.none() | st.booleans() | st.integers() | finite | st.text()
st.register_type_strategy(
    Machine,
    st.builds(
        Machine,
        reference=st.dictionaries(st.text(), st.builds(Estimate, st.floats(1, 9)), max_size=2),
    ),
)
reports = st.builds(
    BenchReport,
    settings=st.dictionaries(st.text(), plain, max_size=3),
    schema=st.just(SCHEMA),
)
validator = jsonschema.Draft202012Validator(report_schema())


@given(reports)
def test_a_report_is_the_same_after_its_json(report: BenchReport) -> None:
    text = report.to_json()
    assert parse(text) == report
    validator.validate(json.loads(text))


@pytest.mark.parametrize("report", [comparison(), measurement()])
def test_reads_a_file(tmp_path: Path, report: BenchReport) -> None:
    path = tmp_path / "bench.json"
    path.write_text(report.to_json(), encoding="utf-8")
    assert read_report(path) == report


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values within `value`, besides free settings."""
    found = [path] if path else []
    if isinstance(value, dict) and path != ("settings",):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    if isinstance(value, list):
        for at, inner in enumerate(value):
            found += places(inner, (*path, at))
    return found


EXAMPLE = json.loads(comparison().to_json())


@given(
    st.sampled_from(places(EXAMPLE)), st.sampled_from([None, True, -3, 2.0, 1.5, "x", [], [0], {}])
)
def test_reader_and_schema_agree_on_what_a_report_is(place: tuple[Any, ...], value: Any) -> None:
    changed = copy.deepcopy(EXAMPLE)
    target = changed
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    try:
        parse(json.dumps(changed))
        accepted = True
    except ArtifactError as error:
        accepted = False
        assert "\n" not in str(error)
    assert accepted == validator.is_valid(changed)


@given(st.sampled_from(places(EXAMPLE)))
def test_reader_and_schema_agree_on_what_may_be_absent(place: tuple[Any, ...]) -> None:
    changed = copy.deepcopy(EXAMPLE)
    target = changed
    for key in place[:-1]:
        target = target[key]
    del target[place[-1]]
    try:
        parse(json.dumps(changed))
        accepted = True
    except ArtifactError:
        accepted = False
    assert accepted == validator.is_valid(changed)


def test_the_keys_are_those_of_the_first_reports() -> None:
    """Names in Python may change, what lies in folders of reports does not."""
    assert {"sentence", "refusal", "schema"} <= set(EXAMPLE)
    assert set(EXAMPLE["gates"][0]) == {"name", "passed", "sentence"}
    assert set(EXAMPLE["new"]["throughput"][0]) == {"batch", "concurrency", "pictures_per_second"}
    assert EXAMPLE["new"]["limit"]["bound"] == "arithmetic"


def test_a_later_field_is_passed_over() -> None:
    later = {**EXAMPLE, "weather": "fine"}
    assert parse(json.dumps(later)) == comparison()
    assert validator.is_valid(later)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"schema": SCHEMA + 1}, f"schema {SCHEMA + 1}, this version reads schema {SCHEMA}"),
        ({"schema": SCHEMA - 1}, "run gad bench again"),
        ({"schema": True}, "schema true"),
        ({"seconds": "41"}, "seconds: expected a number, found '41'"),
        ({"seconds": True}, "seconds: expected a number, found True"),
        ({"seconds": 10**400}, "seconds: expected a number"),
        ({"verdict": "quick"}, "verdict: expected one of cannot tell, faster"),
        ({"gates": {}}, "gates: expected a list"),
        ({"new": {}}, "new: name is missing"),
        ({"machine": None}, "machine: expected a table of keys and values, found None"),
    ],
)
def test_says_what_is_wrong(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        parse(json.dumps({**EXAMPLE, **change}), "a.json")
    assert expected in str(caught.value)
    assert str(caught.value).startswith("a.json ")
    assert len(str(caught.value)) < 250


def test_names_the_place_of_a_wrong_value() -> None:
    changed = copy.deepcopy(EXAMPLE)
    changed["new"]["stages"]["infer"]["median"]["low"] = "nine"
    changed["new"]["throughput"][1]["batch"] = 8.5
    with pytest.raises(ArtifactError, match=r"new\.stages\.infer\.median\.low: expected a number"):
        parse(json.dumps(changed))
    changed["new"]["stages"]["infer"]["median"]["low"] = 9
    with pytest.raises(ArtifactError, match=r"new\.throughput\[1\]\.batch: expected a whole"):
        parse(json.dumps(changed))


@pytest.mark.parametrize("text", ["", "no", "[]", "3", "null", "{}", '{"a": NaN}', "[" * 100_000])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="is no bench report"):
        parse(text)


def test_files_that_cannot_be_reports(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no report at"):
        read_report(tmp_path / "absent.json")
    with pytest.raises(DataError, match="cannot read"):
        read_report(tmp_path)
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtifactError, match="not UTF-8"):
        read_report(binary)
    with binary.open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(ArtifactError, match="more than 16 MB"):
        read_report(binary)


def test_the_published_schema_is_that_of_the_record() -> None:
    if not PUBLISHED.exists():
        pytest.skip("runs from a checkout only")
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    made = json.dumps(report_schema(), indent=2)
    assert published == json.loads(made), "write json.dumps(report_schema(), indent=2) into it"
    jsonschema.Draft202012Validator.check_schema(published)


def test_the_schema_explains_every_dataclass_of_the_record() -> None:
    schema = report_schema()
    kinds = {
        name
        for name, kind in vars(report_module).items()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    }
    assert set(schema["$defs"]) == kinds - {"Struct", "BenchReport"} | {"Estimate"}
    assert all(one["description"] for one in (schema, *schema["$defs"].values()))
    side = schema["$defs"]["Side"]["properties"]
    assert side["backend"]["description"] == side["precision"]["description"]
    assert all("description" in one for one in side.values())
