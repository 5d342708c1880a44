"""`tinynet detect`: training, evaluating, predicting and comparing, and one clear answer to every mistake."""

from __future__ import annotations

import csv
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinynet
from tests.data.small_detection import GOOD, voc_xml, write_image, write_voc
from tests.test_cli import command, interrupt
from tinynet.checkpoint import load
from tinynet.cli import compare, main
from tinynet.cli import detect as detect_command
from tinynet.cli.runs import read_metrics, write_metrics
from tinynet.data import HandwritingScenes
from tinynet.detecting import open_detector, save_detector
from tinynet.detection import DESIGNS

pytest.importorskip("pycocotools")

FILES = {"checkpoint.safetensors", "model.safetensors", "history.csv", "metrics.json"}
PICTURES = {"detections.png", "precision_recall.png", "sizes.png", "features.png", "curves.png"}
SMALL = ["--limit", "8", "--epochs", "1"]


@pytest.fixture(autouse=True)
def in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def unpictured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures, which take longer than the training."""
    monkeypatch.setattr(detect_command, "draw", lambda *arguments: {})


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["detect", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What stands on stderr after an error with exit code 1."""
    code, _, error = run(arguments, capsys)
    assert code == 1 and error.startswith("tinynet: error: ") and "Traceback" not in error
    return error


def tensors(path: Path) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in load(path).items()}


def history(folder: Path) -> list[dict[str, str]]:
    with open(folder / "history.csv", newline="") as file:
        return [{key: value for key, value in row.items() if "seconds" not in key} for row in csv.DictReader(file)]


def test_train_evaluate_and_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["train", *SMALL, "--seed", "3"], capsys)
    folder = Path("runs/detect-scenes-fpn-seed3")
    assert code == 0 and {path.name for path in folder.iterdir()} == FILES | PICTURES
    assert all(str(folder / name) in out for name in FILES | PICTURES)
    assert "(d) FPN (592,661 parameters) on scenes (8 images, digit), seed 3" in out
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["images"] == 8 and metrics["config"]["seed"] == 3 and 0 <= metrics["AP"] <= 1
    assert metrics["training_seconds"] > 0 and len(history(folder)) == 1
    for picture in PICTURES:
        with Image.open(folder / picture) as image:
            assert min(image.size) > 250 and len(np.unique(np.asarray(image.convert("L")))) > 20
    table = out[out.index("    AP") :].splitlines()[:2]
    code, again, _ = run(["evaluate", str(folder), "--limit", "8"], capsys)
    assert code == 0 and again.splitlines() == ["(d) FPN on 8 test images of scenes", *table]

    model, config = open_detector(folder)
    with tinynet.no_grad():
        model.head.predictors[0].bias[0] = 2.0  # one step of training finds nothing yet
    save_detector(model, config, folder / "model.safetensors")
    scene = HandwritingScenes(False, count=1).images[0, 0]
    for name in ("a.png", "b/a.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(scene).save(name)
    Path("broken.png").write_bytes(b"\x89PNG nothing")
    photos = ["a.png", "broken.png", "b/a.png", "none.jpg"]
    code, out, error = run(["predict", *photos, "--checkpoint", str(folder), "--score", "0", "--out", "found"], capsys)
    assert code == 1 and "2 of 4 images cannot be read:\n  broken.png is no image that can be read\n" in error
    assert "none.jpg: No such file" in error
    entries = json.loads(Path("found/detections.json").read_text())
    assert [entry["image"] for entry in entries] == ["a.png", "b/a.png"]
    assert [entry["picture"] for entry in entries] == ["a.png", "a-2.png"]
    assert {path.name for path in Path("found").iterdir()} == {"detections.json", "a.png", "a-2.png"}
    first = entries[0]["detections"]
    assert first == entries[1]["detections"] and f"a.png: {len(first)} digit" in out and len(first) > 10
    scores = [each["score"] for each in first]
    assert scores == sorted(scores, reverse=True) and {each["class"] for each in first} == {"digit"}
    assert all(0 <= side <= 128 for each in first for side in each["box"])


@pytest.mark.usefixtures("unpictured")
def test_resuming_ends_with_the_same_bits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    small = ["train", "--limit", "8", "--epochs", "2", "--design", "c4"]
    assert run([*small, "--name", "straight"], capsys)[0] == 0
    write = detect_command.write_history

    def stop_after_an_epoch(rows, path):
        write(rows, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(detect_command, "write_history", stop_after_an_epoch)
        code, _, error = run([*small, "--name", "stopped"], capsys)
    assert code == 130 and error.count("\n") == 1
    assert "holds epoch 1; go on with `tinynet detect train --resume runs/stopped`" in error
    code, out, _ = run(["train", "--resume", "runs/stopped"], capsys)
    assert code == 0 and "after epoch 1 of 2" in out
    straight, stopped = Path("runs/straight"), Path("runs/stopped")
    assert (straight / "model.safetensors").read_bytes() == (stopped / "model.safetensors").read_bytes()
    assert tensors(straight / "checkpoint.safetensors") == tensors(stopped / "checkpoint.safetensors")
    assert history(straight) == history(stopped)


@pytest.mark.usefixtures("unpictured")
def test_a_run_keeps_its_options_and_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["train", *SMALL, "--design", "c5"]
    assert run([*small, "--name", "mine"], capsys)[0] == 0
    before = tensors(Path("runs/mine/model.safetensors"))
    assert "already holds a run" in refused([*small, "--name", "mine"], capsys)
    resume = ["train", "--resume", "runs/mine"]
    assert "--epochs 5 is not the run's 1" in refused([*resume, "--epochs", "5"], capsys)
    assert "--design fpn is not the run's c5" in refused([*resume, "--design", "fpn"], capsys)
    assert "leave out --name and --out" in refused([*resume, "--out", "o"], capsys)
    assert run(resume, capsys)[0] == 0
    assert tensors(Path("runs/mine/model.safetensors")) == before
    for _ in range(2):
        assert run(small, capsys)[0] == 0
    first, second = (Path("runs") / f"detect-scenes-c5-seed0{suffix}" for suffix in ("", "-2"))
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


# --- a user's own images --------------------------------------------------------------------------------------------


def bad_folder(root: Path) -> Path:
    """Good images, and one of every kind of mistake."""
    write_voc(root, GOOD)
    (root / "classes.txt").write_text("cat\ndog\n")
    mistakes = {
        "outside": [("cat", 70, 50, 90, 60)], "inverted": [("dog", 30, 5, 10, 20)], "unknown": [("cow", 5, 5, 20, 20)],
        "nothing": [],
    }  # fmt: skip
    for name, boxes in mistakes.items():
        write_image(root / f"JPEGImages/{name}.png")
        (root / f"Annotations/{name}.xml").write_text(voc_xml(f"{name}.png", boxes))
    (root / "JPEGImages/broken.png").write_bytes(b"\x89PNG nothing")
    (root / "Annotations/broken.xml").write_text(voc_xml("broken.png", GOOD["one"]))
    write_image(root / "JPEGImages/lonely.png")
    return root


def test_bad_annotations_are_listed_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = refused(["train", "--data", str(bad_folder(tmp_path / "own"))], capsys).splitlines()
    expected = {
        "outside": "(70, 50, 90, 60) lies outside of the image, 60 pixels wide and 40 high",
        "inverted": "(30, 5, 10, 20) is inverted",
        "unknown": "cow",
        "nothing": "annotation without boxes",
        "broken": "no image that can be read",
        "lonely": "image without annotation",
    }
    for name, text in expected.items():
        assert any(f"{name}." in line and text in line for line in lines), f"{name}: {text}\n" + "\n".join(lines)
    assert "--skip-bad" in lines[-1]
    assert not Path("runs").exists()


@pytest.mark.usefixtures("unpictured")
def test_skip_bad_goes_on_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", str(bad_folder(tmp_path / "own")), "--skip-bad"]
    code, out, error = run(["train", *data, "--epochs", "1", "--design", "c4"], capsys)
    assert code == 0 and error == ""
    assert out.startswith("left out ") and "outside." in out and "Warning" not in out
    assert "on own" not in out and "(4 images, cat, dog)" in out
    folder = Path("runs/detect-own-c4-seed0")
    assert json.loads((folder / "metrics.json").read_text())["images"] == 1
    code, out, _ = run(["evaluate", str(folder), "--skip-bad", "--split", "train"], capsys)
    assert code == 0 and "(b) C4 alone on 4 train images" in out and "dog  AP" in out
    write_voc(tmp_path / "other", {"x": [("cow", 1, 1, 20, 20)], "y": [("cow", 1, 1, 20, 20)]})
    error = refused(["evaluate", str(folder), "--data", str(tmp_path / "other")], capsys)
    assert "knows the classes cat, dog; the data have cow" in error
    error = refused(["evaluate", str(folder), "--data", "scenes", "--limit", "2"], capsys)
    assert "is for images of 3 channels, these have 1" in error


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["train", "--design", "ssd"], "--design 'ssd' is unknown; there is image-pyramid, c4,"),
        (["train", "--data", "nowhere"], "--data 'nowhere' is neither one of scenes, scenes-10, scenes-context, "),
        (["train", "--layers", "1,2,3"], "needs four numbers of blocks such as 1,2,2,1, got '1,2,3'"),
        (["train", "--resume", "nowhere"], "nowhere"),
        (["evaluate", "nowhere"], "nowhere"),
        (["predict", "photo.png", "--checkpoint", "nowhere"], "nowhere"),
        (["predict", "photo.png"], "--checkpoint"),
        (["compare", "--designs", "fpn", "ssd"], "--design 'ssd' is unknown"),
        (["compare", "--measure-only", "--limit", "2"], "runs/compare-scenes holds no finished training of image-"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(arguments, capsys)
    assert text in error and error.count("\n") == 1 and not Path("runs/compare-scenes").exists()


def test_an_empty_folder_and_images_without_annotations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty: the folder is empty" in refused(["train", "--data", "empty"], capsys)
    write_image(tmp_path / "photos/a.png")
    error = refused(["train", "--data", "photos"], capsys)
    assert "it holds images but no annotations. What can be read:\n  COCO: " in error


def test_a_file_of_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tinynet.save({"weight": tinynet.zeros(3)}, "other.safetensors")
    for arguments in (["evaluate", "other.safetensors"], ["predict", "a.png", "--checkpoint", "other.safetensors"]):
        assert "other.safetensors holds no detector of `tinynet detect train`" in refused(arguments, capsys)
    assert "holds tensors but no training to resume" in refused(["train", "--resume", "other.safetensors"], capsys)


def test_without_pycocotools_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    for arguments in (["train", *SMALL], ["evaluate", "x"], ["compare", *SMALL]):
        error = refused(arguments, capsys)
        assert 'the extra "detect" brings: pip install ".[detect]"' in error and error.count("\n") == 1
    assert not Path("runs").exists()


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run([], capsys)
    assert code == 0 and all(name in out for name in ("train", "evaluate", "predict", "compare"))
    options = {"train": "--design", "evaluate": "--split", "predict": "--score", "compare": "--seeds"}
    for name, option in options.items():
        with pytest.raises(SystemExit):
            main(["detect", name, "--help"])
        assert option in capsys.readouterr().out


# --- compare --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unpictured")
def test_compare_trains_what_is_missing_and_measures_all(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinynet.detecting.measuring.ROUNDS", 2)
    command = ["compare", *SMALL, "--designs", "fpn", "c4", "--seeds", "2", "--out", "o"]
    trained: list[str] = []
    finish = compare.finish

    def finished(trainer, test, folder):
        trained.append(folder.name)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return finish(trainer, test, folder)

    monkeypatch.setattr(compare, "finish", finished)
    code, out, error = run(command, capsys)
    assert code == 130 and "o/fpn-seed1/checkpoint.safetensors holds epoch 1; go on with the same command" in error
    assert out.startswith("4 of 4 trainings to do")
    code, out, _ = run(["compare", *command[1:], "--measure-only"], capsys)
    assert code == 0 and "| (d) FPN |" in out and out.count(" | 1 |\n") == 2
    code, out, _ = run(command, capsys)
    assert code == 0 and out.startswith("2 of 4 trainings to do")
    assert trained == ["fpn-seed0", "c4-seed0", "fpn-seed1", "fpn-seed1", "c4-seed1"]
    code, out, _ = run(command, capsys)
    assert code == 0 and "trainings to do" not in out and len(trained) == 5

    rows = list(csv.DictReader(Path("o/table.csv").read_text().splitlines()))
    assert [(row["design"], row["seed"]) for row in rows] == [(d, s) for d in ("fpn", "c4") for s in ("0", "1")]
    for row in rows:
        metrics = json.loads(Path(f"o/{row['design']}-seed{row['seed']}/metrics.json").read_text())
        assert float(row["AP_small"]) == metrics["AP_small"] and float(row["milliseconds"]) > 0
    assert float(rows[0]["megabytes"]) > float(rows[2]["megabytes"])
    table = Path("o/table.md").read_text()
    assert table in out and table.count("\n") == 4 and "| 592,661 |" in table and " | 2 |\n" in table
    with Image.open("o/comparison.png") as image:
        assert min(image.size) > 300
    assert "o/fpn-seed0 holds a run with epochs 1, wanted is 2: choose another --out" in refused(
        [*command[:3], "--epochs", "2", *command[5:]], capsys
    )


def test_what_could_not_be_measured_is_null(tmp_path: Path) -> None:
    summary = {"AP": 0.5, "AP_small": math.nan, "per_class": {"digit": {"AP": math.nan}}, "config": {"limit": None}}
    write_metrics(summary, tmp_path)
    text = (tmp_path / "metrics.json").read_text()
    assert "NaN" not in text and json.loads(text)["AP_small"] is None
    again = read_metrics(tmp_path)
    assert math.isnan(again["AP_small"]) and math.isnan(again["per_class"]["digit"]["AP"])
    assert again["AP"] == 0.5 and again["config"] == summary["config"]


def test_compare_knows_all_designs() -> None:
    options = main.__globals__["_parser"]().parse_args(["detect", "compare"])
    assert options.designs is None and options.seeds == 3
    four = {"image-pyramid", "c4", "c5", "hierarchy", "fpn"}
    assert set(DESIGNS) >= four | {"fpn-no-lateral", "fpn-no-top-down", "fpn-p2"}


# --- Ctrl-C ---------------------------------------------------------------------------------------------------------


def interrupted(arguments: list[str], folder: Path, after: str) -> tuple[float, str]:
    """Sends Ctrl-C once a line begins with `after`; the seconds until the process has ended, and its stderr."""
    process = command(arguments, folder)
    assert process.stdout is not None
    assert any(line.startswith(after) for line in process.stdout)
    time.sleep(0.05)
    seconds, error = interrupt(process)
    assert "Traceback" not in error
    return seconds, error


def test_ctrl_c_ends_within_a_second_and_can_be_resumed(tmp_path: Path) -> None:
    arguments = ["detect", "train", "--limit", "8", "--epochs", "500", "--design", "c4", "--name", "long"]
    seconds, error = interrupted(arguments, tmp_path, "epoch   3/500")
    assert error.splitlines()[-1].startswith("tinynet: interrupted; runs/long/checkpoint.safetensors holds epoch")
    assert not list(Path("runs/long").glob(".*"))
    again, _ = interrupted(["detect", "train", "--resume", "runs/long"], tmp_path, "resuming runs/long after epoch")
    assert min(seconds, again) < 1.0  # a machine busy with other work may be late once
