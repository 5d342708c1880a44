"""The call of gradcheck: what it takes, returns, reports and leaves behind; modules; torch beside it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import tinynet
from tinynet import nn
from tinynet.autograd import Function
from tinynet.autograd.gradcheck import (
    GradcheckError,
    GradcheckRefusal,
    Verdict,
    diagnose,
    gradcheck,
    gradcheck_module,
)

from .wrong_functions import CASES, Half, Sign, at, point

REFUSED = {"empty_input", "no_inputs", "nan_input", "float32_input", "zero_stride_input", "overlapping_inputs",
           "integers_only", "nothing_requires_grad"}


def test_true_false_or_raised():
    assert gradcheck(lambda x: x * x, (point(3),)) is True
    assert gradcheck(Sign.apply, (point(3),), raise_exception=False) is False
    with pytest.raises(RuntimeError, match="wrong sign"):
        gradcheck(Sign.apply, [point(3)])


@pytest.mark.parametrize("function, inputs", [case[1:3] for case in CASES if case[0] in REFUSED])
def test_a_refused_call_is_a_value_error_and_false(function, inputs):
    with pytest.raises(ValueError) as caught:
        gradcheck(function, inputs)
    assert isinstance(caught.value, GradcheckRefusal)
    assert gradcheck(function, inputs, raise_exception=False) is False


def test_inputs_must_be_tensors():
    with pytest.raises(TypeError, match="tuple of tensors"):
        gradcheck(lambda x: x, 3)


def test_the_call_is_torchs():
    names = list(inspect.signature(gradcheck).parameters)
    assert names[:2] == ["func", "inputs"]
    defaults = {name: p.default for name, p in inspect.signature(gradcheck).parameters.items()}
    assert defaults["eps"] == 1e-6 and defaults["atol"] == 1e-5 and defaults["rtol"] == 1e-3
    assert defaults["raise_exception"] is True and defaults["nondet_tol"] == 0.0


def test_an_error_in_forward_is_the_users_own():
    def broken(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        gradcheck(broken, point(3))


def test_inputs_keep_their_bits_and_get_no_grad():
    x, y = point(3, 4), point(4)
    before = x.detach().numpy().copy(), y.detach().numpy().copy()
    gradcheck(lambda x, y: (x * y).exp(), (x, y))
    gradcheck(lambda x: x.abs(), at(0.0, 1.0), raise_exception=False)
    assert np.array_equal(x.detach().numpy(), before[0]) and np.array_equal(y.detach().numpy(), before[1])
    assert x.grad is None and y.grad is None
    assert x.requires_grad and x.is_leaf


def test_inputs_keep_their_bits_when_the_function_raises_halfway():
    x = point(3)
    before = x.detach().numpy().copy()

    def breaks_when_moved(tensor):
        if not np.array_equal(tensor.detach().numpy(), before):
            raise ValueError("moved")
        return tensor * 2

    with pytest.raises(ValueError, match="moved"):
        gradcheck(breaks_when_moved, x)
    assert np.array_equal(x.detach().numpy(), before)


def test_closures_over_the_inputs_count():
    weight = point(3)
    assert gradcheck(lambda x, _: x * weight * weight, (point(3), weight))


def test_a_report_of_a_pass():
    report = diagnose(lambda first, second: first * second, (point(2, 3), point(3)))
    assert report.verdict is Verdict.PASS and report.problem == ""
    assert [entry.name for entry in report.inputs] == ["input 0 (first)", "input 1 (second)"]
    assert [entry.shape for entry in report.inputs] == [(2, 3), (3,)]
    assert 0 <= report.relative_error < 1e-7
    assert str(report).startswith("gradcheck PASS")


def test_a_report_of_a_failure_has_numbers_in_it():
    x = point(2, 3)
    report = diagnose(Half.apply, x)
    (entry,) = report.inputs
    assert entry.verdict is Verdict.FAIL and entry.wrong == entry.elements == 6
    assert entry.worst_index == entry.output_index  # elementwise
    value = float(x.detach().numpy()[entry.worst_index])
    assert entry.numeric == pytest.approx(2 * value, rel=1e-6)
    assert entry.analytic == pytest.approx(value, rel=1e-12)
    assert entry.relative_error == pytest.approx(0.5, rel=1e-6)
    assert "input 0 (x)" in entry.text and str(entry.worst_index) in entry.text


def test_the_error_carries_the_report():
    with pytest.raises(GradcheckError) as caught:
        gradcheck(Sign.apply, point(3))
    assert caught.value.report.inputs[0].cause.startswith("wrong sign")


def test_a_failure_beats_an_inconclusive_input():
    def partly(x, unused):
        return Sign.apply(x)

    report = diagnose(partly, (point(3), point(2)))
    assert [entry.verdict for entry in report.inputs] == [Verdict.FAIL, Verdict.INCONCLUSIVE]
    assert report.verdict is Verdict.FAIL


def test_an_error_beats_a_kink():
    class WrongRelu(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * (x > 0).double() * 3

    (entry,) = diagnose(WrongRelu.apply, at(1.0, 0.0, -1.0, 2.0)).inputs
    assert entry.verdict is Verdict.FAIL and "factor 3" in entry.cause
    assert "only 2 of 4" in entry.cause and "(0,), (3,)" in entry.cause


def test_a_slope_beyond_both_sides_of_a_kink_is_wrong():
    class WrongAtZero(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * (x > 0).double() - 5 * grad * (x == 0).double()

    (entry,) = diagnose(WrongAtZero.apply, at(1.0, 0.0, -1.0)).inputs
    assert entry.verdict is Verdict.FAIL and entry.worst_index == (1,)


def test_a_detached_output_is_noted():
    report = diagnose(lambda x: (x * 2, (x * 3).detach()), point(3))
    assert report.verdict is Verdict.PASS
    assert report.notes == ("output 1 does not require grad and was not checked",)


def test_nondet_tol_allows_small_differences():
    generator = np.random.default_rng(0)

    class Shaky(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 2 + float(generator.uniform(-1e-13, 1e-13))

    assert gradcheck(Shaky.apply, point(3), raise_exception=False) is False
    assert gradcheck(Shaky.apply, point(3), nondet_tol=1e-10, raise_exception=False) is True


def test_rtol_sharpens_and_loosens():
    class SlightlyWrong(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 2.00002

    assert gradcheck(SlightlyWrong.apply, point(3)) is True
    assert gradcheck(SlightlyWrong.apply, point(3), rtol=1e-6, atol=1e-8, raise_exception=False) is False


def test_unnamed_arguments_are_counted():
    report = diagnose(lambda *items: items[0] * items[1], (point(2), point(2)))
    assert [entry.name for entry in report.inputs] == ["input 0", "input 1"]


# modules


def small_net():
    return nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))


@pytest.mark.parametrize("mode", [True, False])
def test_a_module_passes_and_is_given_back_as_it_was(mode):
    net = small_net().train(mode)
    net(tinynet.randn(2, 2, 4, 4)).sum().backward()
    state = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    arrays = dict(net.state_dict(keep_vars=True))
    grads = {name: parameter.grad for name, parameter in net.named_parameters()}
    assert gradcheck_module(net, tinynet.randn(2, 2, 4, 4)) is True
    for name, value in net.state_dict().items():
        assert value.numpy().dtype == state[name].dtype
        assert np.array_equal(value.numpy(), state[name]), name
    for name, value in net.state_dict(keep_vars=True).items():
        assert value is arrays[name]
    for name, parameter in net.named_parameters():
        assert parameter.grad is grads[name] and parameter.dtype is tinynet.float32
        assert parameter.requires_grad
    assert net.training is mode


def test_a_module_is_given_back_when_the_check_raises():
    net = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    before = net[0].weight.detach().numpy().copy()
    with pytest.raises(GradcheckError, match=r"random.*\.eval\(\)"):
        gradcheck_module(net, tinynet.randn(4, 3))
    assert net[0].weight.dtype is tinynet.float32 and np.array_equal(net[0].weight.detach().numpy(), before)
    assert gradcheck_module(net.eval(), tinynet.randn(4, 3)) is True


def test_a_module_names_its_parameter_and_its_input():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(tinynet.ones(3) * 2)

        def forward(self, features):
            return features * Sign.apply(self.scale)

    with pytest.raises(GradcheckError) as caught:
        gradcheck_module(nn.Sequential(Scale()), tinynet.randn(2, 3))
    message = str(caught.value)
    assert "FAIL: parameter 0.scale" in message and "PASS: input 0" in message
    assert diagnose(Scale().double(), point(2, 3)).inputs[0].name == "input 0 (features)"


def test_a_module_with_a_bias_that_batch_norm_takes_away_is_inconclusive():
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2))
    with pytest.raises(GradcheckError, match=r"INCONCLUSIVE: parameter 0\.bias.*zero everywhere"):
        gradcheck_module(net, tinynet.randn(2, 1, 4, 4))


def test_a_module_may_take_integers_beside():
    class Pick(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(tinynet.randn(5, 2))

        def forward(self, index, factor):
            return self.table[index] * factor

    assert gradcheck_module(Pick(), (tinynet.tensor([0, 4, 4, 1, 2, 3]), tinynet.tensor([1.5, 2.0])))


def test_frozen_parameters_are_not_checked():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert gradcheck_module(layer, tinynet.randn(4, 3)) is True
    assert layer.bias.requires_grad is False


# torch beside it

JUDGED_ALIKE = {
    "x * x": (lambda lib, x: x * x, [0.5, -1.5, 2.0]),
    "exp": (lambda lib, x: x.exp(), [0.5, -1.5, 2.0]),
    "softmax": (lambda lib, x: lib.nn.functional.softmax(x, 0), [0.5, -1.5, 2.0]),
    "relu at 0": (lambda lib, x: lib.nn.functional.relu(x), [0.5, 0.0, 2.0]),
    "detached factor": (lambda lib, x: x * x.detach(), [0.5, -1.5, 2.0]),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", JUDGED_ALIKE)
def test_torch_comes_to_the_same_verdict(name):
    torch = pytest.importorskip("torch")
    function, values = JUDGED_ALIKE[name]
    theirs = torch.autograd.gradcheck(
        lambda x: function(torch, x), torch.tensor(values, dtype=torch.float64, requires_grad=True),
        raise_exception=False,
    )
    ours = gradcheck(lambda x: function(tinynet, x), at(*values), raise_exception=False)
    assert ours is theirs


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["Sign", "Half"])
def test_torch_refuses_the_same_function(kind):
    torch = pytest.importorskip("torch")
    factor = {"Sign": -2, "Half": 1}[kind]

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, grad):
            return factor * ctx.saved_tensors[0] * grad

    x = torch.tensor([0.5, -1.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Wrong.apply, x, raise_exception=False) is False
    assert gradcheck({"Sign": Sign, "Half": Half}[kind].apply, at(0.5, -1.5), raise_exception=False) is False


@pytest.mark.torch
def test_torch_passes_tiny_wrong_gradients_and_this_one_does_not():
    torch = pytest.importorskip("torch")

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, grad):
            return -2 * ctx.saved_tensors[0] * grad

    values = [1e-6, -2e-6]
    assert torch.autograd.gradcheck(Wrong.apply, torch.tensor(values, dtype=torch.float64, requires_grad=True))
    assert gradcheck(Sign.apply, at(*values), raise_exception=False) is False
