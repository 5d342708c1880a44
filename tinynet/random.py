"""Random numbers under torch's names: `Generator`, `manual_seed` and the state that a checkpoint keeps.

NumPy's PCG64 draws them, so the numbers differ from torch's for the same seed; the contract (one seed, one
sequence; a saved state continues it exactly) is torch's.
"""

from __future__ import annotations

import numpy as np

from tinynet import streams
from tinynet.tensor import Tensor


class Generator:
    """A stream of random numbers (torch.Generator); `.numpy` is the `numpy.random.Generator` that draws them.

    `.numpy` stays the same object through `manual_seed` and `set_state`. Single draws hold NumPy's lock, so
    threads may share a generator; the order in which they draw is then theirs.
    """

    def __init__(self, device: object = "cpu") -> None:
        if getattr(device, "type", device) != "cpu":
            raise RuntimeError(f"Generator: device must be 'cpu', the only device of tinynet, not {device!r}")
        self._stream = streams.Stream()

    @property
    def numpy(self) -> np.random.Generator:
        return self._stream.numpy

    @property
    def device(self) -> str:
        return "cpu"

    def manual_seed(self, seed: int) -> Generator:
        """Restart the stream from `seed`, an integer in [-2**63, 2**64); returns the generator."""
        self._stream.restart(seed)
        return self

    def seed(self) -> int:
        """Restart the stream from an unpredictable seed and return it."""
        return self._stream.restart_anywhere()

    def initial_seed(self) -> int:
        """The seed that the stream was last started from."""
        return self._stream.seed

    def get_state(self) -> Tensor:
        """The exact position in the stream as a uint8 tensor; `set_state` continues from it."""
        return Tensor(np.frombuffer(self._stream.pack(), np.uint8).copy())

    def set_state(self, new_state: Tensor) -> Generator:
        """Continue from a state of `get_state` (a uint8 tensor or array, or a list of those numbers)."""
        self._stream.unpack(streams.state_bytes(new_state))
        return self

    def __getstate__(self) -> dict[str, bytes]:
        return {"state": self._stream.pack()}

    def __setstate__(self, saved: dict[str, bytes]) -> None:
        self._stream = streams.Stream()
        self._stream.unpack(saved["state"])

    def __repr__(self) -> str:
        return f"<tinynet.Generator seed={self._stream.seed}>"


default_generator = Generator()
default_generator._stream = streams.default


def manual_seed(seed: int) -> Generator:
    """Seed the default generator, from which every random function without `generator=` draws."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Give the default generator an unpredictable seed and return it."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """State of the default generator, a uint8 tensor."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Continue the default generator from a state of `get_rng_state`."""
    default_generator.set_state(new_state)
