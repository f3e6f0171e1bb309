"""`Line`: what runs beside the models of a service that has a line's file."""

from __future__ import annotations

from typing import NamedTuple

from generalad.serve.audit import Audit
from generalad.serve.line_run import LineRun
from generalad.serve.review import Review
from generalad.serve.tally import Tally


class Line(NamedTuple):
    """The parts of it.

    Attributes:
        run: its streams.
        review: images to judge.
        audit: who decided and changed what.
        tally: counts by hour.
    """

    run: LineRun
    review: Review
    audit: Audit
    tally: Tally
