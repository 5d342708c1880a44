"""The transformations of Winograd's F(2 x 2, 3 x 3) as vector instructions: additions of vectors of channels.

In registers: the 16 numbers of a tile, for as many channels as a vector has; on AVX-512 half of the registers, so
that nothing is stored between the transformation of the columns and that of the rows.

    Bᵀ = 1  0 -1  0    G =  1   0   0    Aᵀ = 1  1  1  0
         0  1  1  0         ½   ½   ½         0  1 -1 -1
         0 -1  1  0         ½  -½   ½
         0  1  0 -1         0   0   1
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinynet.kernels.tile import Tile

PLACES = 16  # of a tile of 4 x 4

_Vectors = list[Any]


def _both_ways(transform: Callable[[_Vectors], _Vectors], numbers: _Vectors, size: int) -> _Vectors:
    """The transformation of every column of a square, then of every row; row by row."""
    columns = [transform(numbers[column::size]) for column in range(size)]
    return [number for row in zip(*columns) for number in transform(list(row))]


def _input_transform(e: Any, d: _Vectors) -> _Vectors:
    """Bᵀ d."""
    b = e.builder
    return [b.fsub(d[0], d[2]), b.fadd(d[1], d[2]), b.fsub(d[2], d[1]), b.fsub(d[1], d[3])]


def _weight_transform(e: Any, g: _Vectors) -> _Vectors:
    """G g."""
    b, half = e.builder, e.all(0.5)
    ends = b.fadd(g[0], g[2])
    return [g[0], b.fmul(half, b.fadd(ends, g[1])), b.fmul(half, b.fsub(ends, g[1])), g[2]]


def _output_transform(e: Any, m: _Vectors) -> _Vectors:
    """Aᵀ m."""
    b = e.builder
    return [b.fadd(m[0], b.fadd(m[1], m[2])), b.fsub(b.fsub(m[1], m[2]), m[3])]


def _emit_input(e: Any, addresses: Any, channels: Any, target: Any, place: Any, plane: Any, check: Any) -> None:
    """target[place + 16 planes] = Bᵀ d B, the 4 x 4 pixels of d being at `addresses`, row by row.

    `check` (one vector) is zero afterwards if all of d is finite, else it has a NaN.
    """
    builder = e.builder
    pixels = [e.pointer(builder.load(e.at(addresses, e.constant(p)))) for p in range(PLACES)]
    checked = e.variable(e.all(0.0))
    with e.loop(builder.udiv(channels, e.constant(e.lanes))) as step:
        channel = builder.mul(step.index, e.constant(e.lanes))
        loaded = [e.load(e.at(pixel, channel)) for pixel in pixels]
        done = _both_ways(lambda d: _input_transform(e, d), loaded, 4)
        _store_planes(e, done, target, builder.add(place, channel), plane)
        # Every pixel is a summand of exactly one of the four corners.
        corners = builder.fadd(builder.fadd(done[0], done[3]), builder.fadd(done[12], done[15]))
        e.add_product(checked, corners, e.all(0.0))
    e.store(builder.load(checked), check)


def _emit_weights(e: Any, taps: Any, size: Any, target: Any, start: Any, check: Any) -> None:
    """target[start:] (16, size) = G g Gᵀ of the weights `taps` (9, size); `check` as for the input."""
    builder = e.builder
    checked = e.variable(e.all(0.0))
    with e.loop(builder.udiv(size, e.constant(e.lanes))) as step:
        here = builder.mul(step.index, e.constant(e.lanes))
        g = [e.load(e.at(taps, builder.add(here, builder.mul(size, e.constant(t))))) for t in range(9)]
        done = _both_ways(lambda g: _weight_transform(e, g), g, 3)
        _store_planes(e, done, target, builder.add(start, here), size)
        e.add_product(checked, done[5], e.all(0.0))  # a quarter of the sum of all nine
    e.store(builder.load(checked), check)


def _store_planes(e: Any, numbers: _Vectors, target: Any, place: Any, plane: Any) -> None:
    for p, value in enumerate(numbers):
        e.store(value, e.at(target, e.builder.add(place, e.builder.mul(plane, e.constant(p)))))


def _emit_output(e: Any, products: Any, start: Any, plane: Any, used: Any, places: Any, first: Any, bias: Any,
                 residual: Any, has_residual: Any, relu: Any, result: Any) -> None:  # fmt: skip
    """result[places[first + q] + lane] = relu(Aᵀ m A + bias + residual) for the 2 x 2 pixels q and `used` lanes.

    m is at products[start + 16 planes]. Nothing is written where a place is below 0.
    """
    builder = e.builder
    floor = builder.select(relu, e.all(0.0), e.all(float("-inf")))
    with e.loop(builder.udiv(used, e.constant(e.lanes))) as step:
        lane = builder.mul(step.index, e.constant(e.lanes))
        here = builder.add(start, lane)
        m = [e.load(e.at(products, builder.add(here, builder.mul(plane, e.constant(p))))) for p in range(PLACES)]
        done = _both_ways(lambda m: _output_transform(e, m), m, 4)
        shift = e.load(e.at(bias, lane))
        for q, value in enumerate(done):
            place = builder.load(e.at(places, builder.add(first, e.constant(q))))
            with builder.if_then(builder.icmp_signed(">=", place, e.constant(0)), likely=True):
                target = builder.add(place, lane)
                total = e.variable(builder.fadd(value, shift))
                with builder.if_then(has_residual):
                    other = e.load(e.at(residual, target))
                    builder.store(builder.fadd(builder.load(total), other), total)
                e.store(e.cut(builder.load(total), floor), e.at(result, target))


def _emit_gradient(e: Any, addresses: Any, channels: Any, target: Any, place: Any, plane: Any, check: Any) -> None:
    """target[place + 16 planes] = A y Aᵀ, the 2 x 2 pixels of y being at `addresses`; `check` as for the input."""
    builder = e.builder
    minus = e.all(-1.0)

    def transform(y: _Vectors) -> _Vectors:
        return [y[0], builder.fadd(y[0], y[1]), builder.fsub(y[0], y[1]), builder.fmul(minus, y[1])]

    pixels = [e.pointer(builder.load(e.at(addresses, e.constant(p)))) for p in range(4)]
    checked = e.variable(e.all(0.0))
    with e.loop(builder.udiv(channels, e.constant(e.lanes))) as step:
        channel = builder.mul(step.index, e.constant(e.lanes))
        done = _both_ways(transform, [e.load(e.at(pixel, channel)) for pixel in pixels], 2)
        _store_planes(e, done, target, builder.add(place, channel), plane)
        corners = builder.fadd(builder.fadd(done[0], done[3]), builder.fadd(done[12], done[15]))
        e.add_product(checked, corners, e.all(0.0))
    e.store(builder.load(checked), check)


def _emit_weight_gradient(e: Any, sums: Any, start: Any, plane: Any, width: Any, rows: Any, result: Any) -> None:
    """result (rows, 9, width) = Gᵀ u G, u being the 16 planes (rows, width) at sums[start + 16 planes]."""
    builder = e.builder
    half = e.all(0.5)

    def transform(u: _Vectors) -> _Vectors:
        middle = builder.fmul(half, builder.fadd(u[1], u[2]))
        return [builder.fadd(u[0], middle), builder.fmul(half, builder.fsub(u[1], u[2])), builder.fadd(middle, u[3])]

    across = builder.udiv(width, e.constant(e.lanes))
    with e.loop(rows) as row, e.loop(across) as step:
        lane = builder.mul(step.index, e.constant(e.lanes))
        here = builder.add(builder.add(start, builder.mul(row.index, width)), lane)
        u = [e.load(e.at(sums, builder.add(here, builder.mul(plane, e.constant(p))))) for p in range(PLACES)]
        first = builder.add(builder.mul(row.index, builder.mul(width, e.constant(9))), lane)
        for t, value in enumerate(_both_ways(transform, u, 4)):
            e.store(value, e.at(result, builder.add(first, builder.mul(width, e.constant(t)))))


input_tile = Tile(_emit_input, None, 1)
weight_tile = Tile(_emit_weights, None, 1)
output_tile = Tile(_emit_output, None, 1)
gradient_tile = Tile(_emit_gradient, None, 1)
weight_gradient_tile = Tile(_emit_weight_gradient, None, 1)
