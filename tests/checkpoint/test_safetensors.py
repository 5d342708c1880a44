"""safetensors files: round trips, other readers, and every kind of damage."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import tinynet
from tinynet import nn
from tinynet.checkpoint import load, load_safetensors, save_safetensors
from tinynet.errors import CheckpointError
from tinynet.models import CifarResNet


def small_model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def test_a_state_dict_comes_back_bit_for_bit(tmp_path: Path) -> None:
    model = CifarResNet(8, width=4)
    model(tinynet.randn(4, 3, 8, 8))
    save_safetensors(model.state_dict(), tmp_path / "m.safetensors", {"epoch": "3", "note": "naïve “quotes” \\ \""})
    tensors, metadata = load_safetensors(tmp_path / "m.safetensors")
    assert metadata == {"epoch": "3", "note": "naïve “quotes” \\ \""}
    assert list(tensors) == list(model.state_dict())
    assert tensors["bn1.num_batches_tracked"].shape == () and tensors["bn1.num_batches_tracked"].item() == 1
    other = CifarResNet(8, width=4)
    other.load_state_dict(load(tmp_path / "m.safetensors"))
    assert bits(other) == bits(model)


def test_layouts_dtypes_and_odd_shapes(tmp_path: Path) -> None:
    base = np.arange(24.0).reshape(4, 6)
    entries = {
        "transposed": base.T, "sliced": base[::2, ::3], "reversed": base[::-1],
        "broadcast": np.broadcast_to(base[0], (3, 6)), "big endian": base.astype(">f8"),
        "scalar": np.array(2.5, np.float32), "empty": np.zeros((0, 3), np.int64), "half": base.astype(np.float16),
        "bool": base > 3, "bytes": base.astype(np.uint8), "int32": base.astype(np.int32),
        "nan": np.array([np.nan, np.inf, -0.0], np.float32),
    }  # fmt: skip
    save_safetensors(entries, tmp_path / "f")
    tensors = load(tmp_path / "f")
    for name, array in entries.items():
        result = tensors[name].numpy()
        assert result.shape == array.shape and result.dtype == array.dtype.newbyteorder("="), name
        assert result.tobytes() == array.astype(result.dtype).tobytes(), name
    assert load(tmp_path / "f")["sliced"].numpy().flags.writeable


def test_the_library_and_foreign_files(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(7)}
    save_safetensors(arrays, tmp_path / "ours", {"k": "v"})
    for name, array in safetensors.numpy.load_file(tmp_path / "ours").items():
        assert np.array_equal(array, arrays[name]) and array.shape == arrays[name].shape
    safetensors.numpy.save_file(arrays, tmp_path / "theirs", {"format": "pt"})
    tensors, metadata = load_safetensors(tmp_path / "theirs")
    assert metadata == {"format": "pt"} and np.array_equal(tensors["a"].numpy(), arrays["a"])


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    tensors = {name: tinynet.ones(2) for name in "zyxabc"}
    for name in ("one", "two"):
        save_safetensors(tensors, tmp_path / name, {"b": "1", "a": "2", "c": "3"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_an_empty_state_dict(tmp_path: Path) -> None:
    save_safetensors({}, tmp_path / "f", {"only": "metadata"})
    assert load_safetensors(tmp_path / "f") == ({}, {"only": "metadata"})


@pytest.mark.parametrize(
    ("tensors", "metadata", "error", "message"),
    [
        ({"a": [1, 2]}, {}, TypeError, "'a' must be a tensor"),
        ({"a": np.array(["x"])}, {}, TypeError, "'a' must be a tensor"),
        ({"a": np.array([object()])}, {}, TypeError, "not object"),
        ({"a": np.zeros(2, np.uint32)}, {}, TypeError, "not uint32"),
        ({"a": np.zeros(2, complex)}, {}, TypeError, "not complex128"),
        ({"model": {"a": np.zeros(1)}}, {}, TypeError, "'model' must be a tensor .* not dict: .* nothing nested"),
        ({"epoch": 3}, {}, TypeError, "'epoch' .* not int: .* give numbers as tensors"),
        ({"__metadata__": np.zeros(1)}, {}, ValueError, "__metadata__"),
        ({"../a": np.zeros(1)}, {}, ValueError, "'../a' would lead out of a folder"),
        ({3: np.zeros(1)}, {}, TypeError, "name as text"),
        ({}, {"epoch": 3}, TypeError, "metadata must be text"),
        ({}, {"long": "x" * 2**22}, ValueError, "take 4194.* bytes, at most 3145728 fit"),
    ],
)
def test_what_cannot_be_saved_leaves_the_old_file(tmp_path: Path, tensors, metadata, error, message: str) -> None:
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(error, match=message):
        save_safetensors(tensors, tmp_path / "f", metadata)
    assert (tmp_path / "f").read_bytes() == b"old"


def refuse(path: Path, model: nn.Module) -> str:
    """Loads a damaged file into a model, which must be refused and change nothing."""
    before = bits(model)
    with pytest.raises(CheckpointError) as error:
        model.load_state_dict(load(path))
    assert bits(model) == before
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_safetensors(small_model().state_dict(), path, {"epoch": "1"})
    return path


def test_every_flipped_byte_is_noticed(saved: Path) -> None:
    """One bit and all bits of every byte; the header too, marks of the checksum included."""
    content, model = saved.read_bytes(), small_model()
    for position in range(len(content)):
        for flip in (0x01, 0xFF):
            damaged = bytearray(content)
            damaged[position] ^= flip
            saved.write_bytes(damaged)
            with pytest.raises(CheckpointError):
                model.load_state_dict(load(saved))
    saved.write_bytes(content)
    model.load_state_dict(load(saved))


def test_every_truncation_is_noticed(saved: Path) -> None:
    content, model = saved.read_bytes(), small_model()
    for length in [*range(0, 300), *range(300, len(content), 37), len(content) - 1]:
        saved.write_bytes(content[:length])
        refuse(saved, model)
    saved.write_bytes(content + b"\0")
    refuse(saved, model)


def with_header(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"{", "not a checkpoint, or truncated: .* 1 bytes that begin with b'{'"),
        (b"\x80\x02}q\x00.", "not a checkpoint, or truncated"),
        (b"\xff" * 64, "not a checkpoint"),
        (b"\xff" * 8 + b"{}", "header should have 18446744073709551615 bytes, the whole file has 10"),
        (with_header(b"[]"), "not a checkpoint"),
        (with_header(b"{]"), "header cannot be read"),
        (with_header(b'{"a":' + b"[" * 200_000), "cannot be read"),
        (with_header(b'{"\xff":1}'), "cannot be read"),
        (with_header(b"{}"), "Missing key"),
        (with_header(b'{"a":1}'), "tensor 'a' needs exactly dtype, shape and data_offsets"),
        (with_header(b'{"__metadata__": [1, 2]}'), "metadata"),
        (with_header(b'{"__metadata__": {"a": 1}}'), "metadata"),
        (with_header(b"{" + b" " * 2**22 + b"}"), "header of 4194306 bytes; at most"),
    ],
    ids=range(14),
)
def test_files_that_are_something_else(tmp_path: Path, content: bytes, message: str) -> None:
    path, model = tmp_path / "f", small_model()
    path.write_bytes(content)
    before = bits(model)
    with pytest.raises(CheckpointError, match=message):
        model.load_state_dict(load(path))
    assert bits(model) == before


def described(**changes: object) -> bytes:
    """A file of one tensor of two float32 numbers, described with `changes`."""
    fields = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
    return with_header(json.dumps({"a": fields}).encode()) + np.array([1.0, 2.0], np.float32).tobytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [3]}, r"shape \(3,\) and dtype float32 needs 12 bytes, its place in the file has 8"),
        ({"shape": [2**62]}, "needs 18446744073709551616 bytes"),
        ({"shape": [0, 2**62, 2**62]}, "needs 0 bytes"),
        ({"shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}, "needs 0 bytes"),
        ({"shape": [-2]}, "shape"),
        ({"shape": [2.0]}, "shape"),
        ({"shape": [True, 2]}, "shape"),
        ({"shape": "2"}, "shape"),
        ({"shape": 2}, "shape"),
        ({"shape": [1] * 64 + [2]}, "shape"),
        ({"dtype": 32}, "dtype 32"),
        ({"dtype": "F64"}, "needs 16 bytes"),
        ({"dtype": "F99"}, "'a' has dtype 'F99'; tinynet reads"),
        ({"dtype": "U64", "shape": [1]}, "'a' has dtype 'uint64'; tinynet reads"),
        ({"dtype": "C64", "shape": [1]}, "'a' has dtype 'complex64'"),
        ({"dtype": "BOOL", "shape": [8]}, "boolean"),
        ({"data_offsets": [0, 4000], "shape": [1000]}, "need 4000 bytes of data, the file has 8"),
        ({"data_offsets": [0, 4], "shape": [1]}, "need 4 bytes of data, the file has 8"),
        ({"data_offsets": [4, 8], "shape": [1]}, "bytes 4 to 8, expected them from byte 0 on"),
        ({"data_offsets": [8, 0]}, "damaged"),
        ({"data_offsets": [-8, 0]}, "data_offsets"),
        ({"data_offsets": [0]}, "data_offsets"),
        ({"data_offsets": [0, 8, 8]}, "data_offsets"),
        ({"more": 1}, "needs exactly"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_a_tensor_that_lies(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(described())
    assert load(path)["a"].tolist() == [1.0, 2.0]
    path.write_bytes(described(**changes))
    assert re.search(message, refuse(path, small_model()))


TWO = {name: {"dtype": "F32", "shape": [1], "data_offsets": [at, at + 4]} for name, at in (("a", 0), ("b", 4))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"b"', '"a"'), "two entries have the name 'a'"),
        (lambda text: text.replace('"dtype"', '"dtype":"F16","dtype"', 1), "two entries have the name 'dtype'"),
        (lambda text: text.replace("[4, 8]", "[0, 4]"), "bytes 0 to 4, expected them from byte 4 on"),
        (lambda text: text.replace("[4, 8]", "[2, 6]"), "bytes 2 to 6, expected them from byte 4 on"),
        (lambda text: text.replace('"b"', '"../b"'), "'../b' would lead out of a folder"),
        (lambda text: text.replace('"b"', '"x/../../b"'), "would lead out of a folder"),
        (lambda text: text.replace('"b"', r'"..\\b"'), "would lead out of a folder"),
        (lambda text: text.replace('"b"', '"/etc/b"'), "would lead out of a folder"),
        (lambda text: text.replace('"b"', r'"b\u0000"'), "would lead out of a folder"),
    ],
    ids=range(9),
)
def test_duplicate_overlapping_and_escaping_tensors(tmp_path: Path, change, message: str) -> None:
    path, data = tmp_path / "f", np.array([1.0, 2.0], np.float32).tobytes()
    path.write_bytes(with_header(json.dumps(TWO).encode()) + data)
    assert list(load(path)) == ["a", "b"]
    path.write_bytes(with_header(change(json.dumps(TWO)).encode()) + data)
    assert message in refuse(path, small_model())


def test_every_bfloat16_and_float16(tmp_path: Path) -> None:
    """All 65,536 of each, more than one chunk; the library's own NumPy reader raises for bfloat16."""
    bits = np.tile(np.arange(2**16, dtype=np.uint16), 9)
    for code, expected in (("BF16", (bits.astype(np.uint32) << 16).view(np.float32)), ("F16", bits.view(np.float16))):
        header = {"x": {"dtype": code, "shape": [9, 2**16], "data_offsets": [0, bits.nbytes]}}
        (tmp_path / code).write_bytes(with_header(json.dumps(header).encode()) + bits.tobytes())
        loaded = load(tmp_path / code)["x"].numpy()
        assert loaded.dtype == expected.dtype and loaded.shape == (9, 2**16)
        assert loaded.tobytes() == expected.tobytes()


def test_data_in_another_order_than_the_header(tmp_path: Path) -> None:
    tensors = {"byte": np.array([7], np.uint8), "none": np.zeros((3, 0)), "double": np.array([1.5]), "int": np.array(3)}
    save_safetensors(tensors, tmp_path / "f")
    assert list(load(tmp_path / "f")) == list(tensors)
    for name, value in load(tmp_path / "f").items():
        assert value.numpy().tobytes() == tensors[name].tobytes() and value.shape == tensors[name].shape


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert "No such file" in refuse(tmp_path / "none", small_model())
    assert "not a file" in refuse(tmp_path, small_model())
    os.mkfifo(tmp_path / "pipe")
    assert "not a file" in refuse(tmp_path / "pipe", small_model())


def test_all_misfits_are_listed_and_nothing_is_loaded(tmp_path: Path) -> None:
    model = small_model()
    state = model.state_dict()
    state["3.weight"], state["surplus"] = tinynet.zeros(2, 9), tinynet.zeros(1)
    del state["0.weight"]
    save_safetensors(state, tmp_path / "f")
    before = bits(model)
    with pytest.raises(CheckpointError) as error:
        model.load_state_dict(load(tmp_path / "f"))
    for word in ("0.weight", "surplus", "3.weight", "[2, 9]", "[2, 8]"):
        assert word in str(error.value)
    assert bits(model) == before


def test_nan_weights_warn(tmp_path: Path) -> None:
    model = small_model()
    state = model.state_dict()
    state["3.bias"] = tinynet.tensor([float("nan"), 1.0])
    save_safetensors(state, tmp_path / "f")
    with pytest.warns(UserWarning, match="3.bias"):
        model.load_state_dict(load(tmp_path / "f"))


def test_a_full_disk_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        save_safetensors({"a": tinynet.zeros(9)}, saved)
    assert str(saved) in str(error.value)
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]
