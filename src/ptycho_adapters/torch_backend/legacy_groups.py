"""The legacy software's own chain around its network, stage by stage, to compare with what it gave.

A reconstruction here takes the network's patches alone. This goes on as that software did: groups of normalised
patterns in, one image per group and the predicted amplitudes out.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from ptycho_adapters.legacy_archives import Generation, read_legacy_archive
from ptycho_adapters.torch_backend.legacy_models import legacy_generator
from ptycho_adapters.torch_backend.physics.legacy_canvas import cut, merge, translate, trim
from ptycho_core.errors import ArchiveError, Problem

if TYPE_CHECKING:
    from ptycho_adapters.legacy_archives import LegacyArchive

_STITCHED_PX = 20
_FLOOR = 1e-9


@attrs.frozen(kw_only=True, eq=False)
class GroupStages:
    """What becomes of groups of patterns, in the legacy software's scale.

    Attributes:
        patches: (B, C, N, N) complex64, of the network.
        canvas: (B, P, P) complex64, merged.
        image: (B, N, N) complex64, the middle of the canvas, which is that software's answer.
        amplitudes: (B, C, N, N) float32, predicted, in the scale of the patterns; None without a probe.
    """

    patches: Tensor
    canvas: Tensor
    image: Tensor
    amplitudes: Tensor | None


class LegacyGroups:
    """The chain of one archive.

    Args:
        path: of the archive.

    Attributes:
        archive: what it holds.
        generator: its network.
        canvas_px: side of a group's canvas.

    Raises:
        ArchiveError: it cannot be read, or does not say how large the canvas is.
    """

    def __init__(self, path: str | Path) -> None:
        self.archive = read_legacy_archive(Path(path))
        self.generator = legacy_generator(self.archive, str(path))
        self.canvas_px = _canvas_px(self.archive, str(path))
        self._of_torch = self.archive.generation is Generation.TORCH

    @torch.inference_mode()
    def stages(self, patterns: Tensor, offsets_px: Tensor, probe: Tensor | None = None) -> GroupStages:
        """Run the chain.

        Args:
            patterns: (B, C, N, N) float32 amplitudes, DC at N // 2, as the network sees them: normalised so that the
                mean sum of squares is (N/2)².
            offsets_px: (B, C, 2) float32, (y, x), with the legacy sign.
            probe: (N, N) complex64, for torch bundles, which hold none; else the archive's own unless given.
        """
        size = patterns.shape[-1]
        patches = self.generator.patches(patterns)
        canvas = self._merged(patches, offsets_px)
        light = self._light(probe)
        amplitudes = None
        if light is not None:
            waves = cut(canvas, offsets_px, size) * light
            amplitudes = torch.fft.fftshift(torch.fft.fft2(waves, norm="ortho").abs(), dim=(-2, -1))
        return GroupStages(patches=patches, canvas=canvas, image=trim(canvas, size), amplitudes=amplitudes)

    def _merged(self, patches: Tensor, offsets_px: Tensor) -> Tensor:
        if self.archive.parameters.merges:
            return merge(patches, offsets_px, self.canvas_px, masked=self._of_torch)
        margin = self.canvas_px - patches.shape[-1]
        return torch.nn.functional.pad(patches[:, 0], (margin // 2, margin - margin // 2) * 2)

    def _light(self, probe: Tensor | None) -> Tensor | None:
        parameters = self.archive.parameters
        if probe is None and parameters.probe is not None:
            return torch.tensor(parameters.probe)
        # The torch bundle's chain divides the probe of the data by this; TensorFlow's probe is stored divided.
        return probe / (parameters.probe_scale or 1.0) if probe is not None and self._of_torch else probe


def stitched(images: Tensor, positions_px: Tensor, edge_px: int = _STITCHED_PX) -> Tensor:
    """Lay the middles of images side by side, as the legacy software made its picture of a whole scan.

    Args:
        images: (n, N, N) complex64, one per group.
        positions_px: (n, 2), (y, x) of the groups, with the legacy sign.
        edge_px: side of the middles.

    Returns:
        (H, H) complex64.
    """
    shifts = (positions_px.double() - positions_px.double().mean(dim=0)).float()
    reach = math.ceil(float(shifts.abs().max()))
    size = edge_px + 2 * (reach + reach % 2)
    margin = ((size - edge_px) // 2,) * 4
    middles = torch.nn.functional.pad(trim(images, edge_px), margin)
    ones = torch.nn.functional.pad(images.real.new_ones(len(images), edge_px, edge_px), margin)
    return translate(middles, shifts).sum(dim=0) / (translate(ones, shifts).sum(dim=0) + _FLOOR)


def _canvas_px(archive: LegacyArchive, subject: str) -> int:
    known, steps = archive.parameters, archive.parameters.gridsize - 1
    if known.offset is not None and known.max_position_jitter is not None:
        return known.N + steps * known.offset + known.max_position_jitter
    distance = archive.bundle.max_neighbor_distance
    if distance is None:
        fix = "torch_scaling_metadata.pt holds it"
        problem = Problem(path="max_neighbor_distance", expected="a distance in px", found="none", fix=fix)
        raise ArchiveError(subject, [problem])
    reach = math.ceil(distance)
    return known.N + steps * (reach + reach % 2)
