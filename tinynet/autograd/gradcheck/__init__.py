"""Is the gradient right? A checker that says what is wrong, not only that something is.

**The idea.** A derivative can be had without any backward: move one input element by ±h and look how far
the output moves, ``(f(x + h) - f(x - h)) / 2h``. This central difference errs in two ways. The function is
not straight over the step, which costs about ``h²`` (the one-sided difference would cost ``h``). And each
value carries a rounding error of ``ε·|f|``, which the division makes ``ε·|f|/h``. The smaller the step the
worse the second, so there is a best one, near ``ε^(1/3)``: 6e-6 in float64, where ε is 1.1e-16 and some ten
digits remain, but 4e-3 in float32, where at best four digits do, too few to see a wrong term. Hence float64
only, whatever the layer will run in later.

**Step by step.** Every element gets one central difference with the step ``eps`` times its own scale, and
the whole Jacobian is compared with one backward pass per output element (with random projections beyond
1,024 outputs). The function's real rounding errors are measured, and bound what an entry may be off beside
``rtol``; an entry is never excused by being small against some other row and column. Entries in doubt climb
a ladder of steps with Richardson's extrapolation, which removes the h² term: a wrong step size, a kink and an
error look different there. At a kink (ReLU at 0, a tie in max) the slopes on the two sides stay apart
however small the step. No derivative exists, nothing can be proved, and the verdict is INCONCLUSIVE, as it
is where the gradient is zero everywhere: a backward that returns nothing at all would agree.

**Why random upstream gradients.** The gradient of ``f(x).sum()`` asks only how the sum of all outputs moves,
an upstream gradient of all ones. A backward that ignores what comes from above passes that test, and batch
norm under sum has a gradient of exactly zero, so anything near zero passes. Random numbers from above weigh
every output differently, and two different draws show whether backward is linear in them.

Sources: torch.autograd.gradcheck (the call, and random projections as its fast mode); Chainer's
gradient_check (the idea that a checker should find kinks by itself).
"""

from __future__ import annotations

from collections.abc import Callable

from .findings import compare
from .inputs import as_inputs, check_inputs, input_names
from .judge import Tolerance
from .probe import Probe, Problem
from .report import GradcheckError, GradcheckRefusal, InputReport, Report, Verdict

__all__ = [
    "GradcheckError", "GradcheckRefusal", "InputReport", "Report", "Verdict", "diagnose", "gradcheck",
    "gradcheck_module",
]


def gradcheck(
    func: Callable, inputs, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
    raise_exception: bool = True, nondet_tol: float = 0.0, fast_mode: bool = False,
) -> bool:
    """Whether the gradients of ``func`` at ``inputs`` agree with finite differences (torch.autograd.gradcheck).

    ``func`` takes the inputs and returns a tensor or a tuple of tensors of any shape; ``inputs`` is a tensor
    or a tuple. Checked are the float64 tensors that require grad; everything else (integers, booleans, plain
    Python values) is constant. ``eps`` is the step relative to each input's size; ``rtol`` the error allowed
    relative to each entry and ``atol`` relative to the largest entry of its row or column of the Jacobian
    (torch's is absolute, which lets small gradients pass unseen); measured rounding is allowed on top.
    ``nondet_tol`` is how far two equal runs may differ. ``fast_mode`` compares random projections only.

    Returns True only if every input passes. Otherwise raises GradcheckError (a RuntimeError) whose text
    names the input, the worst index, both values and the likely cause, or returns False if
    ``raise_exception`` is False. Calls that cannot be checked (no input requires grad, float32, empty, NaN
    or overlapping inputs) raise GradcheckRefusal, which is a ValueError too.
    """
    try:
        report = diagnose(
            func, inputs, eps=eps, atol=atol, rtol=rtol, nondet_tol=nondet_tol, fast_mode=fast_mode
        )
    except GradcheckRefusal:
        if raise_exception:
            raise
        return False
    return _settle(report, raise_exception)


def diagnose(
    func: Callable, inputs, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
    nondet_tol: float = 0.0, fast_mode: bool = False, names: list[str] | None = None,
    restore: Callable[[], None] | None = None,
) -> Report:
    """The same check, returning all of its findings as a :class:`Report` instead of one bool.

    ``names`` replaces the names of the inputs in the report; ``restore`` is called after every call of
    ``func``, to undo what it may leave behind. Raises GradcheckRefusal as :func:`gradcheck` does.
    """
    inputs = as_inputs(inputs)
    names = input_names(func, len(inputs)) if names is None else names
    checked = check_inputs(inputs, names)
    tolerance = Tolerance(eps, atol, rtol, nondet_tol)
    try:
        probe = Probe(func, inputs, checked, names, nondet_tol, restore)
        return compare(probe, tolerance, fast_mode)
    except Problem as problem:
        return Report(Verdict.FAIL, problem=str(problem))


def gradcheck_module(
    module, input, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3, raise_exception: bool = True,
    nondet_tol: float = 0.0, fast_mode: bool = False,
) -> bool:
    """:func:`gradcheck` of a module in its present mode: its input and every parameter that requires grad.

    ``input`` is a tensor or a tuple of them; floating ones are copied to float64 and checked too. The module
    itself is computed in float64 meanwhile and then put back: values, dtypes, running statistics, ``.grad``.
    Failures name the parameter (``parameter layer1.0.conv1.weight``).
    """
    from .module import in_double

    with in_double(module, input) as (func, inputs, names, restore):
        try:
            report = diagnose(
                func, inputs, eps=eps, atol=atol, rtol=rtol, nondet_tol=nondet_tol, fast_mode=fast_mode,
                names=names, restore=restore,
            )
        except GradcheckRefusal:
            if raise_exception:
                raise
            return False
    return _settle(report, raise_exception)


def _settle(report: Report, raise_exception: bool) -> bool:
    if report.verdict is Verdict.PASS:
        return True
    if not raise_exception:
        return False
    error = GradcheckError(report.text)
    error.report = report
    raise error
