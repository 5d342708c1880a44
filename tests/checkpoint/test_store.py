"""`save` and `load` under torch's names: any format by its content, no code, little memory, no half files."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

import tinynet
from tests.checkpoint import hostile
from tests.checkpoint.memory import peaks_of_load
from tests.checkpoint.torch_writer import File, ordered
from tinynet import nn
from tinynet.checkpoint import describe, load, load_safetensors, save
from tinynet.checkpoint.header import MAX_HEADER_BYTES
from tinynet.errors import CheckpointError

ROOT = Path(tinynet.__file__).parents[1]
LAYOUTS = ("zip", "stream", "tar")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def torch_file(layout: str, arrays: dict[str, np.ndarray]) -> bytes:
    file = File(legacy=layout == "stream")
    make = file.tar_tensor if layout == "tar" else file.strided
    tensors = {}
    for name, array in arrays.items():
        strides = tuple(step // array.itemsize for step in array.strides)
        tensors[name] = make(file.storage(array.ravel()), 0, array.shape, strides)
    return {"zip": file.zip, "stream": file.stream, "tar": file.tar}[layout](ordered(tensors))


def test_a_modules_state_dict_and_back() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    model(tinynet.randn(2, 1, 5, 5))
    save(model.state_dict(), "state.safetensors", {"epoch": "3"})
    save(model, "model.safetensors", {"epoch": "3"})
    assert Path("state.safetensors").read_bytes() == Path("model.safetensors").read_bytes()
    loaded = load("model.safetensors")
    assert type(loaded) is OrderedDict and list(loaded) == list(model.state_dict())
    assert load_safetensors("model.safetensors").metadata == {"epoch": "3"}
    other = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    other.load_state_dict(loaded)
    for name, value in model.state_dict().items():
        assert other.state_dict()[name].numpy().tobytes() == value.numpy().tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_torch_files_whatever_they_are_called(layout: str) -> None:
    arrays = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.array(4)}
    for name in ("weights.pth", "weights.safetensors", "weights"):
        Path(name).write_bytes(torch_file(layout, arrays))
        loaded = load(name, map_location="cpu", weights_only=True)
        assert type(loaded) is OrderedDict and list(loaded) == ["weight", "count"]
        for key, array in arrays.items():
            assert loaded[key].numpy().dtype == array.dtype and np.array_equal(loaded[key].numpy(), array)
    save({"weight": tinynet.ones(2)}, "weights.pth")
    assert load("weights.pth")["weight"].tolist() == [1.0, 1.0]


def test_arguments_of_torchs_load() -> None:
    save({"a": tinynet.ones(1)}, "f")
    assert load("f", tinynet.device("cpu"))["a"].tolist() == [1.0]
    with pytest.raises(RuntimeError, match="cuda"):
        load("f", map_location="cuda")
    with pytest.raises(ValueError, match="never"):
        load("f", weights_only=False)
    for stream in (io.BytesIO(b""), 0, None):
        with pytest.raises(TypeError, match="PathLike"):
            load(stream)  # type: ignore[arg-type]


def test_tied_weights_are_written_whole_under_each_name() -> None:
    tied = nn.Linear(3, 3, bias=False)
    model = nn.Sequential(tied, nn.ReLU(), tied)
    save(model, "f")
    loaded = load("f")
    assert list(loaded) == ["0.weight", "2.weight"]
    assert loaded["0.weight"].tolist() == loaded["2.weight"].tolist() == tied.weight.tolist()
    loaded["0.weight"][0, 0] = 50.0
    assert loaded["2.weight"][0, 0].item() == tied.weight[0, 0].item()
    model.load_state_dict(load("f"))


def test_views_are_written_as_what_they_show() -> None:
    base = tinynet.arange(1_000_000).float()
    save({"part": base[3:9:2], "turned": base[:6].reshape(2, 3).t(), "repeated": base[1:2].expand(4)}, "f")
    loaded = load("f")
    assert loaded["part"].tolist() == [3.0, 5.0, 7.0] and loaded["repeated"].tolist() == [1.0] * 4
    assert loaded["turned"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert Path("f").stat().st_size < 1000


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"model": {"a": 1}, "epoch": 3}, "'model' must be a tensor .* nothing nested"),
        (tinynet.ones(2), "expected a state_dict, .* got Tensor; a single tensor"),
        ([tinynet.ones(2)], "expected a state_dict, .* got list"),
        (None, "got NoneType"),
        ({"object": np.array([object()])}, "not object"),
    ],
    ids=range(5),
)
def test_what_is_no_state_dict(value: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        save(value, "f")  # type: ignore[arg-type]
    assert os.listdir() == []


def test_descriptions_without_the_data() -> None:
    arrays = {"weight": np.zeros((2, 3), np.float32), "count": np.array(4)}
    rows = [("weight", (2, 3), "float32", 24), ("count", (), "int64", 8)]
    save(arrays, "f", {"epoch": "3"})
    assert describe("f") == ("safetensors", {"epoch": "3"}, rows, True)
    content = bytearray(Path("f").read_bytes())
    content[-1] ^= 1
    Path("f").write_bytes(content)
    assert describe("f").tensors == rows  # the data are not looked at
    header = {"x": {"dtype": "F8_E4M3", "shape": [3], "data_offsets": [0, 3]},
              "y": {"dtype": "F4", "shape": [3], "data_offsets": [3, 5]}}  # fmt: skip
    text = json.dumps(header).encode()
    Path("f").write_bytes(struct.pack("<Q", len(text)) + text + bytes(5))
    assert describe("f") == ("safetensors", {}, [("x", (3,), "float8_e4m3fn", 3), ("y", (3,), "F4", 2)], False)
    for layout in LAYOUTS:
        Path("f").write_bytes(torch_file(layout, arrays))
        assert describe("f") == ("torch", {}, rows, False)


# ---- files that are none


def numpy_file(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


class Executed:
    """Its pickle creates the file that says so."""

    def __reduce__(self):
        return open, (hostile.MARKER, "w")


NOT_CHECKPOINTS = {
    "nothing": b"",
    "a byte": b"\x80",
    "text": b"hello, world\n" * 20,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "a pickle": pickle.dumps({"weight": Executed()}),
    "an npz": hostile.npz(),
    "an npz of objects": numpy_file(weight=np.array([Executed()], object)),
    "an npz called like torch's entry": numpy_file(**{"archive/data": np.array([Executed()], object)}),
    "a document": hostile.document(),
    "gzip": b"\x1f\x8b\x08" + bytes(50),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(50),
    "TorchScript": hostile.torchscript(),
    "a zip bomb": hostile.zip_bomb(1),
    "lying sizes": hostile.lying_sizes(),
    "duplicate entries": hostile.duplicate_entries(),
    "an escaping entry": hostile.escaping_zip("../evil"),
    "JSON": b'{"a": 1, "b": {}}',
    "an array file": b"\x93NUMPY\x01\x00v\x00{'descr': '|O'}",
}


@pytest.mark.parametrize("name", NOT_CHECKPOINTS)
def test_everything_else_is_refused_and_never_run(name: str) -> None:
    Path("file").write_bytes(NOT_CHECKPOINTS[name])
    for read in (load, describe):
        with pytest.raises(CheckpointError) as error:
            read("file")
        assert "file" in str(error.value) and len(str(error.value)) < 1500
    assert os.listdir() == ["file"]


def test_random_damage_of_a_foreign_file_is_refused_or_changes_values_only() -> None:
    """Without a checksum the format cannot know; but nothing else may happen than other numbers."""
    text = json.dumps({"x": {"dtype": "F32", "shape": [4, 5], "data_offsets": [0, 80]},
                       "y": {"dtype": "I64", "shape": [3], "data_offsets": [80, 104]}}).encode()  # fmt: skip
    content, generator, refusals = struct.pack("<Q", len(text)) + text + bytes(104), random.Random(0), 0
    for _ in range(2000):
        damaged = bytearray(content)
        damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        Path("f").write_bytes(damaged)
        try:
            assert sum(value.numpy().nbytes for value in load("f").values()) == 104
        except CheckpointError:
            refusals += 1
    assert refusals > 500


# ---- memory


def test_loading_takes_little_more_memory_than_the_file() -> None:
    arrays = {str(i): np.ones(25 * 2**18, np.float32) for i in range(4)}
    save(arrays, "ours")
    content = Path("ours").read_bytes().replace(b"tinynet.", b"foreign.")
    Path("theirs").write_bytes(content)
    for layout in LAYOUTS:
        Path(layout).write_bytes(torch_file(layout, arrays))
    for name, (total, peak) in peaks_of_load([Path(n) for n in ("ours", "theirs", *LAYOUTS)]).items():
        assert total == 100 * 2**18, name
        assert peak <= 1.3 * Path(name).stat().st_size, f"{name}: {peak / 2**20:.0f} MB for 100"


def padded_header(text: str) -> bytes:
    return struct.pack("<Q", MAX_HEADER_BYTES) + text.encode().ljust(MAX_HEADER_BYTES) + bytes(8)


def test_lying_headers_take_little_memory() -> None:
    size, big = MAX_HEADER_BYTES, 2**40
    lies = {
        "a tensor of 4 TB": json.dumps({"x": {"dtype": "F32", "shape": [big], "data_offsets": [0, 4 * big]}}),
        "a tensor of 4 TB in 8 bytes": json.dumps({"x": {"dtype": "F32", "shape": [big], "data_offsets": [0, 8]}}),
        "empty lists": '{"x":[' + "[]," * (size // 3 - 9) + "[]]}",
        "empty tables": '{"x":[' + "{}," * (size // 3 - 9) + "{}]}",
        "small tables": '{"x":[' + '{"":0},' * (size // 7 - 9) + "{}]}",
        "texts": '{"x":[' + '"ab",' * (size // 5 - 9) + '""]}',
        "many names": "{" + ",".join(f'"{i:x}":0' for i in range(size // 9 - 9999)) + "}",
        "nested": '{"x":' + "[" * (size - 9),
    }
    for name, text in lies.items():
        Path(name).write_bytes(padded_header(text))
    Path("a header of 2**60 bytes").write_bytes(struct.pack("<Q", 2**60) + b'{"x":' + bytes(1000))
    with open("a sparse header of 1 TB", "wb") as file:
        file.write(struct.pack("<Q", big - 8) + b'{"x":')
        file.truncate(big)
    for name, (total, peak) in peaks_of_load([Path(name) for name in os.listdir()]).items():
        assert total is None, name
        assert peak < 100 * 2**20, f"{name}: {peak / 2**20:.0f} MB"


# ---- interruption and full disks

SAVE_FOREVER = """
import sys
import tinynet
from tinynet.checkpoint import save
number = 0
while True:
    number += 1
    save({"x": tinynet.full((300_000,), number)}, sys.argv[1], {"number": str(number)})
    if number == 1:
        print("saved", flush=True)
"""

SAVE_TOO_MUCH = """
import resource, signal, sys
import tinynet
from tinynet.checkpoint import save
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
try:
    save({"x": tinynet.zeros(1_000_000)}, sys.argv[1])
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_kill_while_saving_leaves_a_whole_file() -> None:
    """Processes that save without end, each killed at another moment of it."""
    for attempt in range(4):
        Path("f").unlink(missing_ok=True)
        command = [sys.executable, "-c", SAVE_FOREVER, "f"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        try:
            assert process.stdout is not None and process.stdout.readline() == b"saved\n"
            time.sleep(0.007 * attempt)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        tensors, metadata = load_safetensors("f")
        assert (tensors["x"].numpy() == int(metadata["number"])).all()


@pytest.mark.skipif(os.name == "nt", reason="needs limits on file sizes")
def test_a_disk_that_is_full_in_the_middle_leaves_the_old_file() -> None:
    save({"x": tinynet.ones(3)}, "f")
    before = Path("f").read_bytes()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SAVE_TOO_MUCH, "f"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment).stdout
    assert "the previous file, if there was one, is unchanged" in output and "'f'" in output
    assert Path("f").read_bytes() == before and os.listdir() == ["f"]
