"""The JSON Schema of what `gad bench --json` writes; as a program, it writes it into docs/.

python tests/helpers/bench_schema_helpers.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from generalad.bench import report

PUBLISHED = Path(__file__).parents[2] / "docs" / "bench.schema.json"


def report_schema() -> dict[str, Any]:
    """Draft 2020-12, of what `report.parse` takes, with the docstrings of the record."""
    definitions = msgspec.json.schema(report.BenchReport)["$defs"]
    for kind, definition in definitions.items():
        about, _, attributes = definition["description"].partition("Attributes:\n")
        definition["description"] = " ".join(about.split())
        fields = msgspec.structs.fields(getattr(report, kind)) if attributes else ()
        keys = {field.name: field.encode_name for field in fields}
        found = re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE)
        for names, words in found:
            for name in names.split(", "):
                definition["properties"][keys[name]]["description"] = " ".join(words.split())
    whole = definitions.pop("BenchReport")
    whole["required"].append("schema")
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **whole, "title": "Report of gad bench", "$defs": definitions}


if __name__ == "__main__":
    PUBLISHED.write_text(json.dumps(report_schema(), indent=2) + "\n", encoding="utf-8")
