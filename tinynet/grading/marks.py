"""Scores on their way back: filled into the CSV file that Canvas or Moodle gave and takes again."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinynet.errors import DataError
from tinynet.utils.atomic import atomic_write

STUDENT_COLUMNS = ("student", "student_id")
# The columns that tell who a row is about: Canvas's number, Moodle's number, then what people call each other.
NUMBERS = ("ID", "Identifier")
NAMES = ("SIS Login ID", "SIS User ID", "ID number", "Username", "Email address", "Student", "Full name")


@dataclass(frozen=True)
class Filled:
    """How many marks were written into which column, and the students whose row was not found."""

    column: str
    count: int
    missing: list[str]


def fill_in(worksheet: Path, scores: Path, out: Path, assignment: str, column: str | None = None) -> Filled:
    """Writes a copy of `worksheet` with the scores of one assignment in it; all other cells stay as they are.

    Args:
        worksheet: Canvas's exported gradebook, or Moodle's grading worksheet.
        scores: `scores.csv` of `tinynet grade`, or what `nbgrader export` wrote.
        column: the worksheet's column; by default the only one that names the assignment, or Moodle's `Grade`.

    Raises DataError where a file has not the columns it needs, OSError.
    """
    marks = _marks(scores, assignment)
    (header, *rows), delimiter = _table(worksheet)
    place = header.index(_column(worksheet, header, assignment, column))
    found = set()
    for row in rows:
        student = _student(header, row, marks)
        if student is not None and len(row) == len(header):
            row[place] = marks[student]
            found.add(student)
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows([header, *rows])
    with atomic_write(out) as file:
        file.write(text.getvalue().encode("utf-8-sig" if _marked(worksheet) else "utf-8"))
    return Filled(header[place], len(found), sorted(marks.keys() - found))


def _marks(scores: Path, assignment: str) -> dict[str, str]:
    """The score of each student, as text."""
    (header, *rows), _ = _table(scores)
    column = next((name for name in STUDENT_COLUMNS if name in header), None)
    if column is None or "score" not in header:
        raise DataError(f"{scores} needs the columns student and score; it has {', '.join(header)}")
    records = [dict(zip(header, row)) for row in rows]
    return {
        record[column]: record["score"]
        for record in records
        if record.get("score") and record.get("assignment", assignment) == assignment
    }


def _table(path: Path) -> tuple[list[list[str]], str]:
    """The rows of a CSV file and what separates its columns."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is no UTF-8 text: export it as CSV in UTF-8") from None
    delimiter = _delimiter(text)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    if len(rows) < 2:
        raise DataError(f"{path} holds no rows")
    return rows, delimiter


def _delimiter(text: str) -> str:
    """Where the decimal mark is a comma, spreadsheets separate by semicolons."""
    first = text.partition("\n")[0]
    return max(",;\t", key=first.count)


def _marked(path: Path) -> bool:
    """Whether a file starts with the byte order mark, by which spreadsheets know UTF-8."""
    with open(path, "rb") as file:
        return file.read(3) == b"\xef\xbb\xbf"


def _column(worksheet: Path, header: Sequence[str], assignment: str, chosen: str | None) -> str:
    if chosen is not None:
        fitting = [name for name in header if name == chosen]
    else:
        fitting = [name for name in header if _letters(assignment) in _letters(name)] or [
            name for name in header if name == "Grade"
        ]
    if len(fitting) != 1:
        wanted = repr(chosen) if chosen is not None else f"one for {assignment}"
        raise DataError(f"{worksheet} has {len(fitting)} columns {wanted}; name it with --column, one of: "
                        + ", ".join(header))  # fmt: skip
    return fitting[0]


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).lower()


def _student(header: Sequence[str], row: Sequence[str], marks: dict[str, str]) -> str | None:
    """The student of a row: whose name ends in the row's number, or who is called the same."""
    record = dict(zip(header, row))
    for column in NUMBERS:
        digits = re.search(r"(\d+)$", record.get(column, "").strip())
        if digits:
            found = [student for student in marks if re.search(rf"(^|_){digits[1]}$", student)]
            if len(found) == 1:
                return found[0]
    for column in NAMES:
        if (name := record.get(column, "").strip()) in marks:
            return name
    return None
