"""`tinynet train`: a data set, a residual net, its recipe, and the folder of results."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tinynet
from tinynet import checkpoint, data, kernels, models, nn, optim, plot, ranks, training
from tinynet.cli.runs import (
    CHECKPOINT,
    WEIGHTS,
    checkpoint_path,
    list_files,
    new_folder,
    resumable,
    resumed_run,
    write_history,
)
from tinynet.errors import DataError
from tinynet.utils.atomic import atomic_write
from tinynet.utils.data import DataLoader

# What makes a run what it is: stored in its checkpoint, kept by --resume. None: the data set decides.
DEFAULTS: dict[str, Any] = {
    "model": "bottleneck20", "data": "digits", "root": None, "epochs": None, "lr": 0.01, "batch_size": 64, "seed": 0,
}  # fmt: skip
EPOCHS = {"digits": 20, "fashion-mnist": 5}
WEIGHT_DECAY = 0.05
HELD_OUT_BATCH = 256  # no gradients are kept, so it may be larger


def bottleneck20(**options: Any) -> models.CifarResNet:
    """Six bottlenecks in three stages of 32, 64 and 128 channels: 56,610 parameters on one input channel."""
    return models.CifarResNet(20, block=models.Bottleneck, width=8, shortcut="B", **options)


MODELS: dict[str, Callable[..., nn.Module]] = {
    "bottleneck20": bottleneck20,
    "cifar_resnet20": models.cifar_resnet20,
    "cifar_resnet32": models.cifar_resnet32,
    "cifar_resnet44": models.cifar_resnet44,
    "cifar_resnet56": models.cifar_resnet56,
    "cifar_resnet110": models.cifar_resnet110,
}


def run(options: argparse.Namespace) -> int:
    """Trains or resumes, then writes the results. Raises what went wrong; KeyboardInterrupt says how to go on."""
    ranks.join()
    if options.backend is not None:
        kernels.set_backend(options.backend)
    if options.threads is not None:
        tinynet.set_num_threads(options.threads)
    config, folder = _resumed(options) if options.resume is not None else _new(options)
    trainer = build(config, folder)
    if options.resume is not None:
        trainer.resume(checkpoint_path(options.resume))
        print(f"resuming {folder} after epoch {trainer.epoch} of {config['epochs']}")
    print(_headline(config, trainer), flush=True)
    started = time.perf_counter()
    with resumable(trainer, ranks.command(f"tinynet train --resume {folder}")):
        trainer.fit(config["epochs"], on_epoch=lambda t: write_history(t.history, folder / "history.csv"))
    finish(config, trainer, folder, time.perf_counter() - started)
    return 0


def _new(options: argparse.Namespace) -> tuple[dict[str, Any], Path]:
    """The configuration of a new run, checked, and its folder, made."""
    given = {name: getattr(options, name) for name in DEFAULTS}
    config = {name: default if given[name] is None else given[name] for name, default in DEFAULTS.items()}
    _check_choice("model", config["model"], MODELS)
    _check_choice("data", config["data"], EPOCHS)
    if config["epochs"] is None:
        config["epochs"] = EPOCHS[config["data"]]
    usual = f"{config['data']}-{config['model']}-seed{config['seed']}"
    return config, new_folder(Path(options.out or "runs"), options.name, usual)


def _resumed(options: argparse.Namespace) -> tuple[dict[str, Any], Path]:
    """The configuration and folder of the run that --resume names; options that contradict it are refused."""
    config, folder = resumed_run(options, DEFAULTS, "tinynet train", except_for=("root",))
    return {**config, "root": options.root or config["root"]}, folder


def _check_choice(option: str, value: str, known: dict[str, Any]) -> None:
    if value not in known:
        raise DataError(f"--{option} {value!r} is unknown; there is {', '.join(known)}")


def build(config: dict[str, Any], folder: Path) -> training.Trainer:
    """The seeded model with its data, optimizer (AdamW, no decay of norms and biases) and one-cycle schedule."""
    train_set, held_out = _data_sets(config)
    tinynet.manual_seed(config["seed"])
    model = MODELS[config["model"]](num_classes=len(train_set.classes), in_channels=train_set.images.shape[1])
    loader = DataLoader(train_set, batch_size=config["batch_size"], shuffle=True)
    optimizer = optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=config["lr"],
    )
    scheduler = optim.lr_scheduler.OneCycleLR(
        optimizer, config["lr"], total_steps=config["epochs"] * len(loader), cycle_momentum=False
    )
    return training.Trainer(
        model, optimizer, scheduler, loader, DataLoader(held_out, batch_size=HELD_OUT_BATCH),
        transform=_augmentation(config["data"], train_set), checkpoint=folder / CHECKPOINT, config=config,
    )  # fmt: skip


def _data_sets(config: dict[str, Any]) -> tuple[data.ImageDataset, data.ImageDataset]:
    if config["data"] == "digits":
        if config["root"] is not None:
            raise DataError("--root has no meaning for the digits, which come with scikit-learn")
        return data.Digits(train=True), data.Digits(train=False)
    return data.FashionMNIST(config["root"], train=True), data.FashionMNIST(config["root"], train=False)


def _augmentation(name: str, train_set: data.ImageDataset) -> data.Compose:
    fill = train_set.background
    if name == "digits":
        return data.Compose([data.RandomAffine(degrees=10, translate=1, scale=0.1, shear=8, fill=fill)])
    return data.Compose([data.RandomHorizontalFlip(), data.RandomShift(2, fill=fill)])


def _headline(config: dict[str, Any], trainer: training.Trainer) -> str:
    parameters = sum(p.numel() for p in trainer.model.parameters())
    images = len(trainer.train_loader.dataset)
    return (
        f"{config['model']} ({parameters:,} parameters) on {config['data']} ({images:,} images), "
        f"seed {config['seed']}, {kernels.current_backend()} kernels, {ranks.described()}"
    )


def finish(config: dict[str, Any], trainer: training.Trainer, folder: Path, seconds: float) -> None:
    """Writes weights, history, configuration and pictures, and prints the result with the paths."""
    held_out = trainer.evaluate()
    if not ranks.first():
        return
    right, total = int(round(held_out.accuracy * len(held_out.labels))), len(held_out.labels)
    images: data.ImageDataset = trainer.held_out_loader.dataset
    epochs = "1 epoch" if trainer.epoch == 1 else f"{trainer.epoch} epochs"
    title = f"{config['model']} on {config['data']}, {epochs}, seed {config['seed']}"
    summary = {**config, "held_out_accuracy": held_out.accuracy, "tinynet": tinynet.__version__}
    metadata = {"config": json.dumps(config), "classes": json.dumps(images.classes)}
    checkpoint.save_safetensors(trainer.model.state_dict(), folder / WEIGHTS, metadata)
    write_history(trainer.history, folder / "history.csv")
    with atomic_write(folder / "config.json") as file:
        file.write((json.dumps(summary, indent=2) + "\n").encode())
    plot.save(plot.curves(trainer.history, title), folder / "curves.png")
    picture = plot.mistakes(images.images, held_out.labels, held_out.probabilities, images.classes, title)
    plot.save(picture, folder / "mistakes.png")
    print(f"held-out accuracy {held_out.accuracy:.2%} ({right:,} of {total:,} images), {seconds:.1f} s of training")
    list_files(folder, {
        WEIGHTS: "the trained weights",
        CHECKPOINT: "all that --resume needs",
        "history.csv": "every epoch in numbers",
        "curves.png": "loss and accuracy",
        "mistakes.png": "what it gets wrong",
        "config.json": "how it was made",
    })  # fmt: skip
