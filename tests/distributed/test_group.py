"""The process group and its collectives: alone, on two ranks and on three; what is wrong is said."""

from __future__ import annotations

import math
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

import tinynet
from tests.distributed.launching import environment, launch, needs_mpi, run
from tinynet import distributed as dist
from tinynet.distributed import starting, witness
from tinynet.errors import DtypeError


@pytest.fixture
def alone() -> Iterator[None]:
    dist.init_process_group("mpi")
    yield
    dist.destroy_process_group()


def test_without_a_group_there_is_no_rank():
    assert dist.is_available() and not dist.is_initialized()
    for ask in (dist.get_rank, dist.get_world_size, dist.barrier, dist.destroy_process_group):
        with pytest.raises(ValueError, match="has not been initialized"):
            ask()


def test_one_rank_runs_the_same_code(alone):
    assert (dist.get_rank(), dist.get_world_size(), dist.get_backend()) == (0, 1, "mpi")
    tensor = tinynet.tensor([1.0, 2.0])
    for op in ("SUM", "AVG", "PRODUCT", "MIN", "MAX"):
        dist.all_reduce(tensor, getattr(dist.ReduceOp, op))
    work = dist.all_reduce(tensor, async_op=True)
    assert work.is_completed() and work.wait()
    dist.broadcast(tensor, 0)
    copies, objects, sent = [tinynet.zeros(2)], [None], ["text"]
    dist.all_gather(copies, tensor)
    dist.all_gather_object(objects, {"a": 1})
    dist.broadcast_object_list(sent)
    dist.barrier()
    assert tensor.tolist() == copies[0].tolist() == [1.0, 2.0] and objects == [{"a": 1}] and sent == ["text"]


def test_what_is_wrong_is_said(alone):
    with pytest.raises(RuntimeError, match="twice"):
        dist.init_process_group()
    with pytest.raises(DtypeError, match="no float16"):
        dist.all_reduce(tinynet.zeros(2).half())
    with pytest.raises(DtypeError, match="AVG needs a floating tensor"):
        dist.all_reduce(tinynet.zeros(2).long(), dist.ReduceOp.AVG)
    with pytest.raises(ValueError, match="none of ReduceOp's"):
        dist.all_reduce(tinynet.zeros(2), "MEDIAN")
    with pytest.raises(ValueError, match=r"src 1 is no rank of 0\.\.0"):
        dist.broadcast(tinynet.zeros(2), 1)
    with pytest.raises(ValueError, match="1 ranks need as many tensors"):
        dist.all_gather([], tinynet.zeros(2))


def test_other_backends_are_refused():
    with pytest.raises(ValueError, match="the backend is 'mpi', not 'gloo'"):
        dist.init_process_group("gloo")


def test_mpi4py_is_imported_only_under_a_launcher():
    script = """if True:
        import sys, tinynet
        tinynet.distributed.init_process_group()
        print("mpi4py" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_launcher_without_mpi4py_is_an_error_that_helps(monkeypatch):
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(RuntimeError, match="mpi4py is not installed: `pip install mpi4py mpich`"):
        dist.init_process_group()
    assert not dist.is_initialized()


COLLECTIVES = """
    t = tinynet.arange(6).reshape(2, 3).float().t() * (rank + 1)   # not contiguous
    found = {}
    for op in ("SUM", "AVG", "PRODUCT", "MIN", "MAX"):
        each = t.clone(); dist.all_reduce(each, op); found[op] = each.tolist()
    work = dist.all_reduce(t, async_op=True)
    work.wait()
    found["async"] = t.tolist()
    b = tinynet.tensor([rank]); dist.broadcast(b, ranks - 1); found["broadcast"] = b.tolist()
    places = [tinynet.zeros(1) for _ in range(ranks)]
    dist.all_gather(places, tinynet.tensor([float(rank)])); found["gather"] = [p.item() for p in places]
    objects = [None] * ranks
    dist.all_gather_object(objects, "x" * rank); found["objects"] = objects
    sent = [{"from": rank}]; dist.broadcast_object_list(sent, ranks - 1); found["sent"] = sent
    dist.barrier()
    report(**found)
"""


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 3])
def test_collectives(ranks):
    base = [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    factors = [rank + 1 for rank in range(ranks)]
    every = [[[value * factor for factor in factors] for value in row] for row in base]
    expected = {
        "SUM": sum, "AVG": lambda values: sum(values) / ranks, "PRODUCT": math.prod, "MIN": min, "MAX": max,
        "async": sum,
    }  # fmt: skip
    for found in run(ranks, COLLECTIVES):
        for op, combine in expected.items():
            assert found[op] == [[pytest.approx(combine(values)) for values in row] for row in every], op
        assert found["broadcast"] == [ranks - 1] and found["gather"] == list(range(ranks))
        assert found["objects"] == ["x" * rank for rank in range(ranks)] and found["sent"] == [{"from": ranks - 1}]


@needs_mpi
def test_the_cores_of_a_host_are_divided_unless_the_user_chose():
    program = """
        first = tinynet.get_num_threads()
        report(first=first)
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    script = "import tinynet; tinynet.distributed.init_process_group(); exit(10 * tinynet.get_num_threads())"
    assert launch(2, ["-c", script], variables={"TINYNET_NUM_THREADS": ""}).returncode == 10 * max(1, cores // 2)
    assert [each["first"] for each in run(2, program)] == [1, 1]  # TINYNET_NUM_THREADS=1


@needs_mpi
@pytest.mark.parametrize("how", ["1 / 0", "raise KeyboardInterrupt"])
def test_a_rank_that_fails_ends_the_job_with_its_error_and_number(how):
    script = f"""if True:
        import tinynet.distributed as dist
        dist.init_process_group()
        dist.barrier()
        if dist.get_rank() == 1:
            {how}
        dist.barrier()
    """
    started = time.monotonic()
    done = launch(3, ["-c", script])
    assert done.returncode != 0 and time.monotonic() - started < 60
    assert "tinynet: rank 1 of 3 on" in done.stderr
    assert ("ZeroDivisionError: division by zero" if "/" in how else "KeyboardInterrupt") in done.stderr


@needs_mpi
@pytest.mark.parametrize("dead, what", [
    (1, "os.kill(os.getpid(), signal.SIGKILL)"),
    (0, "os.kill(os.getpid(), signal.SIGKILL)"),
    (2, "os._exit(3)"),
])  # fmt: skip
def test_a_rank_that_dies_without_a_word_is_named(dead, what, tmp_path):
    script = f"""if True:
        import os, signal, time
        import tinynet.distributed as dist
        from tinynet.distributed import failures
        dist.init_process_group()
        failures.leave_words("the words of rank " + str(dist.get_rank()))
        dist.barrier()
        if dist.get_rank() == {dead}:
            {what}
        time.sleep(60)
    """
    started = time.monotonic()
    done = launch(3, ["-c", script], variables={"TMPDIR": str(tmp_path)})
    assert done.returncode != 0 and time.monotonic() - started < 30
    assert done.stderr.count("died without a word") == 1
    assert f"tinynet: rank {dead} of 3 on" in done.stderr and "; the words of rank 0" in done.stderr
    assert not list(tmp_path.glob("tinynet-ranks-*"))


@needs_mpi
@pytest.mark.parametrize("end", ["pass", "sys.exit(dist.get_rank())", "os.fork() or sys.exit()"])
def test_ends_in_order_are_silent(end, tmp_path):
    """A child of a rank may end before it."""
    script = f"""if True:
        import os, sys, time
        import tinynet.distributed as dist
        dist.init_process_group()
        dist.barrier()
        {end}
        time.sleep(0.2 * (1 - dist.get_rank()))
    """
    done = launch(2, ["-c", script], variables={"TMPDIR": str(tmp_path)})
    assert not any(words in done.stderr for words in ("without a word", "Traceback", "Abort", "BAD TERMINATION"))
    assert done.returncode == ("get_rank" in end)
    assert not list(tmp_path.glob("tinynet-ranks-*"))


@pytest.fixture
def holders(tmp_path) -> Iterator[dict[int, subprocess.Popen[bytes]]]:
    """Processes that hold their locks until they are killed."""
    witness.Locks.make(tmp_path / witness.LOCKS, 4)
    program = "import sys, time; from tinynet.distributed.witness import Locks; from pathlib import Path; " \
              "locks = Locks(Path(sys.argv[1]), 4); locks.hold(int(sys.argv[2])); print(flush=True); time.sleep(60)"
    found = {}
    for place in range(4):
        command = [sys.executable, "-c", program, str(tmp_path / witness.LOCKS), str(place)]
        found[place] = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment())
    for each in found.values():
        assert each.stdout.readline()
    yield found
    for each in found.values():
        each.kill()
        each.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="robust mutexes")
def soon(ended, seconds=20):
    """The next rank, or queue.Empty if none is told."""
    told = queue.SimpleQueue()
    threading.Thread(target=lambda: told.put(next(ended)), daemon=True).start()
    return told.get(timeout=seconds)


def test_the_kernel_tells_the_witness_who_has_died(holders, tmp_path):
    ended = witness._as_they_end(tmp_path, {rank: each.pid for rank, each in holders.items()})
    for rank in (2, 0, 3, 1):
        threading.Timer(0.2, holders[rank].kill).start()
        assert soon(ended) == rank


def test_the_witness_looks_where_it_is_not_told(holders, tmp_path):
    ended = witness._as_they_end(tmp_path / "elsewhere", {rank: each.pid for rank, each in holders.items()})
    for rank in (2, 0):
        holders[rank].kill()
        holders[rank].wait()
        assert soon(ended) == rank


@needs_mpi
def test_a_slow_start_is_not_silent():
    script = """if True:
        import os, time
        from tinynet import distributed as dist
        from tinynet.distributed import starting, witness
        starting.FIRST_WORD_SECONDS = 0.5
        if os.environ.get("MPI_LOCALRANKID", os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK")) == "1":
            time.sleep(3)
        dist.init_process_group()
    """
    done = launch(2, ["-c", script])
    assert done.returncode == 0 and "local rank 0 on" in done.stderr
    assert "for other ranks to start" in done.stderr
    assert starting.FIRST_WORD_SECONDS == 5
