"""All reports of a folder, in the order of their time."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from generalad.bench.outputs.read import read_report
from generalad.bench.record import Report
from generalad.errors import DataError, GadError


@dataclass(frozen=True)
class Run:
    """A report with its time, and the name of its file within the folder."""

    name: str
    when: datetime.datetime
    report: Report


@dataclass(frozen=True)
class History:
    """What was found in a folder.

    Attributes:
        runs: in the order of their time.
        skipped: file names of what is no report, each with the reason.
    """

    runs: tuple[Run, ...]
    skipped: tuple[tuple[str, str], ...]


def read_history(folder: Path) -> History:
    """All `*.json` at and below `folder`; those that are no reports are skipped.

    Raises:
        DataError: there is no such folder, or no report in it.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", remedy="give the folder of the reports")
    runs, skipped = [], []
    for path in sorted(folder.rglob("*.json")):
        name = path.relative_to(folder).as_posix()
        try:
            report = read_report(path)
            runs.append(Run(name, _moment(report), report))
        except GadError as error:
            skipped.append((name, error.message))
    if not runs:
        found = f"{len(skipped)} JSON files that are none" if skipped else "no JSON file"
        raise DataError(
            f"there is no bench report in {folder}: {found}",
            remedy="write reports with gad bench --json",
        )
    runs.sort(key=lambda run: (run.when, run.name))
    return History(tuple(runs), tuple(skipped))


def _moment(report: Report) -> datetime.datetime:
    try:
        found = datetime.datetime.fromisoformat(report.when.replace("Z", "+00:00"))
    except ValueError:
        raise DataError(f"it has no time but {report.when[:40]!r}") from None
    return found if found.tzinfo else found.replace(tzinfo=datetime.timezone.utc)
