"""Which good images the files of labelling tools say that something is marked in.

LabelMe, Pascal VOC, YOLO, Supervisely and Cityscapes write a file for each image; COCO, VIA, CVAT,
CreateML, Label Studio and Vertex AI one for all of them, as tables do. They are told by their
content: a list of marks that is not empty, and the name of an image. A label that is a word for
good is no mark.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from generalad.folder_names import is_defect_name, is_good_name
from generalad.image_formats.accept import IMAGE_SUFFIXES

SUFFIXES = frozenset({".json", ".jsonl", ".ndjson", ".xml", ".csv", ".tsv", ".txt"})
"""Of files that may say something about images."""

_MOST_BYTES, _MOST_OF_ONE = 32 << 20, 1 << 20
_DEEPEST, _MOST_FILES = 6, 2000
_MOST_ROWS, _MOST_COLUMNS = 10_000, 100  # that are looked at for the names of images

_MARKS = re.compile(
    r"(annotations?|regions?|shapes|objects|polygons|b?boxes|keypoints)$", re.IGNORECASE
)
_LABELS = frozenset({"label", "class", "classtitle", "category", "name", "displayname", "text"})
_NUMBER = re.compile(r"-?[0-9]*\.?[0-9]+(?:[eE]-?[0-9]+)?")
_CVAT = re.compile(
    r"<image\b([^<>]{0,4000}[^<>/])>\s{0,99}<(?:box|poly|points|mask|ellipse|tag|cub|skel)"
)
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
_NAME = re.compile(r"\bname=\"([^\"]+)\"")


def marked_images(
    root: Path, good: Sequence[Path], elsewhere: Sequence[Path], others: Iterable[Path]
) -> dict[Path, Path]:
    """Good images that are marked, each with the file that says so.

    Args:
        root: a folder.
        good: images that are taken as good, relative to it.
        elsewhere: images that are not, which may have the same names.
        others: files that are no images.
    """
    images = _Images(good, elsewhere)
    found: dict[Path, Path] = {}
    files = [path for path in others if path.suffix.lower() in SUFFIXES]
    for path in files[:: 1 + len(files) // _MOST_FILES]:
        suffix = path.suffix.lower()
        text = _text(root / path)
        names = _names_in_table if suffix in (".csv", ".tsv", ".txt") else _names_in_tree
        marked: set[Path] = set()
        for name in names(text, images):
            marked |= images.called(name)
        if not marked and _is_marked_alone(text, suffix):
            marked = images.described_by(path)
        found |= dict.fromkeys(marked - set(found), path)
    return found


def described_images(
    good: Sequence[Path], elsewhere: Sequence[Path], others: Iterable[Path]
) -> set[Path]:
    """Good images that a file is called after; arguments as of `marked_images`."""
    images, found = _Images(good, elsewhere), set[Path]()
    for path in others:
        if path.suffix.lower() in (".json", ".xml", ".txt"):
            found |= images.described_by(path)
    return found


def _text(path: Path) -> str:
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return ""
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return ""


class _Images:
    """Good images by their names."""

    def __init__(self, good: Sequence[Path], elsewhere: Sequence[Path]) -> None:
        self._good = set(good)
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in (*good, *elsewhere):
            self._by_name[path.name].append(path)
            self._by_stem[path.stem].append(path)

    def called(self, name: str) -> set[Path]:
        """The good images of a name, with or without folders; none where others may be meant."""
        name = name.strip().replace("\\", "/")
        last = name.rsplit("/", 1)[-1]
        # Label Studio puts eight digits before the names of files.
        same = self._by_name.get(last) or self._by_name.get(_UPLOADED.sub("", last))
        if not same:
            return set()
        parts = PurePosixPath(name).parts
        nearer = [path for path in same if path.parts[-len(parts) :] == parts[-len(path.parts) :]]
        return self._only_good(nearer or same)

    def described_by(self, path: Path) -> set[Path]:
        """The good images that a file is called after, those beside it first."""
        stem = path.stem
        if Path(stem).suffix.lower() in IMAGE_SUFFIXES:
            stem = Path(stem).stem
        same = self._by_stem.get(stem, [])
        return self._only_good([one for one in same if one.parent == path.parent] or same)

    def _only_good(self, paths: Sequence[Path]) -> set[Path]:
        return set(paths) if self._good.issuperset(paths) else set()


def _is_marked_alone(text: str, suffix: str) -> bool:
    """Of a file that speaks of one image and may not name it."""
    if suffix == ".txt":
        lines = [line.split() for line in text[:_MOST_OF_ONE].splitlines() if line.strip()]
        return bool(lines) and all(map(_is_yolo, lines))
    if suffix == ".xml":
        return "<object>" in text
    return any(_has_marks(tree) for tree in _trees(text) if isinstance(tree, dict))


def _is_yolo(values: Sequence[str]) -> bool:
    """A line of a class and at least four numbers."""
    return values[0].isdecimal() and len(values) > 4 and all(map(_NUMBER.fullmatch, values))


def _names_in_tree(text: str, images: _Images) -> Iterator[str]:
    """Names of images with marks, in JSON, lines of JSON, or CVAT's XML."""
    if text.lstrip().startswith("<"):
        for attributes in _CVAT.findall(text):
            yield from _NAME.findall(attributes)
        return
    for tree in _trees(text):
        if isinstance(tree, dict) and isinstance(tree.get("images"), list):
            yield from _names_in_coco(tree)
        else:
            yield from _names_with_marks(tree, images)


def _trees(text: str) -> Iterator[Any]:
    try:
        yield json.loads(text)
    except RecursionError:
        return
    except ValueError:
        for line in text.splitlines():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                return


def _names_in_coco(tree: Mapping[str, Any]) -> Iterator[str]:
    entries = [tree.get("annotations"), tree["images"], tree.get("categories")]
    annotations, images, categories = (
        [one for one in entry if isinstance(one, dict)] if isinstance(entry, list) else []
        for entry in entries
    )
    good = {str(one.get("id")) for one in categories if is_good_name(str(one.get("name", "")))}
    marked = {
        str(one.get("image_id")) for one in annotations if str(one.get("category_id")) not in good
    }
    for image in images:
        if str(image.get("id")) in marked:
            yield str(image.get("file_name", ""))


def _names_with_marks(tree: Any, images: _Images, depth: int = 0) -> Iterator[str]:
    """Names of images beside lists of marks that are not empty."""
    if depth > _DEEPEST:
        return
    if isinstance(tree, dict):
        if _has_marks(tree):
            yield from (text for text in _texts(tree) if images.called(text))
        else:
            for value in tree.values():
                yield from _names_with_marks(value, images, depth + 1)
    elif isinstance(tree, list):
        for value in tree:
            yield from _names_with_marks(value, images, depth + 1)


def _has_marks(tree: Mapping[str, Any]) -> bool:
    marks = [
        value
        for key, value in tree.items()
        if isinstance(value, list | dict) and value and _MARKS.search(key)
    ]
    # Label Studio has an entry for each annotator, whose result may be empty.
    marks = [value for value in marks if not _are_empty_results(value)]
    labels = [label for value in marks for label in _labels(value)]
    return bool(marks) and not (labels and all(map(is_good_name, labels)))


def _are_empty_results(value: Any) -> bool:
    if not isinstance(value, list):
        return False
    return all(isinstance(one, dict) and "result" in one and not one["result"] for one in value)


def _labels(tree: Any, depth: int = 0) -> Iterator[str]:
    for key, value in _entries(tree):
        if isinstance(value, str) and key.lower() in _LABELS:
            yield value
        elif depth < _DEEPEST:
            yield from _labels(value, depth + 1)


def _texts(tree: Any, depth: int = 0) -> Iterator[str]:
    """Texts that could be names of images."""
    for _, value in _entries(tree):
        if isinstance(value, str):
            yield value
        elif depth < 1:
            yield from _texts(value, depth + 1)


def _entries(tree: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        yield from tree.items()
    elif isinstance(tree, list):
        yield from (("", value) for value in tree)


_BOX = re.compile(r"x_?min|xtl|bbox|x_?1|left", re.IGNORECASE)
_LABEL = re.compile(
    r"label|class|categor|defect|anomal|klasse|标签|类别|ラベル|라벨", re.IGNORECASE
)
_MOST_CLASSES = 100


def _names_in_table(text: str, images: _Images) -> Iterator[str]:
    """Names of images that a table, or a list with labels, calls otherwise than good ones."""
    rows = _rows(text)
    column = _column_of_names(rows, images)
    if column is None:
        return
    first = rows[0][column].strip() if len(rows[0]) > column else ""
    head = [] if Path(first).suffix.lower() in IMAGE_SUFFIXES else rows[0]
    named = [row for row in rows if len(row) > column and images.called(row[column])]
    if any(_BOX.fullmatch(name.strip()) for name in head):
        yield from (row[column] for row in named)
        return
    width = min(map(len, named))
    columns = {
        place: [row[place].strip() for row in named] for place in range(width) if place != column
    }
    bits = {place: values for place, values in columns.items() if set(values) <= {"0", "1"}}
    one_of_all = len(bits) > 1 and all(
        row.count("1") == 1 for row in zip(*bits.values(), strict=True)
    )
    for place, values in columns.items():
        name = head[place].strip() if place < len(head) else ""
        unusual = _unusual(name, values, is_class=one_of_all and place in bits)
        yield from (row[column] for row, odd in zip(named, unusual, strict=True) if odd)


def _unusual(name: str, values: Sequence[str], *, is_class: bool) -> list[bool]:
    """Of the values of a column, those that say that an image shows no good part."""
    different = Counter(values)
    speaks = {value for value in different if is_good_name(value) or is_defect_name(value)}
    if speaks:
        return [bool(value) and not is_good_name(value) for value in values]
    of_class = is_class or is_good_name(name) or is_defect_name(name)
    if set(different) <= {"0", "1"} and (of_class or not name or _LABEL.search(name)):
        if len(different) == 1 and not of_class:
            return [False] * len(values)
        return [value == ("0" if is_good_name(name) else "1") for value in values]
    numbers = all(value.isdecimal() and int(value) < _MOST_CLASSES for value in different)
    if not (_LABEL.search(name) if name else numbers):
        return [False] * len(values)
    usual = different.most_common(1)[0][0]
    return [value not in ("", usual) for value in values]


def _rows(text: str) -> list[list[str]]:
    head = text.split("\n", 1)[0]
    mark = next((mark for mark in ",;\t|" if mark in head), " ")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=mark))
    except csv.Error:
        return []
    return [row for row in rows if any(map(str.strip, row))]


def _column_of_names(rows: Sequence[Sequence[str]], images: _Images) -> int | None:
    for row in rows[:_MOST_ROWS]:
        for place, cell in enumerate(row[:_MOST_COLUMNS]):
            if images.called(cell):
                return place
    return None
