"""Mutations of files that gad reads: what an attacker, a bad disk or a careless hand would make.

A mutation is drawn by a seeded generator, so that a failing case is named by its seed and number.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

EVIL: tuple[Any, ...] = (
    0, -1, 1, 2**31, 2**63, 2**64, 10**30, 10**400, 1e308, -1e308, 1e-320, float("nan"),
    float("inf"), -0.0, "", "x", "../../etc/passwd", "/etc/passwd", "\x1b]0;pwn\x07", "\x00",
    "[/red]", "<script>", "A" * 100_000, None, True, False, [], {}, [[]], [1], [1, 2], [0, 0],
    [-5, 5], [10**9, 10**9], {"a": 1}, "\ud800", [None] * 3, "1", 3.5,
)  # fmt: skip


def mutated_bytes(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Flipped bits, a cut, a hole, a repetition, or random bytes."""
    kind = rng.choice(("flip", "flip", "flip", "cut", "hole", "twice", "random"))
    if kind == "flip":
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return bytes(changed), kind
    if kind == "cut":
        return data[: rng.choice((0, 1, 10, 100, rng.randrange(len(data)), len(data) - 1))], kind
    first, last = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    if kind == "hole":
        return data[:first] + data[last:], kind
    if kind == "twice":
        return data[:last] + data[first:], kind
    return rng.randbytes(rng.randrange(1, 5000)), kind


def mutated_json(value: Any, rng: random.Random) -> tuple[str, str]:
    """JSON text with values replaced, removed or nested deeply, or with a character changed."""
    if rng.random() < 0.15:
        text = json.dumps(value)
        at = rng.randrange(len(text))
        new = rng.choice(("", "{", "}", '"', "\\u0000", "NaN", "1e999", "-"))
        return text[:at] + new + text[at + rng.randrange(3) :], f"text at {at}"
    changed = copy.deepcopy(value)
    said: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = [path for path in _paths(changed) if path]
        if not places:
            break
        place = rng.choice(places)
        holder = changed
        for step in place[:-1]:
            holder = holder[step]
        act = rng.random()
        if act < 0.15:
            del holder[place[-1]]
        elif act < 0.22:
            holder[place[-1]] = "@@DEEP@@"
        else:
            holder[place[-1]] = copy.deepcopy(rng.choice(EVIL))
        said.append(".".join(f"{step}" for step in place))
    depth = rng.choice((100, 2000, 200_000))
    text = json.dumps(changed).replace('"@@DEEP@@"', "[" * depth + "]" * depth)
    return text, f"values at {', '.join(said)}"


def mutated_text(text: str, rng: random.Random) -> tuple[str, str]:
    """A text with lines removed, repeated or swapped, or words and characters changed."""
    lines = text.split("\n")
    kind = rng.choice(("remove", "repeat", "swap", "character", "character", "word", "cut"))
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    if kind == "remove":
        del lines[first]
    elif kind == "repeat":
        lines.insert(second, lines[first])
    elif kind == "swap":
        lines[first], lines[second] = lines[second], lines[first]
    elif kind == "cut":
        return text[: rng.randrange(len(text))], kind
    elif kind == "word":
        words = lines[first].split(" ")
        words[rng.randrange(len(words))] = rng.choice(
            ("-1", "nan", "1e999", "[" * 300, '""', "{}", "x")
        )
        lines[first] = " ".join(words)
    else:
        place = rng.randrange(len(text))
        new = rng.choice(
            ("\x00", "\x1b", '"', "'", "\\", "[", "=", "\ufeff", "\u2028", "9" * 400, "é")
        )
        return text[:place] + new + text[place + rng.randrange(2) :], kind
    return "\n".join(lines), kind


def _paths(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    if isinstance(value, dict):
        for key in value:
            yield from _paths(value[key], (*place, key))
    elif isinstance(value, list):
        for index in range(min(len(value), 3)):
            yield from _paths(value[index], (*place, index))
