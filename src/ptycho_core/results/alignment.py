"""Lay two objects on the same pixels and remove the gauge between them."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.results.gauge import Registration, find_ramp, plane_wave

Complex = npt.NDArray[np.complex128]
Mask = npt.NDArray[np.bool_]

_FAINTEST = 1e-150


@attrs.frozen(kw_only=True)
class ComparisonSettings:
    """The choices behind a comparison.

    Attributes:
        upsample: sub-pixel registration to 1/upsample px.
        max_shift_px: largest residual shift along each axis to be considered; 0 for no registration.
        max_ramp_rad_per_px: largest phase ramp along each axis to be considered; 0 for no ramp removal. A beam that is
            off the middle of N pixels by d of them is a ramp of 2 pi d / N.
        ssim_sigma_px: width of the Gaussian SSIM window, which is cut off at 3.5 widths.
        smooth_rings: rings averaged before ring-correlation crossings are looked up.
    """

    upsample: int = attrs.field(default=20, validator=attrs.validators.ge(1))
    max_shift_px: float = attrs.field(default=8.0, validator=attrs.validators.ge(0))
    max_ramp_rad_per_px: float = attrs.field(default=1.0, validator=attrs.validators.ge(0))
    ssim_sigma_px: float = attrs.field(default=1.5, validator=attrs.validators.gt(0))
    smooth_rings: int = attrs.field(default=3, validator=attrs.validators.ge(1))

    @property
    def ssim_radius_px(self) -> int:
        """Half the side of the SSIM window."""
        return int(3.5 * self.ssim_sigma_px + 0.5)


@attrs.frozen(kw_only=True, eq=False)
class Overlap:
    """Both objects on the pixels that they share, cut to the mask and a margin."""

    reconstruction: Complex
    reference: Complex
    mask: Mask
    origin_px: tuple[int, int]
    n_outside: int


@attrs.frozen(kw_only=True, eq=False)
class Aligned:
    """An overlap with the gauge removed."""

    reconstruction: Complex
    reference: Complex
    mask: Mask
    shift_px: tuple[float, float]
    ramp_rad_per_px: tuple[float, float]
    scale: float
    phase_rad: float


def overlap(
    reconstruction: npt.NDArray[np.complexfloating],
    reference: npt.NDArray[np.complexfloating],
    mask: Mask,
    offset: tuple[int, int],
    *,
    margin_px: int,
) -> Overlap:
    """Cut both to the pixels they share around the mask; `offset` is the reference's origin in the reconstruction."""
    inside = np.zeros_like(mask)
    window = tuple(
        slice(max(o, 0), max(min(o + n, size), 0))
        for o, n, size in zip(offset, reference.shape, mask.shape, strict=True)
    )
    inside[window] = mask[window]
    if not inside.any():
        raise ValueError("no pixel of the mask lies on the reference: check mask and origins")
    cut, moved = [], []
    for axis, part in enumerate(window):
        used = np.flatnonzero(inside.any(axis=1 - axis))
        first, last = max(used[0] - margin_px, part.start), min(used[-1] + 1 + margin_px, part.stop)
        cut.append(slice(first, last))
        moved.append(slice(first - offset[axis], last - offset[axis]))
    shared = Overlap(
        reconstruction=reconstruction[tuple(cut)].astype(np.complex128),
        reference=reference[tuple(moved)].astype(np.complex128),
        mask=inside[tuple(cut)],
        origin_px=(int(cut[0].start), int(cut[1].start)),
        n_outside=int(mask.sum() - inside.sum()),
    )
    if not (np.isfinite(shared.reconstruction).all() and np.isfinite(shared.reference).all()):
        raise ValueError("expected finite objects, found NaN or infinity")
    if not shared.reference[shared.mask].any():
        raise ValueError("reference: expected an object, found zeros everywhere on the mask")
    return shared


def align(shared: Overlap, settings: ComparisonSettings) -> Aligned:
    """Fit shift, ramp and complex factor in turn; each is a global search, so a few rounds settle it."""
    mask, shape = shared.mask, (shared.mask.shape[0], shared.mask.shape[1])
    limit = settings.max_ramp_rad_per_px
    # Brought to peak 1, so that squares neither overflow nor vanish; what is too faint to square counts as empty.
    peak = float(np.abs(shared.reconstruction[mask]).max())
    unit = shared.reconstruction / peak if peak > _FAINTEST else np.zeros_like(shared.reconstruction)
    level, ramp = _level(unit, mask, limit)
    reference, ramp_reference = _level(shared.reference, mask, limit)
    registration = Registration(reference)
    shift = (0.0, 0.0)
    for _ in range(3):
        current, _tilt = _level(level, mask, limit, like=registration.shifted(shift))
        shift = registration.find_shift(current, mask, max_px=settings.max_shift_px, upsample=settings.upsample)
    kept = mask & _reached(shape, shift)
    # Levelled once more on what is compared: a flat object must not be given the reference's tilt as its gauge.
    level, more = _level(level, kept, limit)
    moved, more_reference = _level(registration.shifted(shift), kept, limit)
    level, relative = _level(level, kept, limit, like=moved)
    energy = np.sum(np.abs(level[kept]) ** 2)
    factor = complex(np.vdot(level[kept], moved[kept]) / energy) if energy > 0 else 0j
    total = ramp + more + relative - ramp_reference - more_reference
    return Aligned(
        reconstruction=level * factor,
        reference=moved,
        mask=kept,
        shift_px=shift,
        ramp_rad_per_px=(float(total[0]), float(total[1])),
        scale=abs(factor) / max(peak, _FAINTEST),
        phase_rad=float(np.angle(np.exp(1j * np.dot(ramp_reference, shift)) * np.conj(factor))),
    )


def _level(
    field: Complex, mask: Mask, limit: float, *, like: Complex | None = None
) -> tuple[Complex, npt.NDArray[np.float64]]:
    """Remove a field's own plane wave, or the one relative to another field; gives the ramp (y, x) too, in rad/px."""
    product = field * mask if like is None else field * like.conj() * mask
    ramp = find_ramp(product, max_rad_per_px=limit)
    return field * plane_wave((field.shape[0], field.shape[1]), (-ramp[0], -ramp[1])), np.array(ramp)


def _reached(shape: tuple[int, int], shift_px: tuple[float, float]) -> Mask:
    """Pixels that still show the reference, not its continuation, after it was moved."""
    rows, columns = (
        (np.arange(n) - s >= 0) & (np.arange(n) - s <= n - 1) for n, s in zip(shape, shift_px, strict=True)
    )
    return np.outer(rows, columns)
