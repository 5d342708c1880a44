"""What students handed in, as Canvas, Moodle or a plain folder has it, put where nbgrader looks for it."""

from __future__ import annotations

import json
import re
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from tinynet.errors import DataError
from tinynet.utils.atomic import atomic_write

LARGEST = 50 * 2**20  # bytes of a notebook; one with pictures has a few millions
LONGEST = 100  # characters of a student's name
NOTEBOOKS = (".ipynb", ".py")
# Moodle: `Jane Doe_12345_assignsubmission_file_/work.ipynb`, or all of it in the file's name.
MOODLE = re.compile(r"(?P<student>.+_\d+)_assignsubmission_(?P<kind>[a-z]+)_?(?P<rest>.*)")
# Canvas: `doejane_LATE_12345_678901_work-2.ipynb`: name, lateness, the user's number, the submission's, the file.
CANVAS = re.compile(r"(?P<name>[^_]+)(?:_LATE)?_(?P<user>\d+)_(?P<submission>\d+)_(?P<rest>.+)")
RESUBMITTED = re.compile(r"-(\d+)$")


@dataclass(frozen=True)
class Handed:
    """One file of one student, not yet read."""

    student: str
    name: str
    origin: str
    read: Callable[[], bytes]


@dataclass
class Collection:
    """What came of a download: students whose work is new, changed or as before, and what could not be used."""

    written: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def collect(download: Path, course: Path, assignment: str) -> Collection:
    """Copies each student's notebook to `submitted/<student>/<assignment>/<assignment>.ipynb` of the course.

    Args:
        download: a zip or a folder, from Canvas, from Moodle, or with one folder or file for each student.

    A student's identifier is the name in the download with Canvas's or Moodle's number (`doejane_12345`), so that
    marks find the way back. Of several notebooks of a student the one made for this assignment counts, the latest
    resubmission first. Nothing is unpacked but those notebooks. Raises DataError, OSError.
    """
    collection = Collection()
    for student, files in sorted(_by_student(_files(download), assignment).items()):
        try:
            path, content = _chosen(student, files, assignment)
        except DataError as error:
            collection.problems.append(str(error))
            continue
        target = course / "submitted" / student / assignment / f"{assignment}{path.suffix}"
        if target.exists() and target.read_bytes() == content:
            collection.unchanged.append(student)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        for former in set(NOTEBOOKS) - {path.suffix}:
            target.with_suffix(former).unlink(missing_ok=True)
        with atomic_write(target) as file:
            file.write(content)
        collection.written.append(student)
    if not (collection.written or collection.unchanged or collection.problems):
        raise DataError(f"{download}: nothing was handed in, there is no file in it")
    return collection


def _files(download: Path) -> Iterator[tuple[PurePosixPath, Callable[[], bytes]]]:
    """The path of every file within the download, with a function that reads it."""
    if download.is_dir():
        for path in sorted(download.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield PurePosixPath(path.relative_to(download).as_posix()), partial(_read, path)
        return
    if not zipfile.is_zipfile(download):
        raise DataError(f"{download} is neither a folder nor a zip")
    with zipfile.ZipFile(download) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
    for member in members:
        yield PurePosixPath(member.filename), partial(_read_member, download, member)


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:
        return _limited(file.read(LARGEST + 1), str(path))


def _read_member(archive: Path, member: zipfile.ZipInfo) -> bytes:
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as file:
            return _limited(file.read(LARGEST + 1), member.filename)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise DataError(f"{member.filename} cannot be unpacked: {error}") from None


def _limited(content: bytes, name: str) -> bytes:
    if len(content) > LARGEST:
        raise DataError(f"{name} is larger than {LARGEST // 2**20} MB")
    return content


def _by_student(
    files: Iterator[tuple[PurePosixPath, Callable[[], bytes]]], assignment: str
) -> dict[str, list[Handed]]:
    kept = [(path, read) for path, read in files if not _clutter(path)]
    folders = [_folders(path, assignment) for path, _ in kept if not _managed(path)]
    shared = len(_common(folders))
    students: dict[str, list[Handed]] = {}
    for path, read in kept:
        owner, name = _managed(path) or _plain(path, shared, assignment)
        if name:
            student = _identifier(owner)
            students.setdefault(student, []).append(Handed(student, name, str(path), read))
    return students


def _clutter(path: PurePosixPath) -> bool:
    """What computers put into folders without being asked."""
    return any(part.startswith((".", "__MACOSX")) or part == "__pycache__" for part in path.parts)


def _managed(path: PurePosixPath) -> tuple[str, str] | None:
    """Owner and file name as Moodle or Canvas wrote them; an empty file name for what is no file of the student's."""
    for part in path.parts:
        if found := MOODLE.fullmatch(part):
            name = path.name if part != path.name else found["rest"]
            return found["student"], name if found["kind"] == "file" else ""
    if found := CANVAS.fullmatch(path.name):
        return f"{found['name']}_{found['user']}", found["rest"]
    return None


def _plain(path: PurePosixPath, shared: int, assignment: str) -> tuple[str, str]:
    """Owner and file name where each student has a folder, or a file that bears the student's name."""
    folders = _folders(path, assignment)
    if folders:
        return folders[min(shared, len(folders) - 1)], path.name
    owner = path.stem.removeprefix(assignment).removesuffix(assignment).strip("_- ")
    return owner or path.stem, path.name


def _folders(path: PurePosixPath, assignment: str) -> tuple[str, ...]:
    """The folders above a file, without the assignment's own (nbgrader's layout has one in each student's)."""
    folders = path.parent.parts
    return folders[:-1] if folders[-1:] == (assignment,) else folders


def _common(folders: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The folders that all files share, such as one around the whole download."""
    common = []
    for level in zip(*folders):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return tuple(common)


def _identifier(owner: str) -> str:
    """A name for a folder and for a column of a CSV file: letters of any script, digits, `_`, `-` and `.`."""
    text = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", owner)).strip("._-")
    if len(text) > LONGEST:
        text = text[-LONGEST:].strip("._-")  # the number is at the end
    return text or "unnamed"


def _chosen(student: str, files: list[Handed], assignment: str) -> tuple[PurePosixPath, bytes]:
    """The path and content of the notebook that counts."""
    notebooks = [file for file in files if PurePosixPath(file.name).suffix.lower() in NOTEBOOKS]
    if not notebooks:
        names = ", ".join(sorted(file.name for file in files))
        raise DataError(f"{student} handed in no notebook, only {names}")
    read = [(file, file.read()) for file in notebooks]
    made_for = {file.origin: _made_for(content) for file, content in read}
    fitting = [(file, content) for file, content in read if made_for[file.origin] in (assignment, None)]
    if not fitting:
        others = ", ".join(sorted(f"{file.name} (made for {made_for[file.origin]})" for file in notebooks))
        raise DataError(f"{student} handed in no {assignment}, only {others}")
    file, content = max(fitting, key=lambda pair: _rank(pair[0], made_for[pair[0].origin], assignment))
    return PurePosixPath(file.name.lower()), content


def _rank(file: Handed, made_for: str | None, assignment: str) -> tuple[bool, bool, bool, int, str]:
    path = PurePosixPath(file.name)
    again = RESUBMITTED.search(path.stem)
    named = path.stem.startswith(assignment)
    return made_for == assignment, path.suffix == ".ipynb", named, int(again[1]) if again else 0, file.origin


def _made_for(content: bytes) -> str | None:
    """The assignment that a notebook's metadata names; None where it names none, or the file is damaged."""
    try:
        name = json.loads(content)["metadata"]["tinynet"]["assignment"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return name if isinstance(name, str) else None
