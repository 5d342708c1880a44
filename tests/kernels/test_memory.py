"""Memory of large results is used again, and never while somebody can still see it."""

import gc

import numpy as np
import pytest

from tinynet.kernels import layout, memory


@pytest.fixture(autouse=True)
def nothing_idle():
    memory.release()
    yield
    memory.release()


def address(array):
    return array.__array_interface__["data"][0]


def test_a_block_comes_back_when_its_last_view_is_gone():
    first = memory.empty((300, 1000), np.float32)
    place = address(first)
    row = first[5, ::2]
    del first
    assert address(memory.empty((300, 1000), np.float32)) != place  # `row` still shows it
    del row
    assert address(memory.empty((300, 1000), np.float32)) == place


def test_arrays_in_use_never_share():
    arrays = [memory.empty((1 << 17,), np.float64) for _ in range(5)]
    for value, array in enumerate(arrays):
        array.fill(value)
    assert [array[0] for array in arrays] == [array[-1] for array in arrays] == [0, 1, 2, 3, 4]
    assert len({address(array) for array in arrays}) == 5


@pytest.mark.parametrize("shape", [(3, 5), (0, 7), (1 << 20,), (2, 3, 400, 401)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_as_numpy(shape, dtype):
    array = memory.empty(shape, dtype)
    assert array.shape == shape and array.dtype == dtype
    assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned


@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (2, 64, 40, 41), (1, 64, 96, 1), (3, 1, 300, 301)], ids=str)
def test_an_order_of_its_own(shape):
    array = layout.channels_last_empty(shape, np.float32)
    batch, channels, *size = shape
    assert array.strides == np.empty((batch, *size, channels), np.float32).transpose(0, 3, 1, 2).strides
    assert memory.is_whole(array) and not memory.is_whole(array[:1])
    assert not memory.is_whole(array.reshape(shape)) and not memory.is_whole(array.transpose(1, 0, 2, 3))


def test_blocks_begin_with_a_line_of_cache():
    held = [memory.empty((size,), np.uint8) for size in (1 << 18, 300_001, 5_000_000)]
    assert all(address(array) % 64 == 0 for array in held)


def test_sizes_are_rounded_by_less_than_an_eighth():
    for size in (1 << 18, (1 << 18) + 1, 3_000_001, 25_690_112, 123_456_789):
        assert size <= memory._rounded(size) <= size * 1.125 + 4096


def test_what_lies_idle_is_bounded(monkeypatch):
    monkeypatch.setattr(memory._Block.__del__, "__defaults__", (3 << 20,))
    arrays = [memory.empty((1 << 20,), np.uint8) for _ in range(5)]
    del arrays
    assert memory.idle_bytes() == 3 << 20 == sum(size * len(idle) for size, idle in memory._idle.items())
    again = memory.empty((1 << 20,), np.uint8)
    assert memory.idle_bytes() == 2 << 20 and again.size == 1 << 20
    memory.release()
    assert memory.idle_bytes() == 0


def test_a_full_memory_is_tried_again_without_what_is_idle(monkeypatch):
    del_me = memory.empty((1 << 20,), np.uint8)
    del del_me
    assert memory.idle_bytes()
    real, calls = np.empty, []

    def full_at_first(*args, **named):
        calls.append(args)
        if len(calls) == 1:
            raise MemoryError
        return real(*args, **named)

    monkeypatch.setattr(memory.np, "empty", full_at_first)
    array = memory.empty((1 << 22,), np.uint8)
    assert array.size == 1 << 22 and len(calls) == 2
    assert memory.idle_bytes() == 0


def test_cycles_are_collected_in_the_middle_of_anything():
    class Cycle:
        pass

    for _ in range(20):
        cycle = Cycle()
        cycle.itself, cycle.array = cycle, memory.empty((1 << 19,), np.uint8)
        del cycle
        gc.collect()
        memory.empty((1 << 19,), np.uint8)[...] = 1


@pytest.mark.parametrize("order", ["rows", "pixels", "other"])
def test_empty_like_keeps_the_order(order):
    array = np.ones((2, 3, 300, 301), np.float32)
    array = {"rows": array, "pixels": layout.channels_last(array), "other": array.transpose(3, 2, 1, 0)}[order]
    assert layout.empty_like(array).strides == array.strides
