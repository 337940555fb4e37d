"""By which law a network errs, from fresh simulations: `python benchmarks/prior_law.py --help`.

Simulated scans over class and dose, one pass of the shipped weights with the true probe. What is left of the
difference from the true object, constant phase free, on lit pixels (by more than a tenth of the brightest) is parted
into slow waves (tents on the coarse grid of a finish, by least squares) and the rest, each into phase and amplitude.
The logarithm of the rest's square is fitted by those of bend and light, in bins of bend; the slow waves' variance by a
constant and one over the light. By how much errors of neighbours that lie together make each say less was chosen by
what it does to a finish, and is taken over from the package.

The law is shown beside the one in the package, and written where `--output` says: to take it, copy the file to
`src/ptycho_adapters/shipped_weights/prior_law.json`, and look at what `benchmarks/error_bars.py` says of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from error_bars import padded_truth
from numpy.typing import NDArray

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.common.prior_law import PriorLaw, prior_law_to_json
from ptycho_adapters.common.shipped import shipped_prior_law
from ptycho_adapters.torch_backend import generalist_for, reconstruct
from ptycho_adapters.torch_backend.data.resident import Canvas
from ptycho_adapters.torch_backend.finish.prior import bent
from ptycho_adapters.torch_backend.finish.tents import Tents
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Sequence

Real = NDArray[np.float64]

_KINDS = ("dead-leaves", "siemens-star", "filaments", "random-field", "chip", "cells")
_PHOTONS = (1e3, 1e4, 1e5, 1e6, 1e7)
_LIT = 0.1
_BINS, _FEW = 12, 30  # of bend in each case, of equal numbers; pixels under which one says too little
_TINY = 1e-12


@attrs.frozen(kw_only=True, eq=False)
class Case:
    """What a pass left on one scan.

    Attributes:
        bins: (b, 2) mean logarithms of bend and photons of pixels that bend alike.
        fine: (b, 2) mean squares of the error of phase [rad²] and amplitude there, slow waves left out.
        slow: (2,) variances of the heights of their tents.
        photons_per_px: where lit.
    """

    bins: Real
    fine: Real
    slow: Real
    photons_per_px: float


def case_of(kind: str, photons: float, seed: int) -> Case:
    """Simulate, reconstruct, and look at the error."""
    scan = simulate(
        SimulationConfig(object_kind=kind, object_size_px=64 + 6 * 7, step_px=7.0, photons=photons, seed=seed)
    )
    quiet, wish = PyTorchExecutionConfig(enable_progress_bar=False), TorchInferenceConfig(probe_rounds=0)
    result = reconstruct(generalist_for(scan), scan, execution_config=quiet, inference_config=wish)
    truth, light = padded_truth(scan, result), result.coverage.astype(np.float64)
    lit = light > _LIT * light.max()
    constant = np.vdot(result.object[lit], truth[lit])
    off = result.object * constant / abs(constant) / truth - 1.0
    canvas = Canvas(height=light.shape[0], width=light.shape[1])
    tents = Tents(canvas, scan.N, torch.device("cpu"))
    shapes = np.einsum("ay,bx->yxab", tents.rows, tents.columns).reshape(*light.shape, -1)[lit].astype(np.float64)
    bend = bent(torch.tensor(result.object)).numpy().reshape(light.shape)[lit].astype(np.float64)
    parts, slow = [], []
    for errors in (off.imag, off.real * np.abs(truth)):
        heights, *_ = np.linalg.lstsq(shapes, errors[lit], rcond=1e-3)
        slow.append(np.square(heights[shapes.max(axis=0) > 0.5]).mean())
        parts.append(np.square(errors[lit] - shapes @ heights))
    bins, fine = _binned(bend, light[lit], np.stack(parts, axis=1))
    return Case(
        bins=bins,
        fine=fine,
        slow=np.array(slow),
        photons_per_px=float(light[lit].mean()),
    )


def _binned(bend: Real, light: Real, squares: Real) -> tuple[Real, Real]:
    order = np.argsort(bend)
    groups = [group for group in np.array_split(order, _BINS) if len(group) >= _FEW]
    logs = np.log(np.stack([bend, light], axis=1))
    return np.array([logs[group].mean(axis=0) for group in groups]), np.array([squares[g].mean(axis=0) for g in groups])


def law_of(cases: Sequence[Case]) -> PriorLaw:
    """Fit the law to what passes left."""
    bins, fine = (np.concatenate([getattr(case, name) for case in cases]) for name in ("bins", "fine"))
    design = np.column_stack([np.ones(len(bins)), bins])
    by_pixel = np.linalg.lstsq(design, np.log(fine + _TINY), rcond=None)[0]
    photons = np.array([case.photons_per_px for case in cases])
    slow = np.array([case.slow for case in cases])
    # By logarithms: doses differ by powers of ten. The constant is what is left where light is abundant.
    bright = photons >= np.median(photons)
    constant = np.exp(np.log(slow[bright]).mean(axis=0))
    of_light = np.exp(np.log(slow[~bright] * photons[~bright, None]).mean(axis=0))
    # A law is about a complex error, of which each part has half the variance.
    phase, amplitude = 2.0 * np.exp(by_pixel[0])
    shipped = shipped_prior_law()
    by_bent, by_light = by_pixel[1], -by_pixel[2]
    return PriorLaw(
        fine_phase=float(phase),
        phase_by_bent=float(by_bent[0]),
        phase_by_light=float(by_light[0]),
        fine_amplitude=float(amplitude),
        amplitude_by_bent=float(by_bent[1]),
        amplitude_by_light=float(by_light[1]),
        bright_photons=shipped.bright_photons,
        together_by_light=shipped.together_by_light,
        slow_phase=float(constant[0]),
        slow_phase_of_light=float(of_light[0]),
        slow_amplitude=float(constant[1]),
        slow_amplitude_of_light=float(of_light[1]),
    )


def main() -> None:
    """Measure and show the law."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=None, help="JSON file for the law")
    parser.add_argument("--kinds", nargs="+", default=_KINDS)
    parser.add_argument("--photons", nargs="+", type=float, default=_PHOTONS, help="per pattern")
    parser.add_argument("--seed", type=int, default=101)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cases = []
    for kind in asked.kinds:
        for photons in asked.photons:
            cases.append(case_of(kind, photons, asked.seed))
            print(f"{kind}, {cases[-1].photons_per_px:.3g} photons per px", flush=True)
    law = law_of(cases)
    for name, shipped in attrs.asdict(shipped_prior_law()).items():
        print(f"{name:24s} {getattr(law, name):10.3g}   in the package {shipped:10.3g}")
    if asked.output is not None:
        with atomic_path(asked.output) as partial:
            partial.write_bytes(prior_law_to_json(law))


if __name__ == "__main__":
    main()
