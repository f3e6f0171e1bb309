"""What docs/streams.md shows in Python works, with `test://` in place of cameras."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from generalad.runtime.backends.fake import FakeSession
from generalad.runtime.cameras import State

PAGE = Path(__file__).parents[3] / "docs" / "streams.md"


def test_from_python(capsys: pytest.CaptureFixture[str]) -> None:
    found = re.search(r"## From Python\n\n```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    code, names = found[1], dict[str, Any](session=FakeSession())
    for old, new in {
        '"model.onnx"': "session",
        "rtsp://10.0.0.21/stream1": "test://washer?size=64&rate=100&frames=3",
        '"test://washer"': '"test://washer?size=64&rate=100&frames=3"',
        "rtsp://user:password@camera/stream1": "test://board?size=64&rate=100&frames=3",
    }.items():
        assert code.count(old) == 1
        code = code.replace(old, new)
    exec(code, names)
    assert names["summary"].processed >= 2 and names["summary"].failed == 0
    printed = capsys.readouterr().out
    assert "line-1 camera {'state': 'live'" in printed
    status = names["reader"].status
    assert status.state is State.ENDED and status.captured == 3
    assert status.processed == printed.count("(64, 64, 3)") > 0
    assert status.processed + sum(status.dropped.values()) == 3
