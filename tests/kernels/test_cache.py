"""The compile cache: right under races, deaf to damaged or foreign files, silent where it cannot be."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.processes import KERNELS_ONLY, ROOT, output_of, python
from tinynet.kernels import cache, launch

pytestmark = pytest.mark.skipif(launch.numba_problem() is not None, reason="needs numba")

# Runs the smallest kernel; prints whether the result is right and how many functions were compiled.
RELU = (
    KERNELS_ONLY.replace("{", "{{").replace("}", "}}")
    + """
    import numpy as np
    from tinynet.kernels import cache
    misses = []
    before = cache.CompileCache.__init__
    def count(self, function, options, on_miss):
        before(self, function, options, lambda: misses.append(function.__name__))
    cache.CompileCache.__init__ = count
    x = np.arange(-10_000, 10_000).astype("{dtype}")
    y = kernels.relu(x)
    print(y.dtype == "{dtype}" and (y == np.maximum(x, 0)).all(), len(misses))
"""
)


def run_relu(folder: Path, dtype: str = "float32") -> tuple[bool, int]:
    right, compiled = output_of(RELU.format(dtype=dtype), TINYNET_CACHE_DIR=str(folder)).split()
    return right == "True", int(compiled)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "kernels").glob("*.bin"))


def test_compiled_once_per_type(tmp_path):
    assert run_relu(tmp_path) == (True, 1)
    assert run_relu(tmp_path) == (True, 0)
    assert run_relu(tmp_path, "float64") == (True, 1)
    assert len(files(tmp_path)) == 2
    if hasattr(os, "getuid"):
        assert stat.S_IMODE(files(tmp_path)[0].parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(files(tmp_path)[0].stat().st_mode) == 0o600


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache with one entry."""
    folder = tmp_path_factory.mktemp("filled")
    run_relu(folder)
    (entry,) = files(folder)
    return folder, entry, entry.read_bytes()


def _flip(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


DAMAGES = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "a byte short": lambda content: content[:-1],
    "a byte more": lambda content: content + b"\0",
    "a flipped bit in the digest": lambda content: _flip(content, 30),
    "a flipped bit in the code": lambda content: _flip(content, len(content) - 20),
    "something else": lambda content: b"#!/bin/sh\n",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_damaged_files_are_not_read(tmp_path, damage):
    entry = tmp_path / "entry.bin"
    cache._write(entry, bytes(range(256)))
    assert cache._read(entry) == bytes(range(256))
    entry.write_bytes(DAMAGES[damage](entry.read_bytes()))
    assert cache._read(entry) is None


@pytest.mark.parametrize("damage", ["half", "no code"])
def test_damaged_files_are_compiled_anew(filled, damage):
    folder, entry, content = filled
    if damage == "half":
        entry.write_bytes(content[: len(content) // 2])
    else:
        cache._write(entry, b"the right digest, yet nothing that can be unpickled")
    assert run_relu(folder) == (True, 1)
    assert entry.read_bytes()[: len(cache._MAGIC)] == cache._MAGIC
    assert run_relu(folder) == (True, 0)


def test_processes_that_start_together(tmp_path, rounds=2):
    """Four cold processes of two types on one empty cache, then four warm ones: every sum is right."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TINYNET_QUIET": "1"}
    for number in range(rounds):
        environment["TINYNET_CACHE_DIR"] = str(tmp_path / str(number))
        for warm in (False, True):
            started = [
                subprocess.Popen(
                    [sys.executable, "-c", "if 1:\n" + RELU.format(dtype=dtype)],
                    env=environment,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for dtype in ("float32", "float64", "float32", "float64")
            ]
            printed = [process.communicate(timeout=120)[0].split() for process in started]
            assert [line[0] for line in printed] == ["True"] * 4
            if warm:
                assert [line[1] for line in printed] == ["0"] * 4
    assert not list(tmp_path.glob("*/kernels/.writing-*"))


@pytest.mark.slow
def test_processes_that_start_together_ten_times(tmp_path):
    test_processes_that_start_together(tmp_path, rounds=10)


def test_the_key_holds_sources_and_options(tmp_path, monkeypatch):
    """An edit anywhere in the kernels, another signature or other options lead to another file."""
    from numba import float32, float64
    from numba.core.registry import cpu_target

    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    target = cpu_target.target_context
    entry = cache.CompileCache(run_relu, "parallel", print)
    names = {entry._path((float32,), target), entry._path((float64,), target)}
    names.add(cache.CompileCache(run_relu, "serial", print)._path((float32,), target))
    names.add(cache.CompileCache(files, "parallel", print)._path((float32,), target))
    monkeypatch.setattr(cache, "_source_digest", lambda: b"edited")
    names.add(entry._path((float32,), target))
    assert len(names) == 5


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX owners")
class TestUnsafePlaces:
    """Folders that others could have written to are not used, and the kernels work all the same."""

    def test_writable_by_others(self, tmp_path):
        place = tmp_path / "kernels"
        place.mkdir()
        place.chmod(0o777)
        assert run_relu(tmp_path) == (True, 1)
        assert run_relu(tmp_path) == (True, 1)
        assert not files(tmp_path)

    def test_a_link(self, tmp_path):
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        (tmp_path / "kernels").symlink_to(tmp_path / "elsewhere")
        assert run_relu(tmp_path) == (True, 1)
        assert not files(tmp_path)

    def test_a_file_in_its_place(self, tmp_path):
        (tmp_path / "kernels").write_text("")
        assert run_relu(tmp_path) == (True, 1)

    @pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give files away")
    def test_of_another_owner(self, tmp_path, filled):
        _, entry, content = filled
        entry.write_bytes(content)
        os.chown(entry, 12345, -1)
        assert cache._read(entry) is None
        entry.unlink()
        foreign = tmp_path / "kernels"
        foreign.mkdir(mode=0o700)
        os.chown(foreign, 12345, -1)
        assert run_relu(tmp_path) == (True, 1)
        assert not files(tmp_path)

    def test_a_linked_entry(self, tmp_path, filled):
        _, entry, content = filled
        entry.write_bytes(content)
        link = tmp_path / "link.bin"
        link.symlink_to(entry)
        assert cache._read(entry) is not None
        assert cache._read(link) is None


def test_no_home_and_nowhere_to_write(tmp_path):
    nowhere = tmp_path / "file"
    nowhere.write_text("")
    nothing = dict(HOME=None, XDG_CACHE_HOME=None, TINYNET_CACHE_DIR=None)
    for environment in (
        {**nothing, "XDG_CACHE_HOME": str(nowhere)},
        {**nothing, "HOME": "/proc/nowhere"},
        {**nothing, "TINYNET_CACHE_DIR": "/proc/nowhere"},
    ):
        assert output_of(RELU.format(dtype="float32"), **environment).split() == ["True", "1"]


def test_a_full_disk_is_no_error(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    with pytest.raises(OSError):
        cache._write(tmp_path / "entry.bin", b"code")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    cache.CompileCache(run_relu, "", print).save_overload((), None)


def test_old_entries_are_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_MOST_FILES", 3)
    for number in range(5):
        cache._write(tmp_path / f"{number}.bin", b"code")
        os.utime(tmp_path / f"{number}.bin", (number, number))
    cache._write(tmp_path / "5.bin", b"code")
    assert {path.name for path in tmp_path.iterdir()} == {"3.bin", "4.bin", "5.bin"}


def test_compiling_is_announced_once_and_only_when_it_happens(tmp_path):
    code = (
        KERNELS_ONLY
        + """
    import numpy as np
    for dtype in ("float32", "float64"):
        kernels.relu(np.ones(20_000, dtype))
    """
    )
    place = {"TINYNET_CACHE_DIR": str(tmp_path)}
    assert python(code, TINYNET_QUIET="1", **place).stderr == ""
    assert python(code, TINYNET_QUIET=None, **place).stderr == ""  # warm
    files(tmp_path)[0].unlink()
    assert python(code, TINYNET_QUIET=None, **place).stderr.count("compiling kernels") == 1
