"""A plan: one model at one input shape as a flat list of steps over prepared memory.

Every value has a slot in a list. A call takes an idle list of slots (with an arena of its own, so calls from
several threads do not meet), puts its inputs in, runs step after step, takes the outputs out, and hands the list
back. Between the steps nothing is checked, chosen or allocated, as far as the steps were planned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinynet import Tensor
from tinynet.fusion.chains import steps_of
from tinynet.fusion.memory import Arena, Memory
from tinynet.fusion.steps import Convolution, Packed, Step
from tinynet.fusion.structure import put_back
from tinynet.fusion.trace import Constant, Trace, Value
from tinynet.tensor import derived

IDLE_ARENAS = 2  # kept for the next calls; more exist while more threads run


class _Instruction(NamedTuple):
    """slots[target] = function(slots of reads); then `ended` slots are let go."""

    function: Callable[..., Any]
    reads: tuple[int, ...]
    target: int
    ended: tuple[int, ...]


class _Result(NamedTuple):
    """An output of the model: what is in a slot, or a constant; copied where the caller may not have it itself."""

    slot: int
    constant: np.ndarray | None
    copied: bool


class Plan:
    """The steps of one trace; ``print(plan)`` lists them.

    `steps` in the order of execution, `arena_bytes` of memory for the values in between, in `buffers` pieces.
    """

    def __init__(self, trace: Trace, packed: Packed) -> None:
        self.inputs = trace.inputs
        self.steps, self._outputs = steps_of(trace)
        self._template = trace.template
        self._memory = Memory(self.inputs, self.steps, self._outputs)
        self.arena_bytes = self._memory.nbytes
        self.buffers = len(self._memory.buffers)
        self._slots = {value: number for number, value in enumerate(self._values())}
        self._results = self._prepared_results()
        with np.errstate(all="ignore"):
            self._program = self._prepared_program(packed)
        planned = {slot for value, slot in self._slots.items() if self._memory.offset(value) is not None}
        self._passing = [slot for slot in self._slots.values() if slot not in planned]
        self._idle: list[list[Any]] = []

    def run(self, arrays: list[np.ndarray]) -> Any:
        """The model's output for these inputs, which have the shapes and dtypes of the trace's."""
        try:
            slots = self._idle.pop()
        except IndexError:  # a first call, or all others are in use
            slots = self._new_slots()
        try:
            slots[: len(arrays)] = arrays
            with np.errstate(all="ignore"):
                for function, reads, target, ended in self._program:
                    slots[target] = function(*[slots[slot] for slot in reads])
                    for slot in ended:
                        slots[slot] = None
            return put_back(self._template, [self._taken(slots, result) for result in self._results])
        finally:
            for slot in self._passing:
                slots[slot] = None
            if len(self._idle) < IDLE_ARENAS:
                self._idle.append(slots)

    def count(self, kind: type[Step] = Step) -> int:
        """How many steps are of this kind."""
        return sum(isinstance(step, kind) for step in self.steps)

    # Preparation

    def _values(self) -> list[Value]:
        return [*self.inputs, *(value for step in self.steps for value in step.outputs)]

    def _prepared_results(self) -> list[_Result]:
        results, seen = [], set()
        for output in self._outputs:
            if isinstance(output, Constant):
                results.append(_Result(-1, output.array, True))
            else:
                shared = output in self._memory.views or output in self.inputs or output in seen
                results.append(_Result(self._slots[output], None, shared))
            seen.add(output)
        return results

    def _prepared_program(self, packed: Packed) -> list[_Instruction]:
        last = {value: number for number, step in enumerate(self.steps) for value in (*step.reads, *step.outputs)}
        for output in self._outputs:
            if isinstance(output, Value):
                last.pop(output, None)
        program = []
        for number, step in enumerate(self.steps):
            reads = tuple(self._slots[value] for value in step.reads)
            target = self._slots[step.outputs[0]]
            ended = tuple(
                self._slots[value] for value in {*step.reads, *step.outputs}
                if last.get(value) == number and self._memory.offset(value) is None
            )  # fmt: skip
            function = step.function(packed)
            if step.planned:
                program.append(_Instruction(function, (*reads, target), target, ended))
            elif len(step.outputs) == 1:
                program.append(_Instruction(function, reads, target, ended))
            else:
                program += self._unpacked(function, reads, step, ended)
        return program

    def _unpacked(self, function, reads: tuple[int, ...], step: Step, ended: tuple[int, ...]) -> list[_Instruction]:
        """Several results: all go to the slot of the last one, and from there to their own."""
        slots = [self._slots[value] for value in step.outputs]
        together = slots[-1]
        picks = [
            _Instruction(lambda results, place=place: results[place], (together,), slot, ())
            for place, slot in enumerate(slots)
        ]
        picks[-1] = picks[-1]._replace(ended=ended)
        return [_Instruction(function, reads, together, ()), *picks]

    def _new_slots(self) -> list[Any]:
        slots: list[Any] = [None] * len(self._slots)
        arena = Arena(self.arena_bytes)
        for value, slot in self._slots.items():
            offset = self._memory.offset(value)
            if offset is not None:
                slots[slot] = arena.array(value, offset)
        return slots

    @staticmethod
    def _taken(slots: list[Any], result: _Result) -> Tensor:
        array = slots[result.slot] if result.constant is None else result.constant
        return derived(array.copy() if result.copied else array)

    # For the reader

    @property
    def title(self) -> str:
        """The input shapes, and the counts."""
        shapes = ", ".join(str(list(value.shape)) for value in self.inputs)
        joins, relus = (sum(getattr(step, name, False) for step in self.steps) for name in ("joins", "relu"))
        return (
            f"{shapes}: {len(self.steps)} steps, {self.count(Convolution)} convolutions, {joins} joins and {relus} "
            f"ReLUs in one pass with others, {self.buffers} buffers in {self.arena_bytes / 1e6:.1f} MB"
        )

    def __str__(self) -> str:
        names = {value: f"input {number}" if number else "input" for number, value in enumerate(self.inputs)}
        names.update((value, str(number)) for number, step in enumerate(self.steps, 1) for value in step.outputs)
        rows = [("step", "does", "weights", "reads", "makes", "kept at")]
        for number, step in enumerate(self.steps, 1):
            reads = " + ".join(names[value] for value in step.reads)
            makes = ", ".join(str(list(value.shape)) for value in step.outputs)
            rows.append((str(number), step.title, step.label, reads, makes, self._where(step)))
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        given = ", ".join(names[output] if isinstance(output, Value) else "a constant" for output in self._outputs)
        return "\n".join([self.title, *lines, f"returns {given}"])

    def _where(self, step: Step) -> str:
        if not step.planned:
            return "a view" if step.is_view else "new memory"
        offset = self._memory.offset(step.outputs[0])
        return "new memory" if offset is None else f"arena + {offset / 1024:,.0f} KiB"
