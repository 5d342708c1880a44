"""`tinynet info`: what a bug report needs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

import numpy as np

import tinynet
from tinynet import kernels
from tinynet.kernels import cache, launch

PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "scikit-learn", "matplotlib", "safetensors", "torch")


def run() -> int:
    """Prints versions, threads, threading layer, BLAS, backend, cache folder and processor."""
    for name, value in facts().items():
        print(f"{name + ':':18} {value}")
    return 0


def facts() -> dict[str, str]:
    """What `tinynet info` prints, by name. Runs one small kernel, so that the threading layer is known."""
    layer = _threading_layer()
    threads = f"{tinynet.get_num_threads()} of {os.cpu_count()} cores"
    return {
        "tinynet": f"{tinynet.__version__} in {Path(tinynet.__file__).parent}",
        "python": f"{platform.python_version()} in {sys.prefix}",
        **{name: _version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processor": _processor(),
        "backend": kernels.current_backend() + _numba_trouble(),
        "threads": threads,
        "threading layer": layer,
        "BLAS": "; ".join(_blas()) or "none found",
        "kernel cache": str(cache.folder() or "none (no private folder can be made): kernels compile at every start"),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _numba_trouble() -> str:
    problem = launch.numba_problem()
    return f" (Numba cannot be used: {problem})" if problem else ""


def _threading_layer() -> str:
    if tinynet.get_num_threads() > 1:
        kernels.relu(np.zeros((1 << 22), np.float32))  # large enough to wake the threads up
    return launch.threading_layer() or "none in use (one thread, or no Numba)"


def _blas() -> list[str]:
    return [
        f"{Path(library['filepath']).name} {library.get('version') or ''} ({library.get('architecture') or 'unknown'}, "
        f"{library['num_threads']} threads outside of kernels)"
        for library in launch.blas_libraries()
    ]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
