"""A course with one tiny assignment, for what does not depend on the real ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

ASSIGNMENTS = Path(__file__).parents[2] / "lessons" / "assignments"
NAME = "01_toy"
SOURCE = '''\
# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   tinynet:
#     allowed: [numpy]
#     refused: []
# ---

# %% [markdown]
# # A toy

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import numpy as np

# %% nbgrader={"grade": false, "grade_id": "double", "locked": false, "schema_version": 3, "solution": true, "task": false}
def double(x):
    """Twice as much."""
    ### BEGIN SOLUTION
    doubled = x + x
    return doubled
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "double-value", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
assert np.all(double(np.ones(3)) == 2), "twice 1 is 2"
### BEGIN HIDDEN TESTS
assert np.all(double(np.full(3, 21)) == 42), "a hidden case: twice 21 is 42"
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "double-shape", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
assert double(np.ones((2, 3))).shape == (2, 3)
'''  # noqa: E501
RIGHT = "def double(x):\n    return 2 * x"
ONLY_VISIBLE = "def double(x):\n    return x * 0 + 2"
WRONG = "def double(x):\n    return x.sum() + 2"


def make_course(folder: Path) -> Path:
    """A course with the toy in it and the real settings."""
    source = folder / "source" / NAME / f"{NAME}.py"
    source.parent.mkdir(parents=True)
    source.write_text(SOURCE)
    shutil.copy(ASSIGNMENTS / "nbgrader_config.py", folder)
    return folder


def notebook(code: str = RIGHT, assignment: str | None = NAME) -> bytes:
    """A handed-in toy as JSON, made without nbgrader."""
    metadata: dict[str, Any] = {"tinynet": {"assignment": assignment}} if assignment else {}
    cell = {"cell_type": "code", "id": "double", "metadata": {}, "source": code, "outputs": [], "execution_count": None}
    return json.dumps({"cells": [cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}).encode()
