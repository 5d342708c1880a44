"""How reference results are kept: small tensors whole, large ones as a digest, one `.npz` per family.

A digest of an array is 70 numbers: its norm, its largest magnitude, 64 entries and 4 projections on random
vectors, entries and vectors drawn from the result's name. A wrong element shows in a projection even where
no drawn entry meets it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.comparison import TOLERANCE, ZERO, mismatch
from tests.reference.cases import generator

FOLDER = Path(__file__).parent
ENTRIES = 64
PROJECTIONS = 4
COLUMNS = 2048  # above 64 rows of these the random vectors of projections are outer products


@dataclass(frozen=True)
class Record:
    """What is kept of one result; `values` is the array itself (flat) or its digest."""

    dtype: str
    shape: tuple[int, ...]
    values: np.ndarray

    @property
    def whole(self) -> bool:
        return int(np.prod(self.shape)) <= ENTRIES


def digest(key: str, array: np.ndarray) -> np.ndarray:
    """(70,) norm, largest magnitude, entries, projections, computed in double precision."""
    values = array.astype(np.float64).reshape(-1)
    rng = generator("digest", key)
    entries = values[rng.choice(values.size, ENTRIES, replace=False)]
    projections = _projections(rng, values)
    summary = [np.linalg.norm(values), np.abs(values).max()]
    result = np.concatenate([summary, entries, projections])
    return result.astype(array.dtype) if array.dtype.kind == "f" else result


def _projections(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """(4,) products with random vectors; those for the weights of a whole network take long to draw."""
    if values.size < 64 * COLUMNS:
        return rng.standard_normal((PROJECTIONS, values.size)) @ values
    table = np.pad(values, (0, -values.size % COLUMNS)).reshape(-1, COLUMNS)
    rows, columns = (rng.standard_normal((PROJECTIONS, size)) for size in table.shape)
    return np.sum((rows @ table) * columns, axis=1)


def record(key: str, array: np.ndarray) -> Record:
    """The record of a result; `key` is its name within the family."""
    small = array.size <= ENTRIES
    return Record(array.dtype.name, array.shape, array.reshape(-1).copy() if small else digest(key, array))


def tolerance(key: str, dtype: str) -> float | None:
    """What a result may be off by where that is not `TOLERANCE`: rounding adds up in a whole network."""
    if not key.startswith("models/"):
        return None
    if dtype == "float64":
        return 1e-8
    return 1e-3 if "|gradient" in key else 1e-4


def difference(actual: Record, expected: Record, allowed: float | None = None) -> str | None:
    """None where two records agree to `allowed` (or `TOLERANCE`) of their scale, else how they differ."""
    if (actual.dtype, actual.shape) != (expected.dtype, expected.shape):
        return f"got {actual.dtype} {actual.shape}, expected {expected.dtype} {expected.shape}"
    if expected.whole:
        return mismatch(actual.values.reshape(actual.shape), expected.values.reshape(expected.shape), allowed)
    norm, largest = expected.values[:2].astype(np.float64)
    scale = np.array([norm, largest, *[largest] * ENTRIES, *[norm] * PROJECTIONS])
    error = np.abs(actual.values.astype(np.float64) - expected.values)
    error[error != 0] /= np.maximum(scale, ZERO.get(expected.dtype, 1.0))[error != 0]
    names = ["norm", "largest magnitude", *["entry"] * ENTRIES, *["projection"] * PROJECTIONS]
    allowed = TOLERANCE.get(expected.dtype, 1e-12) if allowed is None else allowed
    worst = int(error.argmax())
    if error[worst] <= allowed:
        return None
    return (
        f"{expected.dtype} {expected.shape}: {names[worst]} is {actual.values[worst]}, expected "
        f"{expected.values[worst]} (relative error {error[worst]:.2e}, allowed {allowed:.0e})"
    )


def save(family: str, records: dict[str, Record]) -> Path:
    """Writes a family: every dtype's values end to end, and an index of names, dtypes and shapes."""
    index = [[key, kept.dtype, list(kept.shape), kept.values.dtype.name] for key, kept in records.items()]
    arrays = {}
    for dtype in sorted({entry[3] for entry in index}):
        parts = [kept.values for kept in records.values() if kept.values.dtype.name == dtype]
        arrays[dtype] = np.concatenate(parts)
    path = FOLDER / f"{family}.npz"
    np.savez_compressed(path, index=np.frombuffer(json.dumps(index).encode(), np.uint8), **arrays)
    return path


def load(family: str) -> dict[str, Record]:
    """The records of a family, by name."""
    with np.load(FOLDER / f"{family}.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    index = json.loads(arrays.pop("index").tobytes())
    position = dict.fromkeys(arrays, 0)
    records = {}
    for key, dtype, shape, stored in index:
        count = int(np.prod(shape))
        length = count if count <= ENTRIES else 2 + ENTRIES + PROJECTIONS
        start = position[stored]
        records[key] = Record(dtype, tuple(shape), arrays[stored][start : start + length])
        position[stored] = start + length
    return records
