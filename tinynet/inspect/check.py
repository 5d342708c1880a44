"""``tinynet check``: every differentiable operation against finite differences, as a table."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tinynet import ops
from tinynet.autograd.gradcheck import Report, Verdict, diagnose
from tinynet.tape import Operation
from tinynet.utils.progress import progress

from .check_cases import Case, operation_cases

RTOL, ATOL = 1e-6, 1e-8  # what float64 differences can tell; a float32 slip inside would show
WITHOUT_GRADIENT = {"StepFunction": "flat wherever it has a derivative: the gradient is zero by definition"}


@dataclass(frozen=True)
class Row:
    """One operation's result; ``failures`` are the reports of the cases that did not pass."""

    operation: type[Operation]
    cases: int
    relative_error: float
    seconds: float
    verdict: Verdict
    failures: tuple[Report, ...] = ()

    @property
    def family(self) -> str:
        """The file in tinynet/ops that holds the operation."""
        return self.operation.__module__.rpartition(".")[2]


def differentiable_operations() -> list[type[Operation]]:
    """Every public Operation of tinynet.ops that has a gradient, in the order of files and names."""
    found: list[type[Operation]] = []
    for entry in pkgutil.iter_modules(ops.__path__):
        module = importlib.import_module(f"{ops.__name__}.{entry.name}")
        for name, item in inspect.getmembers(module, inspect.isclass):
            public = item.__module__ == module.__name__ and not name.startswith("_")
            if issubclass(item, Operation) and public and name not in WITHOUT_GRADIENT:
                found.append(item)
    return found


def check(names: Sequence[str] = ()) -> list[Row]:
    """Checks the operations whose name, torch name or file holds one of ``names`` (all by default).

    Raises ValueError with the known names if one of them fits nothing, LookupError if an operation has no case.
    """
    cases = operation_cases()
    chosen = _chosen(differentiable_operations(), names)
    missing = [operation.__name__ for operation in chosen if not cases.get(operation)]
    if missing:
        raise LookupError(f"check: no sample inputs for {', '.join(missing)} (tinynet/inspect/check_cases.py)")
    rows = []
    with progress(total=len(chosen), desc="check") as bar:
        for operation in chosen:
            bar.set_postfix_str(operation.__name__)
            rows.append(_check_operation(operation, cases[operation]))
            bar.update()
    return rows


def _chosen(operations: list[type[Operation]], names: Sequence[str]) -> list[type[Operation]]:
    """The operations whose class, torch name or file is named; where none is, those with the name in one of these."""
    labels = {
        operation: [operation.__name__.lower(), operation.name.lower(), operation.__module__.rpartition(".")[2]]
        for operation in operations
    }
    wanted: set[type[Operation]] = set()
    for name in map(str.lower, names):
        found = [op for op in operations if name in labels[op]]
        found = found or [op for op in operations if any(name in label for label in labels[op])]
        if not found:
            known = ", ".join(operation.__name__ for operation in operations)
            raise ValueError(f"check: no operation fits {name!r}; there are {known}")
        wanted.update(found)
    return [op for op in operations if not names or op in wanted]


def _check_operation(operation: type[Operation], cases: list[Case]) -> Row:
    start = time.perf_counter()
    reports = [_diagnosed(case.function, case.inputs) for case in cases]
    reports += [report for case in cases[:1] for report in _one_at_a_time(case)]
    failures = tuple(report for report in reports if report.verdict is not Verdict.PASS)
    return Row(
        operation,
        len(reports),
        max(report.relative_error for report in reports),
        time.perf_counter() - start,
        failures[0].verdict if failures else Verdict.PASS,
        failures,
    )


def _one_at_a_time(case: Case) -> list[Report]:
    """The case again with each of several inputs alone requiring grad: what backward skips must be the rest."""
    leaves = [place for place, item in enumerate(case.inputs) if getattr(item, "requires_grad", False)]
    reports = []
    for only in leaves if len(leaves) > 1 else ():
        inputs = tuple(
            item.detach() if place in leaves and place != only else item for place, item in enumerate(case.inputs)
        )
        reports.append(_diagnosed(case.function, inputs))
    return reports


def _diagnosed(function, inputs) -> Report:
    """The check of one case; an operation that breaks down is a failure, not the end of the table."""
    try:
        return diagnose(function, inputs, rtol=RTOL, atol=ATOL)
    except Exception as error:
        return Report(Verdict.FAIL, problem=f"the operation raised {type(error).__name__}: {error}")


def table(rows: Sequence[Row]) -> str:
    """The rows as text, what went wrong below them."""
    lines = [f"{'operation':<30}{'in ops/':<16}{'cases':>6}{'worst error':>14}{'seconds':>10}  verdict"]
    lines.append("-" * (len(lines[0]) + 5))
    for row in rows:
        lines.append(
            f"{row.operation.__name__:<30}{row.family:<16}{row.cases:>6}{row.relative_error:>14.1e}"
            f"{row.seconds:>10.2f}  {row.verdict}"
        )
    lines.append(lines[1])
    lines.append(_summary(rows))
    for row in rows:
        for report in row.failures:
            lines += ["", f"{row.operation.__name__}:", report.text]
    return "\n".join(lines)


def _summary(rows: Sequence[Row]) -> str:
    cases, seconds = sum(row.cases for row in rows), sum(row.seconds for row in rows)
    bad = [row.operation.__name__ for row in rows if row.verdict is not Verdict.PASS]
    result = f"not passed: {', '.join(bad)}" if bad else "all pass"
    plural = "" if len(rows) == 1 else "s"
    return f"{len(rows)} operation{plural}, {cases} cases in {seconds:.1f} s: {result}"


def run(names: Sequence[str] = ()) -> int:
    """What ``tinynet check [name …]`` does: prints the table; 0 if every operation passes, else 1."""
    rows = check(names)
    print(table(rows))
    return int(any(row.verdict is not Verdict.PASS for row in rows))
