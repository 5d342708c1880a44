"""DataLoader: torch's batches, the same ones from workers, and workers that fail, die or are abandoned."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import tinynet
from tests.test_cli import hear_ctrl_c
from tinynet.random import Generator
from tinynet.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
    get_worker_info,
)

CONTEXTS = ["fork", "spawn"] if sys.platform == "linux" else ["spawn"]


class Numbers(Dataset):
    """Sample i is (i, its square); `trouble` happens at index `at`."""

    def __init__(self, size, trouble=None, at=-1):
        self.size, self.trouble, self.at = size, trouble, at

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if index == self.at:
            self.trouble()
        return np.float32([index, index]), index**2


class Stream(IterableDataset):
    """The numbers below `size`, shared out to the workers."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __iter__(self):
        info = get_worker_info()
        return iter(range(0, self.size) if info is None else range(info.id, self.size, info.num_workers))


class Random(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        import random

        return tinynet.rand(()).item(), np.random.random(), random.random()  # noqa: NPY002


def flat(lists):
    return [item for part in lists for item in part]


def numbers(loader):
    return [batch[1].tolist() for batch in loader]


def children(loader_processes):
    return [process for process in loader_processes if process.is_alive()]


def processes_of(iterator):
    return list(iterator._workers.processes)


def assert_ended(processes, within=3.0):
    deadline = time.monotonic() + within
    while time.monotonic() < deadline and any(process.exitcode is None for process in processes):
        time.sleep(0.02)
    assert all(process.exitcode is not None for process in processes)


def lookup_error():
    raise LookupError("no such picture")


def key_error():
    raise KeyError("label")


def leave():
    os._exit(3)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def stop_iteration():
    raise StopIteration


def forever():
    time.sleep(1000)


# --- batches ---------------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("size", [1, 7, 8, 12])
@pytest.mark.parametrize("batch_size, drop_last", [(1, False), (4, False), (4, True), (None, False)])
@pytest.mark.parametrize("stream", [False, True])
def test_composition_is_torchs(size, batch_size, drop_last, stream):
    torch = pytest.importorskip("torch")

    class TorchStream(torch.utils.data.IterableDataset):
        __len__, __iter__ = Stream.__len__, Stream.__iter__

        def __init__(self, size):
            self.size = size

    ours = DataLoader(Stream(size) if stream else Numbers(size), batch_size, drop_last=drop_last)
    theirs = torch.utils.data.DataLoader(TorchStream(size) if stream else Numbers(size), batch_size,
                                         drop_last=drop_last)
    assert len(ours) == len(theirs)
    got, expected = list(ours), list(theirs)
    assert len(got) == len(expected)
    for a, b in zip(got, expected):
        assert type(a) is type(b) or hasattr(a, "numpy")
        for x, y in zip(a, b) if isinstance(a, (list, tuple)) else [(a, b)]:
            if hasattr(x, "numpy"):
                assert str(x.dtype).split(".")[1] == str(y.dtype).split(".")[1]
                np.testing.assert_array_equal(x.numpy(), y.numpy())
            else:
                assert x == y


def test_shuffling_is_seeded_and_resumable():
    loader = DataLoader(Numbers(20), 6, shuffle=True)
    tinynet.manual_seed(1)
    first, state, second = numbers(loader), tinynet.get_rng_state(), numbers(loader)
    assert sorted(flat(first)) == [i**2 for i in range(20)] and first != second
    tinynet.set_rng_state(state)
    assert numbers(DataLoader(Numbers(20), 6, shuffle=True)) == second
    own = Generator().manual_seed(5)
    before = tinynet.get_rng_state().tolist()
    shuffled = numbers(DataLoader(Numbers(20), 6, shuffle=True, generator=own))
    assert tinynet.get_rng_state().tolist() == before
    own.manual_seed(5)
    assert numbers(DataLoader(Numbers(20), 6, shuffle=True, generator=own)) == shuffled


def test_samplers_collate_and_batches_of_ones_own():
    assert numbers(DataLoader(Numbers(9), batch_sampler=[[1, 2], [8]])) == [[1, 4], [64]]
    squares = numbers(DataLoader(Numbers(9), 2, sampler=SubsetRandomSampler([3, 5, 7])))
    assert sorted(flat(squares)) == [9, 25, 49]
    assert list(DataLoader(Numbers(5), 2, collate_fn=len)) == [2, 2, 1]

    class Several(Numbers):
        def __getitems__(self, indices):
            return [self[i] for i in indices]

    assert numbers(DataLoader(Several(4), 3)) == [[0, 1, 4], [9]]


@pytest.mark.parametrize("context", CONTEXTS)
def test_workers_give_the_same_batches(context):
    options = {"batch_size": 3, "shuffle": True}
    tinynet.manual_seed(2)
    loader = DataLoader(Numbers(20), **options)
    expected = [numbers(loader), numbers(loader)]
    tinynet.manual_seed(2)
    loader = DataLoader(Numbers(20), **options, num_workers=2, multiprocessing_context=context, prefetch_factor=3)
    assert [numbers(loader), numbers(loader)] == expected
    assert len(loader) == 7


def test_batches_from_workers_are_writable_and_of_one_kind():
    data = TensorDataset(tinynet.arange(6, dtype=tinynet.float32).reshape(3, 2))
    for (batch,) in DataLoader(data, 2, num_workers=1):
        assert isinstance(batch, tinynet.Tensor) and batch.dtype == tinynet.float32
        batch.add_(1)


def test_more_workers_than_batches_and_none_at_all():
    assert numbers(DataLoader(Numbers(2), 2, num_workers=3)) == [[0, 1]]
    assert numbers(DataLoader(Numbers(0), 2, num_workers=2)) == []


def test_large_tasks_and_large_batches_do_not_block_each_other():
    count = 60_000  # index lists and batches far beyond what a pipe holds
    loader = DataLoader(Numbers(count), batch_size=20_000, num_workers=2, collate_fn=lambda samples: len(samples))
    assert list(loader) == [20_000] * 3
    wide = TensorDataset(tinynet.zeros(8, 300_000))
    assert [batch.shape[0] for (batch,) in DataLoader(wide, 2, num_workers=2)] == [2] * 4


@pytest.mark.torch
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_streams_from_workers_come_in_torchs_order(workers):
    torch = pytest.importorskip("torch")

    class TorchStream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return uneven(torch.utils.data.get_worker_info().id)

    class OurStream(IterableDataset):
        def __iter__(self):
            return uneven(get_worker_info().id)

    def uneven(worker):
        return iter(range(100 * worker, 100 * worker + (9, 2, 5)[worker]))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the number of cores
        expected = [batch.tolist() for batch in torch.utils.data.DataLoader(
            TorchStream(), 2, num_workers=workers, multiprocessing_context="fork")]
    assert [batch.tolist() for batch in DataLoader(OurStream(), 2, num_workers=workers)] == expected


# --- random numbers in workers ------------------------------------------------------------------------------


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_are_seeded_from_the_generator(persistent):
    def epochs():
        tinynet.manual_seed(3)
        loader = DataLoader(Random(), 2, num_workers=2, persistent_workers=persistent)
        return [[[column.tolist() for column in batch] for batch in loader] for _ in range(2)]

    first, second = epochs()
    assert first != second
    assert [first, second] == epochs()
    for column in range(3):
        drawn = flat(batch[column] for batch in first)
        assert len(set(drawn)) == len(drawn)  # the workers differ


def test_worker_info_and_init_function():
    class Info(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            info = get_worker_info()
            return info.id, info.num_workers, os.environ["TINYNET_TEST_WORKER"], len(info.dataset)

    def remember(worker):
        os.environ["TINYNET_TEST_WORKER"] = str(worker)

    assert get_worker_info() is None
    batches = list(DataLoader(Info(), 1, num_workers=2, worker_init_fn=remember, multiprocessing_context="fork"))
    assert [(b[0].item(), b[1].item(), b[2], b[3].item()) for b in batches] == [
        (0, 2, ("0",), 4), (1, 2, ("1",), 4), (0, 2, ("0",), 4), (1, 2, ("1",), 4)]


# --- persistent workers -------------------------------------------------------------------------------------


def test_persistent_workers_stay_and_go_with_their_loader():
    loader = DataLoader(Numbers(9), 2, num_workers=2, persistent_workers=True)
    expected = numbers(DataLoader(Numbers(9), 2))
    assert numbers(loader) == expected
    processes = processes_of(iter(loader))
    for _ in loader:
        break  # results of this pass are dropped
    assert numbers(loader) == expected
    assert processes_of(iter(loader)) == processes and len(children(processes)) == 2
    old = iter(loader)
    iter(loader)
    with pytest.raises(RuntimeError, match="new pass"):
        next(old)
    del loader, old
    gc.collect()
    assert_ended(processes)


# --- failures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("trouble, kind, text", [
    (lookup_error, LookupError, "no such picture"), (key_error, KeyError, "label"),
    (stop_iteration, RuntimeError, "StopIteration"),
])
def test_an_exception_of_the_data_set_reaches_the_caller(workers, trouble, kind, text):
    loader = DataLoader(Numbers(12, trouble, at=7), 2, num_workers=workers)
    got = []
    with pytest.raises(kind, match=text) as caught:
        for batch in loader:
            got.append(batch[1].tolist())
    assert got == [[0, 1], [4, 9], [16, 25]]
    if workers:
        assert "data-loader worker 1" in str(caught.value)
        assert f"in {trouble.__name__}\n" in str(caught.value)  # the worker's traceback


def test_exceptions_that_cannot_be_made_again_become_runtime_errors():
    class Local(Exception):
        pass

    def local():
        raise Local("here")

    def decode():
        b"\xff".decode()

    for trouble, name in ((local, "here"), (decode, "UnicodeDecodeError")):
        with pytest.raises(RuntimeError, match=name):
            list(DataLoader(Numbers(2, trouble, at=1), 1, num_workers=1, multiprocessing_context="fork"))


def test_an_init_function_that_fails():
    def refuse(worker):
        raise ValueError(f"no licence for {worker}")

    with pytest.raises(ValueError, match="no licence for 0"):
        list(DataLoader(Numbers(4), num_workers=2, worker_init_fn=refuse, multiprocessing_context="fork"))


@pytest.mark.parametrize("trouble, cause", [(leave, "exit code 3"), (kill, "SIGKILL")])
@pytest.mark.parametrize("context, persistent", [(CONTEXTS[0], True), *((context, False) for context in CONTEXTS)])
def test_a_worker_that_dies_is_named_at_once(trouble, cause, context, persistent):
    loader = DataLoader(Numbers(40, trouble, at=9), 2, num_workers=2, multiprocessing_context=context,
                        persistent_workers=persistent)
    iterator = iter(loader)
    processes = processes_of(iterator)
    next(iterator)  # spawned workers take their time to start
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=rf"worker 0 \(pid {processes[0].pid}\) exited unexpectedly.*{cause}"):
        list(iterator)
    assert time.monotonic() - start < 5
    assert_ended(processes)


def test_a_worker_killed_from_outside_while_idle():
    iterator = iter(DataLoader(Numbers(400), 2, num_workers=2))
    next(iterator)
    os.kill(processes_of(iterator)[1].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"worker 1 .* SIGKILL"):
        list(iterator)


def test_timeout():
    loader = DataLoader(Numbers(4, forever, at=0), num_workers=1, timeout=0.3)
    iterator = iter(loader)
    processes = processes_of(iterator)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"within 0\.3 seconds"):
        next(iterator)
    assert time.monotonic() - start < 3
    assert_ended(processes)


@pytest.mark.parametrize("trouble", [None, forever])
def test_breaking_off_ends_the_workers(trouble):
    iterator = iter(DataLoader(Numbers(1000, trouble, at=3), 2, num_workers=2))
    processes = processes_of(iterator)
    for _ in iterator:
        break
    start = time.monotonic()
    del iterator
    gc.collect()
    assert_ended(processes)
    assert time.monotonic() - start < 3


def test_the_end_of_a_pass_ends_the_workers():
    iterator = iter(DataLoader(Numbers(5), 2, num_workers=2))
    processes = processes_of(iterator)
    list(iterator)
    assert_ended(processes)
    assert list(iterator) == []


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(tinynet.__file__).parents[1])}


def run(code, **options):
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, **options)


SLOW = """
    import sys, time
    from tinynet.utils.data import DataLoader, Dataset

    class Slow(Dataset):
        def __len__(self): return 1000
        def __getitem__(self, index):
            if index > 10: time.sleep(1000)
            return index

    iterator = iter(DataLoader(Slow(), 2, num_workers=2))
    print(*[process.pid for process in iterator._workers.processes], flush=True)
    next(iterator)
    try:
        list(iterator)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="sends signals to a process group")
def test_ctrl_c_ends_everything_without_a_traceback_from_the_workers():
    process = run(SLOW, start_new_session=True, preexec_fn=hear_ctrl_c)
    pids = [int(pid) for pid in process.stdout.readline().split()]
    time.sleep(0.5)
    start = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: parent and workers
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - start < 3
    assert "interrupted" in out and err == ""
    assert not any(alive(pid) for pid in pids)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_notice_that_the_parent_was_killed():
    code = SLOW.replace("if index > 10: time.sleep(1000)", "time.sleep(0.01)").replace(
        "list(iterator)", "time.sleep(1000)")
    process = run(code)
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert all(alive(pid) for pid in pids)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 5
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


def test_spawned_workers_of_an_unguarded_script_fail_instead_of_hanging(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(textwrap.dedent("""
        import tinynet
        from tinynet.utils.data import DataLoader, TensorDataset
        data = TensorDataset(tinynet.zeros(1000, 1000))
        list(DataLoader(data, 10, num_workers=1, multiprocessing_context="spawn"))
    """))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=30,
                          env=ENVIRONMENT)
    assert done.returncode == 1
    assert "exited unexpectedly" in done.stderr


def test_what_cannot_be_sent_to_a_spawned_worker_is_explained():
    with pytest.raises(RuntimeError, match="top level of a module"):
        list(DataLoader(Numbers(4), num_workers=1, multiprocessing_context="spawn", collate_fn=lambda batch: batch))


@pytest.mark.skipif(sys.platform != "linux", reason="fork")
def test_forked_workers_after_the_kernels_have_run():
    """A child of a process with a used thread pool must not touch it."""
    convolve = tinynet.nn.Conv2d(3, 16, 3)
    images = tinynet.randn(64, 3, 32, 32)
    with tinynet.no_grad():
        expected = convolve(images)

    class Convolved(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            with tinynet.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # says that NumPy steps in
                return convolve(images)[index]

    got = list(DataLoader(Convolved(), 2, num_workers=2, timeout=60, multiprocessing_context="fork"))
    np.testing.assert_allclose(np.concatenate([batch.numpy() for batch in got]), expected.numpy()[:4], atol=1e-4)


def test_no_threads_or_warnings_in_the_parent():
    before = threading.active_count()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in DataLoader(Numbers(8), 2, num_workers=2):
            assert threading.active_count() == before


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options, message", [
    ({"batch_size": 0}, "batch_size"),
    ({"num_workers": -1}, "num_workers"),
    ({"timeout": -1}, "timeout"),
    ({"timeout": float("nan")}, "timeout"),
    ({"prefetch_factor": 2}, "prefetch_factor needs num_workers"),
    ({"persistent_workers": True}, "persistent_workers needs num_workers"),
    ({"prefetch_factor": 0, "num_workers": 1}, "at least 1"),
    ({"sampler": range(3), "shuffle": True}, "not both"),
    ({"batch_sampler": [[0]], "batch_size": 2}, "batch_sampler replaces"),
    ({"batch_size": None, "drop_last": True}, "drop_last"),
    ({"pin_memory": True}, "pin_memory"),
    ({"num_workers": 1, "multiprocessing_context": "thread"}, "'thread' is not one of"),
])
def test_explained_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(Numbers(4), **options)


@pytest.mark.parametrize("options", [{"shuffle": True}, {"sampler": [0]}, {"batch_sampler": [[0]]}])
def test_streams_have_no_order(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} cannot order an IterableDataset"):
        DataLoader(Stream(3), **options)
