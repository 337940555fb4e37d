"""LSQ-ML by pty-chi on one of our scans, epoch by epoch: the solver that the benchmarks stand beside."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import logging
import time
from typing import TYPE_CHECKING, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from ptycho_core.physics.stitching import canvas_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from ptycho_core.measurement.scan import Scan

HOW_TO_INSTALL = (
    "this benchmark needs pty-chi in the interpreter that runs it:\n"
    "    pip install --no-deps ptychi==2.2.0 torchvision\n"
    "    pip install pydantic pandas scikit-learn\n"
    "(--no-deps keeps the torch that is installed)"
)
_RIM_PX = 1
_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@attrs.frozen(kw_only=True)
class SolverSettings:
    """How the solver runs.

    Attributes:
        noise_model: likelihood of the counts.
        batch_size: patterns per update.
        refine_probe: update the probe too.
        modes: incoherent modes; those beyond the probe's own start as its derivatives, with little light.
        correct_positions: move the positions too, after `quiet_epochs`.
        quiet_epochs: in which the object settles before the positions are moved.
        seed: order of the patterns.
    """

    noise_model: Literal["gaussian", "poisson"] = "gaussian"
    batch_size: int = 50
    refine_probe: bool = True
    modes: int = 1
    correct_positions: bool = False
    quiet_epochs: int = 10
    seed: int = 0


@attrs.frozen(kw_only=True, eq=False)
class Epoch:
    """What the solver has after an epoch.

    Attributes:
        number: epochs done.
        seconds: time that these took, set-up of the solver included, from arrays in memory.
        object: (H, W) complex64.
        origin_px: (y, x) of pixel [0, 0].
        probe: (modes, N, N) complex64.
    """

    number: int
    seconds: float
    object: NDArray[np.complex64]
    origin_px: tuple[int, int]
    probe: NDArray[np.complex64]


def require_solver() -> None:
    """End the program with what to install where pty-chi is missing."""
    if any(importlib.util.find_spec(name) is None for name in ("ptychi", "torchvision")):
        raise SystemExit(HOW_TO_INSTALL)


def version() -> str:
    """Version of pty-chi."""
    return importlib.metadata.version("ptychi")


def solve(scan: Scan, settings: SolverSettings, epochs: int) -> Iterator[Epoch]:
    """Run the solver from an object of ones and the scan's own probe; time spent by the caller does not count."""
    mend_torchvision()
    torch = importlib.import_module("torch")
    api = importlib.import_module("ptychi.api")
    task_type = importlib.import_module("ptychi.api.task").PtychographyTask
    logging.getLogger("ptychi").setLevel(logging.ERROR)
    frame = canvas_frame(scan.positions_px, scan.N)
    shape = tuple(side + 2 * _RIM_PX for side in frame.shape)
    origin = (frame.origin_px[0] - _RIM_PX, frame.origin_px[1] - _RIM_PX)
    counts = scan.counts()
    started = time.perf_counter()
    task = task_type(
        _options(api, settings, origin),
        diffraction_data=torch.tensor(np.asarray(counts)),
        object_data=torch.ones((1, *shape), dtype=torch.complex64),
        probe_data=_modes(scan, settings.modes)[None],
        probe_position_x_px=torch.tensor(scan.positions_px[:, 1], dtype=torch.float32),
        probe_position_y_px=torch.tensor(scan.positions_px[:, 0], dtype=torch.float32),
        valid_pixel_mask=None if scan.bad_pixels is None else torch.tensor(~scan.bad_pixels),
    )
    seconds = time.perf_counter() - started
    for number in range(1, epochs + 1):
        started = time.perf_counter()
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            task.run(1)
        seconds += time.perf_counter() - started
        yield Epoch(
            number=number,
            seconds=seconds,
            object=task.get_data_to_cpu("object", as_numpy=True)[0].copy(),
            origin_px=origin,
            probe=task.get_data_to_cpu("probe", as_numpy=True)[0].copy(),
        )


def _modes(scan: Scan, modes: int) -> Tensor:
    from ptycho_adapters.torch_backend.inference.hypotheses import orthogonal_modes, with_more_modes  # noqa: PLC0415

    probe = importlib.import_module("torch").tensor(scan.probe)
    return with_more_modes(orthogonal_modes(probe), modes) if modes > 1 else probe


def _options(api, settings: SolverSettings, origin: tuple[int, int]):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    options = api.LSQMLOptions()
    options.data_options.fft_shift = True
    reconstructor = options.reconstructor_options
    reconstructor.default_device = api.Devices.CPU
    reconstructor.batch_size = settings.batch_size
    reconstructor.batching_mode = api.BatchingModes.RANDOM
    reconstructor.noise_model = api.NoiseModels(settings.noise_model)
    reconstructor.random_seed = settings.seed
    options.probe_options.optimizable = settings.refine_probe
    positions = options.probe_position_options
    positions.optimizable = settings.correct_positions
    positions.optimization_plan.start = settings.quiet_epochs
    options.object_options.determine_position_origin_coords_by = api.ObjectPosOriginCoordsMethods.SPECIFIED
    options.object_options.position_origin_coords = [-float(edge) for edge in origin]
    return options


def mend_torchvision() -> None:
    """Where torchvision cannot load its own operators, as its CUDA build on a CPU, declare those it names.

    None of them is called by anything here; but pty-chi and Lightning's metrics import torchvision where it is.
    """
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        library = importlib.import_module("torch").library.Library("torchvision", "DEF")
        for operator in _OPERATORS:
            library.define(operator)
        _KEPT.append(library)  # a library that is collected takes its operators along
        importlib.import_module("torchvision")


_KEPT: list[object] = []
