"""A tiny assignment, right and wrong answers to it, and ways to hand them in."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tinynet.grading.sandbox import Protection, SandboxError, protection

SOURCE = '''\
# %% [markdown]
# # A tiny assignment

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "solution": false}
import numpy as np

BIAS = 3.0


def apply_twice(x):
    """Given: calls the student's function, beside it."""
    return scale(scale(x, 2.0), 2.0)


# %% nbgrader={"grade": false, "grade_id": "scale", "locked": false, "solution": true}
def scale(x, factor=2.0):
    """x times factor."""
    ### BEGIN SOLUTION
    return x * factor
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "scale-values", "locked": true, "points": 2, "solution": false}
assert np.array_equal(scale(np.ones(3), 2.0), 2 * np.ones(3)), "ones times 2 are twos"
### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator

rng = fresh_generator()
x = rng.standard_normal((4, 5))
compare(scale(x, BIAS), 3 * x, "scale by 3", wrong={"the factor is added instead of multiplied": x + 3})
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "scale-twice", "locked": true, "points": 1, "solution": false}
### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator

x = fresh_generator().standard_normal(6)
compare(apply_twice(x), 4 * x, "scale by 2, twice")
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "total", "locked": false, "solution": true}
def total(parts):
    """The sum over a dict of arrays, and their number."""
    ### BEGIN SOLUTION
    return sum(float(part.sum()) for part in parts.values()), len(parts)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "total-values", "locked": true, "points": 3, "solution": false}
### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator

parts = {"a": fresh_generator().standard_normal((2, 3)), "b": fresh_generator().standard_normal(4)}
compare(total(parts), (parts["a"].sum() + parts["b"].sum(), 2), "the sum of two arrays")
### END HIDDEN TESTS
'''

RIGHT = {
    "scale": "def scale(x, factor=2.0):\n    return factor * x\n",
    "total": "def total(parts):\n    return sum(p.sum() for p in parts.values()), len(parts)\n",
}
STUB = {
    "scale": "def scale(x, factor=2.0):\n    # YOUR CODE HERE\n    raise NotImplementedError()\n",
    "total": "def total(parts):\n    # YOUR CODE HERE\n    raise NotImplementedError()\n",
}
HIDDEN = re.compile(r"### BEGIN HIDDEN.*### END HIDDEN TESTS", re.DOTALL)
POINTS = {"scale-values": 2.0, "scale-twice": 1.0, "total-values": 3.0}


def contained(level: str | None = None, hidden: Sequence[Path] = ()) -> Protection:
    """The protection of this system; skips the test, with the reason, where the level is not to be had."""
    try:
        return protection(level, hidden)
    except SandboxError as error:
        assert "leak" not in str(error), error  # it is to be had, but does not hold
        pytest.skip(str(error))


def make_assignment(folder: Path, allowed: tuple[str, ...] = (), refused: tuple[str, ...] = ()) -> Path:
    """The assignment `small` in a folder of its own below `folder`; as a notebook if it says what is allowed."""
    place = folder / "small"
    place.mkdir(parents=True)
    if not allowed:
        (place / "small.py").write_text(SOURCE)
        return place
    metadata = {"tinynet": {"allowed": list(allowed), "refused": list(refused)}}
    text = notebook(_cells(SOURCE), metadata)
    (place / "small.ipynb").write_text(text)
    return place


def _cells(source: str) -> list[dict]:
    """All cells of the source as a notebook's."""
    cells = []
    for mark, body in re.findall(r"^# %%([^\n]*)\n(.*?)(?=^# %%|\Z)", source, re.DOTALL | re.MULTILINE):
        found = re.search(r"nbgrader=(\{.*\})", mark)
        metadata = {"nbgrader": json.loads(found[1])} if found else {}
        kind = "markdown" if "[markdown]" in mark else "code"
        cells.append({"cell_type": kind, "metadata": metadata, "source": body.strip("\n"), "outputs": []})
    return cells


def student_cells(answers: dict[str, str]) -> list[dict]:
    """The cells of the student's notebook, with these answers in the solution cells; others are left out."""
    cells = []
    for cell in _cells(SOURCE):
        grading = cell["metadata"].get("nbgrader", {})
        if grading.get("solution"):
            if grading["grade_id"] not in answers:
                continue
            cell["source"] = answers[grading["grade_id"]].strip("\n")
        cell["source"] = HIDDEN.sub("", cell["source"]).strip("\n")
        cells.append(cell)
    return cells


def notebook(cells: list[dict], metadata: dict | None = None) -> str:
    return json.dumps({"cells": cells, "metadata": metadata or {}, "nbformat": 4, "nbformat_minor": 5})


def hand_in(path: Path, answers: dict[str, str] | None = None, **changed: str) -> Path:
    """Writes a submission: the right answers unless others are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(notebook(student_cells({**(RIGHT if answers is None else answers), **changed})))
    return path
