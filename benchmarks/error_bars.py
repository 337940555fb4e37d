"""How often the truth lies within the error bars: `python benchmarks/error_bars.py --help`.

Simulated scans over class and dose, one pass of the shipped weights with the true probe, a finish, and its standard
deviations beside the true errors of lit pixels (by more than a tenth of the brightest), constant phase free. Shares
within one standard deviation are 0.68 and within 1.96 of them 0.95 if the bars are right; `spread` is the root mean
square of errors in standard deviations, 1 if they are.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import attrs
import numpy as np
from charts import Panel, draw
from harness import Figures, write
from numpy.typing import NDArray

from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.simulation.objects import ObjectKind
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction

_LIT = 0.1


@attrs.frozen(kw_only=True, eq=False)
class Errors:
    """True errors and their bars; NaN where not lit.

    Attributes:
        phase: (H, W) [rad].
        amplitude: (H, W).
        phase_std: (H, W) [rad].
        amplitude_std: (H, W).
        photons_per_px: where lit.
    """

    phase: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    phase_std: NDArray[np.float64]
    amplitude_std: NDArray[np.float64]
    photons_per_px: float


def padded_truth(scan: Scan, result: Reconstruction) -> NDArray[np.complex64]:
    """Cut the known object to the canvas of a result, transparent beyond it."""
    if scan.object is None:
        raise SystemExit("this benchmark needs a scan with its true object")
    (top, left), (height, width) = result.origin_px, result.object.shape
    margin = max(height, width, 1)
    padded = np.pad(scan.object, margin, constant_values=1.0)
    return padded[margin + top : margin + top + height, margin + left : margin + left + width]


def errors_of(scan: Scan, result: Reconstruction) -> Errors:
    """Compare a result with the object that its scan was made from, pixel by pixel."""
    if result.uncertainty is None:
        raise SystemExit("this benchmark needs error bars")
    truth = padded_truth(scan, result)
    lit = result.coverage > _LIT * result.coverage.max()
    product = result.object * truth.conj()
    phase = np.angle(product * np.conj(product[lit].sum()))
    shown = [
        np.where(lit, values, np.nan).astype(np.float64)
        for values in (
            phase,
            np.abs(result.object) - np.abs(truth),
            result.uncertainty.phase_std_rad,
            result.uncertainty.amplitude_std,
        )
    ]
    return Errors(
        phase=shown[0],
        amplitude=shown[1],
        phase_std=shown[2],
        amplitude_std=shown[3],
        photons_per_px=float(result.coverage[lit].mean()),
    )


def measure(config: SimulationConfig) -> tuple[Figures, Errors]:
    """Simulate, reconstruct, finish, and count."""
    from ptycho_adapters.torch_backend import generalist_for, reconstruct  # noqa: PLC0415 - torch

    scan = simulate(config)
    quiet = PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False)
    wish = TorchInferenceConfig(probe_rounds=0, finish="auto", error_bars=True)
    started = time.perf_counter()
    result = reconstruct(generalist_for(scan), scan, execution_config=quiet, inference_config=wish)
    seconds = time.perf_counter() - started
    errors = errors_of(scan, result)
    case: Figures = {
        "object": str(config.object_kind),
        "N": config.N,
        "photons": config.photons,
        "photons_per_px": errors.photons_per_px,
        "patterns": scan.n_patterns,
        "finish_steps": result.metrics["finish_steps"],
        "seconds": seconds,
        "seconds_of_finish_and_bars": result.seconds["finish"],
    }
    for name, off, bars in (
        ("phase", errors.phase, errors.phase_std),
        ("amplitude", errors.amplitude, errors.amplitude_std),
    ):
        in_bars = np.abs(off / bars)[np.isfinite(bars)]
        case[name] = {
            "within_68": float(np.mean(in_bars < 1.0)),
            "within_95": float(np.mean(in_bars < 1.96)),
            "spread": float(np.sqrt(np.mean(in_bars**2))),
            "error": float(np.sqrt(np.nanmean(off**2))),
            "bar": float(np.sqrt(np.nanmean(bars**2))),
        }
    return case, errors


def plan(asked: argparse.Namespace) -> list[SimulationConfig]:
    """List the scans: every class at every dose, then some of the larger size."""
    base = SimulationConfig(object_size_px=asked.object_size, step_px=asked.step, seed=asked.seed)
    small = [attrs.evolve(base, object_kind=kind, photons=dose) for kind in asked.object_kinds for dose in asked.doses]
    # The larger patterns have as many photons per pixel.
    large = [
        attrs.evolve(each, N=2 * each.N, object_size_px=2 * asked.object_size, step_px=2.0 * asked.step)
        for each in small
        if str(each.object_kind) in asked.large_kinds and each.photons in asked.large_doses
    ]
    return [*small, *large]


def panels(cases: Sequence[Figures]) -> list[Panel]:
    """Shares within the bars over dose, by class."""
    small = [case for case in cases if case["N"] == 64]
    kinds = dict.fromkeys(str(case["object"]) for case in small)
    return [
        Panel(
            title=f"{what}: within {words}",
            x="photons per frame",
            y=f"share of lit pixels ({right} if the bars are right)",
            x_scale="log",
            lines={
                kind: (
                    [case["photons"] for case in small if case["object"] == kind],
                    [case[what][key] for case in small if case["object"] == kind],
                )
                for kind in kinds
            },
        )
        for what, key, words, right in (
            ("phase", "within_68", "1 std", 0.68),
            ("phase", "within_95", "1.96 std", 0.95),
            ("amplitude", "within_68", "1 std", 0.68),
        )
    ]


def pictures(config: SimulationConfig, errors: Errors) -> dict[str, NDArray[np.floating]]:
    """Errors of the phase beside their bars, on one scale of grey that ends at three median bars."""
    limit = 3.0 * float(np.nanmedian(errors.phase_std))
    scale = f"{config.object_kind}, {config.photons:.0e} photons, white {limit:.2g} rad"
    return {
        f"{what}: {scale}": np.nan_to_num(values).clip(0.0, limit)
        for what, values in (("phase error", np.abs(errors.phase)), ("its bar", errors.phase_std))
    }


def table(cases: Sequence[Figures]) -> str:
    """Lay the figures out for a page."""
    names = ("object", "px", "photons per px", "steps", "phase 68 / 95 %", "spread", "error, rad", "bar, rad")
    rows = [f"| {' | '.join((*names, 'amplitude 68 / 95 %', 'spread'))} |", "|" + "---|" * (len(names) + 2)]
    for case in cases:
        phase, amplitude = case["phase"], case["amplitude"]
        rows.append(
            f"| {case['object']} | {case['N']} | {case['photons_per_px']:,.3g} | {case['finish_steps']:.0f} "
            f"| {100 * phase['within_68']:.0f} / {100 * phase['within_95']:.0f} | {phase['spread']:.2f} "
            f"| {phase['error']:.2g} | {phase['bar']:.2g} "
            f"| {100 * amplitude['within_68']:.0f} / {100 * amplitude['within_95']:.0f} | {amplitude['spread']:.2f} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Measure every scan and write figures and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--doses", type=float, nargs="+", default=[1e3, 1e4, 1e5, 1e6, 1e7], help="photons per frame")
    parser.add_argument("--object-kinds", nargs="+", default=[str(kind) for kind in ObjectKind])
    parser.add_argument("--large-doses", type=float, nargs="*", default=[1e5, 1e7], help="of patterns of 128 px")
    parser.add_argument("--large-kinds", nargs="*", default=["chip", "cells"])
    parser.add_argument("--object-size", type=int, default=112, help="px")
    parser.add_argument("--step", type=float, default=7.0, help="px")
    parser.add_argument("--shown", type=float, default=1e5, help="dose of the pictures, which show the last class")
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    cases: list[Figures] = []
    images: dict[str, NDArray[np.floating]] = {}
    for config in plan(asked):
        case, errors = measure(config)
        cases.append(case)
        print(table([case]).splitlines()[-1], flush=True)
        if config.photons == asked.shown and config.N == 64:
            images = pictures(config, errors)
    write("error_bars", cases)
    draw("error_bars", panels(cases), images)
    print(table(cases))


if __name__ == "__main__":
    main()
