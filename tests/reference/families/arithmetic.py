"""Elementwise operations: broadcasting, scalars, ties, special values, in-place forms, comparison."""

from __future__ import annotations

from tests.reference.cases import Case, boolean, fixed, integers, normal, positive, rounded

PAIRS = [
    ((3, 4), (3, 4)),
    ((3, 1), (1, 5)),
    ((2, 3, 4), (4,)),
    ((), (3,)),
    ((0, 3), (1, 3)),
    ((1,), (5, 1)),
    ((2, 1, 3), (4, 1)),
    ((), ()),
]
SHAPES = [(3, 5), (7,), (), (0, 4), (1, 9, 9)]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, float("nan"), float("inf"), float("-inf"), 1e-30, 3.0]

BINARY = {
    "add": lambda lib, F, x, y: x + y,
    "sub": lambda lib, F, x, y: x - y,
    "mul": lambda lib, F, x, y: x * y,
    "maximum": lambda lib, F, x, y: lib.maximum(x, y),
    "minimum": lambda lib, F, x, y: lib.minimum(x, y),
}
UNARY = {
    "neg": lambda lib, F, x: -x,
    "exp": lambda lib, F, x: lib.exp(x),
    "tanh": lambda lib, F, x: lib.tanh(x),
    "sigmoid": lambda lib, F, x: lib.sigmoid(x),
    "relu": lambda lib, F, x: lib.relu(x),
    "abs": lambda lib, F, x: lib.abs(x),
    "square": lambda lib, F, x: x**2,
    "cube": lambda lib, F, x: x**3,
    "clamp": lambda lib, F, x: lib.clamp(x, -0.5, 0.7),
    "clamp min": lambda lib, F, x: x.clamp(min=0.1),
    "clamp max": lambda lib, F, x: x.clamp(max=0.1),
    "scalars": lambda lib, F, x: (2 - x) * 3 + x / 4 - 1.5,
}
POSITIVE = {
    "log": lambda lib, F, x: lib.log(x),
    "sqrt": lambda lib, F, x: lib.sqrt(x),
    "root": lambda lib, F, x: x**0.5,
    "inverse": lambda lib, F, x: x**-1,
    "power 2.5": lambda lib, F, x: lib.pow(x, 2.5),
    "scalar over": lambda lib, F, x: 2 / x,
    "scalar base": lambda lib, F, x: 2**x,
}


def method(name):
    return lambda lib, F, x: getattr(x, name)()


METHODS = {name: method(name) for name in ("exp", "log", "sqrt", "tanh", "sigmoid", "relu", "abs")}
IN_PLACE = {
    "add_": lambda lib, F, x, y: (x * 1).add_(y),
    "sub_": lambda lib, F, x, y: (x * 1).sub_(y),
    "mul_": lambda lib, F, x, y: (x * 1).mul_(y),
    "div_": lambda lib, F, x, y: (x * 1).div_(y),
    "copy_": lambda lib, F, x, y: (x * 1).copy_(y),
    "fill_": lambda lib, F, x, y: (x * y).fill_(2.0) * x,
    "zero_": lambda lib, F, x, y: (x * y).zero_() + y * 1,
    "clamp_": lambda lib, F, x, y: (x + y).clamp_(-0.5, 0.5),
}


def increment(lib, F, x, y):
    z = x * 1
    z += y
    z -= 0.5
    z *= y
    z /= 3
    return z


def comparisons(lib, F, x, y):
    return (x < y, x <= y, x > y, x >= y, x == y, x != y)


def tenths(lib, F, x):
    """0.1 is not a float32 number: a float64 tensor must take it in full precision, in every way there is."""
    z = x * 1
    z[0] = 0.1
    results = [z, x + 0.1, 0.1 - x, x * 0.1, x / 0.1, (x * x + 1) ** 0.1, 0.1**x, x.clamp(max=0.1)]
    results += [getattr(x * 1, name)(0.1) for name in ("add_", "sub_", "mul_", "div_", "fill_")]
    results += [lib.where(x > 0, x, 0.1), x.masked_fill(x > 0, 0.1), lib.full_like(x, 0.1), x == 0.1]
    return (*results, lib.tensor([0.1], dtype=x.dtype), lib.as_tensor([0.1], dtype=x.dtype))


CASES = [
    Case("scalars in full precision", tenths, (normal(5),)),
    Case(
        "floor division",
        lambda lib, F, i, x: (i // 2, i % 3, -i % 3, x // 0.5, x % 0.3),
        (integers(-9, 9, 7), normal(5).constant()),
    ),
    *[
        Case(f"{name} {a} {b}", function, (normal(*a), normal(*b)))
        for name, function in BINARY.items()
        for a, b in PAIRS
    ],
    *[Case(f"div {a} {b}", lambda lib, F, x, y: x / y, (normal(*a), positive(*b))) for a, b in PAIRS],
    *[Case(f"pow {a} {b}", lambda lib, F, x, y: x**y, (positive(*a), normal(*b))) for a, b in PAIRS[:5]],
    *[Case(f"{name} {s}", function, (normal(*s),)) for name, function in UNARY.items() for s in SHAPES],
    *[Case(f"{name} {s}", function, (positive(*s),)) for name, function in POSITIVE.items() for s in SHAPES],
    *[Case(f"method {name}", function, (positive(4, 3),)) for name, function in METHODS.items()],
    *[Case(f"special {name}", function, (fixed(SPECIAL),)) for name, function in UNARY.items()],
    *[Case(f"special {name}", POSITIVE[name], (fixed(SPECIAL),)) for name in ("log", "sqrt", "inverse", "scalar base")],
    *[Case(f"transposed {name}", function, (normal(3, 4, 2).lying("transposed"),)) for name, function in UNARY.items()],
    *[
        Case(f"layouts {name}", function, (normal(3, 4).lying("transposed"), normal(3, 4).lying("strided")))
        for name, function in BINARY.items()
    ],
    *[Case(f"in-place {name}", function, (normal(3, 4), positive(3, 4))) for name, function in IN_PLACE.items()],
    Case("in-place operators", increment, (normal(3, 4), positive(4))),
    Case("ties of maximum", lambda lib, F, x, y: lib.maximum(x, y), (rounded(6, 5), rounded(6, 5))),
    Case("ties of minimum", lambda lib, F, x, y: lib.minimum(x, y), (rounded(6, 5), rounded(6, 5))),
    Case("NaN in maximum", lambda lib, F, x, y: lib.maximum(x, y), (fixed(SPECIAL), normal(10))),
    Case("boundaries of clamp", lambda lib, F, x: x.clamp(-1, 1), (rounded(6, 5),)),
    Case("relu and abs at 0", lambda lib, F, x: x.relu() + x.abs(), (rounded(6, 5),)),
    Case("power 0", lambda lib, F, x: x**0, (rounded(6),)),
    Case("power 1", lambda lib, F, x: x**1, (rounded(6),)),
    Case("square at 0", lambda lib, F, x: x**2, (rounded(6),)),
    Case("tensor powers at 0", lambda lib, F, x, y: x**y, (rounded(12, low=0), rounded(12, low=0))),
    Case("same tensor twice", lambda lib, F, x: x * x + x, (normal(4, 3),)),
    *[
        Case(f"method {name}", method(name), (normal(4, 3),))
        for name in ("sin", "cos", "sign", "floor", "ceil", "round")
    ],
    *[Case(f"method {name}", method(name), (positive(4, 3),)) for name in ("rsqrt", "reciprocal", "square", "neg")],
    Case("tests for NaN", lambda lib, F, x: (x.isnan(), x.isinf(), x.isfinite(), lib.isnan(x)), (fixed(SPECIAL),)),
    Case(
        "method forms",
        lambda lib, F, x, y: (x.add(y, alpha=3), x.sub(y, alpha=0.5), x.mul(y), x.div(y), x.pow(2), lib.add(x, y)),
        (normal(4, 3), positive(3)),
    ),
    Case(
        "closeness",
        lambda lib, F, x, y: (x.isclose(y), lib.allclose(x, x), lib.equal(x, y), x.eq(y), x.lt(0.5)),
        (rounded(4, 3), rounded(3)),
    ),
    Case("clamp by tensors", lambda lib, F, x, y: x.clamp(min=y), (normal(4, 3), normal(3))),
    Case("clamp of integers", lambda lib, F, i: (i.clamp(-2, 3), i.clamp(min=0)), (integers(-9, 9, 7),)),
    Case(
        "logical functions",
        lambda lib, F, a, b: (a ^ b, lib.logical_and(a, b), lib.logical_or(a, b), lib.logical_not(a)),
        (boolean(3, 4), boolean(4)),
    ),
    Case("used by many", lambda lib, F, x: sum(x * k for k in range(1, 6)), (normal(4, 3),)),
    Case("expanded", lambda lib, F, x, y: x.expand(4, 3) * y, (normal(1, 3), normal(4, 3))),
    Case("comparisons", comparisons, (rounded(6, 5), rounded(5))),
    Case(
        "comparison with scalars",
        lambda lib, F, x: (x < 1, x >= 0, x > -1.5, x == 2, x != -1),
        (rounded(6, 5),),
    ),
    Case("comparison of NaN", lambda lib, F, x: (x == x, x != x, x < 1, x >= 1), (fixed(SPECIAL),)),
    Case("where", lambda lib, F, c, x, y: lib.where(c, x, y), (boolean(3, 4), normal(3, 4), normal(3, 4))),
    Case(
        "where broadcast",
        lambda lib, F, c, x, y: lib.where(c, x, y),
        (boolean(3, 1), normal(4), normal(2, 1, 1)),
    ),
    Case("where scalar", lambda lib, F, c, x: lib.where(c, x, 0.0), (boolean(3, 4), normal(3, 4))),
    Case("where of a comparison", lambda lib, F, x, y: lib.where(x > y, x, y), (normal(3, 4), normal(4))),
    Case(
        "integers",
        lambda lib, F, i, j: (i + j, i - j, i * j, i / j, i < j, i**2),
        (integers(-9, 9, 4, 3), integers(1, 9, 3)),
    ),
    Case("integer and floating", lambda lib, F, i, x: i * x + i, (integers(-9, 9, 4, 3), normal(3))),
    Case(
        "integer and scalar",
        lambda lib, F, i: (i * 2, i * 0.5, i + 1.0, i / 2, 1 - i, 1.5 - i),
        (integers(-9, 9, 4, 3),),
    ),
    Case(
        "integer functions",
        lambda lib, F, i: (lib.exp(i), lib.sqrt(i), lib.abs(-i), i.sigmoid()),
        (integers(0, 5, 4),),
    ),
    Case("logical", lambda lib, F, a, b: (a & b, a | b, ~a), (boolean(3, 4), boolean(4))),
    Case("detached", lambda lib, F, x, y: x * y.detach() + x.detach() * 2 + y, (normal(3), normal(3))),
    Case("casts", lambda lib, F, x: (x.double() * 2, x.float() * 3, x.to(lib.float64) - 1), (normal(3, 2),)),
]
