"""The JSON Schema of a report, made from the record's dataclasses and their docstrings.

`python -m generalad.bench.outputs.schema` writes schema.json, which is published with the package;
a test holds one against the other.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any, Literal

from generalad.bench import record

PUBLISHED = Path(__file__).with_name("schema.json")


def report_schema() -> dict[str, Any]:
    """The schema, draft 2020-12.

    Fields that are unknown to it are allowed, as `read` allows them. A float must be finite, which
    JSON says by itself.
    """
    definitions: dict[str, Any] = {}
    whole = _object(record.Report, definitions)
    whole["properties"]["schema"] = {"const": record.SCHEMA}
    whole["required"] = [*whole["required"], "schema"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Report of gad bench",
        **whole,
        "$defs": dict(sorted(definitions.items())),
    }


def _object(kind: type[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    about = _attributes(kind)
    fields = dataclasses.fields(kind)
    properties = {}
    for field in fields:
        properties[field.name] = _value(hints[field.name], definitions)
        if field.name in about:
            properties[field.name]["description"] = about[field.name]
    required = [
        field.name for field in fields if field.default is field.default_factory is _NOTHING
    ]
    return {
        "description": _first_paragraph(kind),
        "type": "object",
        "properties": properties,
        "required": required,
    }


_NOTHING = dataclasses.MISSING


def _value(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        name = typing.cast(type[Any], hint).__name__
        if name not in definitions:
            definitions[name] = {}  # holds the place while its own fields are looked at
            definitions[name] = _object(typing.cast(type[Any], hint), definitions)
        return {"$ref": f"#/$defs/{name}"}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_value(one, definitions) for one in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _value(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _value(arguments[1], definitions)}
    return dict(_PLAIN[hint])


_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
    Any: {},
}


def _first_paragraph(kind: type[Any]) -> str:
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())


def _attributes(kind: type[Any]) -> dict[str, str]:
    """What the docstring's section "Attributes" says, by field; "a, b: …" is about both."""
    _, _, section = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    found = re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {
        name.strip(): " ".join(text.split()) for names, text in found for name in names.split(",")
    }


if __name__ == "__main__":
    from generalad.files import write_json

    write_json(PUBLISHED, report_schema())
