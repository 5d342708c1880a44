"""batch_norm in training and evaluation, group_norm."""

from __future__ import annotations

from tests.reference.cases import Case, fixed, normal, positive

SHAPES = [(4, 3), (2, 3, 5), (2, 3, 5, 4), (1, 3, 7, 7), (8, 5, 1, 1), (2, 1, 3, 3)]


def training(lib, F, x, w, b, mean, var):
    """Running statistics are results too."""
    y = F.batch_norm(x, mean, var, w, b, training=True, momentum=0.3)
    return {"y": y, "running mean": mean, "running var": var}


def evaluation(lib, F, x, w, b, mean, var):
    return F.batch_norm(x, mean, var, w, b, eps=1e-3)


def parameters(channels):
    statistics = (normal(channels).constant(), positive(channels).constant())
    return (positive(channels), normal(channels), *statistics)


CASES = [
    *[Case(f"batch_norm training {s}", training, (normal(*s), *parameters(s[1]))) for s in SHAPES],
    *[Case(f"batch_norm evaluation {s}", evaluation, (normal(*s), *parameters(s[1]))) for s in SHAPES],
    Case("batch_norm evaluation of nothing", evaluation, (normal(0, 3, 4, 4), *parameters(3))),
    Case("batch_norm transposed", training, (normal(4, 3, 6, 5).lying("transposed"), *parameters(3))),
    Case(
        "batch_norm of a permuted input",
        lambda lib, F, x, w: F.batch_norm(x.permute(0, 3, 1, 2), None, None, w, training=True),
        (normal(2, 5, 4, 3), positive(3)),
    ),
    Case(
        "batch_norm without parameters",
        lambda lib, F, x: F.batch_norm(x, None, None, training=True),
        (normal(4, 3, 5, 5),),
    ),
    Case(
        "batch_norm without bias",
        lambda lib, F, x, w: F.batch_norm(x, None, None, weight=w, training=True),
        (normal(4, 3, 5, 5), normal(3)),
    ),
    Case(
        "batch_norm evaluation without parameters",
        lambda lib, F, x, mean, var: F.batch_norm(x, mean, var),
        (normal(4, 3, 5, 5), normal(3).constant(), positive(3).constant()),
    ),
    Case(
        "batch_norm far from 0",
        lambda lib, F, x: F.batch_norm(x + 100, None, None, training=True),
        (normal(4, 3, 5, 5),),
    ),
    Case(
        "batch_norm of a constant channel",
        training,
        (fixed([[[2.0] * 6, [1, 2, 3, 4, 5, 6]]] * 2), *parameters(2)),
    ),
    Case("batch_norm NaN", training, (fixed([[[2.0, float("nan")], [1, 2]]] * 2), *parameters(2))),
    Case("batch_norm large", training, (normal(4, 16, 9, 9), *parameters(16))),
    *[
        Case(
            f"group_norm {g} {s}",
            lambda lib, F, x, w, b, g=g: F.group_norm(x, g, w, b),
            (normal(*s), positive(s[1]), normal(s[1])),
        )
        for g, s in (
            (2, (3, 4, 5, 3)),
            (1, (2, 4, 3)),
            (4, (2, 4, 3, 3)),
            (3, (1, 6, 2, 5)),
            (2, (5, 6)),
            (2, (0, 4, 3, 3)),
        )
    ],
    Case("group_norm without parameters", lambda lib, F, x: F.group_norm(x, 2, eps=1e-3), (normal(3, 4, 5, 3),)),
    Case(
        "group_norm of a transposed input",
        lambda lib, F, x: F.group_norm(x.transpose(1, 2), 2),
        (normal(3, 5, 4, 3),),
    ),
]
