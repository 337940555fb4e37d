"""A reconstruction that goes on while frames arrive: a batch costs a pass over itself, not over all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch

from ptycho_adapters.common.bars import bars_drawn
from ptycho_adapters.torch_backend.data.resident import ResidentScan
from ptycho_adapters.torch_backend.inference.canvas_sums import Box, CanvasSums, Piece, on_piece, views_of
from ptycho_adapters.torch_backend.inference.preparation import prepare
from ptycho_adapters.torch_backend.inference.reconstruct import first_pass, outward_scale, preparation_for
from ptycho_adapters.torch_backend.inference.whole_scan import where_lit
from ptycho_adapters.torch_backend.physics.optics import beam_slope, split_positions
from ptycho_core.results.reconstruction import Reconstruction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptycho_adapters.torch_backend.inference.whole_scan import WholeScan
    from ptycho_adapters.torch_backend.trained_model import TrainedModel
    from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
    from ptycho_core.measurement.scan import Scan

KEPT_OPEN = 128
"""Frames that are passed once more with those that come after them, so that they see their later neighbours."""

_COMPANY_BATCH = 8  # patterns at a time for a network that sees several together; a divisor of the frames kept open


class RunningReconstruction:
    """An object that grows with the frames that are added.

    Probe, flux, background and the place of the beam are those of the first batch, under the settings of a run without
    rounds; they stay.

    Args:
        model: network and probes.
        first: the frames of the first batch, as a scan; they still have to be added.
        execution: device, precision, batch size.
        settings: probe source and weighting; no rounds, no finish.
        around_px: (n, 2) positions for which the canvas has room at once.

    Raises:
        ScanError: the frames are not of the model's size, or fewer than the network sees together.
    """

    @torch.inference_mode()
    def __init__(
        self,
        model: TrainedModel,
        first: Scan,
        execution: PyTorchExecutionConfig,
        settings: TorchInferenceConfig,
        *,
        around_px: NDArray[np.float64],
    ) -> None:
        run, self._taken = first_pass(model, first, np.arange(first.n_patterns), execution, settings)
        with bars_drawn(wanted=execution.enable_progress_bar):
            self._run = prepare(run, preparation_for(model, settings)).run
        self._scale = outward_scale(self._run, first)
        self._sums = CanvasSums(self._run, _starts(around_px, first.N))
        self._box: Box | None = None
        self.open = 0

    @property
    def recent(self) -> int:
        """How many of the frames before go before the new ones into a batch."""
        if len(self._sums.steps) > 1:
            return self.open
        together = self._run.generator.together
        return 0 if together == 1 else self.open // _COMPANY_BATCH * _COMPANY_BATCH

    @torch.inference_mode()
    def add(self, frames: Scan, *, behind: bool = False) -> NDArray[np.float64]:
        """Take frames in.

        Args:
            frames: the last `recent` frames of the batches before, then the new ones.
            behind: more are waiting than are worth a second pass.

        Returns:
            (2, n) for each new frame the sum of the gaps between measured and expected amplitudes, and that of the
            measured ones: their ratio is an R-factor.
        """
        frames = _with_beam_at_the_middle(frames, self._run.scan.beam_px)
        recent, n = self.recent, frames.n_patterns
        starts = _starts(frames.positions_px, frames.N)
        self._sums.make_room(starts, frames.N)
        self._box = _joined(self._box, starts, frames.N)
        run = attrs.evolve(self._run, scan=ResidentScan(frames).to(self._run.probe.device), indices=torch.arange(n))
        run = attrs.evolve(run, indices=run.indices.to(self._run.probe.device))
        kept_open = 0 if behind else max(n - recent, min(KEPT_OPEN, n))
        figures = np.zeros((2, n - recent))
        for piece in self._sums.pieces(starts, frames.N):
            self._pass(run, piece, recent, n - kept_open)
            new = piece.members[piece.members >= recent]
            if len(new):
                figures[:, new - recent] = self._fit(run, piece, new)
        self.open = min(KEPT_OPEN, self.open + n - recent) if len(self._sums.steps) == 1 else kept_open
        return figures

    def _pass(self, run: WholeScan, piece: Piece, recent: int, settled: int) -> None:
        """Pass the patterns of a piece; in the batch the first `recent` are old, and the first `settled` to be done."""
        members = piece.members
        old = members < recent
        if len(self._sums.steps) == 1:
            # Nothing that comes later changes what a pattern contributes.
            new = views_of(attrs.evolve(run, batch_size=min(run.batch_size, _COMPANY_BATCH)), piece, members)
            new = new[int(old.sum()) // _COMPANY_BATCH :]
            self._sums.add(piece, (new, (), new))
            return
        done = members < settled
        parts = [views_of(run, piece, members[which]) for which in (old & done, ~old & done, old & ~done, ~old & ~done)]
        self._sums.add(piece, (parts[0] + parts[1], parts[2] + parts[3], parts[1] + parts[3]))

    def _fit(self, run: WholeScan, piece: Piece, new: NDArray[np.int64]) -> NDArray[np.float64]:
        narrowed = on_piece(run, piece, new)
        judged = narrowed.judge(self._sums.object_in(piece.box).flatten())
        amplitudes = np.sqrt(run.scan.gather(narrowed.indices[None]).counts[0].double().cpu().numpy()).sum(axis=(1, 2))
        return np.stack([judged.r_factors * amplitudes, amplitudes])

    @torch.inference_mode()
    def result(self, positions_px: NDArray[np.float64], numbers: NDArray[np.int64]) -> Reconstruction:
        """Give the object so far.

        Args:
            positions_px: (n, 2) of all frames that were added.
            numbers: (n,) of theirs in the scan.
        """
        box = self._box
        if box is None:
            raise ValueError("no frame was added")
        light = self._sums.light_in(box).flatten()
        object_, coverage = where_lit(self._sums.object_in(box).flatten(), light)
        shape, run = (box.canvas.height, box.canvas.width), self._run
        probe = run.probe * beam_slope(run.scan.beam_px, run.scan.size).to(run.probe.device) / self._scale
        return Reconstruction(
            object=(object_ * self._scale).reshape(shape).cpu().numpy(),
            coverage=coverage.reshape(shape).cpu().numpy(),
            origin_px=box.low,
            probe=probe.cpu().numpy().astype(np.complex64),
            probe_source=self._taken.source,
            probe_number=self._taken.number,
            positions_px=positions_px,
            given_positions_px=positions_px,
            pattern_indices=numbers,
            background_counts=run.background,
            beam_px=run.scan.beam_px,
            scale=self._scale,
        )


def _starts(positions_px: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """First pixels (n, 2) of the patches at some positions."""
    starts: NDArray[np.int64] = split_positions(torch.tensor(positions_px), size)[0].numpy()
    return starts


def _joined(box: Box | None, starts: NDArray[np.int64], size: int) -> Box:
    """The smallest box that holds another one and patches."""
    low, high = starts.min(axis=0), starts.max(axis=0) + size
    if box is not None:
        low, high = np.minimum(low, box.low), np.maximum(high, box.high)
    return Box(low=(int(low[0]), int(low[1])), high=(int(high[0]), int(high[1])))


def _with_beam_at_the_middle(frames: Scan, beam_px: tuple[int, int]) -> Scan:
    """Roll patterns and mask by what the beam is off."""
    if beam_px == (0, 0):
        return frames
    back = -beam_px[0], -beam_px[1]
    bad = frames.bad_pixels
    return attrs.evolve(
        frames,
        patterns=np.roll(frames.patterns, back, axis=(1, 2)),
        bad_pixels=None if bad is None else np.roll(bad, back, axis=(0, 1)),
    )
