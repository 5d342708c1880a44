"""Elementwise arithmetic. Operands arrive with one dtype (see tinynet.dtypes); shapes broadcast."""

from __future__ import annotations

import numpy as np

from ..kernels.addition import add, add_into
from ..tape import Operation
from .broadcasting import check_broadcast, sum_to


class Add(Operation):
    """a + b; with ``out``, which is a itself, written there."""

    name = "add"

    @staticmethod
    def forward(ctx, a, b, out=None):
        if a.shape != b.shape:
            check_broadcast("add", a, b)
            ctx.save(shapes=(a.shape, b.shape))
        return add(a, b) if out is None else add_into(out, b)

    @staticmethod
    def backward(ctx, grad):
        if ctx.saved is None:  # nothing was broadcast
            return grad, grad
        first, second = ctx.shapes
        return sum_to(grad, first), sum_to(grad, second)


class Subtract(Operation):
    """a - b; with ``out``, written there."""

    name = "sub"

    @staticmethod
    def forward(ctx, a, b, out=None):
        check_broadcast("sub", a, b)
        ctx.save(shapes=(a.shape, b.shape))
        return np.subtract(a, b, out=out)

    @staticmethod
    def backward(ctx, grad):
        first, second = ctx.shapes
        needs_first, needs_second = ctx.needs_input_grad
        return (
            sum_to(grad, first) if needs_first else None,
            sum_to(-grad, second) if needs_second else None,
        )


class Multiply(Operation):
    """a · b. Each factor is kept only if the other needs a gradient."""

    name = "mul"

    @staticmethod
    def forward(ctx, a, b):
        check_broadcast("mul", a, b)
        needs_a, needs_b = ctx.needs_input_grad[:2]
        ctx.save(a=a if needs_b else None, b=b if needs_a else None, shapes=(a.shape, b.shape))
        return np.multiply(a, b)

    @staticmethod
    def backward(ctx, grad):
        first, second = ctx.shapes
        return (
            None if ctx.b is None else sum_to(grad * ctx.b, first),
            None if ctx.a is None else sum_to(grad * ctx.a, second),
        )


class Divide(Operation):
    """a / b."""

    name = "div"

    @staticmethod
    def forward(ctx, a, b):
        check_broadcast("div", a, b)
        ctx.save(a=a if ctx.needs_input_grad[1] else None, b=b, shapes=(a.shape, b.shape))
        return np.divide(a, b)

    @staticmethod
    def backward(ctx, grad):
        first, second = ctx.shapes
        needs_a, needs_b = ctx.needs_input_grad
        share = grad / ctx.b
        return (
            sum_to(share, first) if needs_a else None,
            sum_to(-share * (ctx.a / ctx.b), second) if needs_b else None,
        )


class Power(Operation):
    """a ** b. The gradient in b at a = 0 is 0 for b >= 0, as in torch."""

    name = "pow"

    @staticmethod
    def forward(ctx, a, b):
        check_broadcast("pow", a, b)
        out = np.power(a, b)
        ctx.save(a=a, b=b, out=out if ctx.needs_input_grad[1] else None)
        return out

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.a, ctx.b
        needs_a, needs_b = ctx.needs_input_grad
        grad_a = grad_b = None
        if needs_a:
            grad_a = sum_to(np.where(b == 0, 0, grad * b * np.power(a, b - 1)).astype(grad.dtype), a.shape)
        if needs_b:
            slope = np.where((a == 0) & (b >= 0), 0, ctx.out * np.log(a))
            grad_b = sum_to((grad * slope).astype(grad.dtype), b.shape)
        return grad_a, grad_b


class Negative(Operation):
    """-x."""

    name = "neg"

    @staticmethod
    def forward(ctx, x):
        return np.negative(x)

    @staticmethod
    def backward(ctx, grad):
        return -grad


class Absolute(Operation):
    """|x|, with gradient 0 at 0 and at NaN, as in torch."""

    name = "abs"

    @staticmethod
    def forward(ctx, x):
        ctx.save(input=x)
        return np.absolute(x)

    @staticmethod
    def backward(ctx, grad):
        return grad * np.where(np.isnan(ctx.input), ctx.input.dtype.type(0), np.sign(ctx.input))


class Exp(Operation):
    """e to the x."""

    name = "exp"

    @staticmethod
    def forward(ctx, x):
        out = np.exp(x)
        ctx.save(output=out)
        return out

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.output


class Log(Operation):
    """The natural logarithm: -inf at 0, NaN below."""

    name = "log"

    @staticmethod
    def forward(ctx, x):
        ctx.save(input=x)
        return np.log(x)

    @staticmethod
    def backward(ctx, grad):
        return grad / ctx.input


class Sqrt(Operation):
    """The square root: NaN below 0, an infinite gradient at 0."""

    name = "sqrt"

    @staticmethod
    def forward(ctx, x):
        out = np.sqrt(x)
        ctx.save(output=out)
        return out

    @staticmethod
    def backward(ctx, grad):
        return grad / (2 * ctx.output)


class Sin(Operation):
    """The sine, x in radians."""

    name = "sin"

    @staticmethod
    def forward(ctx, x):
        ctx.save(input=x)
        return np.sin(x)

    @staticmethod
    def backward(ctx, grad):
        return grad * np.cos(ctx.input)


class Cos(Operation):
    """The cosine, x in radians."""

    name = "cos"

    @staticmethod
    def forward(ctx, x):
        ctx.save(input=x)
        return np.cos(x)

    @staticmethod
    def backward(ctx, grad):
        return -grad * np.sin(ctx.input)


class _Extremum(Operation):
    """The larger or smaller of a and b.

    As in torch, each takes half of the gradient where they are equal, and both take it whole beside a NaN.
    """

    choose: np.ufunc
    loses: np.ufunc

    @classmethod
    def select(cls, ctx, a, b):
        check_broadcast(cls.name, a, b)
        ctx.save(a=a, b=b)
        return cls.choose(a, b)

    @classmethod
    def share(cls, ctx, grad):
        a, b = ctx.a, ctx.b
        shared = np.where(a == b, grad / 2, grad)
        zero = grad.dtype.type(0)
        needs_a, needs_b = ctx.needs_input_grad
        return (
            sum_to(np.where(cls.loses(a, b), zero, shared), a.shape) if needs_a else None,
            sum_to(np.where(cls.loses(b, a), zero, shared), b.shape) if needs_b else None,
        )


class Maximum(_Extremum):
    name = "maximum"
    choose, loses = np.maximum, np.less

    @staticmethod
    def forward(ctx, a, b):
        return Maximum.select(ctx, a, b)

    @staticmethod
    def backward(ctx, grad):
        return Maximum.share(ctx, grad)


class Minimum(_Extremum):
    name = "minimum"
    choose, loses = np.minimum, np.greater

    @staticmethod
    def forward(ctx, a, b):
        return Minimum.select(ctx, a, b)

    @staticmethod
    def backward(ctx, grad):
        return Minimum.share(ctx, grad)


class Clamp(Operation):
    """x held between ``min`` and ``max`` (either may be None); the gradient passes on the bounds themselves."""

    name = "clamp"

    @staticmethod
    def forward(ctx, x, min=None, max=None):
        if min is None and max is None:
            raise ValueError("clamp: at least one of min and max must be given")
        ctx.save(input=x, min=min, max=max)
        out = x
        if min is not None:
            out = np.maximum(out, x.dtype.type(min))
        if max is not None:
            out = np.minimum(out, x.dtype.type(max))
        return out

    @staticmethod
    def backward(ctx, grad):
        inside = np.ones(ctx.input.shape, bool)
        if ctx.min is not None:
            inside &= ctx.input >= ctx.min
        if ctx.max is not None:
            inside &= ctx.input <= ctx.max
        return np.where(inside, grad, grad.dtype.type(0))


class Where(Operation):
    """a where the condition holds, b elsewhere."""

    name = "where"

    @staticmethod
    def forward(ctx, condition, a, b):
        check_broadcast("where", condition, a, b)
        ctx.save(condition=condition, shapes=(a.shape, b.shape))
        return np.where(condition, a, b)

    @staticmethod
    def backward(ctx, grad):
        first, second = ctx.shapes
        zero = grad.dtype.type(0)
        return (
            None,
            sum_to(np.where(ctx.condition, grad, zero), first),
            sum_to(np.where(ctx.condition, zero, grad), second),
        )


class StepFunction(Operation):
    """sign, floor, ceil, round: flat wherever they have a gradient, so it is zero everywhere, as in torch."""

    name = "step_function"

    @staticmethod
    def forward(ctx, x, function):
        return np.asarray(function(x), x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return np.zeros_like(grad)


class Cast(Operation):
    """The same values in another dtype."""

    name = "to"

    @staticmethod
    def forward(ctx, x, dtype):
        return x.astype(dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad  # the tape casts it to the input's dtype


class Clone(Operation):
    """A copy without gaps, its axes in the same order in memory ("K") or row-major ("C")."""

    name = "clone"

    @staticmethod
    def forward(ctx, x, order="K"):
        return x.copy(order)

    @staticmethod
    def backward(ctx, grad):
        return grad
