"""Backends and overrides: scoped, explained, and never dead code."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest

from tests.kernels.processes import output_of, python
from tinynet import kernels
from tinynet.errors import DtypeError, ShapeError
from tinynet.kernels import launch, registry

WINDOW = ((1, 1), (1, 1), (1, 1))
X = np.random.default_rng(0).standard_normal((2, 4, 6, 6)).astype(np.float32)
WEIGHT = np.random.default_rng(1).standard_normal((6, 4, 3, 3)).astype(np.float32)


def convolution(x=X, weight=WEIGHT, groups=1):
    return kernels.convolution(x, weight, None, *WINDOW, groups)


def my_im2col(x, kernel, stride, padding, dilation):
    with kernels.backend("numpy"):
        return kernels.im2col.implementations["numpy"](x, kernel, stride, padding, dilation)


def test_backend_is_scoped():
    before = kernels.current_backend()
    with kernels.backend("loops"):
        assert kernels.current_backend() == "loops"
        with kernels.backend("numpy"):
            assert kernels.current_backend() == "numpy"
        assert kernels.current_backend() == "loops"
        seen = []
        thread = threading.Thread(target=lambda: seen.append(kernels.current_backend()))
        thread.start()
        thread.join()
        assert seen == [before]
    with pytest.raises(KeyError), kernels.backend("loops"):
        raise KeyError
    assert kernels.current_backend() == before


def test_unknown_backend():
    for use in (kernels.backend("cuda").__enter__, lambda: kernels.set_backend("cuda")):
        with pytest.raises(ValueError, match="unknown backend 'cuda'; choose one of numba, numpy, loops"):
            use()
    done = python("from tinynet import kernels; kernels.current_backend()", TINYNET_BACKEND="cuda")
    assert "ValueError: TINYNET_BACKEND: unknown backend 'cuda'; choose one of" in done.stderr


def test_environment_and_set_backend():
    code = "from tinynet import kernels; print(kernels.current_backend()); {}"
    assert output_of(code.format(""), TINYNET_BACKEND="loops").split() == ["loops"]
    switched = "kernels.set_backend('numpy'); print(kernels.current_backend())"
    assert output_of(code.format(switched), TINYNET_BACKEND="loops").split() == ["loops", "numpy"]


def test_the_backend_chosen_is_the_one_that_runs(monkeypatch):
    for name in kernels.BACKENDS:
        monkeypatch.setitem(kernels.relu.implementations, name, lambda x, name=name: name)
    for name in kernels.BACKENDS:
        if name == "numba" and launch.numba_problem():
            continue
        with kernels.backend(name):
            assert kernels.relu(X) == name


def test_kernels_take_names_and_pickle():
    by_name = kernels.convolution(
        x=X, weight=WEIGHT, bias=None, stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1
    )
    np.testing.assert_array_equal(by_name, convolution())
    assert pickle.loads(pickle.dumps(kernels.convolution)) is kernels.convolution
    assert "convolution(x, weight, bias" in repr(kernels.convolution)


class TestOverride:
    def test_is_really_called_and_counted(self):
        expected = convolution()
        with kernels.override(im2col=my_im2col) as report:
            assert kernels.is_overridden("im2col") and not kernels.is_overridden("relu")
            y = convolution()
            assert report.calls == {"im2col": 1}
            kernels.convolution_weight_gradient(y, X, WEIGHT.shape, *WINDOW, 1)
            assert report.calls == {"im2col": 2}
            kernels.convolution_input_gradient(y, WEIGHT, X.shape, *WINDOW, 1)
            kernels.relu(X)
            assert report.calls == {"im2col": 2}
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
        assert not kernels.is_overridden("im2col")
        convolution()
        assert report.calls == {"im2col": 2}

    @pytest.mark.parametrize("backend", kernels.BACKENDS)
    @pytest.mark.parametrize("groups", [1, 2, 4])
    def test_decides_the_result_on_every_backend(self, backend, groups):
        def zeros(x, kernel, stride, padding, dilation):
            return np.zeros_like(my_im2col(x, kernel, stride, padding, dilation))

        weight = WEIGHT[:4, : 4 // groups].copy()
        with kernels.backend(backend), kernels.override(im2col=zeros):
            y = convolution(weight=weight, groups=groups)
            grad = kernels.convolution_weight_gradient(y + 1, X, weight.shape, *WINDOW, groups)
        assert (y == 0).all() and (grad == 0).all()

    def test_col2im_reaches_the_input_gradient(self):
        def ones(columns, input_shape, kernel, stride, padding, dilation):
            return np.ones(input_shape, columns.dtype)

        with kernels.override(col2im=ones) as report:
            grad = kernels.convolution_input_gradient(convolution(), WEIGHT, X.shape, *WINDOW, 1)
        assert (grad == 1).all() and report.calls == {"col2im": 1}

    def test_the_whole_kernel(self):
        with kernels.override(convolution=lambda x, weight, bias, stride, padding, dilation, groups: X[:, [0] * 6]):
            assert (convolution() == X[:, :1]).all()

    def test_nests_and_ends_with_the_block(self):
        with kernels.override(relu=lambda x: x + 1) as outer:
            with kernels.override(relu=lambda x: x + 2, im2col=my_im2col) as inner:
                assert (kernels.relu(X) == X + 2).all()
            assert (kernels.relu(X) == X + 1).all()
            assert outer.calls == {"relu": 1} and inner.calls == {"relu": 1, "im2col": 0}
        with pytest.raises(KeyError), kernels.override(relu=lambda x: x + 1):
            raise KeyError
        assert (kernels.relu(X) == np.maximum(X, 0)).all()

    def test_holds_for_one_thread(self):
        seen = []
        with kernels.override(relu=lambda x: x + 1):
            thread = threading.Thread(target=lambda: seen.append(kernels.relu(X)))
            thread.start()
            thread.join()
        assert (seen[0] == np.maximum(X, 0)).all()

    def test_refuses_unknown_names(self):
        with pytest.raises(ValueError, match=r"no kernel named 'im2cols'; the kernels are .*im2col, col2im, "):
            kernels.override(im2cols=my_im2col).__enter__()

    @pytest.mark.parametrize(
        "function",
        [
            lambda x: x,
            lambda x, kernel, stride, padding: x,
            lambda x, kernel, stride, padding, dilation, more: x,
            lambda x, kernel, padding, stride, dilation: x,
            lambda image, kernel, stride, padding, dilation: x,  # noqa: F821
            lambda *args: args,
            lambda x, kernel, stride, padding, *, dilation: x,
        ],
    )
    def test_refuses_wrong_parameters(self, function):
        message = r"im2col is called as im2col\(x, kernel, stride, padding, dilation\), but your function takes"
        with pytest.raises(TypeError, match=message):
            kernels.override(im2col=function).__enter__()

    def test_refuses_what_cannot_be_called(self):
        with pytest.raises(TypeError, match="needs a function, got 3"):
            kernels.override(im2col=3).__enter__()

    def test_takes_defaults_and_compiled_functions(self):
        def with_defaults(x, kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1), verbose=False):
            return my_im2col(x, kernel, stride, padding, dilation)

        with kernels.override(im2col=with_defaults) as report:
            convolution()
        assert report.calls["im2col"] == 1
        numba = pytest.importorskip("numba")
        with kernels.override(relu=numba.njit(lambda x: x + np.float32(1))):
            assert (kernels.relu(X) == X + 1).all()

    @pytest.mark.parametrize(
        ("result", "error", "message"),
        [
            (lambda y: y[:, :-1], ShapeError, r"your im2col returned shape \(2, 35, 36\), expected \(2, 36, 36\)"),
            (lambda y: y.astype(np.float64), DtypeError, "your im2col returned float64, expected float32"),
            (lambda y: None, DtypeError, "your im2col must return a NumPy array, got None"),
            (lambda y: y.tolist(), DtypeError, "your im2col must return a NumPy array"),
        ],
    )
    def test_explains_wrong_results(self, result, error, message):
        def wrong(x, kernel, stride, padding, dilation):
            return result(my_im2col(x, kernel, stride, padding, dilation))

        with kernels.override(im2col=wrong), pytest.raises(error, match=message):
            convolution()

    def test_explains_wrong_tuples(self):
        def values_only(x, kernel, stride, padding, dilation, ceil_mode):
            return x

        def wrong_indices(x, kernel, stride, padding, dilation, ceil_mode):
            y = x[:, :, ::2, ::2]
            return y, y

        pool = (X, (2, 2), (2, 2), (0, 0), (1, 1), False)
        with kernels.override(max_pool=values_only), pytest.raises(ShapeError, match="a tuple of 2 arrays"):
            kernels.max_pool(*pool)
        with kernels.override(max_pool=wrong_indices):
            with pytest.raises(DtypeError, match="your max_pool, result 1, returned float32, expected int64"):
                kernels.max_pool(*pool)

    def test_results_are_fresh_and_contiguous(self):
        with kernels.override(relu=lambda x: x):
            assert not np.shares_memory(kernels.relu(X), X)
        with kernels.override(relu=lambda x: np.asfortranarray(x + 1)):
            assert kernels.relu(X).flags.c_contiguous

    def test_the_users_own_error_comes_through(self):
        def broken(x):
            raise ZeroDivisionError("mine")

        with kernels.override(relu=broken), pytest.raises(ZeroDivisionError, match="mine"):
            kernels.relu(X)


def test_every_kernel_documents_itself():
    for name in kernels.kernel_names():
        kernel = registry._kernels[name]
        assert kernel.__doc__, name
        assert getattr(kernels, name) is kernel
