"""Assignments and submissions as files: their cells, from .ipynb and from py:percent scripts.

A submission is a stranger's file. It is read as text and never run here, no link is followed, its size is limited.
"""

from __future__ import annotations

import ast
import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tinynet.errors import DataError

LARGEST = 20_000_000  # bytes of a notebook, pictures included
SUFFIXES = (".ipynb", ".py")
PLACES = (Path("lessons/assignments/source"), Path("source"))

_MARK = re.compile(r"^# %%(.*)$")
_KIND_OF_TEXT = re.compile(r"\[(markdown|md|raw)\]")
_HEADER = re.compile(r"\A# ---\n(?:#.*\n)*?# ---\n")
_HIDDEN = re.compile(r"^[ \t]*### BEGIN HIDDEN TESTS.*?^[ \t]*### END HIDDEN TESTS[^\n]*\n?", re.DOTALL | re.MULTILINE)

Kind = Literal["given", "solution", "test", "text"]


@dataclass(frozen=True)
class Cell:
    """One cell. ``kind`` follows nbgrader's metadata; ``points`` are those of a test, else 0."""

    kind: Kind
    grade_id: str | None
    points: float
    source: str


@dataclass(frozen=True)
class Notebook:
    """The cells in order, and the notebook's own metadata."""

    cells: list[Cell]
    metadata: dict[str, Any] = field(default_factory=dict)


def read(path: str | os.PathLike[str]) -> Notebook:
    """The notebook or py:percent script at `path`.

    Raises DataError, with the path and the reason, for what is neither: a link, a folder, an empty or a huge
    file, other text. Raises OSError where the file cannot be opened.
    """
    path = Path(path)
    return parse(content(path), path)


def parse(raw: bytes, path: Path) -> Notebook:
    """The same from the file's bytes; `path` decides by its suffix, and is named in errors. Raises DataError."""
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name} is not text in UTF-8 (byte 0x{raw[error.start]:02x} at position {error.start})"
        ) from None
    if not text.strip():
        raise DataError(f"{path.name} is empty ({len(raw)} bytes)")
    if path.suffix == ".ipynb":
        return _from_json(text, path)
    if path.suffix == ".py":
        return _from_script(text)
    raise DataError(f"{path.name} is neither a notebook (.ipynb) nor a script (.py)")


def content(path: Path) -> bytes:
    """The bytes of a regular file of at most LARGEST bytes. Raises DataError, OSError."""
    if path.is_symlink():
        raise DataError(f"{path.name} is a symbolic link (to {os.readlink(path)}); links are not followed")
    no_surprise = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, os.O_RDONLY | no_surprise), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path.name} is not a regular file")
        if status.st_size > LARGEST:
            raise DataError(
                f"{path.name} has {status.st_size / 1e6:,.0f} MB; a submission may have {LARGEST / 1e6:.0f} MB "
                "(clear the outputs?)"
            )
        return file.read(LARGEST + 1)


def find(assignment: str | os.PathLike[str]) -> Path:
    """The source file of an assignment given by name, folder or file.

    A name is looked for in ./lessons/assignments/source, ./source and beside the package. Raises DataError.
    """
    given = Path(assignment)
    beside = Path(__file__).parents[2] / PLACES[0]
    candidates = [given, *(place / given for place in (*PLACES, beside))]
    for candidate in candidates:
        if candidate.is_file() and candidate.suffix in SUFFIXES:
            return candidate
        for suffix in (".py", ".ipynb"):
            inside = candidate / f"{candidate.resolve().name}{suffix}"
            if inside.is_file():
                return inside
    looked = ", ".join(str(place) for place in (*PLACES, beside))
    raise DataError(f"there is no assignment {str(assignment)!r}: neither a file or folder, nor in {looked}")


def without_hidden_tests(source: str) -> str:
    """A test cell as the student sees it."""
    return _HIDDEN.sub("", source)


def functions(source: str) -> dict[str, ast.FunctionDef]:
    """The functions that trusted code defines at its top level."""
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def _from_json(text: str, path: Path) -> Notebook:
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is no notebook: {error}") from None
    if isinstance(notebook, dict) and isinstance(notebook.get("worksheets"), list):
        raise DataError(f"{path.name} has an old notebook format; open and save it in JupyterLab")
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise DataError(f"{path.name} is no notebook: it has no list of cells")
    cells = [_cell_from_json(number, cell, path) for number, cell in enumerate(notebook["cells"], start=1)]
    metadata = notebook.get("metadata")
    return Notebook(cells, metadata if isinstance(metadata, dict) else {})


def _cell_from_json(number: int, cell: Any, path: Path) -> Cell:
    source = cell.get("source") if isinstance(cell, dict) else None
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        raise DataError(f"{path.name} is no notebook: cell {number} has no source")
    metadata = cell.get("metadata")
    nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    return _cell(source, nbgrader, is_code=cell.get("cell_type") == "code")


def _from_script(text: str) -> Notebook:
    header = _HEADER.match(text)
    metadata = _header_metadata(header.group()) if header else {}
    blocks: list[tuple[str, list[str]]] = [("", [])]
    for line in text[header.end() if header else 0 :].split("\n"):
        mark = _MARK.match(line)
        if mark:
            blocks.append((mark.group(1), []))
        else:
            blocks[-1][1].append(line)
    cells = []
    for title, lines in blocks:
        source = "\n".join(lines).strip("\n")
        is_code = not _KIND_OF_TEXT.search(title.split("nbgrader=")[0])
        if source or "nbgrader=" in title:
            cells.append(_cell(source, _nbgrader_in(title), is_code))
    return Notebook(cells, metadata)


def _header_metadata(header: str) -> dict[str, Any]:
    """The notebook metadata in a script's header; only an assignment's own `tinynet:` entry is of interest."""
    if "tinynet:" not in header:
        return {}
    try:
        import jupytext
    except ImportError:
        raise DataError("to read an assignment's header needs jupytext: pip install jupytext") from None
    return dict(jupytext.reads(header, fmt="py:percent").metadata)


def _nbgrader_in(title: str) -> Any:
    """The object after `nbgrader=` in a cell's mark, if there is one."""
    _, found, rest = title.partition("nbgrader=")
    if not found:
        return None
    try:
        return json.JSONDecoder().raw_decode(rest)[0]
    except (ValueError, RecursionError):
        return None


def _cell(source: str, nbgrader: Any, is_code: bool) -> Cell:
    if not isinstance(nbgrader, dict):
        return Cell("given" if is_code else "text", None, 0.0, source)
    identity = nbgrader.get("grade_id")
    grade_id = identity if isinstance(identity, str) else None
    if not is_code:
        return Cell("text", grade_id, 0.0, source)
    if nbgrader.get("solution") is True:
        return Cell("solution", grade_id, 0.0, source)
    if nbgrader.get("grade") is True:
        points = nbgrader.get("points")
        return Cell("test", grade_id, float(points) if isinstance(points, (int, float)) else 0.0, source)
    return Cell("given", grade_id, 0.0, source)
