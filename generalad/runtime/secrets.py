"""Passwords and tokens: where they come from, and how addresses are shown without them.

`expand` takes them from the environment or a file, never from a command line. `redacted` shows an
address without them, `clean` any other text, such as the message of a library that was given the
address. `split_user` separates user and password for those who need them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote as percent_quote
from urllib.parse import unquote, urlsplit, urlunsplit

from generalad.errors import UsageError
from generalad.files import read_file

HIDDEN = "***"

ESCAPES = (
    "write special characters of a password as %40 for @, %2F for /, %3A for :, %3F for ?,"
    " %23 for #, %25 for %"
)
"""What to do about a password that takes an address apart."""

_REFERENCE = re.compile(r"\$\{(?P<file>file:)?(?P<name>[^{}]*)\}")

# Some cameras take their password in the query, others in the path, joined by other characters.
# What follows is hidden up to the next "&": a password may hold any of the other ones.
_SECRET = re.compile(
    r"((?:pas|pwd|token|secret|key|auth|user|usr|login|sig|cred)[\w.%-]*=)([^&\s]*)", re.IGNORECASE
)


class Secret:
    """A text that printing does not show; `reveal` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one place that needs it."""
        return self._text

    def __repr__(self) -> str:
        return HIDDEN


def expand(text: str, *, quote: bool = False) -> Secret:
    """Replace `${NAME}` by an environment variable and `${file:PATH}` by what a file says.

    Args:
        text: as in a configuration.
        quote: percent-quote the values, for addresses; a text that is one reference as a whole is
            an address itself and is not quoted.

    Raises:
        UsageError: a variable or file that is not there or is empty.
    """
    whole = _REFERENCE.fullmatch(text)
    if whole:
        return Secret(_value(whole))

    def replacement(reference: re.Match[str]) -> str:
        value = _value(reference)
        return percent_quote(value, safe="") if quote else value

    return Secret(_REFERENCE.sub(replacement, text))


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


def clean(text: str, address: str) -> str:
    """`text` on one line, with an address redacted and its secrets hidden wherever they are.

    Secrets of one or two characters are only hidden as parts of the address: hiding them
    everywhere would tell what they are.
    """
    text = " ".join(text.split()).replace(address, redacted(address))
    for secret in sorted(_secrets(address), key=len, reverse=True):
        if len(secret) > 2:
            text = text.replace(secret, HIDDEN)
    return text


def split_user(url: str) -> tuple[str, str, str]:
    """An address without its user information, and the user and password in it.

    Raises:
        UsageError: a host or port that cannot be; unescaped characters of a password look so.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
        # The path of a camera may hold "@"; a host that ends at "#" or "?" was cut off a password.
        after = url.partition(parts.netloc)[2]
        if ":" in parts.netloc and "@" in after and (parts.fragment or not parts.path):
            raise ValueError
    except ValueError:
        raise UsageError("the host or port in the address is wrong", remedy=ESCAPES) from None
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return bare, unquote(parts.username or ""), unquote(parts.password or "")


def hint_of(address: str) -> str:
    """What to try where a host is not found, because a password may have been taken for it."""
    _, *after = re.split(r"[/?#]", address.partition("://")[2], maxsplit=1)
    return f" ({ESCAPES})" if "@" in "".join(after) else ""


def _value(reference: re.Match[str]) -> str:
    name = reference["name"]
    value = _from_file(Path(name)) if reference["file"] else os.environ.get(name, "")
    if not value:
        kind = "file" if reference["file"] else "environment variable"
        raise UsageError(
            f"{reference[0]}: the {kind} {name} is not there or is empty",
            remedy="set it, or correct the name",
        )
    return value


def _from_file(path: Path) -> str:
    try:
        return read_file(path).decode("utf-8").rstrip("\r\n")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        # From None: an error in decoding carries the content.
        raise UsageError(
            f"${{file:{path}}} cannot be read: {reason}", remedy="check the file"
        ) from None


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
