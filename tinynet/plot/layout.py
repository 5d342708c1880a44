"""Where to put the boxes of a graph: layers from top to bottom, few crossings, straight paths.

The method of Sugiyama, Tagawa and Toda 1981, "Methods for visual understanding of hierarchical system
structures": each box goes into a layer below everything it depends on, edges over several layers get a bend
point in each, the order within the layers is improved by averages of the neighbours, and positions are then
moved as close to the neighbours as the widths allow. Tall graphs continue in further columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

Point = tuple[float, float]

GAP_X = 0.35  # between boxes of a layer, in inches
GAP_Y = 0.32  # between layers
GUTTER = 0.55  # between columns
SWEEPS = 24
TALLEST = 12.0  # of a column, if the graph can be cut there


class Layout(NamedTuple):
    """Centres of the boxes, the points of each edge from the source's edge to the target's, and the size of it all.

    In inches, y downwards from the top.
    """

    centres: list[Point]
    routes: list[list[Point]]
    width: float
    height: float


@dataclass(eq=False)
class _Cell:
    """A box, or a bend point of a long edge, in its layer."""

    layer: int
    width: float
    height: float
    above: list[_Cell] = field(default_factory=list)
    below: list[_Cell] = field(default_factory=list)
    chain: list[_Cell] = field(default_factory=list)  # the straight path that it belongs to
    x: float = 0.0


def layout(sizes: Sequence[tuple[float, float]], edges: Sequence[tuple[int, int]]) -> Layout:
    """Places boxes of these (width, height) with edges (source, target), which must have no cycle."""
    levels = _levels(len(sizes), edges)
    cells = [_Cell(level, *size) for level, size in zip(levels, sizes)]
    paths = [_threaded(cells[source], cells[target]) for source, target in edges]
    layers: list[list[_Cell]] = [[] for _ in range(max(levels, default=-1) + 1)]
    for cell in [*cells, *(bend for path in paths for bend in path[1:-1])]:
        layers[cell.layer].append(cell)
    _order(layers)
    _position(layers)
    frame = _framed(layers, _columns(layers))
    centres = [
        (cell.x + frame.offsets[frame.column_of[cell.layer]], (frame.tops[cell.layer] + frame.bottoms[cell.layer]) / 2)
        for cell in cells
    ]
    return Layout(centres, [_route(path, frame) for path in paths], frame.width, frame.height)


def _levels(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Each box one below the lowest that it depends on; those that feed more than they take, just above their use."""
    before: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    for source, target in edges:
        before[target].append(source)
        after[source].append(target)
    levels, order = [0] * count, _sorted(before, after)
    for item in order:
        levels[item] = max((levels[source] + 1 for source in before[item]), default=0)
    for item in reversed(order):
        if after[item] and len(after[item]) > len(before[item]):
            levels[item] = min(levels[target] for target in after[item]) - 1
    lowest = min(levels, default=0)
    return [level - lowest for level in levels]


def _sorted(before: list[list[int]], after: list[list[int]]) -> list[int]:
    """Dependencies first."""
    waiting = [len(sources) for sources in before]
    ready = [item for item, count in enumerate(waiting) if not count]
    for item in ready:
        for target in after[item]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    if len(ready) < len(before):
        raise ValueError("layout: the graph has a cycle")
    return ready


def _threaded(source: _Cell, target: _Cell) -> list[_Cell]:
    """The edge as a chain of cells, one in each layer."""
    bends = [_Cell(layer, 0.12, 0.0) for layer in range(source.layer + 1, target.layer)]
    path = [source, *bends, target]
    for upper, lower in pairwise(path):
        upper.below.append(lower)
        lower.above.append(upper)
    return path


def _order(layers: list[list[_Cell]]) -> None:
    """Sorts each layer by the mean place of its neighbours, down and up again; keeps the best order."""
    best, fewest = [list(layer) for layer in layers], _crossings(layers)
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        for layer in layers if downwards else reversed(layers):
            places = {cell: _mean_place(cell, layers, downwards, index) for index, cell in enumerate(layer)}
            layer.sort(key=places.__getitem__)
        crossings = _crossings(layers)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    layers[:] = best


def _mean_place(cell: _Cell, layers: list[list[_Cell]], downwards: bool, own: int) -> float:
    neighbours = cell.above if downwards else cell.below
    if not neighbours:
        return float(own)
    return fmean(layers[other.layer].index(other) for other in neighbours)


def _crossings(layers: list[list[_Cell]]) -> int:
    total = 0
    for upper, lower in pairwise(layers):
        place = {cell: index for index, cell in enumerate(lower)}
        ends = [place[other] for cell in upper for other in sorted(cell.below, key=place.__getitem__)]
        total += sum(a > b for index, a in enumerate(ends) for b in ends[index + 1 :])
    return total


def _position(layers: list[list[_Cell]]) -> None:
    """Moves the cells towards the mean of their neighbours, keeping order and distances; paths without a fork move
    as one, so that they are straight."""
    for chain in _chains(layers):
        for cell in chain:
            cell.chain = chain
    if not _packed(layers):  # paths that cross each other cannot both be straight
        for layer in layers:
            for cell in layer:
                cell.chain = [cell]
        _packed(layers)
    chains = list({id(cell.chain): cell.chain for layer in layers for cell in layer}.values())
    sides = {cell: pair for layer in layers for cell, pair in zip(layer, _neighbours(layer))}
    for sweep in range(SWEEPS * 4):
        for chain in chains if sweep % 2 else reversed(chains):
            ends = [*chain[0].above, *chain[-1].below]
            wish = fmean(cell.x for cell in ends) if ends else chain[0].x
            least = [left.x + _distance(left, cell) for cell in chain for left in sides[cell][0]]
            most = [right.x - _distance(cell, right) for cell in chain for right in sides[cell][1]]
            _move(chain, max([*least, min([wish, *most])]))


def _chains(layers: list[list[_Cell]]) -> list[list[_Cell]]:
    """The paths, from top to bottom, along which nothing forks or joins."""
    chains, taken = [], set()
    for layer in layers:
        for cell in layer:
            if cell in taken:
                continue
            chain = [cell]
            while len(chain[-1].below) == 1 and len(chain[-1].below[0].above) == 1:
                chain.append(chain[-1].below[0])
            taken.update(chain)
            chains.append(chain)
    return chains


def _packed(layers: list[list[_Cell]]) -> bool:
    """Puts every chain as far left as those to the left of it allow; False if they block each other in a circle."""
    cells = [cell for layer in layers for cell in layer]
    for cell in cells:
        cell.x = 0.0
    for _ in range(len(cells) + 1):
        moved = False
        for layer in layers:
            for left, right in pairwise(layer):
                if right.x < left.x + _distance(left, right) - 1e-9:
                    _move(right.chain, left.x + _distance(left, right))
                    moved = True
        if not moved:
            return True
    return False


def _neighbours(layer: list[_Cell]) -> list[tuple[list[_Cell], list[_Cell]]]:
    """For each cell the next one to its left and to its right, as lists of none or one."""
    return [(layer[max(place - 1, 0) : place], layer[place + 1 : place + 2]) for place in range(len(layer))]


def _distance(left: _Cell, right: _Cell) -> float:
    return (left.width + right.width) / 2 + GAP_X


def _move(chain: list[_Cell], x: float) -> None:
    for cell in chain:
        cell.x = x


def _height(layer: list[_Cell]) -> float:
    return max(cell.height for cell in layer)


def _columns(layers: list[list[_Cell]]) -> list[range]:
    """Runs of layers that fit below each other; a cut is possible where a single edge crosses it."""
    remaining = sum(_height(layer) + GAP_Y for layer in layers)
    wanted = remaining / max(1, math.ceil(remaining / TALLEST))
    columns, start, height = [], 0, 0.0
    for index, layer in enumerate(layers):
        height += _height(layer) + GAP_Y
        remaining -= _height(layer) + GAP_Y
        crossing = sum(len(cell.below) for cell in layer)
        if height > wanted - 0.5 and crossing == 1 and remaining > wanted / 2:
            columns.append(range(start, index + 1))
            start, height = index + 1, 0.0
    return [*columns, range(start, len(layers))] if layers else []


@dataclass
class _Frame:
    """Where layers and columns are: tops of layers, their columns, and each column's offset and left edge."""

    tops: list[float]
    bottoms: list[float]
    column_of: list[int]
    offsets: list[float]
    lefts: list[float]
    width: float
    height: float


def _framed(layers: list[list[_Cell]], columns: list[range]) -> _Frame:
    frame = _Frame([], [], [], [], [], 0.0, 0.0)
    margin = GAP_Y if len(columns) > 1 else 0.0  # room for the edges that lead to the next column
    for number, column in enumerate(columns):
        members = [cell for index in column for cell in layers[index]]
        frame.lefts.append(frame.width + (GUTTER if number else 0.0))
        frame.offsets.append(frame.lefts[-1] - min(cell.x - cell.width / 2 for cell in members))
        frame.width = frame.offsets[-1] + max(cell.x + cell.width / 2 for cell in members)
        y = margin
        for index in column:
            frame.tops.append(y)
            frame.bottoms.append(y + _height(layers[index]))
            frame.column_of.append(number)
            y = frame.bottoms[-1] + GAP_Y
        frame.height = max(frame.height, y - GAP_Y + margin)
    return frame


def _route(path: list[_Cell], frame: _Frame) -> list[Point]:
    source, *bends, target = path
    start, end = frame.column_of[source.layer], frame.column_of[target.layer]
    x0, x1 = source.x + frame.offsets[start], target.x + frame.offsets[end]
    y0 = (frame.tops[source.layer] + frame.bottoms[source.layer] + source.height) / 2
    y1 = (frame.tops[target.layer] + frame.bottoms[target.layer] - target.height) / 2
    if start != end:  # below the last box, up between the columns, down onto the first
        between = frame.lefts[end] - GUTTER / 2
        low, high = y0 + GAP_Y / 2, GAP_Y / 3
        return [(x0, y0), (x0, low), (between, low), (between, high), (x1, high), (x1, y1)]
    points = [(x0, y0)]
    for bend in bends:
        x = bend.x + frame.offsets[start]
        points += [(x, frame.tops[bend.layer]), (x, frame.bottoms[bend.layer])]
    return [*points, (x1, y1)]
