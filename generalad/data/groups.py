"""Groups: images of one photograph, lot or part, which must lie on one side of a split."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from generalad.data.report import CheckReport
from generalad.data.samples import Dataset, Sample
from generalad.errors import DataError

IMAGE, FOLDER = "image", "folder"
"""Rules that are no regular expression: each image is a group of its own; each folder is one."""


@dataclass(frozen=True)
class Grouping:
    """Which good images belong together.

    Attributes:
        of: the group of each image of the training and calibration parts; copies share theirs.
        what: how the groups came about, in words; empty where each image is its own.
        named: whether somebody said so, in a table or by a rule.
    """

    of: Mapping[Path, str]
    what: str = ""
    named: bool = False

    def numbers(self, samples: tuple[Sample, ...]) -> list[int]:
        """A number for the group of each sample."""
        seen: dict[str, int] = {}
        return [seen.setdefault(self.of[sample.path], len(seen)) for sample in samples]


def group_images(dataset: Dataset, rule: str, checked: CheckReport) -> Grouping:
    """Put the good images of a dataset into groups.

    Args:
        dataset: checked and without unusable files.
        rule: "" for the table's column where there is one, else near-copies together; "image",
            "folder" or a regular expression, see `Config.group`.
        checked: what the check found.

    Raises:
        DataError: a rule beside a column, a path that the expression does not match, or a named
            group in both training and calibration.
    """
    samples = (*dataset.train, *dataset.calibration)
    column = any(sample.group for sample in samples)
    if column and rule:
        raise DataError(
            f"the table has a column `group`, and the settings say group = '{rule}'",
            remedy="leave one of them",
        )
    joined = _Joined()
    for sample in samples:  # equal files are one group, whatever they are called
        joined.join(str(sample.path), checked.sha256[sample.path])
    if not column and rule in ("", IMAGE):
        near = () if rule == IMAGE else checked.near_copies
        for paths in near:
            for path in paths[1:]:
                joined.join(str(paths[0]), str(path))
        what = near_copies_in_words(len(samples), near)
        return Grouping({s.path: joined.name(str(s.path)) for s in samples}, what)
    names = {s.path: s.group if column else _name(s.path, dataset.root, rule) for s in samples}
    for path, name in names.items():
        joined.join(str(path), f"group {name}")
    of = {path: joined.name(str(path)) for path in names}
    source = "column `group`" if column else f"group = '{rule}'"
    grouping = Grouping(of, f"{source}: {len(set(of.values()))} groups of {len(of)} images", True)
    _check_sides(dataset, grouping, names)
    return grouping


def near_copies_in_words(images: int, groups: tuple[tuple[Path, ...], ...]) -> str:
    """One line; empty where there are none."""
    if not groups:
        return ""
    copies = sum(len(group) - 1 for group in groups)
    return (
        f"{copies} of {images} good images {'is a near-copy' if copies == 1 else 'are near-copies'}"
        f" of others; {len(groups)} group{'' if len(groups) == 1 else 's'}"
    )


def _name(path: Path, root: Path, rule: str) -> str:
    relative = path.relative_to(root) if path.is_relative_to(root) else path
    if rule == FOLDER:
        return relative.parent.as_posix()
    found = re.search(rule, relative.as_posix())
    name = found and found[1 if found.re.groups else 0]
    if not name:
        raise DataError(
            f"group = '{rule}' matches nothing in {relative.as_posix()}",
            remedy="write an expression whose first parentheses name the group in every path"
            " relative to the dataset",
        )
    return str(name)


def _check_sides(dataset: Dataset, grouping: Grouping, names: Mapping[Path, str]) -> None:
    trained = {grouping.of[sample.path] for sample in dataset.train}
    for sample in dataset.calibration:
        if grouping.of[sample.path] in trained:
            raise DataError(
                f"{sample.path}: its group {names[sample.path]!r} has training images, too",
                remedy="keep every group in one of training and calibration",
            )


class _Joined:
    """Disjoint sets of names."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def name(self, one: str) -> str:
        """The name that stands for the set of `one`."""
        while (above := self._above.setdefault(one, one)) != one:
            one = above
        return one

    def join(self, one: str, other: str) -> None:
        """Make the sets of both one."""
        self._above[self.name(other)] = self.name(one)
