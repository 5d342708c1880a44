"""`tinynet summary`, `parity`, `features` and `classify`: results, pictures, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinynet
from tinynet import checkpoint, models
from tinynet.cli import look, main
from tinynet.data import imagenet, imagenet_classes
from tinynet.models import BasicBlock, ResNet


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResNet:
    """A photo and a small ResNet's weights in the working directory; returns the model."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).resize((600, 400)).save("photo.jpg")
    model = ResNet(BasicBlock, [1, 1, 1, 1]).eval()
    checkpoint.save_safetensors(model.state_dict(), "weights.safetensors")
    return model


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    code, out, error = run(arguments, capsys)
    assert code == 1 and out == ""
    assert error.startswith("tinynet: error: ") and error.count("\n") == 1 and "Traceback" not in error
    return error


def is_picture(path: str) -> bool:
    with Image.open(path) as image:
        return image.format == "PNG" and len(np.unique(np.asarray(image.convert("L")))) > 20


def test_summary(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(["summary", "resnet50", "--depth", "1"], capsys)
    assert code == 0 and "25,557,032" in out and "4.089 GMAC" in out
    code, out, _ = run(["summary", "cifar_resnet20", "--size", "32x24", "--batch", "2", "--graph", "g.png"], capsys)
    assert code == 0 and "2×3×32×24" in out and "g.png" in out and is_picture("g.png")
    assert run(["summary", "cifar_resnet20", "--size", "8", "--graph", "g.mmd"], capsys)[0] == 0
    assert Path("g.mmd").read_text().startswith("flowchart TD\n")


def test_summary_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean resnet50" in refused(["summary", "resnet51"], capsys)
    for size in ("0", "12x", "a", "-3", "3x4x5"):
        assert "75x91" in refused(["summary", "resnet18", f"--size={size}"], capsys)
    assert "at least 1" in refused(["summary", "resnet18", "--depth", "0"], capsys)


@pytest.mark.torch
def test_parity(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["parity", "cifar_resnet20", "--size", "16x12"], capsys)
    assert code == 0 and "evaluation mode, float32, 1 × 3 × 16x12, seed 0" in out and "tensors agree" in out


def test_classify_prints_and_draws_the_five_most_probable(
    files: ResNet, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(["classify", "photo.jpg", "--weights", "weights.safetensors"], capsys)
    assert code == 0 and is_picture("photo-classes.png") and "(v1)" in out
    photo = imagenet.centre_crop(imagenet.resize_short_side(imagenet.read_photo("photo.jpg"), 256), 224)
    with tinynet.no_grad():
        logits = files(imagenet.normalised(photo)).numpy()[0].astype(np.float64)
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    best = np.argsort(-probabilities)[:5]
    lines = [line.split(maxsplit=1) for line in out.splitlines() if line.startswith("  ")]
    assert [name for _, name in lines] == [imagenet_classes()[index] for index in best]
    assert [share for share, _ in lines] == [f"{probabilities[index]:.1%}" for index in best]


def test_classify_knows_the_second_generation(files: ResNet, capsys: pytest.CaptureFixture[str]) -> None:
    Path("weights.safetensors").rename("resnet50-11ad3fa6.safetensors")
    arguments = ["classify", "photo.jpg", "--weights", "resnet50-11ad3fa6.safetensors", "--out", "o.png"]
    assert "resized to 232" in run(arguments, capsys)[1] and is_picture("o.png")
    assert "resized to 256" in run([*arguments, "--preprocess", "v1"], capsys)[1]
    assert {look.preprocessing_of(name) for name in ("a/resnet50-0676ba61.pth", "mine.safetensors")} == {"v1"}


def test_classify_with_other_classes(files: ResNet, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.save_safetensors(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3).state_dict(), "w.safetensors")
    code, out, _ = run(["classify", "photo.jpg", "--weights", "w.safetensors"], capsys)
    assert code == 0 and sorted(line.split()[-1] for line in out.splitlines() if "class " in line) == ["0", "1", "2"]


def test_features_says_that_a_random_pyramid_is_random(files: ResNet, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["features", "photo.jpg", "--weights", "weights.safetensors", "--size", "96"]
    code, out, _ = run(arguments, capsys)
    assert code == 0 and is_picture("photo-features.png")
    assert "NOT TRAINED" in out and all(f"  {name}  " in out for name in ("C2", "C5", "P2", "P5"))
    assert "512 channels of 3×5" in out


def test_features_of_a_file_with_a_pyramid(files: ResNet, capsys: pytest.CaptureFixture[str]) -> None:
    model = models.resnet_fpn_backbone("resnet18", returned_layers=[2, 3, 4])
    checkpoint.save_safetensors({f"backbone.{k}": v for k, v in model.state_dict().items()}, "d.safetensors")
    options = ["--weights", "d.safetensors", "--size", "64", "--out", "f.png"]
    code, out, _ = run(["features", "photo.jpg", *options], capsys)
    assert code == 0 and "NOT TRAINED" not in out and "levels C3, C4, C5" in out and is_picture("f.png")
    assert "  P3  " in out and "  P2  " not in out


def test_mistakes_with_files(files: ResNet, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.jpg").write_text("no photo")
    for command in ("features", "classify"):
        weights = ["--weights", "weights.safetensors"]
        assert "text.jpg is no image" in refused([command, "text.jpg", *weights], capsys)
        assert "absent.jpg: No such file" in refused([command, "absent.jpg", *weights], capsys)
        assert "text.jpg" in refused([command, "photo.jpg", "--weights", "text.jpg"], capsys)
        assert "absent.pth" in refused([command, "photo.jpg", "--weights", "absent.pth"], capsys)
        assert "--weights" in refused([command, "photo.jpg"], capsys)
    checkpoint.save_safetensors({"a": np.ones(3)}, "other.safetensors")
    assert "holds no ImageNet ResNet" in refused(["classify", "photo.jpg", "--weights", "other.safetensors"], capsys)
    body = {name: value for name, value in files.state_dict().items() if not name.startswith("fc.")}
    checkpoint.save_safetensors(body, "body.safetensors")
    assert "cannot classify" in refused(["classify", "photo.jpg", "--weights", "body.safetensors"], capsys)
    assert not [path for path in Path().iterdir() if path.suffix == ".png"]
