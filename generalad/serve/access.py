"""`Access`: who may ask what, before anything of a request is read, and what every answer says.

Without a token only this machine's programs may ask, and a browser on it must not do so on behalf
of a page from elsewhere: the host that a request names must be this machine, and a request that
changes or computes something must not come from another page.
"""

from __future__ import annotations

import hmac
from collections.abc import Container
from typing import TYPE_CHECKING

from generalad.runtime.hosts import from_another_page, is_loopback, without_port
from generalad.runtime.secrets import Secret
from generalad.serve.answers import error_answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:;"
    " connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
"""Content-Security-Policy: what the page may load, which is what this service serves."""

_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Access:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, *, token: Secret | None, public: Container[str]) -> None:
        """`public` are the paths that need no token."""
        self._app, self._public = app, public
        self._token = None if token is None else token.reveal().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http":
            return
        headers = {name: value for name, value in reversed(scope["headers"])}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        refusal = self._refusal(scope, headers)
        app = self._app if refusal is None else refusal
        await app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> ASGIApp | None:
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin", b"").decode("latin-1")
        if from_another_page(host, origin) and scope["method"] not in ("GET", "HEAD"):
            return error_answer(403, "the request comes from another page")
        if b"%2f" in scope["raw_path"].lower():  # who rules paths before us sees another one
            return error_answer(404, "the path has an encoded slash")
        if self._token is None:
            if not is_loopback(without_port(host)):
                return error_answer(403, "expected this machine as host, as there is no token")
            return None
        if scope["path"] in self._public or self._is_right(headers.get(b"authorization", b"")):
            return None
        return error_answer(
            401,
            "the token is missing or wrong",
            remedy="send the header Authorization: Bearer TOKEN",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _is_right(self, authorization: bytes) -> bool:
        scheme, _, given = authorization.partition(b" ")
        assert self._token is not None
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token)
