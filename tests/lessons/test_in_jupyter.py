"""In a real kernel: errors of Numba are one line, cells that run often cost no memory, pictures carry their text."""

from __future__ import annotations

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from tests.lessons.build import LESSONS, scripts, synced

BEGIN = "import tinynet\nfrom tinynet import plot\nfrom tinynet.lesson import Lesson\nlesson = Lesson(1)"
AGAIN = 50
MEGABYTES = "import resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"


def run(*sources: str) -> list[nbformat.NotebookNode]:
    """The outputs of each cell, run in a fresh kernel."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True,
                            resources={"metadata": {"path": str(LESSONS)}})  # fmt: skip
    client.execute()
    assert not notebook.cells[0].outputs, notebook.cells[0].outputs
    return [cell.outputs for cell in notebook.cells]


def test_a_failure_inside_numba_is_one_line_with_the_rest_on_request() -> None:
    broken = "import numba\n@numba.njit\ndef f(x):\n    return x + 'text'\nf(1.0)"
    outputs = run(BEGIN, broken, "%tb", "1 / 0")
    (error,) = outputs[1]
    assert error.output_type == "error" and len(error.traceback) == 1 and "\n" not in error.traceback[0]
    assert error.traceback[0].startswith("Numba could not compile this: ") and "%tb" in error.traceback[0]
    details = "".join(output.get("text", "") + "".join(output.get("traceback", ())) for output in outputs[2])
    assert "TypingError" in details and details.count("\n") > 10
    assert outputs[3][0].ename == "ZeroDivisionError" and len(outputs[3][0].traceback) > 1


def test_a_picture_has_its_text() -> None:
    (picture,) = run(BEGIN, "lesson.show(plot.lines({'a': ([1, 2], [3, 4])}), 'rises')")[1]
    assert picture.output_type == "display_data" and picture.data["text/plain"] == "rises"
    assert picture.metadata["image/png"]["alt"] == "rises"


def test_cells_that_run_fifty_times_cost_no_memory() -> None:
    cells = [cell.source for cell in synced(scripts([1])[0]).cells if cell.cell_type == "code"]
    pictures = [source for source in cells if "lesson.show(" in source]
    again = [*(source for source in cells if "lesson.check(" in source), pictures[0]]
    assert len(again) >= 4
    stubs = [source for source in cells if source.startswith(("class Value", "def sweep"))]
    loop = "for _ in range({}):\n    for source in SOURCES:\n        get_ipython().run_cell(source)"
    begun = [BEGIN, *cells, f"SOURCES = {stubs + again!r}", loop.format(5), MEGABYTES]
    outputs = run(*begun, loop.format(AGAIN), MEGABYTES)
    before, after = int(outputs[-3][0].text), int(outputs[-1][0].text)
    assert after - before < 40, f"{before} MB after 5 times, {after} MB after {AGAIN} more"
