"""nbgrader's own commands, as TEACHING.md has them, in a copy of the course."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.assignments.both import filled
from tests.assignments.toy import NAME, ONLY_VISIBLE, RIGHT, make_course
from tinynet.cli import main

pytest.importorskip("nbgrader", reason="needs the teach extra")


def run(course: Path, *arguments: str) -> str:
    """One of nbgrader's commands, in an activated environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=course, capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_from_handing_out_to_the_gradebook(tmp_path: Path) -> None:
    course = make_course(tmp_path / "course")
    assert main(["assignment", "generate", "--course", str(course)]) == 0
    released = (course / "release" / NAME / f"{NAME}.ipynb").read_bytes()
    spy = "import os\nSEEN = os.listdir()\ndef double(x):\n    raise AssertionError(f'beside me: {SEEN}')"
    answers = {"jane": RIGHT, "joe": ONLY_VISIBLE, "spy": spy}
    for student, answer in answers.items():
        path = tmp_path / "download" / student / f"{NAME}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_bytes(filled(released, {"double": answer}))
    (tmp_path / "download" / "empty").mkdir()
    (tmp_path / "download" / "empty" / f"{NAME}.ipynb").write_bytes(released)
    assert main(["assignment", "collect", NAME, str(tmp_path / "download"), "--course", str(course)]) == 0

    run(course, "autograde", NAME)
    run(course, "generate_feedback", NAME)
    run(course, "export", "--to", "grades.csv")
    with open(course / "grades.csv", newline="") as file:
        scores = {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in csv.DictReader(file)}
    assert scores == {"jane": (3, 3), "joe": (1, 3), "spy": (0, 3), "empty": (0, 3)}
    feedback = {student: (course / "feedback" / student / NAME / f"{NAME}.html").read_text() for student in scores}
    assert "a hidden case: twice 21 is 42" in feedback["joe"] and "NotImplementedError" in feedback["empty"]
    assert "HIDDEN TESTS" not in feedback["jane"] and "a hidden case" not in feedback["jane"]
    assert f"{NAME}.py" not in feedback["spy"] and "beside me" in feedback["spy"]

    path = course / "submitted" / "joe" / NAME / f"{NAME}.ipynb"
    shutil.copy(course / "submitted" / "jane" / NAME / f"{NAME}.ipynb", path)
    run(course, "autograde", NAME, "--student", "joe", "--force")
    run(course, "export", "--to", "grades.csv")
    with open(course / "grades.csv", newline="") as file:
        assert {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}["joe"] == 3
