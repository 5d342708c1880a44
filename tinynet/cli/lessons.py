"""`tinynet lessons`: a folder of the learner's own, JupyterLab in it, and the full setting of the heavy lessons."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

from tinynet.errors import TinynetError
from tinynet.lesson import folder as lessons_folder
from tinynet.lesson import notebooks

FOLDER = "tinynet-lessons"
INSTALL = 'install the lessons extra, in a clone of tinynet: pip install -e ".[lessons]"'


def run(options: argparse.Namespace) -> int:
    """Copies the lessons and opens them, or runs one in its full setting. Raises what went wrong."""
    if options.reproduce is not None:
        return _reproduce(options)
    folder = Path(options.to or FOLDER)
    if folder.exists() and folder.resolve() == notebooks.folder().resolve():
        print(f"{folder} holds the lessons themselves: nothing to copy")
    else:
        _report(folder, *lessons_folder.copy_to(folder))
    return 0 if options.no_open else _open(folder)


def _report(folder: Path, written: list[Path], kept: list[Path]) -> None:
    if written:
        print(f"copied to {folder}: {', '.join(path.name for path in written)}")
    if kept:
        print(f"kept as they are: {', '.join(path.name for path in kept)} (delete one to get it anew)")


def _open(folder: Path) -> int:
    if importlib.util.find_spec("jupyterlab") is None:
        raise TinynetError(f"JupyterLab is missing: {INSTALL}; the notebooks are in {folder}")
    print("opening JupyterLab; Ctrl-C here ends it", flush=True)
    return subprocess.call([sys.executable, "-m", "jupyterlab", str(folder)])


def _reproduce(options: argparse.Namespace) -> int:
    path = notebooks.path_of(options.reproduce)
    print(f"{path.name} in its full setting", flush=True)
    started = time.perf_counter()
    stored = lessons_folder.reproduce(options.reproduce, lessons_folder.results_folder(options.to))
    seconds = f"{time.perf_counter() - started:.0f} s"
    print(f"{stored}  the results, after {seconds}" if stored else f"ran in {seconds}; this lesson stores no results")
    return 0
