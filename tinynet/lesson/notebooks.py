"""The lessons as files: where they are, their cells, the exercises and the solutions folded in them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinynet.errors import DataError

PACKAGED = Path(__file__).with_name("notebooks")  # in a wheel
CHECKOUT = Path(__file__).parents[2] / "lessons"  # in a clone, which an editable install points into
SOLUTION = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Cell:
    """One cell: its kind ("code" or "markdown"), its tags and its text."""

    kind: str
    tags: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Exercise:
    """The number of an exercise within its lesson, the names of its answers, and the folded solution's code."""

    number: int
    names: tuple[str, ...]
    solution: str


def folder() -> Path:
    """The folder that holds the lessons. Raises DataError where neither a wheel nor a clone brought them."""
    for candidate in (PACKAGED, CHECKOUT):
        if any(candidate.glob("[0-9][0-9]_*.ipynb")):
            return candidate
    raise DataError(f"the lessons are not installed: neither {PACKAGED} nor {CHECKOUT} holds notebooks")


def paths() -> list[Path]:
    """All notebooks, in the order of the lessons. Raises DataError."""
    return sorted(folder().glob("[0-9][0-9]_*.ipynb"))


def path_of(number: int) -> Path:
    """The notebook of one lesson. Raises DataError for a number that no lesson has."""
    found = {int(path.name[:2]): path for path in paths()}
    if number not in found:
        raise DataError(f"there is no lesson {number}; there are {', '.join(map(str, found))}")
    return found[number]


def read(path: Path) -> dict[str, Any]:
    """The notebook as its JSON object. Raises DataError, OSError."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no notebook: {error}") from None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise DataError(f"{path} is no notebook: it has no list of cells")
    return notebook


def cells(notebook: dict[str, Any]) -> list[Cell]:
    """The cells of a notebook's JSON object."""
    return [
        Cell(cell["cell_type"], tuple(cell["metadata"].get("tags", ())), "".join(cell["source"]))
        for cell in notebook["cells"]
    ]


def exercises(all_cells: Sequence[Cell]) -> list[Exercise]:
    """The exercises of a lesson, read from the solutions folded in its markdown."""
    return [
        Exercise(number, names_defined(code), code)
        for number, code in enumerate(_solutions(all_cells), start=1)
    ]


def _solutions(all_cells: Sequence[Cell]) -> Iterator[str]:
    for cell in all_cells:
        if "solution" in cell.tags:
            block = SOLUTION.search(cell.source)
            if block is None:
                raise DataError(f"a folded solution has no ```python block: {cell.source[:60]!r}")
            yield block[1]


def names_defined(code: str) -> tuple[str, ...]:
    """What the code defines at its top level, in order: functions, classes, assigned names."""
    names: dict[str, None] = {}
    for statement in ast.parse(code).body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            names[statement.name] = None
        elif isinstance(statement, ast.Assign):
            found = (node for target in statement.targets for node in ast.walk(target))
            names.update((node.id, None) for node in found if isinstance(node, ast.Name))
    return tuple(names)
