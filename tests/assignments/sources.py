"""The sources of the assignments and their wrong answers, read without nbgrader and without tinynet's own reader."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.assignments.toy import ASSIGNMENTS
from tests.assignments.wrong import Wrong

NAMES = sorted(path.parent.name for path in ASSIGNMENTS.glob("source/*/*.py"))
WRONG_ANSWERS = Path(__file__).with_name("wrong_answers")
CELL = re.compile(r"^# %%(?P<kind> \[markdown\])?(?: nbgrader=(?P<grading>\{.*\}))? *$", re.MULTILINE)
SECRET = re.compile(r"^ *### BEGIN (SOLUTION|HIDDEN TESTS)\n(.*?)^ *### END \1$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class SourceCell:
    """A cell of a source script: whether it is code, nbgrader's metadata, its text."""

    code: bool
    grading: dict[str, Any]
    text: str

    @property
    def kind(self) -> str:
        """"text", "given", "solution" or "test"."""
        if not self.code:
            return "text"
        return "test" if self.grading.get("grade") else "solution" if self.grading.get("solution") else "given"


@cache
def cells(name: str) -> list[SourceCell]:
    """All cells of an assignment's script."""
    script = (ASSIGNMENTS / "source" / name / f"{name}.py").read_text(encoding="utf-8")
    heads = list(CELL.finditer(script))
    ends = [head.start() for head in heads[1:]] + [len(script)]
    return [
        SourceCell(not head["kind"], json.loads(head["grading"] or "{}"), script[head.end() : end].strip("\n"))
        for head, end in zip(heads, ends)
    ]


def solutions(name: str) -> dict[str, str]:
    """The solution cells by grade_id."""
    return {cell.grading["grade_id"]: cell.text for cell in cells(name) if cell.kind == "solution"}


def points(name: str) -> dict[str, float]:
    """The points of every test cell."""
    return {cell.grading["grade_id"]: float(cell.grading["points"]) for cell in cells(name) if cell.kind == "test"}


def task_of(name: str, test: str) -> str | None:
    """The solution that a test is of, by its name; None for the finale, which is of all of them."""
    found = [solution for solution in solutions(name) if test == solution or test.startswith(f"{solution}-")]
    return max(found, key=len, default=None)


@cache
def wrong_answers(name: str) -> list[Wrong]:
    """The plausible wrong answers to an assignment's tasks."""
    if not (WRONG_ANSWERS / f"{name}.py").exists():
        return []
    return importlib.import_module(f"tests.assignments.wrong_answers.{name}").WRONG


def notebooks_of_wrong(name: str, grader: str) -> list[list[Wrong]]:
    """The wrong answers as they are handed in: to `tinynet grade` each alone, among right answers.

    nbgrader takes seconds for a notebook, so there as many are together as touch nothing that another one loses. The
    finale is lost with the first of them.
    """
    groups: list[list[Wrong]] = []
    for wrong in wrong_answers(name):
        touched = _touched(name, wrong)
        for group in groups:
            if grader == "nbgrader" and all(not touched & _touched(name, other) for other in group):
                group.append(wrong)
                break
        else:
            groups.append([wrong])
    return groups


def _touched(name: str, wrong: Wrong) -> set[str | None]:
    """The tasks that a wrong answer replaces or loses points of."""
    return {task_of(name, test) for test in wrong.loses} - {None} | {wrong.solution}
