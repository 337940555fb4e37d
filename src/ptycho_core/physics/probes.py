"""Complex illuminations at the sample, (modes, N, N), with Σ|P|² = photons per frame."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import numpy.typing as npt

from ptycho_core.physics.optics import far_field, inverse_far_field

Complex = npt.NDArray[np.complex128]
Real = npt.NDArray[np.float64]


class ProbeKind(StrEnum):
    """The classes of illumination."""

    ZONE_PLATE = "zone-plate"
    APERTURE = "aperture"
    GAUSSIAN = "gaussian"


def make_probe(kind: ProbeKind, size: int, *, photons: float) -> Complex:
    """A probe of a class with its default proportions: about half of the frame is lit, whatever the size.

    Args:
        kind: the class of illumination.
        size: N, pixels along a side.
        photons: Σ|P|².

    Returns:
        (1, N, N).
    """
    match kind:
        case ProbeKind.ZONE_PLATE:
            return zone_plate_probe(size, photons=photons)
        case ProbeKind.APERTURE:
            return focused_aperture_probe(size, photons=photons)
        case ProbeKind.GAUSSIAN:
            return gaussian_probe(size, photons=photons)


def gaussian_probe(
    size: int, *, photons: float, fwhm_px: float | None = None, curvature_px2: float | None = None
) -> Complex:
    """A Gaussian beam out of its waist.

    Args:
        size: N, pixels along a side.
        photons: Σ|P|².
        fwhm_px: full width at half maximum of the intensity; a quarter of the frame if None.
        curvature_px2: λz in px²; the phase is π·r²/λz. Twice the frame if None, infinite for a flat phase.

    Raises:
        ValueError: a size below 8, or a width, a curvature or photons that are not above zero.
    """
    width = size / 4 if fwhm_px is None else fwhm_px
    curvature = 2.0 * size if curvature_px2 is None else curvature_px2
    _require(size, photons=photons, fwhm_px=width, curvature_px2=curvature)
    radius2 = _radius(size) ** 2
    field = np.exp(-2 * np.log(2) * radius2 / width**2 + 1j * np.pi * radius2 / curvature)
    return scaled_to(field[None], photons=photons)


def zone_plate_probe(
    size: int,
    *,
    photons: float,
    outer_per_px: float = 0.27,
    stop_fraction: float = 0.36,
    ring_radius_px: float | None = None,
) -> Complex:
    """A zone plate's beam out of focus: a ring with a strongly curved wavefront and a dark middle.

    The lens pupil is an annulus in frequency; defocus λz spreads frequency q to the radius λz·q, so the geometric
    image of the pupil is a ring of `ring_radius_px`.

    Args:
        size: N, pixels along a side.
        photons: Σ|P|².
        outer_per_px: outer radius of the pupil, cycles/px.
        stop_fraction: radius of the central stop over that of the pupil, in [0, 1).
        ring_radius_px: outer radius of the ring; a quarter of the frame if None.

    Raises:
        ValueError: a number out of range.
    """
    radius = size / 4 if ring_radius_px is None else ring_radius_px
    _require(size, photons=photons, outer_per_px=outer_per_px, ring_radius_px=radius)
    if not 0 <= stop_fraction < 1:
        raise ValueError(f"stop_fraction: expected a number in [0, 1), found {stop_fraction}")
    q = _radius(size) / size
    # Edges two frequency pixels wide: a hard one would ring out of the frame.
    soft = 2 / size
    pupil = _edge(outer_per_px - q, soft) * (1 - _edge(outer_per_px * stop_fraction - q, soft))
    defocus = np.exp(-1j * np.pi * (radius / outer_per_px) * q**2)
    return scaled_to(inverse_far_field(pupil * defocus)[None], photons=photons)


def focused_aperture_probe(
    size: int, *, photons: float, outer_per_px: float = 0.2, disc_radius_px: float | None = None
) -> Complex:
    """A lens without a stop, slightly out of focus: a disc with Fresnel fringes.

    Args:
        size: N, pixels along a side.
        photons: Σ|P|².
        outer_per_px: radius of the pupil, cycles/px.
        disc_radius_px: geometric radius of the lit disc; a fifth of the frame if None.

    Raises:
        ValueError: a number out of range.
    """
    radius = 0.2 * size if disc_radius_px is None else disc_radius_px
    return zone_plate_probe(size, photons=photons, outer_per_px=outer_per_px, stop_fraction=0.0, ring_radius_px=radius)


def aberrate(probe: npt.NDArray[np.complexfloating], rng: np.random.Generator, *, strength_rad: float) -> Complex:
    """Put random low-order aberrations into the pupil: astigmatism, coma, trefoil, spherical.

    The same phase acts on every mode. Its root mean square over the pupil, weighted by intensity, is `strength_rad`;
    the number of photons stays.

    Args:
        probe: (modes, N, N).
        rng: source of randomness.
        strength_rad: root mean square of the added pupil phase, >= 0.
    """
    pupil = far_field(probe)
    intensity = np.sum(np.abs(pupil) ** 2, axis=0)
    size = probe.shape[-1]
    y, x = (np.arange(size) - size // 2)[:, None], (np.arange(size) - size // 2)[None, :]
    extent = np.sqrt(2 * np.sum(intensity * (y**2 + x**2)) / intensity.sum())
    # Aberrations end with the pupil; beyond it they would only scatter faint tails.
    rho, theta = np.minimum(np.hypot(y, x) / extent, 1.3), np.arctan2(y, x)
    shapes = [rho**2 * np.cos(2 * theta), rho**2 * np.sin(2 * theta)]
    shapes += [(3 * rho**3 - 2 * rho) * np.cos(theta), (3 * rho**3 - 2 * rho) * np.sin(theta)]
    shapes += [rho**3 * np.cos(3 * theta), rho**3 * np.sin(3 * theta), 6 * rho**4 - 6 * rho**2]
    phase = np.tensordot(rng.normal(size=len(shapes)), np.stack(shapes), axes=1)
    mean = np.average(phase, weights=intensity)
    spread = np.sqrt(np.average((phase - mean) ** 2, weights=intensity))
    return inverse_far_field(pupil * np.exp(1j * strength_rad * (phase - mean) / spread))


def with_modes(probe: npt.NDArray[np.complexfloating], n_modes: int, *, power_ratio: float = 0.3) -> Complex:
    """Spread a one-mode probe over orthogonal incoherent modes, as an extended source does.

    A source of finite size blurs the probe incoherently; to first orders its modes are the probe and its derivatives,
    made orthogonal.

    Args:
        probe: (1, N, N).
        n_modes: 1 to 6.
        power_ratio: power of each mode over that of the one before, in (0, 1].

    Returns:
        (n_modes, N, N), orthogonal, with the photons of the input.

    Raises:
        ValueError: more than one mode given, or a number out of range.
    """
    if len(probe) != 1 or not 1 <= n_modes <= 6 or not 0 < power_ratio <= 1:
        raise ValueError(
            f"expected a single mode, 1 to 6 modes, a ratio in (0, 1]; found {len(probe)}, {n_modes}, {power_ratio}"
        )
    size = probe.shape[-1]
    y, x = (np.arange(size) - size // 2)[:, None], (np.arange(size) - size // 2)[None, :]
    one = np.ones((size, size))
    pupil = far_field(probe[0])
    raw = [
        inverse_far_field(pupil * factor).ravel() for factor in (one, y * one, x * one, y * x, y**2 * one, x**2 * one)
    ]
    # The columns of Q are the Gram-Schmidt vectors of the derivatives, in order; R's diagonal undoes its sign choice.
    q, r = np.linalg.qr(np.stack(raw[:n_modes], axis=1))
    basis = (q * np.sign(np.diagonal(r))).T.reshape(n_modes, size, size)
    power = power_ratio ** np.arange(n_modes)
    photons = float(np.sum(np.abs(probe) ** 2))
    return scaled_to(basis * np.sqrt(power)[:, None, None], photons=photons)


def scaled_to(probe: npt.NDArray[np.complexfloating], *, photons: float) -> Complex:
    """The probe times the positive factor that makes Σ|P|² over pixels and modes equal to `photons`."""
    exact = probe.astype(np.complex128)
    scaled: Complex = exact * np.sqrt(photons / np.sum(np.abs(exact) ** 2))
    return scaled


def lit_diameter_px(probe: npt.NDArray[np.complexfloating], *, fraction: float = 0.9) -> float:
    """Diameter of the disc around the centre of intensity that holds a fraction of the photons."""
    intensity = np.sum(np.abs(probe) ** 2, axis=0, dtype=np.float64)
    y, x = np.indices(intensity.shape)
    middle = [np.average(axis, weights=intensity) for axis in (y, x)]
    radius = np.hypot(y - middle[0], x - middle[1]).ravel()
    order = np.argsort(radius)
    held = np.cumsum(intensity.ravel()[order])
    return float(2 * radius[order][np.searchsorted(held, fraction * held[-1])])


def _radius(size: int) -> Real:
    offset = np.arange(size, dtype=np.float64) - size // 2
    return np.hypot(offset[:, None], offset[None, :])


def _edge(distance: Real, width: float) -> Real:
    """0 to 1 across an edge, smooth over about twice the width."""
    result: Real = 0.5 + 0.5 * np.tanh(2 * distance / width)
    return result


def _require(size: int, **positive: float) -> None:
    if size < 8:
        raise ValueError(f"size: expected at least 8 px, found {size}")
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name}: expected a number above zero, found {value}")
