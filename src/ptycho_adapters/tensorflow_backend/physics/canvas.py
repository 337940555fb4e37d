"""Adding patches to a canvas and cutting them out again: exact adjoints, on integer pixels."""

from __future__ import annotations

import tensorflow as tf


def accumulate(patches: tf.Tensor, where: tf.Tensor, pixels: int) -> tf.Tensor:
    """Add patches onto one canvas per group; the adjoint of `extract`.

    Args:
        patches: (B, C, N, N) real or complex.
        where: (B, C, N * N) int32, flat canvas indices.
        pixels: canvas size H * W.

    Returns:
        (B, pixels) sums.
    """
    groups = tf.shape(patches)[0]
    first = tf.range(groups)[:, None, None] * pixels
    sums = tf.math.unsorted_segment_sum(
        tf.reshape(patches, [-1]), tf.reshape(where + first, [-1]), num_segments=groups * pixels
    )
    return tf.reshape(sums, [groups, pixels])


def extract(canvas: tf.Tensor, where: tf.Tensor, size: int) -> tf.Tensor:
    """Cut patches (B, C, size, size) out of canvases (B, pixels)."""
    shape = tf.concat([tf.shape(where)[:2], [size, size]], axis=0)
    return tf.reshape(tf.gather(canvas, where, axis=1, batch_dims=1), shape)
