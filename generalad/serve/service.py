"""`Service`: the routes. openapi.json says what each takes and answers; a test holds them to it."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from generalad.errors import GadError, StorageError, UsageError
from generalad.printable import one_line
from generalad.records import RecordError, parse_json
from generalad.runtime.line import metrics_server
from generalad.runtime.line.metrics_server import hanging
from generalad.serve import page
from generalad.serve.access import Access
from generalad.serve.answers import error_answer, json_answer
from generalad.serve.exchange import Exchange
from generalad.serve.line import Line
from generalad.serve.line_routes import LineRoutes, by_of
from generalad.serve.metrics import families
from generalad.serve.models import BusyError, Model, Models, UnknownVersionError
from generalad.serve.prediction_requests import ClientGone, PredictionRequests
from generalad.serve.settings import Settings
from generalad.serve.uploads import Buffers, Refused, read_body
from generalad.version import __version__

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from generalad.runtime.secrets import Secret

HANGS_AFTER = 60.0
"""Seconds at one batch after which the process should be started anew."""

PUBLIC = frozenset({"/healthz", "/readyz", "/openapi.json"})
"""What needs no token."""

_SMALL = 65536
"""Bytes of a JSON body."""

Handler = Callable[[Request], Awaitable[Response]]


class Service:
    """The application, its models and what it counts."""

    def __init__(
        self,
        models: Models,
        settings: Settings,
        *,
        token: Secret | None = None,
        line: Line | None = None,
        exchange: Exchange | None = None,
    ) -> None:
        """Models and line are closed by whoever opened them."""
        self._models, self._settings = models, settings
        self._exchange = exchange or Exchange(line)
        self._line = LineRoutes(line, models, self._exchange, self._json)
        self._predictions = PredictionRequests(settings)
        self._small = Buffers(settings.max_in_flight * _SMALL)
        self.requests: Counter[tuple[str, int]] = Counter()
        app = Starlette(routes=self._routes(), exception_handlers={HTTPException: _http_error})
        app.router.redirect_slashes = False  # to whatever host the request names
        self.app: ASGIApp = Access(
            app,
            token=token,
            public=PUBLIC | page.PATHS,
        )

    def close(self) -> None:
        """End the threads that decode."""
        self._predictions.close()

    def _routes(self) -> list[Route]:
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/healthz", self._healthz),
            ("GET", "/readyz", self._readyz),
            ("GET", "/metrics", self._metrics),
            ("GET", "/openapi.json", self._openapi),
            ("GET", "/v1/models", self._list),
            ("GET", "/v1/models/{model}", self._show),
            ("GET", "/v1/models/{model}/report", self._evaluation),
            ("POST", "/v1/models/{model}/predict", self._predict),
            ("POST", "/v1/models/{model}/swap", self._swap),
            ("POST", "/v1/models/{model}/rollback", self._rollback),
            *self._line.routes,
        ]
        guarded = [
            Route(path, self._guarded(path, handler), methods=[method])
            for method, path, handler in routes
        ]
        return [*guarded, *page.routes()]

    def _guarded(self, path: str, handler: Handler) -> Handler:
        """A handler whose failures are answers, and whose answers are counted."""

        async def guarded(request: Request) -> Response:
            answer = await _answered(handler, request)
            self.requests[path, answer.status_code] += 1
            return answer

        return guarded

    # Health

    async def _healthz(self, request: Request) -> Response:
        busy = [(model.name, model.current.batcher.counts().busy) for model in self._models]
        problems = [
            f"{name}: the network has been at one batch for {seconds:.0f} s"
            for name, seconds in busy
            if seconds >= HANGS_AFTER
        ]
        view = self._line.view()
        return _health(problems if view is None else [*problems, *hanging(view)])

    async def _readyz(self, request: Request) -> Response:
        room = self._predictions.in_flight < self._settings.max_in_flight
        full = [] if room else ["as many images are in flight as are allowed"]
        return _health([*full, *self._line.problems()])

    async def _metrics(self, request: Request) -> Response:
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

        found = [*families(self._models, self.requests, self._predictions.in_flight)]
        view = self._line.view()
        if view is not None:
            found += metrics_server.families(view)
        text = metrics_server.exposition(found)
        return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def _openapi(self, request: Request) -> Response:
        return _openapi_answer()

    # Models

    async def _list(self, request: Request) -> Response:
        return json_answer({"models": [model.to_dict() for model in self._models]})

    async def _show(self, request: Request) -> Response:
        return json_answer(self._model(request).to_dict())

    async def _evaluation(self, request: Request) -> Response:
        model = self._model(request)
        version = request.query_params.get("version", model.current.name)
        try:
            found = await asyncio.to_thread(model.report, version)
        except UnknownVersionError as error:
            raise Refused(404, error.message, remedy=error.remedy) from error
        headers = {"Content-Disposition": 'attachment; filename="evaluation.html"'}
        return Response(found, headers=headers, media_type="text/html")

    async def _predict(self, request: Request) -> Response:
        found = await self._predictions.answer(
            self._model(request),
            request.stream(),
            request.receive,
            length=request.headers.get("content-length"),
            content_type=request.headers.get("content-type", ""),
            with_map=_with_map(request),
        )
        return json_answer(found)

    async def _swap(self, request: Request) -> Response:
        model, body = self._model(request), await self._json(request)
        version, by = body.get("version"), by_of(body)
        if not isinstance(version, str) or not {"version", "by"} >= set(body):
            raise Refused(
                400, 'expected {"version": "a name"}', remedy=f"GET /v1/models/{model.name}"
            )
        return await _exchanged(model, lambda: self._exchange.swap(model, version, by=by))

    async def _rollback(self, request: Request) -> Response:
        model = self._model(request)
        by = by_of(await self._json(request, empty=True))
        return await _exchanged(model, lambda: self._exchange.rollback(model, by=by))

    def _model(self, request: Request) -> Model:
        name = request.path_params["model"]
        model = self._models.get(name)
        if model is None:
            known = ", ".join(self._models.names())
            raise Refused(404, f"no model {name[:80]!r}", remedy=f"there are {known}")
        return model

    async def _json(self, request: Request, *, empty: bool = False) -> dict[str, Any]:
        """A small JSON object; nothing is one too where it may be `empty`."""
        text = await read_body(
            request.stream(),
            request.headers.get("content-length"),
            self._small,
            most=_SMALL,
            seconds=self._settings.client_timeout,
        )
        self._small.give_back(len(text))
        if empty and not text:
            return {}
        try:
            found = parse_json(text)
        except RecordError as error:
            raise Refused(400, f"the body is {error}") from error
        if not isinstance(found, dict):
            raise Refused(400, "the body is no JSON object")
        return found


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document of the service."""
    text = resources.files("generalad.serve").joinpath("openapi.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    found["info"]["version"] = __version__
    return found


@functools.cache
def _openapi_answer() -> Response:
    return json_answer(openapi())


async def _answered(handler: Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except Refused as refused:
        headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
        return error_answer(refused.status, refused.message, remedy=refused.remedy, headers=headers)
    except (ClientDisconnect, ClientGone):
        return Response(status_code=400)  # which nobody reads
    except MemoryError:
        return error_answer(503, "out of memory", headers={"Retry-After": "1"})
    except Exception as error:  # the service goes on
        sys.stderr.write(f"gad: a request failed: {one_line(str(error) or repr(error))}\n")
        message = error.message if isinstance(error, GadError) else type(error).__name__
        return error_answer(500, message, remedy="see the log of the service")


async def _exchanged(model: Model, exchange: Callable[[], None]) -> Response:
    """Exchange a version in a thread, as loading takes time; the answer is the model as it is."""
    try:
        await asyncio.to_thread(exchange)
    except UnknownVersionError as error:
        raise Refused(404, error.message, remedy=error.remedy) from error
    except BusyError as error:
        raise Refused(409, error.message, remedy=error.remedy, retry_after=1) from error
    except StorageError as error:
        raise Refused(507, error.message, remedy=error.remedy) from error
    except (GadError, OSError) as error:
        message = error.message if isinstance(error, GadError) else str(error.strerror)
        message = message.replace(f"{model.current.path.parent}{os.sep}", "")
        status = 409 if isinstance(error, UsageError) else 422
        raise Refused(
            status, f"{message}; {model.current.name} goes on", remedy=getattr(error, "remedy", "")
        ) from error
    return json_answer(model.to_dict())


async def _http_error(request: Request, error: Exception) -> Response:
    """Of the router: no such path or method."""
    assert isinstance(error, HTTPException)
    return error_answer(
        error.status_code, error.detail, remedy="see /openapi.json", headers=error.headers
    )


def _health(problems: list[str]) -> Response:
    body = {"status": "no" if problems else "ok", "problems": problems}
    return json_answer(body, 503 if problems else 200)


def _with_map(request: Request) -> bool:
    asked = request.query_params.get("map", "")
    if asked not in ("", "png"):
        raise Refused(400, f"map: expected png, found {asked[:40]!r}")
    return asked == "png"
