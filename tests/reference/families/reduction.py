"""Sums, means, variances, extremes, order."""

from __future__ import annotations

from tests.reference.cases import Case, boolean, fixed, integers, normal, rounded

AXES = [None, 0, -1, (0, 2), (1,), (-1, 0), (0, 1, 2)]


def reduce(name: str, **settings):
    return lambda lib, F, x: getattr(x, name)(**{k: v for k, v in settings.items() if v is not None})


REDUCTIONS = [
    Case(f"{name} dim={axis} keepdim={keep}", reduce(name, dim=axis, keepdim=keep), (normal(3, 4, 5),))
    for name in ("sum", "mean", "var", "std")
    for axis in AXES
    for keep in ((False, True) if axis is not None else (None,))
]
EXTREMES = [
    Case(f"{name} dim={axis} keepdim={keep}", reduce(name, dim=axis, keepdim=keep), (normal(3, 4, 5),))
    for name in ("max", "min", "argmax", "argmin")
    for axis in (None, 0, 1, -1)
    for keep in ((False, True) if axis is not None else (None,))
]
SHAPES = [(1, 1), (1,), (7, 3), ()]

CASES = [
    *REDUCTIONS,
    *EXTREMES,
    *[Case(f"{name} of {s}", reduce(name), (normal(*s),)) for name in ("sum", "mean", "max", "min") for s in SHAPES],
    *[Case(f"{name} of nothing", reduce(name), (normal(0, 3),)) for name in ("sum", "mean")],
    *[Case(f"{name} over nothing", reduce(name, dim=0), (normal(0, 3),)) for name in ("sum", "mean")],
    *[
        Case(f"{name} of an empty batch", reduce(name, dim=1), (normal(0, 3),))
        for name in ("sum", "mean", "var", "max")
    ],
    *[
        Case(f"{name} correction {c}", reduce(name, correction=c), (normal(3, 7),))
        for name in ("var", "std")
        for c in (0, 1, 2)
    ],
    *[Case(f"{name} biased", reduce(name, dim=1, unbiased=False), (normal(3, 7),)) for name in ("var", "std")],
    *[
        Case(f"{name} transposed", reduce(name, dim=1), (normal(3, 7).lying("transposed"),))
        for name in ("sum", "var", "max")
    ],
    *[
        Case(f"{name} strided", reduce(name, dim=0), (normal(3, 7).lying("strided"),))
        for name in ("mean", "std", "min")
    ],
    *[
        Case(
            f"{name} expanded",
            lambda lib, F, x, name=name: getattr(x.expand(4, 3, 5), name)(),
            (normal(3, 1),),
        )
        for name in ("sum", "mean", "var")
    ],
    *[Case(f"ties of {name}", reduce(name), (rounded(6, 5),)) for name in ("max", "min")],
    *[Case(f"NaN in {name}", reduce(name), (fixed([1.0, float("nan"), 3.0]),)) for name in ("sum", "max", "min")],
    *[
        Case(
            f"NaN in {name} over a dimension",
            reduce(name, dim=1),
            (fixed([[1.0, float("nan"), 3.0], [1, 2, 3]]),),
        )
        for name in ("max", "min")
    ],
    Case(
        "functions",
        lambda lib, F, x: (
            lib.sum(x),
            lib.mean(x, 1),
            lib.var(x, 0),
            lib.std(x),
            lib.max(x),
            lib.argmax(x, 1),
        ),
        (normal(4, 5),),
    ),
    Case(
        "positional",
        lambda lib, F, x: (x.sum(1), x.mean((0, 2), True), x.max(1)[0], x.argmax(-1, True)),
        (normal(3, 4, 5),),
    ),
    Case("fields of max", lambda lib, F, x: (x.max(dim=1).values, x.min(dim=0).indices), (normal(4, 5),)),
    Case(
        "sum of integers",
        lambda lib, F, i: (i.sum(), i.sum(0), i.max(), i.argmax(), i.max(dim=1).indices),
        (integers(0, 99, 1, 5),),
    ),
    Case("sum of booleans", lambda lib, F, b: (b.sum(), b.sum(1), b.any(), b.all()), (boolean(4, 5),)),
    Case("sum to a dtype", lambda lib, F, x: x.sum(dtype=lib.float64), (normal(4, 5),)),
    Case("large sum", reduce("sum"), (normal(64, 33, 5),)),
    Case("large mean", reduce("mean", dim=(0, 2)), (normal(64, 33, 5),)),
    Case("large var", reduce("var", dim=(0, 2)), (normal(64, 33, 5),)),
    *[
        Case(f"topk {k} dim={d}", lambda lib, F, x, k=k, d=d: lib.topk(x, k, dim=d), (normal(4, 7),))
        for k, d in ((3, 1), (1, 0), (4, -2), (7, -1))
    ],
    Case("topk smallest", lambda lib, F, x: x.topk(2, largest=False), (normal(4, 7),)),
    Case("topk default", lambda lib, F, x: x.topk(3).values, (normal(9),)),
    *[
        Case(
            f"sort dim={d} descending={r}",
            lambda lib, F, x, d=d, r=r: lib.sort(x, dim=d, descending=r),
            (normal(4, 7),),
        )
        for d in (0, -1)
        for r in (False, True)
    ],
    Case("sort default", lambda lib, F, x: x.sort(), (normal(9),)),
    Case("stable sort", lambda lib, F, x: x.sort(stable=True), (rounded(4, 9),)),
    Case(
        "sort with NaN",
        lambda lib, F, x: (*x.sort(stable=True), *x.sort(descending=True, stable=True)),
        (fixed([1.0, float("nan"), -2.0, float("inf")]),),
    ),
    *[
        Case(f"{name} over some", reduce(name, dim=(0, 2), keepdim=True), (rounded(3, 4, 2),))
        for name in ("amax", "amin")
    ],
    *[Case(f"cumsum dim={d}", lambda lib, F, x, d=d: x.cumsum(d), (normal(3, 4, 2),)) for d in (0, -1)],
    *[
        Case(f"norm {p} dim={d}", lambda lib, F, x, p=p, d=d: x.norm(p, dim=d), (normal(3, 4),))
        for p in (2, 1, float("inf"))
        for d in (None, 1)
    ],
    Case("norm at 0", lambda lib, F, x: (x * 0).norm(), (normal(3),)),
    Case(
        "any and all",
        lambda lib, F, b: (b.any(0), b.all(1), b.any(1, keepdim=True), lib.any(b), lib.all(b)),
        (boolean(3, 4),),
    ),
    Case(
        "counting",
        lambda lib, F, i: (i.unique(), i.bincount(), lib.bincount(i, minlength=9), i.nonzero(), (i > 2).nonzero()),
        (integers(0, 6, 12),),
    ),
    Case("argsort", lambda lib, F, x: (x.argsort(), x.argsort(dim=0, descending=True)), (normal(4, 7),)),
]
