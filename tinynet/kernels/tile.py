"""The register tile: the innermost loop of every convolution, as vector instructions.

Written for AVX-512, where a core has 32 registers of 16 float32 and finishes two fused multiply-adds per cycle:

- in registers: the sums of 14 pixels x 32 output channels, 28 registers that no step of the loop reads from or
  writes to memory. Two more hold 32 weights, one or two a broadcast input number: 32 in all, so 14 is the most.
- in L1: the 14 input rows, read one number at a time and spread over a register.
- in L2: a panel of weights, 32 output channels of every input channel and tap, streaming by, two registers a step.

One step loads 2 + 14 registers for 28 multiply-adds: 14 cycles, 896 operations. An addition takes 4 cycles until
its result can be added to, so fewer than 8 sums would leave the units waiting; more rows mean fewer weights read
per operation. And 14 divides the 56, 28 and 14 pixels of a row of ResNet's maps: no row of a tile is idle.
Narrower machines get the same code: LLVM is told the vector's width, and half the registers mean 6 rows.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any

import numpy as np

VECTORS = 2  # registers across: 32 output channels of float32 on AVX-512


@functools.cache
def vector_bytes() -> int:
    """Bytes of a vector register on this machine; `TINYNET_VECTOR_BITS` (512, 256 or 128) overrides."""
    wanted = os.environ.get("TINYNET_VECTOR_BITS", "").strip()
    if wanted:
        if wanted not in ("128", "256", "512"):
            raise ValueError(f"TINYNET_VECTOR_BITS must be 128, 256 or 512, got {wanted!r}")
        return int(wanted) // 8
    features = _cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


@functools.cache
def _cpu_features() -> dict[str, bool]:
    import llvmlite.binding

    return dict(llvmlite.binding.get_host_cpu_features())


@functools.cache
def tile_rows() -> int:
    """Pixels of a full tile: what the registers hold beside two of weights and one or two of input."""
    features = _cpu_features()
    return 14 if features.get("avx512f") or features.get("neon") else 6


def lanes(dtype: np.dtype | type) -> int:
    """Numbers of `dtype` in a vector register."""
    return vector_bytes() // np.dtype(dtype).itemsize


class Tile:
    """Stands for an intrinsic in the sources of kernels; Numba meets it when the first of them is compiled.

    `emit` writes the instructions from an _Emitter and the operands: pointers where the kernel gives arrays. The sums
    of a product are `rows` x `vectors` registers.
    """

    def __init__(self, emit: Callable[..., None], rows: Callable[[], int] | None, vectors: int) -> None:
        self._emit = emit
        self._rows = rows
        self._vectors = vectors

    def __call__(self, *operands: Any) -> None:
        raise TypeError("a tile is machine code: it exists inside compiled kernels only")

    @functools.cached_property
    def dispatcher(self) -> Any:
        """What Numba compiles into a kernel."""
        from numba import types
        from numba.extending import intrinsic

        emit, rows, vectors = self._emit, self._rows() if self._rows else 1, self._vectors

        def tile(typing_context: Any, *kinds: Any) -> Any:
            itemsize = next(kind.dtype.bitwidth for kind in kinds if _holds_floats(kind)) // 8

            def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                operands = [
                    context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
                    for kind, value in zip(signature.args, values)
                ]
                emit(_Emitter(builder, itemsize, rows, vectors), *operands)
                return context.get_dummy_value()

            return types.void(*kinds), codegen

        # Numba wants the operands by name: those of `emit`, after the emitter.
        names = list(inspect.signature(emit).parameters)[1:]
        tile.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in ("typing_context", *names)]
        )
        return intrinsic(tile)


def _holds_floats(kind: Any) -> bool:
    from numba import types

    return isinstance(kind, types.Array) and isinstance(kind.dtype, types.Float)


class _Emitter:
    """LLVM instructions on vectors of one dtype."""

    def __init__(self, builder: Any, itemsize: int, rows: int, vectors: int) -> None:
        from llvmlite import ir
        from numba.core import cgutils

        self.ir, self.cgutils, self.builder = ir, cgutils, builder
        self.rows, self.vectors = rows, vectors
        self.lanes = vector_bytes() // itemsize
        self.number = ir.FloatType() if itemsize == 4 else ir.DoubleType()
        self.vector = ir.VectorType(self.number, self.lanes)
        self.index = ir.IntType(64)
        suffix = f"v{self.lanes}f{8 * itemsize}"
        self._multiply_add = self._declared(f"llvm.fmuladd.{suffix}", self.vector, [self.vector] * 3)
        self.width = vectors * self.lanes

    def _declared(self, name: str, result: Any, arguments: list[Any]) -> Any:
        return self.cgutils.get_or_insert_function(
            self.builder.module, self.ir.FunctionType(result, arguments), name
        )

    def constant(self, value: int) -> Any:
        return self.ir.Constant(self.index, value)

    def sums(self) -> list[list[Any]]:
        """One variable per vector of the tile, set to zero; LLVM keeps them in registers."""
        variable = functools.partial(self.cgutils.alloca_once, self.builder, self.vector)
        grid = [[variable() for _ in range(self.vectors)] for _ in range(self.rows)]
        for row in grid:
            for place in row:
                self.builder.store(self.all(0.0), place)
        return grid

    def variable(self, value: Any) -> Any:
        """A place for a vector, holding `value`."""
        place = self.cgutils.alloca_once(self.builder, self.vector)
        self.builder.store(value, place)
        return place

    def at(self, pointer: Any, offset: Any) -> Any:
        return self.builder.gep(pointer, [offset])

    def pointer(self, address: Any) -> Any:
        return self.builder.inttoptr(address, self.number.as_pointer())

    def spread(self, number: Any) -> Any:
        """A vector with `number` in every lane."""
        undefined = self.ir.Constant(self.vector, self.ir.Undefined)
        first = self.builder.insert_element(undefined, number, self.ir.Constant(self.ir.IntType(32), 0))
        return self.shuffled(first, undefined, [0] * self.lanes)

    def all(self, number: float) -> Any:
        return self.ir.Constant(self.vector, [number] * self.lanes)

    def shuffled(self, a: Any, b: Any, lanes: list[int]) -> Any:
        """The named lanes of a, then b."""
        kind = self.ir.VectorType(self.ir.IntType(32), self.lanes)
        return self.builder.shuffle_vector(a, b, self.ir.Constant(kind, lanes))

    def load(self, pointer: Any, v: int = 0) -> Any:
        place = self.builder.gep(pointer, [self.constant(v * self.lanes)])
        return self.builder.load(self.builder.bitcast(place, self.vector.as_pointer()), align=4)

    def store(self, value: Any, pointer: Any, v: int = 0) -> None:
        place = self.builder.gep(pointer, [self.constant(v * self.lanes)])
        self.builder.store(value, self.builder.bitcast(place, self.vector.as_pointer()), align=4)

    def add_product(self, place: Any, a: Any, b: Any) -> None:
        """The step itself: place += a·b, lane by lane."""
        self.builder.store(self.builder.call(self._multiply_add, [a, b, self.builder.load(place)]), place)

    def cut(self, value: Any, floor: Any) -> Any:
        """The larger of the two, lane by lane; a NaN stays."""
        return self.builder.select(self.builder.fcmp_ordered("<", value, floor), floor, value)

    def loop(self, count: Any) -> Any:
        return self.cgutils.for_range(self.builder, count)


# --- forward and input gradient: pixels x weights ----------------------------------------------------------


def _emit_product(e: _Emitter, table: Any, taps: Any, depth: Any, flush: Any, panel: Any, panel_start: Any,
                  sums: Any, places: Any, count: Any, used: Any, bias: Any, residual: Any, has_residual: Any, relu: Any,
                  result: Any) -> None:  # fmt: skip
    """result (rows, width) = for pixel r: the sum over taps t and k < depth of input[t, r][k]·panel[t, k], finished.

    `table` holds the addresses of the input rows, (taps, rows); `panel` the weights (taps, depth, width). To finish
    is to add bias[lane], residual[places[r] + lane] where there is one, and to cut at zero where `relu`; the first
    `count` rows are written to result[places[r] + lane]. Where `used` says that not all lanes are output channels,
    the bare sums are written to `sums` instead. Every `flush` taps the registers are added to `sums` and begin again
    at zero: a sum of thousands of products would collect three times the rounding error of a sum of such sums.
    """
    builder = e.builder
    grid = e.sums()
    first = e.at(panel, panel_start)
    several = builder.icmp_signed(">", taps, flush)
    with e.loop(taps) as tap:
        starts = builder.mul(tap.index, e.constant(e.rows))
        rows = [e.pointer(builder.load(e.at(table, builder.add(starts, e.constant(r))))) for r in range(e.rows)]
        weights = e.at(first, builder.mul(tap.index, builder.mul(depth, e.constant(e.width))))
        with e.loop(depth) as step:
            here = e.at(weights, builder.mul(step.index, e.constant(e.width)))
            loaded = [e.load(here, v) for v in range(e.vectors)]
            for r in range(e.rows):
                value = e.spread(builder.load(e.at(rows[r], step.index), align=4))
                for v in range(e.vectors):
                    e.add_product(grid[r][v], value, loaded[v])
        done = builder.add(tap.index, e.constant(1))
        full = builder.and_(several, builder.icmp_signed("==", builder.srem(done, flush), e.constant(0)))
        with builder.if_then(full, likely=False):
            fresh = builder.icmp_signed("==", done, flush)
            _emit_flush(e, grid, sums, fresh)
    with builder.if_then(several):
        for r in range(e.rows):
            for v in range(e.vectors):
                total = builder.fadd(e.load(sums, r * e.vectors + v), builder.load(grid[r][v]))
                builder.store(total, grid[r][v])
    with builder.if_else(builder.icmp_signed("==", used, e.constant(e.width))) as (whole, partial):
        with whole:
            _emit_finish(e, grid, places, count, bias, residual, has_residual, relu, result)
        with partial:
            for r in range(e.rows):
                for v in range(e.vectors):
                    e.store(builder.load(grid[r][v]), sums, r * e.vectors + v)


def _emit_flush(e: _Emitter, grid: list[list[Any]], sums: Any, fresh: Any) -> None:
    """sums += grid, or sums = grid where `fresh`; grid = 0."""
    for r in range(e.rows):
        for v in range(e.vectors):
            before = e.builder.select(fresh, e.all(0.0), e.load(sums, r * e.vectors + v))
            e.store(e.builder.fadd(before, e.builder.load(grid[r][v])), sums, r * e.vectors + v)
            e.builder.store(e.all(0.0), grid[r][v])


def _emit_finish(e: _Emitter, grid: list[list[Any]], places: Any, count: Any, bias: Any, residual: Any,
                 has_residual: Any, relu: Any, result: Any) -> None:  # fmt: skip
    builder = e.builder
    shifts = [e.load(bias, v) for v in range(e.vectors)]
    floor = builder.select(relu, e.all(0.0), e.all(float("-inf")))
    for r in range(e.rows):
        with builder.if_then(builder.icmp_signed("<", e.constant(r), count)):
            place = builder.load(e.at(places, e.constant(r)))
            for v in range(e.vectors):
                builder.store(builder.fadd(builder.load(grid[r][v]), shifts[v]), grid[r][v])
            with builder.if_then(has_residual):
                for v in range(e.vectors):
                    other = e.load(e.at(residual, place), v)
                    builder.store(builder.fadd(builder.load(grid[r][v]), other), grid[r][v])
            for v in range(e.vectors):
                e.store(e.cut(builder.load(grid[r][v]), floor), e.at(result, place), v)


# --- weights into panels: a square of registers, transposed -------------------------------------------------


def _emit_transpose(e: _Emitter, source: Any, start: Any, stride: Any, places: Any, first: Any, panel: Any,
                    offset: Any) -> None:  # fmt: skip
    """panel[offset + places[first + j] + i] = source[start + i·stride + j] for i and j below the lanes of a vector.

    The last j comes first, so that of several with one place the smallest stays.
    After stage s, vector i holds in blocks of 2s lanes what the transposed square has there.
    """
    builder = e.builder
    lines = []
    for i in range(e.lanes):
        lines.append(e.load(e.at(source, builder.add(start, builder.mul(stride, e.constant(i))))))
    s = 1
    while s < e.lanes:
        exchanged = list(lines)
        for i in range(e.lanes):
            if i & s:
                continue
            low = [lane if not lane & s else lane - s + e.lanes for lane in range(e.lanes)]
            high = [lane + s if not lane & s else lane + e.lanes for lane in range(e.lanes)]
            exchanged[i] = e.shuffled(lines[i], lines[i + s], low)
            exchanged[i + s] = e.shuffled(lines[i], lines[i + s], high)
        lines = exchanged
        s *= 2
    target = e.at(panel, offset)
    for j in reversed(range(e.lanes)):
        e.store(lines[j], e.at(target, builder.load(e.at(places, builder.add(first, e.constant(j))))))


# --- weight gradient: input x output gradient, summed over pixels -------------------------------------------


def _emit_correlation(e: _Emitter, table: Any, offset: Any, right: Any, right_start: Any, stride: Any, count: Any,
                      fresh: Any, sums: Any, sums_start: Any) -> None:  # fmt: skip
    """sums (rows, width) += the sum over p < count of input[p]·right[p]ᵀ, or = where `fresh`.

    `table` holds the addresses of the input's pixels, to be read from `offset` bytes on; the pixels of `right` are
    `stride` numbers apart.
    """
    builder = e.builder
    grid = e.sums()
    target, gradients = e.at(sums, sums_start), e.at(right, right_start)
    with e.loop(count) as step:
        row = e.pointer(builder.add(builder.load(e.at(table, step.index)), offset))
        column = e.at(gradients, builder.mul(step.index, stride))
        loaded = [e.load(column, v) for v in range(e.vectors)]
        for r in range(e.rows):
            value = e.spread(builder.load(e.at(row, e.constant(r)), align=4))
            for v in range(e.vectors):
                e.add_product(grid[r][v], value, loaded[v])
    places = [(r, v) for r in range(e.rows) for v in range(e.vectors)]
    with builder.if_else(fresh) as (first, later):
        with first:
            for r, v in places:
                e.store(builder.load(grid[r][v]), target, r * e.vectors + v)
        with later:
            for r, v in places:
                total = builder.fadd(e.load(target, r * e.vectors + v), builder.load(grid[r][v]))
                e.store(total, target, r * e.vectors + v)


def _emit_copy(e: _Emitter, source: Any, start: Any, panel: Any, place: Any) -> None:
    """panel[place:] = source[start:], one panel wide."""
    for v in range(e.vectors):
        e.store(e.load(e.at(source, start), v), e.at(panel, place), v)


@functools.cache
def correlated_rows() -> int:
    """Input channels of a weight gradient's tile: 13 where 14 fit, as 5 x 13 is just over 64, 10 x 13 over 128."""
    return 13 if tile_rows() == 14 else tile_rows()


def _half_rows() -> int:
    return max(1, tile_rows() // 2)


multiply_tile = Tile(_emit_product, tile_rows, VECTORS)
multiply_half_tile = Tile(_emit_product, _half_rows, VECTORS)
multiply_narrow_tile = Tile(_emit_product, tile_rows, 1)
copy_tile = Tile(_emit_copy, None, VECTORS)
transpose_tile = Tile(_emit_transpose, None, 1)
correlate_tile = Tile(_emit_correlation, correlated_rows, VECTORS)
correlate_narrow_tile = Tile(_emit_correlation, correlated_rows, 1)
