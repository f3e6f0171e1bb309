"""What the check of a dataset found, as a record, as JSON and as lines for people."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from generalad.listing import printable

ERROR, WARNING, INFO = "error", "warning", "info"


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, or worth knowing.

    Attributes:
        kind: such as "unreadable" or "leak"; docs/data.md lists all of them.
        severity: "error" (a result would be wrong), "warning" or "info".
        paths: the files concerned.
        detail: what was found.
        remedy: what to do.
    """

    kind: str
    severity: str
    paths: tuple[Path, ...]
    detail: str
    remedy: str


@dataclass(frozen=True)
class CheckReport:
    """What `check_dataset` found.

    Attributes:
        root: of the dataset.
        problems: errors first.
        counts: images "train", "calibration", "test good", "test defective"; "masks"; "ignored".
        sizes: number of readable images of each size "WIDTHxHEIGHT", the most frequent first.
        sha256: content hash of each image whose bytes could be read.
        fingerprint: of the readable training images, see `fingerprint_of`.
        unusable: images and masks that cannot be read, for `without`.
        near_copies: groups of good training and calibration images that show the same once more.
    """

    root: Path
    problems: tuple[Problem, ...]
    counts: dict[str, int]
    sizes: dict[str, int]
    sha256: dict[Path, str]
    fingerprint: str
    unusable: tuple[Path, ...]
    near_copies: tuple[tuple[Path, ...], ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that make a result wrong."""
        return tuple(problem for problem in self.problems if problem.severity == ERROR)

    def to_json(self) -> str:
        """The report as JSON, paths relative to the root where they lie below it."""
        name = self.name_of
        return json.dumps(
            {
                "counts": self.counts,
                "sizes": self.sizes,
                "fingerprint": self.fingerprint,
                "problems": [
                    {**dataclasses.asdict(problem), "paths": [name(path) for path in problem.paths]}
                    for problem in self.problems
                ],
                "unusable": [name(path) for path in self.unusable],
                "sha256": {name(path): content for path, content in self.sha256.items()},
            },
            indent=2,
            ensure_ascii=False,
        )

    def name_of(self, path: Path) -> str:
        """`path` relative to the root where it lies below it, with forward slashes, printable."""
        name = (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()
        return printable(name)


def render_problems(report: CheckReport, *, most: int = 5) -> list[str]:
    """One line for each problem, errors first, for people.

    Args:
        report: of `check_dataset`.
        most: problems shown of one kind, and paths shown of one problem.
    """
    by_kind: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in report.problems:
        by_kind[problem.severity, problem.kind].append(problem)
    lines = []
    for (severity, kind), problems in by_kind.items():
        for problem in problems[:most]:
            names = ", ".join(report.name_of(path) for path in problem.paths[:most])
            more = len(problem.paths) - most
            where = f": {names}" + (f" and {more} more" if more > 0 else "") if names else ""
            lines.append(f"{severity}: {kind}: {problem.detail}{where} → {problem.remedy}")
        if len(problems) > most:
            lines.append(f"{severity}: {kind}: {len(problems) - most} more like these")
    return lines


def count_of(items: Sequence[object], noun: str) -> str:
    """Such as "1 mask" or "3 masks"."""
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"
