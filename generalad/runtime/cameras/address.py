"""Addresses of live sources: what they mean, and how they are shown without their secrets.

`parse_address` sorts an address into a kind; `redacted` shows one, `Address.clean` removes its
secrets from any other text, such as the message of a library that was given the address;
`split_user` separates them for those who need them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from generalad.errors import UsageError

Kind = Literal["rtsp", "http", "usb", "test"]

_SCHEMES: dict[str, Kind] = {
    "rtsp": "rtsp",
    "rtsps": "rtsp",
    "http": "http",
    "https": "http",
    "test": "test",
}
_KNOWN = "known: rtsp://, rtsps://, http://, https://, usb:0, /dev/video0, test://washer"
_USB = re.compile(r"usb:\d+|/dev/(video\d+|v4l/.+)")
HIDDEN = "***"

# Some cameras take their password in the query, others in the path, joined by other characters.
# What follows is hidden up to the next "&": a password may hold any of the other ones.
_SECRET = re.compile(
    r"((?:pas|pwd|token|secret|key|auth|user|usr|login|sig|cred)[\w.%-]*=)([^&\s]*)", re.IGNORECASE
)


@dataclass(frozen=True, repr=False)
class Address:
    """Address of a live source; printing it shows no secrets.

    Attributes:
        text: as the user wrote it, with its secrets: for opening only.
        kind: how it is opened.
    """

    text: str
    kind: Kind

    def __str__(self) -> str:
        return redacted(self.text)

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    @property
    def number(self) -> int | None:
        """Number of a camera given as `usb:N`; None for everything else."""
        return int(self.text[4:]) if self.text.startswith("usb:") else None

    def clean(self, text: str) -> str:
        """`text` on one line, with this address redacted and its secrets hidden wherever they are.

        Secrets of one or two characters are only hidden as parts of the address: hiding them
        everywhere would tell what they are.
        """
        text = " ".join(text.split()).replace(self.text, str(self))
        for secret in sorted(_secrets(self.text), key=len, reverse=True):
            if len(secret) > 2:
                text = text.replace(secret, HIDDEN)
        return text


def parse_address(text: str) -> Address:
    """Sort an address into a kind.

    Raises:
        UsageError: none of the known forms.
    """
    if _USB.fullmatch(text):
        return Address(text, "usb")
    scheme, separator, rest = text.partition("://")
    kind = _SCHEMES.get(scheme.lower()) if separator else None
    if kind is None:
        raise UsageError(f"{redacted(text)}: not the address of a live source", remedy=_KNOWN)
    if not rest or rest.startswith(("/", "?")):
        missing = "category" if kind == "test" else "host"
        raise UsageError(f"{redacted(text)}: the {missing} is missing", remedy=_KNOWN)
    return Address(text, kind)


def redacted(address: str) -> str:
    """An address without user, password and password-like values.

    Passwords with unescaped "/", "?" or "@" are common, so where there is user information
    everything up to the last "@" is taken for it. That may hide more than the secret, never less.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    user = _user_information(rest)
    if user:
        rest = f"{HIDDEN}@{rest[len(user) + 1 :]}"
    return scheme + separator + _SECRET.sub(rf"\g<1>{HIDDEN}", rest)


def _user_information(rest: str) -> str:
    """What comes before the host, without the "@"; empty if there is nothing."""
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    # "host/path@1" has none; with a colon, what looks like a port may be a password.
    return rest.rpartition("@")[0] if "@" in host or ":" in host else ""


def _secrets(address: str) -> set[str]:
    rest = address.partition("://")[2]
    user = _user_information(rest)
    found = {user, *user.split(":", 1)[1:]}
    found.update(match[2] for match in _SECRET.finditer(rest[len(user) :]))
    return {form for secret in found if secret for form in (secret, unquote(secret))}


def split_user(url: str) -> tuple[str, str, str]:
    """An address without its user information, and the user and password in it.

    Raises:
        UsageError: a host or port that cannot be; unescaped characters of a password look so.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise UsageError(
            "the host or port in the address is wrong",
            remedy="write special characters of a password as %40 for @, %2F for /, %3A for :",
        ) from None
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return bare, unquote(parts.username or ""), unquote(parts.password or "")
