"""Adding patches to a canvas and cutting them out again: exact adjoints, on integer pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from ptycho_adapters.torch_backend.parts import part


def pixel_indices(starts: Tensor, size: int, width: int) -> Tensor:
    """Flat canvas indices of square patches.

    Args:
        starts: (..., 2) int64, (y, x) of each patch's first pixel on its canvas.
        size: patch edge in px.
        width: canvas width in px.

    Returns:
        (..., size * size) int64.
    """
    edge = torch.arange(size, device=starts.device)
    tile = edge[:, None] * width + edge[None, :]
    corner = starts[..., 0] * width + starts[..., 1]
    return corner[..., None] + tile.reshape(-1)


def accumulate(patches: Tensor, indices: Tensor, pixels: int) -> Tensor:
    """Add patches onto one canvas per group; the adjoint of `extract`.

    Args:
        patches: (B, C, N, N) real or complex.
        indices: (B, C, N * N) from `pixel_indices`.
        pixels: canvas size H * W.

    Returns:
        (B, pixels) sums.
    """
    canvas = torch.zeros(patches.shape[0], pixels, dtype=patches.dtype, device=patches.device)
    return add_patches(canvas, patches, indices)


@part("canvas")
def add_patches(canvas: Tensor, patches: Tensor, indices: Tensor) -> Tensor:
    """Add patches (B, C, N, N) onto canvases (B, pixels), which are changed in place and returned."""
    groups = patches.shape[0]
    return canvas.scatter_add_(1, indices.reshape(groups, -1), patches.reshape(groups, -1))


@part("canvas")
def extract(canvas: Tensor, indices: Tensor, size: int) -> Tensor:
    """Cut patches (B, C, size, size) out of canvases (B, pixels)."""
    groups, members, _ = indices.shape
    return canvas.gather(1, indices.reshape(groups, -1)).reshape(groups, members, size, size)
