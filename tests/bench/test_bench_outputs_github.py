"""The JSON for github-action-benchmark's `customSmallerIsBetter`."""

from __future__ import annotations

import json

import pytest
from bench_report_helpers import comparison, measurement, side

from generalad.bench.outputs.github import entries, github_benchmark
from generalad.bench.report import BenchReport


@pytest.mark.parametrize("report", [comparison(), measurement()])
def test_form(report: BenchReport) -> None:
    found = json.loads(github_benchmark(report))
    assert isinstance(found, list)
    for entry in found:
        assert set(entry) == {"name", "unit", "value", "range", "extra"}
        assert type(entry["value"]) is float
        assert all(isinstance(entry[key], str) for key in ("name", "unit", "range", "extra"))
    names = [entry["name"] for entry in found]
    assert len(set(names)) == len(names)


def test_values() -> None:
    found = {entry["name"]: entry for entry in entries(comparison(1.102))}
    infer = found["new.onnx: infer, median"]
    assert infer["value"] == pytest.approx(1.102 * 10.62)
    assert (infer["unit"], infer["range"]) == ("ms", "11.6…11.9")
    assert infer["extra"].splitlines()[0] == "400 runs"
    ratio = found["new.onnx: total, new over old"]
    assert (ratio["value"], ratio["unit"]) == (1.102, "ratio")
    assert "slower" in ratio["extra"]
    assert found["new.onnx: peak memory"]["unit"] == "MB"


def test_only_what_is_better_when_smaller() -> None:
    report = measurement(new=side(gpu_memory=812.0, energy=1.9, temperature=61.0))
    units = {entry["unit"] for entry in entries(report)}
    assert units == {"ms", "MB", "J"}


def test_names_stay_from_run_to_run() -> None:
    names = [entry["name"] for entry in entries(comparison(1.0))]
    assert names == [entry["name"] for entry in entries(comparison(1.3))]
