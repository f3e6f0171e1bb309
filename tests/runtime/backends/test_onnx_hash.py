"""Names of weights apart in an ONNX file, found in time that grows with its size and no faster."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.runtime.backends.onnx_hash import weights_apart

SLOW = re.compile(rb"[\w.-]+-[0-9a-f]{12}\.data")
PIECES = st.sampled_from(
    [
        b"model-0123456789ab.data",
        b"-0123456789ab.data",
        b"A",
        b"-",
        b".data",
        b"\x00",
        b" ",
        b"f" * 12,
    ]
)


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_names_are_found_as_by_the_plain_expression(data: bytes) -> None:
    # The plain one takes as much as it can: up to the last end of a run of allowed characters.
    runs = {one.group().decode() for one in SLOW.finditer(data)}
    found = set(weights_apart(data))  # type: ignore[arg-type]
    assert runs <= found
    assert all(any(name in run for run in runs) for name in found)


@pytest.mark.parametrize(
    "text", [b"A" * 2_000_000, b"-0123456789ab.dat" * 100_000, b"f" * 2_000_000]
)
def test_a_long_text_takes_no_square_of_its_length(text: bytes) -> None:
    """With the plain expression, the first of these would take hours."""
    assert weights_apart(text) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [20, 45, 46, 48, 57, 65, 95, 100, 122])
def test_the_length_before_a_name_is_none_of_its_letters(length: int) -> None:
    name = b"m" * (length - 18) + b"-0123456789ab.data"
    entry = b"\x0a\x08location\x12" + bytes([length]) + name
    assert weights_apart(entry + b"\x00") == [name.decode()]  # type: ignore[arg-type]
