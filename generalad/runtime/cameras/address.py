"""Addresses of cameras: `parse_address` sorts one into a kind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from generalad.errors import UsageError
from generalad.runtime.cameras.camera import Settings
from generalad.runtime.secrets import clean, redacted

Kind = Literal["rtsp", "http", "usb", "test", "genicam", "basler", "gige"]

INDUSTRIAL: tuple[Kind, ...] = ("genicam", "basler", "gige")
"""Kinds of industrial cameras; their addresses are `KIND:NAME`."""

_SCHEMES: dict[str, Kind] = {
    "rtsp": "rtsp",
    "rtsps": "rtsp",
    "http": "http",
    "https": "http",
    "test": "test",
}
_KNOWN = (
    "known: rtsp://, rtsps://, http://, https://, usb:0, /dev/video0, genicam:SERIAL,"
    " basler:SERIAL, gige:SERIAL, test://washer"
)
_USB = re.compile(r"usb:\d+|/dev/(video\d+|v4l/.+)")
_PRODUCER = "?producer="


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

    @property
    def camera(self) -> str:
        """What an industrial camera is called by: serial number, user name or network address."""
        return unquote(self.text.partition(":")[2].partition(_PRODUCER)[0])

    @property
    def producer(self) -> str:
        """File of the GenTL producer that a `genicam:` address names; empty if it names none."""
        return self.text.partition(_PRODUCER)[2]

    def clean(self, text: str) -> str:
        """`text` on one line, without the secrets of this address; see `secrets.clean`."""
        return clean(text, self.text)


def parse_address(text: str) -> Address:
    """Sort an address into a kind.

    Raises:
        UsageError: none of the known forms.
    """
    if _USB.fullmatch(text):
        return Address(text, "usb")
    first, _, name = text.partition(":")
    if first in INDUSTRIAL:
        if not name or name.startswith((_PRODUCER, "//")):
            raise UsageError(
                f"{text}: expected the camera's serial number, user name or network address",
                remedy="gad cameras lists them",
            )
        return Address(text, first)
    scheme, separator, rest = text.partition("://")
    kind = _SCHEMES.get(scheme.lower()) if separator else None
    if kind is None:
        raise UsageError(f"{redacted(text)}: not the address of a live source", remedy=_KNOWN)
    if not rest or rest.startswith(("/", "?")):
        missing = "category" if kind == "test" else "host"
        raise UsageError(f"{redacted(text)}: the {missing} is missing", remedy=_KNOWN)
    return Address(f"{scheme.lower()}://{rest}", kind)


def refuse_settings(address: str, settings: Settings | None) -> None:
    """Refuse settings for a source that is no industrial camera; raises UsageError."""
    if settings:
        raise UsageError(
            f"{redacted(address)}: settings are for industrial cameras",
            remedy="remove them, or give a genicam:, basler: or gige: address",
        )
