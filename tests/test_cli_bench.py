"""`tinynet bench` and `tinynet warmup`: tables, files, and one line for every mistake."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinynet.bench import alternate, targets
from tinynet.bench.warmup import WarmUp
from tinynet.bench.works import Work
from tinynet.cli import bench as command
from tinynet.cli import main

SMALL = ["bench", "--model", "cifar_resnet20", "--size", "16x12", "--batch", "2", "--seconds", "0.1"]
SMALL += ["--threads", "1"]  # torch and a busy machine: its threads wait by spinning


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    code, _, error = run(arguments, capsys)
    assert code == 1 and error.startswith("tinynet: error: ") and error.count("\n") == 1
    assert not Path("runs").exists()
    return error


def is_picture(path: str) -> bool:
    with Image.open(path) as image:
        return image.format == "PNG" and len(np.unique(np.asarray(image.convert("L")))) > 20


def test_bench(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = run([*SMALL, "--layers"], capsys)
    assert code == 0, error
    assert "1 thread on every side" in out and "cifar_resnet20 training, batch 2, 16×12" in out
    assert "layer1.0.conv1 Conv2d 3×3, 16 → 16" in out and "share: of the fastest product measured here" in out
    assert all(is_picture(f"runs/bench/{name}.png") for name in ("bench", "layers", "layers-2"))
    with open("runs/bench/bench.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["task"], row["variant"]) for row in rows] == [
        ("inference", "fused"), ("inference", "eager"), ("training", "eager"),
    ]  # fmt: skip
    assert all(0 < float(row["share"]) <= 2.25 and row["threads"] == "1" for row in rows)


def test_each_run_has_its_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_works", lambda options, asked, threads, out: print(out))
    monkeypatch.setitem(command.MODES, "", (command._asked_works, command._works))
    for expected, options in (("runs/bench", []), ("runs/bench-2", []), ("mine", ["--out", "mine"])):
        assert run([*SMALL, *options], capsys)[1].splitlines()[-1] == expected and Path(expected).is_dir()


def test_scaling(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.scaling.scaling, "__kwdefaults__", {
        **command.scaling.scaling.__kwdefaults__, "batches": (1, 2), "image_sides": (8, 16),
    })  # fmt: skip
    monkeypatch.setattr(alternate, "TURN", 0.01)
    code, out, error = run(["bench", "--scaling", *SMALL[1:]], capsys)
    assert code == 0, error
    assert "off a straight line" in out and "image area, pixels" in out and is_picture("runs/bench/scaling.png")


def test_scaling_model(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alternate, "TURN", 0.01)
    code, out, error = run(["bench", "--scaling-model", "--link", "0.1", "20", *SMALL[1:]], capsys)
    assert code == 0, error
    assert "0.1 Gbit/s, 20 µs" in out and "1.1 MB of gradient" in out and "communication dominates" in out
    assert is_picture("runs/bench/scaling_model.png")


@pytest.mark.torch
def test_small(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = run(["bench", "--small", "--seconds", "0.1", "--threads", "1"], capsys)
    assert code == 0, error
    assert "1,000 additions of 16 elements and their backward: tinynet eager takes" in out
    assert is_picture("runs/bench/bench.png")


@pytest.mark.torch
def test_targets(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    small = Work("cifar_resnet20", size=(16, 16))
    sides = {small: (targets.FUSED_SIDE, targets.PLAIN), targets.SUMS: targets.SIDES[targets.SUMS]}
    row = targets.Target("a small net", small, targets.FUSED_SIDE, (targets.PLAIN,), 1e6)
    monkeypatch.setattr(targets, "SIDES", sides)
    monkeypatch.setattr(targets, "TARGETS", (row, *targets.TARGETS))
    code, out, error = run(["bench", "--targets", "--seconds", "0.1", "--threads", "1"], capsys)
    assert code == 0, error
    rows = [line.split() for line in out.splitlines() if "≤" in line]
    assert [line[:3] for line in rows] == [["a", "small", "net"], ["1,000", "additions", "of"]]
    assert rows[0][-1] == "met" and is_picture("runs/bench/targets.png") and is_picture("runs/bench/bench.png")


@pytest.mark.torch
@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed")
def test_rivals(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = run([*SMALL, "--work", "inference", "--against", "torch", "onnxruntime"], capsys)
    assert code == 0, error
    assert "tinynet fused takes" in out and "its better layout" in out and "of the time of onnxruntime" in out


def test_mistakes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "did you mean resnet50" in refused(["bench", "--model", "resnet51"], capsys)
    assert "75x91" in refused(["bench", "--size", "big"], capsys)
    assert "--link belongs to --scaling-model" in refused(["bench", "--link", "1", "1"], capsys)
    assert "choose one of --scaling and --small" in refused(["bench", "--scaling", "--small"], capsys)
    assert "seconds between 0 and 3600" in refused(["bench", "--seconds", "-1"], capsys)
    assert "at least 1" in refused(["bench", "--threads", "0"], capsys)
    monkeypatch.setattr(alternate.importlib.util, "find_spec", lambda name: None)
    assert "tinynet's extra `bench`" in refused(["bench", "--against", "onnxruntime"], capsys)
    for options in (["--against", "torch"], ["--small"], ["--targets"]):
        assert "tinynet's extra `torch`" in refused(["bench", *options], capsys)
    monkeypatch.undo()
    if importlib.util.find_spec("onnxruntime") is not None:
        arguments = ["bench", "--against", "onnxruntime", "--work", "training"]
        assert "inference only" in refused(arguments, capsys)


def test_warmup(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    compiled: tuple[str, ...] = ("one.bin", "two.bin")
    place: Path | None = Path("cache")

    def warmup(dtypes: tuple[str, ...]) -> WarmUp:
        asked.append(dtypes)
        return WarmUp(compiled, 12.3, place)

    monkeypatch.setattr(command, "warmup", warmup)
    assert "compiled 2 functions for float32 in 12 s, kept in cache" in run(["warmup"], capsys)[1]
    compiled = ()
    assert "already compiled for float64: all found in cache" in run(["warmup", "--float64"], capsys)[1]
    place = None
    assert "no private folder" in run(["warmup", "--all"], capsys)[1]
    assert asked == [("float32",), ("float64",), ("float32", "float64")]
