"""`tinynet detect compare`: every design trained the same way, measured, and set side by side."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tinynet
from tinynet import detecting, from_numpy, plot, ranks, training
from tinynet.cli.detect import (
    METRICS,
    chosen_design,
    finish,
    fit,
    headline,
    open_data,
    require_pycocotools,
    use_threads,
)
from tinynet.cli.runs import CHECKPOINT, METRICS_FILE, WEIGHTS, list_files, read_metrics, resumable
from tinynet.data.detection import DetectionDataset
from tinynet.detecting.measuring import Cost, measure
from tinynet.detection.designs import DESIGNS
from tinynet.errors import DataError
from tinynet.utils.atomic import atomic_write

MOST_CLASSES = 5  # with columns of their own
SHORT = {name: name.replace("AP_", "") for name in METRICS}
Results = dict[str, list[dict[str, Any]]]  # by design, the metrics of each seed


def run(options: argparse.Namespace) -> int:
    """Trains what is missing, measures all and writes the table and the picture."""
    ranks.join()
    require_pycocotools()
    use_threads(options)
    name = options.data or "scenes"
    out = Path(options.out or f"runs/compare-{Path(name).name}")
    designs = [chosen_design(design) for design in options.designs or DESIGNS]
    configs = {
        (design, seed): detecting.new_config(design, name, options.epochs, seed, options.limit, options.layers)
        for seed in range(options.seeds)
        for design in designs
    }
    missing = ranks.from_first(
        lambda: [config for config in configs.values() if not is_finished(folder_of(out, config), config)]
    )
    splits = open_data(name, options.limit, options.skip_bad)
    if missing and not options.measure_only:
        print(f"{len(missing)} of {len(configs)} trainings to do; Ctrl-C stops, the same command goes on", flush=True)
        train_all(missing, splits, out)
    if not ranks.first():
        return 0
    results = {
        design: [read_metrics(folder_of(out, config)) for (each, _), config in configs.items()
                 if each == design and is_finished(folder_of(out, config), config)]
        for design in designs
    }  # fmt: skip
    results = {design: found for design, found in results.items() if found}
    if not results:
        raise DataError(f"{out} holds no finished training of {', '.join(designs)}: leave --measure-only out")
    costs = measured_costs(results, splits.test, out)
    report(results, costs, name, out)
    return 0


def folder_of(out: Path, config: Mapping[str, Any]) -> Path:
    return out / f"{config['design']}-seed{config['seed']}"


def is_finished(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether that run is there to the end. Raises DataError if the folder holds another one."""
    if (folder / METRICS_FILE).exists():
        kept = read_metrics(folder)["config"]
    elif (folder / CHECKPOINT).exists():
        kept = training.read_checkpoint(folder / CHECKPOINT).record["config"]
    else:
        return False
    for option, value in config.items():
        if kept.get(option) != value:
            raise DataError(
                f"{folder} holds a run with {option} {kept.get(option)}, wanted is {value}: choose another --out"
            )
    return (folder / METRICS_FILE).exists()


def train_all(configs: Sequence[Mapping[str, Any]], splits: detecting.Splits, out: Path) -> None:
    """One after the other; what an interruption left is resumed."""
    for number, config in enumerate(configs, 1):
        folder = folder_of(out, config)
        folder.mkdir(parents=True, exist_ok=True)
        trainer = detecting.build_trainer(config, splits, folder / CHECKPOINT)
        if ranks.from_first((folder / CHECKPOINT).exists):
            trainer.resume(folder / CHECKPOINT)
        print(f"\n[{number}/{len(configs)}] {headline(config, trainer, splits)}", flush=True)
        with resumable(trainer, "the same command"):
            fit(trainer, folder)
            finish(trainer, splits.test, folder)


def measured_costs(results: Results, test: DetectionDataset, out: Path) -> dict[str, Cost]:
    """Time and memory of each design, on the first test image."""
    models = {
        design: detecting.open_detector(folder_of(out, found[0]["config"]) / WEIGHTS).model
        for design, found in results.items()
    }
    return measure(models, from_numpy(test.pixels(0).astype(np.float32) / np.float32(255)))


def report(results: Results, costs: Mapping[str, Cost], name: str, out: Path) -> None:
    """Prints the table, and writes it with the picture."""
    threads = tinynet.get_num_threads()
    table = markdown(results, costs, threads)
    print(f"\n{table}")
    with atomic_write(out / "table.md") as file:
        file.write(table.encode())
    with atomic_write(out / "table.csv") as file:
        file.write(as_csv(results, costs, threads).encode())
    rows = [
        {"name": DESIGNS[design].title, **{key: [each[key] for each in found] for key in METRICS},
         "milliseconds": costs[design].milliseconds, "megabytes": costs[design].megabytes}
        for design, found in results.items()
    ]  # fmt: skip
    seeds = max(len(found) for found in results.values())
    title = f"{name}, {seeds} seed{'s' * (seeds > 1)} (lines span them), {threads} thread{'s' * (threads > 1)}"
    plot.save(plot.size_comparison(rows, title), out / "comparison.png")
    list_files(out, {
        "table.md": "this table",
        "table.csv": "every run in numbers",
        "comparison.png": "accuracy by size against time and memory",
    })  # fmt: skip


def markdown(results: Results, costs: Mapping[str, Cost], threads: int) -> str:
    """A row for each design: means over the seeds and, for AP, lowest and highest."""
    unit = f"ms an image, {threads} thread{'s' * (threads > 1)}"
    classes = list(next(iter(results.values()))[0]["per_class"])
    shown = classes if 1 < len(classes) <= MOST_CLASSES else []
    by_class = [f"AP50 {name}" for name in shown]
    titles = ["design", *SHORT.values(), *by_class, unit, "activations MB", "parameters", "training s", "seeds"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for design, found in results.items():
        cost = costs[design]
        cells = [DESIGNS[design].title]
        for key in METRICS:
            values = [each[key] for each in found]
            span = f" [{min(values):.3f}-{max(values):.3f}]" if key == "AP" and len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{span}")
        cells += [f"{np.mean([each['per_class'][name]['AP50'] for each in found]):.3f}" for name in shown]
        cells += [f"{cost.milliseconds:.1f}", f"{cost.megabytes:.1f}", f"{cost.parameters:,}",
                  f"{np.mean([each['training_seconds'] for each in found]):.0f}", str(len(found))]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def as_csv(results: Results, costs: Mapping[str, Cost], threads: int) -> str:
    """A row for each run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    classes = list(next(iter(results.values()))[0]["per_class"])
    by_class = [f"AP50 {name}" for name in classes]
    writer.writerow(["design", "seed", *METRICS, *by_class, "training_seconds", *Cost._fields, "threads"])
    for design, found in results.items():
        for each in found:
            precision = [*(each[key] for key in METRICS), *(each["per_class"][name]["AP50"] for name in classes)]
            seconds = each["training_seconds"]
            writer.writerow([design, each["config"]["seed"], *precision, seconds, *costs[design], threads])
    return text.getvalue()
