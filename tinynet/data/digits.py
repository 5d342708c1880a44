"""The handwritten digits that come with scikit-learn (UCI "Optical Recognition of Handwritten Digits")."""

from __future__ import annotations

import numpy as np

from tinynet.data.images import ImageDataset
from tinynet.errors import DataError

TRAIN_SIZE = 1437  # of 1,797; the other 360 are held out


class Digits(ImageDataset):
    """1,797 handwritten digits, 8×8 with 17 grey levels, shown as 1×16×16 (each pixel four times).

    The split is fixed: `numpy.random.RandomState(0).permutation`, the first 1,437 to train, 360 held out.
    Standardised with the training part's mean and deviation. Nothing is downloaded.

    Raises:
        DataError: scikit-learn is not installed.
    """

    def __init__(self, train: bool = True) -> None:
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise DataError(f"the digits come with scikit-learn, which cannot be imported: {error}") from error
        digits = load_digits()
        order = np.random.RandomState(0).permutation(len(digits.target))
        images = digits.images.astype(np.float32).repeat(2, axis=1).repeat(2, axis=2)[:, np.newaxis]
        training = images[order[:TRAIN_SIZE]]
        chosen = order[:TRAIN_SIZE] if train else order[TRAIN_SIZE:]
        classes = [str(digit) for digit in range(10)]
        super().__init__(images[chosen], digits.target[chosen], classes, training.mean(), training.std())
