"""The digits: the fixed split, the scaling, the items."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import tinynet
from tinynet.data import Digits
from tinynet.errors import DataError


def test_the_split_is_fixed_and_disjoint() -> None:
    from sklearn.datasets import load_digits

    train, held_out = Digits(train=True), Digits(train=False)
    assert (len(train), len(held_out)) == (1437, 360)
    order = np.random.RandomState(0).permutation(1797)
    assert not set(order[:1437]) & set(order[1437:])
    digits = load_digits()
    assert np.array_equal(train.images[:, 0, ::2, ::2], digits.images[order[:1437]])
    assert np.array_equal(held_out.images[:, 0, 1::2, 1::2], digits.images[order[1437:]])
    assert np.array_equal(held_out.labels, digits.target[order[1437:]])
    assert np.array_equal(Digits(train=False).images, held_out.images)


def test_items_are_standardised_images_and_labels() -> None:
    train, held_out = Digits(train=True), Digits(train=False)
    image, label = train[3]
    assert image.shape == (1, 16, 16) and image.dtype == tinynet.float32 and label == int(train.labels[3])
    images = np.stack([train[i][0].numpy() for i in range(len(train))])
    assert abs(images.mean()) < 1e-4 and abs(images.std() - 1) < 1e-4
    assert (train.mean, train.std) == (held_out.mean, held_out.std)
    assert np.isclose(train.background, images.min())


def test_without_scikit_learn_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match="scikit-learn"):
        Digits()
