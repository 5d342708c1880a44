"""A process that grades one submission after another for the command: paths in, results out, as lines of JSON.

Tests of an assignment run here, so a crash in one of them costs one submission. No submission's code runs here.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any, TextIO

from tinynet.grading.enter import PR_SET_DUMPABLE, die_with_parent, prctl
from tinynet.grading.sandbox import Limits
from tinynet.grading.scoring import Result, TestResult, grade_submission, load


def main() -> None:
    orders = json.loads(sys.argv[1])
    die_with_parent(orders["parent"])
    prctl(PR_SET_DUMPABLE, 0)  # holds expected values: closed to other processes of this user
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a test or a library prints
    limits = Limits(**orders["limits"])
    task = load(orders["assignment"])
    for line in sys.stdin:
        result = grade_submission(
            task, json.loads(line), protection=orders["protection"], limits=limits, seed=orders["seed"],
            hidden=orders["hidden"],
        )  # fmt: skip
        _write(results, to_json(result))


def _write(file: TextIO, value: Any) -> None:
    file.write(json.dumps(value) + "\n")
    file.flush()


def to_json(result: Result) -> dict[str, Any]:
    """A result as plain JSON."""
    return asdict(result)


def from_json(value: dict[str, Any]) -> Result:
    """The result again."""
    tests = tuple(TestResult(**test) for test in value["tests"])
    return Result(**{**value, "tests": tests, "notes": tuple(value["notes"])})


if __name__ == "__main__":
    main()
