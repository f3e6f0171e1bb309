"""What the HTML pages have in common: one file without scripts or network, safe to mail."""

from __future__ import annotations

import html
from collections.abc import Mapping
from importlib import resources


def page(title: str, body: str, *styles: tuple[str, str]) -> str:
    """A whole page; `styles` are packages, each with the name of a style sheet in it."""
    style = "".join(resources.files(p).joinpath(f).read_text(encoding="utf-8") for p, f in styles)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{style}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def header(kicker: str, title: str, facts: Mapping[str, str], more: str = "") -> str:
    """The head of a page with its facts; `more` is HTML, all else is text."""
    items = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in facts.items()
    )
    return (
        f'<header><p class="kicker">{kicker}</p><h1>{html.escape(title)}</h1>'
        f'<dl class="facts">{items}</dl>{more}</header>'
    )


def legend(plain: str, **marked: str) -> str:
    """Words with the mark of their class, then plain ones; all are HTML."""
    marks = "".join(f'<span><i class="{k}"></i>{words}</span>' for k, words in marked.items())
    return f'<p class="key">{marks}{f"<span>{plain}</span>" if plain else ""}</p>'


def sheet(name: str, drawn: str, key: str = "", kind: str = "sheet") -> str:
    """What is drawn, on a sheet with a heading and a legend; all are HTML."""
    return f'<div class="{kind}"><h3>{name}</h3>{key}{drawn}</div>'


def folded(summary: str, inside: str) -> str:
    """What is shown when its summary is clicked; both are HTML."""
    return f"<details><summary>{summary}</summary>{inside}</details>"
