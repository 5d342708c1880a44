"""What the training commands share: a run's folder, its checkpoint, its history as a table."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from tinynet import ranks, training
from tinynet.errors import CheckpointError, DataError
from tinynet.utils.atomic import atomic_write

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "model.safetensors"
METRICS_FILE = "metrics.json"


def new_folder(out: Path, name: str | None, usual: str) -> Path:
    """A fresh run's folder below `out`, made: the `name` that the user gave, else `usual`, `usual`-2, ...

    The first rank makes it for all. Raises DataError if the user's own name is taken.
    """
    return ranks.from_first(lambda: _made(out, name, usual))


def _made(out: Path, name: str | None, usual: str) -> Path:
    folder = out / (name or usual)
    if (folder / CHECKPOINT).exists():
        if name:
            raise DataError(f"{folder} already holds a run: choose another --name, or go on with --resume {folder}")
        folder = next(f for n in range(2, 10**6) if not (f := out / f"{usual}-{n}").exists())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def checkpoint_path(resume: str) -> Path:
    """The checkpoint that --resume names, itself or by its run's folder."""
    path = Path(resume)
    return path / CHECKPOINT if path.is_dir() else path


def resumed_run(
    options: argparse.Namespace, needed: Collection[str], command: str, except_for: Collection[str] = ()
) -> tuple[dict[str, Any], Path]:
    """The configuration and folder of the run that --resume names.

    Raises DataError for options that contradict it, `except_for` these, and CheckpointError if `command` did not
    write it: then some of the entries `needed` are missing.
    """
    if options.name or options.out:
        raise DataError("--resume continues in the run's own folder: leave out --name and --out")
    path = checkpoint_path(options.resume)
    config = training.read_checkpoint(path).record["config"]
    if not set(needed) <= set(config):
        raise CheckpointError(f"{path} was not written by `{command}`")
    for name, value in config.items():
        given = getattr(options, name, None)
        if name not in except_for and given is not None and given != value:
            option = "--" + name.replace("_", "-")
            raise DataError(f"{option} {given} is not the run's {value}: --resume keeps the options; start a new run")
    return config, path.parent


@contextlib.contextmanager
def resumable(trainer: training.FitLoop, command: str) -> Iterator[None]:
    """A KeyboardInterrupt from inside of the block says what is saved, and to go on with `command`.

    So does what is said if one of several ranks is killed.
    """
    trainer.go_on = command
    try:
        yield
    except KeyboardInterrupt:
        kept = trainer.checkpoint is not None and Path(trainer.checkpoint).exists()
        raise KeyboardInterrupt(f"interrupted; {trainer.saved()}" if kept else "interrupted") from None


def write_history(history: list[training.Row], path: Path) -> None:
    """One line per epoch, as CSV. Raises OSError."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]) if history else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def write_metrics(summary: Mapping[str, Any], folder: Path) -> None:
    """metrics.json, what could not be measured (no small object in the images) as null: JSON has no NaN."""
    plain = {name: _known(value) for name, value in summary.items()}
    with atomic_write(folder / METRICS_FILE) as file:
        file.write((json.dumps(plain, indent=2, allow_nan=False) + "\n").encode())


def _known(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _known(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def read_metrics(folder: Path) -> dict[str, Any]:
    """What a finished run wrote, numbers as `write_metrics` got them. Raises DataError if it is no JSON."""
    path = folder / METRICS_FILE
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    for measured in (summary, *summary["per_class"].values()):
        measured.update({name: math.nan for name, value in measured.items() if value is None})
    return summary


def list_files(folder: Path, meanings: Mapping[str, str]) -> None:
    """Prints each file's path and what it holds."""
    width = max(len(str(folder / name)) for name in meanings)
    for name, meaning in meanings.items():
        print(f"  {folder / name!s:{width}}  {meaning}")
