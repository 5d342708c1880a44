"""Two models side by side, layer by layer: where do they begin to differ?

The reference may be another tinynet model or a torch one; torch itself is only touched if a torch model is given.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from html import escape
from typing import Any

import numpy as np

import tinynet
from tinynet import nn
from tinynet.inspect.describe import by
from tinynet.inspect.trace import labelled, replaced

# Largest error allowed, as a fraction of the reference's largest magnitude (torch's own float32 results differ
# by up to a tenth of this between its code paths); gradients add up more rounding.
TOLERANCE = {"float32": 1e-4, "float64": 1e-8}
GRADIENT_TOLERANCE = {"float32": 1e-3, "float64": 1e-8}
# A tensor smaller than this counts as of this size: sums that cancel on paper leave rounding behind. A gradient
# is measured against the largest of its layer, because a bias before a batch norm has none but rounding.
ZERO = {"float32": 1e-6, "float64": 1e-14}
GRADIENT_ZERO = {"float32": 1e-4, "float64": 1e-6}
SHOWN = 12  # rows in the printed report before and after the first divergence

INPUT, OUTPUT, BUFFER, GRADIENT = "input", "output", "buffer", "gradient"


@dataclass(frozen=True)
class Row:
    """One tensor of both models.

    `error` is the largest difference over the reference's largest magnitude, infinite where dtype or shape differ
    or one has NaN or infinity where the other has not. `what` is "output", "buffer", "gradient", or "input" for a
    tensor that no layer returned: what the calling module's own forward computed between its layers.
    """

    name: str
    what: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    error: float
    allowed: float
    problem: str = ""

    @property
    def agrees(self) -> bool:
        return self.error <= self.allowed

    def __str__(self) -> str:
        return f"{self.name or 'the model'} ({self.kind}, {self.what} {by(self.shape)} {self.dtype}): {self.verdict}"

    @property
    def verdict(self) -> str:
        """How they agree or differ, in words."""
        if self.problem:
            return self.problem
        return f"relative error {self.error:.1e}, allowed {self.allowed:.0e}"


@dataclass(frozen=True)
class Comparison:
    """What `compare` returns; printed it is a table around the first divergence.

    Attributes:
        rows: inputs and outputs of layers in the order of execution, then buffers, then gradients, those of the
            last layers first.
        missing: layers or parameters that only one of the models has (or calls as often).
        reason: what is known about the cause of the first divergence.
    """

    rows: tuple[Row, ...]
    missing: tuple[str, ...] = ()
    reason: str = ""

    @property
    def first_divergence(self) -> Row | None:
        """The first row that does not agree, or None."""
        return next((row for row in self.rows if not row.agrees), None)

    @property
    def agrees(self) -> bool:
        """Whether every tensor agrees and no layer is missing on either side."""
        return self.first_divergence is None and not self.missing

    @property
    def worst(self) -> Row | None:
        """The row nearest to its limit, or furthest beyond it."""
        return max(self.rows, key=lambda row: row.error / row.allowed, default=None)

    def __str__(self) -> str:
        rows = self._shown()
        table = [_HEAD, *(_cells(row) for row in rows)]
        widths = [max(len(line[column]) for line in table) for column in range(len(_HEAD))]
        lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in table]
        lines.insert(1, "─" * max(map(len, lines)))
        if len(rows) < len(self.rows):
            which = "around the first divergence" if self.first_divergence else "nearest to their limits"
            lines.append(f"({len(rows)} of {len(self.rows)} tensors, those {which}; .rows has all)")
        return "\n".join([*lines, "", *self.conclusion])

    __repr__ = __str__

    @property
    def conclusion(self) -> list[str]:
        """The result in a few lines."""
        lines = [f"only on one side: {name}" for name in self.missing[:SHOWN]]
        if len(self.missing) > SHOWN:
            lines.append(f"… and {len(self.missing) - SHOWN} more that only one side has")
        first, worst = self.first_divergence, self.worst
        if first is not None:
            beyond = sum(not row.agrees for row in self.rows)
            lines.append(f"first divergence: {first}")
            lines += [f"  {self.reason}"] if self.reason else []
            lines.append(f"{beyond} of {len(self.rows)} tensors differ")
        elif worst is None:
            lines.append("nothing to compare: the models share no layer's name")
        else:
            lines.append(f"all {len(self.rows)} tensors agree; the nearest to its limit is {worst}")
        return lines

    def _shown(self) -> Sequence[Row]:
        if len(self.rows) <= 2 * SHOWN:
            return self.rows
        first = self.first_divergence
        if first is None:
            return sorted(self.rows, key=lambda row: row.error / row.allowed)[-2 * SHOWN :][::-1]
        place = self.rows.index(first)
        return self.rows[max(place - SHOWN, 0) : place + SHOWN]

    def _repr_html_(self) -> str:
        head = "".join(f'<th style="text-align:left">{name}</th>' for name in _HEAD)
        body = "".join(
            "<tr>" + "".join(f'<td style="text-align:left">{escape(text)}</td>' for text in _cells(row)) + "</tr>"
            for row in self._shown()
        )
        conclusion = "<br>".join(f"<b>{escape(line)}</b>" for line in self.conclusion)
        return f"<div>{conclusion}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


_HEAD = ("", "layer", "kind", "tensor", "shape", "dtype", "error")


def _cells(row: Row) -> tuple[str, ...]:
    mark = "✓" if row.agrees else "✗"
    error = row.problem or f"{row.error:.1e}"
    return (mark, row.name or "(the model)", row.kind, row.what, by(row.shape), row.dtype, error)


@dataclass
class Record:
    """All that one model computed, by (what, name) in the order of execution; `kinds` are the layers' classes."""

    tensors: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    def keep(self, what: str, name: str, value: Any) -> np.ndarray:
        """Notes a tensor as it is now; later changes in place do not reach the copy."""
        array = self.tensors[what, name] = _copied(value)
        return array


def compare(
    model: nn.Module, reference: Any, *inputs: Any, gradients: bool = False, tolerance: float | None = None
) -> Comparison:
    """Runs both models on the same inputs and compares every layer's output, in the order of execution.

    Both run in the mode they are in; their buffers (running statistics) are compared and put back afterwards.

    Args:
        reference: a tinynet or torch module whose layers have the same names.
        inputs: arguments of both models: tinynet tensors or arrays, or dicts, lists and tuples of them.
        gradients: compare also the parameters' gradients, for fixed random gradients of the outputs.
        tolerance: the relative error allowed for everything; by default 1e-4 in float32 (1e-3 for gradients)
            and 1e-8 in float64.

    Raises:
        ValueError: one model in training mode and the other in evaluation mode.
    """
    if model.training != reference.training:
        modes = ["training" if side.training else "evaluation" for side in (model, reference)]
        raise ValueError(f"compare: the model is in {modes[0]} mode, the reference in {modes[1]} mode")
    arrays = replaced(inputs, lambda tensor: tensor.detach().numpy())
    expected = record(reference, arrays, gradients)
    return match(record(model, arrays, gradients), expected, tolerance)


def record(model: Any, inputs: tuple[Any, ...], gradients: bool = False) -> Record:
    """Calls a tinynet or torch model on arrays and keeps what every module returned.

    A module called several times has its calls counted: ``relu``, ``relu #2``. With `gradients` also the
    gradients of the parameters, for gradients of the outputs drawn from their names.
    """
    library: Any = tinynet if isinstance(model, nn.Module) else _torch_of(model)
    kept = Record(weights={name: _copied(value) for name, value in model.state_dict().items()})
    arguments = replaced(inputs, lambda array: library.from_numpy(array.copy()), np.ndarray)
    with _buffers_restored(model, library), _Listener(kept, library).listening(model):
        with library.set_grad_enabled(gradients):
            output = model(*arguments)
        for name, buffer in model.named_buffers():
            kept.keep(BUFFER, name, buffer)
        for name, gradient in _gradients(model, output, library) if gradients else ():
            kept.keep(GRADIENT, name, gradient)
    for path, module in model.named_modules():
        for name, _ in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            kept.kinds[f"{path}.{name}" if path else name] = type(module).__name__
    return kept


def _torch_of(model: Any) -> Any:
    """The torch package, if `model` is one of its modules; nothing is imported that is not there already."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        raise TypeError(f"compare: expected a tinynet or torch module, got {type(model).__name__}")
    return torch


class _Listener:
    """Hooks on every module that keep what goes in and out; tensors already kept are not kept again."""

    def __init__(self, kept: Record, library: Any) -> None:
        self.kept = kept
        self.tensor = library.Tensor
        self.calls: dict[str, int] = {}
        self.running: list[str] = []
        self.known: dict[int, tuple[Any, int]] = {}  # tensors (kept alive, so that ids stay theirs) and versions

    @contextmanager
    def listening(self, model: Any) -> Iterator[None]:
        with ExitStack() as stack:
            for path, module in model.named_modules():
                before, after = module.register_forward_pre_hook, module.register_forward_hook
                stack.callback(before(partial(self._begin, path), with_kwargs=True).remove)
                stack.callback(after(self._end).remove)
            yield

    def _begin(self, path: str, module: Any, args: Any, kwargs: Any) -> None:
        count = self.calls[path] = self.calls.get(path, 0) + 1
        name = path if count == 1 else f"{path} #{count}"
        self.running.append(name)
        values = (*args, *kwargs.values())
        for label, tensor in labelled(values[0] if len(values) == 1 else values, self.tensor):
            known = self.known.get(id(tensor))
            if known is None or known[1] != tensor._version:
                self._keep(INPUT, f"{name}{label}", module, tensor)

    def _end(self, module: Any, args: Any, output: Any) -> None:
        name = self.running.pop()
        for label, tensor in labelled(output, self.tensor):
            self._keep(OUTPUT, f"{name}{label}", module, tensor)

    def _keep(self, what: str, name: str, module: Any, tensor: Any) -> None:
        self.kept.keep(what, name, tensor)
        self.kept.kinds[name] = type(module).__name__
        self.known[id(tensor)] = (tensor, tensor._version)


@contextmanager
def _buffers_restored(model: Any, library: Any) -> Iterator[None]:
    before = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with library.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def _gradients(model: Any, output: Any, library: Any) -> list[tuple[str, Any]]:
    """The parameters' gradients, the last layers' first; nobody's ``.grad`` is touched."""
    results = [(label, t) for label, t in labelled(output, library.Tensor) if t.requires_grad]
    parameters = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    cotangents = []
    for label, tensor in results:
        noise = generator(f"gradient of output {label}").standard_normal(tuple(tensor.shape))
        cotangents.append(library.from_numpy(np.asarray(noise)).to(tensor.dtype))
    found = library.autograd.grad(
        [tensor for _, tensor in results], [p for _, p in parameters], cotangents, allow_unused=True
    )
    return [(name, grad) for (name, _), grad in reversed(list(zip(parameters, found))) if grad is not None]


def generator(name: str, seed: int = 0) -> np.random.Generator:
    """A generator that depends on a name and a seed alone, the same in every process."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def match(actual: Record, expected: Record, tolerance: float | None = None) -> Comparison:
    """Compares two records tensor by tensor."""
    rows: list[Row] = []
    missing: list[str] = []
    largest = _largest_gradients(expected)
    for key, ours in actual.tensors.items():
        what, name = key
        if key in expected.tensors:
            theirs, kind = expected.tensors[key], actual.kinds.get(name, "")
            scale = largest.get(name.rpartition(".")[0], 0.0) if what == GRADIENT else 0.0
            rows.append(_row(name, what, kind, ours, theirs, tolerance, scale))
        else:
            missing.append(f"{what} of {name or 'the model'} (in the model, not in the reference)")
    for what, name in expected.tensors.keys() - actual.tensors.keys():
        missing.append(f"{what} of {name or 'the model'} (in the reference, not in the model)")
    comparison = Comparison(tuple(rows), tuple(sorted(missing)))
    first = comparison.first_divergence
    if first is None:
        return comparison
    return replace(comparison, reason=_reason(first, comparison.rows, actual, expected))


def _largest_gradients(kept: Record) -> dict[str, float]:
    """The largest magnitude among each layer's gradients."""
    largest: dict[str, float] = {}
    for (what, name), array in kept.tensors.items():
        if what == GRADIENT:
            layer, magnitudes = name.rpartition(".")[0], np.abs(array[np.isfinite(array)])
            largest[layer] = max(largest.get(layer, 0.0), float(magnitudes.max(initial=0.0)))
    return largest


def _row(
    name: str, what: str, kind: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float | None, scale: float = 0.0
) -> Row:
    """`scale` is the largest magnitude around, against which a tensor may be nothing but rounding."""
    limits = GRADIENT_TOLERANCE if what == GRADIENT else TOLERANCE
    dtype = theirs.dtype.name
    allowed = limits.get(dtype, 1e-12) if tolerance is None else tolerance
    if ours.dtype != theirs.dtype:
        problem = f"dtype {ours.dtype.name}, the reference has {dtype}"
    elif ours.shape != theirs.shape:
        problem = f"shape {by(ours.shape)}, the reference has {by(theirs.shape)}"
    else:
        error = relative_error(ours, theirs, max(ZERO.get(dtype, 1.0), scale * GRADIENT_ZERO.get(dtype, 0.0)))
        problem = "NaN or infinity on one side only" if error == np.inf else ""
        return Row(name, what, kind, dtype, ours.shape, error, allowed, problem)
    return Row(name, what, kind, ours.dtype.name, ours.shape, np.inf, allowed, problem)


def relative_error(actual: np.ndarray, expected: np.ndarray, zero: float = 0.0) -> float:
    """The largest difference over the largest finite magnitude of `expected` (at least `zero`).

    NaN and infinities must be at the same places, otherwise it is infinite.
    """
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected)
    if not np.array_equal(actual[~finite], expected[~finite], equal_nan=True):
        return np.inf
    if not np.isfinite(actual[finite]).all():
        return np.inf
    difference = np.abs(actual[finite] - expected[finite]).max(initial=0.0)
    scale = max(np.abs(expected[finite]).max(initial=0.0), zero)
    return float(difference / scale) if difference else 0.0


def _reason(first: Row, rows: Sequence[Row], actual: Record, expected: Record) -> str:
    """What can be said about the cause of the first divergence, knowing that all before it agrees."""
    if first.what == INPUT:
        return "no layer returned this: look at what the calling module's forward computes between its layers"
    if first.what == GRADIENT:
        return _kinks(actual, expected)
    if first.what != OUTPUT:
        return ""
    path = first.name.partition("[")[0].partition(" #")[0]
    inside = f"{path}." if path else ""
    if any(row.what == OUTPUT and row is not first and row.name.startswith(inside) for row in rows):
        return "all layers inside agree: look at what its own forward does after them"
    for name, weight in actual.weights.items():
        if name.startswith(inside) and name in expected.weights:
            row = _row(name, "weight", "", weight, expected.weights[name], 0.0)
            if not row.agrees:
                return f"its weights differ: {name}, {row.problem or f'relative error {row.error:.1e}'}"
    return "its input and its weights agree: look at this layer's own computation and settings"


def _kinks(actual: Record, expected: Record) -> str:
    """Whether a ReLU's input lies so close to zero that rounding decides if its gradient is 0 or 1."""
    for (what, name), ours in actual.tensors.items():
        theirs = expected.tensors.get((what, name))
        if what == OUTPUT and actual.kinds[name] == "ReLU" and theirs is not None and ours.shape == theirs.shape:
            flipped = int(np.sum((ours > 0) != (theirs > 0)))
            if flipped:
                return (
                    f"{flipped} of {ours.size:,} inputs of {name} are zero up to rounding and fell on different sides, "
                    "so their gradients are 0 in one model and 1 in the other: compare in float64, or other inputs"
                )
    return "all outputs agree: look at the backward of this layer, or of what runs after it"


def _copied(value: Any) -> np.ndarray:
    return np.array(value.detach().cpu().numpy())
