"""The `tinynet` command: results, resuming, interruption, and one clear line for every mistake."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinynet
from tests.data.small_fashion import write_small_fashion
from tinynet.checkpoint import load, load_safetensors
from tinynet.cli import main
from tinynet.cli import train as train_command

RESULTS = {"checkpoint.safetensors", "model.safetensors", "history.csv", "curves.png", "mistakes.png", "config.json"}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options for a training of two epochs of two steps; the working directory is a fresh one."""
    monkeypatch.chdir(tmp_path)
    write_small_fashion(tmp_path / "fashion")
    return ["train", "--data", "fashion-mnist", "--root", "fashion", "--epochs", "2", "--batch-size", "32"]


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error with exit code 1."""
    code, _, error = run(arguments, capsys)
    assert code == 1
    assert error.startswith("tinynet: error: ") and error.count("\n") == 1 and "Traceback" not in error
    return error


def tensors(path: Path) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in load(path).items()}


def history(folder: Path) -> list[dict[str, str]]:
    with open(folder / "history.csv", newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def test_train_writes_everything(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run([*small, "--seed", "3"], capsys)
    folder = Path("runs/fashion-mnist-bottleneck20-seed3")
    assert code == 0
    assert {path.name for path in folder.iterdir()} == RESULTS
    assert "held-out accuracy" in out and all(str(folder / name) in out for name in RESULTS)
    rows = history(folder)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    config = json.loads((folder / "config.json").read_text())
    assert config["held_out_accuracy"] == float(rows[-1]["held_out_accuracy"]) and config["seed"] == 3
    for picture in ("curves.png", "mistakes.png"):
        with Image.open(folder / picture) as image:
            assert min(image.size) > 300 and len(np.unique(np.asarray(image.convert("L")))) > 20
    weights, metadata = load_safetensors(folder / "model.safetensors")
    model = train_command.MODELS["bottleneck20"](num_classes=10, in_channels=1)
    model.load_state_dict(weights)
    assert json.loads(metadata["classes"])[9] == "Ankle boot"


def test_same_seed_same_weights_and_a_folder_of_its_own(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert run(small, capsys)[0] == 0
    first, second = (Path("runs") / f"fashion-mnist-bottleneck20-seed0{suffix}" for suffix in ("", "-2"))
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    assert history(first) == history(second)


def test_a_named_run_is_never_overwritten(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*small, "--out", "o", "--name", "mine", "--model", "cifar_resnet20"], capsys)[0] == 0
    before = tensors(Path("o/mine/model.safetensors"))
    assert "already holds a run" in refused([*small, "--out", "o", "--name", "mine"], capsys)
    assert tensors(Path("o/mine/model.safetensors")) == before


def test_resuming_ends_with_the_same_bits(
    small: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run([*small, "--name", "straight"], capsys)[0] == 0
    write = train_command.write_history

    def stop_after_an_epoch(rows, path):
        write(rows, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train_command, "write_history", stop_after_an_epoch)
        code, _, error = run([*small, "--name", "stopped"], capsys)
    assert code == 130 and "holds epoch 1; go on with `tinynet train --resume" in error and error.count("\n") == 1
    code, out, _ = run(["train", "--resume", "runs/stopped"], capsys)
    assert code == 0 and "after epoch 1 of 2" in out
    straight, stopped = Path("runs/straight"), Path("runs/stopped")
    assert (straight / "model.safetensors").read_bytes() == (stopped / "model.safetensors").read_bytes()
    assert tensors(straight / "checkpoint.safetensors") == tensors(stopped / "checkpoint.safetensors")
    assert history(straight) == history(stopped)
    code, out, _ = run(["train", "--resume", "runs/stopped/checkpoint.safetensors"], capsys)
    assert code == 0 and "after epoch 2 of 2" in out


def test_ctrl_c_that_a_library_swallows_before_the_training_ends_it(
    small: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, hears_ctrl_c: None
) -> None:
    build = train_command.build

    def swallowing(config, folder):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return build(config, folder)

    monkeypatch.setattr(train_command, "build", swallowing)
    code, out, error = run([*small, "--name", "swallowed"], capsys)
    assert code == 130 and "epoch 1/" not in out
    assert "holds epoch 0; go on with `tinynet train --resume" in error and error.count("\n") == 1


def test_resume_keeps_the_runs_options(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*small, "--name", "r"], capsys)[0] == 0
    resume = ["train", "--resume", "runs/r"]
    assert "--epochs 5 is not the run's 2" in refused([*resume, "--epochs", "5"], capsys)
    assert "--batch-size 8 is not the run's 32" in refused([*resume, "--batch-size", "8"], capsys)
    assert "leave out --name" in refused([*resume, "--name", "other"], capsys)
    assert "cannot read the checkpoint runs/none" in refused(["train", "--resume", "runs/none"], capsys)
    assert "no training to resume" in refused(["train", "--resume", "runs/r/model.safetensors"], capsys)
    checkpoint = Path("runs/r/checkpoint.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-7])
    assert "checkpoint.safetensors" in refused(resume, capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--colour", "red"], "--colour"),
        (["dance"], "dance"),
        (["train", "--data", "imagenet"], "--data 'imagenet' is unknown; there is digits, fashion-mnist"),
        (["train", "--model", "vgg"], "--model 'vgg' is unknown; there is bottleneck20"),
        (["train", "--epochs", "0"], "--epochs: needs an integer of at least 1, got '0'"),
        (["train", "--lr", "nan"], "--lr: needs a finite number"),
        (["train", "--lr", "-1"], "--lr"),
        (["train", "--batch-size", "many"], "--batch-size"),
        (["train", "--threads", "0"], "--threads"),
        (["train", "--backend", "cuda"], "--backend"),
        (["train", "--epochs"], "--epochs"),
        (["train", "--root", "here"], "--root has no meaning for the digits"),
        (["train", "--data", "fashion-mnist", "--root", "nowhere"], "not found in nowhere"),
        (["train", "--out", "a_file"], "a_file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a_file").write_text("not a folder")
    assert message in refused(arguments, capsys)
    assert os.listdir(tmp_path) == ["a_file"] or not list(tmp_path.glob("runs/*/*"))


def test_unreadable_data(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    images = Path("fashion/train-images-idx3-ubyte.gz")
    images.write_bytes(images.read_bytes()[:1000])
    assert f"{images} is truncated" in refused(small, capsys)


def test_full_disk(small: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up while the second epoch's checkpoint is written: the first epoch's stays."""
    sync, calls = os.fsync, []

    def full_at_last(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 7:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_at_last)
        error = refused([*small, "--name", "full"], capsys)
    assert "No space left on device" in error and "runs/full/" in error
    assert not list(Path("runs/full").glob("*.partial"))
    assert run(["train", "--resume", "runs/full"], capsys)[0] == 0


def test_divergence_is_one_line(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    error = refused([*small, "--lr", "1e30", "--name", "wild"], capsys)
    assert "not finite" in error and "runs/wild/checkpoint.safetensors is kept as of epoch" in error
    load(Path("runs/wild/checkpoint.safetensors"))


def test_debug_shows_the_traceback(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(tinynet.errors.DataError):
        main([*small[:3], "--root", "nowhere", "--debug"])
    assert refused(["train", "--epochs", "0", "--debug"], capsys)


def test_unexpected_errors_are_one_line_too(
    small: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config, folder):
        raise ZeroDivisionError("first\nsecond")

    monkeypatch.setattr(train_command, "build", fail)
    assert "ZeroDivisionError: first second (--debug shows where)" in refused(small, capsys)


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["info"], capsys)
    assert code == 0
    for word in ("tinynet", "numpy", "numba", "threads", "threading layer", "BLAS", "kernel cache", "processor"):
        assert f"{word}:" in out


def test_check(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["check", "relu"], capsys)
    assert code == 0 and "relu" in out.lower()
    refused(["check", "no-such-operation"], capsys)


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    shown = ((["--version"], tinynet.__version__), (["--help"], "train"), (["train", "--help"], "--resume"))
    for arguments, text in shown:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        assert text in capsys.readouterr().out
    assert run([], capsys)[:1] == (0,)


def command(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(tinynet.__file__).parents[1]), "TINYNET_PROGRESS": "0"}
    environment.pop("PYTHONUNBUFFERED", None)  # lines come at once without it
    return subprocess.Popen(
        [sys.executable, "-m", "tinynet", *arguments], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=hear_ctrl_c,
    )  # fmt: skip


def hear_ctrl_c() -> None:
    """What a shell starts in the background is deaf to it, and so are its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt(process: subprocess.Popen[str]) -> tuple[float, str]:
    """Sends Ctrl-C; the seconds until the process has ended, with exit code 130, and its stderr."""
    process.send_signal(signal.SIGINT)
    started = time.perf_counter()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    return time.perf_counter() - started, error


def test_ctrl_c_ends_within_a_second_and_can_be_resumed(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [*small[:5], "--epochs", "500", "--batch-size", "32", "--name", "long"]
    process = command(small, tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch   3/500"):
            break
    time.sleep(0.05)
    seconds, error = interrupt(process)
    assert error.splitlines()[-1].startswith("tinynet: interrupted; runs/long/checkpoint.safetensors holds epoch")
    assert "Traceback" not in error
    assert not list(Path("runs/long").glob(".*"))
    rows = json.loads(load_safetensors("runs/long/checkpoint.safetensors").metadata["tinynet.training"])["history"]
    assert 3 <= len(rows) < 20  # a pipe got the third line at once, not with a hundred others
    process = command(["train", "--resume", "runs/long"], tmp_path)
    assert process.stdout is not None
    assert f"after epoch {len(rows)} of 500" in process.stdout.readline()
    again, _ = interrupt(process)
    assert min(seconds, again) < 1.0  # a machine busy with other work may be late once
