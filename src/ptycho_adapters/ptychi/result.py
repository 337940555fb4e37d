"""What a refinement by pty-chi gives, judged by this library's own physics."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ptycho_adapters.ptychi.solver import Solver
from ptycho_core.measurement.frames import frame_slices
from ptycho_core.physics.canvas import CanvasFrame
from ptycho_core.physics.optics import accumulate_patches
from ptycho_core.physics.shot_noise import shot_noise_table
from ptycho_core.physics.subpixel import scan_counts, split_positions
from ptycho_core.results.reconstruction import Reconstruction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ptycho_adapters.ptychi.engines import RefineSettings
    from ptycho_adapters.ptychi.start import Start
    from ptycho_core.measurement.scan import Scan

_LEAST_COUNTS = 1e-4  # below the table of shot noise, and a rate of none explains no photon
_COVERED = 1e-6  # of the largest coverage


def refine(
    scan: Scan, start: Start, settings: RefineSettings, epochs: Iterable[int]
) -> tuple[Reconstruction, list[float]]:
    """Refine with pty-chi.

    Args:
        scan: the measured data.
        start: what it begins with.
        settings: the engine and what it may change.
        epochs: one item for each; a progress bar counts along.

    Returns:
        The result on the canvas that holds every pattern, and the error of each epoch as `Solver.step` gives it.

    Raises:
        DependencyError: pty-chi is not installed.
        FloatingPointError: the engine diverged.
    """
    began = time.perf_counter()
    solver = Solver(scan, start, settings)
    errors = [solver.step() for _ in epochs]
    found = (solver.object, solver.probe, solver.positions_px)
    if not all(np.isfinite(array).all() for array in found):
        message = f"{settings.engine} diverged: its result is not finite; a smaller --batch-size or another --engine"
        raise FloatingPointError(message)
    return reconstruction_of(scan, start, found, time.perf_counter() - began), errors


def reconstruction_of(
    scan: Scan,
    start: Start,
    found: tuple[npt.NDArray[np.complex64], npt.NDArray[np.complex64], npt.NDArray[np.float64]],
    seconds: float,
) -> Reconstruction:
    """Judge an object, a probe and positions on the canvas of a start.

    Args:
        scan: the measured data.
        start: where the canvas lies, and whether the probe was the scan's own.
        found: object, probe and positions.
        seconds: that it took to find them.
    """
    object_, probe, positions = found
    metrics, r_factors = _judged(scan, object_, probe, positions, start.origin_px)
    rows, columns, coverage = _covered(object_, probe, positions, start.origin_px)
    return Reconstruction(
        object=np.where(coverage > 0, object_, 1.0)[rows, columns].astype(np.complex64),
        coverage=coverage[rows, columns],
        origin_px=(start.origin_px[0] + rows.start, start.origin_px[1] + columns.start),
        probe=probe,
        probe_source="scan" if start.cold else "model",
        given_positions_px=scan.positions_px,
        positions_px=positions,
        pattern_indices=np.arange(scan.n_patterns, dtype=np.int64),
        scale=1.0,
        metrics=metrics,
        r_factors=r_factors,
        seconds={"pty-chi": seconds},
    )


def _judged(
    scan: Scan,
    object_: npt.NDArray[np.complex64],
    probe: npt.NDArray[np.complex64],
    positions: npt.NDArray[np.float64],
    origin_px: tuple[int, int],
) -> tuple[Mapping[str, float], npt.NDArray[np.float64]]:
    """Give the figures that need no truth, of the whole and of each pattern."""
    good = np.ones((scan.N, scan.N), dtype=bool) if scan.bad_pixels is None else ~scan.bad_pixels
    table, sums, gaps, amplitudes = shot_noise_table(), np.zeros(3), [], []
    for some in frame_slices(scan.patterns):
        rate = scan_counts(object_, probe, positions[some], origin_px=origin_px, background=_LEAST_COUNTS)[:, good]
        counts = scan.counts(some)[:, good].astype(np.float64)
        ratio = np.divide(counts, rate, out=np.ones_like(rate), where=counts > 0)
        floors = [np.interp(np.log(rate), table.log_rate, values).sum() for values in (table.deviance, table.gap)]
        sums += [float((rate - counts + counts * np.log(ratio)).sum()), *floors]
        gaps.append(np.abs(np.sqrt(rate) - np.sqrt(counts)).sum(axis=-1))
        amplitudes.append(np.sqrt(counts).sum(axis=-1))
    gap, amplitude = np.concatenate(gaps), np.concatenate(amplitudes)
    pixels, total = scan.n_patterns * int(good.sum()), float(amplitude.sum())
    metrics = {
        "deviance_per_px": float(sums[0]) / pixels,
        "r_factor": float(gap.sum()) / total,
        "expected_deviance_per_px": float(sums[1]) / pixels,
        "expected_r_factor": float(sums[2]) / total,
    }
    return metrics, np.divide(gap, amplitude, out=np.zeros_like(gap), where=amplitude > 0)


def _covered(
    object_: npt.NDArray[np.complex64],
    probe: npt.NDArray[np.complex64],
    positions: npt.NDArray[np.float64],
    origin_px: tuple[int, int],
) -> tuple[slice, slice, npt.NDArray[np.float32]]:
    """Give the light on each pixel, and the rows and columns that patches reach."""
    frame = CanvasFrame(origin_px=origin_px, shape=(object_.shape[0], object_.shape[1]))
    size = probe.shape[-1]
    whole, _ = split_positions(positions, size)
    light = np.square(np.abs(probe.astype(np.complex128))).sum(axis=0)
    coverage = accumulate_patches(np.broadcast_to(light, (len(whole), size, size)), whole, frame)
    first = np.rint(whole.min(axis=0) - (size - 1) / 2 - origin_px).astype(int)
    last = np.rint(whole.max(axis=0) + (size + 1) / 2 - origin_px).astype(int)
    kept = np.where(coverage > _COVERED * coverage.max(), coverage, 0.0).astype(np.float32)
    return slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1])), kept
