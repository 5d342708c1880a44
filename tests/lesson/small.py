"""A folder with one small lesson in it, for tests of the helpers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tinynet.lesson import notebooks
from tinynet.lesson.folder import run_cell

SOLUTION = """<details><summary>Solution</summary>

```python
def double(x):
    return twice * x
```

</details>"""
PAIR = SOLUTION.replace("def double(x):\n    return twice * x", "low, high = 1, 2")
CELLS = [
    ("markdown", ["goal"], "# Lesson 1: a small one"),
    ("code", [], "from tinynet.lesson import Lesson\nlesson = Lesson(1)\ntwice = 2"),
    ("code", ["stub"], "def double(x):\n    return ..."),
    ("code", [], "lesson.store({'full': lesson.full})\nprint(lesson.stored())"),
    ("markdown", ["solution"], SOLUTION),
    ("markdown", ["solution"], PAIR),
]


def make_lessons(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Writes the lesson, and lets the package find it there as in a clone."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = [
        {"cell_type": kind, "metadata": {"tags": tags}, "source": source.splitlines(keepends=True), "id": f"c{index}"}
        | ({"outputs": [{"output_type": "stream"}], "execution_count": 3} if kind == "code" else {})
        for index, (kind, tags, source) in enumerate(CELLS)
    ]
    (folder / "01_small.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))
    (folder / "README.md").write_text("# The lessons\n")
    monkeypatch.setattr(notebooks, "CHECKOUT", folder)
    return folder


def define(code: str, **names):
    """What code defines, as if it stood in a notebook's cell."""
    scope = dict(names)
    run_cell(code, scope, f"<cell of {hash(code)}>")
    return scope
