"""What groups are drawn from: textures and beams, made once, in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from types import MappingProxyType

import attrs
import numpy as np
from numpy.typing import NDArray

from ptycho_core.physics.probes import (
    aberrate,
    focused_aperture_probe,
    gaussian_probe,
    with_modes,
    zone_plate_probe,
)
from ptycho_core.simulation.objects import OBJECTS, ObjectKind

SIZE_SHARES: Mapping[int, float] = MappingProxyType({48: 0.08, 64: 0.47, 80: 0.08, 96: 0.1, 128: 0.22, 160: 0.05})
MOST_MODES = 3
TEXTURE_EDGE = 384
_TEXTURES, _PROBES = 600, 240
_DEAD_LEAVES_EVERY = 3


@attrs.frozen(kw_only=True, eq=False)
class Beams:
    """Beams of one frame size.

    Attributes:
        modes: (n, 3, N, N) complex64, the beam and what a source of finite size adds to it, each of unit energy.
        diameters_px: (n,) float64, root mean square, of the beam alone.
    """

    modes: NDArray[np.complex64]
    diameters_px: NDArray[np.float64]


@attrs.frozen(kw_only=True, eq=False)
class Material:
    """What groups are drawn from.

    Attributes:
        textures: (n, 2, E, E) float16, phase and absorption in [0, 1].
        beams: by frame size.
        size_shares: how often each frame size is drawn.
    """

    textures: NDArray[np.float16]
    beams: Mapping[int, Beams]
    size_shares: Mapping[int, float]


def make_material(
    rng: np.random.Generator,
    *,
    textures: int = _TEXTURES,
    probes: int = _PROBES,
    size_shares: Mapping[int, float] = SIZE_SHARES,
    processes: int = 1,
) -> Material:
    """Draw textures (every third one dead leaves, else all classes in turn) and beams of every class.

    Args:
        rng: source of randomness.
        textures: how many.
        probes: how many beams of each size.
        size_shares: frame sizes and how often each is to be drawn.
        processes: that share the work; the material is the same whatever their number.
    """
    kinds = tuple(ObjectKind)
    chosen, sources = [], rng.spawn(textures + len(size_shares))
    for k in range(textures):
        turn, common = divmod(k, _DEAD_LEAVES_EVERY)
        chosen.append(kinds[(k - turn) % len(kinds)] if common else ObjectKind.DEAD_LEAVES)
    if processes > 1:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            made = [*pool.map(_texture, chosen, sources[:textures], chunksize=4)]
            beams = [*pool.map(partial(_beams, probes), size_shares, sources[textures:])]
    else:
        made = [*map(_texture, chosen, sources[:textures])]
        beams = [*map(partial(_beams, probes), size_shares, sources[textures:])]
    return Material(
        textures=np.stack(made), beams=dict(zip(size_shares, beams, strict=True)), size_shares=dict(size_shares)
    )


def _texture(kind: ObjectKind, rng: np.random.Generator) -> NDArray[np.float16]:
    return np.clip(OBJECTS[kind]((TEXTURE_EDGE, TEXTURE_EDGE), rng), 0, 1).astype(np.float16)


def _beams(number: int, size: int, rng: np.random.Generator) -> Beams:
    alone = [_beam(rng, size) for _ in range(number)]
    modes = [np.sqrt(MOST_MODES) * with_modes(each, MOST_MODES, power_ratio=1.0) for each in alone]
    diameters = np.array([_rms_diameter_px(each) for each in alone])
    return Beams(modes=np.stack(modes).astype(np.complex64), diameters_px=diameters)


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
