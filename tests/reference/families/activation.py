"""Activations of nn.functional."""

from __future__ import annotations

from tests.reference.cases import Case, fixed, normal, rounded

SPECIAL = fixed([0.0, -0.0, 6.0, -1.0, 1.0, float("nan"), float("inf"), float("-inf"), 3.0])
ELEMENTWISE = {
    "relu": lambda lib, F, x: F.relu(x),
    "relu6": lambda lib, F, x: F.relu6(x),
    "hardtanh": lambda lib, F, x: F.hardtanh(x),
    "hardtanh -0.5 2": lambda lib, F, x: F.hardtanh(x, min_val=-0.5, max_val=2.0),
    "sigmoid": lambda lib, F, x: F.sigmoid(x),
    "tanh": lambda lib, F, x: F.tanh(x),
}
SHAPES = [(2, 3, 5, 7), (3,), (), (0, 3, 2, 2), (1, 1)]
BY_DIMENSION = {
    "softmax": lambda F: F.softmax,
    "log_softmax": lambda F: F.log_softmax,
}

CASES = [
    *[
        Case(f"{name} {s}", function, (normal(*s, scale=3.0),))
        for name, function in ELEMENTWISE.items()
        for s in SHAPES
    ],
    *[
        # torch's gradient of hardtanh at NaN depends on the position in the vector register
        Case(f"special {name}", f, (SPECIAL.constant() if name.startswith(("hardtanh", "relu6")) else SPECIAL,))
        for name, f in ELEMENTWISE.items()
    ],
    *[Case(f"boundaries {name}", f, (rounded(8, 5, low=-2, high=8),)) for name, f in ELEMENTWISE.items()],
    *[
        Case(f"transposed {name}", function, (normal(3, 4, 5).lying("transposed"),))
        for name, function in ELEMENTWISE.items()
    ],
    *[
        Case(f"{name} dim={d} {s}", lambda lib, F, x, f=function, d=d: f(F)(x, dim=d), (normal(*s, scale=3.0),))
        for name, function in BY_DIMENSION.items()
        for d, s in (
            (1, (4, 7)),
            (0, (4, 7)),
            (-1, (2, 3, 5)),
            (1, (2, 3, 5, 2)),
            (0, (5,)),
            (1, (0, 3)),
            (1, (3, 1)),
        )
    ],
    *[
        Case(f"{name} of ±1e4", lambda lib, F, x, f=function: f(F)(x * 1e4, dim=1), (rounded(6, 5),))
        for name, function in BY_DIMENSION.items()
    ],
    *[
        Case(
            f"{name} with -inf",
            lambda lib, F, x, f=function: f(F)(x, dim=0),
            (fixed([0.5, float("-inf"), 1.0]),),
        )
        for name, function in BY_DIMENSION.items()
    ],
    Case("softmax method", lambda lib, F, x: x.softmax(1), (normal(3, 4),)),
    Case("log_softmax method", lambda lib, F, x: x.log_softmax(dim=-1), (normal(3, 4),)),
    Case("relu in place", lambda lib, F, x: F.relu(x * 2, inplace=True), (normal(3, 4),)),
    Case("dropout in evaluation", lambda lib, F, x: F.dropout(x, 0.5, training=False), (normal(3, 4),)),
    Case("dropout of everything", lambda lib, F, x: F.dropout(x, 1.0), (normal(3, 4),)),
    Case("dropout of nothing", lambda lib, F, x: F.dropout(x, 0.0), (normal(3, 4),)),
]
