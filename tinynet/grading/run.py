"""All submissions of a class: graded side by side, each once, whatever happens to one of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tinynet.errors import DataError
from tinynet.grading import notebooks
from tinynet.grading.report import Graded, write_feedback
from tinynet.grading.sandbox import Limits
from tinynet.grading.scoring import Assignment, Result, all_lost
from tinynet.grading.submissions import Submission, printable
from tinynet.grading.worker import from_json, to_json
from tinynet.utils.atomic import atomic_write
from tinynet.utils.progress import progress

STATE = "grading.json"
PATIENCE = 300.0  # seconds for the tests' own work (compiling kernels for the first time) beside the submission's


@dataclass(frozen=True)
class Plan:
    """How a class is graded; the results depend on all of it but `jobs` and `hidden`."""

    task: Assignment
    limits: Limits
    protection: str
    seed: int
    jobs: int
    hidden: tuple[str, ...] = ()

    def digest(self, submission: Submission) -> str:
        """Of everything that a result depends on, or "" where the file cannot be read."""
        if submission.path is None:
            content = submission.problem.encode()
        else:
            try:
                content = notebooks.content(submission.path)
            except (DataError, OSError):
                return ""
        own = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
        parts = [repr((self.task.digest, asdict(self.limits), self.protection, self.seed)).encode(), *own, content]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def grade_all(plan: Plan, submissions: Sequence[Submission], out: Path) -> tuple[list[Graded], int]:
    """The results in the order of the submissions, and how many of them were known from an earlier run.

    Each student's folder below `out` is written as soon as the result is there, so an interrupted run goes on where
    it was. Prints a line about each that could not be graded. Raises KeyboardInterrupt, after which no process is
    left.
    """
    done: dict[str, Result] = {}
    todo = []
    digests = {submission.student: plan.digest(submission) for submission in submissions}
    for submission in submissions:
        known = _known(out / submission.folder, digests[submission.student])
        if known is None:
            todo.append(submission)
        else:
            done[submission.student] = known
    kept = len(done)
    with contextlib.closing(_Crew(plan, todo)) as crew, progress(total=len(submissions), desc="grading") as bar:
        bar.update(kept)
        try:
            for submission, result in crew.results():
                _store(out / submission.folder, plan.task.name, submission, result, digests[submission.student])
                done[submission.student] = result
                bar.update(1)
                if result.problem:
                    bar.write(f"problem     {printable(f'{submission.shown}: {result.problem}')}")
        except KeyboardInterrupt:
            left = f"{len(done)} of {len(submissions)} are graded; the same command goes on from there"
            raise KeyboardInterrupt(f"interrupted: {left}") from None
    return [(submission, done[submission.student]) for submission in submissions], kept


def _known(folder: Path, digest: str) -> Result | None:
    """The stored result if it still holds."""
    try:
        stored = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if digest and stored["digest"] == digest:
            return from_json(stored["result"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _store(folder: Path, assignment: str, submission: Submission, result: Result, digest: str) -> None:
    write_feedback(folder, assignment, submission, result)
    if result.problem and result.problem.startswith(_Worker.FAILED):
        digest = ""  # to be tried again
    state = {"student": submission.shown, "digest": digest, "result": to_json(result)}
    with atomic_write(folder / STATE) as file:
        file.write(json.dumps(state, indent=1).encode())


class _Crew:
    """Threads that each give one worker one submission after another."""

    def __init__(self, plan: Plan, todo: Sequence[Submission]) -> None:
        self._count = len(todo)
        self._todo: queue.SimpleQueue[Submission] = queue.SimpleQueue()
        for submission in todo:
            self._todo.put(submission)
        self._results: queue.SimpleQueue[Graded | BaseException] = queue.SimpleQueue()
        self._scratch = tempfile.mkdtemp(prefix="tinynet-grading-")
        self._workers = [_Worker(plan, self._scratch) for _ in range(min(plan.jobs, max(1, len(todo))))]
        self._threads = [threading.Thread(target=self._work, args=(w,), daemon=True) for w in self._workers]
        for thread in self._threads:
            thread.start()

    def _work(self, worker: _Worker) -> None:
        try:
            with contextlib.suppress(queue.Empty):
                while True:
                    submission = self._todo.get_nowait()
                    self._results.put((submission, worker.grade(submission)))
        except BaseException as error:  # said where it is waited for
            self._results.put(error)
        finally:
            worker.close()

    def results(self) -> Any:
        """Every submission with its result, as they come."""
        for _ in range(self._count):
            item = self._results.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Ends all workers, and with each its sandbox."""
        for worker in self._workers:
            worker.close(for_good=True)
        for thread in self._threads:
            thread.join(5)
        shutil.rmtree(self._scratch, ignore_errors=True)


class _Worker:
    """A process of worker.py; a new one is started if it dies."""

    FAILED = "not graded, the grader itself failed"

    def __init__(self, plan: Plan, scratch: str) -> None:
        self._plan = plan
        self._scratch = scratch
        self._process: subprocess.Popen[str] | None = None
        self._closed = False

    def grade(self, submission: Submission) -> Result:
        """The submission's result; a problem where it cannot be had."""
        if submission.path is None:
            return Result(all_lost(self._plan.task, submission.problem), submission.problem, seed=self._plan.seed)
        process = self._process = self._process or self._started()
        assert process.stdin is not None and process.stdout is not None
        watch = threading.Timer(self._plan.limits.seconds + PATIENCE, process.kill)
        watch.start()
        try:
            process.stdin.write(json.dumps(os.fspath(submission.path.absolute())) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            watch.cancel()
        if not line:
            self.close()
            problem = f"{self.FAILED} (its process ended with code {process.returncode}); the others are not concerned"
            return Result(all_lost(self._plan.task, problem), problem, seed=self._plan.seed)
        result = from_json(json.loads(line))
        return replace(result, notes=(submission.note, *result.notes)) if submission.note else result

    def _started(self) -> subprocess.Popen[str]:
        if self._closed:
            raise DataError("the grading was ended")
        orders = {
            "parent": os.getpid(), "assignment": str(self._plan.task.path.absolute()),
            "protection": self._plan.protection, "limits": asdict(self._plan.limits), "seed": self._plan.seed,
            "hidden": list(self._plan.hidden),
        }  # fmt: skip
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
        return subprocess.Popen(
            [sys.executable, "-m", "tinynet.grading.worker", json.dumps(orders)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True,
            env={**os.environ, "PYTHONPATH": paths, "TMPDIR": self._scratch},
        )  # fmt: skip

    def close(self, for_good: bool = False) -> None:
        self._closed |= for_good
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
