"""Starts programs on several ranks, as a user does: with the mpiexec that is installed beside Python."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import hear_ctrl_c

ROOT = Path(__file__).parents[2]
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
MISSING = [name for name, there in (("mpi4py", importlib.util.find_spec("mpi4py")), ("mpiexec", MPIEXEC)) if not there]
needs_mpi = pytest.mark.skipif(bool(MISSING), reason=f"{' and '.join(MISSING)} missing: pip install '.[mpi]'")

HEADER = """
import json, os, sys
import numpy as np
import tinynet
from tinynet import distributed as dist, nn, optim
from tests.distributed import programs
dist.init_process_group()
rank, ranks = dist.get_rank(), dist.get_world_size()
def report(**values):
    everyone = [None] * ranks
    dist.all_gather_object(everyone, values)
    if rank == 0:
        print("RESULT " + json.dumps(everyone), flush=True)
"""


def environment(**variables: str) -> dict[str, str]:
    """This process's, with this repository's tinynet, one thread per rank, and kernels that need no compiling."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**inherited, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TINYNET_NUM_THREADS": "1",
            "TINYNET_PROGRESS": "0", "TINYNET_BACKEND": "numpy", **variables}  # fmt: skip


def start(ranks: int, arguments: list[str], **options: Any) -> subprocess.Popen[str]:
    """mpiexec with `python arguments` on so many ranks."""
    variables = options.pop("variables", {})
    command = [str(MPIEXEC), "-n", str(ranks), sys.executable, *arguments]
    return subprocess.Popen(command, env=environment(**variables), text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, preexec_fn=hear_ctrl_c, **options)  # fmt: skip


def launch(ranks: int, arguments: list[str], timeout: float = 120, **options: Any) -> subprocess.CompletedProcess[str]:
    """The same to its end; with 0 ranks the program runs without mpiexec."""
    if ranks:
        process = start(ranks, arguments, **options)
    else:
        process = subprocess.Popen([sys.executable, *arguments], env=environment(**options.pop("variables", {})),
                                   text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # fmt: skip
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(ranks: int, program: str, timeout: float = 120) -> list[dict[str, Any]]:
    """What each rank of a program reports. The program starts with HEADER and ends with `report(...)`."""
    done = launch(ranks, ["-c", HEADER + textwrap.dedent(program)], timeout)
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert done.returncode == 0 and results, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(results[-1].removeprefix("RESULT "))
