"""Addresses of cameras: `parse_address` sorts one into a kind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from generalad.errors import UsageError
from generalad.runtime.secrets import clean, redacted

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
        """`text` on one line, without the secrets of this address; see `secrets.clean`."""
        return clean(text, self.text)


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
    return Address(f"{scheme.lower()}://{rest}", kind)
