from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.metrics.evaluate import ImageResult, evaluate
from generalad.metrics.gallery import choose
from generalad.metrics.plots import nice_ticks
from generalad.metrics.report import write_report
from generalad.overlay import heat_map, outline, overlay

THRESHOLD = 1.0
NASTY = '<script>alert("x")</script>&.png'


def make_results(good: int, defective: int, *, masked: bool = True) -> list[ImageResult]:
    results = []
    for i in range(good + defective):
        rng = np.random.default_rng(i)
        bad = i >= good
        values = rng.normal(0, 0.3, size=(6, 8)).astype(np.float32)
        mask = np.zeros((48, 64), np.bool_)
        if bad:
            values[2:4, 2:4] += 2
            mask[16:32, 16:32] = True
        score = float(values.max() + rng.normal(0, 0.6))
        results.append(
            ImageResult(
                path=f"test/{i}/{NASTY}" if i == 0 else f"test/{i}.png",
                label=f"dent <b>{i % 2}</b>" if bad else "good",
                defective=bad,
                score=score,
                normalised=float(1 / (1 + np.exp(THRESHOLD - score))),
                decision=score >= THRESHOLD,
                map=values,
                mask=mask if masked or not bad else None,
            )
        )
    return results


def read_noise(path: str) -> NDArray[np.uint8]:
    """Noise is what JPEG compresses worst; blocks of it stay noise when the image shrinks."""
    rng = np.random.default_rng(len(path))
    return rng.integers(0, 256, (150, 150, 3), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)


def read_grey(path: str) -> NDArray[np.uint8]:
    return np.full((48, 64, 3), 128, np.uint8)


def page_of(folder: Path, results: list[ImageResult], reader: object = read_grey) -> str:
    evaluation = evaluate(results, image_size=(24, 32), image_threshold=THRESHOLD)
    write_report(
        folder / "report.html",
        evaluation,
        results,
        title="Nuts <i>& bolts</i>",
        read_image=reader,  # type: ignore[arg-type]
        pixel_threshold=THRESHOLD,
        facts={"Input <u>": "64 \u00d7 48 <u>"},
    )
    assert [path.name for path in folder.iterdir()] == ["report.html"]
    return (folder / "report.html").read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Every tag with its attributes; unbalanced tags fail."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "path", "rect", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing(tmp_path: Path) -> None:
    page = page_of(tmp_path, make_results(12, 14))
    tags = Tags(page).seen
    names = {name for name, _ in tags}
    assert names.isdisjoint({"script", "link", "iframe", "object", "use", "image", "b", "u"})
    assert not re.search(r"https?://|url\(|@import", page)
    sources = [attributes["src"] for name, attributes in tags if name == "img"]
    assert sources
    assert all(str(source).startswith("data:image/jpeg;base64,") for source in sources)
    assert "nan" not in re.sub(r'src="[^"]*"', "", page).lower()


def test_names_are_escaped(tmp_path: Path) -> None:
    page = page_of(tmp_path, make_results(3, 4))
    assert "<script" not in page
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;" in page
    assert "dent &lt;b&gt;1&lt;/b&gt;" in page
    assert "Nuts &lt;i&gt;&amp; bolts&lt;/i&gt;" in page
    assert "Input &lt;u&gt;" in page


def test_the_page_stays_small_for_a_large_test_set(tmp_path: Path) -> None:
    page = page_of(tmp_path, make_results(150, 150), read_noise)
    assert len(page.encode()) < 5_000_000


@pytest.mark.parametrize(("good", "defective"), [(5, 0), (0, 5), (1, 1)])
def test_small_and_one_sided_test_sets_have_a_page(
    tmp_path: Path, good: int, defective: int
) -> None:
    page = page_of(tmp_path, make_results(good, defective))
    Tags(page)
    if not defective:
        assert "n/a" in page
        assert "no defective images" in page


def test_without_masks_pixel_metrics_are_not_available(tmp_path: Path) -> None:
    page = page_of(tmp_path, make_results(4, 4, masked=False))
    assert "no ground-truth masks" in page


def test_equal_scores_have_a_page(tmp_path: Path) -> None:
    results = [
        dataclasses.replace(result, score=THRESHOLD, normalised=0.5, decision=True)
        for result in make_results(4, 4)
    ]
    Tags(page_of(tmp_path, results))


def test_a_image_that_is_gone_leaves_a_note(tmp_path: Path) -> None:
    def read(path: str) -> NDArray[np.uint8]:
        if path.endswith("1.png"):
            raise FileNotFoundError(path)
        return read_grey(path)

    page = page_of(tmp_path, make_results(3, 3), read)
    assert "could not be read again" in page
    assert page.count("<img") > 0


def test_the_gallery_shows_the_hardest_first() -> None:
    results = make_results(30, 30)
    groups = choose(results)
    alarms, misses = groups[0].results, groups[1].results
    good = [r.score for r in results if not r.defective]
    defective = [r.score for r in results if r.defective]
    assert [r.score for r in alarms] == sorted(good)[::-1][: len(alarms)]
    assert [r.score for r in misses] == sorted(defective)[: len(misses)]
    assert all(r.decision == r.defective for group in groups[2:] for r in group.results)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 8.1), (1e-6, 3e-6), (-5e5, 7e5)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    ticks = nice_ticks(low, high, 5)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] >= low - 1e-9
    assert ticks[-1] <= high * (1 + 1e-9)
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_overlay_leaves_normal_areas_as_they_are() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    before = image.copy()
    values = np.zeros((6, 8), np.float32)
    values[2:4, 5:7] = 4.0
    drawn = overlay(image, values, threshold=2.0)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(drawn[:, :35], image[:, :35])
    assert np.abs(drawn[25:35, 55:65].astype(int) - image[25:35, 55:65]).mean() > 20
    assert (drawn == 255).all(axis=2).any(), "no line around the area above the threshold"


def test_overlay_below_the_threshold_draws_no_line() -> None:
    image = np.full((60, 80, 3), 90, np.uint8)
    values = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)
    drawn = overlay(image, values, threshold=1.5)
    assert not (drawn == 255).all(axis=2).any()
    unlit = overlay(image, values, threshold=1.5, low=1.2)
    np.testing.assert_array_equal(unlit, image)


@pytest.mark.parametrize("low", [None, 2.0, 5.0])
def test_overlay_of_a_map_that_is_above_the_threshold_everywhere(low: float | None) -> None:
    image = np.full((60, 80, 3), 90, np.uint8)
    drawn = overlay(image, np.full((6, 8), 3.0, np.float32), threshold=2.0, low=low)
    assert (drawn[20:40, 20:60, 0] > 150).all()


def test_heat_map_rises_in_lightness_and_is_rgb() -> None:
    steps = np.linspace(-1, 2, 30, dtype=np.float32)[None].repeat(2, axis=0)
    image = heat_map(steps, (2, 30), 0.0, 1.0)
    lightness = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
    assert (np.diff(lightness) >= 0).all()
    assert image[0, -1, 0] > image[0, -1, 2], "the bright end is yellow: red above blue"


def test_outline_surrounds_the_mask() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    mask = np.zeros((40, 40), np.bool_)
    mask[10:30, 10:30] = True
    outline(image, mask, (1, 2, 3))
    np.testing.assert_array_equal(image[10, 20], (1, 2, 3))
    assert not image[18:22, 18:22].any()
    assert not image[:8].any()


@pytest.mark.parametrize("shape", [(10, 10), (10, 10, 4)])
def test_overlay_refuses_other_than_rgb(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="RGB"):
        overlay(np.zeros(shape, np.uint8), np.zeros((2, 2), np.float32), threshold=1.0)
