"""Grades notebooks with nbgrader and with `tinynet grade`, in processes of their own, two at a time."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.assignments import sources
from tests.assignments.toy import ASSIGNMENTS

PATIENCE = 600  # seconds: here the time of a busy machine is nobody's mistake
GRADERS = ("nbgrader", "tinynet grade")
REFERENCE, EMPTY = "reference", "empty"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Verdict:
    """What a grader made of one notebook: points and words for every test, and the seconds it took."""

    points: dict[str, float]
    messages: dict[str, str]
    problem: str | None
    seconds: float


def notebook_name(index: int) -> str:
    """The student who handed in a group of wrong answers."""
    return f"wrong{index:02}"


def handed_in(grader: str, name: str) -> dict[str, dict[str, str]]:
    """For each notebook its solution cells: the reference's, none, and the wrong ones among right ones."""
    right = sources.solutions(name)
    wrong = {
        notebook_name(index): {**right, **{answer.solution: answer.code.strip("\n") for answer in group}}
        for index, group in enumerate(sources.notebooks_of_wrong(name, grader))
    }
    return {REFERENCE: right, EMPTY: {}, **wrong}


def filled(released: bytes, answers: Mapping[str, str]) -> bytes:
    """The students' notebook with solution cells replaced."""
    notebook = json.loads(released)
    for cell in notebook["cells"]:
        grade_id = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if grade_id in answers:
            cell["source"] = answers[grade_id]
    return json.dumps(notebook).encode()


def grade(grader: str, name: str) -> dict[str, Verdict]:
    """What one grader makes of all notebooks of an assignment."""
    with tempfile.TemporaryDirectory() as folder:
        released = (ASSIGNMENTS / "release" / name / f"{name}.ipynb").read_bytes()
        notebooks = {student: filled(released, answers) for student, answers in handed_in(grader, name).items()}
        return (by_nbgrader if grader == "nbgrader" else by_tinynet)(Path(folder), name, notebooks)


def by_nbgrader(course: Path, name: str, notebooks: Mapping[str, bytes]) -> dict[str, Verdict]:
    """In a copy of the course, with its own settings and gradebook."""
    from nbgrader.api import Gradebook

    from tinynet.grading import assignments

    shutil.copy(ASSIGNMENTS / "nbgrader_config.py", course)
    shutil.copytree(ASSIGNMENTS / "source" / name, course / "source" / name)
    assignments.generate(course, [name])
    api = assignments.nbgrader_api(course, course)
    api.config.Execute.timeout = PATIENCE
    verdicts = {}
    for student, notebook in notebooks.items():
        path = course / "submitted" / student / name / f"{name}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_bytes(notebook)
        started = time.perf_counter()
        answer = api.autograde(name, student, force=True, create=True)
        seconds = time.perf_counter() - started
        problem = None if answer["success"] else assignments.complaint(answer)
        points: dict[str, float] = {}
        messages: dict[str, str] = {}
        if problem is None:
            with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
                (graded,) = gradebook.find_submission(name, student).notebooks
                points = {grade.name: grade.score for grade in graded.grades}
            messages = errors_in(course / "autograded" / student / name / f"{name}.ipynb")
        verdicts[student] = Verdict(points, messages, problem, seconds)
    return verdicts


def errors_in(path: Path) -> dict[str, str]:
    """What the test cells of an executed notebook said."""
    said = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        grading = cell["metadata"].get("nbgrader", {})
        if grading.get("grade"):
            errors = [output for output in cell["outputs"] if output["output_type"] == "error"]
            said[grading["grade_id"]] = "\n".join(f"{error['ename']}: {error['evalue']}" for error in errors)
    return {grade_id: COLOURS.sub("", text) for grade_id, text in said.items()}


def by_tinynet(folder: Path, name: str, notebooks: Mapping[str, bytes]) -> dict[str, Verdict]:
    """By the hardened grader, each notebook in a sandboxed child."""
    from tinynet.grading.sandbox import Limits
    from tinynet.grading.scoring import grade_submission

    limits = Limits(call_seconds=PATIENCE, seconds=PATIENCE)
    verdicts = {}
    for student, notebook in notebooks.items():
        path = folder / f"{student}.ipynb"
        path.write_bytes(notebook)
        started = time.perf_counter()
        result: Any = grade_submission(ASSIGNMENTS / "source" / name / f"{name}.py", path, limits=limits)
        seconds = time.perf_counter() - started
        points = {test.grade_id: test.points for test in result.tests}
        messages = {test.grade_id: test.message or "" for test in result.tests}
        verdicts[student] = Verdict(points, messages, result.problem, seconds)
    return verdicts


class Graders:
    """Verdicts on whole assignments, made in two processes from the moment they are first asked for."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"), initializer=_quiet)
        self._verdicts: dict[tuple[str, str], Future[dict[str, Verdict]]] = {}

    def start(self, grader: str, name: str) -> None:
        """Begins with an assignment, unless that was done."""
        if (grader, name) not in self._verdicts:
            self._verdicts[grader, name] = self._pool.submit(grade, grader, name)

    def verdicts(self, grader: str, name: str) -> dict[str, Verdict]:
        """By the notebooks' names. Raises what went wrong in the process."""
        self.start(grader, name)
        return self._verdicts[grader, name].result()

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown(cancel_futures=True)


def _quiet() -> None:
    os.environ.update(TINYNET_PROGRESS="0", TINYNET_QUIET="1", TINYNET_NUM_THREADS="1")
