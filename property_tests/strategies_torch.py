"""Strategies for the torch backend: tensors from seeds, groups of patches on a canvas."""

from __future__ import annotations

import attrs
import torch
from hypothesis import strategies as st
from torch import Tensor

from ptycho_adapters.torch_backend.generators import AveragedPatches, Draft, Generator
from ptycho_adapters.torch_backend.physics.canvas import accumulate, pixel_indices
from strategies_physics import seeds


def noise(seed: int, *shape: int, dtype: torch.dtype = torch.complex128) -> Tensor:
    """Normal noise, real or complex."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@attrs.frozen(kw_only=True, eq=False)
class Placed:
    """Groups of patches at whole starts on canvases of one size."""

    size: int
    height: int
    width: int
    starts: Tensor
    seed: int

    @property
    def pixels(self) -> int:
        """Pixels of a canvas."""
        return self.height * self.width

    @property
    def indices(self) -> Tensor:
        """Flat canvas indices (B, C, size²)."""
        return pixel_indices(self.starts, self.size, self.width)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the patches, (B, C, size, size)."""
        groups, members = self.starts.shape[:2]
        return groups, members, self.size, self.size


@st.composite
def placed_groups(draw: st.DrawFn) -> Placed:
    """Up to three groups of up to five patches, anywhere inside a canvas of any shape that holds one."""
    size = draw(st.integers(1, 6))
    height, width = (size + draw(st.integers(0, 5)) for _ in range(2))
    groups, members = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    start = st.tuples(st.integers(0, height - size), st.integers(0, width - size))
    starts = draw(st.lists(st.lists(start, min_size=members, max_size=members), min_size=groups, max_size=groups))
    return Placed(size=size, height=height, width=width, starts=torch.tensor(starts), seed=draw(seeds))


class _Nobody(Generator):
    """Stands where the averaging does not ask the generator."""

    def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
        """Never called."""
        raise NotImplementedError


def merge(patches: Tensor, weights: Tensor, indices: Tensor, pixels: int) -> Tensor:
    """Patches (B, C, N, N) averaged by weight on the canvas, as a generator's step does it, and cut out again."""
    weight = accumulate(weights, indices, pixels)[:, None]
    nothing = weight.new_zeros(len(weight), 0, 1, pixels)
    before = Draft(object=torch.ones_like(weight, dtype=patches.dtype), weight=weight, memory=nothing)
    total = accumulate(weights * patches, indices, pixels)[:, None]
    return AveragedPatches(_Nobody()).combine(total, before).patches(indices, patches.shape[-1])
