"""Files are whole or untouched: exceptions, a full disk, kill -9."""

from __future__ import annotations

import builtins
import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time

import pytest

from tinynet.utils import atomic
from tinynet.utils.atomic import atomic_write


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_writes_the_file(tmp_path):
    path = tmp_path / "weights.bin"
    with atomic_write(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["weights.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_exception_the_previous_file_is_intact(tmp_path, error):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(str(path)) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["weights.bin"]


def test_a_full_disk_names_the_path(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"old")
    with pytest.raises(OSError) as caught, atomic_write(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.errno == errno.ENOSPC
    assert str(path) in str(caught.value) and "unchanged" in str(caught.value)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["weights.bin"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_is_found_full_only_when_the_file_is_flushed(tmp_path, monkeypatch):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"old")
    real_open = builtins.open

    def full(name, mode="r", **options):
        if "x" not in mode:
            return real_open(name, mode, **options)
        real_open(name, mode).close()
        return real_open("/dev/full", "wb", **options)

    monkeypatch.setattr(builtins, "open", full)
    with pytest.raises(OSError) as caught, atomic_write(path) as file:
        file.write(b"x")
    assert caught.value.errno == errno.ENOSPC and str(path) in str(caught.value)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["weights.bin"]


def test_a_missing_or_read_only_directory_names_the_path(tmp_path):
    path = tmp_path / "nowhere" / "weights.bin"
    with pytest.raises(FileNotFoundError, match="cannot write here") as caught, atomic_write(path):
        pass
    assert str(path) in str(caught.value)
    with pytest.raises(IsADirectoryError, match=str(tmp_path)), atomic_write(tmp_path):
        pass


def test_other_errors_are_passed_on(tmp_path):
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic_write(tmp_path / "a"):
        (tmp_path / "elsewhere").read_bytes()
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_mode_and_symbolic_links_are_kept(tmp_path):
    path, link = tmp_path / "weights.bin", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link.symlink_to(path)
    with atomic_write(link) as file:
        file.write(b"new")
    assert link.is_symlink() and path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


WRITER = textwrap.dedent("""
    import runpy, sys
    atomic_write = runpy.run_path(sys.argv[2])["atomic_write"]  # without the rest of tinynet: quick to start
    version = 0
    while True:
        version += 1
        with atomic_write(sys.argv[1]) as file:
            for _ in range(64):
                file.write(bytes([version % 256]) * 65536)
        print(version, flush=True)
""")


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_kill_9_while_writing_leaves_a_whole_file(tmp_path):
    path = tmp_path / "weights.bin"
    for attempt in range(12):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), atomic.__file__],
                                  stdout=subprocess.PIPE)
        writer.stdout.readline()  # the first version is there
        time.sleep(0.003 * attempt)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        content = path.read_bytes()
        assert len(content) == 64 * 65536
        assert len(set(content)) == 1
