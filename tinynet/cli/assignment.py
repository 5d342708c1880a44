"""`tinynet assignment`: the students' version of an assignment, handing it out, checking it, collecting it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from tinynet.errors import DataError
from tinynet.grading import assignments, collecting, handing_out, marks, validating
from tinynet.utils.progress import progress


def run_generate(options: argparse.Namespace) -> int:
    """Makes the students' version and the gradebook's entries."""
    course = assignments.course_folder(options.course)
    for name, changed in assignments.generate(course, assignments.names_in(course, options.names)).items():
        print(f"{assignments.release_path(course, name)}  {'written' if changed else 'as before'}")
    return 0


def run_validate(options: argparse.Namespace) -> int:
    """Prints for every test cell whether its visible part passes. Returns 1 unless all of them do."""
    failed = False
    bar = progress(options.files, desc="validate", leave=False)
    for file in bar:
        checks = validating.validate(Path(file))
        width = max(len(check.grade_id) for check in checks)
        passed = [check for check in checks if check.outcome == validating.PASSES]
        bar.write(file)
        for check in checks:
            bar.write(f"  {check.grade_id:{width}}  {_said(check)}")
        bar.write(f"{len(passed)} of {len(checks)} visible checks pass; grading also tries inputs not shown here.")
        failed |= len(passed) < len(checks)
    return int(failed)


def _said(check: validating.Check) -> str:
    if not check.message:
        return check.outcome
    first, *more = check.message.strip().splitlines()
    return "\n".join([f"{check.outcome}: {first}", *(f"    {line}" for line in more)])


def run_collect(options: argparse.Namespace) -> int:
    """Puts a download into submitted/. Returns 1 where something could not be used."""
    course = assignments.course_folder(options.course)
    (name,) = assignments.names_in(course, [options.name])
    collection = collecting.collect(Path(options.download), course, name)
    print(f"{course / 'submitted'}: {len(collection.written)} new or changed, {len(collection.unchanged)} as before")
    for problem in collection.problems:
        print(f"not collected: {problem}")
    return int(bool(collection.problems))


def run_release(options: argparse.Namespace) -> int:
    """Writes the students' zip, or Gradescope's."""
    course = assignments.course_folder(options.course)
    out = Path(options.out)
    if options.gradescope is not None:
        if options.names:
            raise DataError(f"an autograder is for one assignment: --gradescope {options.gradescope} alone")
        (name,) = assignments.names_in(course, [options.gradescope])
        files = handing_out.gradescope_zip(course, name, out)
        print(f"{out}  {len(files)} files: upload it as the autograder of {name}")
    else:
        files = handing_out.student_zip(course, assignments.names_in(course, options.names), out)
        print(f"{out}  {', '.join(files)}")
    return 0


def run_marks(options: argparse.Namespace) -> int:
    """Fills scores into a learning platform's CSV file. Returns 1 where a student's row was not found."""
    out = Path(options.out)
    filled = marks.fill_in(Path(options.worksheet), Path(options.scores), out, options.name, options.column)
    print(f"{out}  {filled.count} marks in the column {filled.column!r}")
    for student in filled.missing:
        print(f"no row for {student}")
    return int(bool(filled.missing))


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "generate": run_generate,
    "validate": run_validate,
    "collect": run_collect,
    "release": run_release,
    "marks": run_marks,
}
