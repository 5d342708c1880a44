"""`tinynet parity`: a model of tinynet beside the same model made of torch, layer by layer.

Weights and images are drawn from NumPy generators that depend on names and a seed alone, so nothing but the
results has to travel. torch runs in a process of its own (imported first it would slow Numba down), which is
this file run as a program: it writes arrays to an .npz, without pickle.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tinynet
from tinynet import nn
from tinynet.errors import TinynetError
from tinynet.inspect.compare import Comparison, Record, generator, match, record
from tinynet.models import fpn, registry
from tinynet.utils.progress import progress

TIME_LIMIT = 1800  # seconds for torch's part
PYRAMID = "_fpn"  # after a ResNet's name: with a Feature Pyramid Network on top


@dataclass(frozen=True)
class Case:
    """What is compared: a model by its name in `tinynet.models`, and the conditions."""

    name: str
    size: tuple[int, int] = (64, 64)
    batch: int = 1
    dtype: str = "float32"
    training: bool = False
    gradients: bool = True
    seed: int = 0


def parity(case: Case) -> Comparison:
    """The comparison of tinynet's model with torch's, on the same weights and images.

    Raises TinynetError if there is no such model, torch is not installed, or its process fails.
    """
    model = build(case.name, "parity")
    if importlib.util.find_spec("torch") is None:
        raise TinynetError("parity: torch is not installed here: install tinynet's extra `torch` (torch==2.13.0)")
    with progress(total=3, desc="parity") as bar:
        bar.set_postfix_str("torch")
        expected = _in_torch(case)
        bar.update()
        bar.set_postfix_str("tinynet")
        actual = run_case(case, model, tinynet)
        bar.update()
        result = match(actual, expected)
        bar.update()
    return result


def build(name: str, command: str) -> nn.Module:
    """The model of this name: one of `tinynet.models.list_models()`, or a ResNet followed by ``_fpn``.

    Raises TinynetError that begins with `command` for an unknown name.
    """
    known = registry.list_models()
    known += [each + PYRAMID for each in known if each.startswith("res")]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there is {', '.join(known)}"
        raise TinynetError(f"{command}: there is no model {name!r}; {hint}")
    return built(name, registry, fpn)


def built(name: str, registry: Any, fpn: Any) -> Any:
    """The model from these modules: tinynet's own, or their twins made of torch."""
    if name.endswith(PYRAMID):
        return fpn.resnet_fpn_backbone(name.removesuffix(PYRAMID), trainable_layers=5)
    return registry.get_model(name)


def run_case(case: Case, model: Any, library: Any) -> Record:
    """The record of `model`, a module of `library` (tinynet or torch), under the case's conditions."""
    model = model.to(getattr(library, case.dtype)).train(case.training)
    weights = {name: drawn(name, tuple(value.shape), case.seed) for name, value in model.state_dict().items()}
    model.load_state_dict({name: library.from_numpy(array) for name, array in weights.items()})
    images = generator("images", case.seed).standard_normal((case.batch, 3, *case.size))
    return record(model, (images.astype(case.dtype),), case.gradients)


def drawn(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """float64 values for the entry `name` of a state_dict; activations of deep nets neither die nor explode."""
    random = generator(name, seed)
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if kind == "running_var":
        return random.uniform(0.5, 1.5, shape)
    if len(shape) > 1:
        return random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    if kind == "weight":  # of a norm: below 1, because every residual block adds to the sum
        return random.uniform(0.5, 1.0, shape)
    return random.standard_normal(shape) * 0.1


def _in_torch(case: Case) -> Record:
    with tempfile.TemporaryDirectory(prefix="tinynet-parity-") as folder:
        result = Path(folder) / "reference.npz"
        root = str(Path(tinynet.__file__).parent.parent)
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "tinynet.inspect.parity", json.dumps(asdict(case)), str(result)]
        try:
            done = subprocess.run(
                command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=TIME_LIMIT
            )
        except subprocess.TimeoutExpired:
            raise TinynetError(f"parity: torch took more than {TIME_LIMIT} s") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise TinynetError(f"parity: torch's side failed: {lines[-1]}")
        return read_record(result)


def write_record(kept: Record, path: Path) -> None:
    """All arrays of a record as one .npz; their names and order in an array of text."""
    arrays = {str(n): array for n, array in enumerate([*kept.tensors.values(), *kept.weights.values()])}
    arrays["index"] = np.array(json.dumps([list(kept.tensors), list(kept.weights), kept.kinds]))
    np.savez(path, allow_pickle=False, **arrays)


def read_record(path: Path) -> Record:
    """What `write_record` wrote."""
    with np.load(path, allow_pickle=False) as file:
        tensors, weights, kinds = json.loads(str(file["index"]))
        arrays = (file[str(number)] for number in range(len(tensors) + len(weights)))
        return Record(
            {(what, name): next(arrays) for what, name in tensors}, {name: next(arrays) for name in weights}, kinds
        )


def _torch_side(request: str, path: str) -> None:
    import torch

    from tinynet.inspect.torch_twin import torch_twin  # it needs torch

    fields = json.loads(request)
    case = Case(**{**fields, "size": tuple(fields["size"])})
    model = built(case.name, torch_twin("registry"), torch_twin("fpn"))
    write_record(run_case(case, model, torch), Path(path))


if __name__ == "__main__":
    _torch_side(*sys.argv[1:])
