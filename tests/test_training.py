"""The fit loop: progress, determinism, resuming to the bit, and stopping where numbers break."""

from __future__ import annotations

import contextlib
import csv
import errno
import os
import signal
from pathlib import Path

import numpy as np
import pytest

import tinynet
from tinynet import Tensor, nn, optim
from tinynet.checkpoint import load_safetensors, save_safetensors
from tinynet.data import RandomShift
from tinynet.errors import CheckpointError
from tinynet.models import CifarResNet
from tinynet.training import HISTORY_COLUMNS, DivergedError, Trainer, read_checkpoint
from tinynet.utils.data import DataLoader, TensorDataset

EPOCHS = 4


def blobs(count: int, seed: int) -> TensorDataset:
    """Images whose class is the quarter that is bright."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    images = rng.standard_normal((count, 1, 8, 8)).astype(np.float32)
    for image, label in zip(images, labels):
        image[0, 4 * (label // 2) : 4 * (label // 2) + 4, 4 * (label % 2) : 4 * (label % 2) + 4] += 2
    return TensorDataset(tinynet.from_numpy(images), tinynet.from_numpy(labels))


def make_trainer(
    checkpoint: Path | None = None,
    optimizer: str = "adamw",
    seed: int = 0,
    own_generator: bool = False,
    images: int = 50,
    lr: float = 0.01,
) -> Trainer:
    tinynet.manual_seed(seed)
    model = CifarResNet(8, num_classes=4, width=4, in_channels=1)
    model.fc = nn.Sequential(nn.Dropout(0.2), model.fc)  # draws random numbers in the forward pass
    generator = tinynet.Generator().manual_seed(7) if own_generator else None
    loader = DataLoader(blobs(images, 0), batch_size=16, shuffle=True, generator=generator)
    if optimizer == "sgd":
        opt: optim.Optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=1e-3)
        warm = optim.lr_scheduler.LinearLR(opt, 0.1, total_iters=3)
        fall = optim.lr_scheduler.CosineAnnealingLR(opt, EPOCHS * len(loader))
        schedule = optim.lr_scheduler.SequentialLR(opt, [warm, fall], [3])
    else:
        opt = optim.AdamW(model.parameters(), lr=lr)
        schedule = optim.lr_scheduler.OneCycleLR(opt, lr, total_steps=EPOCHS * len(loader))
    held_out = DataLoader(blobs(40, 1), batch_size=32)
    return Trainer(model, opt, schedule, loader, held_out, transform=RandomShift(1), checkpoint=checkpoint)


def bits(trainer: Trainer) -> dict[str, bytes]:
    """Everything that the next epoch depends on."""
    state = {f"model.{name}": value.numpy().tobytes() for name, value in trainer.model.state_dict().items()}
    for index, values in trainer.optimizer.state_dict()["state"].items():
        for name, value in values.items():
            state[f"{index}.{name}"] = value.numpy().tobytes() if isinstance(value, Tensor) else repr(value).encode()
    state["generator"] = tinynet.get_rng_state().numpy().tobytes()
    state["rates"] = repr(trainer.scheduler.get_last_lr()).encode()
    return state


def results(trainer: Trainer) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in trainer.history]


def test_it_learns_and_reports(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = make_trainer(images=400)
    history = trainer.fit(EPOCHS)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert all(tuple(row) == HISTORY_COLUMNS for row in history)
    assert history[-1]["held_out_accuracy"] > 0.8 and history[-1]["loss"] < history[0]["loss"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == EPOCHS and lines[-1].startswith("epoch 4/4   loss")
    evaluation = trainer.evaluate()
    assert evaluation.probabilities.shape == (40, 4) and np.allclose(evaluation.probabilities.sum(axis=1), 1, atol=1e-5)
    assert evaluation.accuracy == history[-1]["held_out_accuracy"]


def test_a_swallowed_interrupt_still_ends_it(monkeypatch: pytest.MonkeyPatch, hears_ctrl_c: None) -> None:
    trainer, steps = make_trainer(), []
    whole = trainer.step

    def step(batch):
        steps.append(len(batch[0]))
        with contextlib.suppress(KeyboardInterrupt):  # as Python does in a finalizer
            signal.raise_signal(signal.SIGINT)
        return whole(batch)

    monkeypatch.setattr(trainer, "step", step)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(1)
    assert len(steps) == 1


def test_evaluation_changes_nothing() -> None:
    trainer = make_trainer()
    trainer.fit(1)
    before = trainer.model.state_dict()
    before = {name: value.numpy().tobytes() for name, value in before.items()}
    trainer.evaluate()
    assert before == {name: value.numpy().tobytes() for name, value in trainer.model.state_dict().items()}


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_gives_the_same_bits(threads: int) -> None:
    first = make_trainer()
    first.fit(2)
    reference = bits(first)
    usual = tinynet.get_num_threads()
    tinynet.set_num_threads(threads)
    try:
        again = make_trainer()
        again.fit(2)
    finally:
        tinynet.set_num_threads(usual)
    assert bits(again) == reference
    other = make_trainer(seed=1)
    other.fit(2)
    assert bits(other) != reference


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("own_generator", [False, True])
def test_resuming_gives_the_bits_of_never_stopping(tmp_path: Path, optimizer: str, own_generator: bool) -> None:
    path = tmp_path / "checkpoint.safetensors"
    straight = make_trainer(None, optimizer, own_generator=own_generator)
    straight.fit(EPOCHS)
    expected = bits(straight), results(straight)
    for stop in (0, 1, 3):
        interrupted = make_trainer(path, optimizer, own_generator=own_generator)
        if stop:
            interrupted.fit(stop)
        else:
            interrupted.save()
        resumed = make_trainer(None, optimizer, seed=99, own_generator=own_generator)
        tinynet.manual_seed(12345)
        resumed.resume(path)
        assert resumed.epoch == stop
        resumed.fit(EPOCHS)
        assert (bits(resumed), results(resumed)) == expected


def test_interruption_keeps_the_last_epoch(tmp_path: Path) -> None:
    """Ctrl-C in the middle of epoch 2; resuming then ends as if nothing had happened."""
    path = tmp_path / "checkpoint.safetensors"
    straight = make_trainer()
    straight.fit(EPOCHS)
    expected = bits(straight)
    trainer = make_trainer(path)
    shift, calls = trainer.transform, []

    def interrupt(images: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 6:  # 4 steps an epoch
            raise KeyboardInterrupt
        assert shift is not None
        return shift(images)

    trainer.transform = interrupt
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(EPOCHS)
    assert len(read_checkpoint(path).record["history"]) == 1
    resumed = make_trainer(seed=3)
    resumed.resume(path)
    resumed.fit(EPOCHS)
    assert bits(resumed) == expected


def test_interruption_in_the_first_epoch_has_a_checkpoint_too(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "c")
    trainer.transform = lambda images: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(EPOCHS)
    assert read_checkpoint(tmp_path / "c").record["history"] == []


# Numbers that break


def test_a_nan_in_the_data_names_the_image_and_the_layer(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "c")
    trainer.fit(1)
    good = (tmp_path / "c").read_bytes()
    images = trainer.train_loader.dataset.tensors[0].numpy()
    images[:, 0, 0, 0] = np.nan
    with pytest.raises(DivergedError, match=r"step 1 of epoch 2: image 0 of the batch.*conv1.*kept as of epoch 1"):
        trainer.fit(EPOCHS)
    assert (tmp_path / "c").read_bytes() == good


def test_a_nan_weight_is_named() -> None:
    trainer = make_trainer()
    trainer.model.layer2[0].conv2.weight.detach().numpy()[0, 0, 0, 0] = np.nan
    with pytest.raises(DivergedError, match=r"the loss is nan.*parameter layer2.0.conv2.weight is not finite"):
        trainer.fit(1)


def test_the_first_layer_that_overflows_is_named() -> None:
    trainer = make_trainer()
    nn.init.constant_(trainer.model.layer3[0].bn2.weight, 3e38)
    nn.init.constant_(trainer.model.layer3[0].bn2.bias, 3e38)
    with pytest.raises(DivergedError, match=r"layer layer3.0.bn2 \(BatchNorm2d\) is the first whose output"):
        trainer.fit(1)


class BrokenBackward(tinynet.autograd.Function):
    """Passes its input on, and a gradient of NaN back."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * float("nan")


class Breaking(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return BrokenBackward.apply(self.inner(x))


def test_a_nan_gradient_is_named_and_the_last_good_checkpoint_kept(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "c")
    trainer.fit(1)
    good, weights = (tmp_path / "c").read_bytes(), trainer.model.layer3[0].conv1.weight.detach().numpy().copy()
    trainer.model.layer3 = Breaking(trainer.model.layer3)
    with pytest.raises(DivergedError, match=r"gradient of layer3.inner.0.bn2.bias \(and of \d+ more.*epoch 2.*epoch 1"):
        trainer.fit(EPOCHS)
    assert (tmp_path / "c").read_bytes() == good
    assert np.array_equal(trainer.model.layer3.inner[0].conv1.weight.detach().numpy(), weights)


def test_weights_that_break_in_the_last_step_do_not_reach_the_checkpoint(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "c")
    trainer.fit(1)
    good = (tmp_path / "c").read_bytes()
    evaluate = trainer.evaluate

    def break_afterwards():
        evaluation = evaluate()
        trainer.model.bn1.running_var.numpy()[2] = np.inf
        return evaluation

    trainer.evaluate = break_afterwards  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match=r"buffer bn1.running_var is not finite after epoch 2"):
        trainer.fit(EPOCHS)
    assert (tmp_path / "c").read_bytes() == good and trainer.epoch == 1


# Checkpoints


def test_a_checkpoint_of_another_model_or_optimizer_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c"
    trainer = make_trainer(path)
    trainer.fit(1)
    other = make_trainer(seed=5)
    other.model.fc = nn.Linear(16, 7)
    before = bits(other)
    with pytest.raises(CheckpointError, match="fc"):
        other.resume(path)
    assert bits(other) == before
    other = make_trainer(seed=5)
    other.optimizer = optim.AdamW([{"params": [p]} for p in other.model.parameters()])
    before = bits(other)
    with pytest.raises(CheckpointError, match="parameter groups"):
        other.resume(path)
    assert bits(other) == before and other.epoch == 0


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "missing", "foreign"])
def test_a_damaged_checkpoint_changes_nothing(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c"
    trainer = make_trainer(path)
    trainer.fit(1)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flipped":
        content[-100] ^= 4
        path.write_bytes(content)
    elif damage == "missing":
        path.unlink()
    else:
        save_safetensors(trainer.model.state_dict(), path)
    before = bits(trainer)
    with pytest.raises(CheckpointError, match=str(path)):
        trainer.resume(path)
    assert bits(trainer) == before


def test_a_full_disk_stops_with_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path / "c")
    trainer.fit(1)
    good = (tmp_path / "c").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        trainer.fit(EPOCHS)
    assert (tmp_path / "c").read_bytes() == good and os.listdir(tmp_path) == ["c"]


def test_the_checkpoint_is_plain_tensors_and_json(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "c")
    trainer.config = {"anything": [1, "two"]}
    trainer.fit(1)
    tensors, metadata = load_safetensors(tmp_path / "c")
    assert {name.split(".")[0] for name in tensors} == {"model", "optimizer", "generator"}
    assert set(metadata) == {"tinynet.training"}
    assert read_checkpoint(tmp_path / "c").record["config"] == {"anything": [1, "two"]}


def test_history_as_csv(tmp_path: Path) -> None:
    from tinynet.cli.train import write_history

    trainer = make_trainer()
    trainer.fit(2)
    write_history(trainer.history, tmp_path / "history.csv")
    with open(tmp_path / "history.csv", newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert rows == trainer.history
