"""Shapes, joins and padding: what they refuse, in the user's own numbers."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tinynet.errors import ShapeError

X = tinynet.arange(6).reshape(2, 3).float()

REFUSED = {
    "reshape": (lambda: X.reshape(4, 2), r"2, 3.*4, 2"),
    "reshape -1": (lambda: X.reshape(4, -1), r"2, 3.*4, -1"),
    "reshape two -1": (lambda: X.reshape(-1, -1), "-1"),
    "view": (lambda: X.view(5), "6.*5"),
    "view of a transposed": (lambda: X.T.view(6), "reshape"),
    "expand": (lambda: X.expand(4, 3), r"2, 3.*4, 3"),
    "expand to fewer": (lambda: X.expand(3), r"3.*2, 3"),
    "permute": (lambda: X.permute(0, 0), "0, 0"),
    "permute too few": (lambda: X.permute(0), "2"),
    "cat": (lambda: tinynet.cat([X, tinynet.ones(2, 4)]), r"2, 4.*2, 3"),
    "cat of ranks": (lambda: tinynet.cat([X, tinynet.ones(3)]), r"3.*2, 3"),
    "stack": (lambda: tinynet.stack([X, tinynet.ones(3, 2)]), r"3, 2.*2, 3|2, 3.*3, 2"),
    "split": (lambda: X.split([1, 1], dim=1), "2.*3"),
    "split by 0": (lambda: X.split(0), "0"),
    "chunk": (lambda: X.chunk(0), "0"),
    "pad": (lambda: tinynet.nn.functional.pad(X, (1, 1, 1)), "1, 1, 1"),
    "pad of too many": (lambda: tinynet.nn.functional.pad(X, (1, 1) * 3), "2"),
    "pad to less than nothing": (lambda: tinynet.nn.functional.pad(X, (-2, -2)), "3"),
    "t": (lambda: tinynet.ones(2, 3, 4).t(), r"2, 3, 4"),
    "narrow": (lambda: X.narrow(1, 2, 2), "3"),
    "gather": (lambda: X.gather(0, tinynet.tensor([0])), r"2, 3"),
    "setitem": (lambda: X.clone().__setitem__(0, tinynet.ones(2)), r"2.*3"),
}
OUT_OF_RANGE = {
    "transpose": lambda: X.transpose(0, 2),
    "unsqueeze": lambda: X.unsqueeze(3),
    "squeeze": lambda: X.squeeze(2),
    "flatten": lambda: X.flatten(2),
    "cat": lambda: tinynet.cat([X, X], 2),
    "stack": lambda: tinynet.stack([X, X], 3),
    "split": lambda: X.split(1, 2),
    "flip": lambda: X.flip(2),
    "gather": lambda: X.gather(1, tinynet.tensor([[3]])),
    "index_select": lambda: X.index_select(1, tinynet.tensor([3])),
    "index": lambda: X[2],
    "index list": lambda: X[[0, 2]],
    "too many indices": lambda: X[0, 0, 0],
    "mask": lambda: X[tinynet.tensor([True, False, True])],
    "floating index": lambda: X[tinynet.tensor([0.0])],
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused_with_the_numbers(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(ShapeError, match=message):
        call()


@pytest.mark.parametrize("name", sorted(OUT_OF_RANGE))
def test_out_of_range(name: str) -> None:
    with pytest.raises(IndexError, match=r"\d|index"):
        OUT_OF_RANGE[name]()


def test_cat_of_nothing() -> None:
    with pytest.raises((ValueError, RuntimeError)):
        tinynet.cat([])
    with pytest.raises((ValueError, RuntimeError)):
        tinynet.stack([])


def test_cat_gives_each_part_its_own_gradient() -> None:
    x = tinynet.ones(2, requires_grad=True)
    y = tinynet.ones(3, requires_grad=True)
    tinynet.cat([x, y, x]).backward(tinynet.arange(7).float())
    assert x.grad.tolist() == [5.0, 7.0] and y.grad.tolist() == [2.0, 3.0, 4.0]
    x.grad.zero_()
    assert y.grad.tolist() == [2.0, 3.0, 4.0]


def test_slices_of_one_tensor_add_into_one_gradient() -> None:
    x = tinynet.zeros(4, requires_grad=True)
    first, second = x.split(2)
    (first * 2).sum().backward()
    (second * 3).sum().backward()
    (x[1:3] * 10).sum().backward()
    assert x.grad.tolist() == [2.0, 12.0, 13.0, 3.0]


def test_expanded_gradients_are_summed() -> None:
    x = tinynet.ones(1, 2, requires_grad=True)
    x.expand(3, 4, 2).sum().backward()
    assert x.grad.tolist() == [[12.0, 12.0]]


def test_mask_selects_in_row_major_order() -> None:
    mask = tinynet.tensor([[True, False, True], [False, True, False]])
    assert X[mask].tolist() == [0.0, 2.0, 4.0]
    y = X.clone()
    y[mask] = tinynet.tensor([10.0, 20.0, 30.0])
    assert y.tolist() == [[10.0, 1.0, 20.0], [3.0, 30.0, 5.0]]


def test_a_failed_write_changes_nothing() -> None:
    x = X.clone()
    with pytest.raises(ShapeError):
        x[:, :2] = tinynet.ones(3, 2)
    assert x.equal(X) and x._version == 0


def test_an_index_array_changed_before_backward() -> None:
    """The gradient goes where the values came from."""
    index = np.array([0, 0, 1])
    x = tinynet.ones(2, requires_grad=True)
    y = x[index]
    index[:] = 1
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 1.0]


def test_an_index_tensor_changed_in_place() -> None:
    x, index = tinynet.ones(2, requires_grad=True), tinynet.tensor([0, 0, 1])
    y = x[index]
    index.fill_(1)
    try:
        y.sum().backward()
    except RuntimeError as error:
        assert "in place" in str(error)
    else:
        assert x.grad.tolist() == [2.0, 1.0]
