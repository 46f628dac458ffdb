import numpy as np
import pytest
from numpy.typing import NDArray

from stages.augment import affine_maps, augmented, sampled, smooth_noise
from stages.params import Augment
from stages.runtime import keras, tf

NONE = Augment(shift=0, rotation=0, shear=0, scale=0, elastic=0)
IMAGES = np.random.default_rng(0).random((4, 28, 28), np.float32)


def changed(images: NDArray[np.float32], *, seed: int = 0, **ranges: float) -> NDArray[np.float32]:
    changed = augmented(tf.constant(images), NONE.model_copy(update=ranges), seed=tf.constant([0, seed]))
    return np.asarray(changed, np.float32)


def maps(count: int, **ranges: float) -> NDArray[np.float32]:
    return np.asarray(affine_maps(tf.constant(count), NONE.model_copy(update=ranges), seed=tf.constant([0, 0])))


def test_ranges_of_zero_leave_the_images_unchanged() -> None:
    np.testing.assert_array_equal(changed(IMAGES), IMAGES)
    np.testing.assert_array_equal(maps(1), [[1, 0, 0, 0, 1, 0]])


def test_every_image_is_changed_differently_and_the_seed_alone_decides_how() -> None:
    four = np.stack([IMAGES[0]] * 4)
    first, same, other = (
        changed(four, seed=seed, shift=2.0, rotation=10.0, shear=10.0, scale=0.1, elastic=1.0) for seed in (0, 0, 1)
    )
    assert len({image.tobytes() for image in first}) == 4
    np.testing.assert_array_equal(same, first)
    assert (other != first).any()
    assert first.shape == IMAGES.shape
    assert first.min() >= 0
    assert first.max() <= 1


def test_a_shift_moves_by_at_most_its_range_of_pixels() -> None:
    right_and_down = -maps(1_000, shift=2.0)[:, [2, 5]]
    assert np.abs(right_and_down).max() <= 2
    assert np.abs(right_and_down).max() > 1.95
    assert abs(right_and_down.mean()) < 0.1


def test_a_shift_keeps_the_ink() -> None:
    image = np.zeros((50, 28, 28), np.float32)
    image[:, 12:16, 12:16] = 1
    np.testing.assert_allclose(changed(image, shift=3.0).sum(axis=(1, 2)), 16, rtol=1e-4)


@pytest.mark.parametrize("ranges", [{"rotation": 30.0}, {"shear": 20.0}, {"scale": 0.3}])
def test_the_centre_does_not_move(ranges: dict[str, float]) -> None:
    a, b, c, d, e, f = maps(100, **ranges).T
    np.testing.assert_allclose(a * 13.5 + b * 13.5 + c, 13.5, atol=1e-4)
    np.testing.assert_allclose(d * 13.5 + e * 13.5 + f, 13.5, atol=1e-4)


def test_a_rotation_keeps_lengths_and_its_range() -> None:
    a, b, _, d, e, *_ = maps(1_000, rotation=30.0).T
    np.testing.assert_allclose(a * e - b * d, 1, atol=1e-5)
    np.testing.assert_allclose([a, b], [e, -d], atol=1e-6)
    angles = np.degrees(np.arctan2(d, a))
    assert 29 < np.abs(angles).max() <= 30.001


def test_a_shear_slants_and_keeps_areas() -> None:
    a, b, _, d, e, *_ = maps(1_000, shear=20.0).T
    np.testing.assert_allclose([a, e], 1, atol=1e-6)
    np.testing.assert_allclose(d, 0, atol=1e-6)
    assert 19 < np.degrees(np.arctan(np.abs(b))).max() <= 20.001


def test_a_scale_is_up_to_its_fraction_larger_or_smaller() -> None:
    a, b, _, d, e, *_ = maps(1_000, scale=0.2).T
    np.testing.assert_array_equal([b, d], 0)
    for size in (1 / a, 1 / e):
        assert 0.8 <= size.min() < 0.81
        assert 1.19 < size.max() <= 1.2001


def test_pixels_between_pixels_are_interpolated_and_those_outside_are_background() -> None:
    rng = np.random.default_rng(0)
    right, down = rng.uniform(-40, 70, (2, 4, 28, 28)).astype(np.float32)
    expected = [
        keras.ops.image.map_coordinates(np.pad(image, 1), [rows + 1, columns + 1], order=1, fill_mode="constant")
        for image, rows, columns in zip(IMAGES, down, right, strict=True)
    ]
    np.testing.assert_allclose(sampled(tf.constant(IMAGES), right, down), expected, atol=2e-3)
    on_pixels = np.meshgrid(*[np.arange(28, dtype=np.float32)] * 2)
    np.testing.assert_array_equal(
        sampled(tf.constant(IMAGES), *(np.tile(grid, (4, 1, 1)) for grid in on_pixels)), IMAGES
    )


def test_the_noise_of_an_elastic_deformation_is_smooth_with_variance_1() -> None:
    noise = np.asarray(smooth_noise(tf.constant(1_000), seed=tf.constant([0, 0])))
    assert noise.shape == (1_000, 28, 28)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.15)
    np.testing.assert_allclose((noise**2).mean(axis=0), 1, atol=0.25)
    # Neighbours of a Gaussian-smoothed field correlate as exp(-(distance / (2 sigma))^2).
    across, along = noise[:, 14, 10:18], noise[:, 10:18, 14]
    for row in (across, along):
        assert (row[:, 0] * row[:, 4]).mean() == pytest.approx(np.exp(-((4 / 8) ** 2)), abs=0.1)


def test_an_elastic_deformation_bends_lines_smoothly() -> None:
    lines = np.zeros((200, 28, 28), np.float32)
    lines[:, :, 13:15] = 1
    bent = changed(lines, elastic=1.5)[:, 6:22]  # further out, ink comes from beyond the image
    columns = (bent * np.arange(28)).sum(axis=2) / bent.sum(axis=2)  # where each row's ink is
    assert 1.0 < (columns - 13.5).std() < 2.0
    assert np.abs(np.diff(columns, axis=1)).mean() < 0.5
