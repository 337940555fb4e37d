"""What ptychography leaves free between two objects, found and removed: shift, phase ramp, scale, constant phase.

A ramp exp(i·k·r) on the object and its inverse on the probe leave the data alone, and so does moving both together.
A comparison has to remove these before it says anything. Both estimates are global least-squares solutions on the
complex field; no phase is unwrapped.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Complex = npt.NDArray[np.complex128]


def plane_wave(shape: tuple[int, int], ramp_rad_per_px: tuple[float, float]) -> Complex:
    """exp(i·(k_y·y + k_x·x)) on a grid whose pixel [0, 0] has phase zero."""
    rows, columns = (np.exp(1j * k * np.arange(n)) for k, n in zip(ramp_rad_per_px, shape, strict=True))
    return np.outer(rows, columns)


def find_ramp(field: npt.NDArray[np.complexfloating], *, max_rad_per_px: float) -> tuple[float, float]:
    """The plane wave most like a field: (k_y, k_x) that maximises |Σ field·exp(−i·k·r)|.

    The strongest bin of a zero-padded Fourier transform is refined by Newton's method. For
    `conj(reference)·reconstruction` on a mask (zero elsewhere) this is the relative phase ramp.

    Args:
        field: complex, (H, W).
        max_rad_per_px: largest |k_y| and |k_x| to be considered, to within half a bin; 0 for no ramp at all.

    Returns:
        (k_y, k_x) in rad/px; zero for a field that is zero everywhere.
    """
    if max_rad_per_px == 0:
        return (0.0, 0.0)
    padded = tuple(2 * n for n in field.shape)
    spectrum = np.abs(np.fft.fft2(field, s=padded))
    k_rows, k_columns = (2 * np.pi * np.fft.fftfreq(n) for n in padded)
    # A maximum within the limit may have its nearest bin half a step beyond.
    spectrum[np.abs(k_rows) > max_rad_per_px + np.pi / padded[0]] = 0
    spectrum[:, np.abs(k_columns) > max_rad_per_px + np.pi / padded[1]] = 0
    row, column = np.unravel_index(np.argmax(spectrum), spectrum.shape)
    return _refine_ramp(field, (float(k_rows[row]), float(k_columns[column])))


def _refine_ramp(field: npt.NDArray[np.complexfloating], start: tuple[float, float]) -> tuple[float, float]:
    """Newton's method for max Re Σ field·exp(−i·(c + k·r)) over c and k, from a start within a bin of the maximum."""
    y, x = (np.linspace(-1, 1, n) for n in field.shape)
    basis = np.stack(np.broadcast_arrays(np.ones(field.shape), y[:, None], x[None, :])).reshape(3, -1)
    per_px = np.array([2 / max(n - 1, 1) for n in field.shape])
    ramp, best, gain = np.array(start), np.array(start), 0.0
    for _ in range(20):
        residual = (field * plane_wave(field.shape, (-ramp[0], -ramp[1]))).ravel()
        total = residual.sum()
        if abs(total) < gain * (1 - 1e-9):
            break  # the step led away from the maximum
        if total == 0:
            return (0.0, 0.0)
        best, gain = ramp, max(gain, abs(total))
        residual = residual * (np.conj(total) / abs(total))
        curvature = (basis * residual.real) @ basis.T
        if np.linalg.eigvalsh(curvature)[0] <= 1e-9 * abs(total):
            break  # not near a proper maximum
        step = np.linalg.solve(curvature, basis @ residual.imag)[1:] * per_px
        ramp = ramp + step
        if np.abs(step / per_px).max() < 1e-13:
            break
    return (float(best[0]), float(best[1]))


class Registration:
    """The reference's spectrum, ready to be shifted and searched.

    The reference is continued by reflection, so that a sub-pixel Fourier shift meets no jump at the border.
    """

    def __init__(self, reference: npt.NDArray[np.complexfloating]) -> None:
        mirrored = np.pad(reference, [(0, n) for n in reference.shape], mode="symmetric")
        self._shape = (reference.shape[0], reference.shape[1])
        self._padded = mirrored.shape
        self._spectrum: Complex = np.fft.fft2(mirrored)
        self._power: Complex = np.fft.fft2(np.abs(mirrored) ** 2)
        self._k = [2 * np.pi * np.fft.fftfreq(n) for n in mirrored.shape]

    def shifted(self, shift_px: tuple[float, float]) -> Complex:
        """The reference with its content moved by `shift_px` (y, x)."""
        rows, columns = (np.exp(-1j * k * s) for k, s in zip(self._k, shift_px, strict=True))
        moved: Complex = np.fft.ifft2(self._spectrum * np.outer(rows, columns))
        return moved[: self._shape[0], : self._shape[1]]

    def find_shift(
        self,
        reconstruction: npt.NDArray[np.complexfloating],
        mask: npt.NDArray[np.bool_],
        *,
        max_px: float,
        upsample: int,
    ) -> tuple[float, float]:
        """By how much the reconstruction's content is moved against the reference, (y, x) in px.

        Least squares with a free complex factor over the mask: the maximum over s of
        |Σ_mask conj(rec)·T_s ref|² / Σ_mask |T_s ref|², first on whole pixels, then to 1/`upsample` px.
        """
        cross = np.conj(np.fft.fft2(np.where(mask, reconstruction, 0), s=self._padded)) * self._spectrum
        power = np.conj(np.fft.fft2(mask.astype(np.float64), s=self._padded)) * self._power
        reach = int(np.floor(max_px))
        whole = np.arange(-reach, reach + 1, dtype=np.float64)
        y, x = self._best(cross, power, whole, whole)
        fine = np.arange(-upsample, upsample + 1) / upsample
        near = [np.clip(centre + fine, -max_px, max_px) for centre in (y, x)]
        return self._best(cross, power, near[0], near[1])

    def _best(
        self, cross: Complex, power: Complex, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]
    ) -> tuple[float, float]:
        """The best of a grid of shifts; the smallest shift among equals."""
        left, right = (np.exp(-1j * np.outer(s, k)) for s, k in zip((rows, columns), self._k, strict=True))
        energy = (left @ power @ right.T).real
        gain = np.abs(left @ cross @ right.T) ** 2
        score = np.divide(gain, energy, out=np.zeros_like(gain), where=energy > 1e-12 * max(energy.max(), 0))
        # Equal scores (a flat image fits everywhere) must not give an arbitrary shift.
        distance = np.hypot(rows[:, None], columns[None, :])
        candidates = np.where(score >= score.max() * (1 - 1e-12), distance, np.inf)
        row, column = np.unravel_index(np.argmin(candidates), candidates.shape)
        return (float(rows[row]), float(columns[column]))
