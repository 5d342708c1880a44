"""From a configuration to a trainer, from a detector to a file and back, and photos of any size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinynet
from tests.detecting.small import make_trainer, scenes
from tinynet import from_numpy, nn, optim
from tinynet.checkpoint import load_safetensors, save_safetensors
from tinynet.detecting import build_trainer, detect_photo, new_config, open_detector, save_detector
from tinynet.detecting.runs import warm_up_and_cosine
from tinynet.errors import CheckpointError


def test_the_recipe() -> None:
    """AdamW 2e-3, no decay of norms and biases, gradients clipped at 10, batches of 8."""
    trainer = make_trainer()
    weights, others = trainer.optimizer.param_groups
    assert (weights["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    assert all(p.ndim == 4 for p in weights["params"]) and all(p.ndim == 1 for p in others["params"])
    assert len(weights["params"]) + len(others["params"]) == len(list(trainer.model.parameters()))
    assert isinstance(trainer.optimizer, optim.AdamW) and trainer.clip_norm == 10
    assert trainer.train_loader.batch_size == 8 and trainer.train_loader.dataset.transforms is None
    detector = trainer.config["detector"]
    assert detector["levels"] == [2, 3, 4, 5] and detector["scale"] == 2.5 and detector["channels"] == 32
    assert detector["mean"] == list(trainer.train_loader.dataset.mean)


def test_gradients_are_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, limits = make_trainer(), []
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda parameters, limit: limits.append(limit))
    trainer.fit(1)
    assert limits == [10.0, 10.0]


def test_warm_up_and_cosine() -> None:
    def rates(steps: int) -> list[float]:
        optimizer = optim.AdamW([tinynet.zeros(1, requires_grad=True)], lr=2e-3)
        scheduler = warm_up_and_cosine(optimizer, steps)
        found = []
        for _ in range(steps):
            found.append(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
        return [*found, scheduler.get_last_lr()[0]]

    found = rates(1000)
    assert np.allclose(found[:101], 2e-3 * np.append(0.01 + 0.0099 * np.arange(100), 1.0))
    assert np.allclose(found[100:], 1e-3 * (1 + np.cos(np.pi * np.arange(901) / 900)), atol=1e-12)
    for steps in (8, 399):
        found = rates(steps)
        assert max(found) <= 2e-3 and found[-1] < 1e-9
    assert rates(1)[0] == rates(2)[0] == 2e-3


def test_layers_of_ones_own() -> None:
    trainer = build_trainer(new_config("c4", "scenes", layers=(1, 1, 3, 1)), scenes(8))
    assert len(trainer.model.pyramid.body.layer3) == 3 and trainer.epochs == 4


def test_a_detector_comes_back_from_its_file_alone(tmp_path: Path) -> None:
    trainer = make_trainer("image-pyramid", tmp_path / "checkpoint.safetensors", epochs=1)
    trainer.fit(1)
    save_detector(trainer.model, trainer.config, tmp_path / "model.safetensors")
    image = trainer.held_out[0][0]
    expected = trainer.model.eval().detect([image])[0]
    for source in ("model.safetensors", "checkpoint.safetensors", "."):
        tinynet.manual_seed(77)
        model, config = open_detector(tmp_path / source)
        assert config == trainer.config and not model.training
        found = model.detect([image])[0]
        assert all(np.array_equal(found[name].numpy(), expected[name].numpy()) for name in expected)


def test_what_is_no_detector_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    trainer = make_trainer()
    state = trainer.model.state_dict()
    save_safetensors(state, path)
    with pytest.raises(CheckpointError, match="holds no detector of `tinynet detect train`"):
        open_detector(path)
    save_detector(trainer.model, {**trainer.config, "detector": {"design": "ssd", "classes": []}}, path)
    with pytest.raises(CheckpointError, match="holds no detector"):
        open_detector(path)
    config = json.loads(json.dumps(trainer.config))
    config["detector"]["channels"] = 16
    save_detector(trainer.model, config, path)
    with pytest.raises(CheckpointError, match=r"(?s)does not fit the detector that it.*predictors.0.weight"):
        open_detector(path)
    save_detector(trainer.model, trainer.config, path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        open_detector(path)
    with pytest.raises(CheckpointError, match="none"):
        open_detector(tmp_path / "none")


def test_the_file_is_plain_tensors_and_json(tmp_path: Path) -> None:
    trainer = make_trainer()
    save_detector(trainer.model, trainer.config, tmp_path / "m")
    tensors, metadata = load_safetensors(tmp_path / "m")
    assert tensors.keys() == trainer.model.state_dict().keys()
    assert json.loads(metadata["tinynet.detector"])["detector"]["classes"] == ["digit"]


def test_photos_of_any_size_and_colour() -> None:
    """A colour photo for a grey detector; boxes come back in the photo's own pixels."""
    model = make_trainer().model.eval()
    with tinynet.no_grad():
        model.head.predictors[0].bias[0] = 2.0  # finds something everywhere
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 255, (60, 100, 3), np.uint8))
    grey = np.asarray(photo.convert("L"), np.float32)[None] / np.float32(255)
    expected = model.detect([from_numpy(grey)])[0]
    found = detect_photo(model, photo)
    assert all(np.array_equal(found[name], expected[name].numpy()) for name in expected)
    small = detect_photo(model, photo, longest=50)
    assert small["boxes"].max() > 90 and (small["boxes"] <= [100, 60, 100, 60]).all()
    best = detect_photo(model, photo, score=float(found["scores"][4]))
    assert np.array_equal(best["boxes"], found["boxes"][:5])
