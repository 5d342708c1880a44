"""ResNet-50, ResNet-101, ResNeXt-50 and ResNet-50-FPN against torch: C2 to C5, P2 to P6, logits, all gradients.

Evaluation mode is compared in float32, training mode in float64 (in training torch's own float32 gradients are
per cents from its float64 ones, at this depth and batch) and, block by block, in float32. torch executes the
torch-style source beside this file. The cases and their weights are in tests/reference/families/models.py.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tinynet
from tests.comparison import mismatch, to_numpy
from tests.reference.cases import DTYPES, MODEL_FAMILIES, family_cases
from tests.reference.families.models import LIVE, BlockCase, ModelCase, block
from tests.reference.store import Record, difference, load, record, tolerance

pytestmark = pytest.mark.usefixtures("uninitialised")
STORED = [case for name in MODEL_FAMILIES for case in family_cases(name)]


def described(case: ModelCase) -> str:
    return case.name.removeprefix("models/")


@functools.cache
def references() -> dict[str, Record]:
    return load("models")


def differences(case: ModelCase, dtype: str, results: dict[str, np.ndarray]) -> list[str]:
    """One line for every result that is not what torch's was."""
    prefix = f"{case.name}|{dtype}|"
    messages = {}
    for name, array in results.items():
        key = prefix + name
        messages[name] = difference(record(key, array), references()[key], tolerance(key, dtype))
    return [f"{name}: {message}" for name, message in messages.items() if message]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", STORED, ids=described)
def test_network_equals_stored_results_of_torch(case: ModelCase, dtype: str) -> None:
    results = case.evaluate(tinynet, dtype)
    assert {f"{case.name}|{dtype}|{name}" for name in results} == {
        key for key in references() if key.startswith(f"{case.name}|{dtype}|")
    }
    wrong = differences(case, dtype, results)
    assert not wrong, "\n".join(wrong)


def test_every_stored_result_has_a_case() -> None:
    runs = {f"{case.name}|{dtype}" for case in STORED for dtype in DTYPES}
    assert {key.rpartition("|")[0] for key in references()} == runs


def test_stored_results_notice_small_errors() -> None:
    """In float64 any map, statistic or gradient that is off by 1e-7, and one wrong element of 2.4 million."""
    case = STORED[0]
    results = case.evaluate(tinynet, "float64")
    for name, array in results.items():
        assert differences(case, "float64", {name: array * (1 + 1e-7)}), name
    name = "gradient of layer4.1.conv2.weight"
    changed = results[name].copy()
    changed.flat[1_234_567] += 0.01 * np.abs(changed).max()
    assert differences(case, "float64", {name: changed})


# --- live ---------------------------------------------------------------------------------------------------------


def relus(model: Any) -> list[Any]:
    return [module for module in model.modules() if type(module).__name__ == "ReLU"]


class Kinks:
    """Makes torch's ReLUs take the side of zero that tinynet's took, wherever the two are equal to rounding.

    Of four million activations a few are within rounding of zero. There the gradients of two correct libraries
    differ by a whole path through the network; on the same side they are comparable.
    """

    def __init__(self) -> None:
        self.sides: list[np.ndarray] = []
        self.differing = 0

    def note(self, model: Any) -> None:
        """Keeps the sides that a tinynet model takes."""
        for module in relus(model):
            module.register_forward_hook(lambda module, args, output: self.sides.append(to_numpy(output) > 0))

    def impose(self, model: Any) -> None:
        """Makes a torch model take them, in the same order."""
        sides = iter(self.sides)
        for module in relus(model):
            module.forward = functools.partial(self._forward, sides)

    def _forward(self, sides: Iterator[np.ndarray], x: Any) -> Any:
        import torch

        side = next(sides)
        values = x.detach().numpy()
        differing = np.abs(values[(values > 0) != side])
        self.differing += differing.size
        assert (differing <= 1e-5 * np.abs(values).max()).all(), "an activation has another sign than torch's"
        return x * torch.from_numpy(side)


def assert_equals_live_torch(case: ModelCase, dtype: str) -> None:
    import torch

    kinks = Kinks()
    actual = case.evaluate(tinynet, dtype, every_buffer=True, prepare=kinks.note)
    expected = case.evaluate(torch, dtype, every_buffer=True, prepare=kinks.impose)
    assert kinks.sides and kinks.differing < 100
    assert actual.keys() == expected.keys()
    wrong = []
    for name in expected:
        message = mismatch(actual[name], expected[name], tolerance(f"models/|{name}", dtype))
        wrong += [f"{name}: {message.splitlines()[0]}"] if message else []
    assert not wrong, "\n".join(wrong)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LIVE, ids=described)
def test_network_equals_live_torch(case: ModelCase, dtype: str) -> None:
    assert_equals_live_torch(case, dtype)


@pytest.mark.torch
@pytest.mark.parametrize("stage, blocks, size", [(1, 3, (19, 23)), (2, 4, (19, 23)), (3, 6, (10, 12)), (4, 3, (5, 6))])
def test_every_block_in_float32_training_equals_live_torch(stage: int, blocks: int, size: tuple[int, int]) -> None:
    for index in range(blocks):
        assert_equals_live_torch(block(stage, index, size), "float32")


@pytest.mark.torch
def test_stem_in_float32_training_equals_live_torch() -> None:
    def stem(library: Any) -> Any:
        return library.IntermediateLayerGetter(library.resnet50(), {"maxpool": "C1"})

    assert_equals_live_torch(BlockCase("stem", stem, (2, 3, 75, 91)), "float32")
