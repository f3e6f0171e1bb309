"""Secrets come from the environment or files, and are shown nowhere."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.errors import UsageError
from generalad.runtime.secrets import Secret, expand


def test_variables_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHO", "ann")
    (tmp_path / "password").write_text("p@ss:/word\r\n")
    reference = f"${{file:{tmp_path}/password}}"
    assert expand(reference).reveal() == "p@ss:/word"
    address = expand(f"mqtt://${{WHO}}:{reference}@host/x", quote=True)
    assert address.reveal() == "mqtt://ann:p%40ss%3A%2Fword@host/x"
    monkeypatch.setenv("WHOLE", "https://host/a?b=c")
    assert expand("${WHOLE}", quote=True).reveal() == "https://host/a?b=c"
    assert expand("no $reference {here}").reveal() == "no $reference {here}"


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1))
def test_quoted_values_come_back(value: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VALUE", value)
        expanded = expand("mqtt://user:${VALUE}@host", quote=True).reveal()
    inside = expanded.removeprefix("mqtt://user:").removesuffix("@host")
    assert unquote(inside) == value and inside == quote(value, safe="")


def test_what_is_missing_is_named_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THERE", "hidden-value")
    monkeypatch.setenv("EMPTY", "")
    (tmp_path / "binary").write_bytes(b"hidden-\xff-value")
    for wrong in ("NOWHERE", "EMPTY", f"file:{tmp_path}/nowhere", f"file:{tmp_path}/binary", ""):
        with pytest.raises(UsageError) as caught:
            expand(f"${{THERE}} ${{{wrong}}}")
        assert wrong in str(caught.value) and "hidden" not in str(caught.value)
        assert caught.value.__cause__ is None
    with pytest.raises(UsageError, match="cannot be read"):
        expand(f"${{file:{tmp_path}}}")


def test_secret_does_not_show_itself() -> None:
    secret = Secret("hidden")
    assert "hidden" not in f"{secret} {secret!r} {[secret]}" and secret.reveal() == "hidden"
