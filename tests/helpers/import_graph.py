"""Who imports whom in the package, read from the source: at the top, in functions, for types."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def import_graph() -> dict[str, set[str]]:
    """Modules below `generalad` and those that each imports, names without "generalad."."""
    files = {_name(path): path for path in (ROOT / "generalad").rglob("*.py")}
    known = set(files)
    return {name: set(_imports(path, known)) - {name} for name, path in files.items()}


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT / "generalad").with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__").removesuffix("__init__")


def _imports(path: Path, known: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if _own(name) in known else node.module for name in whole]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (_own(name) for name in names if _own(name) in known)


def _own(module: str) -> str:
    return module.removeprefix("generalad").removeprefix(".") if _is_own(module) else "?"


def _is_own(module: str) -> bool:
    return module == "generalad" or module.startswith("generalad.")


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of names that reach each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph.get(name, ()):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return found
