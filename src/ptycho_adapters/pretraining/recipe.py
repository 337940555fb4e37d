"""What the shipped network has seen: random objects, beams, doses, overlaps and faults, as numbers to simulate by.

Everything here is a pure function of a generator, in numpy; `simulated_groups` makes tensors of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from ptycho_adapters.pretraining.faults import Faults, draw_faults
from ptycho_adapters.pretraining.material import MOST_MODES, TEXTURE_EDGE

if TYPE_CHECKING:
    from ptycho_adapters.pretraining.material import Material

ABERRATIONS = (
    7  # astigmatism, coma and trefoil, two each, and spherical: those of `ptycho_core.physics.probes.aberrate`
)
_WINDOWS = 3
_BLENDED, _UNRELATED = 0.3, 0.35
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
class ObjectDraw:
    """An object as a blend of windows of textures, whose phase lies around zero.

    Attributes:
        textures: (3,) int64, the texture of each window.
        corners: (3, 2) int64, first pixel of each window.
        exchanged: (3,) bool, whether a window's two images change places.
        shares: (2, 3) float64, what each window gives to the phase and to the absorption.
        phase_rad: from the lowest to the highest value of a texture; may be negative.
        lowest_amplitude: where a texture absorbs most.
    """

    textures: NDArray[np.int64]
    corners: NDArray[np.int64]
    exchanged: NDArray[np.bool_]
    shares: NDArray[np.float64]
    phase_rad: float
    lowest_amplitude: float


@attrs.frozen(kw_only=True, eq=False)
class Misjudgement:
    """How the beam that a user knows differs from the true one: by aberrations and defocus of the pupil.

    Attributes:
        coefficients: (7,) float64, of the shapes of `aberrate`, in any unit.
        aberration_rad: root mean square over the pupil.
        defocus_rad: the same, with a sign.
    """

    coefficients: NDArray[np.float64]
    aberration_rad: float
    defocus_rad: float


@attrs.frozen(kw_only=True, eq=False)
class Specimen:
    """One group before it is simulated.

    Attributes:
        size: N, pixels along a side of a pattern.
        object: what it is made of.
        beam: index into the beams of its size.
        mode_shares: (m,) shares of the light of its modes, where the faults do not say otherwise.
        dose: photons per pattern behind a transparent object.
        misjudged: what the network is told wrongly of the beam; None if it knows it.
        starts: (C, 2) int64, first pixel of each patch, as the network is told.
        fractions_px: (C, 2) float32, the rest of the positions.
        flux: (C,) float32, what each pattern gets of the mean dose.
        good_pixels: (N, N) float32 centred, or None.
        faults: what else is wrong.
    """

    size: int
    object: ObjectDraw
    beam: int
    mode_shares: tuple[float, ...]
    dose: float
    misjudged: Misjudgement | None
    starts: NDArray[np.int64]
    fractions_px: NDArray[np.float32]
    flux: NDArray[np.float32]
    good_pixels: NDArray[np.float32] | None
    faults: Faults

    @property
    def told_modes(self) -> int:
        """How many modes the network knows."""
        return 1 if self.faults.untold_modes else len(self.mode_shares)


def draw_size(rng: np.random.Generator, material: Material) -> int:
    """Draw a frame size."""
    return int(rng.choice([*material.size_shares], p=[*material.size_shares.values()]))


def draw_specimen(rng: np.random.Generator, material: Material, *, size: int, faulty_share: float = 0.5) -> Specimen:
    """Draw one group.

    Args:
        rng: source of randomness.
        material: what to draw from.
        size: N, one of the material's.
        faulty_share: chance of faults; the rest of the draw does not depend on it.
    """
    beams = material.beams[size]
    beam = int(rng.integers(len(beams.modes)))
    shares: NDArray[np.floating] = np.ones(1)
    if rng.random() < _SEVERAL_MODES:
        number = int(rng.integers(2, MOST_MODES + 1))
        shares = rng.uniform(0.05, 0.3) ** np.arange(number)
    dose = float(10 ** rng.uniform(*_LOG_DOSE))
    misjudged = _misjudged(rng) if rng.random() < _WRONG_PROBE else None
    starts, fractions = _positions(rng, float(beams.diameters_px[beam]), size)
    flux = np.ones(len(starts))
    if rng.random() < _UNSTEADY:
        flux = rng.normal(1.0, _UNSTEADY_FLUX, len(starts)).clip(0.5, 1.5)
    object_ = _object(rng, len(material.textures), starts.max(axis=0) + size)
    good = _sound_pixels(rng, size) if rng.random() < _FAULTY_DETECTOR else None
    faulty = rng.random() < faulty_share
    return Specimen(
        size=size,
        object=object_,
        beam=beam,
        mode_shares=tuple((shares / shares.sum()).tolist()),
        dose=dose,
        misjudged=misjudged,
        starts=starts,
        fractions_px=fractions,
        flux=flux.astype(np.float32),
        good_pixels=good,
        faults=draw_faults(rng, positions_px=starts + fractions, size=size, dose=dose) if faulty else Faults(),
    )


def _misjudged(rng: np.random.Generator) -> Misjudgement:
    """A little defocus and other aberrations: what a user does not know of the beam."""
    strength, share = rng.uniform(*_WRONG_RAD), rng.uniform(0, 1)
    coefficients = rng.normal(size=ABERRATIONS)
    sign = rng.choice([-1.0, 1.0])
    return Misjudgement(
        coefficients=coefficients,
        aberration_rad=float(strength * share),
        defocus_rad=float(sign * strength * (1 - share)),
    )


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


def draw_batches(rng: np.random.Generator, material: Material, *, batches: int, groups: int) -> list[list[Specimen]]:
    """Draw batches of groups of one frame size, each of groups that are alike in modes and canvas, in random order.

    The groups of a batch are simulated on canvases as large as the largest of them, with as many modes.
    """
    size = draw_size(rng, material)
    drawn = [draw_specimen(rng, material, size=size) for _ in range(batches * groups)]
    drawn.sort(key=lambda each: (each.told_modes, int((each.starts.max(axis=0) + size).prod())))
    order = rng.permutation(batches)
    return [drawn[k * groups : (k + 1) * groups] for k in order]


def _object(rng: np.random.Generator, textures: int, shape: NDArray[np.int64]) -> ObjectDraw:
    """A window of a texture, or two of them blended, sometimes with the absorption of a third."""
    shares, windows = np.zeros((2, _WINDOWS)), [(0, (0, 0), False)] * _WINDOWS
    windows[0], shares[:, 0] = _window(rng, textures, shape), 1.0
    if rng.random() < _BLENDED:
        share = rng.uniform(0.2, 0.8)
        windows[1], shares[:, :2] = _window(rng, textures, shape), (share, 1 - share)
    if rng.random() < _UNRELATED:  # else the network expects to see each edge of the phase in the amplitude too
        windows[2], shares[1] = _window(rng, textures, shape), (0, 0, 1)
    phase = float(rng.uniform(*_PHASE_RANGE_RAD) * rng.choice([-1.0, 1.0]))
    which, corners, exchanged = zip(*windows, strict=True)
    return ObjectDraw(
        textures=np.array(which),
        corners=np.array(corners),
        exchanged=np.array(exchanged),
        shares=shares,
        phase_rad=phase,
        lowest_amplitude=1.0 if rng.random() < _PURE_PHASE else float(rng.uniform(*_LOWEST_AMPLITUDE)),
    )


def _window(rng: np.random.Generator, textures: int, shape: NDArray[np.int64]) -> tuple[int, tuple[int, int], bool]:
    """Texture and first pixel of a window, and whether its two images are exchanged."""
    top, left = (int(rng.integers(0, max(1, TEXTURE_EDGE - edge + 1))) for edge in shape)
    return int(rng.integers(textures)), (top, left), bool(rng.random() < 0.3)


def _sound_pixels(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Dead pixels, and the gap between two modules or a beam stop."""
    good = (rng.random((size, size)) > rng.uniform(0, 0.01)).astype(np.float32)
    if rng.random() < 0.5:
        gap = int(rng.integers(size))
        good[gap : gap + int(rng.integers(1, 4))] = 0
    else:
        y, x = np.indices((size, size)) - size // 2
        good[np.hypot(y, x) < rng.uniform(0, 0.05) * size] = 0
    return good
