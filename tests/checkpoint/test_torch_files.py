"""Torch's files read without torch: to the bit, in every layout, and never running what is in them."""

from __future__ import annotations

import random
import struct
import tarfile
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinynet
from tests.checkpoint import hostile
from tests.checkpoint import torch_writer as writer
from tests.checkpoint.memory import peaks_of_load
from tests.checkpoint.torch_writer import Build, Call, File, Name, Raw, Reference, ordered
from tinynet.checkpoint.torch_files import TensorInfo, is_torch_file, list_torch_file, read_torch_file
from tinynet.errors import CheckpointError

DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
LAYOUTS = ("zip", "stream", "tar")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(content: bytes) -> Any:
    Path("model.pth").write_bytes(content)
    return read_torch_file("model.pth")


def refused(content: bytes, *words: str) -> str:
    """The refusal's message, which names the path and `words`; nothing in the file has run."""
    with pytest.raises(CheckpointError) as error:
        read(content)
    message = str(error.value)
    assert "model.pth" in message and len(message) < 1500
    for word in words:
        assert word in message
    assert not Path(hostile.MARKER).exists()
    return message


def write(layout: str, value: Any, file: File | None = None) -> bytes:
    file = file or File(legacy=layout == "stream")
    return {"zip": file.zip, "stream": file.stream, "tar": file.tar}[layout](value)


def numbers(dtype: str, count: int = 12) -> np.ndarray:
    """All kinds of bits, NaN and infinities among them."""
    generator = np.random.default_rng(0)
    if dtype == "bool":
        return generator.integers(0, 2, count).astype(bool)
    return np.frombuffer(generator.bytes(count * np.dtype(dtype).itemsize), dtype)


def equal_bits(tensor: Any, expected: np.ndarray) -> None:
    array = tensor.detach().numpy()
    assert array.dtype == expected.dtype and array.shape == expected.shape
    assert array.tobytes() == expected.tobytes()


# ---- well-formed files of our own writing


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dtypes_strides_and_offsets_in_every_layout(layout: str, dtype: str) -> None:
    file = File(legacy=layout == "stream")
    data = numbers(dtype)
    key = file.storage(data)
    make = file.tar_tensor if layout == "tar" else file.strided
    value = ordered({
        "whole": make(key, 0, (3, 4), (4, 1)),
        "transposed": make(key, 0, (4, 3), (1, 4)),
        "part": make(key, 5, (2, 2), (4, 2)),
        "scalar": make(key, 7, (), ()),
        "empty": make(key, 3, (0, 4), (4, 1)),
        "expanded": make(key, 2, (3, 2), (0, 1)),
    })  # fmt: skip
    loaded = read(write(layout, value, file))
    assert type(loaded) is OrderedDict
    assert list(loaded) == ["whole", "transposed", "part", "scalar", "empty", "expanded"]
    grid = data.reshape(3, 4)
    equal_bits(loaded["whole"], grid)
    equal_bits(loaded["transposed"], grid.T)
    equal_bits(loaded["part"], data[[5, 7, 9, 11]].reshape(2, 2))
    equal_bits(loaded["scalar"], data[7])
    equal_bits(loaded["empty"], np.empty((0, 4), dtype))
    equal_bits(loaded["expanded"], np.stack([data[2:4]] * 3))
    assert loaded["transposed"].stride() == (1, 4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors_of_one_storage_share_memory(layout: str) -> None:
    file = File(legacy=layout == "stream")
    key = file.storage(np.arange(6, dtype=np.float32))
    make = file.tar_tensor if layout == "tar" else file.strided
    loaded = read(write(layout, [make(key, 0, (6,), (1,)), make(key, 2, (2,), (1,))], file))
    loaded[0][3] = 50.0
    assert loaded[1].tolist() == [2.0, 50.0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bfloat16_becomes_float32_exactly(layout: str) -> None:
    upper = np.arange(2**16, dtype=np.uint16)  # every bfloat16 there is
    upper = np.tile(upper, 12)  # more than one chunk
    file = File(legacy=layout == "stream")
    key = file.storage(upper, "bfloat16")
    make = file.tar_tensor if layout == "tar" else file.strided
    loaded = read(write(layout, [make(key, 0, (upper.size,), (1,))], file))
    equal_bits(loaded[0], (upper.astype(np.uint32) << 16).view(np.float32))


@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16"])
def test_big_endian_zip(dtype: str) -> None:
    file = File()
    stored = np.arange(5, dtype=np.uint16) if dtype == "bfloat16" else numbers(dtype)
    value = [file.tensor(stored.astype(stored.dtype.newbyteorder(">")), dtype)]
    expected = (stored.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else stored
    equal_bits(read(file.zip(value, byteorder="big"))[0], expected)
    refused(file.zip(value, byteorder="middle"), "little", "middle")


def test_without_a_byteorder_entry_little_is_meant() -> None:
    file = File()
    content = file.zip([file.tensor(np.arange(3, dtype=np.int32))], byteorder=None)
    assert read(content)[0].tolist() == [0, 1, 2]


def test_directories_with_64_bit_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in archives of more than 4 GB or 65,535 entries."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    file = File()
    content = file.zip([file.tensor(np.arange(3, dtype=np.int32))])
    content = content[:-14] + b"\xff" * 12 + bytes(2)
    assert content.count(b"\xff\xff\xff\xff") > 10
    assert read(content)[0].tolist() == [0, 1, 2]
    refused(content.replace(b"PK\x06\x07", b"PK\x06\x00"), "64-bit")
    refused(content.replace(b"PK\x06\x06", b"PK\x06\x00"), "64-bit")


def test_nesting_has_a_limit() -> None:
    value: Any = 1
    for _ in range(99):
        value = {"a": value} if isinstance(value, tuple) else (value,)
    assert read(File().zip(value)) == value
    for _ in range(100):
        value = [value]
    refused(File().zip(value), "100 deep")


def test_values_around_the_tensors() -> None:
    file = File()
    tensor = file.tensor(np.float32([1, 2]))
    state = Build(ordered({"weight": tensor}), {"_metadata": ordered({"": {"version": 1}})})
    value = {
        "state_dict": state,
        "epoch": 3,
        5: [None, True, 1.5, -7, 2**70, "текст", ("a", (1,))],
        "parameter": Call(Name("torch._utils", "_rebuild_parameter"), (tensor, True, Call(writer.ORDERED_DICT, ()))),
        "first version": Call(
            Name("torch._utils", "_rebuild_tensor"), (file.reference(file.storage(np.int64([4]))), 0, (1,), (1,))
        ),
        "size": Call(Name("torch", "Size"), ((2, 3),)),
        "dtype": Name("torch", "float16"),
        "device": Call(Name("torch", "device"), ("cuda", 1)),
        "milestones": Call(Name("collections", "Counter"), ({30: 1, 60: 2},)),
        "set": Call(Name("__builtin__", "set"), ([1, "b"],)),
        "bytes": Call(Name("_codecs", "encode"), ("a\xff", "latin1")),
        "text of Python 2": Raw(b"U\x03abc"),
    }
    loaded = read(file.zip(value))
    assert loaded["state_dict"]._metadata == {"": {"version": 1}}
    assert loaded["state_dict"]["weight"].tolist() == [1, 2]
    assert loaded[5] == [None, True, 1.5, -7, 2**70, "текст", ("a", (1,))] and loaded["epoch"] == 3
    assert isinstance(loaded["parameter"], tinynet.nn.Parameter) and loaded["parameter"].requires_grad
    assert loaded["first version"].tolist() == [4]
    assert loaded["size"] == tinynet.Size((2, 3)) and type(loaded["size"]) is tinynet.Size
    assert loaded["dtype"] is tinynet.float16 and loaded["device"] == "cuda:1"
    assert loaded["milestones"] == Counter({30: 1, 60: 2}) and type(loaded["milestones"]) is Counter
    assert loaded["set"] == {1, "b"} and loaded["bytes"] == b"a\xff" and loaded["text of Python 2"] == "abc"


def test_what_is_mentioned_twice_is_one_object() -> None:
    file = File()
    tensor = writer.encode(file.tensor(np.float32([1])))
    loaded = read(file.zip(Raw(b"](" + tensor + b"q\x01h\x01](Keq\x02h\x02e".replace(b"Ke", b"K\x01e"))))
    assert loaded[0] is loaded[1] and loaded[2] is loaded[3]


def test_requires_grad_is_kept() -> None:
    file = File()
    tensor = file.tensor(np.float32([1]))
    tensor.arguments = (*tensor.arguments[:4], True, None)
    assert read(file.zip(tensor)).requires_grad
    integers = file.tensor(np.int32([1]))
    integers.arguments = (*integers.arguments[:4], True, None)
    refused(file.zip(integers), "int32", "grad")


def test_views_of_storages() -> None:
    stream = File(legacy=True)
    key = stream.storage(np.arange(10, dtype=np.int16))
    view = stream.strided(key, 1, (2,), (2,), view=("7", 3, 4))
    assert read(stream.stream([view]))[0].tolist() == [4, 6]
    refused(stream.stream([stream.strided(key, 1, (2,), (3,), view=("7", 3, 4))]), "element 4", "has 4")
    refused(stream.stream([stream.strided(key, 0, (1,), (1,), view=("7", 8, 4))]), "8", "10")
    archive = File()
    archive.storage(np.arange(10, dtype=np.int16))
    archive.tensors.append((1000, 55, "int16", (2,), (2,), 1))
    assert read(archive.tar([Reference(1000)], views=[(55, 0, 3, 4)]))[0].tolist() == [4, 6]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_listing_names_shapes_and_dtypes_without_the_data(layout: str) -> None:
    file = File(legacy=layout == "stream")
    keys = [file.storage(np.zeros(12, np.float32)), file.storage(np.zeros(4, np.uint16), "bfloat16")]
    make = file.tar_tensor if layout == "tar" else file.strided
    value = {
        "model": {"fc.weight": make(keys[0], 0, (3, 4), (4, 1))},
        "more": [1, make(keys[1], 0, (), ())],
        "epoch": 1,
    }
    Path("model.pth").write_bytes(write(layout, value, file))
    expected = [("model.fc.weight", (3, 4), "float32", 48), ("more.1", (), "bfloat16", 2)]
    assert list_torch_file("model.pth") == [TensorInfo(*row) for row in expected]
    assert is_torch_file("model.pth")


def test_dtypes_that_tinynet_has_not_are_listed_but_not_read() -> None:
    file = File()
    content = file.zip({"weight": file.tensor(np.zeros(3, np.complex64))})
    with pytest.raises(CheckpointError, match=r"shape \(3,\) has dtype torch.complex64"):
        read(content)
    assert list_torch_file("model.pth")[0].dtype == "complex64"


# ---- files that torch writes


def torch_layouts(value: Any) -> list[Path]:
    torch = pytest.importorskip("torch")
    torch.save(value, "zip.pth")
    torch.save(value, "stream.pth", _use_new_zipfile_serialization=False)
    torch.save(value, "protocol4.pth", pickle_protocol=4)
    return [Path("zip.pth"), Path("stream.pth"), Path("protocol4.pth")]


def assert_as_torch(actual: Any, expected: Any) -> None:
    """The same values, types, bits, strides and shared memory."""
    import torch

    if isinstance(expected, torch.Tensor):
        assert isinstance(actual, tinynet.nn.Parameter) == isinstance(expected, torch.nn.Parameter)
        assert actual.requires_grad == expected.requires_grad
        expected = expected.detach()
        widened = expected.float() if expected.dtype == torch.bfloat16 else expected
        equal_bits(actual, widened.numpy())
        if expected.numel():
            assert actual.stride() == expected.stride()
    elif isinstance(expected, dict):
        assert type(actual) is type(expected) and list(actual) == list(expected)
        for key in expected:
            assert_as_torch(actual[key], expected[key])
        assert vars(actual) == vars(expected) if type(expected) is OrderedDict else True
    elif isinstance(expected, (list, tuple)) and type(expected) is not torch.Size:
        assert type(actual) is type(expected) and len(actual) == len(expected)
        for item, expected_item in zip(actual, expected):
            assert_as_torch(item, expected_item)
    else:
        assert actual == expected


@pytest.mark.torch
def test_torch_tensors_of_every_kind() -> None:
    torch = pytest.importorskip("torch")
    base = torch.randn(4, 6, 3, 5)
    value = {
        "dtypes": [(base * 100).to(getattr(torch, dtype)) for dtype in (*DTYPES, "bfloat16")],
        "views": (
            base[1:3, ::2],
            base.permute(3, 1, 0, 2),
            base[2, 3, 1, 4],
            base.to(memory_format=torch.channels_last),
        ),
        "expanded": torch.randn(1, 3).expand(4, 3),
        "scalar": torch.tensor(2.5),
        "empty": [torch.empty(0), torch.empty(3, 0, 2), torch.empty(0, dtype=torch.bool)],
        "parameters": [torch.nn.Parameter(base[0]), torch.nn.Parameter(torch.arange(3), requires_grad=False)],
        "leaf": torch.randn(3, requires_grad=True),
        "special": torch.tensor([float("nan"), float("inf"), -0.0]),
        "size": base.shape,
        "rest": [1, 2.5, "text", None, True, -(2**40), {"a": (1, [2])}, {1, 2}, b"bytes"],
    }
    for path in torch_layouts(value):
        assert_as_torch(read_torch_file(path), value)


@pytest.mark.torch
def test_torch_models_and_training_states() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4, 4])
    model(torch.randn(5, 3, 4, 4)).sum().backward()
    optimizer.step()
    value = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "generator": torch.get_rng_state(),
    }
    for path in torch_layouts(value):
        loaded = read_torch_file(path)
        assert_as_torch(loaded, value)
        assert loaded["model"]["1.num_batches_tracked"].item() == 1
        assert loaded["model"]._metadata == model.state_dict()._metadata
        names = [info.name for info in list_torch_file(path)]
        assert names[:2] == ["model.0.weight", "model.0.bias"] and "optimizer.state.0.momentum_buffer" in names


@pytest.mark.torch
def test_torch_storages_stay_shared() -> None:
    torch = pytest.importorskip("torch")
    base = torch.arange(6.0)
    for path in torch_layouts([base, base[2:4], base]):
        whole, part, again = read_torch_file(path)
        assert whole is again
        whole[3] = 50.0
        assert part.tolist() == [2.0, 50.0]


@pytest.mark.torch
def test_torch_files_without_checksums() -> None:
    torch = pytest.importorskip("torch")
    torch.serialization.set_crc32_options(False)
    try:
        torch.save([torch.arange(3)], "model.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_torch_file("model.pth")[0].tolist() == [0, 1, 2]


@pytest.mark.torch
@pytest.mark.parametrize("layout", LAYOUTS)
def test_torch_reads_what_the_tests_write(layout: str) -> None:
    """So that the files of these tests, of the tar layout above all, are torch's layouts and not only ours."""
    torch = pytest.importorskip("torch")
    file = File(legacy=layout == "stream")
    tensors = {}
    for dtype in DTYPES:
        key = file.storage(numbers(dtype))
        make = file.tar_tensor if layout == "tar" else file.strided
        tensors[dtype] = make(key, 1, (2, 3), (1, 4))
    Path("model.pth").write_bytes(write(layout, {"tensors": ordered(tensors), "epoch": 3}, file))
    expected = torch.load("model.pth", weights_only=layout != "tar")
    assert list(expected["tensors"]) == list(DTYPES)
    assert_as_torch(read_torch_file("model.pth"), expected)


@pytest.mark.torch
def test_torch_dtypes_without_a_storage_class_are_listed() -> None:
    torch = pytest.importorskip("torch")
    for path in torch_layouts({"a": torch.zeros(3, dtype=torch.uint16), "b": torch.zeros(2, dtype=torch.float8_e5m2)}):
        assert list_torch_file(path) == [TensorInfo("a", (3,), "uint16", 6), TensorInfo("b", (2,), "float8_e5m2", 2)]
        with pytest.raises(CheckpointError, match=r"torch\.uint16"):
            read_torch_file(path)


@pytest.mark.torch
def test_a_whole_torch_model_is_refused_with_advice() -> None:
    torch = pytest.importorskip("torch")
    for path in torch_layouts(torch.nn.Linear(2, 2)):
        with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict\(\)"):
            read_torch_file(path)


# ---- hostile pickles


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", hostile.CODE)
def test_code_is_never_run(layout: str, name: str) -> None:
    refused(write(layout, {"weight": hostile.CODE[name]}))
    refused(write(layout, hostile.CODE[name]))


def test_the_refusal_names_the_code() -> None:
    refused(write("zip", hostile.CODE["os.system"]), "os.system", "state_dict")


def test_code_in_any_pickle_of_a_stream() -> None:
    parts = [writer.MAGIC, 1001, {}, {}, []]
    for position in range(1, 5):
        changed = [*parts[:position], hostile.CODE["posix.system"], *parts[position + 1 :]]
        refused(b"".join(map(writer.pickled, changed)), "posix.system")


@pytest.mark.parametrize("entry", ["storages", "tensors", "pickle"])
def test_code_in_any_pickle_of_a_tar(entry: str) -> None:
    entries = File().tar_entries({}) | {entry: writer.pickled(hostile.CODE["posix.system"])}
    refused(writer.tar_archive(entries), "posix.system")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", hostile.MALFORMED)
def test_malformed_pickles(layout: str, name: str) -> None:
    refused(write(layout, hostile.MALFORMED[name]))


@pytest.mark.parametrize("layout", ["zip", "stream"])
@pytest.mark.parametrize("name", hostile.TENSORS)
def test_tensors_outside_of_their_storage(layout: str, name: str) -> None:
    file = File(legacy=layout == "stream")
    refused(write(layout, hostile.TENSORS[name](file), file))


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [(0, (13,), (1,)), (12, (1,), (1,)), (0, (2, 2), (11, 1)), (-1, (1,), (1,)), (5, (2,), (-1,)), (0, (2**40,), (0,))],
)
def test_tensors_outside_of_their_storage_in_a_tar(offset: int, shape: tuple, stride: tuple) -> None:
    file = File()
    key = file.storage(np.zeros(12, np.float32))
    refused(file.tar([file.tar_tensor(key, offset, shape, stride)]))


def test_out_of_bounds_is_explained_with_the_numbers() -> None:
    file = File()
    refused(file.zip(hostile.tensor_of((2, 2), (11, 1), 1)(file)), "(2, 2)", "(11, 1)", "element 13", "12")


@pytest.mark.parametrize("dimensions", [-1, 65, 2**30])
def test_dimensions_of_a_tar_tensor(dimensions: int) -> None:
    file = File()
    file.tar_tensor(file.storage(np.zeros(1, np.float32)), 0, (1,), (1,))
    entries = file.tar_entries([])
    entries["tensors"] = entries["tensors"][:-32] + struct.pack("<i", dimensions) + entries["tensors"][-28:]
    refused(writer.tar_archive(entries), "dimensions")


def test_one_storage_with_two_descriptions() -> None:
    file = File()
    key = file.storage(np.zeros(12, np.float32))
    first = file.strided(key, 0, (12,), (1,))
    file.storages[key] = ("int32", *file.storages[key][1:])
    refused(file.zip([first, file.strided(key, 0, (12,), (1,))]), "float32", "int32")


def test_booleans_are_zero_or_one() -> None:
    file = File()
    file.storages["0"] = ("bool", 3, b"\0\1\2")
    refused(file.zip([file.strided("0", 0, (3,), (1,))]), "boolean")


# ---- hostile archives


def test_missing_and_foreign_storages() -> None:
    file = File()
    value = [file.strided(file.storage(np.zeros(3, np.float32), key="7"), 0, (3,), (1,))]
    file.storages.clear()
    refused(file.zip(value), "'7'", "missing", "12 bytes")
    file = File(legacy=True)
    value = [file.tensor(np.zeros(3, np.float32))]
    refused(file.stream(value, keys=[]), "missing")
    refused(file.stream(value, keys=["1"]), "'1'")
    refused(file.stream(value, keys=["0", "0"]), "once")
    refused(file.stream(value, keys="0"), "list")
    refused(File().tar([Reference(12)]), "12")


def test_a_stream_that_states_another_size() -> None:
    file = File(legacy=True)
    value = [file.tensor(np.zeros(3, np.float32))]
    for numel in (-1, 2, 4, 2**60):
        file.storages["0"] = ("float32", numel, bytes(12))
        value[0].arguments[0].identifier = (*value[0].arguments[0].identifier[:4], 3, None)
        refused(file.stream(value))


def test_zip_directory_tricks() -> None:
    refused(hostile.lying_sizes(), "archive/data/0", str(2**31))
    refused(hostile.lying_sizes(0xFFFFFFFF))
    refused(hostile.lying_sizes(8), "archive/data/0")
    refused(hostile.many_entries())
    refused(hostile.huge_directory(), str(2**50))
    refused(hostile.duplicate_entries(), "archive/data/0", "two")
    refused(hostile.overlapping_entries(), "overlaps")
    content = File().zip({})
    refused(hostile.rewrite_directory(content, "archive/data.pkl", crc=1), "data.pkl", "CRC")
    refused(hostile.rewrite_directory(content, "archive/data.pkl", flags=1), "encrypted")
    refused(hostile.rewrite_directory(content, "archive/data.pkl", method=8), "compressed")
    refused(hostile.rewrite_directory(content, "archive/data.pkl", header=2**31))
    refused(content + b"more", "after the end")


@pytest.mark.parametrize("name", ["../x", "archive/../../x", "/etc/x", "..\\x", "C:/x", "archive/data/.."])
def test_names_that_lead_out_of_a_zip(name: str) -> None:
    refused(hostile.escaping_zip(name), "leads out")


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "..\\x"])
def test_names_that_lead_out_of_a_tar(name: str) -> None:
    refused(writer.tar_archive(File().tar_entries({}) | {name: b""}), "leads out")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar(kind: bytes) -> None:
    refused(writer.tar_archive({"storages": b""}, type=kind, linkname="/etc/passwd"), "storages", "not a file")


def test_tar_tricks() -> None:
    entries = File().tar_entries({})
    refused(writer.tar_archive(entries, pax_headers={"size": "99999999999"}), "size")
    refused(writer.tar_archive(entries, pax_headers={"path": "pickle"}), "path")
    refused(writer.tar_archive(entries, pax_headers={"comment": "x" * 10**6}), "header")
    content = writer.tar_archive({"pickle": entries["pickle"]})[:2048] + writer.tar_archive(entries)
    refused(content, "two", "pickle")
    refused(writer.tar_archive({"pickle": entries["pickle"], "storages": entries["storages"]}), "tensors")
    refused(writer.tar_archive({f"entry{i}": b"" for i in range(100)}), "entries")
    damaged = bytearray(writer.tar_archive(entries))
    damaged[1024 + 140] ^= 1  # a time that nobody reads
    refused(bytes(damaged), "checksum")
    entries["storages"] = writer.pickled(2**50)
    refused(writer.tar_archive(entries), str(2**50))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_truncated_anywhere(layout: str) -> None:
    content = sample(layout)
    end = len(content) if layout != "tar" else content.rstrip(b"\0").__len__()  # the archive's padding says nothing
    for length in sorted({0, 1, 3, 4, 13, 14, 100, 511, 512, end // 2, end - 100, end - 1} & set(range(end))):
        refused(content[:length])


def test_not_torch_files() -> None:
    refused(b"", "empty")
    refused(b"PK", "not a torch file")
    refused(b"\x89PNG\r\n\x1a\n" + bytes(100), "not a torch file", "PNG")
    refused(hostile.npz(), "not a torch file", "weight.npy")
    refused(hostile.document(), "not a torch file", "document.xml")
    refused(writer.zip_archive([]), "not a torch file")
    refused(writer.tar_archive({"readme": b"text"}), "not a torch file", "readme")
    refused(hostile.torchscript(), "TorchScript", "state_dict")
    refused(writer.pickled(hostile.CODE["os.system"]), "not a torch file")
    for content in (b"", b"PK", b"PK\x03\x04", hostile.npz(), hostile.document(), writer.tar_archive({"readme": b"x"})):
        Path("model.pth").write_bytes(content)
        assert not is_torch_file("model.pth")


def test_layouts_are_recognized_by_their_beginning() -> None:
    for layout in LAYOUTS:
        for content in (sample(layout), sample(layout)[:1300]):
            Path("model.pth").write_bytes(content)
            assert is_torch_file("model.pth")
    content = writer.zip_archive([("a/version", b"3"), ("a/data.pkl", writer.pickled({}))])
    assert read(content) == {} and is_torch_file("model.pth")


def test_paths_that_cannot_be_read(in_empty_folder: Path) -> None:
    for path in ("missing.pth", in_empty_folder, "/dev/zero"):
        with pytest.raises(CheckpointError, match=str(path)):
            read_torch_file(path)
        assert not is_torch_file(path)


# ---- damage


def sample(layout: str) -> bytes:
    """A small state_dict."""
    file = File(legacy=layout == "stream")
    make = file.tar_tensor if layout == "tar" else file.strided
    value = {
        "conv.weight": make(file.storage(numbers("float32", 36)), 0, (4, 1, 3, 3), (9, 9, 3, 1)),
        "bn.num_batches_tracked": make(file.storage(numbers("int64", 1)), 0, (), ()),
        "mask": make(file.storage(numbers("bool", 6)), 1, (2, 2), (2, 1)),
        "half": make(file.storage(np.arange(8, dtype=np.uint16), "bfloat16"), 0, (2, 2), (2, 2)),
        "epoch": 3,
    }
    return write(layout, value, file)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_flipped_and_truncated_files_load_or_are_refused(layout: str) -> None:
    content, generator = sample(layout), random.Random(0)
    refusals = 0
    for trial in range(400):
        damaged = bytearray(content)
        if trial % 4:
            position = generator.randrange(len(damaged))
            damaged[position] ^= 1 << generator.randrange(8)
        else:
            del damaged[generator.randrange(len(damaged)) :]
        try:
            read(bytes(damaged))
        except CheckpointError as error:
            assert "model.pth" in str(error)
            refusals += 1
    assert refusals > 100


def test_no_flipped_byte_of_a_zip_changes_a_value() -> None:
    content = sample("zip")
    expected = {name: str(value) for name, value in read(content).items()}
    refusals = 0
    positions = random.Random(0).sample(range(len(content)), 1000)
    for position in positions:
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        try:
            loaded = read(bytes(damaged))
        except CheckpointError:
            refusals += 1
            continue
        assert {name: str(value) for name, value in loaded.items()} == expected
    assert refusals > 500


# ---- memory


def peaks(contents: dict[str, bytes]) -> dict[str, tuple[float | None, int]]:
    """What a fresh process loaded from each file (the sum, None if refused), and its peak of extra memory."""
    for name, content in contents.items():
        Path(name).write_bytes(content)
    return peaks_of_load([Path(name) for name in contents])


def test_loading_takes_little_more_memory_than_the_file() -> None:
    contents = {}
    for layout in LAYOUTS:
        file = File(legacy=layout == "stream")
        make = file.tar_tensor if layout == "tar" else file.strided
        size = 25 * 2**18
        keys = [file.storage(np.ones(size, np.float32)) for _ in range(4)]
        contents[layout] = write(layout, {key: make(key, 0, (size,), (1,)) for key in keys}, file)
    for layout, (total, peak) in peaks(contents).items():
        assert total == 100 * 2**18
        assert peak <= 1.3 * len(contents[layout]), f"{layout}: {peak / 2**20:.0f} MB for 100"


def test_bombs_are_refused_and_take_little_memory() -> None:
    contents = {
        "pickle bomb": hostile.zip_bomb(),
        "storage bomb": hostile.storage_bomb(),
        "lying sizes": hostile.lying_sizes(),
        "huge directory": hostile.huge_directory(),
        "large pickle": write("zip", Raw(b"N" * 2**25)),
    }
    contents |= {name: write("zip", value) for name, value in hostile.EXHAUSTING.items()}
    contents |= {
        f"{name} in a stream": write("stream", hostile.EXHAUSTING[name])
        for name in ("a string of 4 GB", "a number of 2 GB")
    }
    contents |= {
        f"{name} in a tar": write("tar", hostile.EXHAUSTING[name]) for name in ("bytes of 4 GB", "billion laughs")
    }
    for name, (total, peak) in peaks(contents).items():
        assert total is None, name
        assert peak < 100 * 2**20, f"{name}: {peak / 2**20:.0f} MB"
