"""Names made of times and streams, for files and ids."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

_LONGEST = 40
_LAST_SECOND = 253_402_300_799.0  # of the year 9999


def utc_stamp(time: float) -> str:
    """Seconds since 1970 as "20261125T071233.123Z": sorts by time and suits file names.

    Times of files may be anything; those before 1970 or after 9999 become the nearest.
    """
    within = min(max(time, 0.0), _LAST_SECOND)
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=within)
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z"


def safe_name(stream: str) -> str:
    """The name of a stream as one part of a path, on any system; its own name where that is safe.

    Where something had to be changed, six digits of a hash keep two streams apart and make the name
    the same after a restart.
    """
    name = re.sub(r"[^\w-]+", "-", stream)[:_LONGEST].strip("-")
    reserved = re.fullmatch(r"con|prn|aux|nul|com\d|lpt\d", name, re.IGNORECASE)  # by Windows
    if name == stream and name and not reserved:
        return name
    return f"{name}-{digest(stream)[:6]}".lstrip("-")


def digest(text: str) -> str:
    """Twelve digits that stand for a text, such as an address, in a file's name."""
    import hashlib  # not at the start of every command

    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]
