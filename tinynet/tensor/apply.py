"""``apply``: the one way from an Operation over arrays to Tensors and the tape."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..errors import DtypeError, GraphError
from ..ops import arithmetic
from ..tape import DISCARD, record
from ..tape.grad_mode import state as grad_mode
from ..tape.observe import state as onlooker
from .layout import exposed, hide_layout
from .variable import SCALARS, Variable, as_array, as_tensor, derived, wrap


@np.errstate(all="ignore")  # inf and NaN are values, as in torch (a decorator costs a quarter of a with block)
def apply(operation, *inputs, **settings):
    """Runs an Operation on Tensors (None for a missing one) and records it if a gradient will be wanted.

    Returns a Tensor, or a tuple of them where forward returned several arrays. Integer results carry no
    gradient.
    """
    node: Any = record(operation, inputs) if grad_mode.enabled else None
    if operation.view:
        exposed(inputs[0])
    arrays = [None if tensor is None else tensor._array for tensor in inputs]
    result = operation.forward(DISCARD if node is None else node, *arrays, **settings)
    outputs = tuple([wrap(array) for array in result]) if isinstance(result, tuple) else (wrap(result),)
    if operation.view and share_version(outputs[0], inputs[0]):
        pass
    else:
        for tensor in outputs:
            if tensor._array.ndim > 1:
                hide_layout(tensor, inputs)
    if node is not None:
        node.outputs = tuple([(tensor._array.shape, tensor._array.dtype) for tensor in outputs])
        for index, tensor in enumerate(outputs):
            if tensor._array.dtype.kind == "f":
                tensor._node, tensor._index, tensor._requires_grad = node, index, True
        if node.saved is not None:
            node.watch((*inputs, *outputs))
    if onlooker.observer is not None:
        onlooker.observer.applied(operation, inputs, settings, outputs)
    return outputs if isinstance(result, tuple) else outputs[0]


def share_version(result: Variable, source: Variable) -> bool:
    """A view counts its in-place changes together with the tensor whose memory it shows; returns if it is one."""
    shared = result._array.base is not None and np.may_share_memory(result._array, source._array)
    if shared:
        result._version_counter = source._version_counter
        result._seen_rebase = source._seen_rebase
    return shared


@np.errstate(all="ignore")
def apply_inplace(target: Variable, operation, *others, **settings) -> Any:
    """Runs an Operation whose result replaces the values of ``target``, its first input, in place.

    An Operation may write into the target itself and return that array. Raises GraphError on a leaf that
    requires grad (or a view of one) while recording, and on read-only or expanded memory.
    """
    inputs = (target, *others)
    counter = target._version_counter
    node: Any = record(operation, inputs) if grad_mode.enabled else None
    if node is not None and ((target._node is None and target._requires_grad) or counter.guarded):
        raise GraphError(
            f"{operation.name}: a leaf that requires grad (or a view of it) cannot be changed in place while "
            "the tape records; do it under no_grad(), or on a copy"
        )
    if not target._array.flags.writeable:
        raise GraphError(
            f"{operation.name}: this tensor of shape {list(target.shape)} is read-only (an expanded view or a "
            "read-only array); clone() it first"
        )
    if onlooker.observer is not None:
        onlooker.observer.changing(target)
    arrays = [tensor._array for tensor in inputs]
    result = operation.forward(DISCARD if node is None else node, *arrays, **settings)
    written = result is target._array
    if node is not None and not written and node.saved is not None:
        node.keep_copy_of(target._array)
        node.watch(inputs)
    if not written:
        target._array[...] = result
    counter.bump()
    if node is not None:
        if written and node.saved is not None:
            node.watch(inputs)
        node.outputs = ((target._array.shape, target._array.dtype),)
        target._node, target._index, target._requires_grad = node, 0, True
        counter.rebased += 1
        target._seen_rebase = counter.rebased
    if onlooker.observer is not None:
        onlooker.observer.changed(operation, inputs, settings, written)
    return target


def common_dtype(a, b) -> np.dtype:
    """The dtype of ``a op b`` where one at least is a Variable."""
    if isinstance(b, SCALARS):
        return dtypes.with_scalar(a._array.dtype, b)
    if isinstance(a, SCALARS):
        return dtypes.with_scalar(b._array.dtype, a)
    return dtypes.of_arrays(values_of(a), values_of(b))


def operand(value, dtype: np.dtype) -> Any:
    if isinstance(value, Variable):
        return value if value._array.dtype == dtype else apply(arithmetic.Cast, value, dtype=dtype)
    return wrap(np.asarray(as_array(value) if not isinstance(value, SCALARS) else value, dtype))


def values_of(value) -> np.ndarray:
    """The array of an operand, to be read only."""
    return value._array if isinstance(value, Variable) else as_array(value)


def variables(*operands) -> list[Variable]:
    return [value for value in operands if isinstance(value, Variable)]


def binary(operation, a, b, floating: bool = False):
    """Applies an operation of two operands after bringing them to their common dtype."""
    if isinstance(a, Variable) and isinstance(b, Variable):
        dtype = a._array.dtype
        if dtype is b._array.dtype and (dtype.kind == "f" or not floating):
            return apply(operation, a, b)
    if not is_operand(a) or not is_operand(b):
        return NotImplemented
    dtype = common_dtype(a, b)
    if floating and dtype.kind != "f":
        dtype = dtypes.default_numpy_dtype()
    return apply(operation, operand(a, dtype), operand(b, dtype))


def is_operand(value) -> bool:
    return isinstance(value, (Variable, np.ndarray, *SCALARS))


def compare(function, a: Variable, b):
    if not is_operand(b):
        return NotImplemented
    dtype = common_dtype(a, b)
    left, right = a._array.astype(dtype, copy=False), operand(b, dtype)._array
    arithmetic.check_broadcast(function.__name__, left, right)
    return derived(function(left, right), *variables(a, b))


def logical(symbol: str, function, *operands):
    """A bitwise function of tensors, arrays or numbers, booleans or integers all."""
    arrays = [values_of(value) for value in operands]
    for array in arrays:
        if array.dtype.kind not in "biu":
            raise DtypeError(f"{symbol}: expected a boolean or integer tensor, got {array.dtype.name}")
    return derived(function(*arrays), *variables(*operands))


def floating_or_default(tensor: Variable) -> Any:
    return tensor if tensor._array.dtype.kind == "f" else tensor.to(dtypes.get_default_dtype())


def undifferentiable(name: str, function, a, b) -> Any:
    """An operation without a gradient here; refused where one would be wanted."""
    if not is_operand(a) or not is_operand(b):
        return NotImplemented
    for side in (a, b):
        if isinstance(side, Variable) and side._requires_grad and grad_mode.enabled:
            raise GraphError(f"{name}: has no gradient in tinynet; detach() its operands")
    dtype = common_dtype(a, b)
    with np.errstate(divide="ignore", invalid="ignore"):
        return derived(function(operand(a, dtype)._array, operand(b, dtype)._array), *variables(a, b))


def step_function(function, tensor: Variable) -> Any:
    """A step function: its gradient is zero everywhere, as in torch."""
    return apply(arithmetic.StepFunction, tensor, function=function)


def where(condition, input=None, other=None):
    """``input`` where the condition holds, ``other`` elsewhere. Source: torch.where."""
    condition = as_tensor(condition)
    if input is None:
        return condition.nonzero(as_tuple=True)
    if condition._array.dtype != np.bool_:
        raise DtypeError(f"where: the condition must be boolean, got {condition.dtype}")
    if not isinstance(input, Variable) and not isinstance(other, Variable):
        input = as_tensor(input)
    dtype = common_dtype(input, other)
    return apply(arithmetic.Where, condition, operand(input, dtype), operand(other, dtype))
