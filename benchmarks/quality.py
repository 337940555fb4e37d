"""What the benchmarks of quality share: scans, references, and one way to score for everybody."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from ptycho_core.measurement.scan import Scan
from ptycho_core.physics.optics import accumulate_patches
from ptycho_core.physics.stitching import CanvasFrame
from ptycho_core.results.metrics import compare, evaluation_mask
from ptycho_core.results.product import Product

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Figures

    from ptycho_adapters.torch_backend import TrainedModel
    from ptycho_core.config.execution import Precision
    from ptycho_core.results.reconstruction import Reconstruction

ProbeChoice = Literal["auto", "model", "scan"]
_RIM_PX = 2
Region = tuple[int, int, int, int]
SCORES = (
    "phase_correlation",
    "phase_mae_rad",
    "phase_ssim",
    "amplitude_ssim",
    "phase_frc50_per_px",
    "frc50_per_px",
    "half_bit_per_px",
)


@attrs.frozen(kw_only=True, eq=False)
class Judge:
    """Scores objects against one reference, all on the pixels that the scan lights well.

    Attributes:
        scan: gives the lit area: summed probe intensity above a tenth of its maximum.
        reference: (H, W) complex.
        reference_origin_px: (y, x) of its pixel [0, 0].
        margin_px: rim of the lit area that is left out.
        region_px: (y0, y1, x0, x1) in the frame of the positions, ends excluded; None for all.
    """

    scan: Scan
    reference: NDArray[np.complexfloating]
    reference_origin_px: tuple[int, int] = (0, 0)
    margin_px: int = 0
    region_px: Region | None = None

    def scores(self, object_: NDArray[np.complexfloating], origin_px: tuple[int, int]) -> dict[str, float]:
        """Figures of an object whose pixel [0, 0] lies at `origin_px`; shift, ramp, scale and phase are free."""
        comparison = compare(
            object_,
            self.reference,
            mask=self.mask(object_.shape, origin_px),
            origin_px=origin_px,
            reference_origin_px=self.reference_origin_px,
        )
        return {name: comparison.figures()[name] for name in SCORES}

    def mask(self, shape: tuple[int, int], origin_px: tuple[int, int]) -> NDArray[np.bool_]:
        """The pixels that are judged on a canvas, (H, W)."""
        light = np.square(np.abs(self.scan.probe)).sum(axis=0).astype(np.float64)
        # A canvas of rounded positions may end a fraction of a pixel before a patch does.
        frame = CanvasFrame(
            origin_px=(origin_px[0] - _RIM_PX, origin_px[1] - _RIM_PX),
            shape=(shape[0] + 2 * _RIM_PX, shape[1] + 2 * _RIM_PX),
        )
        patches = np.broadcast_to(light, (self.scan.n_patterns, *light.shape))
        lit = accumulate_patches(patches, self.scan.positions_px, frame)[_RIM_PX:-_RIM_PX, _RIM_PX:-_RIM_PX]
        mask = evaluation_mask(lit, margin_px=self.margin_px)
        if self.region_px is not None:
            y0, y1, x0, x1 = self.region_px
            rows, columns = (np.arange(n) + start for n, start in zip(shape, origin_px, strict=True))
            mask = mask & ((rows >= y0) & (rows < y1))[:, None] & ((columns >= x0) & (columns < x1))[None, :]
        return mask


def truth_judge(scan: Scan, *, margin_px: int = 4) -> Judge:
    """Judge by the object that a simulated scan was made from."""
    if scan.object is None:
        raise SystemExit("this benchmark needs a scan with its true object")
    return Judge(scan=scan, reference=scan.object, margin_px=margin_px)


def reference_judge(scan: Scan, reference: Path, *, margin_px: int, region_px: Region | None) -> Judge:
    """Judge by an object from a file: a product, or NPZ with `object` or `objectGuess`."""
    from ptycho_adapters.evaluation.objects import read_object  # noqa: PLC0415 - h5py

    placed = read_object(reference)
    return Judge(
        scan=scan,
        reference=placed.object,
        reference_origin_px=placed.origin_px,
        margin_px=margin_px,
        region_px=region_px,
    )


def one_pass(
    model: TrainedModel,
    scan: Scan,
    *,
    repeats: int = 1,
    precision: Precision = "32-true",
    probe: ProbeChoice = "scan",
    rounds: int | None = 0,
) -> tuple[Reconstruction, float]:
    """Reconstruct with a trained model; the least seconds of a few repeats, from arrays in memory.

    Args:
        model: network and probes.
        scan: patterns in memory.
        repeats: of the same.
        precision: of the network.
        probe: which one.
        rounds: of the probe before the pass; None makes as many as a reconstruction does by default.
    """
    from ptycho_adapters.torch_backend import reconstruct  # noqa: PLC0415 - torch
    from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig  # noqa: PLC0415

    execution = PyTorchExecutionConfig(accelerator="cpu", precision=precision)
    settings = TorchInferenceConfig(probe_source=probe, probe_rounds=rounds)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = reconstruct(model, scan, execution_config=execution, inference_config=settings)
        seconds.append(time.perf_counter() - started)
    return result, min(seconds)


def as_product(result: Reconstruction, scan: Scan) -> Product:
    """Return a reconstruction as it is written to a file."""
    known = scan.metadata
    return Product(
        object=result.object,
        origin_px=result.origin_px,
        probe=result.probe,
        positions_px=result.positions_px,
        position_indexes=result.pattern_indices,
        coverage=result.coverage,
        pixel_size_m=known.pixel_size_m,
        scale=result.scale,
        metrics=result.metrics,
        name=known.name,
    )


def region(text: str) -> Region:
    """Read Y0:Y1,X0:X1."""
    (y0, y1), (x0, x1) = (part.split(":") for part in text.split(","))
    return int(y0), int(y1), int(x0), int(x1)


def shown(scores: Figures) -> str:
    """Return scores on one line."""
    return "  ".join(f"{name} {value:.3f}" for name, value in scores.items() if isinstance(value, float))
