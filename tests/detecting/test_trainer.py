"""Training detectors: progress and AP, the same bits after a resumption, and a clear stop where numbers break."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import tinynet
from tests.detecting.small import EPOCHS, bits, make_trainer, results, scenes
from tinynet import nn
from tinynet.data import box_transforms
from tinynet.detecting import detect_all, evaluate
from tinynet.detecting.trainer import HISTORY_COLUMNS
from tinynet.errors import CheckpointError
from tinynet.training import DivergedError, read_checkpoint


def test_it_learns_and_reports(capsys: pytest.CaptureFixture[str]) -> None:
    """Forty steps on the same eight scenes are enough to find something in them."""
    splits = scenes(8)
    splits = splits._replace(running=splits.train)  # one batch
    trainer = make_trainer(splits=splits, epochs=40)
    history = trainer.fit(40)
    assert all(tuple(row) == HISTORY_COLUMNS for row in history) and len(history) == 40
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    assert abs(history[-1]["loss"] - history[-1]["classification"] - history[-1]["box"]) < 1e-6
    measured = [row["epoch"] for row in history if not math.isnan(row["AP"])]
    assert measured == list(range(4, 41, 4)), "ten times in all, the last epoch included"
    assert history[-1]["AP50"] > 0.3
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 40 and lines[-1].startswith("epoch 40/40   loss")
    assert f"AP {history[-1]['AP']:.3f}" in lines[-1] and "AP" not in lines[-2]
    assert trainer.shown({"loss": 1.5}) == {"loss": "1.500", "AP": f"{history[-1]['AP']:.3f}"}


def test_the_loss_is_what_the_model_says() -> None:
    trainer = make_trainer()
    batch = next(iter(trainer.train_loader))
    losses = trainer.model.loss(*batch)
    step = trainer.step(batch)
    assert step.images == 8 and step.loss.item() == sum(losses.values()).item()
    assert step.sums == {name: 8 * value.item() for name, value in losses.items()}


def test_evaluation_changes_nothing_and_is_in_order() -> None:
    trainer = make_trainer()
    trainer.fit(1)
    before = bits(trainer)
    found = detect_all(trainer.model, trainer.held_out)
    assert len(found) == 16 and not trainer.model.training
    last = trainer.model.detect([trainer.held_out[15][0]])[0]
    assert np.allclose(last["boxes"].numpy(), found[15]["boxes"].numpy(), atol=1e-3)
    assert evaluate(trainer.model, trainer.held_out).compute()["AP"] == trainer.history[-1]["AP"]
    assert bits(trainer) == before


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_gives_the_same_bits(threads: int) -> None:
    first = make_trainer()
    first.fit(1)
    reference = bits(first)
    usual = tinynet.get_num_threads()
    tinynet.set_num_threads(threads)
    try:
        again = make_trainer()
        again.fit(1)
    finally:
        tinynet.set_num_threads(usual)
    assert bits(again) == reference
    other = make_trainer(seed=1)
    other.fit(1)
    assert bits(other) != reference


@pytest.mark.parametrize("design", ["fpn", "image-pyramid"])
def test_resuming_gives_the_bits_of_never_stopping(tmp_path: Path, design: str) -> None:
    """With random augmentation, and random copies of the image pyramid."""
    path = tmp_path / "checkpoint.safetensors"

    def made(path: Path | None, seed: int = 0):
        trainer = make_trainer(design, path, seed)
        flip = box_transforms.RandomHorizontalFlip()
        trainer.train_loader.dataset.transforms = box_transforms.Compose([flip, box_transforms.RandomScale()])
        return trainer

    straight = made(None)
    straight.fit(EPOCHS)
    expected = bits(straight), results(straight)
    for stop in (0, 2):
        interrupted = made(path)
        if stop:
            interrupted.fit(stop)
        else:
            interrupted.save()
        resumed = made(None, seed=99)
        tinynet.manual_seed(12345)
        resumed.resume(path)
        assert resumed.epoch == stop
        resumed.fit(EPOCHS)
        assert bits(resumed) == expected[0]
        assert repr(results(resumed)) == repr(expected[1])


def test_interruption_keeps_the_last_epoch(tmp_path: Path) -> None:
    path = tmp_path / "c"
    straight = make_trainer()
    straight.fit(EPOCHS)
    trainer = make_trainer("fpn", path)
    step, calls = trainer.step, []

    def interrupt(batch):
        calls.append(1)
        if len(calls) == 4:  # 2 steps an epoch
            raise KeyboardInterrupt
        return step(batch)

    trainer.step = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(EPOCHS)
    assert len(read_checkpoint(path).record["history"]) == 1
    resumed = make_trainer(seed=3)
    resumed.resume(path)
    resumed.fit(EPOCHS)
    assert bits(resumed) == bits(straight)


def test_numbers_that_break_are_named(tmp_path: Path) -> None:
    trainer = make_trainer("fpn", tmp_path / "c")
    trainer.fit(1)
    good = (tmp_path / "c").read_bytes()
    dataset = trainer.train_loader.dataset
    dataset.transforms = lambda image, target: (image * np.float32(np.nan if target["image_id"] == 3 else 1), target)
    with pytest.raises(DivergedError, match=r"loss is nan.*epoch 2: image \d of the batch.*body.conv1; .*kept as of"):
        trainer.fit(EPOCHS)
    assert (tmp_path / "c").read_bytes() == good
    dataset.transforms = None
    nn.init.constant_(trainer.model.pyramid.fpn.inner_blocks[1][1].weight, 3e38)
    nn.init.constant_(trainer.model.pyramid.fpn.inner_blocks[1][1].bias, 3e38)
    with pytest.raises(DivergedError, match=r"layer pyramid.fpn.inner_blocks.1.1 \(BatchNorm2d\) is the first whose"):
        trainer.fit(EPOCHS)
    trainer.model.head.predictors[0].weight.detach().numpy()[0] = np.inf
    with pytest.raises(DivergedError, match=r"the parameter head.predictors.0.weight is not finite"):
        trainer.fit(EPOCHS)


def test_a_checkpoint_of_another_design_changes_nothing(tmp_path: Path) -> None:
    make_trainer("fpn", tmp_path / "c").save()
    other = make_trainer("c4")
    before = bits(other)
    with pytest.raises(CheckpointError, match="fpn"):
        other.resume(tmp_path / "c")
    assert bits(other) == before
