"""The localisation figure: which examples, what is drawn, and what is refused."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_trees import tree

from generalad.cli import main
from generalad.data.dataset import Dataset, Sample
from generalad.errors import DataError, MissingExtraError, UsageError
from generalad.export.export import Exported
from generalad.localisation_figure import DPI, _names, choose_examples, figure

pytest_plugins = ["training_fixtures"]


def dataset_of(**types: int) -> Dataset:
    """A test set with so many images of each type, all with masks."""
    test = [
        Sample(Path(f"{label}/{number:02}.png"), label, (Path("mask.png"),))
        for label, count in types.items()
        for number in range(count)
    ]
    good = Sample(Path("good/0.png"), "good")
    return Dataset("parts", Path(), "class folder", (good,), test=(*test, good))


def chosen(dataset: Dataset, rows: int) -> list[str]:
    return [sample.path.as_posix() for sample in choose_examples(dataset, rows)]


# --- which examples ---


def test_types_share_the_rows_and_images_are_at_even_steps() -> None:
    dataset = dataset_of(cut=4, bent=10)
    assert chosen(dataset, 1) == ["cut/02.png"]
    assert chosen(dataset, 2) == ["bent/05.png", "cut/02.png"]
    assert chosen(dataset, 5) == [
        *("bent/01.png", "bent/05.png", "bent/08.png"),
        *("cut/01.png", "cut/03.png"),
    ]
    assert len(chosen(dataset, 100)) == 14


def test_more_types_than_rows_are_taken_at_even_steps() -> None:
    dataset = dataset_of(a=1, b=1, c=1, d=1, e=1, f=1)
    assert chosen(dataset, 3) == ["b/00.png", "d/00.png", "f/00.png"]


def test_the_order_of_the_test_set_does_not_matter() -> None:
    dataset = dataset_of(cut=4, bent=10)
    turned = dataclasses.replace(dataset, test=dataset.test[::-1])
    assert chosen(turned, 5) == chosen(dataset, 5)


def test_images_with_masks_come_first() -> None:
    bare = Sample(Path("cut/99.png"), "cut")
    dataset = dataset_of(cut=1)
    some = dataclasses.replace(dataset, test=(*dataset.test, bare))
    assert chosen(some, 9) == ["cut/00.png"]
    none = dataclasses.replace(dataset, test=(bare,))
    assert chosen(none, 9) == ["cut/99.png"]


def test_without_defective_images_there_is_nothing_to_show() -> None:
    with pytest.raises(DataError, match="no defective test images"):
        choose_examples(dataset_of(), 3)


# --- what is drawn ---


def test_png_and_pdf_are_written_the_same_every_time(
    exported: Exported, parts: Path, tmp_path: Path
) -> None:
    steps: list[tuple[str, int, int]] = []
    written = figure(
        parts, exported.path, tmp_path / "a/fig", progress=lambda *step: steps.append(step)
    )
    assert [path.name for path in written] == ["fig.png", "fig.pdf"]
    assert steps == [("drawing", 1, 1)]
    again = figure(parts, exported.path, tmp_path / "b/fig")
    for one, other in zip(written, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    pdf = written[1].read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"FontFile2" in pdf  # printers ask for embedded fonts
    image = cv2.imread(str(written[0]))
    assert image is not None
    height, width = image.shape[:2]
    # Four rows of three cells of 1.5 inches, the images 80 x 72 pixels.
    assert width == pytest.approx((0.22 + 3 * 1.53) * DPI, abs=3)
    assert height == pytest.approx((0.2 + 4 * (1.5 * 72 / 80 + 0.03) + 0.3) * DPI, abs=3)


def test_cells_show_image_truth_and_map(exported: Exported, parts: Path, tmp_path: Path) -> None:
    (path,) = figure(parts, exported.path, tmp_path / "fig.png", rows=1)
    drawn = cv2.imread(str(path))
    assert drawn is not None
    across, down = round(1.53 * DPI), round(1.35 * DPI)
    first, second, third = (
        drawn[70 : 50 + down - 20, left : left + across - 30].astype(int)
        for left in (75 + 5, 75 + across + 5, 75 + 2 * across + 5)
    )
    assert {0, 255} <= set(np.unique(second))
    black_or_white = np.isin(second, (0, 255)).all(axis=2).mean()
    assert black_or_white > 0.95  # a mask
    assert np.isin(first, (0, 255)).all(axis=2).mean() < 0.5  # a photograph
    assert not np.array_equal(first, third)


def test_several_detectors_stand_side_by_side(
    exported: Exported, run_folder: Path, parts: Path, tmp_path: Path
) -> None:
    pair = figure(
        parts, [exported.path, run_folder], tmp_path / "p.png", rows=2, name=["file", "folder"]
    )
    alone = figure(parts, exported.path, tmp_path / "s.png", rows=2)
    two, one = (cv2.imread(str(path)) for (path,) in (pair, alone))
    assert two is not None and one is not None
    assert two.shape[1] - one.shape[1] == pytest.approx(1.53 * DPI, abs=3)


def test_a_semantic_set_has_no_ground_truth_column(exported: Exported, tmp_path: Path) -> None:
    root = tree("view", tmp_path)
    (path,) = figure(root, exported.path, tmp_path / "v.png", class_name="sea", rows=2)
    drawn = cv2.imread(str(path))
    assert drawn is not None
    assert drawn.shape[1] == pytest.approx((0.22 + 2 * 1.53) * DPI, abs=3)


def test_headings_tell_detectors_apart(exported: Exported) -> None:
    spec = exported.spec
    other = dataclasses.replace(spec, method="Gaussian")
    assert _names(["a/x.onnx", "a/y.onnx"], [spec, other]) == ["GeneralAD", "Gaussian"]
    assert _names(["a/x.onnx", "a/y.onnx"], [spec, spec]) == ["x", "y"]
    assert _names(["a/m.onnx", "b/m.onnx"], [spec, spec]) == ["a", "b"]
    assert _names(["a/m.onnx", "a/n.onnx", "b/m.onnx"], [spec] * 3) == ["a/m", "a/n", "b/m"]


# --- what is refused ---


def test_what_cannot_be_drawn(exported: Exported, parts: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="PNG or PDF"):
        figure(parts, exported.path, tmp_path / "fig.jpg")
    with pytest.raises(UsageError, match="0 rows"):
        figure(parts, exported.path, tmp_path / "fig.png", rows=0)
    with pytest.raises(UsageError, match="2 names"):
        figure(parts, exported.path, tmp_path / "fig.png", name=["a", "b"])
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib(
    exported: Exported, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name)
    )
    with pytest.raises(MissingExtraError, match="packages") as raised:
        figure(parts, exported.path, tmp_path / "fig.png")
    assert "generalad[paper]" in raised.value.remedy


def test_the_command(
    exported: Exported, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["figure", str(parts), str(exported.path), "-o", str(tmp_path / "f.pdf"), "--rows", "1"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    assert (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")
    assert "f.pdf" in capsys.readouterr().err.replace("\n", "")
