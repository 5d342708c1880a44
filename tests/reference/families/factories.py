"""Tensors made from nothing: values and dtypes."""

from __future__ import annotations

from tests.reference.cases import Case, normal

CASES = [
    Case(
        "tensor",
        lambda lib, F: (
            lib.tensor(1),
            lib.tensor(1.5),
            lib.tensor([1, 2]),
            lib.tensor([[1.0, 2], [3, 4]]),
            lib.tensor(True),
            lib.tensor([]),
        ),
    ),
    Case(
        "tensor with dtype",
        lambda lib, F: (
            lib.tensor([1, 2], dtype=lib.float64),
            lib.tensor([1.7, 2], dtype=lib.int64),
            lib.tensor([0, 1], dtype=lib.bool),
        ),
    ),
    Case(
        "zeros and ones",
        lambda lib, F: (
            lib.zeros(2, 3),
            lib.zeros((2, 3)),
            lib.ones(2, dtype=lib.int64),
            lib.ones([1, 2]),
            lib.zeros(0, 3),
            lib.ones(()),
        ),
    ),
    Case(
        "full",
        lambda lib, F: (
            lib.full((2, 3), 1.5),
            lib.full((2,), 3),
            lib.full((2,), 3, dtype=lib.float32),
            lib.full((), True),
        ),
    ),
    Case(
        "arange",
        lambda lib, F: (
            lib.arange(5),
            lib.arange(2, 7),
            lib.arange(1, 9, 3),
            lib.arange(0.0, 1, 0.25),
            lib.arange(5, 0, -2),
            lib.arange(3.5),
            lib.arange(3, dtype=lib.float64),
        ),
    ),
    Case(
        "like",
        lambda lib, F, x: (
            lib.zeros_like(x),
            lib.ones_like(x),
            lib.full_like(x, 2),
            lib.ones_like(x, dtype=lib.int64),
        ),
        (normal(2, 3),),
    ),
    Case(
        "from_numpy and as_tensor",
        lambda lib, F, x: (
            lib.from_numpy(x.detach().numpy()),
            lib.as_tensor(x.detach().numpy()),
            lib.as_tensor(x.detach()),
            lib.as_tensor([1, 2]),
        ),
        (normal(2, 3),),
    ),
    Case("eye", lambda lib, F: (lib.eye(3), lib.eye(2, 3))),
    Case("linspace", lambda lib, F: (lib.linspace(0, 1, 5), lib.linspace(-1, 1, 4))),
    Case(
        "casts",
        lambda lib, F: (
            lib.tensor([1.7, -1.7, 0]).long(),
            lib.tensor([1.7, 0]).bool(),
            lib.tensor([1, 2]).float(),
            lib.tensor([1]).double(),
            lib.tensor([1.5]).to(lib.int64),
        ),
    ),
    Case(
        "sizes",
        lambda lib, F, x: (
            lib.tensor(x.numel()),
            lib.tensor(list(x.shape)),
            lib.tensor(x.dim()),
            lib.tensor(x.size(0)),
            lib.tensor(x.ndim),
        ),
        (normal(2, 3),),
    ),
]
