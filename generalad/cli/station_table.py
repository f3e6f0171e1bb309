"""The table of `gad station check`, which an engineer can sign."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from generalad.runtime.station.check import Check

_MARKS = {True: ("ok", "green"), False: ("NO", "bold red"), None: ("-", "yellow")}


def table_of(facts: Mapping[str, str], check: Check) -> RenderableType:
    """What was tried, what was found, and a line for date and name."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Table(box=None, pad_edge=False, show_header=False)
    for name, value in facts.items():
        head.add_row(Text(name), Text(value))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("tried", overflow="fold")
    table.add_column("", no_wrap=True)
    table.add_column("found", overflow="fold")
    for row in check.rows:
        table.add_row(Text(row.what), Text(*_MARKS[row.ok]), Text(row.found))
    said = "as it is to be" if check.ok else "NOT as it is to be"
    how = {"check": "; no trigger came, the check triggered the cameras itself", "": ""}
    words = f"{check.parts} parts inspected{how.get(check.triggered_by, '')}: {said}"
    style = "green" if check.ok else "bold red"
    return Group(
        head,
        table,
        Text(words, style),
        Text(),
        Text("Date ..............  Name .............................."),
    )
