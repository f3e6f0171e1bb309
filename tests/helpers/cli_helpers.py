"""Runs a command in this process, and what its errors look like."""

from __future__ import annotations

import pytest

from generalad.cli import main

Capture = pytest.CaptureFixture[str]


def gad(capture: Capture, *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command in this process."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    out, err = capture.readouterr()
    code = caught.value.code
    assert isinstance(code, int)
    assert "Traceback" not in err
    return code, out, err


def one_line(err: str) -> str:
    """The error is one line with a remedy."""
    (line,) = err.splitlines()
    assert line.startswith("gad: ")
    assert " → " in line
    return line
