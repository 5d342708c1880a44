"""Parity, layer by layer: the first difference is found where it was made, and named with its cause."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tinynet
from tinynet import autograd, models, nn
from tinynet.errors import TinynetError
from tinynet.inspect import Comparison, compare, parity
from tinynet.inspect.compare import Record, Row, match, record

needs_torch = pytest.mark.torch


def pair(dtype: str = "float32") -> tuple[nn.Module, nn.Module, tinynet.Tensor]:
    model = models.cifar_resnet20(num_classes=4).to(getattr(tinynet, dtype)).eval()
    return model, copy.deepcopy(model), tinynet.randn(2, 3, 12, 12, dtype=getattr(tinynet, dtype))


def first(comparison: Comparison) -> Row:
    row = comparison.first_divergence
    assert row is not None and not comparison.agrees
    assert f"first divergence: {row.name or 'the model'} (" in str(comparison)
    return row


def test_equal_models_agree_in_everything() -> None:
    model, reference, x = pair()
    result = compare(model, reference, x, gradients=True)
    assert result.agrees and result.first_divergence is None and not result.missing
    assert {row.what for row in result.rows} == {"input", "output", "buffer", "gradient"}
    assert {row.name for row in result.rows if row.what == "gradient"} == {name for name, _ in model.named_parameters()}
    outputs = {row.name.partition(" #")[0] for row in result.rows if row.what == "output"}
    assert outputs == {name for name, _ in model.named_modules()}
    assert all(row.error == 0 for row in result.rows) and "tensors agree" in str(result)


def change_eps(model: nn.Module) -> None:
    model.layer2[1].bn1.eps = 0.01


def change_weight(model: nn.Module) -> None:
    model.layer2[1].conv2.weight.data[3, 2, 1, 1] += 0.3


def change_statistics(model: nn.Module) -> None:
    model.layer1[0].bn1.running_mean += 0.3


def change_block(model: nn.Module) -> None:
    block = model.layer3[0]
    forward = block.forward
    block.forward = lambda x: forward(x) * 1.001


def change_join(model: nn.Module) -> None:
    block = model.layer3[1]

    def forward(x):
        out = block.relu(block.bn1(block.conv1(x)))
        return block.relu(block.bn2(block.conv2(out)) + 1.01 * x)

    block.forward = forward


def change_join_in_place(model: nn.Module) -> None:
    block = model.layer3[1]

    def forward(x):
        out = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))
        out += 1.01 * x  # the tensor that bn2 returned
        return block.relu(out)

    block.forward = forward


@pytest.mark.parametrize(
    ("change", "name", "what", "reason"),
    [
        (change_eps, "layer2.1.bn1", "output", "own computation and settings"),
        (change_weight, "layer2.1.conv2", "output", "its weights differ: layer2.1.conv2.weight"),
        (change_statistics, "layer1.0.bn1", "output", "its weights differ: layer1.0.bn1.running_mean"),
        (change_block, "layer3.0", "output", "all layers inside agree"),
        (change_join, "layer3.1.relu #2", "input", "the calling module's forward"),
        (change_join_in_place, "layer3.1.relu #2", "input", "the calling module's forward"),
    ],
)
def test_the_first_divergence_is_where_it_was_made(change: Callable, name: str, what: str, reason: str) -> None:
    model, reference, x = pair()
    change(model)
    result = compare(model, reference, x)
    row = first(result)
    assert (row.name, row.what) == (name, what) and reason in result.reason
    place = result.rows.index(row)
    assert all(earlier.agrees for earlier in result.rows[:place]) and place > 4
    assert not next(r for r in result.rows if (r.name, r.what) == ("fc", "output")).agrees


def test_errors_are_relative_to_the_reference_and_tolerances_count() -> None:
    model, reference, x = pair()
    model.fc.weight.data *= 1.00005
    model.fc.bias.data *= 1.00005
    assert compare(model, reference, x).agrees  # 5e-5 of the largest magnitude
    row = first(compare(model, reference, x, tolerance=1e-5))
    assert row.name == "fc" and 4e-5 < row.error < 6e-5
    model64, reference64, x64 = pair("float64")
    model64.fc.weight.data *= 1 + 1e-7
    assert first(compare(model64, reference64, x64)).name == "fc"


class Wrong(autograd.Function):
    """The identity with a wrong gradient."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * 1.1


def test_wrong_gradients_are_found_below_the_layer_that_made_them() -> None:
    model, reference, x = pair()
    forward = model.layer2[0].forward
    model.layer2[0].forward = lambda t: Wrong.apply(forward(t))
    assert compare(model, reference, x).agrees  # no gradients asked for
    result = compare(model, reference, x, gradients=True)
    row = first(result)
    assert row.what == "gradient" and row.name.startswith("layer2.0.") and "all outputs agree" in result.reason
    later = [r for r in result.rows if r.what == "gradient" and r.name.startswith(("layer3", "fc", "layer2.1"))]
    assert later and all(r.agrees for r in later)


def test_a_relu_at_its_kink_is_explained() -> None:
    x = tinynet.tensor([[1.0, -1.0], [2.0, 3.0]])
    model, reference = (nn.Sequential(nn.Linear(2, 2), nn.ReLU()).eval() for _ in range(2))
    for net, bias in ((model, 1e-7), (reference, -1e-7)):
        net[0].weight.data.copy_(tinynet.tensor([[1.0, 1.0], [1.0, 0.0]]))
        net[0].bias.data.copy_(tinynet.tensor([bias, 0.0]))
    result = compare(model, reference, x, gradients=True)
    assert first(result).what == "gradient" and "1 of 4 inputs of 1 are zero up to rounding" in result.reason


def test_nothing_is_left_behind() -> None:
    model, reference, x = pair()
    model.train()
    reference.train()
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    result = compare(model, reference, x, gradients=True)
    assert result.agrees and any(row.name == "bn1.running_mean" for row in result.rows)
    assert all(np.array_equal(before[name], value.numpy()) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_running_statistics_are_compared() -> None:
    model, reference, x = pair()
    model.train()
    reference.train()
    model.layer2[2].bn2.momentum = 0.2
    row = first(compare(model, reference, x))
    assert (row.name, row.what) == ("layer2.2.bn2.running_mean", "buffer")


def test_dtypes_shapes_missing_layers_and_modes() -> None:
    model, reference, x = pair()
    with pytest.raises(ValueError, match="evaluation mode, the reference in training mode"):
        compare(model, reference.train(), x)
    shallow = nn.Sequential(nn.Linear(3, 4)).eval()
    wide, double = nn.Sequential(nn.Linear(3, 5)).eval(), copy.deepcopy(shallow)
    x = tinynet.randn(2, 3)
    assert first(compare(shallow, wide, x)).problem == "shape 2×4, the reference has 2×5"
    expected = record(double.double(), (x.double().numpy(),))
    assert first(match(record(shallow, (x.numpy(),)), expected)).problem == "dtype float32, the reference has float64"
    longer = nn.Sequential(shallow[0], nn.ReLU()).eval()
    result = compare(longer, shallow, x)
    assert not result.agrees and "output of 1 (in the model, not in the reference)" in result.missing
    with pytest.raises(TypeError, match="expected a tinynet or torch module, got Odd"):
        compare(shallow, type("Odd", (), {"training": False})(), x)


def test_nan_on_one_side_is_a_divergence_and_on_both_is_not() -> None:
    def holding(*values: float) -> Record:
        return Record({("output", "a"): np.array(values, np.float32)}, kinds={"a": "Layer"})

    nan = float("nan")
    assert match(holding(1, nan), holding(1, nan)).agrees
    for ours, theirs in ((nan, 2), (2, nan), (float("inf"), -float("inf"))):
        assert "NaN or infinity" in first(match(holding(1, ours), holding(1, theirs))).verdict
    assert match(holding(1e-11, 0), holding(0, 0)).agrees  # zero up to rounding


def test_torch_is_not_imported() -> None:
    import subprocess
    import sys

    code = (
        "import sys, tinynet; from tinynet import nn; from tinynet.inspect import compare;"
        "m = nn.Linear(2, 2); assert compare(m, m, tinynet.ones(1, 2)).agrees; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@needs_torch
def test_against_a_torch_model_in_this_process() -> None:
    import torch

    ours = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(16, 2))
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(inplace=True), torch.nn.Flatten(),
        torch.nn.Linear(16, 2),
    )  # fmt: skip
    theirs.load_state_dict({k: torch.from_numpy(v.numpy().copy()) for k, v in ours.state_dict().items()})
    x = tinynet.randn(5, 3, 4, 4)
    result = compare(ours, theirs, x, gradients=True)
    assert result.agrees, str(result)  # also the bias before the batch norm, whose gradient is rounding
    with torch.no_grad():
        theirs[4].bias[1] += 0.1
    result = compare(ours, theirs, x)
    assert first(result).name == "4" and "4.bias" in result.reason


@needs_torch
@pytest.mark.parametrize(
    "case",
    [
        parity.Case("resnet18_fpn", (75, 91), gradients=False),
        parity.Case("cifar_resnet20", (15, 17), 2, "float64", training=True),
    ],
    ids=["pyramid", "training"],
)
def test_parity_with_torch_in_a_process_of_its_own(case: parity.Case) -> None:
    result = parity.parity(case)
    assert result.agrees, str(result)
    assert len(result.rows) > 100
    if case.training:
        assert any(row.what == "buffer" and row.error > 0 for row in result.rows)


@needs_torch
def test_parity_finds_a_wrong_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    build = parity.build

    def wrong(name: str, command: str) -> nn.Module:
        model = build(name, command)
        model.layer2[0].conv2.padding = (0, 1)
        model.layer2[0].conv2.forward = lambda x: nn.functional.pad(
            nn.functional.conv2d(x, model.layer2[0].conv2.weight, None, 1, (0, 1)), (0, 0, 0, 2)
        )
        return model

    monkeypatch.setattr(parity, "build", wrong)
    assert first(parity.parity(parity.Case("cifar_resnet20", (16, 16), gradients=False))).name == "layer2.0.conv2"


def test_drawn_weights_depend_on_name_and_seed_alone() -> None:
    shape = (4, 3, 3, 3)
    assert np.array_equal(parity.drawn("a.weight", shape), parity.drawn("a.weight", shape))
    assert not np.array_equal(parity.drawn("a.weight", shape), parity.drawn("b.weight", shape))
    assert not np.array_equal(parity.drawn("a.weight", shape), parity.drawn("a.weight", shape, seed=1))
    assert parity.drawn("bn.num_batches_tracked", ()).dtype == np.int64


def test_records_travel_without_pickle(tmp_path: Path) -> None:
    model, _, x = pair()
    kept = record(model, (x.numpy(),), gradients=True)
    parity.write_record(kept, tmp_path / "r.npz")
    back = parity.read_record(tmp_path / "r.npz")
    assert list(back.tensors) == list(kept.tensors) and back.kinds == kept.kinds
    assert match(back, kept).agrees and not match(back, kept).missing
    assert list(back.weights) == list(model.state_dict())


def test_unknown_models_and_a_missing_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TinynetError, match="no model 'resnet51'; did you mean resnet50"):
        parity.parity(parity.Case("resnet51"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TinynetError, match="torch is not installed"):
        parity.parity(parity.Case("cifar_resnet20"))
