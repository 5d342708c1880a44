"""Whether a notebook's visible checks pass, before it is handed in. Needs what the lessons extra brings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinynet.errors import DataError, TinynetError

INSTALL = 'install the lessons extra, in a clone of tinynet: pip install -e ".[lessons]"'
CELL_SECONDS = 120
PASSES, FAILS, OPEN = "passes", "fails", "not attempted"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Check:
    """One test cell: its points, how its visible part came out, and what it said."""

    grade_id: str
    points: float
    outcome: str
    message: str


def validate(path: Path) -> list[Check]:
    """Runs all cells of a notebook in a fresh kernel, in the notebook's folder, and reports on its test cells.

    A script (a source, which needs the teach extra) is run with its hidden tests. Raises DataError for a file
    that is no notebook or has no test cells, TinynetError without Jupyter.
    """
    notebook = _executed(_notebook(path), path.resolve().parent)
    checks = []
    broken: list[str] = []  # solution cells that did not even run: what the tests below them miss
    for cell in notebook.cells:
        grading = cell.metadata.get("nbgrader", {})
        if cell.cell_type != "code" or not grading.get("grade_id"):
            continue
        outcome, message = _outcome(cell)
        if grading.get("grade"):
            if outcome == FAILS and message.startswith("NameError") and broken:
                message = f"{message}; {broken[-1]}"
            checks.append(Check(grading["grade_id"], float(grading.get("points", 0)), outcome, message))
        elif outcome == FAILS:
            broken.append(f"the cell {grading['grade_id']} stopped with {message}")
    if not checks:
        raise DataError(f"{path} is no assignment: none of its cells is a test of nbgrader's")
    return checks


def _notebook(path: Path) -> Any:
    if path.suffix == ".py":
        from tinynet.grading.assignments import source_notebook

        return source_notebook(path)
    try:
        import nbformat
    except ImportError:
        raise TinynetError(f"Jupyter is missing: {INSTALL}") from None
    try:
        return nbformat.read(path, as_version=4)
    except (ValueError, nbformat.ValidationError) as error:
        raise DataError(f"{path} is no notebook: {str(error).splitlines()[0]}") from None


def _executed(notebook: Any, folder: Path) -> Any:
    """The same notebook with the outputs of a run from top to bottom; errors do not stop it."""
    try:
        from nbclient import NotebookClient
        from nbclient.exceptions import DeadKernelError
    except ImportError:
        raise TinynetError(f"Jupyter is missing: {INSTALL}") from None
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook, kernel_name="python3", allow_errors=True, timeout=CELL_SECONDS, interrupt_on_timeout=True,
        record_timing=False, resources={"metadata": {"path": str(folder)}},
    )  # fmt: skip
    try:
        client.execute()
    except DeadKernelError:
        raise TinynetError("the notebook ended its own kernel (a crash, or too little memory): nothing was checked"
                           ) from None  # fmt: skip
    return notebook


def _outcome(cell: Any) -> tuple[str, str]:
    """How a cell ended, and its error as one text: the type, the message and, for a bare assert, the line."""
    errors = [output for output in cell.outputs if output.output_type == "error"]
    if not errors:
        return PASSES, ""
    error = errors[-1]
    if error.ename == "NotImplementedError":
        return OPEN, ""
    if error.ename == "KeyboardInterrupt":
        return FAILS, f"it ran longer than {CELL_SECONDS} s"
    message = COLOURS.sub("", error.evalue)
    if error.ename == "AssertionError":
        return FAILS, message or f"this does not hold: {_line(error)}"
    return FAILS, f"{error.ename}: {message}"


def _line(error: Any) -> str:
    """The line that a traceback points at."""
    text = COLOURS.sub("", "\n".join(error.traceback))
    pointed = re.findall(r"^-+> *\d+ (.*)$", text, flags=re.MULTILINE)
    return pointed[-1].strip() if pointed else "an assert"
