"""`tinynet grade`: the submissions of a class, scored where they can do no harm."""

from __future__ import annotations

import argparse
import json
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from tinynet.errors import DataError
from tinynet.grading import scoring
from tinynet.grading.report import Graded, number, write_scores
from tinynet.grading.run import Plan, grade_all
from tinynet.grading.sandbox import Limits, Protection, protection
from tinynet.grading.submissions import collect, printable
from tinynet.utils.atomic import atomic_write

RUN = "run.json"


def run(options: argparse.Namespace) -> int:
    """Grades, writes scores and feedback, says what it did. Raises what went wrong."""
    started = time.perf_counter()
    task = scoring.load(options.assignment)
    place, out = Path(options.submissions), Path(options.out)
    submissions, others = collect(place, task.name)
    if place.is_dir() and out.resolve().is_relative_to(place.resolve()):
        raise DataError(f"--out {out} lies in the folder of submissions; choose another place")
    out.mkdir(parents=True, exist_ok=True)
    hidden = tuple(str(path.resolve()) for path in (task.path.parent, place, out))
    contained = protection(options.protection, hidden)
    limits = Limits(
        call_seconds=options.timeout, seconds=options.total_timeout, memory=int(options.memory * 2**30),
    )  # fmt: skip
    seed = options.seed if options.seed is not None else _earlier_seed(out)
    plan = Plan(task, limits, contained.level, seed, options.jobs, hidden)
    _say_plan(plan, contained, len(submissions))
    _note_run(out, plan, contained)
    graded, kept = grade_all(plan, submissions, out)
    write_scores(out / "scores.csv", graded)
    if place.is_file():
        with atomic_write(out / "results.json") as file:
            file.write((out / submissions[0].folder / "results.json").read_bytes())
    _say_results(graded, kept, others, out, time.perf_counter() - started)
    return 0


def _earlier_seed(out: Path) -> int:
    """The seed of what was graded here before (all students get the same inputs), or a new one."""
    try:
        return int(json.loads((out / RUN).read_text(encoding="utf-8"))["seed"])
    except (OSError, ValueError, KeyError, TypeError):
        return secrets.randbits(64)


def _note_run(out: Path, plan: Plan, contained: Protection) -> None:
    about = {
        "assignment": plan.task.name, "seed": plan.seed, "protection": contained.level,
        "active": contained.active, "inactive": contained.inactive,
    }  # fmt: skip
    with atomic_write(out / RUN) as file:
        file.write(json.dumps(about, indent=1).encode())


def _say_plan(plan: Plan, contained: Protection, count: int) -> None:
    tests = plan.task.of_kind("test")
    points = number(sum(test.points for test in tests))
    print(f"assignment  {plan.task.name}: {points} points in {len(tests)} tests; {count} submissions")
    print(f"protection  {contained.level}: {', '.join(contained.active)}")
    if contained.inactive:
        print(f"not active  {'; '.join(contained.inactive)}")
    print(f"seed        {plan.seed} (--seed draws the same inputs again)", flush=True)


def _say_results(graded: Sequence[Graded], kept: int, others: Sequence[str], out: Path, seconds: float) -> None:
    scores = sorted(result.score for _, result in graded)
    full = sum(result.score == result.max_score for _, result in graded)
    unread = sum(result.problem is not None for _, result in graded)
    already = f", {kept} of them before" if kept else ""
    print(
        f"graded      {len(graded)} in {seconds:.0f} s{already}: {full} full, {unread} with a problem, median "
        f"{number(scores[len(scores) // 2])} of {number(graded[0][1].max_score)}"
    )
    if others:
        print(f"left out    {printable(', '.join(others))}")
    print(f"scores      {out / 'scores.csv'}")
    print(f"feedback    {out / graded[0][0].folder / 'feedback.html'}" + (", …" if len(graded) > 1 else ""))
