"""Streams of random numbers over arrays: what `tinynet.random` gives torch's names to, and tensors draw from."""

from __future__ import annotations

import operator
import secrets
import struct

import numpy as np

DEFAULT_SEED = 67280421310721  # what torch.Generator() starts from
_LAYOUT = struct.Struct("<8sQ16s16sBI")  # mark, seed, PCG64 state and increment, the spare 32-bit half
_MARK = b"PCG64/1\0"


class Stream:
    """A sequence of random numbers; `.numpy` is the `numpy.random.Generator` that draws them.

    `.numpy` stays the same object through `restart` and `unpack`. Single draws hold NumPy's lock, so
    threads may share a generator; the order in which they draw is then theirs.
    """

    def __init__(self) -> None:
        self._bits = np.random.PCG64(DEFAULT_SEED)
        self.seed = DEFAULT_SEED
        self.numpy = np.random.Generator(self._bits)

    def restart(self, seed: int) -> None:
        """Start again from `seed`, an integer in [-2**63, 2**64)."""
        self.seed = _checked_seed(seed)
        self._bits.state = np.random.PCG64(self.seed).state

    def restart_anywhere(self) -> int:
        """Start again from an unpredictable seed and return it."""
        self.restart(secrets.randbits(63))
        return self.seed

    def pack(self) -> bytes:
        """The exact position in the sequence."""
        state = self._bits.state
        numbers = state["state"]
        return _LAYOUT.pack(_MARK, self.seed, numbers["state"].to_bytes(16, "little"),
                            numbers["inc"].to_bytes(16, "little"), state["has_uint32"], state["uinteger"])

    def unpack(self, packed: bytes) -> None:
        """Continue from a position that `pack` returned; raises RuntimeError if these bytes are none."""
        mark, seed, position, increment, has_half, half = _LAYOUT.unpack(packed)
        if mark != _MARK or has_half > 1 or increment[0] % 2 == 0:
            raise RuntimeError("set_state: these bytes are not a state that Generator.get_state returned")
        numbers = {"state": int.from_bytes(position, "little"), "inc": int.from_bytes(increment, "little")}
        self._bits.state = {"bit_generator": "PCG64", "state": numbers,  # type: ignore[typeddict-item]
                            "has_uint32": has_half, "uinteger": half}
        self.seed = seed


def _checked_seed(seed: int) -> int:
    if isinstance(seed, (bool, np.bool_)):
        raise TypeError(f"manual_seed: the seed must be an integer, not {seed!r}")
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(
            f"manual_seed: the seed must be an integer, not {seed!r} ({type(seed).__name__})") from None
    if not -2**63 <= number < 2**64:
        raise RuntimeError(f"manual_seed: the seed must lie in [-2**63, 2**64), got {number}")
    return number % 2**64  # as torch: a negative seed stands for its 64-bit pattern


def state_bytes(state: object) -> bytes:
    array = np.asarray(getattr(state, "_array", state))
    if array.dtype != np.uint8 and isinstance(state, (list, tuple)) and array.dtype.kind == "i":
        if array.size and (array.min() < 0 or array.max() > 255):
            raise RuntimeError("set_state: a state holds bytes, numbers from 0 to 255")
        array = array.astype(np.uint8)
    if array.dtype != np.uint8:
        raise TypeError(f"set_state: a state is a uint8 tensor, not {array.dtype}")
    if array.shape != (_LAYOUT.size,):
        raise RuntimeError(f"set_state: a state has {_LAYOUT.size} bytes, this one has shape {array.shape}")
    return array.tobytes()


default = Stream()
default.restart_anywhere()


def normal(shape: tuple[int, ...], dtype: np.dtype, generator=None) -> np.ndarray:
    """Draws from N(0, 1) in a floating dtype, from `generator` or the default stream."""
    stream = (generator or default).numpy
    drawn = np.float32 if dtype == np.float32 else np.float64
    return np.asarray(stream.standard_normal(shape, drawn)).astype(dtype, copy=False)


def uniform(shape: tuple[int, ...], dtype: np.dtype, generator=None) -> np.ndarray:
    """Draws from [0, 1) in a floating dtype, from `generator` or the default stream."""
    stream = (generator or default).numpy
    drawn = np.float32 if dtype == np.float32 else np.float64
    return np.asarray(stream.random(shape, drawn)).astype(dtype, copy=False)
