"""The history page: what is joined, what is skipped, and that it needs nothing from elsewhere."""

from __future__ import annotations

import datetime
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from bench_report_helpers import comparison, estimate, machine, measurement, side
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from generalad.bench.outputs.history import SHOWN, History, Run, read_history, render, write_history
from generalad.bench.report import BenchReport, Comparison, Gate, Soak
from generalad.errors import DataError, StorageError
from generalad.metrics.plots import Line, Point, runs_plot
from generalad.statistics import Estimate

NASTY = '<script>alert("x")</script>&'


def at(day: int, report: BenchReport | None = None, name: str = "") -> Run:
    when = datetime.datetime(2026, 3, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(day)
    return Run(name or f"{day}.json", when, report or comparison())


def page(*runs: Run, skipped: tuple[tuple[str, str], ...] = ()) -> str:
    return render(History(runs, skipped))


def save(folder: Path, name: str, report: BenchReport) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report.to_json(), encoding="utf-8")
    return path


class Balance(HTMLParser):
    """Fails on an element that is closed wrongly; gathers what would be loaded from elsewhere."""

    VOID = frozenset({"meta", "br", "path", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [tag] if tag in ("script", "link", "img", "iframe") else []
        self.loaded += [name for name, _ in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(text: str) -> str:
    balance = Balance()
    balance.feed(text)
    balance.close()
    assert balance.open == []
    assert balance.loaded == []
    assert "url(" not in text
    assert "@import" not in text
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    return text


def test_page_from_a_folder(tmp_path: Path) -> None:
    save(tmp_path, "b/second.json", comparison(when="2026-03-02T10:00:00+01:00"))
    save(tmp_path, "a/third.json", comparison(when="2026-03-02T09:30:00Z"))
    save(tmp_path, "first.json", comparison(when="2026-03-01T10:00:00"))
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "notes.txt").write_text("no report, and not taken for one")
    save(tmp_path, "old.json", comparison(schema=0))
    save(tmp_path, "when.json", comparison(when="yesterday"))
    history = write_history(tmp_path, tmp_path / "page.html")
    assert [run.name for run in history.runs] == ["first.json", "b/second.json", "a/third.json"]
    assert [name for name, _ in history.skipped] == ["list.json", "old.json", "when.json"]
    text = checked((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "<dt>skipped files</dt><dd>3</dd>" in text
    assert "<code>when.json</code>: it has no time but &#x27;yesterday&#x27;" in text
    assert str(tmp_path) not in text


def test_a_folder_without_reports(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        read_history(tmp_path / "absent")
    with pytest.raises(DataError, match="no JSON file"):
        read_history(tmp_path)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DataError, match="1 JSON files that are none"):
        write_history(tmp_path, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    save(tmp_path, "a.json", comparison())
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_history(tmp_path, tmp_path / "file" / "page.html")


@pytest.mark.parametrize(
    ("other", "sections"),
    [
        (comparison(1.3), 1),
        (comparison(new=side("other.onnx")), 2),
        (comparison(new=side("new.onnx", precision="int8")), 2),
        (comparison(machine=machine(cpu="Another CPU")), 2),
        (comparison(machine=machine(system="Linux 6.2", noise=0.5)), 1),
        (comparison(settings={**comparison().settings, "batch": 8}), 2),
        (comparison(settings={**comparison().settings, "seed": 8}), 1),
    ],
)
def test_only_what_is_alike_is_joined(other: BenchReport, sections: int) -> None:
    text = checked(page(at(0), at(1, other)))
    assert text.count("<section>") == sections
    joined = re.findall(r'<g class="median"><path class="line"', text)
    assert len(joined) == (len(comparison().new.stages) + 1 if sections == 1 else 0)


def test_points_say_what_they_are_and_lie_where_they_should() -> None:
    text = page(at(0), at(1, comparison(1.3)))
    total = text[text.index('aria-label="total over time"') :].partition("</svg>")[0]
    medians = total.partition('<g class="median">')[2]
    assert "<title>2026-03-01 00:00: median 14.4 (14.2…14.6) ms, 0.json</title>" in medians
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', medians)]
    assert len(heights) == 2
    assert heights[0] > heights[1]  # slower stands higher
    assert total.count("whisker") == 4


def test_ratios_have_the_class_of_their_verdict_and_the_limit_its_line() -> None:
    unsure = (Comparison("total", Estimate(1.02, 0.9, 1.2), 8, "cannot tell"),)
    text = page(
        at(0, comparison(1.2, settings={"limit": 0.05})),
        at(1, comparison(0.8, settings={"limit": 0.05})),
        at(2, comparison(comparisons=unsure, settings={"limit": 0.05})),
    )
    ratios = text[text.index('aria-label="Change of the total') :].partition("</svg>")[0]
    assert re.findall(r'<g class="(\w+)"><title>', ratios) == ["slower", "faster", "cannot"]
    assert "+20.0% (+18.8…+21.3), slower" in ratios
    assert 'class="level limit"' in ratios
    assert 'class="level limit"' not in page(at(0, comparison(gates=())))


def test_a_measurement_alone_has_no_ratios() -> None:
    text = checked(page(at(0, measurement())))
    assert "Change of the total" not in text
    assert text.count("<svg") == len(measurement().new.stages) + 1


def test_throughput_of_one_session_and_the_most() -> None:
    text = checked(page(at(0, measurement())))
    drawn = text[text.index('aria-label="Images a second') :].partition("</svg>")[0]
    titles = re.findall(r'<g class="(\w+)">.*?<title>2026-03-01 00:00: ([^<]*)', drawn)
    assert titles == [
        ("p95", "131 (130…133) images a second, batch 8, 2 sessions, 0.json"),
        ("median", "76.7 (75.9…77.9) images a second, batch 1, one session, 0.json"),
    ]


def test_what_has_no_plot_says_why() -> None:
    plain = measurement(new=side("new.onnx", throughput=()))
    text = checked(page(at(0, plain)))
    assert "Throughput is measured where an artifact is benched alone." in text
    assert "None of these runs was a soak." in text
    assert "Drift of" not in text
    text = page(at(0, replace(plain, soak=Soak(600.0, Estimate(0.0)))))
    assert "The system did not tell the memory of the soaks." in text
    assert "Drift of latency" in text


def test_drift_that_surely_grew_is_told_from_noise() -> None:
    soak = Soak(1800.0, Estimate(0.1, -0.2, 0.4), Estimate(30.0, 20.0, 40.0))
    text = checked(page(at(0, measurement(soak=soak))))
    kinds = {
        name: re.search(rf'"Drift of {name} over time".*?<g class="(\w+)"><title>([^<]*)', text)
        for name in ("latency", "memory")
    }
    found = {name: match and match.groups() for name, match in kinds.items()}
    assert found == {
        "latency": ("same", "2026-03-01 00:00: 0.100 (-0.200…0.400) ms an hour, 30 min, 0.json"),
        "memory": ("slower", "2026-03-01 00:00: 30.0 (20.0…40.0) MB an hour, 30 min, 0.json"),
    }


def test_a_refusal_stands_where_a_verdict_would() -> None:
    text = checked(page(at(0, measurement(refusal=NASTY))))
    assert '<td class="cannot">refused</td><td>&lt;script&gt;' in text


def test_runs_of_one_day_are_told_apart_by_their_time() -> None:
    assert ">03-01 00:00</text>" in page(at(0))
    assert ">2026-03-02</text>" in page(at(0), at(1))


def test_stages_may_be_absent() -> None:
    text = checked(page(at(0, measurement(new=side(stages={})))))
    assert "not measured" in text


def test_gates_are_in_the_table_with_the_reason_of_a_failure() -> None:
    gates = (Gate("slowdown", False, NASTY), Gate("p95", True, "14 of 40 ms"))
    text = checked(page(at(0, comparison(gates=gates))))
    assert '<span class="failed">slowdown: &lt;script&gt;' in text
    assert '<span class="passed">p95 passed</span>' in text
    assert "14 of 40 ms" not in text


def test_the_newest_run_stands_first_and_old_ones_are_folded() -> None:
    text = checked(page(*(at(day) for day in range(SHOWN + 2))))
    dates = re.findall(r"<tr><td>(2026-\d\d-\d\d)", text)
    assert dates == sorted(dates, reverse=True)
    assert len(dates) == SHOWN + 2
    assert "<summary>2 older runs</summary>" in text


def test_foreign_text_is_text() -> None:
    nasty = comparison(
        new=side(NASTY, backend=NASTY, revision=NASTY), machine=machine(cpu=NASTY, gpu=NASTY)
    )
    text = checked(page(at(0, nasty, name=NASTY), skipped=((NASTY, NASTY),)))
    assert "<script" not in text


values = st.floats(-1e6, 1e6)


@given(st.lists(values, min_size=1, max_size=120), st.floats(0, 1), st.booleans())
def test_everything_lies_within_its_plot(found: list[float], share: float, joined: bool) -> None:
    points = [
        Point(run, Estimate(v, v - share * abs(v), v + share * abs(v)), "")
        for run, v in enumerate(found)
    ]
    drawn = runs_plot([Line("", points)], ["2026-03-01"] * len(found), "x", joined=joined)
    xs = [float(x) for x in re.findall(r'<circle cx="([-\d.]+)"', drawn)]
    ys = [float(y) for y in re.findall(r' cy="([-\d.]+)"', drawn)]
    whiskers = re.findall(r'whisker" d="M[-\d.]+ ([-\d.]+)V([-\d.]+)"', drawn)
    ys += [float(y) for pair in whiskers for y in pair]
    assert len(xs) == len(found)
    assert all(48 <= x <= 684 for x in xs)
    assert xs == sorted(xs)
    assert all(12 <= y <= 230 for y in ys)


@given(st.integers(1, 400), st.sampled_from([260, 440, 720, 1080]))
def test_dates_do_not_overlap(runs: int, width: int) -> None:
    points = [Point(run, estimate(1.0 + run), "") for run in range(runs)]
    drawn = runs_plot([Line("", points)], ["2026-03-01"] * runs, "x", size=(width, 260))
    labels = [float(x) for x in re.findall(r'<text x="([\d.]+)"[^>]*>2026', drawn)]
    assert labels
    assert all(b - a > 66 for a, b in itertools.pairwise(labels))
    assert labels[-1] + 33 <= width
