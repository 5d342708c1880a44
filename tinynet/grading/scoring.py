"""One submission to one assignment: points for every test, and for each lost one the reason.

The submission's cells run in a sandbox. The tests run here, and see of the submission only what its functions
return: expected values, fresh inputs and the verdict never leave this process.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import hashlib
import io
import secrets
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tinynet import kernels
from tinynet.errors import DataError
from tinynet.grading import notebooks, proxies
from tinynet.grading.compare import begin_test
from tinynet.grading.notebooks import Cell, Notebook
from tinynet.grading.proxies import NotAttempted, Piece, Session, SubmissionError
from tinynet.grading.sandbox import Limits, Sandbox, SandboxError
from tinynet.grading.sandbox import protection as strongest

LONGEST_MESSAGE = 5000
LONGEST_CODE = 1_000_000


@dataclass(frozen=True)
class TestResult:
    """The points of one test cell, and the reason where they were lost."""

    __test__ = False  # no test of pytest's

    grade_id: str
    points: float
    max_points: float
    message: str = ""


@dataclass(frozen=True)
class Result:
    """What one submission gets. ``problem`` is set where it could not be graded at all.

    ``notes`` are about the file (changed cells that were ignored), ``output`` is the beginning of what its code
    printed, ``seed`` draws its inputs again.
    """

    tests: tuple[TestResult, ...]
    problem: str | None = None
    notes: tuple[str, ...] = ()
    output: str = ""
    seed: int = 0

    @property
    def score(self) -> float:
        return sum(test.points for test in self.tests)

    @property
    def max_score(self) -> float:
        return sum(test.max_points for test in self.tests)


@dataclass(frozen=True)
class Assignment:
    """An assignment's source: its cells, and what solutions may use."""

    path: Path
    cells: tuple[Cell, ...]
    allowed: tuple[str, ...]
    refused: tuple[str, ...]
    digest: str
    homes: dict[str, str] = field(hash=False)  # every function of a non-test cell with its cell

    @property
    def name(self) -> str:
        return self.path.stem

    def of_kind(self, *kinds: str) -> list[Cell]:
        return [cell for cell in self.cells if cell.kind in kinds]


def load(path: str | Path) -> Assignment:
    """The assignment at a path or by name (see notebooks.find). Raises DataError."""
    source = notebooks.find(path)
    raw = notebooks.content(source)
    notebook = notebooks.parse(raw, source)
    code = [cell for cell in notebook.cells if cell.kind != "text"]
    named = [replace(cell, grade_id=cell.grade_id or f"given {number}") for number, cell in enumerate(code, start=1)]
    names = [cell.grade_id for cell in named]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{source.name}: the grade_id {twice!r} occurs twice")
    if not any(cell.kind == "test" for cell in named):
        raise DataError(f"{source.name} is no assignment: it has no test cells")
    options = notebook.metadata.get("tinynet") or {}
    try:
        homes = proxies.defined_functions({str(c.grade_id): c.source for c in named if c.kind != "test"})
    except SyntaxError as error:
        raise DataError(f"{source.name}: {error}") from None
    return Assignment(
        source, tuple(named), tuple(options.get("allowed", ("numpy",))), tuple(options.get("refused", ())),
        hashlib.sha256(raw).hexdigest(), homes,
    )  # fmt: skip


def grade_submission(
    assignment: str | Path | Assignment, submission: str | Path, *, protection: str | None = None,
    timeout: float | None = None, limits: Limits | None = None, seed: int | None = None,
    hidden: Sequence[str | Path] = (),
) -> Result:  # fmt: skip
    """Grades one notebook or script.

    `protection` is the level of the sandbox (default: the strongest to be had), `timeout` the seconds for one call
    of one of its functions (default: those of `limits`), `seed` what the fresh inputs are drawn from, `hidden` are
    paths that it must not see beside the assignment and its own folder.

    Raises DataError for an assignment that is none and SandboxError for a level that is not to be had. Whatever is
    wrong with the submission is in the Result.
    """
    task = assignment if isinstance(assignment, Assignment) else load(assignment)
    limits = limits or Limits()
    limits = replace(limits, call_seconds=timeout) if timeout else limits
    seed = secrets.randbits(64) if seed is None else seed
    submission = Path(submission)
    try:
        handed_in = notebooks.read(submission)
        pieces, problems, notes = arranged(task, handed_in)
    except (DataError, OSError) as error:
        reason = str(error) if isinstance(error, DataError) else f"{submission.name}: {error.strerror}"
        return Result(all_lost(task, reason), problem=reason, seed=seed)
    level = protection or strongest(hidden=(task.path.parent,)).level
    rules = {"allowed": list(task.allowed), "refused": list(task.refused)}
    unseen = (task.path.parent, submission.resolve().parent, *hidden)

    def start() -> Sandbox:
        return Sandbox(level, limits, task.allowed, unseen)

    with Session(pieces, task.homes, start, limits, rules) as session:
        session.problems.update(problems)
        tests = run_tests(task, session, seed)
    # the sandbox has ended, so all of its output is there
    return Result(tests, notes=(*notes, *_trouble(pieces, session)), output=session.output, seed=seed)


def all_lost(task: Assignment, reason: str) -> tuple[TestResult, ...]:
    """No points, for one and the same reason."""
    return tuple(TestResult(str(cell.grade_id), 0.0, cell.points, reason) for cell in task.of_kind("test"))


# Which cells run


def arranged(task: Assignment, handed_in: Notebook) -> tuple[list[Piece], dict[str, str], list[str]]:
    """The cells to run: ours, with the submission's solutions and own cells in their places.

    A script without nbgrader's cells goes before ours, so what is given stays ours.

    Also the problems of cells that cannot be used, by name, and notes. Raises DataError where nothing of the
    assignment is found in the submission.
    """
    by_id, extras = _sorted(task, handed_in)
    pieces, problems = _extra_pieces(extras.pop("", [])), {}
    for cell in task.of_kind("given", "solution", "test"):
        name = str(cell.grade_id)
        if cell.kind == "given":
            pieces.append(Piece(name, True, cell.source))
        elif cell.kind == "solution" and by_id:
            answers = list(dict.fromkeys(answer.source for answer in by_id.get(name, [])))
            if len(answers) == 1:
                pieces.append(Piece(name, False, answers[0]))
            else:
                count = f"is in the submission {len(answers)} times, with different content; one must go"
                problems[name] = count if answers else "is missing from the submission"
        pieces += _extra_pieces(extras.pop(name, []), name)
    pieces += [piece for name, cells in extras.items() for piece in _extra_pieces(cells, name)]
    length = sum(len(piece.source) for piece in pieces)
    if length > LONGEST_CODE:
        raise DataError(f"its code has {length:,} characters; {LONGEST_CODE:,} are allowed")
    return pieces, problems, _changed(task, by_id)


def _sorted(task: Assignment, handed_in: Notebook) -> tuple[dict[str, list[Cell]], dict[str, list[Cell]]]:
    """The submission's cells by grade_id, and its own code cells by the grade_id that they follow. Raises DataError."""
    by_id: dict[str, list[Cell]] = {}
    extras: dict[str, list[Cell]] = {}
    ours = {cell.source.strip() for cell in task.of_kind("given")}
    after = ""
    for cell in handed_in.cells:
        if cell.grade_id is not None:
            by_id.setdefault(cell.grade_id, []).append(cell)
            after = cell.grade_id
        elif cell.kind != "text" and cell.source.strip() and cell.source.strip() not in ours:
            extras.setdefault(after, []).append(cell)
    if not by_id and not any(cell.kind != "text" for cell in handed_in.cells):
        raise DataError(f"the submission has no code (expected are the cells of {task.name})")
    if by_id and not any(cell.grade_id in by_id for cell in task.of_kind("solution")):
        raise DataError(f"none of the cells of {task.name} is in it: is it the right assignment?")
    return by_id, extras


def _extra_pieces(cells: Sequence[Cell], after: str = "") -> list[Piece]:
    where = f"after {after}" if after else "at the start"
    return [Piece(f"own cell {number} {where}", False, cell.source) for number, cell in enumerate(cells, start=1)]


def _changed(task: Assignment, by_id: dict[str, list[Cell]]) -> list[str]:
    """What was edited although it is locked: no harm, as ours are used."""
    changed = []
    for cell in task.of_kind("given", "test"):
        shown = [_words(cell.source), _words(notebooks.without_hidden_tests(cell.source))]
        if any(_words(theirs.source) not in shown for theirs in by_id.get(str(cell.grade_id), [])):
            changed.append(str(cell.grade_id))
    known = {cell.grade_id for cell in task.cells}
    strangers = [name[:80] for name in by_id if name not in known and by_id[name][0].kind != "text"]
    notes = [f"locked cells were changed, the originals were used: {', '.join(changed)}"] if changed else []
    return notes + ([f"left out, as not of this assignment: {', '.join(strangers)}"] if strangers else [])


def _words(source: str) -> list[str]:
    """The text of a cell without its white space."""
    return source.split()


def _trouble(pieces: Sequence[Piece], session: Session) -> list[str]:
    """What went wrong in cells that no test complains about by name."""
    return [f"{piece.name}: {session.problems[piece.name]}" for piece in pieces if piece.name in session.problems]


# The tests


def run_tests(task: Assignment, session: Session, seed: int) -> tuple[TestResult, ...]:
    """Runs every test cell here, against proxies of the submission's functions."""
    code = [cell.source for cell in task.of_kind("given", "solution")]
    namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
    for cell in task.of_kind("given"):
        for statement in proxies.constants_and_imports(cell.source):
            with contextlib.suppress(ImportError):  # only what a test uses must be there
                exec(compile(ast.Module([statement], []), f"<{cell.grade_id}>", "exec"), namespace)
    results = []
    for cell in task.of_kind("test"):
        namespace.update(proxies.stand_ins(code, session.call))
        begin_test(str(cell.grade_id), seed)
        message = _failure(cell, namespace)
        points = cell.points if message is None else 0.0
        results.append(TestResult(str(cell.grade_id), points, cell.points, (message or "")[:LONGEST_MESSAGE]))
    return tuple(results)


def _failure(cell: Cell, namespace: dict[str, Any]) -> str | None:
    """Why a test fails, or None if it passes."""
    filename = f"<test {cell.grade_id}>"
    try:
        quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
        with kernels.backend("numpy"), quiet[0], quiet[1]:  # so small that compiling would take longer
            exec(compile(cell.source, filename, "exec"), namespace)
    except (SandboxError, KeyboardInterrupt):
        raise
    except NotAttempted as error:
        return str(error)
    except SubmissionError as error:
        return _with_line(str(error), error, cell, filename)
    except AssertionError as error:
        return str(error) or _with_line("this does not hold", error, cell, filename)
    except BaseException as error:
        text = f"the test could not use what came back: {type(error).__name__}: {error}"
        return _with_line(text, error, cell, filename)
    return None


def _with_line(text: str, error: BaseException, cell: Cell, filename: str) -> str:
    """The text, and the line of the test that it came up in."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == filename]
    if not lines or lines[-1] is None:
        return text
    return f"{text}\nin the test: {cell.source.splitlines()[lines[-1] - 1].strip()}"

