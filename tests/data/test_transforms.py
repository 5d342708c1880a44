"""Augmentation: exact special cases, bounds, and the seed."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tinynet import Tensor
from tinynet.data import Compose, RandomAffine, RandomHorizontalFlip, RandomShift

TRANSFORMS = [
    RandomHorizontalFlip(),
    RandomShift(2, fill=-1.0),
    RandomAffine(degrees=15, translate=2, scale=0.2, shear=10, fill=-1.0),
]


@pytest.fixture
def batch() -> Tensor:
    return tinynet.randn(16, 2, 9, 12)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("dtype", [tinynet.float32, tinynet.float64])
def test_seeded_and_pure(transform, dtype, batch: Tensor) -> None:
    batch = batch.to(dtype)
    before = batch.numpy().copy()
    tinynet.manual_seed(5)
    first, second = transform(batch), transform(batch)
    tinynet.manual_seed(5)
    again = transform(batch)
    assert np.array_equal(first.numpy(), again.numpy())
    assert not np.array_equal(first.numpy(), second.numpy())
    assert np.array_equal(batch.numpy(), before)
    assert first.shape == batch.shape and first.dtype == dtype


def test_own_generator_leaves_the_default_one_alone(batch: Tensor) -> None:
    state = tinynet.get_rng_state().numpy().copy()
    RandomAffine(degrees=5, generator=tinynet.Generator().manual_seed(1))(batch)
    assert np.array_equal(tinynet.get_rng_state().numpy(), state)


def test_flip(batch: Tensor) -> None:
    assert np.array_equal(RandomHorizontalFlip(1.0)(batch).numpy(), batch.numpy()[..., ::-1])
    assert np.array_equal(RandomHorizontalFlip(0.0)(batch).numpy(), batch.numpy())
    half = RandomHorizontalFlip()(batch).numpy()
    for image, original in zip(half, batch.numpy()):
        assert np.array_equal(image, original) or np.array_equal(image, original[..., ::-1])


def test_shift_is_a_crop_of_the_padded_image() -> None:
    image = np.arange(1.0, 13.0).reshape(1, 1, 3, 4)
    batch = tinynet.from_numpy(np.repeat(image, 200, axis=0))
    padded = np.pad(image[0, 0], 1, constant_values=-7)
    windows = {padded[y : y + 3, x : x + 4].tobytes() for y in range(3) for x in range(3)}
    assert {window.tobytes() for window in RandomShift(1, fill=-7)(batch).numpy()[:, 0]} == windows
    assert np.array_equal(RandomShift(0)(batch).numpy(), batch.numpy())


def test_affine_without_amounts_is_the_identity(batch: Tensor) -> None:
    assert np.allclose(RandomAffine(fill=3)(batch).numpy(), batch.numpy(), atol=1e-6)


class FixedDraws(RandomAffine):
    """Every amount at its largest, as if each random number were 1."""

    def __call__(self, batch: Tensor) -> Tensor:
        images = batch.numpy()
        inverse, shift = self._inverse_maps(np.ones((6, len(images)), images.dtype))
        from tinynet.data.transforms import _sample

        return tinynet.from_numpy(_sample(images, inverse, shift, self.fill))


def test_affine_turns_moves_and_scales_about_the_centre() -> None:
    image = np.random.default_rng(0).standard_normal((1, 1, 7, 7))
    batch = tinynet.from_numpy(image)
    turned = FixedDraws(degrees=90)(batch).numpy()
    assert any(np.allclose(turned[0, 0], np.rot90(image[0, 0], k), atol=1e-9) for k in (1, 3))
    moved = FixedDraws(translate=2, fill=9)(batch).numpy()[0, 0]
    assert np.allclose(moved[2:, 2:], image[0, 0, :-2, :-2]) and np.allclose(moved[:2], 9)
    ramp = tinynet.from_numpy(np.linspace(-3, 3, 7)[np.newaxis, np.newaxis, np.newaxis].repeat(7, axis=2))
    grown = FixedDraws(scale=0.5)(ramp).numpy()[0, 0]
    assert np.allclose(grown[3], np.linspace(-2, 2, 7))
    slanted = FixedDraws(shear=45)(ramp).numpy()[0, 0]
    assert np.allclose(slanted[:, 3], np.linspace(-3, 3, 7))


def test_affine_stays_within_the_values(batch: Tensor) -> None:
    result = TRANSFORMS[2](batch).numpy()
    assert result.min() >= min(batch.numpy().min(), -1.0) - 1e-5 and result.max() <= batch.numpy().max() + 1e-5


def test_compose_and_empty_batches(batch: Tensor) -> None:
    tinynet.manual_seed(1)
    both = Compose(TRANSFORMS)(batch)
    tinynet.manual_seed(1)
    step = batch
    for transform in TRANSFORMS:
        step = transform(step)
    assert np.array_equal(both.numpy(), step.numpy())
    assert Compose(TRANSFORMS)(batch[:0]).shape == (0, 2, 9, 12)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
def test_other_input_is_refused(transform) -> None:
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        transform(tinynet.zeros(3, 9, 9))
    with pytest.raises(ValueError, match="int64"):
        transform(tinynet.zeros(1, 1, 9, 9, dtype=tinynet.int64))


def test_scale_must_leave_something() -> None:
    with pytest.raises(ValueError, match="scale"):
        RandomAffine(scale=1.0)
