"""What the shipped network has seen: random objects, beams, doses, overlaps and faults, as data.

Everything here is a pure function of a generator, in numpy; `simulated_groups` turns it into tensors.
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from ptycho_core.physics.optics import far_field, inverse_far_field
from ptycho_core.physics.probes import (
    aberrate,
    focused_aperture_probe,
    gaussian_probe,
    scaled_to,
    with_modes,
    zone_plate_probe,
)
from ptycho_core.simulation.objects import OBJECTS, ObjectKind

_SIZES, _SIZE_SHARES = (64, 128), (0.8, 0.2)
_TEXTURE_EDGE = 384
_TEXTURES, _PROBES = 600, 240
_DEAD_LEAVES_EVERY, _BLENDED, _UNRELATED = 3, 0.3, 0.35
_SIDE = 4  # a group is a piece of scan, side x side
_LOG_DOSE = (2.8, 7.0)
_STEP_SHARE, _SPARSE_SHARE, _SPARSE = (0.08, 0.5), (0.5, 0.9), 0.1
_PHASE_RANGE_RAD = (0.15, 2.5)
_LOWEST_AMPLITUDE, _PURE_PHASE = (0.5, 1.0), 0.2
_WRONG_PROBE, _WRONG_RAD = 0.3, (0.05, 0.4)
_SEVERAL_MODES = 0.12
_FAULTY_DETECTOR = 0.12
_UNSTEADY, _UNSTEADY_FLUX = 0.2, 0.02


@attrs.frozen(kw_only=True, eq=False)
class Material:
    """What groups are drawn from.

    Attributes:
        textures: (n, 2, E, E) float16, phase and absorption in [0, 1].
        probes: by frame size, (n, 1, N, N) complex64 with unit energy.
    """

    textures: NDArray[np.float16]
    probes: dict[int, NDArray[np.complex64]]


@attrs.frozen(kw_only=True, eq=False)
class Specimen:
    """One group before its photons are drawn.

    Attributes:
        object: (H, W) complex64.
        probe: (modes, N, N) complex64, the true illumination, at the dose.
        known_probe: the same as the network is told, perhaps with aberrations.
        starts: (C, 2) int64, first pixel of each patch.
        fractions_px: (C, 2) float32, the rest of the positions.
        flux: (C,) float32, what each pattern gets of the mean dose.
        good_pixels: (N, N) float32 centred, or None.
    """

    object: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    known_probe: NDArray[np.complex64]
    starts: NDArray[np.int64]
    fractions_px: NDArray[np.float32]
    flux: NDArray[np.float32]
    good_pixels: NDArray[np.float32] | None


def make_material(rng: np.random.Generator, *, textures: int = _TEXTURES, probes: int = _PROBES) -> Material:
    """Draw textures (every third one dead leaves, else all classes in turn) and beams of every class."""
    kinds = tuple(ObjectKind)
    made = np.empty((textures, 2, _TEXTURE_EDGE, _TEXTURE_EDGE), np.float16)
    for k in range(textures):
        turn, common = divmod(k, _DEAD_LEAVES_EVERY)
        kind = kinds[(k - turn) % len(kinds)] if common else ObjectKind.DEAD_LEAVES
        made[k] = np.clip(OBJECTS[kind]((_TEXTURE_EDGE, _TEXTURE_EDGE), rng), 0, 1)
    beams = {size: np.stack([_beam(rng, size) for _ in range(probes)]).astype(np.complex64) for size in _SIZES}
    return Material(textures=made, probes=beams)


def draw_specimen(rng: np.random.Generator, material: Material) -> Specimen:
    """Draw one group."""
    size = int(rng.choice(_SIZES, p=_SIZE_SHARES))
    beams = material.probes[size]
    probe: NDArray[np.complexfloating] = beams[rng.integers(len(beams))]
    diameter = _rms_diameter_px(probe)
    if rng.random() < _SEVERAL_MODES:
        probe = with_modes(probe, int(rng.integers(2, 4)), power_ratio=rng.uniform(0.05, 0.3))
    dose = 10 ** rng.uniform(*_LOG_DOSE)
    known = _misjudged(rng, probe) if rng.random() < _WRONG_PROBE else probe
    starts, fractions = _positions(rng, diameter, size)
    shape = starts.max(axis=0) + size
    n_patterns = len(starts)
    flux = np.ones(n_patterns)
    if rng.random() < _UNSTEADY:
        flux = rng.normal(1.0, _UNSTEADY_FLUX, n_patterns).clip(0.5, 1.5)
    return Specimen(
        object=_transmission(rng, material.textures, (int(shape[0]), int(shape[1]))),
        probe=scaled_to(probe, photons=dose).astype(np.complex64),
        known_probe=scaled_to(known, photons=dose).astype(np.complex64),
        starts=starts,
        fractions_px=fractions,
        flux=flux.astype(np.float32),
        good_pixels=_faults(rng, size) if rng.random() < _FAULTY_DETECTOR else None,
    )


def _beam(rng: np.random.Generator, size: int) -> NDArray[np.complex128]:
    match int(rng.integers(4)):
        case 0:
            width, curvature = size * rng.uniform(0.12, 0.35), size * 10 ** rng.uniform(-0.1, 1.2)
            probe = gaussian_probe(size, photons=1, fwhm_px=width, curvature_px2=curvature)
        case 1:
            aperture, disc = rng.uniform(0.08, 0.3), size * rng.uniform(0.08, 0.28)
            probe = focused_aperture_probe(size, photons=1, outer_per_px=aperture, disc_radius_px=disc)
        case _:
            probe = zone_plate_probe(
                size,
                photons=1,
                outer_per_px=rng.uniform(0.15, 0.35),
                stop_fraction=rng.uniform(0.1, 0.6),
                ring_radius_px=size * rng.uniform(0.1, 0.3),
            )
    if rng.random() < 0.7:
        probe = aberrate(probe, rng, strength_rad=rng.uniform(0, 0.7))
    return probe.conj() if rng.random() < 0.5 else probe


def _rms_diameter_px(probe: NDArray[np.complexfloating]) -> float:
    """Twice the root mean square distance of the light from the frame's middle."""
    light = (np.abs(probe) ** 2).sum(axis=0)
    y, x = np.indices(light.shape) - light.shape[0] // 2
    return float(2 * np.sqrt((light * (y**2 + x**2)).sum() / light.sum()))


def _misjudged(rng: np.random.Generator, probe: NDArray[np.complexfloating]) -> NDArray[np.complex128]:
    """The probe with a little defocus and other aberrations: what a user knows of the beam."""
    strength, share = rng.uniform(*_WRONG_RAD), rng.uniform(0, 1)
    pupil = far_field(aberrate(probe, rng, strength_rad=strength * share))
    weight = (np.abs(pupil) ** 2).sum(axis=0)
    y, x = np.indices(weight.shape) - weight.shape[0] // 2
    r2 = (y**2 + x**2).astype(np.float64)
    r2 -= np.average(r2, weights=weight)
    spread = np.sqrt(np.average(r2**2, weights=weight))
    sign = rng.choice([-1.0, 1.0])
    return inverse_far_field(pupil * np.exp(1j * sign * strength * (1 - share) * np.clip(r2 / spread, -3, 3)))


def _positions(
    rng: np.random.Generator, diameter_px: float, size: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """A piece of scan: raster or sheared raster with jitter; sometimes on whole pixels."""
    share = rng.uniform(*_SPARSE_SHARE) if rng.random() < _SPARSE else rng.uniform(*_STEP_SHARE)
    step = float(np.clip(diameter_px * share, 2, 0.35 * size))
    side = np.arange(_SIDE)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float64)
    if rng.random() < 0.25:
        grid[:, 1] += 0.5 * grid[:, 0]
    points = step * (grid + rng.uniform(-0.25, 0.25, grid.shape))
    points -= points.min(axis=0)
    starts = np.floor(points + 0.5).astype(np.int64)
    fractions = np.zeros_like(points) if rng.random() < 0.3 else points - starts
    return starts, fractions.astype(np.float32)


def _transmission(
    rng: np.random.Generator, textures: NDArray[np.float16], shape: tuple[int, int]
) -> NDArray[np.complex64]:
    """A window of a texture, or two of them blended, as an object of random strength, its phase around zero."""
    window = _window(rng, textures, shape)
    if rng.random() < _BLENDED:
        share = rng.uniform(0.2, 0.8)
        window = share * window + (1 - share) * _window(rng, textures, shape)
    if rng.random() < _UNRELATED:  # else the network expects to see each edge of the phase in the amplitude too
        window[1] = _window(rng, textures, shape)[1]
    phase = rng.uniform(*_PHASE_RANGE_RAD) * rng.choice([-1.0, 1.0])
    lowest = 1.0 if rng.random() < _PURE_PHASE else rng.uniform(*_LOWEST_AMPLITUDE)
    made: NDArray[np.complex64] = ((1 - (1 - lowest) * window[1]) * np.exp(1j * phase * (window[0] - 0.5))).astype(
        np.complex64
    )
    return made


def _window(rng: np.random.Generator, textures: NDArray[np.float16], shape: tuple[int, int]) -> NDArray[np.float32]:
    """A piece (2, H, W) of a texture, its two images sometimes exchanged."""
    height, width = shape
    top, left = rng.integers(0, _TEXTURE_EDGE - height + 1), rng.integers(0, _TEXTURE_EDGE - width + 1)
    window = textures[rng.integers(len(textures)), :, top : top + height, left : left + width].astype(np.float32)
    return window[::-1] if rng.random() < 0.3 else window


def _faults(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Dead pixels, and the gap between two modules or a beam stop."""
    good = (rng.random((size, size)) > rng.uniform(0, 0.01)).astype(np.float32)
    if rng.random() < 0.5:
        gap = int(rng.integers(size))
        good[gap : gap + int(rng.integers(1, 4))] = 0
    else:
        y, x = np.indices((size, size)) - size // 2
        good[np.hypot(y, x) < rng.uniform(0, 0.05) * size] = 0
    return good
