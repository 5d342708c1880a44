"""What a model does: every operation of one call, the values it reads and makes, and the constants it uses.

The model runs as it is, on copies of its inputs and unrecorded by the tape, while a `Tracer` looks on
(`tinynet.tape.observe`). A value that does not come from the inputs through operations is a constant: a weight,
a buffer, a tensor made from nothing. In-place operations make a new value of the same tensor, so that each value
is written once ("static single assignment"); a view of what was changed meanwhile is refused.

What an onlooker cannot see (Python reading a number and deciding by it, comparisons, NumPy) would be frozen into
the trace. So the model runs twice, the second time on other numbers of the same shapes: where the two traces
differ in an operation, a setting or a constant, the model cannot be fused, and the difference says why.
"""

from __future__ import annotations

import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinynet import Tensor, nn, no_grad
from tinynet.autograd.function import _FunctionOperation
from tinynet.errors import GraphError
from tinynet.fusion.structure import put_back, taken_out
from tinynet.ops.activation import Dropout
from tinynet.ops.normalization import BatchNorm
from tinynet.tape.observe import observed_by
from tinynet.tensor import wrap


@dataclass(eq=False)
class Value:
    """One array that depends on the inputs."""

    number: int
    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(eq=False)
class Constant:
    """An array that does not; `name` is that of a parameter or buffer, or empty."""

    array: np.ndarray
    name: str = ""


Operand = Value | Constant | None


@dataclass(eq=False)
class Record:
    """One operation that ran.

    `overwrites`: its forward writes into its first input. `is_view`: its results may show its inputs' memory.
    """

    operation: Any
    inputs: tuple[Operand, ...]
    settings: dict[str, Any]
    outputs: tuple[Value, ...]
    overwrites: bool = False
    is_view: bool = False


@dataclass
class Trace:
    """One call. `template` is the result's structure, `outputs` the operands in its places."""

    inputs: list[Value]
    records: list[Record]
    outputs: list[Value | Constant]
    template: Any
    results: list[np.ndarray] = field(repr=False)


class _Memory:
    """Numbers that several arrays may show; `version` counts how often they were changed in place."""

    def __init__(self) -> None:
        self.version = 0


class _Holder:
    """What an array (and the tensors over it) holds now."""

    def __init__(self, value: Value | Constant, memory: _Memory) -> None:
        self.memory = memory
        self.hold(value)

    def hold(self, value: Value | Constant) -> None:
        self.value = value
        self.version = self.memory.version


class Tracer:
    """Writes a trace down. Knows arrays and tensors by identity, weakly: activations live no longer for it."""

    def __init__(self, model: nn.Module) -> None:
        self.records: list[Record] = []
        self.values = 0
        self._holders: dict[int, tuple[weakref.ref, _Holder]] = {}
        self._constants: dict[int, tuple[Any, Constant]] = {}
        self._recent: deque[Any] = deque(maxlen=4)  # what a Function made, until it is handed on
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            self._constants[id(tensor._array)] = tensor._array, Constant(tensor._array, name)

    def new_value(self, tensor: Tensor, memory: _Memory | None = None) -> Value:
        """A value that `tensor` holds from now on, in memory of its own or in `memory`."""
        value = self._next_value(tensor._array)
        self._know(tensor, _Holder(value, memory or _Memory()))
        return value

    def operand(self, tensor: Tensor) -> Value | Constant:
        """What `tensor` holds."""
        holder = self._holder(tensor)
        if holder is None:
            return self._constant(tensor._array)
        if holder.version != holder.memory.version:
            raise GraphError(
                f"fuse: a tensor of shape {list(tensor.shape)} shares memory with one that the model changed in "
                "place, and is read after that; clone() it before the change"
            )
        return holder.value

    # What an observer is told

    def applied(self, operation: Any, inputs: tuple, settings: dict[str, Any], outputs: tuple) -> None:
        if issubclass(operation, _FunctionOperation):
            self._handed_on(operation, outputs)
            return
        self._recent.append(outputs)
        operands = tuple(None if tensor is None else self.operand(tensor) for tensor in inputs)
        if not any(isinstance(operand, Value) for operand in operands):
            return  # made of constants: a constant
        _refuse_unfit(operation, settings)
        sources = [tensor for tensor in inputs if tensor is not None and self._holder(tensor) is not None]
        shown = next((t for t in sources if any(np.may_share_memory(t._array, o._array) for o in outputs)), None)
        holder = None if shown is None else self._holder(shown)
        memory = None if holder is None else holder.memory
        values = tuple([self.new_value(output, memory) for output in outputs])
        is_view = operation.view or shown is not None
        self.records.append(Record(operation, operands, settings, values, is_view=is_view))

    def _handed_on(self, operation: Any, outputs: tuple) -> None:
        """An autograd.Function returns what the operations in its forward made: no operation of its own."""
        for output in outputs:
            holder = self._holder(output)
            if holder is None:
                raise GraphError(
                    f"fuse: the autograd.Function {operation.name} computes outside of tinynet's operations (or "
                    "returns its input), which cannot be traced"
                )
            self._know(output, holder)

    def changing(self, target: Tensor) -> None:
        if self._holder(target) is None:
            self._know(target, _Holder(Constant(target._array.copy()), _Memory()))

    def changed(self, operation: Any, inputs: tuple, settings: dict[str, Any], written: bool) -> None:
        target = inputs[0]
        operands = tuple([self.operand(tensor) for tensor in inputs])
        holder = self._holder(target)
        assert holder is not None  # since `changing`
        holder.memory.version += 1
        self._constants.pop(id(target._array), None)
        if not any(isinstance(operand, Value) for operand in operands):
            holder.hold(Constant(target._array.copy()))
            return
        _refuse_unfit(operation, settings)
        value = self._next_value(target._array)
        holder.hold(value)
        overwrites = written and "out" not in settings
        settings = {name: setting for name, setting in settings.items() if name != "out"}
        self.records.append(Record(operation, operands, settings, (value,), overwrites))

    # Who holds what

    def _next_value(self, array: np.ndarray) -> Value:
        self.values += 1
        return Value(self.values - 1, array.shape, array.dtype)

    def _know(self, tensor: Tensor, holder: _Holder) -> None:
        for thing in (tensor, tensor._array):
            self._holders[id(thing)] = weakref.ref(thing), holder

    def _find(self, thing: Any) -> _Holder | None:
        reference, holder = self._holders.get(id(thing), (None, None))
        return holder if reference is not None and reference() is thing else None  # ids are used again

    def _holder(self, tensor: Tensor) -> _Holder | None:
        """By its array, which detached tensors share; by itself where the array was laid out anew since.

        Both may be new: a tensor that was laid out anew *for* this one still tells.
        """
        array = tensor._array
        holder = self._find(array) or self._find(tensor)
        if holder is None and id(array) not in self._constants:
            for reference, known in self._holders.values():
                thing = reference()
                if isinstance(thing, Tensor) and thing._array is array:
                    return known
        return holder

    def _constant(self, array: np.ndarray) -> Constant:
        known = self._constants.get(id(array))
        if known is None:
            known = self._constants[id(array)] = array, Constant(array.copy())
        return known[1]


def _refuse_unfit(operation: Any, settings: dict[str, Any]) -> None:
    """What is no function of its inputs alone."""
    if issubclass(operation, Dropout):
        raise GraphError("fuse: dropout is active (F.dropout's `training` is True by default); pass training=False")
    if issubclass(operation, BatchNorm) and settings["training"] and settings["running_mean"] is not None:
        raise GraphError("fuse: batch_norm runs with training=True and would move its running statistics at each call")


def traced(model: nn.Module, arguments: Any, arrays: list[np.ndarray]) -> Trace:
    """Calls the model with `arrays` (which are copied) in the places of ``arguments = (args, kwargs)``."""
    tracer = Tracer(model)
    tensors = [wrap(array.copy()) for array in arrays]
    inputs = [tracer.new_value(tensor) for tensor in tensors]
    args, kwargs = put_back(arguments, tensors)
    with no_grad(), observed_by(tracer):
        output = model(*args, **kwargs)
    template, found = taken_out(output, "the model's output")
    outputs = [tracer.operand(tensor) for tensor in found]
    return Trace(inputs, tracer.records, outputs, template, [tensor._array for tensor in found])


def other_numbers(array: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Other values for an input, as plausible as its own: within its range, integers shuffled."""
    if array.dtype.kind != "f":
        return generator.permutation(array.reshape(-1)).reshape(array.shape)
    low, high = (array.min(), array.max()) if array.size else (0, 1)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        return generator.standard_normal(array.shape).astype(array.dtype)
    return generator.uniform(low, high, array.shape).astype(array.dtype)


def difference(first: Trace, second: Trace) -> str | None:
    """What the model did differently in two calls with the same shapes; None if nothing."""
    for one, other in zip(first.records, second.records):
        name = one.operation.name
        if one.operation is not other.operation:
            return f"{name} ran in one, {other.operation.name} in the other"
        if [value.shape for value in one.outputs] != [value.shape for value in other.outputs]:
            return f"{name} made {list(one.outputs[0].shape)} in one and {list(other.outputs[0].shape)} in the other"
        if not same(one.settings, other.settings):
            return f"{name} had other settings (or indices)"
        for position, operands in enumerate(zip(one.inputs, other.inputs)):
            if not _same_operand(*operands):
                return f"{name} read another constant (input {position})"
    if len(first.records) != len(second.records):
        return f"there were {len(first.records)} operations in one and {len(second.records)} in the other"
    if not same(first.template, second.template) or len(first.outputs) != len(second.outputs):
        return "the outputs have another structure or other plain values"
    if not all(map(_same_operand, first.outputs, second.outputs)):
        return "an output was another constant"
    return None


def _same_operand(one: Operand, other: Operand) -> bool:
    if isinstance(one, Value) and isinstance(other, Value):
        return one.number == other.number
    if isinstance(one, Constant) and isinstance(other, Constant):
        return same(one.array, other.array)
    return one is other


def same(one: Any, other: Any) -> bool:
    """Whether settings or structures are equal, arrays and NaN included."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (one != one and other != other)
