"""The sources keep the form that both graders, the students' version and the tests of the tests rely on."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from tests.assignments import sources

each_assignment = pytest.mark.parametrize("name", sources.NAMES)


def test_all_are_there() -> None:
    assert sources.NAMES == [
        "01_tape", "02_convolution", "03_batch_norm", "04_bottleneck", "05_pyramid", "06_detection",
    ]  # fmt: skip


@each_assignment
def test_metadata(name: str) -> None:
    ids = [cell.grading["grade_id"] for cell in sources.cells(name) if cell.grading]
    assert len(ids) == len(set(ids))
    for cell in sources.cells(name):
        if cell.code:
            test, solution = cell.kind == "test", cell.kind == "solution"
            common = {"grade": test, "solution": solution, "locked": not solution, "task": False, "schema_version": 3}
            assert {key: cell.grading.get(key) for key in common} == common, cell.grading
            assert ("points" in cell.grading) == test
        else:
            assert cell.grading == {}


@each_assignment
def test_solutions_and_hidden_tests_are_marked(name: str) -> None:
    for cell in sources.cells(name):
        marked = Counter(found[1] for found in sources.SECRET.finditer(cell.text))
        assert ("SOLUTION" in marked) == (cell.kind == "solution"), cell.grading
        assert ("HIDDEN TESTS" in marked) == (cell.kind == "test"), cell.grading
        if cell.code:
            public = sources.SECRET.sub(lambda found: "", cell.text)
            assert "SOLUTION" not in public and "HIDDEN" not in public
            ast.parse(cell.text)
        if cell.kind == "test":
            assert "assert" in public, f"{cell.grading['grade_id']} has no visible check"


@each_assignment
def test_points(name: str) -> None:
    points = sources.points(name)
    assert sum(points.values()) == 20 and all(score > 0 for score in points.values())
    finale = sum(score for test, score in points.items() if sources.task_of(name, test) is None)
    assert 2 <= finale <= 4
    tested = {sources.task_of(name, test) for test in points} - {None}
    assert tested == set(sources.solutions(name)), "a task without a test"


@each_assignment
def test_every_stub_is_documented(name: str) -> None:
    for grade_id, code in sources.solutions(name).items():
        functions = [node for node in ast.parse(code).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        assert functions, grade_id
        assert all(ast.get_docstring(node) for node in functions), grade_id


@each_assignment
def test_four_wrong_answers_for_every_task(name: str) -> None:
    wrong = sources.wrong_answers(name)
    counts = Counter(answer.solution for answer in wrong)
    assert counts.keys() == sources.solutions(name).keys() and min(counts.values()) >= 4, counts
    assert len({(answer.solution, answer.mistake) for answer in wrong}) == len(wrong)
    for answer in wrong:
        assert answer.loses and set(answer.loses) <= sources.points(name).keys(), answer.mistake
        assert answer.says and ast.parse(answer.code)
        assert answer.code.strip() != sources.solutions(name)[answer.solution].strip()

