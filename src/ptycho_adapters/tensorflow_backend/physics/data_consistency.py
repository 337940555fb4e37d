"""What each pattern asks of the object: the step of an iterative solver, with a gradient of its own.

The way back is written out, as in the torch backend: two transforms, as on the way there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from ptycho_adapters.tensorflow_backend.physics.optics import (
    as_complex,
    exit_waves,
    fft2,
    ifft2,
    intensity,
    sum_of_modes,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_OFFSET = 0.375  # photons per pixel: Anscombe's, the root of counts with it has nearly even variance and little bias


def asked_change(
    amplitude: tf.Tensor,
    probes: tf.Tensor,
    patches: tf.Tensor,
    good_pixels: tf.Tensor | None = None,
    background: float | tf.Tensor = 0.0,
) -> tf.Tensor:
    """Change of the object that each pattern asks for, times the light on it.

    Least-squares step of the object for moduli of far fields (Odstrcil, Menzel & Guizar-Sicairos 2018,
    doi:10.1364/OE.26.003108), a modulus being the root of photons + 3/8 (Anscombe 1948, doi:10.1093/biomet/35.3-4.246).

    Args:
        amplitude: (..., N, N) square root of counts, detector order.
        probes: (..., modes, N, N) complex.
        patches: (..., N, N) complex, the present object; the only one through which a gradient goes.
        good_pixels: (N, N) real, or what broadcasts to the amplitude, 0 where the detector says nothing; None means all
            are good.
        background: counts per pixel that do not come from the beam; they add to the intensity, not to the field.

    Returns:
        (..., N, N) complex, in units of light times object.
    """

    def both_ways(object_: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        far = fft2(exit_waves(object_, probes))
        inverse = tf.math.rsqrt(sum_of_modes(intensity(far)) + (background + _OFFSET))
        measured = tf.sqrt(tf.square(amplitude) + _OFFSET)
        factor = _where_good(measured * inverse - 1.0, good_pixels)

        def back(gradient: tf.Tensor) -> tf.Tensor:
            asked = fft2(exit_waves(gradient, probes))
            slope = _where_good(measured * inverse * tf.square(inverse), good_pixels)
            along = slope * sum_of_modes(tf.math.real(tf.math.conj(far) * asked))
            waves = ifft2(_each_mode(factor) * asked - _each_mode(along) * far)
            return sum_of_modes(tf.math.conj(probes) * waves)

        return sum_of_modes(tf.math.conj(probes) * ifft2(_each_mode(factor) * far)), back

    return tf.custom_gradient(both_ways)(patches)


def _where_good(values: tf.Tensor, good_pixels: tf.Tensor | None) -> tf.Tensor:
    return values if good_pixels is None else values * good_pixels


def _each_mode(values: tf.Tensor) -> tf.Tensor:
    return as_complex(values)[..., None, :, :]
