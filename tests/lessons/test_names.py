"""No lesson uses what a later one introduces: every name of tinynet is listed as new in it or before."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.lessons.build import scripts
from tests.lessons.stored import cells_of, each_lesson, tagged
from tinynet.lesson.notebooks import SOLUTION

FREE = ("tinynet.lesson", "tinynet.plot", "tinynet.manual_seed", "tinynet.utils.progress")
NEW = re.compile(r"^\*\*New in tinynet:\*\* (.+?)(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)


@cache
def introduced(script: Path) -> tuple[str, ...]:
    """What the lesson's first cell lists as new."""
    line = NEW.search(cells_of(script)[0].source)
    assert line, f"{script.stem} has no line **New in tinynet:**"
    names = tuple(re.findall(r"`([\w.]+)`", line[1]))
    assert all(name.startswith("tinynet.") for name in names), names
    return names


def used(script: Path) -> set[str]:
    """The dotted names of tinynet in the code cells and the folded solutions."""
    cells = cells_of(script)
    code = [cell.source for cell in cells if cell.kind == "code"]
    code += [block[1] for cell in tagged(cells, "solution") if (block := SOLUTION.search(cell.source))]
    return names_of("\n".join(code))


def names_of(code: str) -> set[str]:
    tree = ast.parse(code)
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.split(".")[0]
                if alias.name.split(".")[0] == "tinynet":
                    aliases[alias.asname or whole] = whole
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tinynet":
            aliases.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    chains = (chain(node) for node in ast.walk(tree) if id(node) not in inner)
    return {resolved([aliases[parts[0]], *parts[1:]]) for parts in chains if parts and parts[0] in aliases}


def chain(node: ast.AST) -> list[str]:
    """``["a", "b", "c"]`` for ``a.b.c``, else nothing."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (inner := chain(node.value)):
        return [*inner, node.attr]
    return []


def resolved(parts: list[str]) -> str:
    """The name as far as modules lead, with the first thing in them: ``tinynet.nn.Conv2d`` of its classmethod."""
    path = ".".join(parts).split(".")
    thing: Any = importlib.import_module(path[0])
    for place, part in enumerate(path[1:], start=1):
        if not isinstance(thing, type(importlib)):
            return ".".join(path[:place])
        thing = getattr(thing, part, None) or importlib.import_module(".".join(path[: place + 1]))
    return ".".join(path)


def is_free(name: str) -> bool:
    return any(name == free or name.startswith(f"{free}.") for free in FREE)


@each_lesson
def test_only_what_was_introduced_is_used(script: Path) -> None:
    known = {name for earlier in scripts() if earlier.name <= script.name for name in introduced(earlier)}
    unknown = {name for name in used(script) if not is_free(name)} - known - {"tinynet"}
    assert not unknown, f"{script.stem} uses {sorted(unknown)}: introduce it, or use what is known"


@each_lesson
def test_what_is_called_new_is_new_and_used(script: Path) -> None:
    names = introduced(script)
    before = {name for earlier in scripts() if earlier.name < script.name for name in introduced(earlier)}
    assert not set(names) & before, f"{sorted(set(names) & before)} came in an earlier lesson"
    assert not set(names) - used(script), f"{sorted(set(names) - used(script))} is not used in {script.stem}"


@pytest.mark.parametrize("code, names", [
    ("import tinynet\ntinynet.nn.Conv2d(1, 2, 3).weight", {"tinynet.nn.Conv2d"}),
    ("from tinynet import nn as layers\nlayers.functional.relu(x)", {"tinynet.nn.functional.relu"}),
    ("import tinynet as torch\ntorch.Tensor.new(3)", {"tinynet.Tensor"}),
    ("import tinynet.nn.functional as F\nF.relu(x); x.relu()", {"tinynet.nn.functional.relu"}),
    ("from tinynet.models import resnet50\nnet = resnet50()", {"tinynet.models.resnet50"}),
])  # fmt: skip
def test_names_are_found(code: str, names: set[str]) -> None:
    assert names_of(code) == names
