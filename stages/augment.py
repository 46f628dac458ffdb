"""Random changes to training images: shifted, turned, sheared and scaled by one affine map each."""

from math import pi

from stages import dataset
from stages.params import Augment
from stages.runtime import keras, tf


def augmented(images: tf.Tensor, params: Augment, *, seed: tf.Tensor) -> tf.Tensor:
    """Change each image of a batch (n, 28, 28) at random; two integers as `seed` decide how.

    Pixels are interpolated linearly; what comes in from outside is background.
    """
    if params == Augment(shift=0, rotation=0, shear=0, scale=0):
        return images
    maps = affine_maps(tf.shape(images)[0], params, seed=seed)
    return keras.ops.image.affine_transform(images[..., tf.newaxis], maps, interpolation="bilinear")[..., 0]


def affine_maps(count: tf.Tensor, params: Augment, *, seed: tf.Tensor) -> tf.Tensor:
    """Draw maps from output to input pixels, as (count, 8): x' = a x + b y + c, y' = d x + e y + f, then 0, 0.

    Each is uniform within the ranges of `params`, about the centre of the image.
    """
    uniform = tf.random.stateless_uniform((6, count), seed, -1.0, 1.0)
    right, down = params.shift * uniform[0], params.shift * uniform[1]
    angle = params.rotation * pi / 180 * uniform[2]
    slant = tf.tan(params.shear * pi / 180 * uniform[3])
    wide, high = 1 + params.scale * uniform[4], 1 + params.scale * uniform[5]
    cosine, sine = tf.cos(angle), tf.sin(angle)
    a, b = cosine / wide, (slant * cosine - sine) / high
    d, e = sine / wide, (slant * sine + cosine) / high
    centre = (dataset.SIDE - 1) / 2
    c = centre - a * (centre + right) - b * (centre + down)
    f = centre - d * (centre + right) - e * (centre + down)
    zero = tf.zeros_like(a)
    return tf.stack([a, b, c, d, e, f, zero, zero], axis=1)
