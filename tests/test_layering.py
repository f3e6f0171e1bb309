"""The arrows of docs/architecture.md are those of the code; the runtime starts without torch."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest
from import_graph import ROOT, circles, import_graph
from import_helpers import BLOCKED, import_all


class Room(NamedTuple):
    """A row of the table of rooms."""

    modules: tuple[str, ...]
    may_import: tuple[str, ...]


def rooms() -> dict[str, Room]:
    """The table of rooms: | room | modules | may import |."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text[text.index("| room | modules | may import |") :].split("\n\n")[0]
    found = {}
    for line in table.splitlines()[2:]:
        name, modules, arrows = (re.findall(r"[\w.*]+", cell) for cell in line.split("|")[1:4])
        found[name[0]] = Room(tuple(modules), tuple(arrows))
    return found


def room_of(module: str) -> str:
    """The room of a module; a package `x.*` holds itself and what is below it."""
    for name, room in rooms().items():
        for pattern in room.modules:
            package = pattern.removesuffix(".*")
            if module == package or (pattern != package and module.startswith(f"{package}.")):
                return name
    raise AssertionError(f"docs/architecture.md names no room for generalad.{module}")


def arrows() -> dict[str, set[str]]:
    """Rooms and the other rooms that their modules import, with one import as an example."""
    found: dict[str, set[str]] = {name: set() for name in rooms()}
    for module, imported in import_graph().items():
        if module:  # the package itself hands out names of all rooms
            found[room_of(module)] |= {room_of(other) for other in imported if other}
    return {name: others - {name} for name, others in found.items()}


def test_rooms_import_what_the_architecture_says_and_nothing_else() -> None:
    free = next(iter(rooms()))  # may be imported by all
    said = {name: set(room.may_import) for name, room in rooms().items()}
    assert {name: others - {free} for name, others in arrows().items()} == said


def test_there_is_no_circle_of_imports() -> None:
    graph = import_graph()
    graph.pop("")  # the package imports lazily what imports it
    assert circles(graph) == []
    assert circles(arrows()) == []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_a_run_over_files_knows_no_camera() -> None:
    graph = import_graph()
    reached, todo = set(), ["runtime.pipeline.pipeline", "runtime.sinks.json_csv"]
    while todo:
        module = todo.pop()
        reached.add(module)
        todo += graph[module] - reached
    rooms_ = {room_of(module) for module in reached if module}
    assert not rooms_ & {"cameras", "line", "delivery"}


@pytest.mark.parametrize(
    "module",
    [
        *("runtime", "metrics", "data", "spec", "preprocess", "config", "overlay"),
        *("decision", "statistics", "synth", "cli", "bench", "predictor", "serve"),
    ],
)
def test_imports_without_the_training_side(module: str) -> None:
    loaded = import_all([f"generalad.{module}"], BLOCKED)
    assert f"generalad.{module}" in loaded
    assert not [name for name in loaded if name.startswith(("generalad.model", "generalad.train"))]


def test_runtime_imports_only_its_layer() -> None:
    loaded = import_all(["generalad.runtime"], ("onnxruntime", "rich", *BLOCKED))
    own = {name.removeprefix("generalad.") for name in loaded if name.startswith("generalad.")}
    others = {room_of(name) for name in own if not name.startswith("runtime")}
    assert {"base", "core"} <= others <= {"base", "core", "synth"}


def test_command_line_loads_nothing_heavy() -> None:
    loaded = import_all(["generalad.cli"], BLOCKED)
    assert not loaded & {"numpy", "cv2", "onnxruntime"}
