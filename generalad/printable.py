"""Text that others wrote, such as names of files, made safe to show on a terminal."""

from __future__ import annotations

import re

# Control characters, of which terminals take some for commands, and those that turn text round.
_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def printable(text: str) -> str:
    r"""`text` with control characters written out, such as \x1b; line breaks and tabs stay."""
    return _COMMANDS.sub(_written_out, text)


def typed(word: object) -> str:
    """A word of a command as it is typed into a shell, quoted where it has spaces or the like."""
    import shlex  # rarely needed

    return shlex.quote(str(word))


def one_line(text: str) -> str:
    r"""The same, with line breaks written out as \n too."""
    return printable(text).replace("\n", "\\n")


def indented(text: str) -> str:
    """`printable`, with every line but the first set in, so that none looks like one of ours."""
    first, *others = printable(text).split("\n")
    return "\n".join([first, *(other if other[:2] == "  " else f"  {other}" for other in others)])


def json_printable(text: str) -> str:
    r"""JSON whose control characters beyond ASCII, which JSON leaves as they are, are escaped."""
    if text.isascii() and "\x7f" not in text:
        return text
    return _COMMANDS.sub(lambda found: _kept(found[0]), text)


def _written_out(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def _kept(character: str) -> str:
    """As JSON writes it; what JSON itself escapes does not come here, but its line breaks do."""
    return f"\\u{ord(character):04x}" if ord(character) >= 0x7F else character
