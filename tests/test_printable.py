"""Names of files and texts of artifacts on a terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.printable import indented, json_printable, one_line, printable, typed


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("part.png", "part.png"),
        ("Prüfteil 日本.png", "Prüfteil 日本.png"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\rgad: all is well", r"a\x0dgad: all is well"),
        ("\x9b31m", r"\x9b31m"),
        ("gnp.\u202etrap", r"gnp.\u202etrap"),
        ("a\u2028b\x7f\x00", r"a\u2028b\x7f\x00"),
    ],
)
def test_control_characters_are_written_out(text: str, shown: str) -> None:
    assert printable(text) == one_line(text) == shown


def test_a_word_is_one_word_for_a_shell() -> None:
    assert typed("runs/parts") == "runs/parts"
    assert typed("my parts/o'ring") == """'my parts/o'"'"'ring'"""


def test_no_line_looks_like_one_of_ours() -> None:
    assert one_line("a\ngad: ok") == r"a\ngad: ok"
    assert indented("2 images:\n  a.png\ngad: ok\n\r") == "2 images:\n  a.png\n  gad: ok\n  \\x0d"


@given(st.text())
def test_json_stays_the_same_json(text: str) -> None:
    line = json.dumps({"path": text}, ensure_ascii=False)
    shown = json_printable(line)
    assert json.loads(shown) == {"path": text}
    assert printable(shown) == shown, "nothing is left that a terminal would take for a command"
