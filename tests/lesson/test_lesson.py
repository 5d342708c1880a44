"""What a lesson's notebook calls: verdicts on answers, predictions, results, pictures outside of a notebook."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import tinynet
from tests.lesson.small import define, make_lessons
from tinynet import plot
from tinynet.errors import DataError
from tinynet.lesson import Lesson, notebooks, relative_error
from tinynet.lesson.lesson import FULL
from tinynet.lesson.notebook_errors import one_line
from tinynet.lesson.notebooks import names_defined
from tinynet.lesson.stubs import unfinished

RULE = """
def check(double):
    assert double(4) == 8, f"double(4) is {double(4)}, should be 8"
"""


@pytest.fixture
def lesson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lesson:
    make_lessons(tmp_path / "lessons", monkeypatch)
    monkeypatch.chdir(tmp_path)
    return Lesson(1)


def verdict(lesson: Lesson, answer: str, capsys: pytest.CaptureFixture[str], rule: str = RULE):
    """What `check` prints and returns for an answer's code, and the notebook's names."""
    scope = define(answer + rule, twice=2)
    result = lesson.check(scope["check"], scope["double"])
    return capsys.readouterr().out, result, scope


def test_a_right_answer_is_kept(lesson: Lesson, capsys: pytest.CaptureFixture[str]) -> None:
    out, result, scope = verdict(lesson, "def double(x):\n    return x + x\n", capsys)
    assert out == "Exercise 1 (double): right.\n" and result is scope["double"]
    lesson.progress()
    assert capsys.readouterr().out == "1 of 2 exercises done, open: 2\n"


def test_a_wrong_answer_gets_the_message_and_the_solution(lesson: Lesson, capsys: pytest.CaptureFixture[str]) -> None:
    out, result, scope = verdict(lesson, "def double(x):\n    return x * x\n", capsys)
    assert out == (
        "Exercise 1 (double): not yet. double(4) is 16, should be 8\n"
        "The cells below use the folded solution until this check passes.\n"
    )
    assert result is not scope["double"] and result(5) == 10
    scope["twice"] = 20  # the solution sees the notebook's names as they are when it runs
    assert result(5) == 100


def test_an_exception_is_told_with_the_line_of_the_notebook(lesson: Lesson, capsys: pytest.CaptureFixture[str]) -> None:
    answer = "import json\ndef double(x):\n    return json.loads('no')\n"
    out, result, _ = verdict(lesson, answer, capsys)
    assert "not yet. It stopped with JSONDecodeError" in out and "(at `return json.loads('no')`)" in out
    assert result(3) == 6
    rule = "def check(double):\n    assert double(1) == 2\n"
    out, *_ = verdict(lesson, "def double(x):\n    return 7\n", capsys, rule)
    assert "This does not hold: assert double(1) == 2" in out


def test_a_stub_is_not_attempted(lesson: Lesson, capsys: pytest.CaptureFixture[str]) -> None:
    out, result, scope = verdict(lesson, "def double(x):\n    return ...\n", capsys)
    assert out.startswith("Exercise 1 (double): not attempted (a ... still") and result(1) == 2
    lesson.check(scope["check"], result)  # the check's cell again, without an answer
    assert "This is the folded solution" in capsys.readouterr().out


def test_several_answers_and_plain_values(lesson: Lesson, capsys: pytest.CaptureFixture[str]) -> None:
    rule = define("def check(low, high):\n    assert low < high, f'{low} is not below {high}'\n")["check"]
    assert lesson.check(rule, ..., ...) == (1, 2) and "not attempted" in capsys.readouterr().out
    assert lesson.check(rule, 5, 4) == (1, 2) and "5 is not below 4" in capsys.readouterr().out
    assert lesson.check(rule, 4, 5) == (4, 5) and "Exercise 2 (low, high): right" in capsys.readouterr().out
    assert lesson.check(rule, 1, 2) == (1, 2) and "right" in capsys.readouterr().out  # as in the solution
    lesson.check(rule, 5, 4)
    capsys.readouterr()
    lesson.progress()
    assert capsys.readouterr().out == "0 of 2 exercises done, open: 1, 2\n"


def test_mistakes_of_the_author(lesson: Lesson) -> None:
    rule = define("def check(other):\n    pass\n")["check"]
    with pytest.raises(LookupError, match="no folded solution that defines other"):
        lesson.check(rule, 3)
    with pytest.raises(TypeError, match="takes other, but 2"):
        lesson.check(rule, 3, 4)
    with pytest.raises(DataError, match="no lesson 9; there are 1"):
        Lesson(9)


@pytest.mark.parametrize("code, stub", [
    ("def f(x):\n    return ...", True),
    ("def f(x):\n    y = ...\n    return y + 1", True),
    ("def f(x):\n    ...", True),
    ("def f(x):\n    return x, ...", True),
    ("f = lambda x: ...", True),
    ("class f:\n    def a(self):\n        return 1\n    @staticmethod\n    def b():\n        return ...", True),
    ("class f:\n    @property\n    def a(self):\n        return ...", True),
    ("f = ...", True),
    ("def f(x):\n    return x[..., 0]", False),
    ("def f(x):\n    x[...] = 1\n    return x", False),
    ("def f(x):\n    return None", False),
    ("f = 3", False),
    ("f = len", False),
])  # fmt: skip
def test_stubs_are_recognised(code: str, stub: bool) -> None:
    assert unfinished(define(code)["f"]) is stub


def test_predictions(lesson: Lesson, capsys: pytest.CaptureFixture[str]) -> None:
    def said(guess, actual) -> str:
        lesson.reveal("it", guess, actual)
        return capsys.readouterr().out.rstrip()

    assert said(..., 12345) == "it: 12,345 (you made no prediction)"
    assert said(10, 10.4) == "it: 10.4, as you predicted" and said(10, 11) == "it: 11; you predicted 10"
    assert said(0, 0) == "it: 0, as you predicted" and said(1e-9, 0) == "it: 0; you predicted 1e-09"
    assert said(-2.0, 2.0) == "it: 2; you predicted -2"
    assert said((2,), tinynet.zeros(2).shape) == "it: (2,), as you predicted"
    assert said([2, 3], (2, 4)) == "it: (2, 4); you predicted [2, 3]"
    assert said("UP ", "up") == "it: up, as you predicted" and said("up", 3) == "it: 3; you predicted up"
    assert said(np.float32(1.5), tinynet.tensor(1.5)) == "it: 1.5, as you predicted"
    assert said(True, False) == "it: False; you predicted True"


def test_relative_error() -> None:
    assert relative_error([1.0, 2.2], [1.0, 2.0]) == pytest.approx(0.1)
    assert relative_error(tinynet.ones(3), np.ones(3)) == 0 and relative_error(0.5, 0.0) == 0.5
    assert relative_error(tinynet.ones(2, requires_grad=True), [1.0, 1.0]) == 0
    assert relative_error([np.nan], [1.0]) == float("inf") and relative_error([], []) == 0
    wrong = {
        "is there a return": None, r"shape \(2,\), expected is \(3,\)": [1, 2], r"shape \(3, 1\)": [[1], [2], [3]],
        "a str, numbers are expected": "text", "result is Ellipsis": ...,
    }  # fmt: skip
    for words, value in wrong.items():
        with pytest.raises(AssertionError, match=words):
            relative_error(value, [1.0, 2.0, 3.0])


def test_results_are_stored_only_in_the_full_setting(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lesson.store({"a": 1})
    assert not lesson.full and lesson.stored() is None
    monkeypatch.setenv(FULL, str(Path("results").resolve()))
    lesson.store({"loss": np.float32(0.5), "curve": tinynet.ones(2)})
    assert lesson.full and "stored in" in capsys.readouterr().out
    stored = lesson.stored()
    assert stored is not None and stored["results"] == {"loss": 0.5, "curve": [1.0, 1.0]}
    assert stored["command"] == "tinynet lessons --reproduce 1" and stored["threads"] >= 1
    with pytest.raises(TypeError, match="JSON cannot hold a type"):
        lesson.store({"what": object})
    assert lesson.stored() == stored


def test_results_that_came_with_the_lesson(lesson: Lesson) -> None:
    folder = notebooks.folder() / "results"
    folder.mkdir()
    (folder / "01_small.json").write_text(json.dumps({"results": 3}))
    assert lesson.stored() == {"results": 3}


def test_pictures_and_prose_outside_of_a_notebook(lesson: Lesson, capsys: pytest.CaptureFixture[str]) -> None:
    lesson.show(plot.lines({"a": ([1, 2], [3, 4])}), "a line that rises")
    lesson.say("**3**")
    assert capsys.readouterr().out == "a line that rises\n**3**\n"


def test_names_defined() -> None:
    code = "a, (b, c) = 1, (2, 3)\nd = e = 4\ndef f():\n    g = 5\nclass H:\n    i = 6\nj.k = 7\nprint(a)"
    assert names_defined(code)[:8] == ("a", "b", "c", "d", "e", "f", "H", "j")


def test_numba_errors_are_one_line() -> None:
    message = "Failed in nopython mode pipeline (step: x)\n\nNo implementation of add\n\nmany\nlines"
    said = one_line(ValueError(message))
    assert said == "Numba could not compile this: No implementation of add (%tb shows the details)"
    assert "ValueError" in one_line(ValueError(""))


def test_a_damaged_notebook(tmp_path: Path) -> None:
    for content in ("no json", "[]", "{}"):
        (tmp_path / "x.ipynb").write_text(content)
        with pytest.raises(DataError, match="is no notebook"):
            notebooks.read(tmp_path / "x.ipynb")


def test_where_no_lessons_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebooks, "CHECKOUT", tmp_path)
    with pytest.raises(DataError, match=f"not installed: neither .*{os.path.basename(tmp_path)}"):
        notebooks.folder()
