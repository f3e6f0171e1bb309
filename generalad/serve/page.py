"""The files of the page, by the paths they are served under; no request ever names a file."""

from __future__ import annotations

from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FOLDER = resources.files("generalad.serve").joinpath("static")
_FILES = {
    "/" if file.name == "index.html" else f"/page/{file.name}": file
    for file in _FOLDER.iterdir()
    if file.name.rpartition(".")[2] in _KINDS
}

PATHS = frozenset(_FILES)
"""They hold nothing secret, so they need no token."""


def routes() -> list[Route]:
    """One for each file."""
    return [Route(path, _answer, methods=["GET"]) for path in sorted(PATHS)]


async def _answer(request: Request) -> Response:
    file = _FILES[request.url.path]
    kind = _KINDS[file.name.rpartition(".")[2]]
    return Response(file.read_bytes(), media_type=kind)
