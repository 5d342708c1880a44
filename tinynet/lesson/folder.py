"""The learner's own folder of notebooks, and running a lesson outside of Jupyter."""

from __future__ import annotations

import json
import linecache
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinynet.lesson import notebooks
from tinynet.lesson.lesson import FULL
from tinynet.utils.atomic import atomic_write

GUIDE = "README.md"


def copy_to(folder: Path) -> tuple[list[Path], list[Path]]:
    """Copies notebooks, without outputs, and their guide; files that exist are left alone.

    The outputs would give the predictions away. Returns the files written and those kept. Raises DataError, OSError.
    """
    source = notebooks.folder()
    written, kept = [], []
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*notebooks.paths(), *source.glob(GUIDE)]:
        target = folder / path.name
        if os.path.lexists(target):
            kept.append(target)
            continue
        content = path.read_bytes() if path.name == GUIDE else _without_outputs(path)
        with atomic_write(target) as file:
            file.write(content)
        written.append(target)
    return written, kept


def _without_outputs(path: Path) -> bytes:
    notebook = notebooks.read(path)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode()


def results_folder(to: str | None) -> Path:
    """Where a full run stores its results: below `to`, else next to the lesson in a clone, else below here."""
    if to is not None:
        return Path(to) / "results"
    source = notebooks.folder()
    return (source if source == notebooks.CHECKOUT else Path()) / "results"


def reproduce(number: int, results: Path) -> Path | None:
    """Runs a lesson in its full setting, in this process. Returns the file of its results, None if it has none."""
    path = notebooks.path_of(number)
    stored = results.resolve() / f"{path.stem}.json"
    before = _changed(stored)
    scope: dict[str, Any] = {"__name__": path.stem}
    with _environment(FULL, str(stored.parent)):
        for index, cell in enumerate(notebooks.cells(notebooks.read(path))):
            if cell.kind == "code":
                run_cell(cell.source, scope, f"<{path.stem}, cell {index}>")
    return stored if _changed(stored) != before else None


def run_cell(source: str, scope: dict[str, Any], name: str) -> None:
    """Runs a code cell as a kernel would, without showing its last value. Its source stays readable under `name`."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), scope)


def _changed(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
