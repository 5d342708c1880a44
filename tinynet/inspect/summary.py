"""A model as a table: its layers as they are called, with shapes, parameters, cost and receptive fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from html import escape
from typing import Any

from tinynet import nn
from tinynet.inspect.describe import by, describe
from tinynet.inspect.trace import Call, Trace, Value, example_arguments, trace

COLUMNS = ("layer", "output", "parameters", "MACs", "im2col", "stride", "field")
NOT_CALLED = "not called"


@dataclass(frozen=True)
class Row:
    """One call of a layer; what a container's row counts includes the rows indented below it.

    `outputs` are its results with their shape, stride and receptive field; empty for a layer that the forward
    pass did not call. `parameters` are 0 where an earlier row has counted the same layer.
    """

    name: str
    kind: str
    settings: str
    tree: str
    depth: int
    outputs: tuple[Value, ...]
    parameters: int
    macs: int
    column_bytes: int


@dataclass(frozen=True)
class Summary:
    """What `summary` returns: printed it is a table, in a notebook an HTML one.

    Attributes:
        rows: one per call of a layer, down to the depth asked for, in the order of execution.
        parameters, trainable: numbers of the whole model, each parameter counted once.
        macs: multiply-adds of convolutions, linear layers and matrix products for this input.
        largest_columns: bytes of im2col's largest matrix and the layer that needs it.
        total_columns: bytes of all of them together.
    """

    model: str
    inputs: tuple[str, ...]
    rows: tuple[Row, ...]
    parameters: int
    trainable: int
    parameter_bytes: int
    macs: int
    largest_columns: tuple[int, str]
    total_columns: int

    def __str__(self) -> str:
        lines = [COLUMNS, *(line for row in self.rows for line in _cells(row))]
        widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
        text = ["  ".join(_aligned(line, widths)).rstrip() for line in lines]
        rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([self.title, rule, text[0], rule, *text[1:], rule, *self.totals])

    __repr__ = __str__

    @property
    def title(self) -> str:
        """The model and what it was called with."""
        return f"{self.model} for {', '.join(self.inputs)}"

    @property
    def totals(self) -> list[str]:
        """The lines below the table."""
        frozen = self.parameters - self.trainable
        note = f", {frozen:,} of them frozen" if frozen else ""
        largest, layer = self.largest_columns
        lines = [
            f"parameters  {self.parameters:,} ({_bytes(self.parameter_bytes)}){note}",
            f"MACs        {_scaled(self.macs)}MAC ({self.macs:,} multiply-adds in convolutions and products)",
        ]
        if largest:
            lines.append(f"im2col      {_bytes(largest)} at most ({layer}), {_bytes(self.total_columns)} in all layers")
        return lines

    def _repr_html_(self) -> str:
        return _html(self)


def summary(model: nn.Module, input_size: Any, depth: int | None = None) -> Summary:
    """The layer tree of `model` as it runs on an input of this size.

    The forward pass is in evaluation mode and leaves the model as it was: training flags, running statistics
    and gradients. Stride and receptive field are in pixels of the (largest) input, along the longest path.

    Args:
        input_size: (N, C, H, W), or (C, H, W) for one image; a dict or list of sizes if the model takes a dict
            or list, a tuple of sizes for several arguments; Tensors in place of sizes are used as they are.
        depth: how many levels to show (1: only what the model calls itself), all by default.

    Raises:
        ShapeError: an input_size that is none, or does not fit the model.
    """
    return summarise(model, trace(model, example_arguments(model, input_size)), depth)


def summarise(model: nn.Module, traced: Trace, depth: int | None = None) -> Summary:
    """The summary of a pass that has been traced already."""
    parameters = list(model.parameters())
    columns = [(step.column_bytes, step.call.name or step.name) for step in traced.steps]
    return Summary(
        model=type(model).__name__,
        inputs=tuple(f"{item.label} {by(item.shape)}" for item in traced.inputs),
        rows=tuple(_rows(traced.root, "", "", depth)),
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        parameter_bytes=sum(p.nbytes for p in parameters),
        macs=sum(step.macs for step in traced.steps),
        largest_columns=max(columns, key=lambda item: item[0], default=(0, "")),
        total_columns=sum(size for size, _ in columns),
    )


def _rows(call: Call, tree: str, below: str, depth: int | None) -> Iterator[Row]:
    steps = list(call.all_steps())
    yield Row(
        name=call.label,
        kind=type(call.module).__name__,
        settings=describe(call.module),
        tree=tree,
        depth=call.depth,
        outputs=tuple(call.outputs),
        parameters=0 if call.repeated else _count(call.module),
        macs=sum(step.macs for step in steps),
        column_bytes=max((step.column_bytes for step in steps), default=0),
    )
    if depth is not None and call.depth >= depth:
        return
    used = {below.module for below in call.walk()}
    idle = [] if call.repeated else list(_not_called(call.module, used, ""))
    entries: list[Call | tuple[str, nn.Module]] = [*call.children, *idle]
    for index, entry in enumerate(entries):
        last = index == len(entries) - 1
        branch, onwards = (below + "└─ ", below + "   ") if last else (below + "├─ ", below + "│  ")
        if isinstance(entry, Call):
            yield from _rows(entry, branch, onwards, depth)
        else:
            name, module = entry
            kind, settings = type(module).__name__, describe(module)
            yield Row(name, kind, settings, branch, call.depth + 1, (), _count(module), 0, 0)


def _not_called(module: nn.Module, used: set[nn.Module], prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """Submodules with parameters of which the call used nothing: their parameters count all the same."""
    for name, child in module.named_children():
        if not used.intersection(child.modules()):
            if _count(child):
                yield prefix + name, child
        elif child not in used:  # a list of layers, of which some were called
            yield from _not_called(child, used, f"{prefix}{name}.")


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _cells(row: Row) -> Iterator[tuple[str, ...]]:
    """The lines of a row: one, or one for each of several results."""
    label = " ".join(part for part in (row.name, row.kind, row.settings) if part)
    numbers = _numbers(row)
    outputs = [_output(value) for value in row.outputs] or [(NOT_CALLED, "", "")]
    for index, (shape, stride, field) in enumerate(outputs):
        if index == 0:
            yield (row.tree + label, shape, *numbers, stride, field)
        else:
            yield (_continued(row.tree), shape, "", "", "", stride, field)


def _numbers(row: Row) -> tuple[str, str, str]:
    return (
        f"{row.parameters:,}" if row.parameters else "",
        _scaled(row.macs).rstrip() if row.macs else "",
        _bytes(row.column_bytes) if row.column_bytes else "",
    )


def _continued(tree: str) -> str:
    return tree.replace("├─", "│ ").replace("└─", "  ")


def _output(value: Value) -> tuple[str, str, str]:
    shape = f"{value.label} {by(value.shape)}".strip()
    if value.geometry is None:
        return shape, "", ""
    return shape, _pair(value.geometry.stride), _pair(value.geometry.field)


def _pair(values: tuple[Fraction, Fraction]) -> str:
    texts = [_number(value) for value in values]
    return texts[0] if texts[0] == texts[1] else by(texts)


def _number(value: Fraction) -> str:
    return str(value) if value.denominator <= 16 else f"{float(value):.1f}"


def _scaled(count: int) -> str:
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3f} {unit}" if unit == "G" else f"{count / size:.1f} {unit}"
    return f"{count} "


def _bytes(count: int) -> str:
    for size, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _aligned(line: tuple[str, ...], widths: list[int]) -> Iterator[str]:
    for column, (text, width) in enumerate(zip(line, widths)):
        yield text.ljust(width) if column < 2 else text.rjust(width)


_TABLE = "border-collapse:collapse;font-size:0.85em"
_NUMBER = "text-align:right;white-space:nowrap;padding:1px 10px;font-variant-numeric:tabular-nums"
_TEXT = "text-align:left;white-space:nowrap;padding:1px 10px"


def _html(table: Summary) -> str:
    """The table with layers indented instead of drawn as a tree; every name in it is escaped."""
    head = "".join(f'<th style="{_TEXT if n < 2 else _NUMBER}">{name}</th>' for n, name in enumerate(COLUMNS))
    body = "".join(_html_row(row) for row in table.rows)
    totals = "<br>".join(escape(line) for line in table.totals)
    return (
        f"<div><b>{escape(table.title)}</b>"
        f'<div style="max-height:32em;overflow:auto"><table style="{_TABLE}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{totals}</div>"
    )


def _html_row(row: Row) -> str:
    outputs = [_output(value) for value in row.outputs] or [(NOT_CALLED, "", "")]
    shapes, strides, fields = ("<br>".join(escape(text) for text in column) for column in zip(*outputs))
    label = f"{escape(row.name)} <b>{escape(row.kind)}</b> {escape(row.settings)}".strip()
    indent = f"padding-left:{10 + 16 * row.depth}px"
    cells = [f'<td style="{_TEXT};{indent}">{label}</td>', f'<td style="{_TEXT}">{shapes}</td>']
    cells += [f'<td style="{_NUMBER}">{text}</td>' for text in (*_numbers(row), strides, fields)]
    return f"<tr>{''.join(cells)}</tr>"
