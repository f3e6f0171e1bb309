"""`LineRoutes`: what the page asks of the streams, the review, the audit trail and the report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from generalad.errors import GadError, MissingExtraError, StorageError, UsageError
from generalad.runtime.line.metrics_server import not_ready
from generalad.runtime.view import StreamView, View
from generalad.serve.answers import json_answer
from generalad.serve.exchange import Exchange
from generalad.serve.line import Line
from generalad.serve.line_run import Threshold
from generalad.serve.models import Models
from generalad.serve.report import shift, to_html
from generalad.serve.report_pdf import to_pdf
from generalad.serve.uploads import Refused

_LONGEST_NAME = 80
_MOST_HOURS = 24 * 31
_LARGEST = 1e300
_ENTRIES = 200
"""Review entries that are shown."""

ReadJson = Callable[[Request], Awaitable[dict[str, Any]]]


class LineRoutes:
    """Handlers; without a line each answers 404."""

    def __init__(
        self, line: Line | None, models: Models, exchange: Exchange, read_json: ReadJson
    ) -> None:
        self._maybe, self._models, self._exchange = line, models, exchange
        self._read_json = read_json
        self._undoing = asyncio.Lock()

    @property
    def routes(self) -> list[tuple[str, str, Callable[[Request], Awaitable[Response]]]]:
        """Method, path and handler of each."""
        return [
            ("GET", "/v1/line", self._show),
            ("GET", "/v1/line/streams/{number}/picture", self._picture),
            ("POST", "/v1/line/streams/{number}/threshold", self._threshold),
            ("GET", "/v1/review", self._entries),
            ("POST", "/v1/review/{entry}", self._judge),
            ("GET", "/v1/review/{entry}/image", self._image),
            ("GET", "/v1/review/{entry}/overlay", self._overlay),
            ("GET", "/v1/audit", self._audit),
            ("GET", "/v1/audit.csv", self._audit_csv),
            ("POST", "/v1/audit/{number}/undo", self._undo),
            ("GET", "/v1/report", self._report),
        ]

    @property
    def _line(self) -> Line:
        if self._maybe is None:
            raise Refused(404, "no line runs here", remedy="start gad serve with --config")
        return self._maybe

    async def _show(self, request: Request) -> Response:
        run = self._line.run
        view, thresholds, latest = run.view(), run.thresholds(), run.latest
        spec = run.model.current.predictor.spec
        streams = [] if view is None else view.streams
        reference = spec.reference
        return json_answer(
            {
                "model": run.model.name,
                "problems": _problems(run.problem, view),
                "scale": spec.normalisation.scale,
                "calibration_scores": [] if reference is None else list(reference.scores),
                "calibration_images": spec.calibration.images,
                # Of the scores too: images that did not count are in neither.
                "calibration_groups": spec.calibration.groups or spec.calibration.images,
                "streams": [
                    _stream(one, thresholds[one.name], latest.scores(one.name)) for one in streams
                ],
                "notices": latest.notices(),
            }
        )

    async def _picture(self, request: Request) -> Response:
        overlay = request.query_params.get("overlay", "1") != "0"
        latest, name = self._line.run.latest, self._stream(request)
        data = await asyncio.to_thread(latest.picture, name, overlay=overlay)
        if data is None:
            raise Refused(404, "there is no picture yet")
        return Response(data, media_type="image/jpeg")

    async def _threshold(self, request: Request) -> Response:
        name, body = self._stream(request), await self._read_json(request)
        value = body.get("threshold")
        if value is not None and (type(value) not in (int, float) or abs(value) > _LARGEST):
            raise Refused(400, 'expected {"threshold": a number or null}')
        await _done(self._line.run.set_threshold, name, value, by=by_of(body))
        return await self._show(request)

    async def _entries(self, request: Request) -> Response:
        entries = self._line.review.entries()
        waiting = sum(entry["verdict"] is None for entry in entries)
        return json_answer({"entries": entries[:_ENTRIES], "waiting": waiting})

    async def _judge(self, request: Request) -> Response:
        review, name, body = (
            self._line.review,
            request.path_params["entry"],
            await self._read_json(request),
        )
        if review.entry(name) is None:
            raise _no_entry(name)
        by = by_of(body)
        if "verdict" in body:
            if body["verdict"] not in (None, "good", "defective"):
                raise Refused(400, "verdict: expected good, defective or null")
            await _done(review.judge, name, body["verdict"], by=by)
        if "acknowledged" in body:
            if not isinstance(body["acknowledged"], bool):
                raise Refused(400, "acknowledged: expected true or false")
            await _done(review.acknowledge, name, body["acknowledged"], by=by)
        entry = review.entry(name)
        if entry is None:
            raise _no_entry(name)
        return json_answer(entry)

    async def _image(self, request: Request) -> Response:
        return await self._of_entry(request, "image.png", "image/png")

    async def _overlay(self, request: Request) -> Response:
        return await self._of_entry(request, "overlay.jpg", "image/jpeg")

    async def _of_entry(
        self, request: Request, file: Literal["image.png", "overlay.jpg"], kind: str
    ) -> Response:
        name = request.path_params["entry"]
        data = await asyncio.to_thread(self._line.review.picture, name, file)
        if data is None:
            raise _no_entry(name)
        return Response(data, media_type=kind)

    async def _audit(self, request: Request) -> Response:
        return json_answer({"entries": self._line.audit.entries()[:_ENTRIES]})

    async def _audit_csv(self, request: Request) -> Response:
        text = await asyncio.to_thread(self._line.audit.to_csv)
        headers = {"Content-Disposition": 'attachment; filename="audit.csv"'}
        return Response(text, headers=headers, media_type="text/csv")

    async def _undo(self, request: Request) -> Response:
        number, body = _number(request), await self._read_json(request)
        by = by_of(body)
        async with self._undoing:  # what two undo at once is undone once
            await self._take_back(number, by)
        return json_answer({"entries": self._line.audit.entries()[:_ENTRIES]})

    async def _take_back(self, number: int, by: str) -> None:
        line = self._line
        entry = await _done(line.audit.undoable, number)
        subject, before = entry["subject"], entry["before"]
        named: dict[str, Any] = {"by": by, "undoes": number}
        if entry["what"] == "verdict":
            await _done(line.review.judge, subject, before, **named)
        elif entry["what"] == "acknowledge":
            await _done(line.review.acknowledge, subject, before, **named)
        elif entry["what"] == "threshold":
            await _done(line.run.set_threshold, subject, before, **named)
        else:
            model = self._models.get(subject)
            if model is None:
                raise Refused(409, f"there is no model {subject[:80]!r} any more")
            await _done(self._exchange.swap, model, before, **named)

    async def _report(self, request: Request) -> Response:
        text = request.query_params.get("hours", "8")
        hours = int(text) if text.isdecimal() else 0
        if not 1 <= hours <= _MOST_HOURS:
            raise Refused(400, f"hours: expected 1 to {_MOST_HOURS}, found {text[:40]!r}")
        kind = request.query_params.get("format", "html")
        if kind not in ("html", "pdf"):
            raise Refused(400, f"format: expected html or pdf, found {kind[:40]!r}")
        line, now = self._line, time.time()

        def make() -> str | bytes:
            found = shift(line.tally, line.review, line.audit, list(self._models), now, hours)
            return to_html(found) if kind == "html" else to_pdf(found)

        try:
            file = await asyncio.to_thread(make)
        except MissingExtraError as error:
            raise Refused(501, error.message, remedy=error.remedy) from error
        headers = {"Content-Disposition": f'attachment; filename="shift.{kind}"'}
        media_type = "text/html" if kind == "html" else "application/pdf"
        return Response(file, headers=headers, media_type=media_type)

    def problems(self) -> list[str]:
        """Why the line is not ready."""
        if self._maybe is None:
            return []
        return _problems(self._maybe.run.problem, self._maybe.run.view())

    def view(self) -> View | None:
        """The run of the line, if there is one."""
        return None if self._maybe is None else self._maybe.run.view()

    def _stream(self, request: Request) -> str:
        """The name of the stream of a number."""
        names = list(self._line.run.thresholds())
        number = _number(request)
        if not 0 <= number < len(names):
            raise Refused(404, f"there is no stream {number}", remedy="GET /v1/line")
        return names[number]


def by_of(body: dict[str, Any]) -> str:
    """Who says something, as far as the page knows."""
    by = body.get("by", "")
    # Half a character could be written down, but never shown again.
    if not isinstance(by, str) or len(by) > _LONGEST_NAME or not by.isprintable():
        raise Refused(400, f"by: expected a name of at most {_LONGEST_NAME} characters")
    return by


def _number(request: Request) -> int:
    text = request.path_params["number"]
    if not text.isdecimal() or len(text) > 9:
        raise Refused(404, f"{text[:40]!r} is no number")
    return int(text)


def _no_entry(name: str) -> Refused:
    return Refused(404, f"there is nothing to review of the name {name[:80]!r}")


async def _done(change: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Do something that touches the disk; what goes wrong is an answer."""
    try:
        return await asyncio.to_thread(change, *arguments, **named)
    except StorageError as error:
        raise Refused(507, error.message, remedy=error.remedy) from error
    except (UsageError, GadError) as error:
        raise Refused(409, error.message, remedy=error.remedy) from error


def _problems(problem: str, view: View | None) -> list[str]:
    if problem:
        return [problem]
    return ["the line has not begun yet"] if view is None else not_ready(view)


def _stream(
    view: StreamView, threshold: Threshold, scores: list[list[float | bool]]
) -> dict[str, Any]:
    values = view._asdict()
    values["dropped"] = dict(view.dropped)
    return {
        **values,
        "threshold": threshold.value,
        "usual_threshold": threshold.usual,
        "on_map": threshold.on_map,
        "scores": scores,
    }
