"""Random changes to training images: shift, rotation, shear, scale and elastic deformation.

Source of the elastic deformation: Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural Networks
Applied to Visual Document Analysis", ICDAR 2003.
"""

from math import pi

import numpy as np

from stages import dataset
from stages.arithmetic import factor, product
from stages.params import Augment
from stages.runtime import tf

SMOOTHNESS = 4.0  # pixels: standard deviation of the Gaussian that smooths an elastic deformation, as in the source

COLUMNS, ROWS = np.meshgrid(np.arange(dataset.SIDE, dtype=np.float32), np.arange(dataset.SIDE, dtype=np.float32))


def augmented(images: tf.Tensor, params: Augment, *, seed: tf.Tensor) -> tf.Tensor:
    """Change each image of a batch (n, 28, 28) at random. The seed, two integers, decides the changes.

    Pixels are interpolated linearly. Pixels from outside the image are background.
    """
    if not any(params.model_dump().values()):
        return images
    count = images.shape[0]
    a, b, c, d, e, f = tf.unstack(affine_maps(count, params, seed=seed)[:, :, tf.newaxis, tf.newaxis], axis=1)
    right, down = a * COLUMNS + b * ROWS + c, d * COLUMNS + e * ROWS + f
    if params.elastic:
        bent = params.elastic * smooth_noise(2 * count, seed=tf.random.fold_in(seed, 1))
        right, down = right + bent[:count], down + bent[count:]
    return sampled(images, right, down)


def affine_maps(count: int, params: Augment, *, seed: tf.Tensor) -> tf.Tensor:
    """Draw maps from output to input pixels, as (count, 6): x' = a x + b y + c, y' = d x + e y + f.

    Shift, rotation, shear and scale are uniform within the ranges of `params`, about the centre of the image.
    """
    uniform = tf.random.stateless_uniform((6, count), seed, -1.0, 1.0)
    right, down = params.shift * uniform[0], params.shift * uniform[1]
    angle = params.rotation * pi / 180 * uniform[2]
    slant = params.shear * pi / 180 * uniform[3]
    slant = tf.sin(slant) / tf.cos(slant)
    wide, high = 1 + params.scale * uniform[4], 1 + params.scale * uniform[5]
    cosine, sine = tf.cos(angle), tf.sin(angle)
    a, b = cosine / wide, (slant * cosine - sine) / high
    d, e = sine / wide, (slant * sine + cosine) / high
    centre = (dataset.SIDE - 1) / 2
    c = centre - a * (centre + right) - b * (centre + down)
    f = centre - d * (centre + right) - e * (centre + down)
    return tf.stack([a, b, c, d, e, f], axis=1)


def smooth_noise(count: int, *, seed: tf.Tensor) -> tf.Tensor:
    """Draw (count, 28, 28) numbers of mean 0 and variance 1 that differ little from pixel to pixel."""
    distance = np.subtract.outer(np.arange(dataset.SIDE), np.arange(dataset.SIDE))
    smooth = np.exp(-((distance / SMOOTHNESS) ** 2) / 2)
    smooth = (smooth / np.linalg.norm(smooth, axis=1, keepdims=True)).astype(np.float32)
    # Noise of variance 1. Smoothing keeps the variance.
    noise = tf.random.stateless_uniform((count, dataset.SIDE, dataset.SIDE), seed, -(3**0.5), 3**0.5)
    for _ in range(2):  # along the rows, then along the columns
        flat = product(factor(tf.reshape(noise, (-1, dataset.SIDE))), tf.constant(smooth.T))
        noise = tf.transpose(tf.reshape(flat, (-1, dataset.SIDE, dataset.SIDE)), (0, 2, 1))
    return noise


def sampled(images: tf.Tensor, right: tf.Tensor, down: tf.Tensor) -> tf.Tensor:
    """Interpolate images (n, 28, 28) at positions (n, 28, 28), measured from the centre of the upper left pixel."""
    side = dataset.SIDE + 2
    # The image gets a border of one background pixel. Positions further out read the border.
    right, down = (tf.clip_by_value(position + 1, 0, side - 1.001) for position in (right, down))
    left, top = tf.floor(right), tf.floor(down)
    right, down = right - left, down - top
    pixels = tf.reshape(tf.pad(images, [[0, 0], [1, 1], [1, 1]]), (-1,))
    image = tf.range(tf.shape(images)[0])[:, tf.newaxis, tf.newaxis] * side**2
    corner = image + tf.cast(top * side + left, tf.int32)
    upper_left, upper_right, lower_left, lower_right = (
        tf.gather(pixels, corner + offset) for offset in (0, 1, side, side + 1)
    )
    upper = upper_left + right * (upper_right - upper_left)
    lower = lower_left + right * (lower_right - lower_left)
    return upper + down * (lower - upper)
