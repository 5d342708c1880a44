"""Checkpoints into models: wrappers, nesting and older names, and every mismatch listed with nothing changed."""

from __future__ import annotations

import json
import re
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinynet
from tests.checkpoint.torch_writer import Build, File, ordered
from tinynet import models, nn
from tinynet.checkpoint import load_weights, read_state_dict, save
from tinynet.detection.retinanet import RetinaNetClassificationHead
from tinynet.errors import CheckpointError
from tinynet.models import CifarResNet


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def net(**options: Any) -> CifarResNet:
    return CifarResNet(8, width=2, shortcut="B", **options)


def trained() -> CifarResNet:
    model = net()
    model(tinynet.randn(4, 3, 8, 8))
    return model


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def write_torch(value: Any, path: str = "model.pth", versions: dict[str, Any] | None = None) -> None:
    """A torch zip of nested dicts of arrays and plain values; the innermost is a state_dict with `versions`."""
    file = File()

    def encoded(value: Any) -> Any:
        if isinstance(value, (tinynet.Tensor, np.ndarray)):
            return file.tensor(np.asarray(value))
        if not isinstance(value, dict):
            return value
        table = ordered({key: encoded(entry) for key, entry in value.items()})
        tensors = any(isinstance(entry, tinynet.Tensor) for entry in value.values())
        return Build(table, {"_metadata": ordered(versions)}) if tensors and versions is not None else table

    Path(path).write_bytes(file.zip(encoded(value)))


def prefixed(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {prefix + name: value for name, value in state.items()}


def loads(expected: CifarResNet, path: str = "model.pth") -> None:
    model = net()
    assert bits(model) != bits(expected)
    load_weights(model, path)
    assert bits(model) == bits(expected)


def refused(model: nn.Module, path: str = "model.pth") -> str:
    before = bits(model)
    with pytest.raises(CheckpointError) as error:
        load_weights(model, path)
    assert bits(model) == before
    assert path in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "model.module.", "_orig_mod.module."])
@pytest.mark.parametrize(
    "nest",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "arch": "resnet"},
        lambda state: {"epoch": 3, "model": state, "optimizer": {"state": {0: {"step": tinynet.ones(1)}}}},
        lambda state: {"model_state_dict": state, "generator": tinynet.zeros(5)},
        lambda state: {"model": {"state_dict": state}},
    ],
    ids=["plain", "state_dict", "model", "model_state_dict", "twice"],
)
def test_nested_and_wrapped_state_dicts(nest: Any, prefix: str) -> None:
    model = trained()
    write_torch(nest(prefixed(prefix, model.state_dict())))
    loads(model)


def test_safetensors_and_the_checkpoint_of_a_training() -> None:
    model = trained()
    save(model, "model.safetensors")
    loads(model, "model.safetensors")
    state: dict[str, Any] = prefixed("model.", model.state_dict())
    state |= {"optimizer.0.exp_avg": tinynet.ones(2), "generator": tinynet.zeros(3)}
    save(state, "training.safetensors")
    loads(model, "training.safetensors")
    assert read_state_dict("training.safetensors")[1] == ["optimizer.0.exp_avg", "generator"]


def test_a_prefix_that_the_model_has_itself_stays() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(2, 2)

    model = Wrapper()
    save(model, "f")
    other = Wrapper()
    load_weights(other, "f")
    assert bits(other) == bits(model)


def test_a_prefix_before_some_names_only_stays() -> None:
    state = prefixed("module.", net().state_dict())
    state["fc.weight"] = state.pop("module.fc.weight")
    save(state, "f")
    message = refused(net(), "f")
    assert '"module.conv1.weight"' in message and '"fc.weight"' not in message and '"fc.bias"' in message


def test_values_take_the_models_dtype() -> None:
    model = trained()
    state = {name: v.half() if v.is_floating_point() else v for name, v in model.state_dict().items()}
    save(state, "f")
    other = net()
    load_weights(other, "f")
    assert other.conv1.weight.dtype == tinynet.float32
    assert np.array_equal(other.conv1.weight.detach().numpy(), model.conv1.weight.detach().numpy().astype(np.float16))


def versions_of(model: nn.Module, version: int | None, prefix: str) -> dict[str, Any]:
    version_of = {} if version is None else {"version": version}
    return {(prefix + name).rstrip("."): version_of for name, _ in model.named_modules()}


@pytest.mark.parametrize("version", [None, 1])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_files_of_frozen_or_old_batch_norms(prefix: str, version: int | None) -> None:
    """They count no batches; those of a current version must (the prefix moves with the versions)."""
    model = trained()
    model.load_state_dict({k: v * 0 if "num_batches" in k else v for k, v in model.state_dict().items()})
    counted = prefixed(prefix, model.state_dict())
    state = {name: value for name, value in counted.items() if "num_batches" not in name}
    write_torch(state, versions=versions_of(model, version, prefix))
    loads(model)
    write_torch(state)
    loads(model)
    write_torch(state, versions=versions_of(model, 2, prefix))
    assert refused(net()).count("num_batches_tracked") == sum("num_batches" in name for name in counted)
    frozen = net(norm_layer=models.FrozenBatchNorm2d)
    write_torch(counted, versions=versions_of(model, 2, prefix))
    load_weights(frozen, "model.pth")
    expected = {name: value for name, value in bits(model).items() if "num_batches" not in name}
    assert bits(frozen) == expected


def test_old_names_of_pyramids() -> None:
    def pyramid() -> nn.Module:
        model = nn.Sequential(OrderedDict(fpn=models.FeaturePyramidNetwork([4, 8], 6)))
        return nn.Sequential(OrderedDict(backbone=model))

    model, other = pyramid(), pyramid()
    state = {re.sub(r"(\d)\.0\.", r"\1.", name): value for name, value in model.state_dict().items()}
    assert "backbone.fpn.inner_blocks.1.weight" in state and len(state) == 8
    save(state, "f")
    load_weights(other, "f")
    assert bits(other) == bits(model)


class Tower(nn.Module):
    """A RetinaNet head's names: conv.{0..3}.0, cls_logits."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.head = nn.Module()
        self.head.classification_head = RetinaNetClassificationHead(2, 9, classes)


OLD_TOWER = {"conv.0.0.": "conv.0.", "conv.1.0.": "conv.2.", "conv.2.0.": "conv.4.", "conv.3.0.": "conv.6."}


def old_tower(model: Tower) -> dict[str, Any]:
    def old(name: str) -> str:
        return next((name.replace(new, older) for new, older in OLD_TOWER.items() if new in name), name)

    return {old(name): value for name, value in model.state_dict().items()}


def test_old_names_of_heads() -> None:
    model, other = Tower(), Tower()
    state = old_tower(model)
    assert "head.classification_head.conv.6.weight" in state
    save(prefixed("module.", state), "f")
    load_weights(other, "f")
    assert bits(other) == bits(model)
    save(model, "f")
    load_weights(other, "f")
    state["head.classification_head.conv.3.0.weight"] = state["head.classification_head.conv.6.weight"]
    save(state, "f")
    assert 'Unexpected key(s) in state_dict: "head.classification_head.conv.6.weight"' in refused(other, "f")


def test_names_that_current_models_have_are_not_changed() -> None:
    """FCOS numbers convolutions and norms in one list: conv.0, conv.1, conv.3, ..."""
    class Fcos(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classification_head = nn.Module()
            layers = [layer for _ in range(3) for layer in (nn.Conv2d(2, 2, 3), nn.GroupNorm(2, 2), nn.ReLU())]
            self.classification_head.conv = nn.Sequential(*layers)

    model, other = Fcos(), Fcos()
    assert "classification_head.conv.6.weight" in model.state_dict()
    save(model, "f")
    load_weights(other, "f")
    assert bits(other) == bits(model)


# ---- what does not fit


def test_every_mismatch_is_listed_and_nothing_is_loaded() -> None:
    state = dict(trained().state_dict())
    del state["conv1.weight"], state["layer1.0.bn1.bias"]
    state |= {"surplus": tinynet.zeros(1), "layer1.0.extra.weight": tinynet.zeros(1)}
    state["layer2.0.conv1.weight"] = tinynet.zeros(4, 2, 5, 5)
    state["layer3.0.bn1.running_var"] = tinynet.zeros(7)
    save(state, "f")
    message = refused(net(), "f")
    for words in ("f does not fit this CifarResNet", "nothing was loaded", '"conv1.weight"', '"layer1.0.bn1.bias"',
                  '"surplus"', '"layer1.0.extra.weight"', "[4, 2, 5, 5]", "[4, 2, 3, 3]", "[7]", "[8]"):  # fmt: skip
        assert words in message
    assert "classes" not in message


def test_the_file_of_another_model() -> None:
    save(CifarResNet(14, width=2, shortcut="B"), "f")
    message = refused(net(), "f")
    assert "Unexpected" in message and '"layer3.1.bn2.num_batches_tracked"' in message and "Missing" not in message


def test_another_number_of_classes_is_explained() -> None:
    save(net(num_classes=7), "f")
    message = refused(net(), "f")
    assert "The file's fc has 7 outputs, the model's 10: they are for different classes." in message
    assert "[7, 8]" in message and "[10, 8]" in message and "fc.bias" in message
    save(Tower(classes=2), "f")
    assert "head.classification_head.cls_logits has 18 outputs, the model's 27" in refused(Tower(), "f")
    save(CifarResNet(8, width=3, shortcut="B", num_classes=7), "f")
    assert "different classes" not in refused(net(), "f")  # another width is another model


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"optimizer": {"state": 1}, "epoch": 3}, "found {'optimizer': OrderedDict, 'epoch': int}"),
        ({"state_dict": {"epoch": 3}}, "expected tensors by name, or a state_dict below 'state_dict'"),
        ([1, 2], "found a list"),
        ({}, "found {}"),
    ],
)
def test_files_without_a_state_dict(value: Any, message: str) -> None:
    write_torch(value)
    assert message in refused(net())


def test_entries_that_are_no_tensors() -> None:
    write_torch({**net().state_dict(), "fc.bias": 3, 5: 6})
    message = refused(net())
    assert "fc.bias: expected a tensor" in message and '"5"' in message


def test_damage_leaves_the_model_as_it_was() -> None:
    save(trained(), "f")
    content = Path("f").read_bytes()
    for damaged in (b"", content[:5], content[: len(content) // 2], content[:-1], content + b"\0"):
        Path("f").write_bytes(damaged)
        refused(net(), "f")
    for position in (0, 9, 200, len(content) - 1000, len(content) - 1):
        flipped = bytearray(content)
        flipped[position] ^= 4
        Path("f").write_bytes(flipped)
        refused(net(), "f")
    refused(net(), "missing.pth")
    write_torch(net().state_dict())
    Path("model.pth").write_bytes(Path("model.pth").read_bytes()[:-30])
    refused(net())


def test_nan_weights_warn() -> None:
    model = trained()
    state = {**model.state_dict(), "fc.bias": tinynet.full((10,), float("nan"))}
    write_torch({"state_dict": prefixed("module.", state)})
    with pytest.warns(UserWarning, match=r"NaN or infinite values in fc\.bias"):
        load_weights(net(), "model.pth")
    write_torch(model.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_weights(net(), "model.pth")


def test_models_take_a_path() -> None:
    model = models.cifar_resnet20(num_classes=3)
    save(model, "f")
    assert bits(models.cifar_resnet20(weights="f", num_classes=3)) == bits(model)
    assert bits(models.cifar_resnet20(weights=Path("f"), num_classes=3)) == bits(model)
    with pytest.raises(CheckpointError, match="3 outputs, the model's 10"):
        models.cifar_resnet20(weights="f")


def test_metadata_of_any_length_is_no_obstacle() -> None:
    model = trained()
    save(model, "f", {"history": json.dumps([{"epoch": i} for i in range(10_000)])})
    loads(model, "f")
