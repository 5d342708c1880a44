"""The lessons on the disk, for the tests: scripts, notebooks, cells by tag."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from tests.lessons.build import scripts

each_lesson = pytest.mark.parametrize("script", [pytest.param(path, id=path.stem) for path in scripts()])


def notebook_of(script: Path) -> NotebookNode:
    return nbformat.read(script.with_suffix(".ipynb"), as_version=4)


@dataclass(frozen=True)
class Cell:
    """A cell with its place, for messages."""

    place: str
    kind: str
    tags: tuple[str, ...]
    source: str


def cells_of(script: Path) -> list[Cell]:
    return [
        Cell(cell.id, cell.cell_type, tuple(cell.metadata.get("tags", ())), cell.source)
        for cell in notebook_of(script).cells
    ]


def tagged(cells: list[Cell], tag: str) -> list[Cell]:
    return [cell for cell in cells if tag in cell.tags]
