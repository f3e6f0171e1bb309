"""Redirects of cameras: followed on the same host, and an error where they lead elsewhere.

Credentials go to the host that they were given for and nowhere else. FFmpeg follows redirects of
RTSP by itself and takes the password along, so the camera is asked here first, in its own protocol:
with the password where it wants it, and FFmpeg gets the address at which no redirect is left.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
import urllib.request
import weakref
from typing import IO, NamedTuple
from urllib.parse import urljoin, urlsplit, urlunsplit

from generalad.runtime.cameras.camera import CameraLost
from generalad.runtime.secrets import split_user

_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}
_MOST = 5
_LONGEST = 1 << 16
_METHODS = ("OPTIONS", "DESCRIBE")


def target_of(address: str, location: str) -> str:
    """Where a redirect leads, with the user information of `address`.

    Args:
        address: that was asked, with its secrets.
        location: as the server gave it, absolute or relative.

    Raises:
        CameraLost: another host, another port of it, or no encryption where there was some.
    """
    bare, _, _ = split_user(address)
    try:
        old, new = urlsplit(bare), urlsplit(_joined(bare, location))
        places = (
            place_of(old.scheme, old.hostname, old.port),
            place_of(new.scheme, new.hostname, new.port),
        )
    except ValueError:
        raise CameraLost(f"{urlsplit(bare).netloc} redirects to no address") from None
    if not _may_follow(*places):
        raise CameraLost(
            f"{places[0].shown} redirects to {places[1].shown}, another host: not followed, and no"
            " password was given to it; use its address if it is meant"
        )
    netloc = new.netloc.rpartition("@")[2]
    user, at, _ = urlsplit(address).netloc.rpartition("@")
    return urlunsplit(new._replace(netloc=f"{user}{at}{netloc}"))


class Place(NamedTuple):
    """A server."""

    scheme: str
    host: str
    port: int

    @property
    def shown(self) -> str:
        """As in an address, always with its port."""
        return f"{self.scheme}://{self.host}:{self.port}"


def _joined(base: str, location: str) -> str:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", location):
        return location
    # urljoin knows only the schemes of the web.
    scheme, _, rest = base.partition("://")
    return f"{scheme}://{urljoin(f'http://{rest}', location).partition('://')[2]}"


def place_of(scheme: str, host: str | None, port: int | None) -> Place:
    """The server of an address, with the usual port where it names none."""
    scheme = scheme.lower()
    return Place(scheme, (host or "").lower(), port or _PORTS.get(scheme, 0))


def _may_follow(old: Place, new: Place) -> bool:
    if old.host != new.host or not new.host:
        return False
    if old.scheme == new.scheme:
        return old.port == new.port
    # From plain to encrypted, each on its usual port.
    upgrade = (old.scheme, new.scheme) in (("http", "https"), ("rtsp", "rtsps"))
    return upgrade and new.port == _PORTS[new.scheme]


class SameHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects of HTTP on the same host; raises CameraLost at others."""

    def __init__(self) -> None:
        self._responses: list[weakref.ref[http.client.HTTPResponse]] = []

    def http_response(
        self, request: urllib.request.Request, response: http.client.HTTPResponse
    ) -> http.client.HTTPResponse:
        """See `urllib`: every response, before anything is made of it."""
        self._responses.append(weakref.ref(response))  # not to keep what others let go of
        return response

    https_response = http_response

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See `urllib`."""
        try:
            target_of(req.full_url, newurl)
        except CameraLost:
            for found in self._responses:  # the one that asked for the password too
                if (response := found()) is not None:
                    response.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def rtsp_address(address: str, *, timeout: float) -> str:
    """The address to give to FFmpeg, at which the camera sends no redirect.

    Args:
        address: rtsp:// or rtsps://, with its secrets.
        timeout: seconds for all of it.

    Raises:
        CameraLost: it leads to another host, or does not answer.
    """
    until = time.monotonic() + timeout
    for _ in range(_MOST):
        try:
            location = _location(address, until)
        except CameraLost:
            # FFmpeg says better what is wrong, and may try: there is no password to be given away.
            if split_user(address)[1]:
                raise
            return address
        if location is None:
            return address
        address = target_of(address, location)
    raise CameraLost(f"redirected more than {_MOST} times")


def _location(address: str, until: float) -> str | None:
    """Where the camera redirects to, None if it does not."""
    bare, user, password = split_user(address)
    parts = urlsplit(bare)
    place = place_of(parts.scheme, parts.hostname, parts.port)
    try:
        with connected(place, until) as connection:
            talk = _Talk(connection, bare, until)
            for method in _METHODS:
                answer = talk.ask(method)
                if answer.status == 401 and user:
                    answer = talk.ask(
                        method, authorization_for(answer, method, bare, user, password)
                    )
                if 300 <= answer.status < 400 and answer.location:
                    return answer.location
    except (http.client.HTTPException, ValueError) as error:
        raise CameraLost(f"cannot be opened: no answer of RTSP ({error})") from None
    except TimeoutError:
        raise CameraLost("cannot be opened: timed out") from None
    except OSError as error:
        reason = error.strerror or "no connection; are host and port right?"
        raise CameraLost(f"cannot be opened: {reason}") from None
    return None


def _rest(until: float) -> float:
    rest = until - time.monotonic()
    if rest <= 0:
        raise TimeoutError
    return rest


def connected(place: Place, until: float) -> socket.socket:
    """Encrypted where the scheme says so, as FFmpeg does it: certificates are not checked."""
    plain = socket.create_connection((place.host, place.port), _rest(until))
    if place.scheme != "rtsps":
        return plain
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return context.wrap_socket(plain, server_hostname=place.host)
    except BaseException:
        plain.close()
        raise


class Answer(NamedTuple):
    """The head of an answer: its status, where it redirects to, and its wishes for a password."""

    status: int
    location: str
    challenges: list[str]


class _Talk:
    """Requests on one connection."""

    def __init__(self, connection: socket.socket, url: str, until: float) -> None:
        self._connection = connection
        self._url = url
        self._until = until
        self._buffer = b""
        self._number = 0

    def ask(self, method: str, authorization: str | None = None) -> Answer:
        """Send a request and read the head of its answer; its body is skipped."""
        self._number += 1
        lines = [f"{method} {self._url} RTSP/1.0", f"CSeq: {self._number}"]
        if method == "DESCRIBE":
            lines.append("Accept: application/sdp")
        if authorization is not None:
            lines.append(f"Authorization: {authorization}")
        self._connection.settimeout(_rest(self._until))
        self._connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))
        head = self._head()
        first, *others = head.split("\r\n")
        words = first.split(maxsplit=2)
        if len(words) < 2 or not words[0].startswith("RTSP/") or not words[1].isdecimal():
            raise ValueError("another protocol")
        fields: list[tuple[str, str]] = []
        for line in others:
            name, colon, value = line.partition(":")
            if colon:
                fields.append((name.strip().lower(), value.strip()))
        values = dict(reversed(fields))
        size = values.get("content-length", "0")
        self._skip(min(int(size), _LONGEST) if size.isdecimal() and len(size) < 10 else 0)
        challenges = [value for name, value in fields if name == "www-authenticate"]
        return Answer(int(words[1][:3]), values.get("location", ""), challenges)

    def _head(self) -> str:
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        return head.decode("latin-1")

    def _skip(self, size: int) -> None:
        while len(self._buffer) < size:
            self._more()
        self._buffer = self._buffer[size:]

    def _more(self) -> None:
        if len(self._buffer) > _LONGEST:
            raise ValueError("an answer without an end")
        self._connection.settimeout(_rest(self._until))
        data = self._connection.recv(1 << 14)
        if not data:
            raise ConnectionResetError(0, "the server closed it")
        self._buffer += data


class _Request:
    """What urllib's digests want to know of a request."""

    data = None

    def __init__(self, method: str, url: str) -> None:
        self.full_url = self.selector = url
        self._method = method

    def get_method(self) -> str:
        return self._method


def authorization_for(
    answer: Answer, method: str, url: str, user: str, password: str
) -> str | None:
    """What the server asks for, as FFmpeg would answer it; None where it asks for nothing known."""
    import base64

    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, url, user, password)
    for challenge in answer.challenges:
        scheme, _, text = challenge.partition(" ")
        if scheme.lower() != "digest":
            continue
        fields = urllib.request.parse_keqv_list(urllib.request.parse_http_list(text))
        digest = urllib.request.AbstractDigestAuthHandler(passwords)
        found = digest.get_authorization(_Request(method, url), fields)  # type: ignore[arg-type]
        return f"Digest {found}" if found else None
    if any(challenge[:5].lower() == "basic" for challenge in answer.challenges):
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return None
