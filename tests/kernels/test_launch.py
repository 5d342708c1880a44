"""Threads: the same bits on any number, alive under every threading layer, after a fork, beside BLAS."""

from __future__ import annotations

import importlib.util
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from tests.kernels.cases import arguments, cases, results
from tests.kernels.processes import KERNELS_ONLY, output_of, python
from tinynet import kernels
from tinynet.kernels import launch

pytestmark = pytest.mark.skipif(launch.numba_problem() is not None, reason="needs numba")


@pytest.fixture
def all_threads(monkeypatch):
    """Let even the smallest launch use every thread, and put the number back afterwards."""
    monkeypatch.setattr(launch, "_NANOSECONDS_PER_THREAD", 1e-9)
    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


# (input, weight, stride, padding, groups): every path of the convolution, several tiles each
CONVOLUTIONS = [
    ((3, 40, 30, 31), (24, 40, 3, 3), 1, 1, 1),
    ((5, 24, 29, 30), (32, 24, 3, 3), 2, 1, 1),
    ((9, 70, 7, 7), (50, 70, 3, 3), 1, 1, 1),
    ((2, 32, 40, 40), (48, 32, 1, 1), 1, 0, 1),
    ((17, 32, 9, 9), (48, 32, 1, 1), 1, 0, 1),
    ((4, 24, 33, 34), (36, 8, 3, 3), 2, 1, 3),
    ((1, 600, 6, 6), (40, 600, 3, 3), 1, 1, 1),
    ((2, 20, 50, 50), (20, 1, 5, 5), 2, 2, 20),
]


def _large_results() -> list[np.ndarray]:
    rng = np.random.default_rng(0)

    def normal(shape):
        return rng.standard_normal(shape).astype(np.float32)

    found: list[np.ndarray] = []
    for shape, weight_shape, stride, padding, groups in CONVOLUTIONS:
        window = ((stride, stride), (padding, padding), (1, 1), groups)
        x, weight = normal(shape), normal(weight_shape)
        y = kernels.convolution(x, weight, normal(weight_shape[:1]), *window)
        grad = normal(y.shape)
        found += [
            y,
            kernels.convolution_input_gradient(grad, weight, shape, *window),
            kernels.convolution_weight_gradient(grad, x, weight_shape, *window),
            kernels.channel_sum(grad),
            *kernels.max_pool(x, (2, 2), (2, 2), (1, 1), (1, 1), True),
            kernels.bilinear_backward(grad, (*grad.shape[:2], *shape[2:]), False, None),
        ]
    x, grad = normal((6, 50, 500)), normal((6, 50, 500))
    found += kernels.batch_norm_train(x, None, None, 1e-5)
    found += kernels.batch_norm_train_backward(grad, x, None, found[-2], found[-1], 1e-5)
    found.append(kernels.matrix_product(normal((300, 900)), normal((900, 700))))
    found.append(kernels.relu(normal(100_003)))
    return found


@pytest.mark.skipif(launch.available_threads() < 2, reason="needs two cores")
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_one_and_two_threads_give_the_same_bits(backend, all_threads):
    with kernels.backend(backend):
        kernels.set_num_threads(1)
        with threadpool_limits(1, user_api="blas"):
            one = _large_results()
        kernels.set_num_threads(2)
        two = _large_results()
    for index, (a, b) in enumerate(zip(one, two)):
        np.testing.assert_array_equal(a, b, err_msg=f"result {index}")


def test_the_number_of_threads_reaches_numba():
    import numba

    seen = []
    kernel = SimpleNamespace(dispatcher=lambda: seen.append(numba.get_num_threads()))
    before = numba.get_num_threads()
    for cost in (1e9, 1.0, 1e9):
        launch.launch(kernel, cost=cost)
        assert numba.get_num_threads() == before
    assert seen == [launch.get_num_threads(), 1, launch.get_num_threads()]


def test_set_num_threads_explains_what_it_refuses():
    with pytest.raises(ValueError, match="at least 1 thread, got 0"):
        kernels.set_num_threads(0)
    with pytest.raises(TypeError, match="int, got str"):
        kernels.set_num_threads("2")
    done = python("from tinynet import kernels; kernels.get_num_threads()", TINYNET_NUM_THREADS="many")
    assert "TINYNET_NUM_THREADS must be a whole number from 1, got 'many'" in done.stderr
    printed = output_of("from tinynet import kernels; print(kernels.get_num_threads())", TINYNET_NUM_THREADS="1")
    assert printed.split() == ["1"]


def _blas_threads() -> list[int]:
    return [library["num_threads"] for library in launch.blas_libraries()]


def test_blas_runs_on_one_thread_inside_a_product_and_as_before_after_it():
    with threadpool_limits(2, user_api="blas"):
        before = _blas_threads()
        with launch.single_threaded_blas():
            assert set(_blas_threads()) == {1}
            with launch.single_threaded_blas():
                assert set(_blas_threads()) == {1}
            assert set(_blas_threads()) == {1}
        assert _blas_threads() == before
        with pytest.raises(KeyError), launch.single_threaded_blas():
            raise KeyError
        assert _blas_threads() == before


def test_blas_is_limited_from_every_python_thread():
    """threadpoolctl itself would silently ignore all threads but the first."""
    seen = []

    def look():
        with launch.single_threaded_blas():
            seen.append(set(_blas_threads()))

    with threadpool_limits(2, user_api="blas"):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert seen == [{1}]


def test_kernels_and_blas_by_turns_in_two_threads():
    a = np.random.default_rng(0).standard_normal((300, 300))
    x = np.random.default_rng(1).standard_normal((2, 16, 30, 30))
    weight = np.random.default_rng(2).standard_normal((16, 16, 3, 3))
    window = ((1, 1), (1, 1), (1, 1), 1)
    product, y = a @ a, kernels.convolution(x, weight, None, *window)
    wrong = []

    def work():
        for _ in range(20):
            if not np.allclose(a @ a, product):
                wrong.append("product")
            if not np.array_equal(kernels.convolution(x, weight, None, *window), y):
                wrong.append("convolution")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


FOUR_THREADS = (
    KERNELS_ONLY
    + """
    import threading
    import numpy as np
    from tinynet.kernels import launch

    launch._NANOSECONDS_PER_THREAD = 1e-9
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 16, 40, 40)).astype(np.float32)
    weight = rng.standard_normal((16, 16, 3, 3)).astype(np.float32)
    window = (1, 1), (1, 1), (1, 1), 1

    def everything():
        y = kernels.convolution(x, weight, None, *window)
        return (y, kernels.convolution_weight_gradient(y, x, weight.shape, *window), kernels.relu(x),
                *kernels.max_pool(x, (2, 2), (2, 2), (0, 0), (1, 1), False),
                *kernels.batch_norm_train(x.reshape(4, 16, -1), None, None, 1e-5))

    expected = everything()
    wrong = []

    def work():
        for _ in range(15):
            if not all(np.array_equal(a, b) for a, b in zip(everything(), expected)):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    print(kernels.threading_layer(), len(wrong))
"""
)


@pytest.mark.parametrize("layer", ["omp", "workqueue", "tbb"])
def test_four_python_threads_under_every_threading_layer(layer):
    if layer == "tbb" and importlib.util.find_spec("tbb") is None:
        pytest.skip("tbb is not installed")
    assert output_of(FOUR_THREADS, NUMBA_THREADING_LAYER=layer).split() == [layer, "0"]


def test_workqueue_dies_without_the_lock():
    """Shows that the test above can fail: what the launch lock prevents is real."""
    unlocked = FOUR_THREADS.replace(
        "launch._NANOSECONDS_PER_THREAD = 1e-9",
        """launch._NANOSECONDS_PER_THREAD = 1e-9
    import contextlib
    launch._lock = contextlib.nullcontext()""",
    )
    assert python(unlocked, NUMBA_THREADING_LAYER="workqueue").returncode != 0


FORK = (
    KERNELS_ONLY
    + """
    import os, sys, threading, time, warnings
    import numpy as np
    from tinynet.kernels import launch

    launch._NANOSECONDS_PER_THREAD = 1e-9
    x = np.random.default_rng(0).standard_normal((4, 16, 40, 40)).astype(np.float32)
    weight = np.random.default_rng(1).standard_normal((16, 16, 3, 3)).astype(np.float32)
    call = lambda: kernels.convolution(x, weight, None, (1, 1), (1, 1), (1, 1), 1)
    expected = call()
"""
)


def test_fork_after_use():
    printed = output_of(
        FORK
        + """
    # another thread is inside a launch, holding the lock, when the fork happens
    busy = threading.Thread(target=lambda: [call() for _ in range(50)])
    busy.start()
    child = os.fork()
    if child == 0:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            same = np.allclose(call(), expected, atol=1e-4) and np.allclose(call(), expected, atol=1e-4)
        told = [str(w.message) for w in caught if "forked" in str(w.message)]
        os._exit(0 if same and len(told) == 1 else 1)
    deadline = time.time() + 60
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done or time.time() > deadline:
            break
        time.sleep(0.05)
    if not done:
        os.kill(child, 9)
    busy.join()
    print("child ended", os.waitstatus_to_exitcode(status) if done else "never")
    print("parent", np.array_equal(call(), expected))
    """
    )
    assert printed.splitlines() == ["child ended 0", "parent True"]


def test_multiprocessing_fork_after_use():
    printed = output_of(
        FORK
        + """
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(2) as pool:
        sums = pool.map_async(sum, [[1, 2], [3]]).get(60)
        results = [pool.apply_async(kernels.convolution, (x, weight, None, (1, 1), (1, 1), (1, 1), 1))
                   for _ in range(4)]
        print(sums, all(np.allclose(r.get(60), expected, atol=1e-4) for r in results))
    """
    )
    assert printed.split("\n")[0] == "[3, 3] True"


def test_fork_before_use():
    printed = output_of(
        """
    import os
    import numpy as np
    from tinynet import kernels
    child = os.fork()
    total = kernels.channel_sum(np.ones((2, 3, 4), np.float32))
    assert total.tolist() == [8, 8, 8], total
    if child == 0:
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    )
    assert printed.strip() == "0"


def test_with_torch_imported_first():
    pytest.importorskip("torch")
    printed = output_of(
        """
    import torch
    import numpy as np
    from tinynet import kernels
    from tinynet.kernels import launch
    launch._NANOSECONDS_PER_THREAD = 1e-9
    x = np.ones((2, 8, 20, 20), np.float32)
    y = kernels.convolution(x, np.ones((8, 8, 3, 3), np.float32), None, (1, 1), (0, 0), (1, 1), 1)
    z = torch.nn.functional.conv2d(torch.ones(2, 8, 20, 20), torch.ones(8, 8, 3, 3))
    print(bool((z.numpy() == y).all()))
    """
    )
    assert printed.strip() == "True"


def test_waiting_threads_sleep_unless_the_user_decided():
    code = KERNELS_ONLY + "    import os; print(os.environ['OMP_WAIT_POLICY'])"
    assert output_of(code, OMP_WAIT_POLICY=None).strip() == "PASSIVE"
    assert output_of(code, OMP_WAIT_POLICY="ACTIVE").strip() == "ACTIVE"


def test_indices_stay_inside():
    """Every kernel on every shape, compiled with bounds checks (and so without threads)."""
    printed = output_of(
        """
    import numpy as np
    from tests.kernels.cases import arguments, cases
    from tinynet import kernels
    from tinynet.kernels import elementwise
    elementwise._SMALL = 0
    count = 0
    for case in cases():
        getattr(kernels, case.kernel)(*arguments(case, np.float32))
        count += 1
    print(count)
    """,
        TINYNET_BOUNDSCHECK="1",
        TINYNET_BACKEND="numba",
    )
    assert int(printed) == len(list(cases()))


def test_bounds_checks_are_on_where_asked_for():
    """Shows that the test above can fail: an index outside of an input is seen."""
    done = python(
        """
    import numpy as np
    from tinynet.kernels import upsampling
    rows = np.array([0, 9])
    upsampling._gather_numba(np.ones((1, 1, 2, 2), np.float32), rows, rows)
    """,
        TINYNET_BOUNDSCHECK="1",
    )
    assert "IndexError" in done.stderr


def test_without_numba(tmp_path):
    broken = tmp_path / "numba"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('no llvmlite here')")
    code = f"""
    import sys
    sys.path.insert(0, {str(tmp_path)!r})
    import numpy as np
    from tinynet import kernels
    print(kernels.current_backend(), kernels.get_num_threads(), kernels.threading_layer())
    x = np.ones((1, 2, 5, 5), np.float32)
    print(kernels.convolution(x, np.ones((1, 2, 3, 3), np.float32), None, (1, 1), (0, 0), (1, 1), 1)[0, 0, 0, 0])
    kernels.relu(x)
    try:
        kernels.set_backend("numba")
    except RuntimeError as error:
        print(error)
    """
    done = python(code, TINYNET_BACKEND=None, TINYNET_QUIET=None)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["numpy 1 None", "18.0"]
    assert "ImportError: no llvmlite here" in lines[2]
    assert done.stderr.count("numba cannot be imported") == 1
    assert python(code, TINYNET_QUIET="1").stderr == ""


def test_importing_the_kernels_imports_no_compiler():
    printed = output_of(
        KERNELS_ONLY
        + """
    print([name for name in ("numba", "scipy", "llvmlite") if name in sys.modules])
    """
    )
    assert printed.strip() == "[]"


def test_large_columns_are_refused_with_their_size():
    x = np.broadcast_to(np.float32(1), (4096, 64, 256, 256))
    with pytest.raises(MemoryError, match=r"im2col: columns of shape .* need 618\.5 GB"):
        kernels.im2col(x, (3, 3), (1, 1), (1, 1), (1, 1))


def test_a_convolution_never_holds_all_columns():
    """Columns of 0.94 GB; the process grows by little more than input and output (13 MB each)."""
    printed = output_of(
        """
    import resource
    import numpy as np
    from tinynet import kernels
    weight = np.ones((8, 8, 9, 9), np.float32)
    run = lambda x: kernels.convolution(x, weight, None, (1, 1), (4, 4), (1, 1), 1)
    run(np.ones((1, 8, 64, 64), np.float32))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    y = run(np.ones((1, 8, 600, 600), np.float32))
    kernels.convolution_weight_gradient(y, y, weight.shape, (1, 1), (4, 4), (1, 1), 1)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """
    )
    assert float(printed) < 150


def test_cases_cover_every_kernel():
    assert {case.kernel for case in cases()} == set(kernels.kernel_names())
    for case in cases():
        with kernels.backend("numpy"):
            kernel = getattr(kernels, case.kernel)
            args = arguments(case, np.float64)
            assert kernel.shapes(*args) == tuple(array.shape for array in results(kernel(*args)))
