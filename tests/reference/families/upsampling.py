"""interpolate: nearest, nearest-exact and bilinear, by size and by scale."""

from __future__ import annotations

from tests.reference.cases import Case, normal

SIZES = [
    ((2, 3, 4, 5), (8, 10)),
    ((2, 3, 4, 5), (7, 9)),
    ((1, 2, 7, 6), (14, 13)),
    ((1, 2, 5, 5), 5),
    ((1, 2, 9, 8), (4, 3)),
    ((1, 1, 1, 1), (3, 4)),
    ((1, 2, 3, 7), (10, 11)),
    ((0, 2, 3, 4), (6, 8)),
    ((2, 1, 4, 3), (1, 1)),
    ((1, 1, 41, 37), (82, 73)),
]
SCALES = [2, 2.0, (2.0, 3.0), 1.5, 0.5, (0.7, 1.3), 2.6, 1.0]
MODES = {
    "nearest": {"mode": "nearest"},
    "nearest-exact": {"mode": "nearest-exact"},
    "bilinear": {"mode": "bilinear"},
    "bilinear align_corners=False": {"mode": "bilinear", "align_corners": False},
    "bilinear align_corners=True": {"mode": "bilinear", "align_corners": True},
}


def to_size(size, settings):
    return lambda lib, F, x: F.interpolate(x, size=size, **settings)


def by_scale(scale, settings):
    return lambda lib, F, x: F.interpolate(x, scale_factor=scale, **settings)


CASES = [
    *[Case(f"{m} {s} to {z}", to_size(z, k), (normal(*s),)) for m, k in MODES.items() for s, z in SIZES],
    *[Case(f"{m} by {z}", by_scale(z, k), (normal(2, 3, 5, 7),)) for m, k in MODES.items() for z in SCALES],
    *[
        Case(
            f"{m} by 2.3 recomputed",
            lambda lib, F, x, k=k: F.interpolate(x, scale_factor=2.3, recompute_scale_factor=True, **k),
            (normal(1, 2, 5, 7),),
        )
        for m, k in MODES.items()
    ],
    *[
        Case(
            f"{m} of a transposed input",
            lambda lib, F, x, k=k: F.interpolate(x.transpose(1, 3), scale_factor=2, **k),
            (normal(2, 4, 5, 3),),
        )
        for m, k in MODES.items()
    ],
    Case("default mode", lambda lib, F, x: F.interpolate(x, (3, 9)), (normal(1, 2, 5, 4),)),
    Case(
        "top-down addition",
        lambda lib, F, x, y: F.interpolate(x, size=y.shape[-2:]) + y,
        (normal(1, 2, 3, 4), normal(1, 2, 5, 7)),
    ),
]
