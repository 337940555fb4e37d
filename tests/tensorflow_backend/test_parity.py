"""Three ways to the same numbers: the float64 reference, torch and TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_adapters.tensorflow_backend.physics import canvas, data_consistency, optics
from ptycho_adapters.torch_backend.physics import canvas as torch_canvas
from ptycho_adapters.torch_backend.physics import data_consistency as torch_consistency
from ptycho_adapters.torch_backend.physics import optics as torch_optics
from ptycho_core.physics import optics as reference
from ptycho_core.physics import subpixel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

FEW = settings(max_examples=12, deadline=None)
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-10}
PRECISIONS = [np.float32, np.float64]


@attrs.frozen(kw_only=True, eq=False)
class Case:
    """Patches under probes, and counts to compare with."""

    patches: Array
    probes: Array
    counts: Array
    shifts: Array
    good: Array

    def at(self, precision: type[np.floating]) -> Case:
        """The same in a precision."""
        complex_ = np.result_type(precision, np.complex64)
        kinds = {"patches": complex_, "probes": complex_, "counts": precision, "shifts": precision, "good": precision}
        return Case(**{name: getattr(self, name).astype(kind) for name, kind in kinds.items()})


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw shapes, numbers of modes, offsets and probes; the light is of any brightness."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size, modes, number = draw(st.sampled_from([8, 15, 32])), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    bright = draw(st.sampled_from([1.0, 30.0, 1000.0]))

    def waves(*shape: int) -> Array:
        return random.standard_normal(shape) + 1j * random.standard_normal(shape)

    return Case(
        patches=1.0 + 0.3 * waves(number, size, size),
        probes=bright * waves(number, modes, size, size),
        counts=random.poisson(bright**2 * modes, (number, size, size)).astype(np.float64),
        shifts=random.uniform(-0.5, 0.5, (number, 2)),
        good=(random.random((size, size)) > 0.1).astype(np.float64),
    )


def error(found: object, wanted: Array) -> float:
    """Largest difference over the largest value."""
    values = np.asarray(found)
    assert values.shape == wanted.shape
    return float(np.abs(values - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("precision", PRECISIONS)
@given(case=cases())
@FEW
def test_subpixel_shift(precision: type[np.floating], case: Case) -> None:
    """Each probe moved by its fraction of a pixel."""
    own = case.at(precision)
    wanted = np.stack([subpixel.shift_probe(case.probes[0], shift) for shift in case.shifts])

    found = optics.shift_probe(tf.constant(own.probes[0]), tf.constant(own.shifts))

    assert error(found, wanted) < TOLERANCE[precision]
    single = case.at(np.float32)
    beside = torch_optics.shift_probe(torch.tensor(single.probes[0]), torch.tensor(single.shifts))
    assert error(found, beside.numpy().astype(np.complex128)) < 2e-5


@pytest.mark.parametrize("precision", PRECISIONS)
@given(case=cases())
@FEW
def test_far_field_and_expected_counts(precision: type[np.floating], case: Case) -> None:
    """Modes add in intensity; the reference has DC in the middle."""
    own = case.at(precision)
    wanted = np.fft.ifftshift(
        np.stack(
            [reference.expected_counts(*each, background=0.7) for each in zip(case.patches, case.probes, strict=True)]
        ),
        axes=(-2, -1),
    )

    found = optics.expected_counts(tf.constant(own.patches), tf.constant(own.probes), 0.7)

    assert error(found, wanted) < TOLERANCE[precision]
    beside = torch_optics.expected_counts(torch.tensor(own.patches), torch.tensor(own.probes), 0.7)
    assert error(found, beside.numpy()) < TOLERANCE[precision]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("masked", [False, True])
@given(case=cases())
@FEW
def test_deviance_and_amplitude_error(precision: type[np.floating], masked: bool, case: Case) -> None:
    """Over good pixels alone, near a fit and far from one."""
    own = case.at(precision)
    rate = np.fft.ifftshift(np.square(np.abs(case.probes)).sum(axis=1), axes=(-2, -1)) + 0.01
    good = own.good if masked else None
    asked = [tf.constant(rate.astype(precision)), tf.constant(own.counts), None if good is None else tf.constant(good)]
    mask = None if good is None else torch.tensor(good)
    pixels = np.ones_like(case.good) if good is None else case.good
    logs = case.counts * np.log(np.maximum(case.counts, 1e-300) / rate)
    deviance = ((rate - case.counts + logs) * pixels).sum() / (pixels.sum() * len(rate))
    mae = (np.abs(np.sqrt(rate) - np.sqrt(case.counts)) * pixels).sum() / (pixels.sum() * len(rate))

    for ours, theirs, wanted in (
        (optics.poisson_deviance, torch_optics.poisson_deviance, deviance),
        (optics.amplitude_mae, torch_optics.amplitude_mae, mae),
    ):
        assert error(ours(*asked), np.asarray(wanted)) < 10 * TOLERANCE[precision]
        assert (
            error(ours(*asked), theirs(torch.tensor(rate.astype(precision)), torch.tensor(own.counts), mask).numpy())
            < TOLERANCE[precision]
        )


@pytest.mark.parametrize("precision", PRECISIONS)
@given(case=cases(), seed=st.integers(0, 1000))
@FEW
def test_extraction_and_accumulation(precision: type[np.floating], case: Case, seed: int) -> None:
    """Both as in torch, and adjoints of each other."""
    own, random = case.at(precision), np.random.default_rng(seed)
    number, size = case.patches.shape[:2]
    height, width = size + 5, size + 7
    starts = random.integers(0, 6, (1, number, 2))
    where = torch_canvas.pixel_indices(torch.tensor(starts), size, width)
    patches = own.patches[None]
    object_ = random.standard_normal((1, height * width)).astype(patches.dtype)

    laid = canvas.accumulate(tf.constant(patches), tf.constant(where.numpy().astype(np.int32)), height * width)
    cut = canvas.extract(tf.constant(object_), tf.constant(where.numpy().astype(np.int32)), size)

    assert (
        error(laid, torch_canvas.accumulate(torch.tensor(patches), where, height * width).numpy())
        < TOLERANCE[precision]
    )
    np.testing.assert_array_equal(cut, torch_canvas.extract(torch.tensor(object_), where, size).numpy())
    one, other = np.vdot(object_, laid.numpy()), np.vdot(cut.numpy(), patches)
    assert abs(one - other) < 100 * TOLERANCE[precision] * np.abs(patches).sum()


@pytest.mark.parametrize("precision", PRECISIONS)
@given(case=cases())
@FEW
def test_data_step_and_its_gradient(precision: type[np.floating], case: Case) -> None:
    """What each pattern asks for, and what comes back of a gradient."""
    own = case.at(precision)
    amplitude, given_back = np.sqrt(own.counts), own.patches[::-1].copy()
    patches = torch.tensor(own.patches, requires_grad=True)
    beside = torch_consistency.asked_change(
        torch.tensor(amplitude), torch.tensor(own.probes), patches, torch.tensor(own.good), 0.2
    )
    beside.backward(torch.tensor(given_back))
    assert patches.grad is not None

    variable = tf.constant(own.patches)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        found = data_consistency.asked_change(
            tf.constant(amplitude), tf.constant(own.probes), variable, tf.constant(own.good), 0.2
        )
    back = tape.gradient(found, variable, output_gradients=tf.constant(given_back))

    assert error(found, beside.detach().numpy()) < TOLERANCE[precision]
    assert error(back, patches.grad.numpy()) < TOLERANCE[precision]


@given(case=cases())
@FEW
def test_the_written_gradient_is_that_of_differentiation(case: Case) -> None:
    """The way back that is written out against central differences, in float64."""
    amplitude, probes, direction = (
        tf.constant(np.sqrt(case.counts)),
        tf.constant(case.probes),
        case.patches[::-1].copy(),
    )

    def scalar(patches: Array) -> float:
        asked = data_consistency.asked_change(amplitude, probes, tf.constant(patches), None, 0.2)
        return float(tf.reduce_sum(optics.intensity(asked)))

    variable = tf.constant(case.patches)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        asked = data_consistency.asked_change(amplitude, probes, variable, None, 0.2)
        total = tf.reduce_sum(optics.intensity(asked))
    gradient = tape.gradient(total, variable).numpy()

    step = 1e-6
    slope = (scalar(case.patches + step * direction) - scalar(case.patches - step * direction)) / (2 * step)
    assert np.vdot(gradient, direction).real == pytest.approx(slope, rel=1e-4, abs=1e-6 * float(total))
