"""Reading and writing by index: slices, steps, None, Ellipsis, integer and boolean arrays, and mixtures."""

from __future__ import annotations

from tests.reference.cases import Case, boolean, integers, normal

X = (4, 5, 6)

BASIC = {
    "[1]": lambda lib, F, x: x[1],
    "[-1]": lambda lib, F, x: x[-1],
    "[1, 2, 3]": lambda lib, F, x: x[1, 2, 3],
    "[1:3]": lambda lib, F, x: x[1:3],
    "[::2]": lambda lib, F, x: x[::2],
    "[1::3, :-1]": lambda lib, F, x: x[1::3, :-1],
    "[-3:-1, -2:]": lambda lib, F, x: x[-3:-1, -2:],
    "[:, 2]": lambda lib, F, x: x[:, 2],
    "[..., 1]": lambda lib, F, x: x[..., 1],
    "[1, ..., 2:4]": lambda lib, F, x: x[1, ..., 2:4],
    "[None]": lambda lib, F, x: x[None],
    "[:, None, 1]": lambda lib, F, x: x[:, None, 1],
    "[..., None]": lambda lib, F, x: x[..., None],
    "[...]": lambda lib, F, x: x[...],
    "[2:2]": lambda lib, F, x: x[2:2],
    "[10:]": lambda lib, F, x: x[10:],
    "[1][2]": lambda lib, F, x: x[1][2],
}
ADVANCED = {
    "list": lambda lib, F, x: x[[0, 2]],
    "list with repetition": lambda lib, F, x: x[[0, 2, 0, 0]],
    "negative list": lambda lib, F, x: x[[-1, 0, -4]],
    "two lists": lambda lib, F, x: x[[0, 1, 3], [2, 2, 4]],
    "lists apart": lambda lib, F, x: x[[0, 1], :, [2, 3]],
    "list after a slice": lambda lib, F, x: x[:, [1, 1, 4]],
    "list at the end": lambda lib, F, x: x[..., [5, 0]],
    "list and integer": lambda lib, F, x: x[[0, 1], 2],
    "integer, slice, list": lambda lib, F, x: x[1, :, [0, 2]],
    "slice, list, integer": lambda lib, F, x: x[1:3, [0, 2], 1],
    "list and None": lambda lib, F, x: x[:, None, [0, 2, 2]],
    "boolean rows": lambda lib, F, x: x[lib.tensor([True, False, True, True])],
    "boolean nothing": lambda lib, F, x: x[lib.tensor([False] * 4)],
    "boolean list": lambda lib, F, x: x[[True, False, False, True]],
    "boolean and slice": lambda lib, F, x: x[lib.tensor([True, False, True, True]), 1:3],
    "slice and boolean": lambda lib, F, x: x[:, lib.tensor([True, False, True, True, False])],
    "numpy array": lambda lib, F, x: x[lib.tensor([[0, 1], [3, 3]]).numpy()],
    "zero-dimensional index": lambda lib, F, x: x[lib.tensor(2)],
    "integer range": lambda lib, F, x: x[lib.arange(4), lib.arange(4)],
    "index_select": lambda lib, F, x: lib.index_select(x, 1, lib.tensor([0, 3, 3])),
}


def written(index_and_value):
    """Assigning into a copy: gradient to what is kept and to what is put there."""

    def function(lib, F, x, v):
        z = x * 1
        index_and_value(lib, z, v)
        return z * 2

    return function


def at(*index):
    def assign(lib, z, v):
        z[index if len(index) > 1 else index[0]] = v

    return assign


def where_negative(lib, z, v):
    z[z < 0] = 0.5
    z[0] = v


def by_tensor(lib, z, v):
    z[:, lib.tensor([1, 3])] = v


WRITTEN = {
    "row": (at(1), (5, 6)),
    "broadcast": (at(slice(1, 3)), (6,)),
    "element": (at(1, 2, 3), ()),
    "step": (at(Ellipsis, slice(None, None, 2)), (5, 3)),
    "list": (at([0, 2]), (2, 5, 6)),
    "by tensor": (by_tensor, (4, 2, 6)),
    "mask, then row": (where_negative, (5, 6)),
}

CASES = [
    *[Case(name, function, (normal(*X),)) for name, function in BASIC.items()],
    *[Case(name, function, (normal(*X),)) for name, function in ADVANCED.items()],
    *[Case(f"transposed {name}", function, (normal(*X).lying("transposed"),)) for name, function in ADVANCED.items()],
    *[Case(f"write {name}", written(assign), (normal(*X), normal(*s))) for name, (assign, s) in WRITTEN.items()],
    Case("tensor", lambda lib, F, x, i: x[i], (normal(*X), integers(0, 4, 3))),
    Case("two-dimensional tensor", lambda lib, F, x, i: x[i], (normal(*X), integers(-4, 4, 3, 2))),
    Case(
        "two tensors broadcast",
        lambda lib, F, x, i, j: x[i, j],
        (normal(*X), integers(0, 4, 3, 1), integers(0, 5, 2)),
    ),
    Case(
        "slice and tensors",
        lambda lib, F, x, i, j: x[:, i, j],
        (normal(*X), integers(0, 5, 7), integers(0, 6, 7)),
    ),
    Case("tensor and slice with step", lambda lib, F, x, i: x[i, ::2, 1:], (normal(*X), integers(0, 4, 9))),
    Case("empty tensor", lambda lib, F, x, i: x[i], (normal(*X), integers(0, 1, 0))),
    Case("whole mask", lambda lib, F, x, b: x[b], (normal(*X), boolean(*X))),
    Case("mask of two dimensions", lambda lib, F, x, b: x[b], (normal(*X), boolean(4, 5))),
    Case("mask at the end", lambda lib, F, x, b: x[1, b], (normal(*X), boolean(5, 6))),
    Case("mask of a comparison", lambda lib, F, x: x[x > 0] ** 2, (normal(*X),)),
    Case("empty batch", lambda lib, F, x: x[:, 1:, 0], (normal(0, 3, 2),)),
    Case("label per row", lambda lib, F, x, i: x[lib.arange(5), i], (normal(5, 3), integers(0, 3, 5))),
    Case("gather", lambda lib, F, x, i: x.gather(1, i), (normal(4, 5), integers(0, 5, 4, 3))),
    Case("masked_fill", lambda lib, F, x, b: x.masked_fill(b, -1.0), (normal(4, 5), boolean(4, 5))),
]
