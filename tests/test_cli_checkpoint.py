"""`tinynet inspect` and `tinynet convert`: tables, faithful copies, and one line for every mistake."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest

import tinynet
from tests.checkpoint import hostile
from tests.checkpoint.torch_writer import File, ordered
from tinynet.checkpoint import load, load_safetensors, save
from tinynet.cli import main
from tinynet.cli.convert import size_text

ARRAYS = {
    "conv.weight": np.arange(216, dtype=np.float32).reshape(8, 3, 3, 3),
    "bn.num_batches_tracked": np.array(7),
}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error; no file is left behind or changed."""
    before = {name: Path(name).read_bytes() for name in os.listdir()}
    capsys.readouterr()
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("tinynet: error: ") and captured.err.count("\n") == 1
    assert {name: Path(name).read_bytes() for name in os.listdir()} == before
    return captured.err


def write_torch(path: str = "in.pth", nested: bool = False) -> None:
    file = File(legacy=True)
    if nested:
        half = file.tensor(np.array([0x3F80, 0x4000], np.uint16), "bfloat16")
        value = {"state_dict": ordered({"half": half}), "epoch": 3, "best": 0.5}
    else:
        value = ordered({name: file.tensor(array) for name, array in ARRAYS.items()})
    Path(path).write_bytes(file.stream(value))


def test_inspect_a_safetensors_file(capsys: pytest.CaptureFixture[str]) -> None:
    save(ARRAYS, "m.safetensors", {"epoch": "3", "history": "x" * 5000})
    out = run(["inspect", "m.safetensors"], capsys)
    assert out.splitlines() == [
        "m.safetensors: safetensors file, with a checksum",
        "  epoch: 3",
        f"  history: {'x' * 100}… (5,000 characters)",
        "",
        "name                    dtype      shape   size",
        "───────────────────────────────────────────────",
        "conv.weight             float32  8×3×3×3  864 B",
        "bn.num_batches_tracked  int64     scalar    8 B",
        "",
        "2 tensors (1 float32, 1 int64), 217 elements, 872 B",
    ]


def test_inspect_reads_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    """Damaged data are listed all the same; a sparse file of a terabyte takes no time."""
    size = 2**40
    header = b'{"x":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}' % (size // 4, size)
    with open("large", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    out = run(["inspect", "large"], capsys)
    assert "large: safetensors file\n" in out and "1.1 TB" in out and "274,877,906,944 elements" in out


def test_inspect_a_torch_file(capsys: pytest.CaptureFixture[str]) -> None:
    write_torch(nested=True)
    out = run(["inspect", "in.pth"], capsys)
    assert "in.pth: torch file\n" in out and re.search(r"^state_dict\.half +bfloat16 +2 +4 B$", out, re.MULTILINE)


def test_terminal_codes_in_names_are_shown_not_sent(capsys: pytest.CaptureFixture[str]) -> None:
    save({"a\x1b[2J\nb": tinynet.ones(1), "": tinynet.ones(1), "名": tinynet.ones(1)}, "f", {"k\r": "v\x07"})
    out = run(["inspect", "f"], capsys)
    assert r"a\x1b[2J\nb  float32" in out and "\x1b" not in out and "(unnamed)" in out and "名" in out
    assert r"  k\r: v\x07" in out


def test_convert(capsys: pytest.CaptureFixture[str]) -> None:
    write_torch()
    out = run(["convert", "in.pth", "out.safetensors"], capsys)
    assert out == ("out.safetensors: safetensors file, with a checksum\n"
                   "2 tensors (1 float32, 1 int64), 217 elements, 872 B\n")  # fmt: skip
    tensors, metadata = load_safetensors("out.safetensors")
    assert list(tensors) == list(ARRAYS) and metadata == {"format": "pt"}
    for name, array in ARRAYS.items():
        assert tensors[name].numpy().dtype == array.dtype and np.array_equal(tensors[name].numpy(), array)


def test_convert_takes_the_model_and_says_what_it_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    write_torch(nested=True)
    out = run(["convert", "in.pth", "out.safetensors"], capsys)
    assert "widened from bfloat16 to float32, exactly: 1 of 1 tensors" in out
    assert "left out, since only the model's tensors are kept: epoch, best" in out
    assert load("out.safetensors")["half"].tolist() == [1.0, 2.0]


def test_convert_a_safetensors_file_keeps_its_metadata(capsys: pytest.CaptureFixture[str]) -> None:
    save(ARRAYS, "in.safetensors", {"classes": "a,b"})
    run(["convert", "in.safetensors", "out.safetensors"], capsys)
    assert Path("out.safetensors").read_bytes() == Path("in.safetensors").read_bytes()


def test_convert_replaces_only_by_force(capsys: pytest.CaptureFixture[str]) -> None:
    write_torch()
    Path("out.safetensors").write_bytes(b"precious")
    assert "out.safetensors exists already; --force" in refused(["convert", "in.pth", "out.safetensors"], capsys)
    run(["convert", "in.pth", "out.safetensors", "--force"], capsys)
    assert list(load("out.safetensors")) == list(ARRAYS)


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    write_torch()
    Path("text").write_text("hello\n" * 10)
    Path("empty").touch()
    Path("code.pth").write_bytes(File().zip(hostile.CODE["os.system"]))
    Path("numbers.pth").write_bytes(File().zip({"epoch": 3}))
    Path("cut.pth").write_bytes(Path("in.pth").read_bytes()[:-1])
    for name, words in {
        "none": "none: No such file", "text": "text is not a checkpoint", "empty": "empty: the file is empty",
        "code.pth": "refused: the file names 'os.system'", "cut.pth": "truncated",
    }.items():  # fmt: skip
        assert words in refused(["inspect", name], capsys)
        assert words in refused(["convert", name, "out.safetensors"], capsys)
    numbers = refused(["convert", "numbers.pth", "out.safetensors"], capsys)
    assert "numbers.pth: expected tensors by name" in numbers and "'epoch': int" in numbers
    assert "call it out.safetensors" in refused(["convert", "in.pth", "out.pth"], capsys)
    assert "none/out.safetensors: cannot write here" in refused(["convert", "in.pth", "none/out.safetensors"], capsys)
    assert "required: output" in refused(["convert", "in.pth"], capsys)


def test_a_full_disk(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_torch()
    monkeypatch.setattr(os, "fsync", full)
    assert "out.safetensors: No space left on device" in refused(["convert", "in.pth", "out.safetensors"], capsys)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_999, "1.0 MB"), (97_800_000, "97.8 MB"), (10**9, "1.0 GB"),
     (5 * 10**15, "5000.0 TB")],
)
def test_sizes_as_people_read_them(count: int, text: str) -> None:
    assert size_text(count) == text
