"""The fit loop: progress, held-out measurements, checkpoints, and a clear stop when numbers break.

`FitLoop` ties a model, its optimizer, a schedule and a loader together; `Trainer` does it for classifiers (and
`tinynet.detecting` for detectors). After every epoch everything that the next one depends on goes into one
safetensors file, so a resumed training gives the bits of one that was never stopped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

import tinynet
from tinynet import Tensor, nn, ranks
from tinynet.checkpoint import load_safetensors, save_safetensors
from tinynet.data.transforms import Transform
from tinynet.distributed.group import alone
from tinynet.errors import CheckpointError, TinynetError
from tinynet.nn import functional as F
from tinynet.nn.parallel import DistributedDataParallel
from tinynet.optim import Optimizer
from tinynet.optim.lr_scheduler import LRScheduler
from tinynet.utils.data import DataLoader
from tinynet.utils.interrupts import interrupts_kept
from tinynet.utils.progress import progress

METADATA_KEY = "tinynet.training"
HISTORY_COLUMNS = (
    "epoch", "loss", "accuracy", "held_out_loss", "held_out_accuracy", "learning_rate", "seconds",
)  # fmt: skip

Row = dict[str, float]


class DivergedError(TinynetError, ArithmeticError):
    """A loss, gradient or weight became NaN or infinite; the message names where it was first seen."""


class TrainingState(NamedTuple):
    """What a training checkpoint holds beside the tensors."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]


class Step(NamedTuple):
    """One batch's loss, how many images it has, and what else is averaged over the epoch, as sums over them."""

    loss: Tensor
    images: int
    sums: dict[str, float]


class FitLoop:
    """Trains a model epoch by epoch; a subclass says what the loss of a batch is and what is measured.

    Args:
        optimizer: over the model's parameters.
        scheduler: stepped after every batch.
        train_loader: batches (images, targets); images are a tensor, or a list of tensors.
        clip_norm: the gradients' norm is limited to this.
        checkpoint: a path; written before the first epoch and after each. None keeps nothing.
        config: saved in the checkpoint for whoever resumes; anything JSON can hold.

    `history` has one row per finished epoch, with `columns`; the training loss and the like are means over the
    epoch while the weights still change.

    In a process group of several ranks each computes a part of every batch, gradients are averaged, and the model's
    batch norms become `SyncBatchNorm`s, so that all ranks together do what one rank would. The first rank writes.
    """

    columns: tuple[str, ...] = ("epoch", "loss", "learning_rate", "seconds")

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        train_loader: DataLoader,
        *,
        clip_norm: float | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.model: Any = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.train_loader = train_loader
        self.clip_norm = clip_norm
        self.checkpoint = checkpoint
        self.config = dict(config or {})
        self.history: list[Row] = []
        self.go_on = ""  # the command that resumes, for whom an interruption or a dead rank is told
        self.parallel: DistributedDataParallel | None = None
        if ranks.count() > 1:
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
            self.train_loader = ranks.shared(train_loader)
            # Its hooks average the gradients; it is not called, as detectors have a `loss` beside `forward`.
            self.parallel = DistributedDataParallel(self.model, find_unused_parameters=True)

    # What a subclass says

    def prepare(self, batch: Any) -> Any:
        """The batch as the model is to see it: augmented."""
        return batch

    def step(self, batch: Any) -> Step:
        """The forward pass of one prepared batch."""
        raise NotImplementedError

    def measure(self) -> Row:
        """What is measured on held-out data after an epoch, by column."""
        raise NotImplementedError

    def shown(self, means: Row) -> dict[str, str]:
        """What stands beside the progress bar, from the epoch's means so far."""
        return {"loss": f"{means['loss']:.3f}"}

    def described(self, row: Row) -> str:
        """What an epoch's line says between its loss and its seconds."""
        raise NotImplementedError

    # The loop

    @property
    def epoch(self) -> int:
        """How many epochs are finished."""
        return len(self.history)

    def fit(self, epochs: int, on_epoch: Callable[[Any], None] | None = None) -> list[Row]:
        """Trains until `epochs` epochs are finished in all, and returns the history.

        A line per epoch goes to stdout, a progress bar to stderr; `on_epoch` is called (on the first rank) after
        each epoch, when its checkpoint is safe. Ctrl-C passes through at once: the last epoch's checkpoint is on the
        disk.

        Raises:
            DivergedError: NaN or infinity; the checkpoint is that of the last good epoch.
            OSError: the checkpoint cannot be written.
        """
        ranks.same_random_numbers(self.train_loader.generator)
        if self.epoch == 0:
            self.save()
        images = len(self.train_loader.dataset)
        bar = progress(total=epochs * images, initial=self.epoch * images, unit=" img", unit_scale=True)
        with interrupts_kept() as check, bar:
            while self.epoch < epochs:
                bar.set_description(f"epoch {self.epoch + 1}/{epochs}", refresh=False)
                row = self._one_epoch(bar, check)
                self._check_weights()
                self.history.append(row)
                self.save()
                if not ranks.first():
                    continue
                number = f"{row['epoch']:{len(str(epochs))}}/{epochs}"
                line = f"epoch {number}   loss {row['loss']:.4f}   {self.described(row)}   {row['seconds']:.1f} s"
                bar.write(line)
                if on_epoch is not None:
                    on_epoch(self)
        return self.history

    def _one_epoch(self, bar: Any, check_interrupt: Callable[[], None]) -> Row:
        started = time.perf_counter()
        self.model.train()
        sums: dict[str, float] = {}
        seen = 0
        batches = ranks.started(self.train_loader)
        with ranks.own_random_numbers(self.epoch):
            for number, batch in enumerate(batches):
                images, batch_sums = self._one_step(self.prepare(batch), number)
                check_interrupt()
                for name, value in batch_sums.items():
                    sums[name] = sums.get(name, 0.0) + value
                seen += images
                bar.set_postfix(self.shown({name: value / seen for name, value in sums.items()}), refresh=False)
                bar.update(self._of_all_ranks(images, number))
        over_ranks = ranks.totals({**sums, "images": seen})
        values = {name: over_ranks[name] / over_ranks["images"] for name in sums}
        values |= {"epoch": self.epoch + 1, "learning_rate": self.scheduler.get_last_lr()[0]}
        values |= self.measure()
        values["seconds"] = time.perf_counter() - started
        return {name: values[name] for name in self.columns}

    def _one_step(self, batch: Any, number: int) -> tuple[int, dict[str, float]]:
        """Forward, backward and update on one batch; returns its images, and the loss and others as sums over them."""
        step = self.step(batch)
        value = step.loss.item()
        where = f"step {number + 1} of epoch {self.epoch + 1}"
        if not np.isfinite(value):
            raise DivergedError(f"the loss is {value} in {where}: {self._blame(batch)}{self._advice()}")
        self.optimizer.zero_grad()
        # The ranks' gradients are averaged: parts of unequal size count by their images.
        weight = step.images * ranks.count() / self._of_all_ranks(step.images, number)
        (step.loss if weight == 1 else step.loss * weight).backward()
        self._check_gradients(where)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        self.scheduler.step()
        return step.images, {"loss": value * step.images, **step.sums}

    def _of_all_ranks(self, images: int, number: int) -> int:
        """How many images the batch has on all ranks together."""
        return images if self.parallel is None else max(ranks.batch_sizes(self.train_loader)[number], ranks.count())

    # Numbers that break

    def _check_gradients(self, where: str) -> None:
        broken = [name for name, p in self.model.named_parameters() if p.grad is not None and not _finite(p.grad)]
        if broken:
            # The last parameter is the nearest to the loss, where backward came by first.
            others = f" (and of {len(broken) - 1} more parameters)" if len(broken) > 1 else ""
            raise DivergedError(f"the gradient of {broken[-1]}{others} is not finite in {where}{self._advice()}")

    def _blame(self, batch: Any) -> str:
        """Where NaN or infinity comes from: a parameter, the batch, or the first layer that makes one."""
        if name := _first_broken(self.model.named_parameters()):
            return f"the parameter {name} is not finite"
        broken = [index for index, image in enumerate(batch[0]) if not _finite(image)]
        if broken:
            layer = next(name for name, module in self.model.named_modules() if not list(module.children()))
            return f"image {broken[0]} of the batch is not finite before the first layer, {layer}"
        with alone():
            name = _first_broken_layer(self.model, lambda: self.step(batch))
        if name:
            return f"layer {name} is the first whose output is not finite"
        if self.parallel is not None:
            time.sleep(1)  # the rank where it comes from shall be the one that says so
            return "every layer's output is finite for this rank's images, but not for another's"
        return "every layer's output is finite, but the loss is not"

    def _check_weights(self) -> None:
        """Before the checkpoint is replaced: nothing broken may get into it."""
        for kind, named in (("parameter", self.model.named_parameters()), ("buffer", self.model.named_buffers())):
            if name := _first_broken(named):
                raise DivergedError(
                    f"the {kind} {name} is not finite after epoch {self.epoch + 1}{self._advice()}"
                )

    def _advice(self) -> str:
        kept = f"; {self.checkpoint} is kept as of epoch {self.epoch}" if self.checkpoint is not None else ""
        return f"{kept}; a smaller learning rate may help"

    # Checkpoints

    def save(self) -> None:
        """The first rank writes the checkpoint, all or nothing; without a path it does nothing. Raises OSError."""
        if self.checkpoint is None:
            return
        if ranks.first():
            self._write(self.checkpoint)
        ranks.leave_words(self.saved())

    def saved(self) -> str:
        """What the checkpoint holds and, if `go_on` says so, how to go on with it."""
        go_on = f"; go on with {self.go_on}" if self.go_on else ""
        return f"{self.checkpoint} holds epoch {self.epoch}{go_on}"

    def _write(self, path: str | os.PathLike[str]) -> None:
        state = self.optimizer.state_dict()
        tensors: dict[str, Any] = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        plain: dict[str, dict[str, Any]] = {}
        for index, values in state["state"].items():
            plain[str(index)] = {}
            for name, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{index}.{name}"] = value
                else:
                    plain[str(index)][name] = value
        tensors["generator"] = tinynet.get_rng_state()
        if self.train_loader.generator is not None:
            tensors["loader_generator"] = self.train_loader.generator.get_state()
        record = {
            "config": self.config,
            "history": self.history,
            "optimizer": {"state": plain, "param_groups": state["param_groups"]},
            "scheduler": self.scheduler.state_dict(),
        }
        save_safetensors(tensors, path, {METADATA_KEY: json.dumps(record)})

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Continues from a checkpoint: model, optimizer, schedule, generators and history.

        Raises:
            CheckpointError: unreadable, damaged, or of another model or optimizer; nothing has changed then.
        """
        tensors, record = read_checkpoint(path)
        model_state = {name[6:]: value for name, value in tensors.items() if name.startswith("model.")}
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(model_state)
        try:
            self.optimizer.load_state_dict(_optimizer_state(tensors, record["optimizer"]))
        except (TinynetError, KeyError, TypeError, ValueError) as error:
            self.model.load_state_dict(before)
            raise CheckpointError(f"{path} does not fit this optimizer: {error}") from error
        self.scheduler.load_state_dict(record["scheduler"])
        self.history = record["history"]
        tinynet.set_rng_state(tensors["generator"])
        if self.train_loader.generator is not None and "loader_generator" in tensors:
            self.train_loader.generator.set_state(tensors["loader_generator"])


class Evaluation(NamedTuple):
    """A model's answers on a data set, in its order."""

    loss: float
    accuracy: float
    probabilities: np.ndarray  # (N, K) float32
    labels: np.ndarray  # (N,) int64


class Trainer(FitLoop):
    """Trains a classifier with cross entropy, epoch by epoch.

    Args:
        model: (N, C, H, W) images to (N, K) logits.
        optimizer, scheduler, checkpoint, config: of `FitLoop`.
        train_loader, held_out_loader: batches (images, labels). The held-out ones are only measured.
        transform: applied to every training batch (augmentation).

    `history` has HISTORY_COLUMNS; accuracies are fractions, the training ones on augmented images.
    """

    columns = HISTORY_COLUMNS

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        train_loader: DataLoader,
        held_out_loader: DataLoader,
        *,
        transform: Transform | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(model, optimizer, scheduler, train_loader, checkpoint=checkpoint, config=config)
        self.held_out_loader = held_out_loader
        self.transform = transform

    def prepare(self, batch: Any) -> Any:
        images, labels = batch
        return (images if self.transform is None else self.transform(images)), labels

    def step(self, batch: Any) -> Step:
        images, labels = batch
        logits = self.model(images)
        right = int((logits.detach().argmax(1) == labels).sum())
        return Step(F.cross_entropy(logits, labels), len(labels), {"accuracy": right})

    def measure(self) -> Row:
        held_out = self.evaluate()
        return {"held_out_loss": held_out.loss, "held_out_accuracy": held_out.accuracy}

    def shown(self, means: Row) -> dict[str, str]:
        return {**super().shown(means), "acc": f"{means['accuracy']:.1%}"}

    def described(self, row: Row) -> str:
        return f"accuracy {row['accuracy']:6.2%}   held out {row['held_out_accuracy']:6.2%}"

    def evaluate(self) -> Evaluation:
        """Loss, accuracy and class probabilities on the held-out images, in evaluation mode, split over the ranks."""
        self.model.eval()
        loader = self.held_out_loader if self.parallel is None else ranks.shared(self.held_out_loader)
        logits, labels = [], []
        with tinynet.no_grad():
            for images, targets in loader:
                logits.append(self.model(images))
                labels.append(targets)
            if self.parallel is None:
                all_logits, all_labels = tinynet.cat(logits), tinynet.cat(labels)
            else:
                all_logits, all_labels = (ranks.joined(each, ranks.batch_sizes(loader)) for each in (logits, labels))
            loss = F.cross_entropy(all_logits, all_labels).item()
            probabilities = F.softmax(all_logits, dim=1).numpy()
        targets = all_labels.numpy()
        accuracy = float((probabilities.argmax(axis=1) == targets).mean())
        return Evaluation(loss, accuracy, probabilities, targets)


def read_checkpoint(path: str | os.PathLike[str]) -> TrainingState:
    """The tensors and the record (config, history, optimizer, scheduler) of a training checkpoint.

    Raises:
        CheckpointError: unreadable, damaged, or no checkpoint of a training.
    """
    checkpoint = load_safetensors(path)
    try:
        record = json.loads(checkpoint.metadata[METADATA_KEY])
        complete = {"config", "history", "optimizer", "scheduler"} <= set(record) and "generator" in checkpoint.tensors
    except (KeyError, ValueError, TypeError):
        complete = False
    if not complete:
        raise CheckpointError(f"{path} holds tensors but no training to resume; `checkpoint.safetensors` does")
    return TrainingState(checkpoint.tensors, record)


def _optimizer_state(tensors: Mapping[str, Tensor], plain: dict[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in plain["state"].items()}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state[int(index)][name] = value
    return {"state": state, "param_groups": plain["param_groups"]}


def _finite(tensor: Tensor) -> bool:
    return bool(np.isfinite(tensor.detach().numpy()).all())


def _first_broken(named: Any) -> str | None:
    return next((name for name, tensor in named if not _finite(tensor)), None)


def _first_broken_layer(model: nn.Module, again: Callable[[], Any]) -> str | None:
    """Runs the batch once more and watches every layer's output."""
    broken: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not _finite(output):
                broken.append(f"{name} ({type(module).__name__})")

        return hook

    handles = [
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules()
        if not list(module.children())
    ]
    try:
        with tinynet.no_grad():
            again()
    finally:
        for handle in handles:
            handle.remove()
    return broken[0] if broken else None
