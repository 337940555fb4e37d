"""Pictures of faults, before and after: `python docs/tools/fault_pictures.py docs/pictures/faults`.

One sound simulated scan is spoiled in one way at a time, written, and reconstructed twice with the weights in the
package: as it is, with everything that looks for faults switched off, and with the defaults. The sound scan itself is
left as it is in both runs. Figures and remarks are printed in the order of the pictures. Takes five minutes of
processor time.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters import generalist_for, read_scan, reconstruct, write_scan
from ptycho_adapters.files import DetectorCheck
from ptycho_core import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.measurement.suspicions import screened_findings
from ptycho_core.results.metrics import compare, evaluation_mask
from ptycho_core.simulation.simulate import SimulationConfig, simulate, simulate_scan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt
    from matplotlib.axes import Axes

    from ptycho_core import Scan
    from ptycho_core.results.reconstruction import Reconstruction

SCAN = SimulationConfig(object_kind="siemens-star", object_size_px=110, step_px=6.0, photons=1e5, seed=5)
LEFT = TorchInferenceConfig(
    beam_search=False,
    probe_autofocus=False,
    position_refinement="none",
    orientation_search="never",
    probe_search="never",
    background_counts=0.0,
    probe_modes=1,
)
_QUIET = PyTorchExecutionConfig(enable_progress_bar=False, num_threads=1)
_SIZE_IN, _DPI, _RIM_PX = (9.0, 3.1), 90, 24


def _moved_beam(scan: Scan) -> Scan:
    return attrs.evolve(scan, patterns=np.roll(scan.patterns, (8, 5), (1, 2)))


def _hot_pixel(scan: Scan) -> Scan:
    patterns = np.array(scan.patterns, np.uint32)
    patterns[:, 10, -9] = np.random.default_rng(1).poisson(20_000, len(patterns))
    return attrs.evolve(scan, patterns=patterns)


def _background(scan: Scan) -> Scan:
    return _again(scan, background=5.0)


def _mirrored(scan: Scan) -> Scan:
    return attrs.evolve(scan, positions_px=scan.positions_px * (1.0, -1.0))


def _inexact(scan: Scan) -> Scan:
    errors = np.random.default_rng(2).normal(0.0, 2.0, scan.positions_px.shape)
    return attrs.evolve(_again(scan, off_px=errors), positions_px=scan.positions_px)


def _again(scan: Scan, *, background: float = 0.0, off_px: npt.NDArray[np.float64] | float = 0.0) -> Scan:
    """The same experiment with light that is no beam's, or from places beside those that it says."""
    if scan.object is None:
        raise ValueError("a simulated scan knows its object")
    rng = np.random.default_rng(3)
    wide = np.pad(scan.object, _RIM_PX, mode="edge")
    places = scan.positions_px + off_px + _RIM_PX
    made = simulate_scan(wide, scan.probe, places, rng=rng, background=background)
    return attrs.evolve(scan, patterns=made.patterns)


FAULTS: Mapping[str, Callable[[Scan], Scan]] = {
    "beam_off": _moved_beam,
    "hot_pixel": _hot_pixel,
    "background": _background,
    "mirrored": _mirrored,
    "positions": _inexact,
}


def main() -> None:
    """Draw every fault, or those that are named, into the folder that the command line names."""
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    sound = simulate(SCAN)
    for name in sys.argv[2:] or FAULTS:
        spoiled = FAULTS[name](sound)
        before, _ = _result(spoiled, DetectorCheck.OFF, LEFT)
        after, said = _result(spoiled, DetectorCheck.MASK, TorchInferenceConfig())
        scores = [f"{_score(result, spoiled):.3f} (R {result.metrics['r_factor']:.3f})" for result in (before, after)]
        _draw(spoiled, before, after, target / f"{name}.png")
        sys.stdout.write("\n  ".join([f"{name}: {' -> '.join(scores)}", *said]) + "\n")
        sys.stdout.flush()


def _result(scan: Scan, check: DetectorCheck, settings: TorchInferenceConfig) -> tuple[Reconstruction, list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        write_scan(scan, Path(folder) / "scan.npz")
        read = read_scan(Path(folder) / "scan.npz", detector_check=check)
    result = reconstruct(generalist_for(read), read, execution_config=_QUIET, inference_config=settings)
    return result, [finding.text for finding in (*screened_findings(read), *result.findings)]


def _score(result: Reconstruction, scan: Scan) -> float:
    if scan.object is None:
        raise ValueError("a simulated scan knows its object")
    mask = evaluation_mask(result.coverage)
    if result.origin_px[1] < -scan.object.shape[1] // 2:
        return float("nan")  # a mirrored answer lies elsewhere: the truth is no measure of it
    return compare(result.object, scan.object, mask=mask, origin_px=result.origin_px).phase_correlation


def _draw(scan: Scan, before: Reconstruction, after: Reconstruction, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - matplotlib takes half a second
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=_SIZE_IN, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    mean, left, found = figure.subplots(1, 3)
    mean.imshow(np.log10(scan.patterns.mean(axis=0) + 0.1), cmap="magma")
    mean.set_title("mean pattern", fontsize=10)
    _phase(left, before, "nothing looked for")
    _phase(found, after, "as it comes")
    for axes in (mean, left, found):
        axes.set_xticks([])
        axes.set_yticks([])
    figure.savefig(path)


def _phase(axes: Axes, result: Reconstruction, title: str) -> None:
    covered = evaluation_mask(result.coverage)
    rows, columns = np.nonzero(covered)
    middle = np.angle(np.mean(result.object[covered] / np.abs(result.object[covered])))
    phase = np.angle(result.object * np.exp(-1j * middle))
    low, high = np.percentile(phase[covered], (1, 99))
    shown = np.where(covered, phase, np.nan)[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    axes.imshow(shown, cmap="gray", vmin=low, vmax=high)
    axes.set_title(title, fontsize=10)


if __name__ == "__main__":
    main()
