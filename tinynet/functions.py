"""torch's module-level functions: the Tensor methods of the same names, and those that take several tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .dtypes import promote
from .errors import ShapeError
from .ops import shape
from .tensor import Tensor, apply, where, wrap

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _function(method: _Method) -> _Method:
    """``method`` as a function of ``input`` and its other arguments."""

    @functools.wraps(method)
    def function(input, *args, **kwargs):
        if not isinstance(input, Tensor):
            raise TypeError(f"{method.__name__}: input must be a Tensor, got {type(input).__name__}")
        return method(input, *args, **kwargs)

    return function  # type: ignore[return-value]


abs = _function(Tensor.abs)
add = _function(Tensor.add)
allclose = _function(Tensor.allclose)
amax = _function(Tensor.amax)
amin = _function(Tensor.amin)
any = _function(Tensor.any)
all = _function(Tensor.all)
argmax = _function(Tensor.argmax)
argmin = _function(Tensor.argmin)
argsort = _function(Tensor.argsort)
bincount = _function(Tensor.bincount)
bmm = _function(Tensor.bmm)
broadcast_to = _function(Tensor.broadcast_to)
ceil = _function(Tensor.ceil)
chunk = _function(Tensor.chunk)
clamp = _function(Tensor.clamp)
clip = _function(Tensor.clip)
clone = _function(Tensor.clone)
cos = _function(Tensor.cos)
cumsum = _function(Tensor.cumsum)
detach = _function(Tensor.detach)
div = _function(Tensor.div)
dot = _function(Tensor.dot)
eq = _function(Tensor.eq)
equal = _function(Tensor.equal)
exp = _function(Tensor.exp)
flatten = _function(Tensor.flatten)
flip = _function(Tensor.flip)
floor = _function(Tensor.floor)
gather = _function(Tensor.gather)
ge = _function(Tensor.ge)
gt = _function(Tensor.gt)
index_select = _function(Tensor.index_select)
isclose = _function(Tensor.isclose)
isfinite = _function(Tensor.isfinite)
isinf = _function(Tensor.isinf)
isnan = _function(Tensor.isnan)
le = _function(Tensor.le)
log = _function(Tensor.log)
log_softmax = _function(Tensor.log_softmax)
logical_and = _function(Tensor.logical_and)
logical_not = _function(Tensor.logical_not)
logical_or = _function(Tensor.logical_or)
lt = _function(Tensor.lt)
masked_fill = _function(Tensor.masked_fill)
matmul = _function(Tensor.matmul)
max = _function(Tensor.max)
maximum = _function(Tensor.maximum)
mean = _function(Tensor.mean)
min = _function(Tensor.min)
minimum = _function(Tensor.minimum)
mm = _function(Tensor.mm)
mul = _function(Tensor.mul)
narrow = _function(Tensor.narrow)
ne = _function(Tensor.ne)
neg = _function(Tensor.neg)
nonzero = _function(Tensor.nonzero)
norm = _function(Tensor.norm)
numel = _function(Tensor.numel)
permute = _function(Tensor.permute)
pow = _function(Tensor.pow)
reciprocal = _function(Tensor.reciprocal)
relu = _function(Tensor.relu)
reshape = _function(Tensor.reshape)
round = _function(Tensor.round)
rsqrt = _function(Tensor.rsqrt)
sigmoid = _function(Tensor.sigmoid)
sign = _function(Tensor.sign)
sin = _function(Tensor.sin)
softmax = _function(Tensor.softmax)
sort = _function(Tensor.sort)
split = _function(Tensor.split)
sqrt = _function(Tensor.sqrt)
square = _function(Tensor.square)
squeeze = _function(Tensor.squeeze)
std = _function(Tensor.std)
sub = _function(Tensor.sub)
sum = _function(Tensor.sum)
swapaxes = _function(Tensor.swapaxes)
t = _function(Tensor.t)
tanh = _function(Tensor.tanh)
topk = _function(Tensor.topk)
transpose = _function(Tensor.transpose)
unbind = _function(Tensor.unbind)
unflatten = _function(Tensor.unflatten)
unique = _function(Tensor.unique)
unsqueeze = _function(Tensor.unsqueeze)
var = _function(Tensor.var)


def cat(tensors, dim: int = 0) -> Tensor:
    """Tensors joined along an existing dimension; their dtypes promote."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError("cat: expected at least one tensor")
    return apply(shape.Concatenate, *_one_dtype(tensors), dim=dim)


concat = cat


def stack(tensors, dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError("stack: expected at least one tensor")
    for position, tensor in enumerate(tensors):
        if tensor.shape != tensors[0].shape:
            raise ShapeError(
                f"stack: all tensors need one shape; tensor 0 has {list(tensors[0].shape)}, tensor {position} has "
                f"{list(tensor.shape)}"
            )
    return cat([tensor.unsqueeze(dim) for tensor in tensors], dim)


def _one_dtype(tensors):
    common = tensors[0]._array.dtype
    for tensor in tensors[1:]:
        common = promote(common, tensor._array.dtype)
    return [tensor.to(common) for tensor in tensors]


def broadcast_tensors(*tensors) -> tuple[Tensor, ...]:
    """Views of all tensors in their common shape."""
    common = np.broadcast_shapes(*(tensor._array.shape for tensor in tensors))
    return tuple(tensor.expand(common) for tensor in tensors)


def meshgrid(*tensors, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinate grids of one-dimensional tensors; rows first with "ij", columns first with "xy"."""
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    grids = np.meshgrid(*[tensor._array for tensor in tensors], indexing=indexing)  # type: ignore[call-overload]
    return tuple(wrap(grid.copy()) for grid in grids)


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """All products of two vectors' elements."""
    return input.unsqueeze(1) * vec2.unsqueeze(0)


def is_tensor(obj) -> bool:
    return isinstance(obj, Tensor)


# fmt: off
__all__ = [
    "abs", "add", "all", "allclose", "amax", "amin", "any", "argmax", "argmin", "argsort", "bincount", "bmm",
    "broadcast_tensors", "broadcast_to", "cat", "ceil", "chunk", "clamp", "clip", "clone", "concat", "cos",
    "cumsum", "detach", "div", "dot", "eq", "equal", "exp", "flatten", "flip", "floor", "gather", "ge", "gt",
    "index_select", "is_tensor", "isclose", "isfinite", "isinf", "isnan", "le", "log", "log_softmax",
    "logical_and", "logical_not", "logical_or", "lt", "masked_fill", "matmul", "max", "maximum", "mean",
    "meshgrid", "min", "minimum", "mm", "mul", "narrow", "ne", "neg", "nonzero", "norm", "numel", "outer",
    "permute", "pow", "reciprocal", "relu", "reshape", "round", "rsqrt", "sigmoid", "sign", "sin", "softmax",
    "sort", "split", "sqrt", "square", "squeeze", "stack", "std", "sub", "sum", "swapaxes", "t", "tanh", "topk",
    "transpose", "unbind", "unflatten", "unique", "unsqueeze", "var", "where",
]
# fmt: on
