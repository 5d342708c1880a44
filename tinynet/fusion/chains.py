"""From the trace to steps: which operations become one.

A chain begins at a convolution (or linear layer) and follows its value as long as exactly one operation reads it:
norms and other affine maps per channel are folded, one addition of another value becomes the residual, a ReLU ends
the chain. It is all of this, and nothing of it needs a name: the graph says what a block is.

Of two convolutions that meet in an addition (a residual block with a downsampling shortcut) the later one joins,
because it finds the other's result ready; so chains are followed from the last convolution to the first.
What no convolution takes along (a norm before a convolution, an addition of pooled values) makes chains of its own.
A step runs where its last operation ran, when all that it reads has been made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinynet.fusion.fold import ChannelMap, channel_map
from tinynet.fusion.steps import Convolution, Elementwise, Linear, Ordinary, Resampling, Settings, Step
from tinynet.fusion.trace import Constant, Operand, Record, Trace, Value
from tinynet.ops import checks, convolution, linear
from tinynet.ops.activation import ReLU
from tinynet.ops.arithmetic import Add, Clone
from tinynet.ops.pooling import AdaptiveAveragePool, AveragePool, MaxPool
from tinynet.ops.upsampling import Bilinear, Nearest

OUTSIDE = -1  # the number of a reader that is no record: the caller
RESAMPLING = (MaxPool, AveragePool, AdaptiveAveragePool, Nearest, Bilinear)


@dataclass
class _Chain:
    """What follows a value, up to `last`, the number of the record that made `value`."""

    value: Value
    last: int
    by: ChannelMap | None = None
    residual: Value | None = None
    relu: bool = False

    @property
    def settled(self) -> tuple[ChannelMap | None, bool, bool]:
        return self.by, self.residual is not None, self.relu

    def reads(self, *first: Value) -> tuple[Value, ...]:
        return first if self.residual is None else (*first, self.residual)


def steps_of(trace: Trace) -> tuple[list[Step], list[Value | Constant]]:
    """The steps in the order of execution, and what the model returns."""
    return _Chains(trace).steps()


class _Chains:
    def __init__(self, trace: Trace) -> None:
        self.same: dict[Value, Value] = {}  # copies need no step: nothing here writes into a value
        self.outputs = [self._resolved(operand) for operand in trace.outputs]
        self.records: list[Record] = []
        for record in trace.records:
            self._add(record)
        self.outputs = [self._resolved(operand) for operand in trace.outputs]
        self._drop_unused()
        self.readers: dict[Value, list[int]] = {}
        for number, record in enumerate(self.records):
            for operand in record.inputs:
                if isinstance(operand, Value):
                    self.readers.setdefault(operand, []).append(number)
        self.taken: set[int] = set()
        self.made: list[tuple[int, Step]] = []

    def _add(self, record: Record) -> None:
        inputs = tuple(None if operand is None else self._resolved(operand) for operand in record.inputs)
        if record.operation is Clone and isinstance(inputs[0], Value):
            self.same[record.outputs[0]] = inputs[0]
            return
        self.records.append(
            Record(record.operation, inputs, record.settings, record.outputs, record.overwrites, record.is_view)
        )

    def _resolved(self, operand: Value | Constant) -> Value | Constant:
        return self.same.get(operand, operand) if isinstance(operand, Value) else operand

    def _drop_unused(self) -> None:
        """Leaves out what no output depends on."""
        needed: set[Operand] = set(self.outputs)
        kept = []
        for record in reversed(self.records):
            if needed.intersection(record.outputs):
                needed.update(record.inputs)
                kept.append(record)
        self.records = kept[::-1]

    def steps(self) -> tuple[list[Step], list[Value | Constant]]:
        for number in reversed(range(len(self.records))):
            if self.records[number].operation is convolution.Convolution:
                self._begin_at_convolution(number)
        for number, record in enumerate(self.records):
            if number not in self.taken:
                self._begin_at(number, record)
        return [step for _, step in sorted(self.made, key=lambda made: made[0])], self.outputs

    def _begin_at_convolution(self, number: int) -> None:
        record = self.records[number]
        x, weight, bias = (*record.inputs, None)[:3]
        if not isinstance(x, Value) or not isinstance(weight, Constant) or isinstance(bias, Value):
            return
        chain = self._followed(_Chain(record.outputs[0], number), joins=True)
        step = Convolution(chain.reads(x), (chain.value,), *chain.settled, weight, bias, _settings(record))
        self._make(number, chain, step)

    def _begin_at(self, number: int, record: Record) -> None:
        if self._begin_at_linear(number, record) or self._begin_elementwise(number, record):
            return
        x = record.inputs[0]
        if record.operation in RESAMPLING and isinstance(x, Value) and not self._reads(record.outputs[1:]):
            step: Step = Resampling((x,), record.outputs[:1], record)
        else:
            values = tuple(operand for operand in record.inputs if isinstance(operand, Value))
            step = Ordinary(values, record.outputs, record, record.inputs)
        self._make(number, _Chain(record.outputs[0], number), step)

    def _begin_at_linear(self, number: int, record: Record) -> bool:
        x, weight, bias = (*record.inputs, None, None)[:3]
        if record.operation is not linear.Linear or not isinstance(x, Value) or not isinstance(weight, Constant):
            return False
        if isinstance(bias, Value):
            return False
        chain = _Chain(record.outputs[0], number)
        if len(x.shape) == 2:  # the axis of the channels must be the last
            self._followed(chain, joins=False)
        self._make(number, chain, Linear(chain.reads(x), (chain.value,), *chain.settled, weight, bias))
        return True

    def _begin_elementwise(self, number: int, record: Record) -> bool:
        """A chain from one of the images that `record` reads, if `record` is what a chain may hold."""
        for x in record.inputs:
            if not isinstance(x, Value) or len(x.shape) != 4 or x.dtype not in (np.float32, np.float64):
                continue
            chain = _Chain(x, number)
            if self._extend(chain, record, joins=True):
                self.taken.add(number)
                chain = self._followed(chain, joins=True)
                self._make(number, chain, Elementwise(chain.reads(x), (chain.value,), *chain.settled))
                return True
        return False

    def _make(self, number: int, chain: _Chain, step: Step) -> None:
        self.taken.add(number)
        self.made.append((chain.last, step))

    def _followed(self, chain: _Chain, joins: bool) -> _Chain:
        """The chain with all that may be done in the same pass."""
        while not chain.relu:
            reader, *others = self._reads((chain.value,))
            if others or reader == OUTSIDE or reader in self.taken:
                break  # somebody else needs the value, or another chain took its reader
            if not self._extend(chain, self.records[reader], joins):
                break
            chain.last = reader
            self.taken.add(reader)
        return chain

    def _extend(self, chain: _Chain, record: Record, joins: bool) -> bool:
        """Takes `record`, which reads the chain's value, into the chain if it may come next."""
        if record.operation is ReLU:
            chain.relu = True
        elif chain.residual is not None:
            return False
        elif (by := channel_map(record, chain.value)) is not None:
            chain.by = by if chain.by is None else chain.by.then(by)
        elif joins and (other := _joined(record, chain.value)) is not None:
            chain.residual = other
        else:
            return False
        chain.value = record.outputs[0]
        return True

    def _reads(self, values: tuple[Value, ...]) -> list[int]:
        """The numbers of the records that read these values, first `OUTSIDE` for what the model returns."""
        outside = [OUTSIDE for value in values if value in self.outputs]
        return outside + [number for value in values for number in self.readers.get(value, ())]


def _joined(record: Record, value: Value) -> Value | None:
    """The other side, if `record` adds `value` and a value of the same shape."""
    left, *rest = record.inputs
    if not issubclass(record.operation, Add) or not isinstance(left, Value) or not isinstance(rest[0], Value):
        return None
    other = rest[0] if left is value else left
    alike = other.shape == value.shape and other.dtype == value.dtype and len(value.shape) == 4
    return other if alike else None


def _settings(record: Record) -> Settings:
    given = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **record.settings}
    stride, dilation = (checks.pair("conv2d", name, given[name], minimum=1) for name in ("stride", "dilation"))
    return stride, checks.pair("conv2d", "padding", given["padding"], minimum=0), dilation, given["groups"]
