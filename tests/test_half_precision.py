"""Which precision a session takes: verified, on units that the processor has, and faster."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from conftest import MakeSpec

from generalad.errors import ArtifactError, UsageError
from generalad.half_precision import Choice, VerifiedPrecision, choose, units_of
from generalad.processor import Processor
from generalad.spec import GoldenSample, Spec, Thresholds

AMX = {"bf16": "amx_bf16"}


def verified(units: str = "amx_bf16", low: float = 1.5, **changes: Any) -> VerifiedPrecision:
    found = VerifiedPrecision(
        precision="bf16",
        units=units,
        processor="P",
        backend="openvino 2026, CPU, bf16",
        speed_up=(2.0, low, 2.5),
        shift=(0.125, -0.25),
        golden=(),
        parity={"spread": 1.0},
    )
    return dataclasses.replace(found, **changes)


def test_what_was_verified_on_these_units_is_taken() -> None:
    record = verified()
    assert choose((record,), AMX) == Choice("bf16", "amx_bf16", record)
    assert choose((record,), AMX).in_words() == "bf16 on amx_bf16"
    assert choose((verified("avx512_bf16"), record), AMX).verified is record


@pytest.mark.parametrize(
    ("records", "offered", "expected", "words"),
    [
        ((verified(),), {}, False, "f32 (bf16 is verified on amx_bf16, not here)"),
        (
            (verified(),),
            {"bf16": "avx512_bf16"},
            True,
            "f32 (bf16 is verified on amx_bf16, not here)",
        ),
        ((verified(low=0.99),), AMX, True, "f32 (bf16 on amx_bf16 is not faster)"),
        ((), AMX, True, "f32 (bf16 on amx_bf16 is not verified)"),
        ((), AMX, False, "f32"),
        ((), {}, True, "f32"),
    ],
)
def test_else_float32_which_says_why(
    records: tuple[VerifiedPrecision, ...], offered: dict[str, str], expected: bool, words: str
) -> None:
    found = choose(records, offered, expected=expected)
    assert (found.precision, found.units, found.verified) == ("fp32", "", None)
    assert found.in_words() == words


def test_a_named_precision_is_taken_or_refused() -> None:
    assert choose((verified(),), AMX, wanted="fp32") == Choice()
    assert choose((), AMX, wanted="bf16") == Choice("bf16", "amx_bf16")
    slow = verified(low=0.5)
    assert choose((slow,), AMX, wanted="bf16").verified is slow
    with pytest.raises(UsageError, match="no units for fp16, found amx_bf16") as caught:
        choose((), AMX, wanted="fp16")
    assert caught.value.remedy and "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="found none for half precision"):
        choose((), {}, wanted="bf16")


@pytest.mark.parametrize(
    ("flags", "precision", "units"),
    [
        ("avx512f avx512_bf16 amx_tile amx_bf16", "bf16", "amx_bf16"),
        ("avx512f avx512_bf16", "bf16", "avx512_bf16"),
        ("avx512f avx512_fp16 amx_bf16", "fp16", "avx512_fp16"),
        ("fp asimd asimdhp bf16", "bf16", "bf16"),
        ("fp asimd asimdhp bf16", "fp16", "asimdhp"),
        ("avx2", "bf16", None),
        ("", "bf16", None),
    ],
)
def test_units_by_the_flags_of_the_processor(flags: str, precision: str, units: str | None) -> None:
    assert units_of(Processor("P", frozenset(flags.split())), precision) == units


@pytest.mark.parametrize(
    ("variable", "value", "units"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX", "amx_bf16"),
        ("ONEDNN_MAX_CPU_ISA", "all", "amx_bf16"),
        ("ONEDNN_MAX_CPU_ISA", "avx512_core_bf16", "avx512_bf16"),
        ("OV_CPU_MAX_ISA", "AVX512_CORE", None),
        ("DNNL_MAX_CPU_ISA", "AVX2", None),
    ],
)
def test_what_a_user_hides_is_not_there(
    variable: str, value: str, units: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    processor = Processor("P", frozenset({"avx512_bf16", "amx_bf16"}))
    assert units_of(processor, "bf16") == units


def with_golden(make_spec: MakeSpec, **changes: Any) -> Spec:
    half = verified(golden=((0.5, 0.75),))
    golden = (GoldenSample("", 0.25, 0.375),)
    return make_spec(**{"golden": golden, "half_precisions": (half,), **changes})


def test_what_holds_in_half_precision_and_back(make_spec: MakeSpec) -> None:
    stored = with_golden(make_spec)
    (half,) = stored.half_precisions
    there = stored.computed_in(half)
    assert there.thresholds == Thresholds(0.375, 0.0)
    assert [(one.score, one.map_peak) for one in there.golden] == [(0.5, 0.75)]
    assert there.parity == {"spread": 1.0}
    assert there.stored_as(stored, half) == stored
    assert Spec.from_json(stored.to_json()) == stored


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("precision", "fp64", "unknown half precision 'fp64'"),
        ("golden", [], "a score for each golden sample"),
        ("shift", [0.1], "shift"),
    ],
)
def test_damaged_records_are_refused(key: str, value: Any, words: str, make_spec: MakeSpec) -> None:
    record = json.loads(with_golden(make_spec).to_json())
    record["half_precisions"][0][key] = value
    with pytest.raises(ArtifactError, match=words):
        Spec.from_json(json.dumps(record))
