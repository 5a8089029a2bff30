"""Packages whose names are imported on first use: what only looks at places loads no PyTorch."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


class _LazyPackage(ModuleType):
    _homes: dict[str, str]

    def __getattr__(self, name: str) -> Any:
        if name not in self._homes:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(import_module(self._homes[name]), name)
        super().__setattr__(name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system binds a submodule's name; a function of that name goes before it.
        if not (isinstance(value, ModuleType) and name in self._homes):
            super().__setattr__(name, value)


def lazy_package(package: str) -> None:
    """Imports on first use what ``package`` imports under ``if TYPE_CHECKING``.

    That block is the only list of its names: type checkers and documentation read it too."""
    module = sys.modules[package]
    homes: dict[str, str] = {}
    for block in ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body:
        if isinstance(block, ast.If):
            for entry in block.body:
                if isinstance(entry, ast.ImportFrom):
                    homes |= {alias.name: str(entry.module) for alias in entry.names}
    module.__dict__["_homes"] = homes
    module.__class__ = _LazyPackage
