"""How the legacy software laid the patches of a group on a canvas, and cut them out again, at fractions of a pixel.

Nothing of a reconstruction here works that way: images are interpolated. It is for comparing with what that software
gave. Each group has a canvas of its own, so a result does not depend on which groups it was worked out with.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_FLOOR = 0.001  # added to the number of patches that lie on a pixel


def translate(images: Tensor, shifts_px: Tensor) -> Tensor:
    """Move images by (y, x) pixels: bilinear between pixels, zero outside.

    Args:
        images: (B, H, W) real or complex.
        shifts_px: (B, 2) float32, (y, x); content moves by +shift.

    Returns:
        (B, H, W).
    """
    whole = torch.floor(-shifts_px)
    rest = -shifts_px - whole
    moved = torch.zeros_like(images)
    for dy in (0, 1):
        rows, rows_weight = _nearby(whole[:, 0] + dy, rest[:, 0] if dy else 1.0 - rest[:, 0], images.shape[-2])
        for dx in (0, 1):
            columns, weight = _nearby(whole[:, 1] + dx, rest[:, 1] if dx else 1.0 - rest[:, 1], images.shape[-1])
            taken = images[torch.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]
            moved = moved + taken * (rows_weight[:, :, None] * weight[:, None, :])
    return moved


def _nearby(first: Tensor, share: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Places (B, size) along an axis that begin at `first`, and their weight, 0 outside."""
    places = first.long()[:, None] + torch.arange(size, device=first.device)
    inside = (places >= 0) & (places < size)
    return places.clamp(0, size - 1), share[:, None] * inside


def merge(patches: Tensor, offsets_px: Tensor, canvas_px: int, *, masked: bool) -> Tensor:
    """Average the patches of each group where their centres lie.

    Args:
        patches: (B, C, N, N) complex64.
        offsets_px: (B, C, 2) float32, (y, x) of each patch against the middle of its group, with the legacy sign.
        canvas_px: side of the canvas.
        masked: count only the centre of a patch, N/2 wide; else all of it is added up, and divided by the number of
            centres nevertheless, as TensorFlow's generations did.

    Returns:
        (B, canvas_px, canvas_px) complex64.
    """
    groups, members, size, _ = patches.shape
    shifts = -offsets_px.reshape(-1, 2)
    centre = functional.pad(patches.real.new_ones(size // 2, size // 2), (size // 4,) * 4)
    laid = translate(_padded(patches.flatten(0, 1), canvas_px), shifts)
    counted = translate(_padded(centre.expand(groups * members, size, size), canvas_px), shifts)
    laid = laid * counted if masked else laid
    sums, counts = (each.reshape(groups, members, *each.shape[1:]).sum(dim=1) for each in (laid, counted))
    return sums / (counts + _FLOOR)


def cut(canvases: Tensor, offsets_px: Tensor, size: int) -> Tensor:
    """Cut patches (B, C, size, size) out of canvases (B, P, P) at offsets (B, C, 2)."""
    groups, members = offsets_px.shape[:2]
    repeated = canvases.unsqueeze(1).expand(-1, members, -1, -1).flatten(0, 1)
    return trim(translate(repeated, offsets_px.reshape(-1, 2)), size).reshape(groups, members, size, size)


def trim(images: Tensor, size: int) -> Tensor:
    """The middle (..., size, size) of images."""
    margin = (images.shape[-1] - size) // 2
    middle: Tensor = images[..., margin : margin + size, margin : margin + size]
    return middle


def _padded(images: Tensor, size: int) -> Tensor:
    before = (size - images.shape[-1]) // 2
    after = size - images.shape[-1] - before
    return functional.pad(images, (before, after, before, after))
