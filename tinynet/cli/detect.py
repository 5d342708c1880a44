"""`tinynet detect train · evaluate · predict`: a small detector on one of the pyramids, its AP, its boxes on photos."""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tinynet
from tinynet import detecting, kernels, plot, ranks
from tinynet.cli.runs import (
    CHECKPOINT,
    METRICS_FILE,
    WEIGHTS,
    checkpoint_path,
    list_files,
    new_folder,
    resumable,
    resumed_run,
    write_history,
    write_metrics,
)
from tinynet.data.detection import DetectionDataset
from tinynet.data.imagenet import read_photo
from tinynet.detecting import DetectionTrainer, Splits
from tinynet.detection import AveragePrecision
from tinynet.detection.designs import DESIGNS
from tinynet.detection.pyramid_detector import PyramidDetector
from tinynet.errors import DataError, TinynetError
from tinynet.models import FPN
from tinynet.utils.atomic import atomic_write
from tinynet.utils.progress import progress

SHOWN = 6  # images in the picture of detections
SHOWN_SCORE = 0.5  # detections below are not drawn
METRICS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


def run_train(options: argparse.Namespace) -> int:
    """Trains or resumes, then writes the results. Raises what went wrong; KeyboardInterrupt says how to go on."""
    ranks.join()
    require_pycocotools()
    use_threads(options)
    needed = detecting.new_config("fpn", "scenes")
    if options.resume is not None:
        config, folder = resumed_run(options, needed, "tinynet detect train")
    else:
        config = detecting.new_config(
            chosen_design(options.design or "fpn"), options.data or "scenes", options.epochs, options.seed or 0,
            options.limit, options.layers,
        )  # fmt: skip
    splits = open_data(config["data"], config["limit"], options.skip_bad)
    if options.resume is None:
        usual = f"detect-{Path(config['data']).name}-{config['design']}-seed{config['seed']}"
        folder = new_folder(Path(options.out or "runs"), options.name, usual)
    trainer = detecting.build_trainer(config, splits, folder / CHECKPOINT)
    if options.resume is not None:
        trainer.resume(checkpoint_path(options.resume))
        print(f"resuming {folder} after epoch {trainer.epoch} of {config['epochs']}")
    print(headline(config, trainer, splits), flush=True)
    with resumable(trainer, ranks.command(f"tinynet detect train --resume {folder}")):
        fit(trainer, folder)
        files = finish(trainer, splits.test, folder)
    if files:
        list_files(folder, files)
    return 0


def require_pycocotools() -> None:
    """Raises TinynetError, saying what to install, before anything is trained."""
    try:
        AveragePrecision()
    except ImportError as error:
        raise TinynetError(str(error)) from None


def use_threads(options: argparse.Namespace) -> None:
    """What --threads says."""
    if options.threads is not None:
        tinynet.set_num_threads(options.threads)


def chosen_design(name: str) -> str:
    """The name itself. Raises DataError if there is no such design."""
    if name not in DESIGNS:
        raise DataError(f"--design {name!r} is unknown; there is {', '.join(DESIGNS)}")
    return name


def open_data(name: str, limit: int | None, skip_bad: bool) -> Splits:
    """The data; what --skip-bad leaves out is said on stdout. Raises DataError with all that is bad."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        splits = detecting.open_splits(name, limit, skip_bad)
    for warning in caught:
        print(warning.message)
    return splits


def headline(config: Mapping[str, Any], trainer: DetectionTrainer, splits: Splits) -> str:
    """What is trained on what."""
    parameters = sum(p.numel() for p in trainer.model.parameters())
    classes = ", ".join(splits.train.classes)
    return (
        f"{DESIGNS[config['design']].title} ({parameters:,} parameters) on {config['data']} ({len(splits.train):,} "
        f"images, {classes}), seed {config['seed']}, {kernels.current_backend()} kernels, "
        f"{ranks.described()}"
    )


def fit(trainer: DetectionTrainer, folder: Path) -> None:
    """Trains to the end, the history written after every epoch."""
    trainer.fit(trainer.epochs, on_epoch=lambda t: write_history(t.history, folder / "history.csv"))


def finish(trainer: DetectionTrainer, test: DetectionDataset, folder: Path) -> dict[str, str]:
    """Measures and prints AP on the test images, writes weights, history, pictures and metrics; what is in each file.

    The metrics come last: where they are, all is. All ranks measure, the first one writes.
    """
    model, config = trainer.model, trainer.config
    started = time.perf_counter()
    found = detecting.detect_all(model, test)
    seconds = time.perf_counter() - started
    if not ranks.first():
        return {}
    measured = detecting.average_precision_of(found, test)
    metrics = measured.compute()
    trained = sum(row["seconds"] - row["evaluation_seconds"] for row in trainer.history)
    detecting.save_detector(model, config, folder / WEIGHTS)
    write_history(trainer.history, folder / "history.csv")
    summary = {
        **metrics, "training_seconds": trained, "detecting_seconds": seconds, "images": len(test),
        "threads": tinynet.get_num_threads(), "config": config, "tinynet": tinynet.__version__,
    }  # fmt: skip
    pictures = draw(model, config, test, found, measured, trainer.history, folder)
    write_metrics(summary, folder)
    print(metrics_table(metrics))
    print(f"{len(test):,} test images; {trained:.1f} s of training")
    return {
        WEIGHTS: "the trained detector, for `tinynet detect predict` and `evaluate`",
        CHECKPOINT: "all that --resume needs",
        "history.csv": "every epoch in numbers",
        METRICS_FILE: "average precision, and how it was made",
        **pictures,
    }


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """AP over all, by size and by class, as lines of text."""
    titles = [name.replace("AP_", "") for name in METRICS]
    lines = ["  ".join(f"{title:>6}" for title in titles)]
    lines.append("  ".join(f"{metrics[name]:6.3f}" for name in METRICS))
    if len(metrics["per_class"]) > 1:
        width = max(len(str(name)) for name in metrics["per_class"])
        lines += [f"  {name!s:{width}}  AP {each['AP']:.3f}  AP50 {each['AP50']:.3f}"
                  for name, each in metrics["per_class"].items()]  # fmt: skip
    return "\n".join(lines)


def draw(
    model: PyramidDetector, config: Mapping[str, Any], test: DetectionDataset, found: Sequence[Mapping[str, Any]],
    measured: AveragePrecision, history: Sequence[Mapping[str, float]], folder: Path,
) -> dict[str, str]:  # fmt: skip
    """Writes the pictures; their names and what they show."""
    metrics = measured.compute()
    title = f"{DESIGNS[config['design']].title} on {config['data']}, seed {config['seed']}: AP {metrics['AP']:.3f}"
    chosen = range(min(SHOWN, len(test)))
    images, truths = [test.pixels(index) for index in chosen], [test.annotation(index) for index in chosen]
    picture = plot.detections(images, [found[index] for index in chosen], truths, test.classes,
                              threshold=SHOWN_SCORE, title=title)  # fmt: skip
    plot.save(picture, folder / "detections.png")
    plot.save(plot.precision_recall(named_curves(measured), f"{title} (IoU 0.5)"), folder / "precision_recall.png")
    rows = [{"name": DESIGNS[config["design"]].title, **{key: metrics[key] for key in METRICS}}]
    plot.save(plot.size_comparison(rows, title), folder / "sizes.png")
    plot.save(feature_picture(model, images[0], title), folder / "features.png")
    plot.save(plot.detection_curves(history, title), folder / "curves.png")
    return {
        "detections.png": "what it finds, beside the truth",
        "precision_recall.png": "precision against recall, by class",
        "sizes.png": "average precision by size",
        "features.png": "what the backbone and the pyramid see",
        "curves.png": "loss and average precision over the epochs",
    }


def named_curves(measured: AveragePrecision) -> dict[str, Any]:
    """Recall and precision by class, with the AP50 that they make."""
    curves = measured.precision_recall(0.5)
    return {f"{name}  AP50 {precision.mean():.3f}": (recall, precision) for name, (recall, precision) in curves.items()}


def feature_picture(model: PyramidDetector, pixels: Any, title: str) -> Any:
    """The backbone's maps and the levels that the head reads, of one image."""
    with tinynet.no_grad():
        batch = model.batch([tinynet.from_numpy(pixels.astype(np.float32) / np.float32(255))])
        maps = {name: each.numpy()[0] for name, each in model.pyramid.body(batch).items()}
        levels = {level.name: level.features.numpy()[0] for level in model.pyramid(batch)}
    seen = batch.numpy()[0] * np.reshape(model.std, (-1, 1, 1)) + np.reshape(model.mean, (-1, 1, 1))  # with its padding
    photo = np.rint(255 * np.broadcast_to(seen, (3, *seen.shape[1:])).transpose(1, 2, 0)).clip(0, 255).astype(np.uint8)
    return plot.features(photo, [maps, levels] if isinstance(model.pyramid, FPN) else [levels], title)


def run_evaluate(options: argparse.Namespace) -> int:
    """Prints the average precision of a trained detector."""
    ranks.join()
    require_pycocotools()
    use_threads(options)
    model, config = detecting.open_detector(options.checkpoint)
    splits = open_data(options.data or config["data"], options.limit, options.skip_bad)
    images = splits.test if options.split == "test" else splits.train
    images.transforms = None
    fits(model, images, options.checkpoint)
    metrics = detecting.evaluate(model, images).compute()
    where = f"{len(images):,} {options.split} images of {options.data or config['data']}"
    print(f"{DESIGNS[config['design']].title} on {where}")
    print(metrics_table(metrics))
    return 0


def fits(model: PyramidDetector, images: DetectionDataset, path: str) -> None:
    """Raises DataError unless the data set has the detector's channels and classes."""
    if images.channels != len(model.mean):
        raise DataError(
            f"{path} is for images of {len(model.mean)} channel{'s' if len(model.mean) > 1 else ''}, these have "
            f"{images.channels}"
        )
    if images.classes != model.classes:
        raise DataError(
            f"{path} knows the classes {', '.join(model.classes)}; the data have {', '.join(images.classes)}"
        )


def run_predict(options: argparse.Namespace) -> int:
    """Draws what is found in photos and writes it as JSON. Raises DataError, at the end, for unreadable ones."""
    model, config = detecting.open_detector(options.checkpoint)
    use_threads(options)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    problems: list[str] = []
    for place in progress(options.image, desc="detecting", unit="image", delay=1):
        try:
            photo = read_photo(place)
        except DataError as error:
            problems.append(str(error))
            continue
        found = detecting.detect_photo(model, photo, config["longest"], options.score)
        picture = free_name(out, Path(place).stem, [entry["picture"] for entry in entries])
        figure = plot.draw_boxes(np.asarray(photo), found["boxes"], found["labels"], found["scores"],
                                 classes=model.classes)  # fmt: skip
        plot.save(figure, out / picture)
        entries.append({"image": str(place), "picture": picture, "width": photo.width, "height": photo.height,
                        "detections": listed(found, model.classes)})  # fmt: skip
        print(f"{place}: {counted(found, model.classes)}")
    with atomic_write(out / "detections.json") as file:
        file.write((json.dumps(entries, indent=1) + "\n").encode())
    print(f"{out / 'detections.json'}  {len(entries):,} image{'s' * (len(entries) != 1)}, the pictures beside it")
    if problems:
        raise DataError("\n  ".join([f"{len(problems)} of {len(options.image)} images cannot be read:", *problems]))
    return 0


def free_name(folder: Path, stem: str, taken: Sequence[str]) -> str:
    """The picture's file name: two photos of one name do not replace each other."""
    return next(name for n in range(1, 10**6) if (name := f"{stem}{f'-{n}' * (n > 1)}.png") not in taken)


def listed(found: Mapping[str, Any], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Detections as JSON has them: boxes as x1, y1, x2, y2 in pixels of the photo."""
    columns = (found[name].tolist() for name in ("boxes", "labels", "scores"))
    return [{"class": classes[label], "score": round(score, 4), "box": [round(side, 2) for side in box]}
            for box, label, score in zip(*columns)]  # fmt: skip


def counted(found: Mapping[str, Any], classes: Sequence[str]) -> str:
    """How many of each class, as text."""
    labels = found["labels"].tolist()
    return ", ".join(f"{labels.count(k)} {name}" for k, name in enumerate(classes) if k in labels) or "nothing found"


COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "train": run_train,
    "evaluate": run_evaluate,
    "predict": run_predict,
}
