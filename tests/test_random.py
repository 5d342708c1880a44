"""Generators: one seed, one sequence; a saved state continues it; bad seeds and states are explained."""

from __future__ import annotations

import copy
import json
import pickle
import threading

import numpy as np
import pytest

import tinynet
from tinynet import random, streams


def test_one_seed_one_sequence():
    first = random.Generator().manual_seed(7).numpy.random(5)
    np.testing.assert_array_equal(random.Generator().manual_seed(7).numpy.random(5), first)
    assert (random.Generator().manual_seed(8).numpy.random(5) != first).all()


def test_state_continues_exactly_even_between_32_bit_draws():
    generator = random.Generator().manual_seed(3)
    generator.numpy.integers(0, 100, 3, dtype=np.int32)  # leaves half of a 64-bit number over
    state = generator.get_state()
    assert state.dtype == tinynet.uint8
    expected = generator.numpy.integers(0, 100, 5, dtype=np.int32)
    for form in (state, state.numpy(), json.loads(json.dumps(state.tolist()))):
        other = random.Generator()
        stream = other.numpy
        other.set_state(form)
        np.testing.assert_array_equal(stream.integers(0, 100, 5, dtype=np.int32), expected)
        assert other.initial_seed() == 3


def test_state_is_a_copy():
    generator = random.Generator()
    state = generator.get_state()
    before = state.tolist()
    generator.numpy.random()
    assert state.tolist() == before


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))])
def test_copies_continue_on_their_own(duplicate):
    generator = random.Generator().manual_seed(5)
    generator.numpy.random(3)
    other = duplicate(generator)
    np.testing.assert_array_equal(other.numpy.random(4), generator.numpy.random(4))


def test_the_default_generator():
    assert random.manual_seed(11) is random.default_generator
    assert random.initial_seed() == 11
    state = random.get_rng_state()
    first = tinynet.rand(3).tolist()
    random.set_rng_state(state)
    assert tinynet.rand(3).tolist() == first
    fresh = random.seed()
    assert random.initial_seed() == fresh


def test_negative_seeds_are_bit_patterns_as_in_torch():
    assert random.Generator().manual_seed(-1).initial_seed() == 2**64 - 1
    random.Generator().manual_seed(np.int64(5))


@pytest.mark.parametrize(
    "seed, kind",
    [
        (1.5, TypeError),
        ("1", TypeError),
        (None, TypeError),
        (True, TypeError),
        (2**64, RuntimeError),
        (-(2**63) - 1, RuntimeError),
    ],
)
def test_bad_seeds(seed, kind):
    generator = random.Generator().manual_seed(4)
    with pytest.raises(kind, match="manual_seed: the seed must"):
        generator.manual_seed(seed)
    assert generator.initial_seed() == 4


def test_bad_states_change_nothing():
    generator = random.Generator().manual_seed(4)
    good = generator.get_state().numpy()
    for bad, kind in [
        (good[:-1], RuntimeError),
        (np.zeros_like(good), RuntimeError),
        (good.astype(np.float32), TypeError),
        ([300] * good.size, RuntimeError),
        ("x", TypeError),
    ]:
        with pytest.raises(kind, match="state"):
            generator.set_state(bad)
    np.testing.assert_array_equal(generator.get_state().numpy(), good)


def test_only_the_cpu():
    assert random.Generator("cpu").device == "cpu"
    assert random.Generator(tinynet.device("cpu")).device == "cpu"
    with pytest.raises(RuntimeError, match="cuda"):
        random.Generator("cuda")


def test_threads_share_a_generator_without_repeating_numbers():
    generator = random.Generator().manual_seed(0)
    drawn: list[int] = []

    def draw():
        drawn.extend(int(generator.numpy.integers(2**63)) for _ in range(2000))

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = random.Generator().manual_seed(0).numpy.integers(2**63, size=8000)
    assert sorted(drawn) == sorted(expected.tolist())


def test_draws_have_the_dtype_asked_for():
    for dtype in (np.float16, np.float32, np.float64):
        assert streams.normal((3,), np.dtype(dtype)).dtype == dtype
        drawn = streams.uniform((1000,), np.dtype(dtype))
        assert drawn.dtype == dtype and drawn.min() >= 0 and drawn.max() <= 1
