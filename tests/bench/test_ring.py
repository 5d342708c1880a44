"""The plan of a step on many ranks: the ring's formula, what backward hides, where communication dominates."""

from __future__ import annotations

import pytest

from tinynet.bench.ring import Link, Plan


def plan(seconds: float = 1.0, gigabits: float = 0.8, microseconds: float = 0.0) -> Plan:
    """A gradient of 100 MB: one second on a wire of 0.8 Gbit/s."""
    return Plan(seconds, 8, 100_000_000, Link(gigabits, microseconds))


def test_the_ring_by_hand():
    assert plan().all_reduce(1) == 0
    assert plan().all_reduce(2) == pytest.approx(1.0)  # two sends of a half
    assert plan().all_reduce(4) == pytest.approx(1.5)  # six of a quarter
    assert plan().all_reduce(10**6) == pytest.approx(2.0, rel=1e-5)
    assert plan(microseconds=1000).all_reduce(4) == pytest.approx(1.5 + 6e-3)


def test_steps_are_hidden_as_far_as_backward_goes():
    slow = plan(seconds=3.0)
    assert slow.step(4) == 3.0 and slow.step(4, hidden=False) == pytest.approx(4.5)
    assert slow.share(4) == pytest.approx(1 / 3) and slow.efficiency(4) == 1
    quick = plan(seconds=0.75)
    assert quick.step(4) == pytest.approx(0.75 + 1.5 - 0.5)
    assert quick.images_per_second(4) == pytest.approx(32 / 1.75) and quick.efficiency(1) == 1


def test_where_communication_dominates():
    """With 2(N - 1)/N seconds: more than 1.4 s from the 4th rank, more than 1.85 from the 14th, never more than 2."""
    assert plan(1.4).dominates == 4 and plan(1.85).dominates == 14 and plan(2.0).dominates is None
    assert plan(1.85).shows == 3  # 2/3 of 1.85 s
    assert plan(2.0, microseconds=10).dominates == 317  # 20 µs·(N - 1) makes up for 2/N
    for each in (plan(1.4), plan(2.0, microseconds=10)):
        assert each.all_reduce(each.dominates - 1) <= each.seconds < each.all_reduce(each.dominates)
