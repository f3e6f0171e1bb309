"""Lets a verb of the package have the name of the module or package that it works with.

`generalad.export` is a package, `generalad.export.to_onnx` one of its modules, and
`generalad.export("runs/parts")` is to work whatever was imported before. Importing a submodule
always sets its parent's attribute to the module, so the module itself must be callable.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


def make_callable(module: str, verb: str) -> None:
    """Make calling a module call `verb`, a function as "generalad.verbs:export".

    It is looked up when it is called, so that importing the module loads no more than it did.
    """
    home, name = verb.split(":")

    class CallableModule(ModuleType):
        @property
        def __wrapped__(self) -> Any:
            """For `inspect.signature` and the help of notebooks."""
            return getattr(importlib.import_module(home), name)

        def __call__(self, *arguments: Any, **named: Any) -> Any:
            return self.__wrapped__(*arguments, **named)

    sys.modules[module].__class__ = CallableModule
