"""`fuse`: a model as plans, one per input shape, made when the shape is first seen."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from typing import Any, NoReturn, Self

import numpy as np

from tinynet import Tensor, is_grad_enabled, kernels, nn
from tinynet.errors import DtypeError, GraphError
from tinynet.fusion.plan import Plan
from tinynet.fusion.steps import Packed
from tinynet.fusion.structure import key_of, taken_out
from tinynet.fusion.trace import Trace, difference, other_numbers, traced
from tinynet.tape.observe import state as onlooker

PLANS = 8  # shapes whose plans are kept
# How far a plan's outputs may be from the model's, as a fraction of their magnitude, before it is called wrong.
# Rounding stays well below: about 1e-6 and 1e-15.
AGREEMENT = {np.dtype(np.float32): 1e-3, np.dtype(np.float64): 1e-9}


def fuse(model: nn.Module, example_input: Any = None) -> FusedModel:
    """An inference copy of `model` in which norms, residual additions and ReLUs are part of the convolutions.

    The model is traced once per input shape, at the first call or with `example_input` (a tensor, or a tuple of
    the arguments), and every operation it performs is written down, also in plain functions, additions and nested
    outputs. Batch norm after a convolution is folded into its weights; the additions and ReLUs that follow are
    done while its result is in cache; results in between share memory that is kept for the next call. What fits
    no pattern runs as it was. Outputs equal the model's to rounding, and are the caller's own.

    Only operations are written down. Python code (prints, hooks, branches on shapes) runs while tracing and never
    again, and results depend on nothing but the inputs: a model whose path depends on the numbers (``if
    x.mean() > 0``, ``x[x > 0]``, random draws) has no plan. Each new shape is therefore traced on two inputs, the
    caller's and random numbers in its range, and its plan is compared with the model: any difference is refused.
    That finds most, not all: a branch that neither input takes cannot be seen.

    The copy is independent: `model` is not changed, and changing it later does not change the copy. The result is
    a Module without parameters, for inference only: its outputs carry no gradient. It may be called from several
    threads at once, pickled and deep-copied (plans are made anew). ``print(fused.plan())`` shows what it does.

    Raises:
        TypeError: `model` is no Module, or takes or returns something else than tensors, plain values and
            dicts, lists and tuples of them.
        GraphError: the model is in training mode, or cannot be traced; the message says why.
    """
    fused = FusedModel(model)
    if example_input is not None:
        fused.plan(*(example_input if isinstance(example_input, tuple) else (example_input,)))
    return fused


class FusedModel(nn.Module):
    """What `fuse` returns; call it as the model. The plans of the last 8 input shapes are kept."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if isinstance(model, FusedModel):
            model = model._model
        if not isinstance(model, nn.Module):
            raise TypeError(f"fuse: expected an nn.Module, got {type(model).__name__}")
        _refuse_training(model)
        self.__dict__["_model"] = copy.deepcopy(model)  # not a submodule: nothing here is to be trained
        self._packed = Packed()
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._lock = threading.RLock()
        super().train(False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's output for these arguments; see `fuse`."""
        if onlooker.observer is not None or kernels.is_overridden(*kernels.kernel_names()):
            return self._model(*args, **kwargs)  # traced by an outer fuse, or made to show the user's own kernels
        arguments, tensors = _arguments(args, kwargs)
        if is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            raise GraphError(
                "fuse: a fused model is for inference and gives no gradient to its input, which requires grad; "
                "call it under no_grad(), or with x.detach()"
            )
        return self._plan_for(arguments, tensors).run([tensor._array for tensor in tensors])

    def plan(self, *args: Any, **kwargs: Any) -> Plan:
        """The plan for these arguments, made if need be; without arguments the one used last."""
        if args or kwargs:
            return self._plan_for(*_arguments(args, kwargs))
        if not self._plans:
            raise GraphError("plan: nothing was traced yet; call the fused model first, or plan(example_input)")
        return next(reversed(self._plans.values()))

    def _plan_for(self, arguments: Any, tensors: list[Tensor]) -> Plan:
        key = (key_of(arguments), *((tensor._array.shape, tensor._array.dtype) for tensor in tensors))
        with self._lock:  # tracing runs the model, which is not made for several threads
            plan = self._plans.get(key)
            if plan is None:
                plan = _new_plan(self._model, arguments, [tensor._array for tensor in tensors], self._packed)
                self._plans[key] = plan
                if len(self._plans) > PLANS:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(key)
        return plan

    # What a Module can do and this cannot

    def train(self, mode: bool = True) -> Self:
        """Refuses training mode."""
        if mode:
            raise GraphError("fuse: a fused model cannot be trained; train the model itself and fuse it again")
        return super().train(False)

    def _apply(self, fn: Any) -> NoReturn:
        raise DtypeError("fuse: a fused model keeps its dtype; convert the model itself and fuse it again")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._model,)

    def extra_repr(self) -> str:
        plans = [plan.title for plan in self._plans.values()] or ["no plan yet: it is made at the first call"]
        return "\n".join([type(self._model).__name__, *plans])


def _refuse_training(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if module.training:
            where = f"its module {name!r} ({type(module).__name__})" if name else f"{type(module).__name__}"
            raise GraphError(
                f"fuse: {where} is in training mode, where batch norm uses the batch's own statistics and dropout "
                "drops; call model.eval() first"
            )


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, list[Tensor]]:
    return taken_out((args, kwargs), "the call")


def _new_plan(model: nn.Module, arguments: Any, arrays: list[np.ndarray], packed: Packed) -> Plan:
    """Traces the model on `arrays` and on other numbers, plans, and compares the plan with the model."""
    trace = traced(model, arguments, arrays)
    generator = np.random.default_rng(0)
    try:
        again = traced(model, arguments, [other_numbers(array, generator) for array in arrays])
    except Exception as error:
        raise GraphError(
            "fuse: the model fails on other numbers of the same shapes, so what it does depends on the numbers: "
            f"{type(error).__name__}: {error}"
        ) from error
    changed = difference(trace, again)
    if changed is not None:
        raise GraphError(
            f"fuse: the model depends on the numbers it is given in a way that operations do not show: called with "
            f"two inputs of the same shapes, {changed}. (Branches on values, comparisons, indices computed from "
            "values, random draws and state kept between calls cannot be fused.)"
        )
    plan = Plan(trace, packed)
    _compare(plan, trace, arrays)
    return plan


def _compare(plan: Plan, trace: Trace, arrays: list[np.ndarray]) -> None:
    """Raises GraphError unless the plan gives what the model gave."""
    _, tensors = taken_out(plan.run(arrays), "the plan's output")
    for number, (tensor, expected) in enumerate(zip(tensors, trace.results)):
        error = _relative_error(tensor._array, expected)
        if not error <= AGREEMENT.get(expected.dtype, 0):
            raise GraphError(
                f"fuse: output {number} of shape {list(expected.shape)} differs from the model's by {error:.1e} of "
                "its magnitude; the model does something to memory that its operations do not show"
            )


def _relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """max |actual - expected| / max |expected|, over what is finite in both; infinite if dtype or shape differ."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return np.inf
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(actual, expected) else np.inf
    with np.errstate(all="ignore"):
        finite = np.isfinite(actual) & np.isfinite(expected)
        if not np.array_equal(np.isnan(actual), np.isnan(expected)):
            return np.inf
        largest = np.abs(expected, where=finite, out=np.zeros_like(expected)).max(initial=0)
        worst = np.abs(np.subtract(actual, expected, where=finite, out=np.zeros_like(expected))).max(initial=0)
        return float(worst / largest) if worst else 0.0
