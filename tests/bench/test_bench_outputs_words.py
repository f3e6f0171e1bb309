"""What a person reads: the table on a terminal and the comment on a pull request."""

from __future__ import annotations

import io
import re

import pytest
from bench_report_helpers import comparison, estimate, measurement, side, times
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console, Group

from generalad.bench.outputs import text as words
from generalad.bench.outputs.github import github_benchmark, markdown
from generalad.bench.outputs.terminal import render
from generalad.bench.report import BenchReport, Comparison, Gate, Soak, Verdict
from generalad.statistics import Estimate

BOTH = [comparison(), measurement()]


def shown(report: BenchReport, *, width: int = 80, colour: bool = False) -> str:
    text = io.StringIO()
    out = Console(file=text, width=width, force_terminal=colour, soft_wrap=True, highlight=False)
    out.print(render(report))
    return text.getvalue()


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_table_shows_both_sides_and_the_change() -> None:
    line = line_of(shown(comparison(1.102)), "infer")
    assert line.split() == [
        *("infer", "10.6", "±1.5%", "13.2", "11.7", "±1.5%", "14.5"),
        *("+10.2%", "+9.0…+11.5", "slower"),
    ]


def test_table_of_one_side_shows_its_quantiles() -> None:
    report = measurement(new=side(stages={"total": times(13.04, samples=1000)}))
    line = line_of(shown(report), "total")
    assert line.split() == ["total", "13.0", "12.9…13.2", "15.0", "16.2", "20.9", "1000"]


def test_the_verdict_and_the_gates_stand_last() -> None:
    lines = shown(comparison()).rstrip().splitlines()
    assert lines[-4].startswith("new.onnx is slower than old.onnx by 10.2 %")
    assert lines[-3:] == [
        "✗ slowdown: 10.2 %, the limit is 5 %",
        "✓ p95: 14.2 ms, within the limit of 40 ms",
        "? memory: cannot tell, this system does not say (limit 300 MB)",
    ]


def test_what_was_not_measured_is_said_once() -> None:
    text = shown(comparison())
    assert text.count("not measured: energy: no sensor was found (NVML, Jetson)") == 1


def test_notes_and_a_soak_are_said() -> None:
    soak = Soak(1800.0, Estimate(0.4, -0.1, 0.9), Estimate(3.0))
    report = measurement(soak=soak, notes=("the host took 7 % of the processor time",))
    said = "over 30 min: latency +0.4 (-0.1…+0.9) ms an hour, memory +3 MB an hour"
    assert said in shown(report)
    assert "note: the host took 7 %" in shown(report)
    assert f"- {said}\n- the host took 7 %" in markdown(report)
    assert "memory" not in words.soak_text(Soak(60.0, Estimate(0.0)))


def test_a_stage_of_one_side_only_is_shown() -> None:
    report = comparison()
    assert report.old
    stages = {**report.new.stages, "upload": times(0.8)}
    report = replace(report, new=replace(report.new, stages=stages))
    lines = shown(report).splitlines()
    assert line_of(shown(report), "upload").split() == ["upload", "0.800", "±1.5%", "0.992"]
    order = [line.split()[0] for line in lines if line.startswith(("pre", "upload", "infer"))]
    assert order == ["preprocess", "upload", "infer"]
    assert "| upload |  | 0.800 ±1.5% |  |  |  |" in markdown(report)


@pytest.mark.parametrize(
    ("verdict", "code"), [("slower", "1;31"), ("faster", "32"), ("cannot tell", "33"), ("same", "")]
)
def test_a_ratio_has_the_colour_of_its_verdict(verdict: Verdict, code: str) -> None:
    found = (Comparison("infer", Estimate(1.0, 0.9, 1.1), 9, verdict),)
    text = shown(
        comparison(comparisons=found, gates=(), verdict_text="x", verdict=verdict), colour=True
    )
    line = line_of(text, "infer")
    assert (f"\x1b[{code}m" in line) if code else ("\x1b[" not in line)


positive = st.floats(1e-3, 8000)


@given(st.lists(positive, min_size=2, max_size=2), st.floats(0, 0.9), st.floats(0.01, 9))
def test_nothing_is_cut_off_in_a_build_log(
    medians: list[float], share: float, factor: float
) -> None:
    new, old = (side(stages={"postprocess": times(m), "total": times(m)}) for m in medians)
    spread = {
        name: replace(t, median=estimate(t.median.value, share)) for name, t in new.stages.items()
    }
    ratio = Estimate(factor, factor * (1 - share), factor * (1 + share))
    report = comparison(
        new=replace(new, stages=spread),
        old=old,
        comparisons=(Comparison("postprocess", ratio, 9, "cannot tell"),),
    )
    line = line_of(shown(report), "postprocess")
    assert line.rstrip().endswith("cannot tell")
    assert "…" not in line.replace(words.change_interval(ratio), "")


@given(st.sampled_from(BOTH), st.text(max_size=30))
def test_markup_in_names_and_sentences_is_text(report: BenchReport, text: str) -> None:
    name = f"[red]{text}[/red]"
    report = replace(report, verdict_text=name, new=side(name))
    assert isinstance(render(report), Group)
    assert "[red]" in shown(report, width=200)


@given(st.floats(1e-3, 99_999))
def test_a_number_is_short_and_keeps_three_figures_or_decimals(value: float) -> None:
    text = words.number(value)
    assert len(text) <= 5
    assert float(text) == pytest.approx(value, rel=0.0051, abs=0.00051)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, "0.000"), (3e-5, "3e-05"), (9.996, "10.0"), (1234.5, "1234")]
)
def test_numbers(value: float, expected: str) -> None:
    assert words.number(value) == expected


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(1.0, "0.0%"), (1.0499, "+5.0%"), (0.66, "-34.0%"), (3.4, "+240%"), (0.99999, "0.0%")],
)
def test_ratios_in_percent(ratio: float, expected: str) -> None:
    assert words.change(Estimate(ratio)) == expected
    assert words.change_interval(Estimate(ratio)) == ""


def test_a_path_among_the_settings_loses_its_folders() -> None:
    for place in ("/home/me/secret/line.mp4", r"C:\Users\me\line.mp4", "line.mp4"):
        report = measurement(settings={"source": place, "seed": 0, "soak": None})
        assert words.settings_text(report) == "source line.mp4, seed 0, 41 s in all"
        assert "me" not in markdown(report).partition("settings:")[2].split("in all")[0]


def test_a_baseline_has_changes_but_no_other_side() -> None:
    report = comparison(old=None)
    line = line_of(shown(report), "infer")
    assert line.split() == ["infer", "11.7", "±1.5%", "14.5", "+10.2%", "+9.0…+11.5", "slower"]
    text = markdown(report)
    assert text.startswith("### 🔴 slower: `new.onnx against a baseline`")
    assert "| infer | 11.7 ±1.5% | +10.2% | +9.0…+11.5 | slower |" in text


def test_a_refusal_is_said_where_a_verdict_would_be() -> None:
    gate = Gate("slowdown", None, "not judged (limit 5 %)")
    report = measurement(refusal="the baseline of 2026-03-01 cannot judge this run", gates=(gate,))
    lines = shown(report).rstrip().splitlines()
    assert lines[-2:] == [report.refusal, "? slowdown: not judged (limit 5 %)"]
    text = markdown(report)
    assert text.startswith(f"### 🚫 refused: `model.onnx`\n\n{report.refusal}\n")
    assert "- ❔ slowdown: not judged (limit 5 %)" in text


def test_memory_that_is_not_known_is_not_nought() -> None:
    report = measurement(new=side(peak_rss=0.0))
    assert "peak memory" not in shown(report)
    assert "peak memory" not in github_benchmark(report)


def test_an_interval_that_tells_nothing_is_short() -> None:
    assert words.spread(Estimate(0.1, 0.09, 15.0)) == "±>10x"
    assert words.spread(Estimate(0.1, 0.09, 0.9)) == "±800%"
    assert words.spread(Estimate(0.1)) == ""


def test_settings_have_units_and_no_empty_ones() -> None:
    settings = {"batch": 1, "device": None, "budget": 60.0, "limit": 0.05, "image_size": [64, 32]}
    said = words.settings_text(comparison(settings=settings))
    assert said == "batch 1, budget 60 s, limit 5 %, image size 64 x 32, 41 s in all"
    assert "limit" not in words.settings_text(measurement(settings=settings))


def test_revisions_tell_checkouts_apart() -> None:
    new, old = (side(revision=f"{letter * 9}+") for letter in "ab")
    title = words.title(comparison(new=new, old=old))
    assert title == "model.onnx at aaaaaaaaa+ against model.onnx at bbbbbbbbb+"


def test_markdown_says_the_verdict_first_and_folds_the_rest() -> None:
    lines = markdown(comparison()).splitlines()
    assert lines[0].startswith("### 🔴 slower: `new.onnx against old.onnx`")
    assert "- ❌ slowdown: 10.2 %, the limit is 5 %" in lines
    fold = lines.index("<details>")
    assert "| infer | 10.6 ±1.5% | 11.7 ±1.5% | +10.2% | +9.0…+11.5 | slower |" in lines[:fold]
    assert any("SHA-256 abababababab" in line for line in lines[fold:])
    assert lines.count("<details>") == lines.count("</details>") == 1


def test_markdown_of_a_measurement() -> None:
    text = markdown(measurement())
    assert "### 📏 measured: `model.onnx`" in text
    assert "| **total** | **13.0 ±1.5%** | **16.2** |" in text


@pytest.mark.parametrize("report", BOTH)
def test_all_rows_of_a_table_have_its_columns(report: BenchReport) -> None:
    tables = re.findall(r"(?:^\|.*\n?)+", markdown(report), re.MULTILINE)
    assert len(tables) == 3
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1


NASTY = "a|b`c`</details><img src=x> @someone #12 [x](y) *b*\n## c"


def test_markdown_shows_foreign_text_as_text() -> None:
    report = comparison(
        new=side(NASTY), verdict_text=NASTY, gates=(Gate("p95", True, NASTY),), verdict="same"
    )
    text = markdown(report)
    outside = re.sub(r"(?<!\\)(`+) .*? \1(?!`)", "", text)  # what is code is safe
    assert "<img" not in outside
    assert outside.count("</details>") == 1
    assert not re.search(r"[@#]\w", outside)
    assert "\n## c" not in text
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    assert all("a|b" not in line for line in tables)
