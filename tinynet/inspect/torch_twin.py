"""tinynet's model sources over torch: the same files, executed after their imports are changed.

That is the promise of tinynet's API read backwards, and it gives a reference for parity without torchvision.
The twins live in a package of their own, `tinynet_on_torch`, made when first asked for; torch must be installed.
"""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

TWIN = "tinynet_on_torch"
SOURCE = "tinynet.models"


def torch_twin(module: str) -> ModuleType:
    """The module `tinynet.models.<module>` made of torch: ``torch_twin("resnet").resnet50()`` is a torch module.

    Raises ImportError where torch or something of it is missing.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    return importlib.import_module(f"{TWIN}.{module}")


def _twin_name(module: str) -> str:
    return module.replace(SOURCE, TWIN, 1)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `tinynet_on_torch.*` beside tinynet's own models, and executes it without writing bytecode."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == TWIN:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        if not fullname.startswith(TWIN + "."):
            return None
        real = importlib.util.find_spec(fullname.replace(TWIN, SOURCE, 1))
        if real is None or real.origin is None:
            return None
        is_package = real.submodule_search_locations is not None
        return importlib.machinery.ModuleSpec(fullname, self, origin=real.origin, is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        origin = module.__spec__.origin if module.__spec__ is not None else None
        if origin is None:  # the package itself stays empty: only the twins that are asked for are made
            return
        package = module.__name__ if hasattr(module, "__path__") else module.__name__.rpartition(".")[0]
        tree = _Imports(package).visit(ast.parse(Path(origin).read_text(encoding="utf-8"), origin))
        exec(compile(ast.fix_missing_locations(tree), origin, "exec"), module.__dict__)


class _Imports(ast.NodeTransformer):
    """Takes from torch what torch has, from the twins what is a model, and the rest from tinynet."""

    def __init__(self, package: str) -> None:
        self.package = package

    def visit_Import(self, node: ast.Import) -> ast.Import:
        for alias in node.names:
            if alias.name.partition(".")[0] == "tinynet":
                alias.asname = alias.asname or ("tinynet" if alias.name == "tinynet" else None)
                alias.name = self._home(alias.name)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        name = node.module or ""
        if node.level:
            dots = "." * node.level
            name = importlib.util.resolve_name(f"{dots}{name}", self.package.replace(TWIN, SOURCE, 1))
        if name.partition(".")[0] != "tinynet":
            return [node]
        homes: dict[str, list[ast.alias]] = {}
        for alias in node.names:
            homes.setdefault(self._home(name, alias.name), []).append(alias)
        return [ast.ImportFrom(home, names, 0) for home, names in homes.items()]

    @staticmethod
    def _home(module: str, name: str | None = None) -> str:
        """Where the twin of ``from module import name`` finds it."""
        if module == SOURCE or module.startswith(SOURCE + "."):
            return _twin_name(module)
        candidate = module.replace("tinynet", "torch", 1)
        try:
            found = importlib.import_module(candidate)
        except ImportError:
            return module
        return candidate if name is None or hasattr(found, name) else module
