"""Functions with a mistake in them, each with the words its diagnosis must hold. Used by test_gradcheck_wrong.py."""

from __future__ import annotations

import numpy as np

import tinynet
import tinynet.nn.functional as F
from tinynet.autograd import Function

GENERATOR = np.random.default_rng(7)


def point(*shape, scale: float = 1.0, shift: float = 0.0):
    """A float64 leaf away from zero and without ties."""
    values = GENERATOR.uniform(0.3, 1.7, shape) * GENERATOR.choice([-1.0, 1.0], shape)
    return tinynet.tensor(values * scale + shift, dtype=tinynet.float64, requires_grad=True)


def at(*values):
    """A float64 leaf with these values."""
    return tinynet.tensor(values, dtype=tinynet.float64, requires_grad=True)


def constant(*shape):
    return point(*shape).detach()


CASES: list = []  # (name, function, inputs, words that the message must hold)


def wrong(*words: str, inputs, name: str | None = None):
    """Registers a wrong function (or a Function class) with the words of its diagnosis."""

    def register(item):
        function = item.apply if isinstance(item, type) else item
        CASES.append((name or item.__name__, function, inputs, words))
        return item

    return register


class Square(Function):
    """x², right; the wrong ones change its backward."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x


@wrong("wrong sign", "input 0 (x)", "all 12 elements", inputs=point(3, 4))
class Sign(Square):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return -2 * x * grad


@wrong("1/2", "overwritten", inputs=point(3, 4))
class Half(Square):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return x * grad  # the second use of x overwrites instead of adding


@wrong("factor 2", "counted twice", inputs=point(3, 5))
class Double(Square):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 4 * x * grad


@wrong("constant factor 1.5", inputs=point(3, 4))
class OneAndAHalf(Square):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x * grad


@wrong("factor 15", "number of elements of the input", "mean", inputs=point(3, 5))
class MeanWithoutDivision(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.mean()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * tinynet.ones_like(x)


@wrong("1/5", "axis 1", "mean", inputs=point(3, 5))
class SumDivided(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sum(1)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad[:, None] * tinynet.ones_like(x) / 5


@wrong("20/19", "variance", inputs=point(20))
class BiasedVariance(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.var(correction=0)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2 * (x - x.mean()) / 19


class AddBias(Function):
    @staticmethod
    def forward(ctx, x, bias):
        return x + bias


@wrong("missing sum over the broadcast axes", "shape", inputs=(point(3, 4), point(4)))
class BroadcastShape(AddBias):
    @staticmethod
    def backward(ctx, grad):
        return grad, grad


@wrong("input 1 (bias)", "missing sum over the broadcast axes", "(0,)", inputs=(point(3, 4), point(4)))
class BroadcastFirstRow(AddBias):
    @staticmethod
    def backward(ctx, grad):
        return grad, grad[0]


@wrong("input 1 (bias)", "1/3", "mean", inputs=(point(3, 4), point(4)))
class BroadcastMean(AddBias):
    @staticmethod
    def backward(ctx, grad):
        return grad, grad.mean(0)


@wrong("upstream gradient ignored", inputs=point(3, 4))
class IgnoresUpstream(Square):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x


@wrong("upstream gradient ignored", inputs=point(6), name="IgnoresUpstreamOfAScalar")
class IgnoresScalar(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x * x).sum()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x  # right as long as the loss is the last operation


@wrong("upstream gradient ignored in one term", inputs=point(6))
class IgnoresInOneTerm(Square):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return x * grad + x


@wrong("not linear", inputs=point(6))
class ClipsUpstream(Square):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad.clamp(-1, 1)


@wrong("changed input 0 (x) in place", inputs=point(4))
class ChangesInput(Function):
    @staticmethod
    def forward(ctx, x):
        out = x * 3
        x.detach().numpy()[0] += 1
        return out

    @staticmethod
    def backward(ctx, grad):
        return 3 * grad


@wrong("changed input 0 (x) in place", inputs=point(4))
def changes_input_by_method(x):
    x.mul_(2)
    return x * 1


@wrong("changed input 1 (index) in place", inputs=(point(4), tinynet.tensor([1, 2])))
def changes_constant(x, index):
    out = x[index] * 2
    index.zero_()
    return out


@wrong("backward changed the upstream gradient in place", inputs=point(4))
class ChangesUpstream(Square):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        grad.mul_(2)
        return x * grad


@wrong("random", "forward", inputs=point(30))
def random_forward(x):
    return F.dropout(x, 0.5)


@wrong("random", "forward", inputs=point(5), name="counter")
class Counter(Function):
    calls = 0

    @staticmethod
    def forward(ctx, x):
        Counter.calls += 1
        return x * (1.0 + 0.1 * (Counter.calls > 4))

    @staticmethod
    def backward(ctx, grad):
        return grad


@wrong("backward is random", inputs=point(5))
class RandomBackward(Square):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad + 1e-9 * tinynet.randn(5, dtype=tinynet.float64)


def _one_wrong(change):
    class OneWrong(Square):
        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            gradient = (2 * x * grad).clone()
            gradient[617] = change(gradient[617])
            return gradient

    return OneWrong


for one_wrong, word, scale, change in (
    ("one_of_1000_doubled", "factor 2", 1.0, lambda gradient: 2 * gradient),
    ("one_of_1000_zero", "zero there", 1.0, lambda gradient: 0 * gradient),
    ("one_of_1000_by_1_percent", "factor 1.01", 1.0, lambda gradient: 1.01 * gradient),
    ("one_of_1000_tiny", "factor 1.01", 1e-6, lambda gradient: 1.01 * gradient),
):
    wrong("only 1 of 1,000", "(617,)", word, inputs=point(1000, scale=scale), name=one_wrong)(_one_wrong(change))


@wrong("only 1 of 3,000", "(20, 17)", inputs=point(60, 50))
class OneOf3000(Square):  # more outputs than a full Jacobian takes: random projections
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        gradient = (2 * x * grad).clone()
        gradient[20, 17] = gradient[20, 17] * 1.1
        return gradient


@wrong("float32", ".double()", inputs=tinynet.ones(3, requires_grad=True))
def float32_input(x):
    return x * 2


@wrong("float32", "lower precision", inputs=point(3))
def float32_inside(x):
    return x.float() * 2


@wrong("do not change", "float32", inputs=at(1e-3, 2e-3))
def float32_in_the_middle(x):
    return (x.float() * 1e4).exp().double()


@wrong("kink", "index (1,)", "tie", inputs=at(1.0, 2.0, 2.0, 0.5))
def tie_in_max(x):
    return x.max()


@wrong(
    "kink at input 0 (x) index (0, 2)", "INCONCLUSIVE", "0 below and 1 above", "Move the point",
    inputs=at([1.0, -2.0, 0.0]),
)
def relu_at_zero(x):
    return F.relu(x)


@wrong("kink", "(1,)", inputs=at(1.0, 0.0))
def absolute_at_zero(x):
    return x.abs()  # the central difference is 0, as is the gradient: still nothing is proved


class MatMul(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a @ b


@wrong("input 1 (b)", "transposed", inputs=(point(4, 4), point(4, 4)))
class TransposedGradient(MatMul):
    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return grad @ b.t(), (a.t() @ grad).t()


@wrong("input 0 (a)", "transposed", "reshape", inputs=(point(3, 4), point(4, 5)))
class ReshapedForTransposed(MatMul):
    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return (b @ grad.t()).reshape(3, 4), a.t() @ grad


@wrong("wrong shape", "[4, 3]", "[3, 4]", inputs=(point(3, 4), point(4, 5)))
class WrongShape(MatMul):
    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return (grad @ b.t()).t(), a.t() @ grad


@wrong("flipped", "axis 1", inputs=point(3, 5))
class FlipForgotten(Function):
    @staticmethod
    def forward(ctx, x):
        return x.flip(1) * tinynet.arange(5, dtype=tinynet.float64)

    @staticmethod
    def backward(ctx, grad):
        return grad * tinynet.arange(5, dtype=tinynet.float64)


@wrong("swapped", "input 1 (b)", inputs=(point(3, 4), point(3, 4)))
class Swapped(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return grad * a, grad * b


@wrong("empty", inputs=tinynet.zeros(0, 3, dtype=tinynet.float64, requires_grad=True))
def empty_input(x):
    return x * 2


@wrong("empty", inputs=())
def no_inputs():
    return tinynet.ones(1)


@wrong("nan", "index (1,)", inputs=at(1.0, float("nan")))
def nan_input(x):
    return x * 2


@wrong("inf", "the output", inputs=at(1.0, 0.0))
def infinite_output(x):
    return x.log()


@wrong("the gradient of input 0 (x) is", "inf at index (1,)", inputs=at(1.0, 0.0))
def infinite_gradient(x):
    return x.sqrt()


@wrong("input 1 (b)", "nothing reaches this input", "None", inputs=(point(3), point(3)))
class NoneGradient(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[1], None


@wrong("input 1 (b)", "nothing reaches this input", inputs=(point(3), point(3)))
def detached_factor(a, b):
    return a * b.detach()


@wrong("input 0 (x)", "nothing reaches this input", inputs=point(3))
def all_detached(x):
    return x.detach() * 2


@wrong("input 1 (unused)", "INCONCLUSIVE", "is it used?", inputs=(point(3), point(3)))
def unused_input(x, unused):
    return x * 2


@wrong("overlapping", "clone", inputs=point(1, 4).detach().expand(3, 4).requires_grad_())
def zero_stride_input(x):
    return x * 2


_BUFFER = point(6).detach()


@wrong("share", "clone", inputs=(_BUFFER[:4].requires_grad_(), _BUFFER[2:].requires_grad_()))
def overlapping_inputs(a, b):
    return a * b


@wrong("INCONCLUSIVE", "zero everywhere", inputs=point(2, 3, 4, 4))
def batch_norm_under_sum(x):
    return F.batch_norm(x, None, None, training=True).sum()


@wrong("INCONCLUSIVE", "zero everywhere", inputs=point(2, 3))
def times_zero(x):
    return x * 0


@wrong("do not change with this input", inputs=point(5, scale=0.1))
class StraightThrough(Function):
    @staticmethod
    def forward(ctx, x):
        return (x > 0).double() * 2

    @staticmethod
    def backward(ctx, grad):
        return grad


@wrong("integer", "constants", inputs=(tinynet.tensor([1, 2]), tinynet.tensor([True])))
def integers_only(x, mask):
    return x * 2.0


@wrong("requires grad", inputs=constant(3))
def nothing_requires_grad(x):
    return x * 2


@wrong("border", "(2, 3)", "zero there", inputs=point(1, 2, 5, 6))
class CropForgotten(Function):
    @staticmethod
    def forward(ctx, x):
        return x * 3

    @staticmethod
    def backward(ctx, grad):
        return F.pad(grad[:, :, 1:-1, 1:-1] * 3, (1, 1, 1, 1))


@wrong("shifted", "axis 3", inputs=point(1, 1, 5, 8))
class PaddingOffset(Function):
    @staticmethod
    def forward(ctx, x):
        return F.pad(x, (1, 1)) * 2

    @staticmethod
    def backward(ctx, grad):
        return grad[..., 2:] * 2  # the crop starts one too late


@wrong("stride ignored on axis 1", inputs=point(3, 9))
class StrideIgnored(Function):
    @staticmethod
    def forward(ctx, x):
        return x[:, ::2] * 2

    @staticmethod
    def backward(ctx, grad):
        return F.pad(grad * 2, (0, 4))


@wrong("input 0 (x)", "stride ignored on axis 3", inputs=(point(1, 2, 7, 9), point(3, 2, 3, 3)))
class ConvolutionStrideIgnored(Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, stride=(2, 2))

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        spread = F.conv_transpose2d(grad, weight, stride=(2, 1))  # 7 rows, but 6 columns
        x2 = x.detach().requires_grad_()
        w2 = weight.detach().requires_grad_()
        with tinynet.enable_grad():
            F.conv2d(x2, w2, stride=(2, 2)).backward(grad)
        return F.pad(spread, (0, 3)), w2.grad


def normalise(x):
    centred = x - x.mean((0, 2, 3), keepdim=True)
    deviation = (centred * centred).mean((0, 2, 3), keepdim=True).sqrt()
    return centred / deviation, deviation


class BatchNorm(Function):
    @staticmethod
    def forward(ctx, x):
        normalised, deviation = normalise(x)
        ctx.save_for_backward(normalised, deviation)
        return normalised


@wrong("mean's gradient dropped", "(0, 2, 3)", inputs=point(2, 3, 3, 3))
class BatchNormMeanDropped(BatchNorm):
    @staticmethod
    def backward(ctx, grad):
        normalised, deviation = ctx.saved_tensors
        share = (grad * normalised).mean((0, 2, 3), keepdim=True)
        return (grad - normalised * share) / deviation


@wrong("variance's gradient dropped", "(0, 2, 3)", inputs=point(2, 3, 3, 3))
class BatchNormVarianceDropped(BatchNorm):
    @staticmethod
    def backward(ctx, grad):
        deviation = ctx.saved_tensors[1]
        return (grad - grad.mean((0, 2, 3), keepdim=True)) / deviation


@wrong("softmax", "axes (1,)", inputs=point(4, 5))
class SoftmaxSumDropped(Function):
    @staticmethod
    def forward(ctx, x):
        y = F.softmax(x, 1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return y * grad


@wrong("skip connection", inputs=point(4, 5))
class SkipDropped(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x + x.exp()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x.exp()


@wrong("axes (1,)", "per-index factor", inputs=point(4, 3, 5))
class ChannelWeightForgotten(Function):
    @staticmethod
    def forward(ctx, x):
        return x * tinynet.tensor([0.5, 2.0, 3.0], dtype=tinynet.float64)[None, :, None]

    @staticmethod
    def backward(ctx, grad):
        return grad


@wrong("overwritten instead of added", inputs=point(5))
class GatherOverwrites(Function):
    @staticmethod
    def forward(ctx, x):
        return x[tinynet.tensor([0, 3, 3, 4, 1, 2])]

    @staticmethod
    def backward(ctx, grad):
        return grad[tinynet.tensor([0, 4, 5, 2, 3])]


@wrong("along axis 1", "every 2", inputs=point(4, 8))
class EverySecondColumn(Square):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        gradient = (2 * x * grad).clone()
        gradient[:, 1::2] = gradient[:, 1::2] * x[:, 1::2]
        return gradient


@wrong("not a tensor", "float", inputs=point(3))
def returns_a_number(x):
    return float(x.sum().item())


@wrong("output 1", "not a tensor", inputs=point(3))
def returns_an_array(x):
    return x * 2, x.detach().numpy() * 2


@wrong("backward raised ZeroDivisionError", inputs=point(3))
class RaisesInBackward(Square):
    @staticmethod
    def backward(ctx, grad):
        return grad * (1 / 0)


@wrong("output 1", "wrong sign", inputs=point(4))
class SecondOutputWrong(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 1.0, x * x

    @staticmethod
    def backward(ctx, first, second):
        return first - 2 * ctx.saved_tensors[0] * second
