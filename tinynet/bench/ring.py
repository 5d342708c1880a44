"""Planned on paper: how long a training step takes on many ranks whose gradients go round in a ring.

In a ring all-reduce (Patarasuk and Yuan 2009) each of N ranks sends a N-th of the gradient to its neighbour 2(N - 1)
times: half of them to add up, half to hand the sums on. So it takes

    2·(N - 1)·(bytes / (N·bandwidth) + latency),

which soon hardly grows with N any more: the bytes that one rank sends approach twice the gradient. Each rank keeps
its own batch, so its computing time stays what was measured here. Backward, two of a step's three passes, can hide
communication; the picture and the table say what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

BACKWARD = 2 / 3  # of a step: gradients of inputs and of weights are two of the three products of every layer
MOST_RANKS = 2**20
RANKS = (1, 2, 4, 8, 16, 64, 256, 1024)


@dataclass(frozen=True)
class Link:
    """Between two ranks: gigabits a second each way, and microseconds until the first of them arrives."""

    gigabits: float
    microseconds: float

    @property
    def name(self) -> str:
        """``10 Gbit/s, 30 µs``."""
        return f"{self.gigabits:g} Gbit/s, {self.microseconds:g} µs"


# Typical of TCP over 1 and 10 Gbit Ethernet, and of InfiniBand between hosts.
LINKS = (Link(1, 50), Link(10, 30), Link(100, 2))


@dataclass(frozen=True)
class Plan:
    """A step of `seconds` on one rank with `images`, whose gradient has `bytes`, over `link`."""

    seconds: float
    images: int
    bytes: int
    link: Link

    def all_reduce(self, ranks: int) -> float:
        """Seconds of communication."""
        wire = self.bytes / (self.link.gigabits * 1e9 / 8)
        return 2 * (ranks - 1) * (wire / ranks + self.link.microseconds * 1e-6)

    def step(self, ranks: int, hidden: bool = True) -> float:
        """Seconds of a step; `hidden`: backward hides what communication fits into it."""
        left = self.all_reduce(ranks)
        return self.seconds + (max(0.0, left - BACKWARD * self.seconds) if hidden else left)

    def share(self, ranks: int) -> float:
        """Of a step that hides nothing, communication's part."""
        return self.all_reduce(ranks) / self.step(ranks, hidden=False)

    def images_per_second(self, ranks: int) -> float:
        """Of all ranks together, communication hidden."""
        return ranks * self.images / self.step(ranks)

    def efficiency(self, ranks: int) -> float:
        """Images per second, of `ranks` times those of one rank."""
        return self.seconds / self.step(ranks)

    def first_beyond(self, seconds: float) -> int | None:
        """The fewest ranks whose communication takes longer than this; None if a million's does not."""
        if self.all_reduce(MOST_RANKS) <= seconds:
            return None
        low, high = 1, MOST_RANKS
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.all_reduce(middle) > seconds else (middle, high)
        return high

    @property
    def dominates(self) -> int | None:
        """The fewest ranks where communication takes longer than computing."""
        return self.first_beyond(self.seconds)

    @property
    def shows(self) -> int | None:
        """The fewest ranks where backward no longer hides it all."""
        return self.first_beyond(BACKWARD * self.seconds)
