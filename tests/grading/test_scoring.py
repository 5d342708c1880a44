"""What one submission earns, and what it is told: missing, doubled, broken and changed cells, scripts, own cells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.grading import small
from tinynet import kernels
from tinynet.errors import DataError
from tinynet.grading import proxies, scoring
from tinynet.grading.sandbox import Ended, Limits
from tinynet.grading.scoring import Result

LIMITS = Limits(call_seconds=2, seconds=10)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    small.contained()
    return small.make_assignment(tmp_path_factory.mktemp("source"))


@pytest.fixture
def grade(source: Path, tmp_path: Path):
    def run(answers: dict[str, str] | None = None, **changed: str) -> Result:
        return scoring.grade_submission(source, small.hand_in(tmp_path / "a.ipynb", answers, **changed), limits=LIMITS)

    return run


def graded(source: Path, path: Path, text: str) -> Result:
    path.write_text(text)
    return scoring.grade_submission(source, path, limits=LIMITS)


def messages(result: Result) -> dict[str, str]:
    return {test.grade_id: test.message for test in result.tests}


def points(result: Result) -> dict[str, float]:
    return {test.grade_id: test.points for test in result.tests}


def test_right_answers_get_full_marks(grade) -> None:
    result = grade()
    assert points(result) == small.POINTS and result.score == result.max_score == 6
    assert result.problem is None and result.notes == () and set(messages(result).values()) == {""}


def test_stubs_get_nothing(grade) -> None:
    result = grade(small.STUB)
    assert result.score == 0
    assert messages(result)["total-values"] == "not attempted: total raises NotImplementedError"
    assert "not attempted: apply_twice" in messages(result)["scale-twice"]


def test_a_wrong_answer_loses_its_points_with_the_reason(grade) -> None:
    result = grade(scale="def scale(x, factor=2.0):\n    return x + factor if factor == 3 else x * factor\n")
    assert points(result) == {**small.POINTS, "scale-values": 0}
    assert "case: scale by 3" in messages(result)["scale-values"]
    assert messages(result)["scale-values"].endswith("likely cause: the factor is added instead of multiplied")


def test_an_exception_is_shown_with_its_line(grade) -> None:
    result = grade(total="def total(parts):\n    return parts['c']\n")
    text = messages(result)["total-values"]
    assert all(words in text for words in ("raised KeyError: 'c'", "return parts['c']", "in the test: compare(total("))


@pytest.mark.parametrize("code, says", [
    ("def scale(x, factor=2.0)\n    return x", "the cell 'scale' cannot be read: SyntaxError: expected ':' (line 1: "),
    ("def scale(x, factor=2.0):\n    return x\n  y", "IndentationError"),
    ("y = \0", "cannot be read"),
    ("(" * 5000, "cannot be read"),
    ("def other(x):\n    return x", "the cell 'scale' defines no 'scale'"),
    ("def other(x):\n    return scale(x)", "the cell 'scale' defines no 'scale'"),
    ("raise NotImplementedError()", "not attempted: the cell 'scale' raises NotImplementedError"),
    ("1 / 0\ndef scale(x, factor=2.0):\n    return x", "the cell 'scale' raised ZeroDivisionError"),
    ("import torch\ndef scale(x, factor=2.0):\n    return x", "uses torch; this assignment allows numpy"),
    ("def scale(x, factor=2.0):\n    return lambda: 3", "scale returned an object of type function; what comes back"),
    ("def scale(x, factor=2.0):\n    pass", "ones times 2 are twos"),
    ("def scale(x):\n    return 2 * x", "scale raised TypeError"),
    ("def scale(x, factor=2.0):\n    return eval('__import__')('tinynet').kernels", "own answer (tinynet)"),
    ("def scale(x, factor=2.0):\n    exec('import numba')", "scale uses numba; this assignment allows numpy"),
    ("scale = 3", "TypeError: 'int' object is not callable"),
    ("class Odd(Exception):\n    def __str__(self): raise ValueError\ndef scale(x, factor=2.0):\n    raise Odd()",
     "scale raised Odd: (its text cannot be made)"),
])  # fmt: skip
def test_a_broken_cell_costs_its_own_task_only(grade, code: str, says: str) -> None:
    result = grade(scale=code)
    assert points(result) == {"scale-values": 0, "scale-twice": 0, "total-values": 3}
    assert says in messages(result)["scale-values"] + "".join(result.notes)


def test_a_missing_cell(grade) -> None:
    result = grade({"total": small.RIGHT["total"]})
    assert result.score == 3
    assert messages(result)["scale-values"].startswith("the cell 'scale' is missing from the submission")


def test_a_doubled_cell(source: Path, tmp_path: Path) -> None:
    cells = small.student_cells(small.RIGHT)
    again = [cell for cell in cells if cell["metadata"].get("nbgrader", {}).get("grade_id") == "scale"]
    result = graded(source, tmp_path / "same.ipynb", small.notebook(cells + again))
    assert result.score == 6
    other = [{**again[0], "source": "def scale(x, factor): return x"}]
    result = graded(source, tmp_path / "other.ipynb", small.notebook(cells + other))
    assert result.score == 3 and "is in the submission 2 times" in messages(result)["scale-values"]


def test_locked_cells_are_ours(source: Path, tmp_path: Path) -> None:
    cells = small.student_cells({**small.STUB, "scale": "def scale(x, factor=2.0):\n    return x"})
    for cell in cells:
        if cell["metadata"].get("nbgrader", {}).get("locked"):
            cell["source"] = "def compare(*a, **k): pass\ndef apply_twice(x):\n    return 4 * x"
    result = graded(source, tmp_path / "a.ipynb", small.notebook(cells))
    assert result.score == 0
    names = "setup, scale-values, scale-twice, total-values"
    assert result.notes == (f"locked cells were changed, the originals were used: {names}",)


def test_cells_of_the_students_own_run_too(source: Path, tmp_path: Path) -> None:
    scale = "ONE = one()\ndef scale(x, factor=2.0):\n    return my_product(x, factor) * ONE"
    cells = small.student_cells({**small.RIGHT, "scale": scale})
    cells.insert(2, {"cell_type": "code", "metadata": {}, "source": "def one():\n    return 1.0"})
    helper = "def my_product(x, y):\n    return x * y\nprint('tried')"
    other = {"nbgrader": {"grade_id": "other", "solution": True}}
    own = [{"cell_type": "code", "metadata": {}, "source": source} for source in (helper, "scale(1, 2")]
    own.append({"cell_type": "code", "metadata": other, "source": "x"})
    result = graded(source, tmp_path / "a.ipynb", small.notebook(cells + own))
    assert result.score == 6 and result.output == "tried\n"
    assert any("own cell 2 after total-values: cannot be read" in note for note in result.notes)
    assert "left out, as not of this assignment: other" in result.notes


def test_magics_are_left_out(grade) -> None:
    code = "%matplotlib inline\n!pip install x\ndef scale(x, factor=2.0):\n    !ls\n    return (x\n      * factor)\n"
    assert grade(scale=code).score == 6
    modulo = "def scale(x, factor=2.0):\n    y = (7\n      % 5)\n    return factor * x if y == 2 else x\n"
    assert grade(scale=modulo).score == 6


def test_scripts_are_graded_as_notebooks(source: Path, tmp_path: Path) -> None:
    script = small.SOURCE.replace("return x * factor", "return factor * x")
    assert graded(source, tmp_path / "cells.py", script).score == 6
    plain = "import numpy as np\nfrom math import pi\n" + "\n".join(small.RIGHT.values())
    assert graded(source, tmp_path / "plain.py", plain).score == 6
    cheating = plain + "\ndef apply_twice(x):\n    return 4 * x\ndef scale(x, factor=2.0):\n    return x\n"
    assert points(graded(source, tmp_path / "cheating.py", cheating)) == {
        "scale-values": 0, "scale-twice": 0, "total-values": 3,
    }  # fmt: skip


@pytest.mark.parametrize("text, says", [
    ("", "is empty"), ("[]", "is no notebook"), (small.notebook([]), "has no code"),
    (small.notebook([{"cell_type": "code", "source": "x", "metadata": {"nbgrader": {"grade_id": "q"}}}]),
     "none of the cells of small is in it: is it the right assignment?"),
])  # fmt: skip
def test_what_cannot_be_graded_says_why(source: Path, tmp_path: Path, text: str, says: str) -> None:
    result = graded(source, tmp_path / "a.ipynb", text)
    assert says in (result.problem or "") and result.score == 0 and result.max_score == 6
    assert all(says in test.message for test in result.tests)


def test_the_seed_draws_the_same_inputs_again(source: Path, tmp_path: Path) -> None:
    path = small.hand_in(tmp_path / "a.ipynb", scale="def scale(x, factor=2.0):\n    return -x\n")
    first, again, other = (scoring.grade_submission(source, path, limits=LIMITS, seed=seed) for seed in (1, 1, 2))
    assert first == again and messages(first)["scale-twice"] != messages(other)["scale-twice"]
    assert scoring.grade_submission(source, path, limits=LIMITS).seed != scoring.grade_submission(
        source, path, limits=LIMITS).seed  # fmt: skip


def test_time_for_the_whole_submission_is_limited(source: Path, tmp_path: Path) -> None:
    slow = "import time\ndef scale(x, factor=2.0):\n    time.sleep(0.9)\n    return x * factor\n"
    path = small.hand_in(tmp_path / "a.ipynb", scale=slow)
    result = scoring.grade_submission(source, path, limits=Limits(call_seconds=1, seconds=2))
    assert points(result) == {"scale-values": 2, "scale-twice": 0, "total-values": 0}
    assert "no answer when the 2 s for everything were used up" in messages(result)["scale-twice"]
    assert "the 2 s for the whole submission are used up" in messages(result)["total-values"]


def test_assignments_that_are_none(tmp_path: Path) -> None:
    for text, says in (("x = 1", "no test cells"), (small.SOURCE + small.SOURCE, "occurs twice")):
        (tmp_path / "a.py").write_text(text)
        with pytest.raises(DataError, match=says):
            scoring.load(tmp_path / "a.py")


def test_a_proxy_stands_for_the_students_kernel() -> None:
    calls = []

    def relu(name, args, named):
        calls.append((name, len(args), named))
        return np.maximum(args[0], 0)

    sources = ['def relu(x):\n    "Doc."\n    return 1', "class Net: pass\ndef f(a, /, b=2, *c, d, **e): 0"]
    found = proxies.stand_ins(sources, relu)
    assert found["relu"].__doc__ == "Doc." and str(found["f"].__signature__) == "(a, /, b=2, *c, d, **e)"
    with kernels.override(relu=found["relu"]) as used:
        x = np.array([-1.0, 2.0])
        assert kernels.relu(x).tolist() == [0, 2]
    assert used.calls == {"relu": 1} and calls == [("relu", 1, {})]
    with pytest.raises(TypeError, match="the class Net stays in the sandbox"):
        found["Net"]()


def test_a_function_that_hung_is_not_called_again() -> None:
    class Deaf:
        calls, output = 0, ""

        def ask(self, fields, value=None, seconds=None):
            if fields["do"] == "call":
                Deaf.calls += 1
                raise Ended("no answer within 1 s", out_of_time=True)
            return {"problems": {}}, None

        def close(self) -> None:
            pass

    with proxies.Session([], {}, Deaf, LIMITS, {}) as session:
        for words in ("f: no answer within 1 s", r"f: no answer within 1 s \(so it is not called again\)"):
            with pytest.raises(proxies.SubmissionError, match=words):
                session.call("f", (), {})
    assert Deaf.calls == 1


def test_exceptions_keep_their_python_name(grade) -> None:
    error = proxies._raised("f", {"type": "ShapeError", "names": ["ShapeError", "ValueError"], "text": "no"})
    assert isinstance(error, ValueError) and str(error) == "f raised ShapeError: no"
    for strange in (None, [], {"names": 3}, {"names": ["UnicodeDecodeError"]}, {"names": ["exit", "SystemExit"]}):
        assert isinstance(proxies._raised("f", strange), proxies.SubmissionError)


def test_results_are_plain(grade) -> None:
    from tinynet.grading.worker import from_json, to_json

    result = grade(small.STUB)
    assert from_json(json.loads(json.dumps(to_json(result)))) == result


@pytest.mark.parametrize("body, says", [
    ("F.relu(t).numpy() * 0 + x * factor", ""),
    ("F.interpolate(t).numpy()", "the cell 'scale' uses tinynet's own answer (tinynet.nn.functional.interpolate)"),
    ("getattr(F, 'inter' + 'polate')(t)", "scale uses tinynet's own answer (tinynet.nn.functional.interpolate)"),
    ("getattr(tinynet.nn, 'Up' + 'sample')(2)(t).numpy()", "scale uses tinynet's own answer (tinynet.nn.Upsample)"),
    ("tinynet.kernels.relu(x)", "the cell 'scale' uses tinynet's own answer (tinynet.kernels.relu)"),
])  # fmt: skip
def test_allowing_the_library_is_not_allowing_its_answer(source: Path, tmp_path: Path, body: str, says: str) -> None:
    refused = ("tinynet.nn.functional.interpolate", "tinynet.nn.Upsample", "tinynet.kernels")
    task = small.make_assignment(tmp_path, ("numpy", "tinynet"), refused)
    code = "import tinynet\nfrom tinynet.nn import functional as F\ndef scale(x, factor=2.0):\n"
    path = small.hand_in(tmp_path / "a.ipynb", scale=f"{code}    t = tinynet.tensor(x)\n    return {body}\n")
    result = scoring.grade_submission(task, path)
    assert result.score == (3 if says else 6) and says in messages(result)["scale-values"]
