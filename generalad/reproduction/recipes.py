"""Recipes, one a data set and method, and the numbers that were published with them."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from generalad.config import Config
from generalad.data.public_sets import public_sets
from generalad.errors import UsageError, word_hint
from generalad.records import read_toml

DEFAULT_METHOD = "generalad"
TITLES = {"generalad": "GeneralAD", "simplenet": "SimpleNet", "kdad": "KDAD"}
"""Methods as their papers write them."""


@dataclass(frozen=True)
class Recipe:
    """How a method was run on a data set; a file of recipes/.

    Attributes:
        data_set: key of `generalad.data.public_sets`.
        method: of `generalad.config.METHODS`.
        source: where the settings were published.
        classes: in the order of the data set.
        settings: fields of `Config`.
        backbones: further settings, by the name of a size.
        backbone: which of them where none is chosen; empty without `backbones`.
    """

    data_set: str
    method: str
    source: str
    classes: tuple[str, ...]
    settings: Mapping[str, Any]
    backbones: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    backbone: str = ""

    def config(
        self, backbone: str | None = None, changes: Mapping[str, Any] | None = None
    ) -> Config:
        """The settings of a run.

        Args:
            backbone: one of `backbones`; None for the recipe's own.
            changes: fields of `Config` over those of the recipe.

        Raises:
            ConfigError: a method that is not known here, or an unknown field or value.
            UsageError: no such backbone.
        """
        size = self.backbone if backbone is None else backbone
        if backbone is not None and backbone not in self.backbones:
            expected = ", ".join(self.backbones) or f"none: {self.method} has one backbone"
            raise UsageError(
                f"--backbone {backbone}: expected {expected}", remedy="leave the option out"
            )
        chosen = self.backbones.get(size, {})
        return Config().replaced({**self.settings, **chosen, **(changes or {})})


def recipe(data_set: str, method: str = DEFAULT_METHOD) -> Recipe:
    """Read a recipe.

    Raises:
        UsageError: there is none of that data set or method.
    """
    name = f"{data_set}.{method}.toml"
    if name not in recipe_files():
        methods = sorted({file.split(".")[1] for file in recipe_files()})
        known = data_sets() if method in methods else methods
        wrong = data_set if method in methods else method
        raise UsageError(
            f"no recipe for {wrong!r}, expected one of {', '.join(known)}",
            remedy=word_hint(wrong, known, "gad reproduce"),
        )
    with importlib.resources.as_file(_folder() / name) as path:
        table = read_toml(path)
    return Recipe(
        data_set,
        method,
        table["source"],
        tuple(table["classes"]),
        table["settings"],
        table.get("backbones", {}),
        table.get("backbone", ""),
    )


@functools.cache
def recipe_files() -> tuple[str, ...]:
    """Names of all recipes, DATA-SET.METHOD.toml."""
    return tuple(sorted(file.name for file in _folder().iterdir() if file.name.endswith(".toml")))


def data_sets() -> list[str]:
    """Keys of the data sets that recipes are for, in the order of their table."""
    return [
        one.key for one in public_sets() if f"{one.key}.{DEFAULT_METHOD}.toml" in recipe_files()
    ]


@dataclass(frozen=True)
class PublishedRow:
    """What was published of a method on a data set, in percent; None for what was not.

    Attributes:
        title: of the method and its backbone.
        image_auroc: mean over the classes.
        pixel_auroc: the same.
        source: of both.
        same: whether method and backbone are those asked for.
    """

    title: str
    image_auroc: float | None
    pixel_auroc: float | None
    source: str
    same: bool


def published(data_set: str, method: str, backbone: str) -> list[PublishedRow]:
    """All that was published on a data set, what is the same as ours first."""
    with importlib.resources.as_file(_folder().parent / "published.toml") as path:
        table = read_toml(path)
    rows = [
        PublishedRow(
            entry["title"],
            entry["image_auroc"].get(data_set),
            entry.get("pixel_auroc", {}).get(data_set),
            table["sources"][entry["source"]],
            (entry.get("method", ""), entry.get("backbone", "")) == (method, backbone),
        )
        for entry in table["entry"]
        if data_set in entry["image_auroc"]
    ]
    return sorted(rows, key=lambda row: not row.same)


def _folder() -> Any:
    return importlib.resources.files("generalad.reproduction") / "recipes"
