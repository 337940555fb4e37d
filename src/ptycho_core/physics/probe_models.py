"""Illuminations from the optics that made them, in metres: for scans whose files hold no probe.

Each is a field at the object, `defocus_m` behind the focus (negative: before it), in the paraxial approximation. A lens
is a pupil in spatial frequency q; over a distance z each frequency gains the phase -π λ z q² (Goodman, Introduction to
Fourier Optics, section 4.2), so that behind the focus the wavefront diverges as exp(+iπ r² / λz).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.errors import Problem, ScanError, raise_if_any
from ptycho_core.physics.optics import inverse_far_field
from ptycho_core.physics.probes import scaled_to

if TYPE_CHECKING:
    from collections.abc import Iterator

Complex: TypeAlias = npt.NDArray[np.complex128]
Real: TypeAlias = npt.NDArray[np.float64]

_SMALLEST_SIDE_PX = 8
_NYQUIST_PER_PX = 0.5
# No optic is outside of these; within them no product of lengths leaves the range of float64.
_LENGTHS_M = (1e-15, 1e6)
_LARGEST_ANGLE_RAD = 0.5
_MOST_PHOTONS = 1e18


@attrs.frozen(kw_only=True)
class ProbeFrame:
    """The pixels that a probe is computed on.

    Attributes:
        size_px: N, pixels along a side.
        pixel_m: object pixel in metres.
        wavelength_m: wavelength in metres.
    """

    size_px: int
    pixel_m: float
    wavelength_m: float


@attrs.frozen(kw_only=True)
class ZonePlate:
    """A Fresnel zone plate with a central stop.

    Its pupil ends at the frequency 1 / (2 Δr), Δr being the width of the outermost zone; the stop cuts the part of it
    that its diameter is of the plate's (Attwood and Sakdinawat, X-Rays and Extreme Ultraviolet Radiation, chapter 10).

    Attributes:
        outermost_zone_m: width of the outermost zone.
        diameter_m: diameter of the plate.
        stop_m: diameter of the central stop; 0 for none.
        defocus_m: from the focus to the object, along the beam.
    """

    outermost_zone_m: float
    diameter_m: float
    defocus_m: float
    stop_m: float = 0.0


@attrs.frozen(kw_only=True)
class GaussianBeam:
    """A Gaussian beam (Saleh and Teich, Fundamentals of Photonics, section 3.1).

    Attributes:
        fwhm_m: full width at half maximum of the intensity in the waist.
        defocus_m: from the waist to the object, along the beam.
    """

    fwhm_m: float
    defocus_m: float = 0.0


@attrs.frozen(kw_only=True)
class FocusedRectangle:
    """A lens or a pair of mirrors behind a rectangular aperture.

    Its pupil is the aperture divided by λf, f being the distance from the aperture to the focus.

    Attributes:
        width_m: width of the aperture, along x.
        height_m: height of the aperture, along y.
        focal_length_m: from the aperture to the focus.
        defocus_m: from the focus to the object, along the beam.
    """

    width_m: float
    height_m: float
    focal_length_m: float
    defocus_m: float = 0.0


@attrs.frozen(kw_only=True)
class ElectronLens:
    """The round aperture of an electron lens with spherical aberration.

    Its pupil ends at the frequency α / λ. The aberration adds the phase -π Cs λ³ q⁴ / 2 (Kirkland, Advanced Computing
    in Electron Microscopy, section 2.4, whose underfocus is a negative `defocus_m`: the object lies before the focus).

    Attributes:
        semi_angle_rad: α, half of the angle of convergence.
        defocus_m: from the focus to the object, along the beam.
        cs_m: coefficient of spherical aberration.
    """

    semi_angle_rad: float
    defocus_m: float
    cs_m: float = 0.0


ProbeModel: TypeAlias = ZonePlate | GaussianBeam | FocusedRectangle | ElectronLens


def model_probe(model: ProbeModel, frame: ProbeFrame, *, photons: float) -> Complex:
    """Compute the field of a model at the object.

    Args:
        model: what made the beam.
        frame: the pixels to compute it on.
        photons: Σ|P|².

    Returns:
        (1, N, N), centred on N // 2.

    Raises:
        ScanError: for numbers out of range, and for a beam too fine or too wide for the frame.
    """
    raise_if_any(ScanError, "probe model", _range_problems(model, frame, photons))
    raise_if_any(ScanError, "probe model", _frame_problems(model, frame))
    return scaled_to(_field(model, frame)[np.newaxis], photons=photons)


def _field(model: ProbeModel, frame: ProbeFrame) -> Complex:
    match model:
        case ZonePlate():
            return _through(_annulus(model, frame), model.defocus_m, frame)
        case FocusedRectangle():
            return _through(_rectangle(model, frame), model.defocus_m, frame)
        case ElectronLens():
            return _through(_disc(model, frame) * _spherical(model, frame), model.defocus_m, frame)
        case GaussianBeam():
            return _gaussian(model, frame)


def _through(pupil: Real | Complex, defocus_m: float, frame: ProbeFrame) -> Complex:
    """Give the field behind a pupil; λz in px² times q² in 1/px² is the phase of free space."""
    spread = frame.wavelength_m * defocus_m / frame.pixel_m**2
    y, x = _frequencies(frame)
    return inverse_far_field(pupil * np.exp(-1j * np.pi * spread * (y**2 + x**2)))


def _annulus(plate: ZonePlate, frame: ProbeFrame) -> Real:
    q = np.hypot(*_frequencies(frame))
    outer, _ = _pupil_per_px(plate, frame)
    inner = outer * plate.stop_m / plate.diameter_m
    return _inside(outer - q, frame) * (1.0 - _inside(inner - q, frame) if inner > 0.0 else 1.0)


def _rectangle(lens: FocusedRectangle, frame: ProbeFrame) -> Real:
    y, x = _frequencies(frame)
    height, width = _pupil_per_px(lens, frame)
    return _inside(height - np.abs(y), frame) * _inside(width - np.abs(x), frame)


def _disc(lens: ElectronLens, frame: ProbeFrame) -> Real:
    outer, _ = _pupil_per_px(lens, frame)
    return _inside(outer - np.hypot(*_frequencies(frame)), frame)


def _spherical(lens: ElectronLens, frame: ProbeFrame) -> Complex:
    angle2 = sum(np.square(q * frame.wavelength_m / frame.pixel_m) for q in _frequencies(frame))
    phase: Complex = np.exp(-0.5j * np.pi * lens.cs_m * angle2**2 / frame.wavelength_m)
    return phase


def _gaussian(beam: GaussianBeam, frame: ProbeFrame) -> Complex:
    waist_m = beam.fwhm_m / np.sqrt(2.0 * np.log(2.0))
    rayleigh_m = np.pi * waist_m**2 / frame.wavelength_m
    grown = 1.0 + (beam.defocus_m / rayleigh_m) ** 2
    curvature_per_m = beam.defocus_m / (beam.defocus_m**2 + rayleigh_m**2)
    y, x = _offsets(frame)
    radius2 = (y**2 + x**2) * frame.pixel_m**2
    phase = np.pi * radius2 * curvature_per_m / frame.wavelength_m
    field: Complex = np.exp(-radius2 / (waist_m**2 * grown) + 1j * phase)
    return field


def _pupil_per_px(model: ZonePlate | FocusedRectangle | ElectronLens, frame: ProbeFrame) -> tuple[float, float]:
    """Give the half widths of a pupil along y and x in cycles per object pixel."""
    if isinstance(model, ZonePlate):
        outer = frame.pixel_m / (2.0 * model.outermost_zone_m)
        return outer, outer
    if isinstance(model, ElectronLens):
        outer = model.semi_angle_rad * frame.pixel_m / frame.wavelength_m
        return outer, outer
    scale = frame.pixel_m / (2.0 * frame.wavelength_m * model.focal_length_m)
    return model.height_m * scale, model.width_m * scale


def _offsets(frame: ProbeFrame) -> tuple[Real, Real]:
    offset = np.arange(frame.size_px, dtype=np.float64) - frame.size_px // 2
    return offset[:, None], offset[None, :]


def _frequencies(frame: ProbeFrame) -> tuple[Real, Real]:
    y, x = _offsets(frame)
    return y / frame.size_px, x / frame.size_px


def _inside(distance_per_px: Real, frame: ProbeFrame) -> Real:
    """Give the part of a frequency pixel that lies inside an edge, 0 to 1."""
    part: Real = np.clip(distance_per_px * frame.size_px + 0.5, 0.0, 1.0)
    return part


def _range_problems(model: ProbeModel, frame: ProbeFrame, photons: float) -> Iterator[Problem]:
    smallest, largest = _LENGTHS_M
    lengths: dict[str, float] = {"pixel_m": frame.pixel_m, "wavelength_m": frame.wavelength_m, **attrs.asdict(model)}
    for name, value in lengths.items():
        if name == "semi_angle_rad":
            expected, right = f"an angle above 0, at most {_LARGEST_ANGLE_RAD} rad", 0.0 < value <= _LARGEST_ANGLE_RAD
        elif name in {"defocus_m", "cs_m"}:
            expected, right = f"a number of metres within ±{largest:g}", abs(value) <= largest
        elif name == "stop_m":
            expected, right = f"a number of metres from 0 to {largest:g}", 0.0 <= value <= largest
        else:
            expected, right = f"a number of metres from {smallest:g} to {largest:g}", smallest <= value <= largest
        if not right:
            yield Problem(path=name, expected=expected, found=repr(value))
    if not 0.0 < photons <= _MOST_PHOTONS:
        yield Problem(path="photons", expected=f"a number above 0, at most {_MOST_PHOTONS:g}", found=repr(photons))
    if frame.size_px < _SMALLEST_SIDE_PX:
        yield Problem(path="size_px", expected=f"at least {_SMALLEST_SIDE_PX} px", found=str(frame.size_px))
    if isinstance(model, ZonePlate) and not model.stop_m < model.diameter_m:
        yield Problem(path="stop_m", expected=f"less than diameter_m = {model.diameter_m:g}", found=f"{model.stop_m:g}")


_PUPIL_OF = {
    ZonePlate: "outermost_zone_m",
    FocusedRectangle: "width_m, height_m, focal_length_m",
    ElectronLens: "semi_angle_rad",
}


def _frame_problems(model: ProbeModel, frame: ProbeFrame) -> Iterator[Problem]:
    """Say where a beam cannot be sampled on a frame, or leaves it."""
    if isinstance(model, GaussianBeam):
        yield from _gaussian_problems(model, frame)
        return
    pupil = max(_pupil_per_px(model, frame))
    if pupil >= _NYQUIST_PER_PX:
        yield Problem(
            path=_PUPIL_OF[type(model)],
            expected=f"a pupil within {_NYQUIST_PER_PX} cycles per object pixel of {frame.pixel_m:.4g} m",
            found=f"{pupil:.4g}: a finer focus than the pixels resolve",
        )
    elif pupil * frame.size_px < 1.0:
        yield Problem(
            path="size_px",
            expected="a focus smaller than the frame",
            found=f"a pupil of {pupil * frame.size_px:.2g} frequency pixels",
        )
    radius_px = abs(model.defocus_m) * frame.wavelength_m * pupil / frame.pixel_m**2
    if isinstance(model, ElectronLens):
        radius_px += abs(model.cs_m) * model.semi_angle_rad**3 / frame.pixel_m
    if radius_px > frame.size_px / 2:
        yield Problem(
            path="defocus_m",
            expected=f"a beam within the frame of {frame.size_px} px",
            found=f"one {2 * radius_px:.4g} px wide at {model.defocus_m:g} m",
        )


def _gaussian_problems(beam: GaussianBeam, frame: ProbeFrame) -> Iterator[Problem]:
    waist_m = beam.fwhm_m / np.sqrt(2.0 * np.log(2.0))
    rayleigh_m = np.pi * waist_m**2 / frame.wavelength_m
    width_px = beam.fwhm_m * float(np.hypot(1.0, beam.defocus_m / rayleigh_m)) / frame.pixel_m
    if beam.fwhm_m < frame.pixel_m:
        expected = f"at least one object pixel, {frame.pixel_m:.4g} m"
        yield Problem(path="fwhm_m", expected=expected, found=f"{beam.fwhm_m:g} m")
    if width_px > frame.size_px / 2:
        yield Problem(
            path="fwhm_m, defocus_m",
            expected=f"a beam within half the frame of {frame.size_px} px",
            found=f"one {width_px:.4g} px wide",
        )
