"""The plan of the house: a room imports from the floors below it, and no circle of imports exists anywhere."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tinynet"

FLOORS = {
    "errors": 0, "dtypes": 0, "streams": 0, "printing": 0, "kernels": 0,
    "tape": 1,
    "ops": 2,
    "tensor": 3,
    "random": 4, "factories": 4, "functions": 4, "distributed": 4,
    "utils": 5, "autograd": 6, "nn": 6, "optim": 6,
    "tinynet": 7,  # the package itself: floors 0 to 6 under torch's names
    "models": 8, "data": 8, "checkpoint": 8, "fusion": 8, "detection": 8, "ranks": 8,
    "training": 9, "detecting": 9, "lesson": 9, "inspect": 9, "plot": 9, "bench": 9, "grading": 9,
    "cli": 10,
    "__main__": 11,
}  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def imports(name: str) -> frozenset[str]:
    """Every module of the package that ``name`` imports, anywhere in the file, also for type checkers only."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            submodules = {f"{base}.{alias.name}" for alias in node.names} & MODULES.keys()
            found.update(submodules)
            if len(submodules) < len(node.names):
                found.add(base)
    return frozenset(found & MODULES.keys()) - {name}


def room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def test_every_room_has_its_floor():
    assert {room(name) for name in MODULES} == FLOORS.keys()


@pytest.mark.parametrize("name", MODULES)
def test_a_room_imports_from_its_own_floor_or_below(name):
    if name == "tinynet":
        return  # the roof over floors 0 to 6
    above = {other for other in imports(name) if FLOORS[room(other)] > FLOORS[room(name)]}
    assert not above, f"{name} imports from above: {sorted(above)}"


def circles() -> list[list[str]]:
    """The groups of modules that import each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(imports(name)):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = [stack.pop()]
            while group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                groups.append(group)

    for name in MODULES:
        if name not in index:
            visit(name)
    return groups


def test_no_circle_of_imports():
    assert circles() == []


def test_no_file_is_longer_than_a_sitting():
    longest = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: lines for name, lines in longest.items() if lines > 600} == {}
