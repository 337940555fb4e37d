"""From the numbers of a beamline to the pixels of a reconstruction: wavelength, object pixel, positions.

Conventions, the same in every function: lengths in metres, energies in electronvolt, pairs in (y, x) order. y grows
with the row of an array and x with its column. A position is where the beam hits the object, in the object's frame:
where a file holds the displacement of the sample stage instead, the beam moves the other way over the sample, and
turning the sign is the reader's task.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ptycho_core.errors import Problem, ScanError, raise_if_any

PLANCK_J_S = 6.62607015e-34
LIGHT_SPEED_M_S = 299_792_458.0
ELEMENTARY_CHARGE_C = 1.602176634e-19
"""Joule per electronvolt, too: divide an energy in J by it to have eV. All three are exact in the SI of 2019."""

ELECTRON_MASS_KG = 9.1093837139e-31
"""CODATA 2022."""

_SHORTEST_OF_PHOTONS_M = 8e-12  # 155 keV; electrons have it at 23 kV

EV_M = PLANCK_J_S * LIGHT_SPEED_M_S / ELEMENTARY_CHARGE_C
"""Photon energy in eV times wavelength in metres."""


def wavelength_from_energy(*, energy_ev: float) -> float:
    """Give the wavelength of a photon in metres: λ = h c / E.

    Args:
        energy_ev: photon energy in eV, > 0.

    Returns:
        The wavelength in metres.

    Raises:
        ScanError: for an energy that is not above zero and finite, or whose wavelength is not.
    """
    _require_positive(energy_ev=energy_ev)
    return _positive_result("wavelength_m", EV_M, energy_ev)


def wavelength_from_voltage(*, voltage_v: float) -> float:
    """Give the relativistic wavelength of electrons in metres: λ = h / √(2 m e V (1 + e V / (2 m c²))).

    Args:
        voltage_v: accelerating voltage in volts, > 0.

    Returns:
        The wavelength in metres, 1.97 pm at 300 kV (Kirkland, Advanced Computing in Electron Microscopy, section 2.5).

    Raises:
        ScanError: for a voltage that is not above zero and finite, or whose wavelength is not.
    """
    _require_positive(voltage_v=voltage_v)
    kinetic_j = ELEMENTARY_CHARGE_C * voltage_v
    rest_j = ELECTRON_MASS_KG * LIGHT_SPEED_M_S**2
    momentum = math.sqrt(2.0 * ELECTRON_MASS_KG * kinetic_j * (1.0 + kinetic_j / (2.0 * rest_j)))
    return _positive_result("wavelength_m", PLANCK_J_S, momentum)


def voltage_from_wavelength(*, wavelength_m: float) -> float:
    """Give the accelerating voltage of electrons of a wavelength in volts, the inverse of `wavelength_from_voltage`.

    Args:
        wavelength_m: in metres, finite and > 0.
    """
    momentum_j = PLANCK_J_S * LIGHT_SPEED_M_S / wavelength_m
    rest_j = ELECTRON_MASS_KG * LIGHT_SPEED_M_S**2
    return momentum_j**2 / (math.hypot(momentum_j, rest_j) + rest_j) / ELEMENTARY_CHARGE_C


def of_electrons(*, wavelength_m: float) -> bool:
    """Tell whether a wavelength is that of electrons: shorter than any photons that patterns are made with."""
    return wavelength_m < _SHORTEST_OF_PHOTONS_M


def energy_from_wavelength(*, wavelength_m: float) -> float:
    """Give the energy of a photon in eV: E = h c / λ.

    Args:
        wavelength_m: wavelength in metres, > 0.

    Returns:
        The photon energy in eV.

    Raises:
        ScanError: for a wavelength that is not above zero and finite, or whose energy is not.
    """
    _require_positive(wavelength_m=wavelength_m)
    return _positive_result("energy_ev", EV_M, wavelength_m)


def object_pixel_m(*, wavelength_m: float, distance_m: float, detector_pixel_m: float, size_px: int) -> float:
    """Give the size of an object pixel in metres: λ z / (N p).

    Derivation. In the far field a plane wave that leaves the object at a small angle θ meets the detector at u = z θ
    and has the spatial frequency f = θ / λ, so that u = λ z f. A discrete Fourier transform of N samples Δx apart has
    samples 1 / (N Δx) apart in frequency. Neighbouring detector pixels are p apart: p = λ z / (N Δx), hence
    Δx = λ z / (N p) (Goodman, Introduction to Fourier Optics, section 4.3). The angle is taken as small; N is the
    number of pixels that the patterns have, after binning and cropping, and p is the size of a binned pixel.

    Args:
        wavelength_m: wavelength in metres, > 0.
        distance_m: distance z from object to detector in metres, > 0.
        detector_pixel_m: size p of a detector pixel in metres, > 0.
        size_px: side N of the pattern in pixels, > 0.

    Returns:
        The size of an object pixel along the same axis, in metres.

    Raises:
        ScanError: for every value that is not above zero and finite, or when the result is not.
    """
    _require_positive(
        wavelength_m=wavelength_m, distance_m=distance_m, detector_pixel_m=detector_pixel_m, size_px=size_px
    )
    return _positive_result("object_pixel_m", wavelength_m * distance_m, size_px * detector_pixel_m)


def detector_pixel_m(*, wavelength_m: float, distance_m: float, pixel_m: float, size_px: int) -> float:
    """Give the size of a detector pixel in metres that belongs to an object pixel: λ z / (N Δx).

    The inverse of `object_pixel_m`, which holds the derivation: the relation is symmetric in the two pixels.

    Args:
        wavelength_m: wavelength in metres, > 0.
        distance_m: distance from object to detector in metres, > 0.
        pixel_m: size of an object pixel in metres, > 0.
        size_px: side N of the pattern in pixels, > 0.

    Returns:
        The size of a detector pixel in metres.

    Raises:
        ScanError: for every value that is not above zero and finite, or when the result is not.
    """
    _require_positive(wavelength_m=wavelength_m, distance_m=distance_m, pixel_m=pixel_m, size_px=size_px)
    return _positive_result("detector_pixel_m", wavelength_m * distance_m, size_px * pixel_m)


def positions_px_from_m(positions_m: npt.ArrayLike, *, pixel_m: float) -> npt.NDArray[np.float64]:
    """Bring positions from metres to object pixels; the origin stays where it is.

    Args:
        positions_m: (n, 2) positions of the beam on the object in metres, (y, x): y grows with the row, x with the
            column.
        pixel_m: size of a square object pixel in metres, > 0.

    Returns:
        (n, 2) float64 positions in object pixels, (y, x).

    Raises:
        ScanError: for positions of another shape or a pixel that is not above zero and finite.
    """
    _require_positive(pixel_m=pixel_m)
    return _positions(positions_m, "positions_m") / pixel_m


def positions_m_from_px(positions_px: npt.ArrayLike, *, pixel_m: float) -> npt.NDArray[np.float64]:
    """Bring positions from object pixels to metres; the origin stays where it is.

    Args:
        positions_px: (n, 2) positions of the beam on the object in object pixels, (y, x).
        pixel_m: size of a square object pixel in metres, > 0.

    Returns:
        (n, 2) float64 positions in metres, (y, x).

    Raises:
        ScanError: for positions of another shape or a pixel that is not above zero and finite.
    """
    _require_positive(pixel_m=pixel_m)
    return _positions(positions_px, "positions_px") * pixel_m


def _positions(value: npt.ArrayLike, path: str) -> npt.NDArray[np.float64]:
    array = np.asarray(value)
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "fiu":
        found = f"shape {array.shape} of {array.dtype}"
        raise ScanError("geometry", [Problem(path=path, expected="(n, 2) real numbers, (y, x)", found=found)])
    return array.astype(np.float64)


def _require_positive(**values: float) -> None:
    problems = [
        Problem(path=name, expected="a finite number > 0", found=repr(value))
        for name, value in values.items()
        if not (np.isfinite(value) and value > 0.0)
    ]
    raise_if_any(ScanError, "geometry", problems)


def _positive_result(name: str, numerator: float, denominator: float) -> float:
    """Divide two products of positive numbers, refusing what leaves the range of float64."""
    result = float(numerator) / float(denominator) if denominator > 0.0 else np.inf
    if not (np.isfinite(result) and result > 0.0):
        raise ScanError("geometry", [Problem(path=name, expected="a finite number > 0", found=repr(result))])
    return result
