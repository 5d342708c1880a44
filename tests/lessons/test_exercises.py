"""Every exercise, from the notebook itself: the solution passes its check, plausible wrong answers are told why."""

from __future__ import annotations

import contextlib
import io
import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.lessons.build import LESSONS
from tests.lessons.stored import Cell, cells_of, each_lesson, tagged
from tinynet.lesson.folder import run_cell
from tinynet.lesson.notebooks import SOLUTION, names_defined

WRONG = Path(__file__).with_name("wrong_answers")


def wrong_answers(script: Path) -> dict[str, list[tuple[str, str]]]:
    """For the first name of each exercise's answer: (words that the check must say, the wrong code)."""
    return runpy.run_path(str(WRONG / script.name))["WRONG"]


class Notebook:
    """Runs cells one after the other in one namespace, as a kernel does."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {"__name__": "__lesson__"}
        self.count = 0

    def run(self, source: str) -> str:
        """Runs a cell, and returns what it printed."""
        self.count += 1
        with contextlib.redirect_stdout(io.StringIO()) as out:
            run_cell(source, self.scope, f"<cell {self.count}>")
        return out.getvalue()


def try_exercise(notebook: Notebook, stub: Cell, check: Cell, solution: str, wrong: list[tuple[str, str]]) -> None:
    names = names_defined(solution)
    assert len(wrong) >= 2, f"{names[0]} needs at least two wrong answers"
    notebook.run(stub.source)
    assert "not attempted (" in notebook.run(check.source), f"{check.place}: the stub counts as an answer"
    again = notebook.run(check.source)  # what is no function cannot be told from an answer
    assert "This is the folded solution" in again or not callable(notebook.scope[names[0]]), f"{check.place}: run twice"
    for words, code in wrong:
        notebook.run(stub.source)
        notebook.run(code)
        verdict = notebook.run(check.source)
        assert "not yet." in verdict, f"{check.place} lets pass: {code}"
        assert words in verdict, f"{check.place} should say {words!r} of {code}: {verdict}"
        assert "It stopped with" not in verdict or "It stopped with" in words, f"{check.place}: {verdict}"
    notebook.run(stub.source)
    notebook.run(solution)
    verdict = notebook.run(check.source)
    assert verdict.endswith(": right.\n"), f"{check.place} refuses the folded solution: {verdict}"


@each_lesson
def test_solutions_pass_and_wrong_answers_are_told_why(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(LESSONS)
    cells = cells_of(script)
    last = max(index for index, cell in enumerate(cells) if "check" in cell.tags)
    wrong = wrong_answers(script)
    notebook, stub = Notebook(), None
    tried = []
    solutions = iter([SOLUTION.search(cell.source)[1] for cell in tagged(cells, "solution")])
    for cell in cells[: last + 1]:
        if cell.kind != "code" or "slow" in cell.tags:
            continue
        if "stub" in cell.tags:
            stub = cell
        elif "check" in cell.tags:
            solution = next(solutions)
            tried.append(names_defined(solution)[0])
            try_exercise(notebook, stub, cell, solution, wrong.get(tried[-1], []))
        else:
            notebook.run(cell.source)
    assert set(wrong) == set(tried), "wrong answers of an exercise that is not there"


def test_every_file_of_wrong_answers_has_its_lesson() -> None:
    assert {path.name for path in WRONG.glob("*.py")} <= {path.name for path in LESSONS.glob("*.py")}
