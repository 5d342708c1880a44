"""Losses, with every reduction."""

from __future__ import annotations

from tests.reference.cases import Case, fixed, integers, normal, positive, rounded, uniform

REDUCTIONS = ("mean", "sum", "none")
CLASSES = 5


def labels(*shape):
    return integers(0, CLASSES, *shape)


def partly_ignored(lib, y, ignore=-100):
    """Every third label replaced by `ignore`."""
    z = y.clone().flatten()
    z[::3] = ignore
    return z.reshape(*y.shape)


CROSS_ENTROPY = {
    "plain": {},
    "smoothing": {"label_smoothing": 0.1},
    "ignore": {"ignore_index": 1},
    "ignore and smoothing": {"ignore_index": 1, "label_smoothing": 0.2},
}
SHAPES = {
    "batch": ((6, CLASSES), (6,)),
    "spatial": ((2, CLASSES, 3, 4), (2, 3, 4)),
    "unbatched": ((CLASSES,), ()),
}
PAIRWISE = {
    "mse_loss": lambda F: F.mse_loss,
    "l1_loss": lambda F: F.l1_loss,
    "smooth_l1_loss": lambda F: F.smooth_l1_loss,
}


def cross_entropy(**settings):
    return lambda lib, F, x, y: F.cross_entropy(x, y, **settings)


def weighted_cross_entropy(**settings):
    return lambda lib, F, x, y, w: F.cross_entropy(x, y, weight=w, **settings)


def pairwise(function, **settings):
    return lambda lib, F, x, y: function(F)(x, y, **settings)


CASES = [
    *[
        Case(f"cross_entropy {n} {s} {r}", cross_entropy(reduction=r, **k), (normal(*x, scale=2.0), labels(*y)))
        for n, k in CROSS_ENTROPY.items()
        for s, (x, y) in SHAPES.items()
        for r in REDUCTIONS
    ],
    *[
        Case(
            f"cross_entropy weighted {n} {s} {r}",
            weighted_cross_entropy(reduction=r, **k),
            (normal(*x, scale=2.0), labels(*y), positive(CLASSES).constant()),
        )
        for n, k in CROSS_ENTROPY.items()
        for s, (x, y) in SHAPES.items()
        for r in REDUCTIONS
    ],
    *[
        Case(
            f"cross_entropy with -100 smoothing {e}",
            lambda lib, F, x, y, e=e: F.cross_entropy(x, partly_ignored(lib, y), label_smoothing=e),
            (normal(7, CLASSES), labels(7)),
        )
        for e in (0.0, 0.1)
    ],
    *[
        Case(
            f"cross_entropy all ignored {r}",
            lambda lib, F, x, y, r=r: F.cross_entropy(x, y, ignore_index=1, reduction=r),
            (normal(3, CLASSES), integers(1, 2, 3)),
        )
        for r in REDUCTIONS
    ],
    *[
        Case(f"cross_entropy of nothing {r}", cross_entropy(reduction=r), (normal(0, CLASSES), labels(0)))
        for r in REDUCTIONS
    ],
    *[
        Case(
            f"cross_entropy of probabilities {r} {e}",
            lambda lib, F, x, y, w, r=r, e=e: F.cross_entropy(x, F.softmax(y, 1), w, reduction=r, label_smoothing=e),
            (normal(4, CLASSES, 3), normal(4, CLASSES, 3).constant(), positive(CLASSES).constant()),
        )
        for r in REDUCTIONS
        for e in (0.0, 0.1)
    ],
    Case("cross_entropy of ±1e4", cross_entropy(), (normal(6, CLASSES, scale=1e4), labels(6))),
    Case("cross_entropy one row", cross_entropy(), (normal(1, CLASSES), labels(1))),
    Case("cross_entropy large", cross_entropy(label_smoothing=0.1), (normal(65, 33), integers(0, 33, 65))),
    *[
        Case(
            f"nll_loss {s} {r}",
            lambda lib, F, x, y, w, r=r: F.nll_loss(x, y, weight=w, ignore_index=2, reduction=r),
            (normal(*x), labels(*y), positive(CLASSES).constant()),
        )
        for s, (x, y) in SHAPES.items()
        for r in REDUCTIONS
    ],
    Case(
        "nll_loss of log_softmax",
        lambda lib, F, x, y: F.nll_loss(F.log_softmax(x, 1), y),
        (normal(6, CLASSES), labels(6)),
    ),
    *[
        Case(
            f"binary_cross_entropy_with_logits {s} {r}",
            lambda lib, F, x, y, r=r: F.binary_cross_entropy_with_logits(x, y, reduction=r),
            (normal(*s, scale=3.0), uniform(0, 1, *s).constant()),
        )
        for s in ((6, 3), (7,), (), (1, 2, 3, 4))
        for r in REDUCTIONS
    ],
    *[
        Case(
            f"binary_cross_entropy_with_logits weighted {r}",
            lambda lib, F, x, y, w, p, r=r: F.binary_cross_entropy_with_logits(
                x, y, weight=w, reduction=r, pos_weight=p
            ),
            (normal(6, 3), uniform(0, 1, 6, 3).constant(), positive(6, 1).constant(), positive(3).constant()),
        )
        for r in REDUCTIONS
    ],
    Case(
        "binary_cross_entropy_with_logits of ±1e4",
        lambda lib, F, x, y: F.binary_cross_entropy_with_logits(x, y),
        (fixed([1e4, -1e4, 0.0, 1e4, -1e4]), fixed([1.0, 0.0, 1.0, 0.0, 1.0]).constant()),
    ),
    *[
        Case(f"{n} {s} {r}", pairwise(f, reduction=r), (normal(*s, scale=2.0), normal(*s)))
        for n, f in PAIRWISE.items()
        for s in ((4, 3), (7,), (), (1, 2, 3, 4))
        for r in REDUCTIONS
    ],
    *[Case(f"{n} at ties", pairwise(f), (rounded(8, 4), rounded(8, 4))) for n, f in PAIRWISE.items()],
    *[Case(f"{n} of nothing", pairwise(f, reduction="sum"), (normal(0, 3), normal(0, 3))) for n, f in PAIRWISE.items()],
    *[
        Case(f"{n} transposed", lambda lib, F, x, y, f=f: f(F)(x.T, y.T), (normal(4, 3), normal(4, 3)))
        for n, f in PAIRWISE.items()
    ],
    *[
        Case(
            f"smooth_l1_loss beta {b}",
            pairwise(PAIRWISE["smooth_l1_loss"], beta=b),
            (normal(6, 3), normal(6, 3)),
        )
        for b in (0.3, 2.0, 0.0)
    ],
]
