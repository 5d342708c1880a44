"""How much memory a fresh process takes for reading a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tinynet

MEASURE = """
import json, sys
from tinynet.checkpoint import load
from tinynet.errors import CheckpointError

def status(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024

for path in sys.argv[1:]:
    open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
    before = status("VmRSS")
    try:
        loaded = load(path)
        total = sum(float(tensor.sum()) for tensor in loaded.values())
        loaded = None
    except CheckpointError as error:
        total = None
    print(json.dumps([path, total, status("VmHWM") - before]))
"""


def peaks_of_load(paths: list[Path]) -> dict[str, tuple[float | None, int]]:
    """By file name: what `load` gave (the sum of all numbers, None if refused), and its peak of extra bytes."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("measuring the peak needs Linux' /proc")
    root = Path(tinynet.__file__).parents[1]
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r})\n{MEASURE}", *map(str, paths)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    return {Path(path).name: (total, peak) for path, total, peak in map(json.loads, output.splitlines())}
