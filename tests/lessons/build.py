"""Makes the notebooks from their scripts: python tests/lessons/build.py [--sync | --check] [lesson numbers]

The script `lessons/NN_name.py` is the source. A notebook is what jupytext reads from it, with fixed cell ids,
executed in a fresh kernel; so building again gives the same file as far as the outputs are the same.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from tinynet.utils.atomic import atomic_write

LESSONS = Path(__file__).parents[2] / "lessons"
SETTINGS = {"TINYNET_PROGRESS": "0", "TINYNET_QUIET": "1", "MPLBACKEND": "Agg"}
METADATA = {
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_SECONDS = 600


def scripts(numbers: list[int] | None = None) -> list[Path]:
    """The scripts of all lessons, or of some."""
    found = sorted(LESSONS.glob("[0-9][0-9]_*.py"))
    missing = set(numbers or ()) - {int(path.name[:2]) for path in found}
    if missing:
        raise SystemExit(f"there is no script of lesson {', '.join(map(str, sorted(missing)))}")
    return [path for path in found if not numbers or int(path.name[:2]) in numbers]


def synced(script: Path) -> NotebookNode:
    """The notebook of a script, without outputs."""
    notebook = jupytext.read(script, fmt="py:percent")
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(METADATA)
    for index, cell in enumerate(notebook.cells):
        cell.id = f"l{script.name[:2]}-c{index:02}"
        cell.metadata = nbformat.from_dict({"tags": tags} if (tags := cell.metadata.get("tags")) else {})
    return notebook


def execute(notebook: NotebookNode) -> tuple[float, float]:
    """Runs all cells in a fresh kernel. Returns seconds, and the kernel's peak memory in MB (Linux, else NaN)."""
    os.environ.update(SETTINGS)
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", record_timing=False, coalesce_streams=True,
        resources={"metadata": {"path": str(LESSONS)}},
    )  # fmt: skip
    started = time.perf_counter()
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
        peak = _peak_megabytes(client.km.provisioner.pid)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    return time.perf_counter() - started, peak


def _peak_megabytes(process: int) -> float:
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return float("nan")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def write(notebook: NotebookNode, path: Path) -> None:
    """Stores a valid notebook, all or nothing."""
    nbformat.validate(notebook)
    with atomic_write(path) as file:
        file.write(f"{nbformat.writes(notebook)}\n".encode())


def texts(notebook: NotebookNode) -> dict[str, str]:
    """What each code cell printed, by its id; without the cells tagged `varies`."""
    return {
        cell.id: "".join(_text(output) for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code" and "varies" not in cell.metadata.get("tags", ())
    }


def _text(output: NotebookNode) -> str:
    return output.text if output.output_type == "stream" else output.get("data", {}).get("text/plain", "")


def check(script: Path) -> list[str]:
    """Runs a copy of the lesson; the cells that print something else than what is stored, in words."""
    stored = texts(nbformat.read(script.with_suffix(".ipynb"), as_version=4))
    notebook = synced(script)
    execute(notebook)
    return [
        f"{script.stem}, cell {name}: stored {stored.get(name)!r}, now {text!r}"
        for name, text in texts(notebook).items()
        if stored.get(name) != text
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", nargs="*", type=int, metavar="N", help="lessons (default: all)")
    parser.add_argument("--sync", action="store_true", help="take over the sources only; the outputs are dropped")
    parser.add_argument("--check", action="store_true", help="run and compare every printed number with the stored")
    options = parser.parse_args()
    different = []
    for script in scripts(options.numbers):
        if options.check:
            different += check(script)
            continue
        notebook, path = synced(script), script.with_suffix(".ipynb")
        write(notebook, path)  # first without outputs: the lesson reads its own solutions from there
        if not options.sync:
            seconds, peak = execute(notebook)
            write(notebook, path)
            print(f"{path.name}: {seconds:.0f} s, {peak:.0f} MB, {path.stat().st_size / 1e3:.0f} kB", flush=True)
    print("\n".join(different), end="\n" * bool(different))
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
