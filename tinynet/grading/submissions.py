"""Which files of a folder are whose submission."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from tinynet.errors import DataError
from tinynet.grading.notebooks import SUFFIXES


@dataclass(frozen=True)
class Submission:
    """A student's file, or what is wrong with what was handed in. ``note`` says what was assumed."""

    student: str
    path: Path | None
    problem: str = ""
    note: str = ""

    @property
    def shown(self) -> str:
        """The student's name for people: printable, whatever bytes the file's name has."""
        return printable(self.student)

    @property
    def folder(self) -> str:
        """A harmless name for the folder with this student's feedback."""
        plain = re.sub(r"[^\w.-]", "_", self.shown)[:80].strip(".")
        if plain == self.student:
            return plain
        digest = hashlib.sha256(self.student.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        return f"{plain or 'student'}-{digest}"


def printable(text: str) -> str:
    """One line that does nothing to a terminal."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def collect(place: Path, assignment: str) -> tuple[list[Submission], list[str]]:
    """The submissions in `place`, by student, and the names of files there that are none.

    `place` is one file, or a folder of `<student>.ipynb` or `.py`, of `<student>/<assignment>.ipynb` or `.py`, or
    of nbgrader's `<student>/<assignment>/<assignment>.ipynb` (or the course that has this in `submitted/`).

    Raises DataError where there is nothing, OSError where it cannot be listed.
    """
    if place.is_file():
        return [Submission(place.stem, place)], []
    if not place.is_dir():
        raise DataError(f"{place}: no such file or folder of submissions")
    if (place / "submitted").is_dir():
        place = place / "submitted"
    found: dict[str, Submission] = {}
    others = []
    for entry in sorted(os.scandir(place), key=lambda entry: (os.path.splitext(entry.name)[1] != ".ipynb", entry.name)):
        path = Path(entry.path)
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir(follow_symlinks=False):
            submission = _in_folder(path, assignment)
        elif path.suffix in SUFFIXES:
            submission = Submission(path.stem, path)
        elif entry.is_symlink():
            submission = Submission(entry.name, None, f"{entry.name} is a symbolic link; links are not followed")
        else:
            others.append(entry.name)
            continue
        if submission.student in found:
            others.append(entry.name)
        else:
            found[submission.student] = submission
    if not found:
        raise DataError(f"{place} holds no submissions: neither <student>.ipynb nor <student>/{assignment}.ipynb")
    return sorted(found.values(), key=lambda submission: submission.student), others


def _in_folder(folder: Path, assignment: str) -> Submission:
    """What one student's folder holds for this assignment."""
    student = folder.name
    try:
        for place in (folder / assignment, folder):
            for suffix in SUFFIXES:
                path = place / f"{assignment}{suffix}"
                if not place.is_symlink() and (path.is_symlink() or path.exists()):
                    return Submission(student, path)
        names = sorted(os.listdir(folder))
    except OSError as error:
        return Submission(student, None, f"the folder {student} cannot be read: {error.strerror}")
    code = [name for name in names if name.endswith(SUFFIXES) and not name.startswith(".")]
    if len(code) == 1:
        return Submission(student, folder / code[0], note=f"{code[0]} was graded, as there is no {assignment}.ipynb")
    there = f" (there: {', '.join(names)[:200]})" if names else " (the folder is empty)"
    return Submission(student, None, f"nothing handed in: no {assignment}.ipynb or {assignment}.py{there}")
