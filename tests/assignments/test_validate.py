"""A student learns from `tinynet assignment validate` what a teacher's visible checks say, with Jupyter alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.assignments.toy import NAME, ONLY_VISIBLE, RIGHT, WRONG, make_course
from tinynet.cli import main
from tinynet.grading.validating import validate

pytest.importorskip("nbclient", reason="needs the lessons extra")
STUB = "def double(x):\n    # YOUR CODE HERE\n    raise NotImplementedError()"


def cell(grade_id: str, source: str, **grading: object) -> dict:
    metadata = {"nbgrader": {"grade_id": grade_id, "schema_version": 3, "task": False, **grading}}
    return {"cell_type": "code", "id": grade_id, "metadata": metadata, "source": source, "outputs": [],
            "execution_count": None}  # fmt: skip


def handed(folder: Path, answer: str) -> Path:
    """The toy's students' version with an answer in it."""
    test = {"grade": True, "solution": False, "locked": True}
    cells = [
        cell("setup", "import numpy as np", grade=False, solution=False, locked=True),
        cell("double", answer, grade=False, solution=True, locked=False),
        cell("double-value", 'assert np.all(double(np.ones(3)) == 2), "twice 1 is 2"', points=2, **test),
        cell("double-shape", "assert double(np.ones((2, 3))).shape == (2, 3)", points=1, **test),
    ]
    path = folder / "answer.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (RIGHT, ["passes", "passes"]),
        (ONLY_VISIBLE, ["passes", "passes"]),
        (STUB, ["not attempted", "not attempted"]),
        (WRONG, ["fails: twice 1 is 2", "fails: this does not hold: assert double(np.ones((2, 3))).shape == (2, 3)"]),
        ("def double(x) return x", ["the cell double stopped with SyntaxError", "the cell double stopped with"]),
        ("def double(x):\n    return y", ["fails: NameError: name 'y' is not defined", "fails: NameError"]),
        ("import os; os._exit(0)", ["the notebook ended its own kernel"]),
    ],
)
def test_what_a_student_sees(
    answer: str, said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = handed(tmp_path, answer)
    before = path.read_bytes()
    code = main(["assignment", "validate", str(path)])
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert all(words in text for words in said), text
    assert code == (0 if said == ["passes", "passes"] else 1)
    if code == 0:
        assert "2 of 2 visible checks pass" in text
    assert path.read_bytes() == before


def test_an_endless_loop_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinynet.grading.validating.CELL_SECONDS", 2)
    checks = validate(handed(tmp_path, "def double(x):\n    while True: pass"))
    assert [check.outcome for check in checks] == ["fails", "fails"]
    assert checks[0].message == "it ran longer than 2 s"


def test_a_source_runs_with_its_hidden_tests(tmp_path: Path) -> None:
    pytest.importorskip("jupytext", reason="needs the teach extra")
    source = make_course(tmp_path) / "source" / NAME / f"{NAME}.py"
    assert [check.outcome for check in validate(source)] == ["passes", "passes"]
    source.write_text(source.read_text().replace("doubled = x + x", "doubled = x * 0 + 2"))
    value, shape = validate(source)
    assert value.message == "a hidden case: twice 21 is 42" and shape.outcome == "passes"


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.ipynb").write_text("no notebook")
    lesson = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "lesson.ipynb").write_text(json.dumps(lesson))
    for name, words in (("text.ipynb", "text.ipynb is no notebook"), ("none.ipynb", "none.ipynb: No such file"),
                        ("lesson.ipynb", "is no assignment: none of its cells")):  # fmt: skip
        assert main(["assignment", "validate", str(tmp_path / name)]) == 1
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
