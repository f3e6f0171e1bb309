"""Label images that lie beside the images they belong to, told by their names and their content.

`Part0.jpg` and `Part0_label.bmp`, `x.png` and `mask_x.png`, `images/7.png` and `labels/7.png`: the
name of a label image is that of its image but for some words, a folder or the suffix. As
`a_left.png` and `a_right.png` differ no more than that, the content decides: a label image has few
values, or is mostly black or white with few others, and has the shape of its image.
"""

from __future__ import annotations

import enum
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.folder_names import MASK_WORDS, words_in
from generalad.parallel import map_threads
from generalad.preprocess import decode_mask_values, read_bytes

_PROBES = 3
"""Images of each kind of name that are looked at first."""

_FEW_VALUES = 16
"""Of no photograph: labels of several classes, on a ground of any brightness."""

_MOST_KINDS = 40
"""Kinds of names that are looked at; those with a word for masks come first."""

_Key = tuple[str, str]
_Kind = tuple[str, str, str]
"""What the name of a file has more than that of another: a folder, a word, a suffix."""


def label_images(root: Path, paths: Sequence[Path], *, named: bool = False) -> dict[Path, Path]:
    """Find the label images among images.

    Args:
        root: a folder.
        paths: of images, relative to it.
        named: only those whose name or folder has a word for masks: where an image that is taken
            for one is not looked at, black ones of a dead camera must not be, nor small parts on
            a black ground.

    Returns:
        For each label image the image that it belongs to, both as in `paths`.
    """
    related: dict[_Key, dict[Path, _Kind]] = defaultdict(dict)
    for path in paths:
        for key, kind in _names(path):
            related[key].setdefault(path, kind)
    # Small groups first: an image in the same folder is nearer than one of the same name elsewhere.
    groups = sorted(filter(_is_related, related.values()), key=len)
    if not groups:
        return {}
    looks = _Looks(root)
    suspects = _suspects(groups, looks, named=named)
    pairs: dict[Path, Path] = {}
    for group in groups:
        labels = [
            path for path in group if path in suspects and looks.like_labels(path, suspects[path])
        ]
        if not labels:
            continue
        images = [path for path in group if not looks.like_labels(path)]
        for label in labels:
            fitting = [path for path in images if _same_shape(looks.size(path), looks.size(label))]
            if fitting:
                pairs.setdefault(label, min(fitting, key=lambda path: len(str(path))))
    return pairs


def _is_related(group: Mapping[Path, _Kind]) -> bool:
    """Whether there are several, and not only 7_1, 7_2 and the like without 7 itself."""
    return len(group) > 1 and any(word != _NUMBER for _, word, _ in group.values())


def _same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes are one, or that of a smaller copy, to a pixel."""
    (height, width), (small_height, small_width) = sorted((one, other), reverse=True)
    return abs(height * small_width - small_height * width) <= max(height, width)


def some_pairs(pairs: Mapping[Path, Path]) -> str:
    """The first label images with the images that they belong to, for a message."""
    named = ", ".join(f"{label} of {image}" for label, image in sorted(pairs.items())[:3])
    return named + (f" and {len(pairs) - 3} more" if len(pairs) > 3 else "")


def _suspects(
    groups: Iterable[Mapping[Path, _Kind]], looks: _Looks, *, named: bool
) -> dict[Path, bool]:
    """Files of the kinds of names that label images have here; whether the name is a reason."""
    kinds: dict[_Kind, set[Path]] = defaultdict(set)
    for group in groups:
        for path, kind in group.items():
            kinds[kind].add(path)

    def named_so(kind: _Kind) -> bool:
        return bool({word for part in kind for word in words_in(part)} & MASK_WORDS)

    order = sorted(kinds, key=lambda kind: (not named_so(kind), -len(kinds[kind]), kind))
    if named:
        order = [kind for kind in order if named_so(kind)]
    suspects: dict[Path, bool] = {}
    for kind in order[:_MOST_KINDS]:
        files, by_word = sorted(kinds[kind]), named_so(kind) and not named
        probes = {files[len(files) * number // _PROBES] for number in range(_PROBES)}
        if sum(looks.like_labels(path, by_word) for path in probes) * 2 > len(probes):
            suspects |= {path: by_word or suspects.get(path, False) for path in files}
    looks.read_ahead(suspects)
    return suspects


class _Looks:
    """What images look like; each is read once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: dict[Path, tuple[_Look, tuple[int, int]]] = {}

    def read_ahead(self, paths: Iterable[Path]) -> None:
        """Read several at once."""
        missing = [path for path in paths if path not in self._seen]
        self._seen.update(zip(missing, map_threads(self._look, missing), strict=True))

    def like_labels(self, path: Path, by_word: bool = False) -> bool:
        """Whether it has few values and mostly one; `by_word`: nearly all of one are enough."""
        return self._of(path)[0] >= (_Look.GROUND if by_word else _Look.LABELS)

    def size(self, path: Path) -> tuple[int, int]:
        """Height and width."""
        return self._of(path)[1]

    def _of(self, path: Path) -> tuple[_Look, tuple[int, int]]:
        if path not in self._seen:
            self._seen[path] = self._look(path)
        return self._seen[path]

    def _look(self, path: Path) -> tuple[_Look, tuple[int, int]]:
        try:
            values = decode_mask_values(read_bytes(self._root / path), name=str(path))
        except DataError:  # the check says what is wrong with it
            return _Look.IMAGE, (0, 0)
        return _look_of(values), (values.shape[0], values.shape[1])


class _Look(enum.IntEnum):
    IMAGE = 0
    GROUND = 1
    """Nearly all black or white, and then of many values, as a mask that was made smaller."""
    LABELS = 2


def looks_like_labels(values: NDArray[Any]) -> bool:
    """Whether an image has few values, or mostly the darkest or the brightest and few others.

    Args:
        values: (H, W) uint8 or uint16. Values that a lossy format has moved a little are the same.
            That of a good part has one value only, black or white.
    """
    return _look_of(values) is _Look.LABELS


def has_few_values(values: NDArray[np.uint8]) -> bool:
    """Whether an image (H, W) of 1024 pixels or more has so few values as no photograph has."""
    return (
        values.size >= 1024
        and int(np.count_nonzero(np.bincount(values.ravel(), minlength=256))) <= _FEW_VALUES
    )


def _look_of(values: NDArray[Any]) -> _Look:
    if values.min() == values.max():
        extreme = values[0, 0] in (0, np.iinfo(values.dtype).max)
        return _Look.LABELS if extreme else _Look.IMAGE
    found = _Look.IMAGE
    shift = 0 if values.dtype == np.uint8 else 8
    count = np.bincount((values >> shift).ravel(), minlength=256).astype(np.float64)
    if np.count_nonzero(count) <= _FEW_VALUES:
        return _Look.LABELS
    share = count / count.sum()
    for ground in (slice(0, 24), slice(232, 256)):
        rest = share.copy()
        rest[ground] = 0
        if rest.sum() > 0.5:
            continue
        # The three best places of eight neighbouring values.
        places = sorted(np.add.reduceat(rest, range(0, 256, 8)))[-3:]
        if sum(places) >= 0.85 * rest.sum():
            return _Look.LABELS
        if rest.sum() < 0.1:
            found = _Look.GROUND
    return found


_SEPARATOR = r"[\s_.\-()\[\]]+"
_WORD = r"[^\s_.\-()\[\]]*[^\W\d_][^\s_.\-()\[\]]*"
_LAST = re.compile(rf"(.+?){_SEPARATOR}({_WORD})(?:{_SEPARATOR})?$")
_FIRST = re.compile(rf"({_WORD}){_SEPARATOR}(.+)$")
_LETTERS_LAST = re.compile(r"(.*\d)([^\W\d_]+)$")
_LETTERS_FIRST = re.compile(r"([^\W\d_]+)(\d.*)$")
_NUMBERED = re.compile(rf"(.+?){_SEPARATOR}(\d{{1,2}})$")
_NUMBER = "0"
"""What a number becomes in a kind of name."""

_WORDS_LAST = re.compile(
    rf"(.+?){_SEPARATOR}((?:[^\W\d_]+{_SEPARATOR}){{1,2}}{_WORD})(?:{_SEPARATOR})?$"
)
"""Several words, of which only the last may hold a number, which may be that of a part."""

_GLUED = "|".join(sorted(MASK_WORDS, key=len, reverse=True))
_GLUED_LAST = re.compile(rf"(.+?)({_GLUED})$")
_GLUED_FIRST = re.compile(rf"({_GLUED})(.+)$")
_MARKED_LAST = re.compile(
    rf"(.+?){_SEPARATOR}((?:[^\W\d_]+{_SEPARATOR})?(?:{_GLUED})(?:{_SEPARATOR}\d+){{1,4}})$"
)
"""A word for masks with a number or a time."""


def _names(path: Path) -> Iterator[tuple[_Key, _Kind]]:
    """The names that a path has without a word, without a folder, or without both."""
    name, suffix = os.path.splitext(path.name)
    name = unicodedata.normalize("NFC", name).casefold()
    stems = {name: ""}
    for pattern, rest, extra in (
        *((_LAST, 1, 2), (_FIRST, 2, 1)),
        *((_GLUED_LAST, 1, 2), (_GLUED_FIRST, 2, 1)),
        *((_WORDS_LAST, 1, 2), (_MARKED_LAST, 1, 2)),
        *((_LETTERS_LAST, 1, 2), (_LETTERS_FIRST, 2, 1), (_NUMBERED, 1, 2)),
    ):
        if found := pattern.match(name):
            stems.setdefault(found[rest], found[extra])
    folders = {path.parent.as_posix(): ""}
    for depth, part in enumerate(path.parent.parts):
        without = (*path.parent.parts[:depth], *path.parent.parts[depth + 1 :])
        folders.setdefault("/".join(without) or ".", part)
    for folder, part in folders.items():
        for stem, word in stems.items():
            kind = (re.sub(r"\d+", _NUMBER, part), re.sub(r"\d+", _NUMBER, word), suffix.lower())
            yield (folder, stem), kind
