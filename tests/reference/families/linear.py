"""Matrix products of every shape, and the linear layer."""

from __future__ import annotations

from tests.reference.cases import Case, integers, normal

PRODUCTS = [
    ((3, 4), (4, 5)),
    ((4,), (4,)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((2, 3, 4), (4,)),
    ((4,), (2, 4, 5)),
    ((0, 4), (4, 5)),
    ((3, 0), (0, 5)),
    ((1, 1), (1, 1)),
    ((0, 3, 4), (4, 2)),
    ((65, 33), (33, 17)),
]

CASES = [
    *[Case(f"matmul {a} {b}", lambda lib, F, x, y: x @ y, (normal(*a), normal(*b))) for a, b in PRODUCTS],
    Case("matmul function", lambda lib, F, x, y: lib.matmul(x, y), (normal(3, 4), normal(4, 2))),
    Case("matmul method", lambda lib, F, x, y: x.matmul(y), (normal(3, 4), normal(4, 2))),
    Case("matmul transposed", lambda lib, F, x, y: x.T @ y.T, (normal(4, 3), normal(2, 4))),
    Case(
        "matmul layouts",
        lambda lib, F, x, y: x @ y,
        (normal(3, 4).lying("transposed"), normal(4, 6).lying("strided")),
    ),
    Case("matmul expanded", lambda lib, F, x, y: x.expand(3, 4) @ y, (normal(1, 4), normal(4, 2))),
    Case("mm", lambda lib, F, x, y: (x.mm(y), lib.mm(x, y)), (normal(3, 4), normal(4, 2))),
    Case("bmm", lambda lib, F, x, y: (x.bmm(y), lib.bmm(x, y)), (normal(2, 3, 4), normal(2, 4, 2))),
    Case("dot", lambda lib, F, x, y: x.dot(y), (normal(4), normal(4))),
    Case("integers", lambda lib, F, i, j: i @ j, (integers(-9, 9, 3, 4), integers(-9, 9, 4, 2))),
    Case("gram matrix", lambda lib, F, x: x @ x.T, (normal(4, 3),)),
    Case("chain", lambda lib, F, x, y, z: (x @ y).relu() @ z, (normal(3, 4), normal(4, 5), normal(5, 2))),
    *[
        Case(f"linear {s}", lambda lib, F, x, w, b: F.linear(x, w, b), (normal(*s), normal(5, 4), normal(5)))
        for s in ((3, 4), (4,), (2, 3, 4), (0, 4), (1, 4))
    ],
    Case("linear without bias", lambda lib, F, x, w: F.linear(x, w), (normal(3, 4), normal(5, 4))),
    Case(
        "linear large",
        lambda lib, F, x, w, b: F.linear(x, w, b),
        (normal(33, 65), normal(17, 65), normal(17)),
    ),
    Case(
        "linear of a transposed",
        lambda lib, F, x, w, b: F.linear(x.transpose(0, 1), w, b),
        (normal(4, 3), normal(5, 4).lying("transposed"), normal(5)),
    ),
]
