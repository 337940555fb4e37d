"""The ordinary faults of measured data, as numbers to simulate by: a pure function of a generator."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

_BESIDE = 0.2  # chance of each kind beside the one that there is in any case
_BEAM_PX = 0.5  # whole pixels are found and taken out before a network sees the patterns
_LOG_BACKGROUND_SHARE = (-2.5, -0.5)  # of the dose
_TOLD, _TOLD_RIGHT, _TOLD_WITHIN = 0.7, 0.5, 0.15
_HOT_SHARE, _LOG_HOT = 2e-3, (0.0, 2.0)  # of the pixels at most; in mean counts per pixel
_HOT_TOLD = 0.85
_LARGEST_RMS_PX, _LARGEST_STRAIN, _LARGEST_ERROR_PX = 2.0, 0.02, 7.0
_MODE_RATIO = (0.05, 0.4)  # of the light of each mode to that of the one before
_MOTION_PX, _MOTION_COPIES = (1.0, 8.0), 5
_VIBRATION_PX, _POINT_SPREAD_PX = (0.3, 1.5), (0.3, 1.0)
_DEEPEST = 4.0
_WEDGE_RAD_PER_PX, _WEDGE_OFFSET = (0.02, 0.15), 0.3


@attrs.frozen(kw_only=True, eq=False)
class Faults:
    """What is wrong with one group; by default nothing.

    Attributes:
        beam_px: (y, x) by which the direct beam is off pixel N // 2; the network is not told.
        background_counts: per pixel, under every pattern.
        told_background_counts: what the network is told of it.
        hot_pixels: (k,) int64 flat indices into a centred frame.
        hot_counts: (k,) float64, mean counts that each of them adds to every pattern.
        hot_told: (k,) bool, whether the network is told that a pixel is bad.
        position_errors_px: (C, 2) float64 true less told positions, their mean zero; None if there are none.
        copies_px: (K, 2) float64 shifts of the beam within a frame, around zero; the network is told of one beam.
        copy_shares: (K,) float64 of the light, their sum one.
        point_spread_px: standard deviation of the detector's.
        untold_modes: (m,) shares of the light of the beam's modes, of which the network knows the first alone; empty
            if it knows as many as there are.
        depth: factor on the object's phase.
        wedge_rad_per_px: (2,) float64 slope of a wedge of phase; zero for none.
        wedge_offset_px: where the wedge begins, from the canvas' middle along its slope.
    """

    beam_px: tuple[float, float] = (0.0, 0.0)
    background_counts: float = 0.0
    told_background_counts: float = 0.0
    hot_pixels: NDArray[np.int64] = attrs.field(factory=lambda: np.zeros(0, np.int64))
    hot_counts: NDArray[np.float64] = attrs.field(factory=lambda: np.zeros(0))
    hot_told: NDArray[np.bool_] = attrs.field(factory=lambda: np.zeros(0, bool))
    position_errors_px: NDArray[np.float64] | None = None
    copies_px: NDArray[np.float64] = attrs.field(factory=lambda: np.zeros((1, 2)))
    copy_shares: NDArray[np.float64] = attrs.field(factory=lambda: np.ones(1))
    point_spread_px: float = 0.0
    untold_modes: tuple[float, ...] = ()
    depth: float = 1.0
    wedge_rad_per_px: tuple[float, float] = (0.0, 0.0)
    wedge_offset_px: float = 0.0


@attrs.frozen(kw_only=True, eq=False)
class _Scene:
    """What faults are drawn for: told positions (C, 2), edge of a frame, mean counts per pixel."""

    positions_px: NDArray[np.floating]
    size: int
    level: float


def draw_faults(rng: np.random.Generator, *, positions_px: NDArray[np.floating], size: int, dose: float) -> Faults:
    """Draw one kind of fault, and each other kind with a chance of a fifth.

    Args:
        rng: source of randomness.
        positions_px: (C, 2), as they are told.
        size: N, pixels along a side of a pattern.
        dose: photons per pattern.
    """
    scene = _Scene(positions_px=positions_px, size=size, level=dose / size**2)
    has = rng.random(len(_KINDS)) < _BESIDE
    has[rng.integers(len(_KINDS))] = True
    faults = Faults()
    for kind, there in zip(_KINDS, has, strict=True):
        faults = kind(rng, faults, scene) if there else faults
    return faults


def _beside_the_middle(rng: np.random.Generator, faults: Faults, scene: _Scene) -> Faults:
    del scene
    y, x = rng.uniform(-_BEAM_PX, _BEAM_PX, 2)
    return attrs.evolve(faults, beam_px=(float(y), float(x)))


def _with_background(rng: np.random.Generator, faults: Faults, scene: _Scene) -> Faults:
    """A constant, of which the network is told rightly, roughly or not at all."""
    counts = scene.level * 10 ** rng.uniform(*_LOG_BACKGROUND_SHARE)
    error = 0.0 if rng.random() < _TOLD_RIGHT else rng.uniform(-_TOLD_WITHIN, _TOLD_WITHIN)
    told = counts * (1 + error) if rng.random() < _TOLD else 0.0
    return attrs.evolve(faults, background_counts=float(counts), told_background_counts=float(told))


def _with_hot_pixels(rng: np.random.Generator, faults: Faults, scene: _Scene) -> Faults:
    pixels = scene.size**2
    number = int(rng.integers(1, max(2, int(_HOT_SHARE * pixels)) + 1))
    return attrs.evolve(
        faults,
        hot_pixels=rng.choice(pixels, number, replace=False),
        hot_counts=scene.level * 10 ** rng.uniform(*_LOG_HOT, number),
        hot_told=rng.random(number) < _HOT_TOLD,
    )


def _misplaced(rng: np.random.Generator, faults: Faults, scene: _Scene) -> Faults:
    """Random errors and those of a stage that turns, shears or stretches; a common shift would move the object."""
    strain = rng.uniform(-_LARGEST_STRAIN, _LARGEST_STRAIN, (2, 2))
    errors = (scene.positions_px - scene.positions_px.mean(axis=0)) @ strain.T
    errors += rng.normal(0, rng.uniform(0, _LARGEST_RMS_PX) / np.sqrt(2), errors.shape)
    errors = np.clip(errors, -_LARGEST_ERROR_PX, _LARGEST_ERROR_PX)
    return attrs.evolve(faults, position_errors_px=errors - errors.mean(axis=0))


def _incoherent(rng: np.random.Generator, faults: Faults, scene: _Scene) -> Faults:
    """Modes of which only the first is known, or a beam that moves within a frame."""
    del scene
    if rng.random() < 0.5:
        powers = rng.uniform(*_MODE_RATIO) ** np.arange(rng.integers(2, 4))
        return attrs.evolve(faults, untold_modes=tuple((powers / powers.sum()).tolist()))
    length, angle = rng.uniform(*_MOTION_PX), rng.uniform(0, np.pi)
    along = np.linspace(-0.5, 0.5, _MOTION_COPIES) * length
    copies = np.stack([along * np.sin(angle), along * np.cos(angle)], axis=1)
    return attrs.evolve(faults, copies_px=copies, copy_shares=np.full(_MOTION_COPIES, 1 / _MOTION_COPIES))


def _blurred(rng: np.random.Generator, faults: Faults, scene: _Scene) -> Faults:
    """The detector's point spread, or a beam that trembles in all directions unless it moves along one."""
    del scene
    if len(faults.copies_px) > 1 or rng.random() < 0.5:
        return attrs.evolve(faults, point_spread_px=float(rng.uniform(*_POINT_SPREAD_PX)))
    # Seven points with the second moments of a Gaussian: the middle has half of the light, a hexagon the rest.
    deviation, angles = rng.uniform(*_VIBRATION_PX), np.arange(6) * np.pi / 3
    hexagon = 2 * deviation * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    shares = np.array([1 / 2, *[1 / 12] * 6])
    return attrs.evolve(faults, copies_px=np.concatenate([np.zeros((1, 2)), hexagon]), copy_shares=shares)


def _deeper(rng: np.random.Generator, faults: Faults, scene: _Scene) -> Faults:
    del scene
    return attrs.evolve(faults, depth=float(rng.uniform(1, _DEEPEST)))


def _wedged(rng: np.random.Generator, faults: Faults, scene: _Scene) -> Faults:
    slope, angle = rng.uniform(*_WEDGE_RAD_PER_PX), rng.uniform(0, 2 * np.pi)
    reach = float(np.ptp(scene.positions_px, axis=0).max()) + scene.size
    return attrs.evolve(
        faults,
        wedge_rad_per_px=(float(slope * np.sin(angle)), float(slope * np.cos(angle))),
        wedge_offset_px=float(rng.uniform(-_WEDGE_OFFSET, _WEDGE_OFFSET)) * reach,
    )


_KINDS = (
    _beside_the_middle,
    _with_background,
    _with_hot_pixels,
    _misplaced,
    _incoherent,
    _blurred,
    _deeper,
    _wedged,
)
