"""Asks an RTSP server whether it answers, and why it refuses: FFmpeg does not say."""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

from generalad.runtime.live.address import Address, split_user
from generalad.runtime.live.lost import CameraLost

_ANSWER = re.compile(rb"RTSP/\d\.\d (\d{3}) ?([^\r\n]*)\r?\n")


def check_answers(address: Address, timeout: float) -> None:
    """Find a server that is down or silent before it holds up the opening of other cameras.

    Args:
        address: of kind "rtsp". Over TLS (`rtsps://`) only the connection is tried.
        timeout: in seconds, for each step.

    Raises:
        CameraLost: no connection, or no answer.
        UsageError: a host or port that cannot be.
    """
    _ask(address, "OPTIONS", timeout)


def refusal(address: Address, timeout: float) -> str:
    """Why the server does not give the stream, as far as it says so without a password.

    To be called after a failure only: to some servers being asked twice in a row is too much.
    """
    try:
        status, reason = _ask(address, "DESCRIBE", timeout)
    except CameraLost:
        status, reason = 0, ""
    if status == 401:
        user = split_user(address.text)[1]
        return "RTSP 401, " + ("user or password refused" if user else "a password is needed")
    return f"RTSP {status}, {reason}" if status >= 400 else "refused, or no video in it"


def _ask(address: Address, method: str, timeout: float) -> tuple[int, str]:
    """Status and reason of the answer; (0, "") over TLS."""
    url = split_user(address.text)[0]
    parts = urlsplit(url)
    plain = parts.scheme.lower() == "rtsp"
    place = (parts.hostname or "", parts.port or (554 if plain else 322))
    request = f"{method} {url} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n"
    try:
        with socket.create_connection(place, timeout) as connection:
            if not plain:
                return 0, ""
            connection.sendall(request.encode())
            return _answer(connection)
    except OSError as error:
        raise CameraLost(f"cannot be opened: {error.strerror or error}") from None


def _answer(connection: socket.socket) -> tuple[int, str]:
    data = b""
    while (match := _ANSWER.match(data)) is None:
        more = connection.recv(4096)
        if not more or len(data) > 4096:
            raise ConnectionError("no RTSP server")
        data += more
    return int(match[1]), match[2].decode("latin-1")
