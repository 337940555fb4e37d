"""A task of pty-chi on one of our scans, epoch by epoch, in our frame."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from ptycho_adapters.ptychi.containment import contained
from ptycho_adapters.ptychi.engines import RefineSettings, task_options
from ptycho_adapters.ptychi.installation import load

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptycho_adapters.ptychi.start import Start
    from ptycho_core.measurement.scan import Scan


class _Task(Protocol):
    """What is used of `ptychi.api.task.PtychographyTask`."""

    def run(self, n_epochs: int) -> None: ...

    def get_data(self, name: str) -> torch.Tensor: ...


class Solver:
    """pty-chi at work on a scan; what it sets for the process holds while it works, and no longer.

    Positions go over as the corners of their patches, relative to the object's pixel [0, 0], and the way from a corner
    to a centre as their origin: pty-chi rounds what it is given to whole pixels and moves the probe by the rest, and
    corners are what this library rounds. Float32 holds them well, and no origin is guessed.
    Its Fourier transform is not unitary: with a probe over N it expects our counts. Of probe and positions what was
    changed is taken back, so that nothing is lost where nothing was.
    """

    def __init__(self, scan: Scan, start: Start, settings: RefineSettings) -> None:
        """Build the task.

        Args:
            scan: counts, mask and size.
            start: object, probe and positions.
            settings: what is asked for.

        Raises:
            DependencyError: pty-chi is not installed.
        """
        self._start = start
        self._corners = (start.positions_px - np.array(start.origin_px) - (scan.N - 1) / 2).astype(np.float32)
        with contained():
            self._first_probe = _probe(start, settings).numpy()
            probe = torch.tensor(self._first_probe / np.float32(scan.N))
            rms = float(probe.abs().square().mean().sqrt())
            options = task_options(load("ptychi.api"), settings, cold=start.cold, size=scan.N, probe_rms=rms)
            self._given_probe = probe.numpy()
            self._built = load("ptychi.api.task").PtychographyTask(
                options,
                diffraction_data=torch.tensor(np.fft.ifftshift(scan.counts(), axes=(-2, -1))),
                object_data=torch.tensor(start.object)[None],
                probe_data=probe[None],
                probe_position_x_px=torch.tensor(self._corners[:, 1]),
                probe_position_y_px=torch.tensor(self._corners[:, 0]),
                valid_pixel_mask=None if scan.bad_pixels is None else torch.tensor(np.fft.ifftshift(~scan.bad_pixels)),
            )
            # pty-chi gives its loader a generator that it never seeds.
            self._built.reconstructor.dataloader.generator.manual_seed(settings.seed)
        self._task: _Task = self._built

    def step(self) -> float:
        """Run one epoch.

        Returns:
            Mean squared difference of expected and measured amplitudes over the epoch, before each update, as pty-chi
            counts it: masked pixels too.
        """
        with contained():
            self._task.run(1)
            losses = self._built.reconstructor.loss_tracker.table["loss"]
        return float(losses.iloc[-1]) if len(losses) else math.nan

    @property
    def object(self) -> NDArray[np.complex64]:
        """(H, W) complex64, on the canvas of the start."""
        values: NDArray[np.complex64] = self._get("object")[0]
        return values

    @property
    def probe(self) -> NDArray[np.complex64]:
        """(modes, N, N) complex64."""
        changed = (self._get("probe")[0] - self._given_probe) * np.float32(self._first_probe.shape[-1])
        values: NDArray[np.complex64] = (self._first_probe + changed).astype(np.complex64)
        return values

    @property
    def positions_px(self) -> NDArray[np.float64]:
        """(n, 2) float64 (y, x): those of the start, and what pty-chi moved them by."""
        moved = self._get("probe_positions").astype(np.float64) - self._corners
        positions: NDArray[np.float64] = self._start.positions_px + moved
        return positions

    def expected_counts(self) -> NDArray[np.float32]:
        """What pty-chi expects on the detector, (n, N, N), zero frequency at N // 2."""
        with contained(), torch.no_grad():
            indices = torch.arange(len(self._corners))
            expected = self._built.reconstructor.forward_model(indices)
            shifted: NDArray[np.float32] = torch.fft.fftshift(expected, dim=(-2, -1)).numpy().copy()
        return shifted

    def _get(self, name: str) -> NDArray[np.generic]:
        with contained():
            values: NDArray[np.generic] = self._task.get_data(name).detach().numpy().copy()
        return values


def _probe(start: Start, settings: RefineSettings) -> torch.Tensor:
    # After pty-chi, whose torchvision may want to be mended before Lightning looks at it.
    from ptycho_adapters.torch_backend.inference.hypotheses import (  # noqa: PLC0415
        orthogonal_modes,
        with_more_modes,
    )

    probe = torch.tensor(start.probe)
    if settings.probe_modes is None or settings.probe_modes == len(probe):
        return probe
    return with_more_modes(orthogonal_modes(probe), settings.probe_modes)
