"""The paper's localisation figure: image, ground truth and map, a row an example.

Several detectors stand side by side, each on the scale of its own threshold, so that the same
colour means the same everywhere. The examples are chosen by the names of the files before anything
is scored: they show neither successes nor failures on purpose.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.data.dataset import Dataset, Sample, as_dataset, load_masks
from generalad.decision import framed
from generalad.errors import DataError, UsageError, require_extra
from generalad.files import atomic_write
from generalad.geometry.placement import prepare
from generalad.overlay import draw, overlay
from generalad.predictor import open_model
from generalad.preprocess import read_image, resize
from generalad.progress import Progress, no_progress
from generalad.spec import Spec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from generalad.runtime.backends.session import Session

Image = NDArray[np.uint8]  # (H, W, 3), RGB
T = TypeVar("T")

DPI = 300
_WIDEST = 7.0  # inches, the text of a page with two columns
_LARGEST_CELL, _TALLEST = 1.5, 9.0  # inches
_GAP, _LABEL, _HEADING, _BAR = 0.03, 0.22, 0.2, 0.3  # inches
_POINTS, _INCHES_A_LETTER = 8, 0.065  # at that size
_FONT: dict[Any, Any] = {
    "font.size": _POINTS,
    "pdf.fonttype": 42,
    "font.family": "sans-serif",
}  # 42: embedded TrueType


@dataclass(frozen=True, eq=False)
class _Row:
    """One example: its label, and its cells from left to right."""

    label: str
    cells: list[Image]


def figure(
    data: str | Path | Dataset,
    artifacts: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] = Path("figure"),
    *,
    class_name: str | None = None,
    anomalous: str | None = None,
    all_good: bool = False,
    rows: int = 6,
    name: Sequence[str] = (),
    device: str | None = None,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Draw examples of a test set with the maps of one or several detectors.

    Args:
        data: a dataset with defective test images, see docs/data.md; an address of one,
            "s3://bucket/parts"; or what `open_dataset` returned.
        artifacts: exported files or folders of detectors, one or several.
        out: a name, to which .png and .pdf are added; or one file of either kind.
        class_name: which of several classes.
        anomalous: in its place, the class that is anomalous, see `open_dataset`.
        all_good: all images of a plain folder show good parts, see `open_dataset`.
        rows: examples.
        name: heading of each detector; by default its method, or where two are alike its file or
            the folder of that.
        device: to run on, see `load`.
        progress: called with ("copying", ...) of a dataset elsewhere, and ("drawing", detectors
            done, detectors).

    Returns:
        The files written.

    Raises:
        ArtifactError: not a detector or artifact.
        DataError: no defective test images, or one cannot be read.
        MissingExtraError: matplotlib is not installed.
        UsageError: another kind of file, no rows, or names that are not one a detector.
    """
    require_extra("drawing a figure", "paper", "matplotlib")
    given = [artifacts] if isinstance(artifacts, (str, os.PathLike)) else list(artifacts)
    paths = _outputs(Path(out))
    if rows < 1 or not given or len(name) not in (0, len(given)):
        raise UsageError(
            f"{rows} rows, {len(given)} detectors, {len(name)} names",
            remedy="give at least one row and one detector, and a name for each or none",
        )
    dataset = as_dataset(
        data, class_name, anomalous=anomalous, all_good=all_good, progress=progress
    )
    samples = choose_examples(dataset, rows)
    images = [read_image(sample.path) for sample in samples]
    specs, maps = [], []
    for number, path in enumerate(given):
        with open_model(path, device=device) as session:
            specs.append(session.spec)
            maps.append([_map_of(session, one) for one in images])
        (progress or no_progress)("drawing", number + 1, len(given))
    masked = any(sample.masks for sample in samples)
    width = min(_LARGEST_CELL, (_WIDEST - _LABEL) / (1 + masked + len(given)))
    drawn = [
        _row(sample, image, [of[index] for of in maps], specs, width, masked)
        for index, (sample, image) in enumerate(zip(samples, images, strict=True))
    ]
    headings = ["Image", *(["Ground truth"] * masked), *(name or _names(given, specs))]
    _write(paths, drawn, headings, width, maps_from=1 + masked)
    return paths


def _map_of(session: Session, image: Image) -> NDArray[np.float32]:
    """The raw map of a whole image."""
    spec = session.spec
    pixels, placement = prepare(image, spec.image_size, spec.geometry)
    return framed(session.run(pixels[None]).maps[0], placement, spec)


def choose_examples(dataset: Dataset, rows: int) -> list[Sample]:
    """Defective test images, chosen by their names alone.

    Types of defects share the rows evenly, the first ones by name taking one more; with more types
    than rows, types at even steps are taken. Of a type, images at even steps of its list by name
    are taken. Where some images have masks, only those count.

    Raises:
        DataError: no defective test image.
    """
    defective = [sample for sample in dataset.test if sample.defective]
    if any(sample.masks for sample in defective):
        defective = [sample for sample in defective if sample.masks]
    if not defective:
        raise DataError(
            f"{dataset.root}: no defective test images to show",
            remedy="add test/DEFECT or a bad folder; see docs/data.md",
        )
    types: dict[str, list[Sample]] = defaultdict(list)
    for sample in sorted(defective, key=lambda sample: (sample.label, sample.path.as_posix())):
        types[sample.label].append(sample)
    chosen = _even(list(types.values()), min(rows, len(types)))
    share, more = divmod(rows, len(chosen))
    return [
        sample
        for number, members in enumerate(chosen)
        for sample in _even(members, min(share + (number < more), len(members)))
    ]


def _even(items: Sequence[T], count: int) -> list[T]:
    """`count` of the items at even steps, none at the very ends."""
    return [items[(2 * number + 1) * len(items) // (2 * count)] for number in range(count)]


def _outputs(out: Path) -> tuple[Path, ...]:
    kind = out.suffix.lower()
    if kind in (".png", ".pdf"):
        return (out,)
    if kind in (".jpg", ".jpeg", ".svg", ".eps", ".tif", ".tiff"):
        raise UsageError(f"{out}: figures are PNG or PDF", remedy="give .png, .pdf or neither")
    return out.with_name(f"{out.name}.png"), out.with_name(f"{out.name}.pdf")


def _names(given: Sequence[str | os.PathLike[str]], specs: Sequence[Spec]) -> list[str]:
    methods = [spec.method for spec in specs]
    files = [Path(path).stem for path in given]
    folders = [Path(path).resolve().parent.name for path in given]
    for names in (methods, files, folders):
        if len(set(names)) == len(names):
            return names
    return [f"{folder}/{file}" for folder, file in zip(folders, files, strict=True)]


def _row(
    sample: Sample,
    image: Image,
    maps: Sequence[NDArray[np.float32]],
    specs: Sequence[Spec],
    width: float,
    masked: bool,
) -> _Row:
    """The cells of an example, in the pixels that they have on paper."""
    across = round(width * DPI)
    size = (max(1, round(across * image.shape[0] / image.shape[1])), across)
    small = resize(image, size)
    cells = [small]
    if masked:
        truth = load_masks(sample, (image.shape[0], image.shape[1])).astype(np.uint8) * 255
        cells.append(np.repeat(cv2.resize(truth, size[::-1])[..., None], 3, axis=2))
    cells += [draw(small, one, spec) for one, spec in zip(maps, specs, strict=True)]
    return _Row(sample.label.replace("_", " "), cells)


def _write(
    paths: Sequence[Path],
    rows: Sequence[_Row],
    headings: Sequence[str],
    width: float,
    *,
    maps_from: int,
) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    heights = [width * row.cells[0].shape[0] / row.cells[0].shape[1] for row in rows]
    across = _LABEL + len(headings) * (width + _GAP)
    down = _HEADING + sum(heights) + len(rows) * _GAP + _BAR
    shrink = min(1.0, _TALLEST / down)
    with matplotlib.rc_context(_FONT):
        page = Figure(figsize=(across * shrink, down * shrink))
        top = _HEADING
        for row, height in zip(rows, heights, strict=True):
            middle = 1 - (top + height / 2) / down
            _text(page, _LABEL / 2 / across, middle, row.label, height, rotation=90)
            for column, cell in enumerate(row.cells):
                left = _LABEL + column * (width + _GAP)
                box = (left / across, 1 - (top + height) / down, width / across, height / down)
                _show(page.add_axes(box), cell)
            top += height + _GAP
        for column, heading in enumerate(headings):
            middle = (_LABEL + column * (width + _GAP) + width / 2) / across
            _text(page, middle, 1 - _HEADING / 2 / down, heading, width)
        left = (_LABEL + maps_from * (width + _GAP)) / across
        _scale(page, left, 1 - _GAP / across, top / down, down)
        for path in paths:
            without_date = {"CreationDate": None} if path.suffix.lower() == ".pdf" else {}
            with atomic_write(path) as temporary:
                page.savefig(temporary, dpi=DPI, metadata=without_date or {"Software": None})


def _text(page: Figure, x: float, y: float, text: str, room: float, rotation: int = 0) -> None:
    """Centred, and small enough for `room` inches."""
    size = min(_POINTS, _POINTS * room / (_INCHES_A_LETTER * max(1, len(text))))
    page.text(x, y, text, rotation=rotation, ha="center", va="center", fontsize=size)


def _show(axes: Axes, cell: Image) -> None:
    axes.imshow(cell, interpolation="none", aspect="auto")
    axes.set_axis_off()


def _scale(page: Figure, left: float, right: float, top: float, down: float) -> None:
    """What the colours mean, below the maps."""
    ramp = np.linspace(-1, 1, 600, dtype=np.float32)[None].repeat(24, axis=0)
    strip = overlay(np.full((24, 600, 3), 200, np.uint8), ramp, threshold=0.0, low=-1.0)
    height = 0.07 / down
    below = 1 - top - (0.05 + 0.07) / down
    _show(page.add_axes((left, below, right - left, height)), strip)
    for place, align, text in (
        (left, "left", "normal"),
        ((left + right) / 2, "center", "threshold"),
        (right, "right", "anomalous"),
    ):
        page.text(place, below - 0.03 / down, text, ha=align, va="top", fontsize=7)
