"""The assignments of a course as files: the course's folder, their sources, and the version for students.

A source is `source/<name>/<name>.py`, a py:percent script with nbgrader's metadata in its cell headers: the only
place of an assignment. nbgrader makes from it `release/<name>/<name>.ipynb` and the entries of `gradebook.db`,
which `nbgrader autograde` reads the hidden tests from.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tinynet.errors import DataError, TinynetError
from tinynet.utils.atomic import atomic_write
from tinynet.utils.progress import progress

CHECKOUT = Path(__file__).parents[2] / "lessons" / "assignments"
INSTALL = 'install the teach extra, in a clone of tinynet: pip install -e ".[teach]"'
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CONFIG = "nbgrader_config.py"
EXCEPTION = re.compile(r"[\w.]+(Error|Exception): ")  # the last line of a traceback
MARK = re.compile(r"(BEGIN|END) (SOLUTION|HIDDEN)\w*( TEST\w*)?", re.IGNORECASE)


def course_folder(given: str | Path | None = None) -> Path:
    """The folder with `source/`: the given one, this one, `lessons/assignments` below it, or the clone's.

    Raises DataError where there is none: an installed wheel brings no assignments.
    """
    candidates = [Path(given)] if given is not None else [Path(), Path("lessons/assignments"), CHECKOUT]
    for folder in candidates:
        if (folder / "source").is_dir():
            return folder.resolve()
    places = " nor ".join(str(folder.resolve()) for folder in candidates)
    raise DataError(f"no assignments: {'neither ' if len(candidates) > 1 else ''}{places} has a folder source")


def names_in(course: Path, chosen: Sequence[str] = ()) -> list[str]:
    """The names of all assignments with a source, in order, or of those chosen. Raises DataError for an unknown one."""
    found = sorted(path.stem for path in course.glob("source/*/*.py") if path.stem == path.parent.name)
    unknown = [name for name in chosen if name not in found]
    if unknown:
        raise DataError(f"{course / 'source'} has no assignment {', '.join(unknown)}; it has {', '.join(found)}")
    return list(dict.fromkeys(chosen)) or found


def source_path(course: Path, name: str) -> Path:
    """The script that an assignment is made from."""
    return course / "source" / name / f"{name}.py"


def release_path(course: Path, name: str) -> Path:
    """The notebook that students get."""
    return course / "release" / name / f"{name}.ipynb"


def source_notebook(path: Path) -> Any:
    """The notebook (nbformat) of a source, with its solutions, hidden tests and fixed cell ids.

    Raises DataError where the script is no notebook or two cells have one grade_id, TinynetError without jupytext.
    """
    try:
        import jupytext
        import nbformat
    except ImportError:
        raise TinynetError(f"jupytext is missing: {INSTALL}") from None
    try:
        notebook = jupytext.read(path, fmt="py:percent")
    except (ValueError, SyntaxError) as error:
        raise DataError(f"{path} cannot be read as a notebook: {error}") from None
    settings = dict(notebook.metadata.get("tinynet", {}))
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict({**KERNEL, "tinynet": {**settings, "assignment": path.stem}})
    seen = set()
    for index, cell in enumerate(notebook.cells):
        grading = cell.metadata.get("nbgrader")
        if grading and grading["grade_id"] in seen:
            raise DataError(f"{path} has two cells with the grade_id {grading['grade_id']}")
        seen.add(grading["grade_id"] if grading else None)
        cell.metadata = nbformat.from_dict({"nbgrader": grading} if grading else {})
        cell.id = grading["grade_id"] if grading else f"c{index:02}"
    nbformat.validate(notebook)
    return notebook


def generate(course: Path, names: Sequence[str]) -> dict[str, bool]:
    """Makes the students' version of the named assignments and enters them in the course's gradebook.

    Returns for each name whether `release/<name>/<name>.ipynb` changed: the same source gives the same bytes.
    Raises TinynetError with nbgrader's complaint (such as: submissions of changed cells are in the gradebook).
    """
    changed = {}
    with tempfile.TemporaryDirectory(prefix="tinynet-generate-") as folder, programs_found():
        for name in progress(names, desc="generate"):
            released = _generated(Path(folder), course, name)
            target = release_path(course, name)
            changed[name] = not target.exists() or target.read_bytes() != released
            if changed[name]:
                target.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(target) as file:
                    file.write(released)
    return changed


def _generated(folder: Path, course: Path, name: str) -> bytes:
    """What nbgrader makes of one source, below a temporary folder, as the bytes of a notebook."""
    import nbformat

    path = folder / "source" / name / f"{name}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(source_notebook(source_path(course, name)), path)
    api = nbgrader_api(course, folder)
    answer = api.generate_assignment(name, force=True, create=True)
    if not answer["success"]:
        raise TinynetError(f"nbgrader cannot make {name}: {complaint(answer)}")
    notebook = nbformat.read(folder / "release" / name / f"{name}.ipynb", as_version=4)
    text = nbformat.writes(notebook) + "\n"
    if left := MARK.search(text):
        raise TinynetError(f"{name}: '{left[0]}' is left in the students' version; nbgrader knows it spelled otherwise")
    shutil.rmtree(folder / "release")
    return text.encode()


def nbgrader_api(course: Path, folder: Path) -> Any:
    """nbgrader's API with the settings and the gradebook of a course, for the folders of its steps below `folder`."""
    try:
        from nbgrader.apps import NbGraderAPI
        from traitlets.config import Config, PyFileConfigLoader
    except ImportError:
        raise TinynetError(f"nbgrader is missing: {INSTALL}") from None
    config = Config()
    if (course / CONFIG).exists():
        config.merge(PyFileConfigLoader(CONFIG, path=str(course)).load_config())
    config.CourseDirectory.root = str(folder.resolve())
    config.CourseDirectory.db_url = f"sqlite:///{(course / 'gradebook.db').resolve()}"
    return NbGraderAPI(config=config)


@contextlib.contextmanager
def programs_found() -> Iterator[None]:
    """Lets nbgrader find alembic, which it starts by name, also where the environment is not activated."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def complaint(answer: dict[str, Any]) -> str:
    """What nbgrader's API said of a failure, in one line: the exceptions of its log, else its errors."""
    lines = [line.strip() for line in (answer.get("log") or "").splitlines()]
    errors = [line.removeprefix("[ERROR] ") for line in lines if line.startswith("[ERROR]")]
    raised = [line for line in lines if EXCEPTION.match(line)]
    last = (answer.get("error") or "").strip().splitlines()[-1:]
    return "; ".join(dict.fromkeys(raised or errors or last)) or "it gave no reason"
