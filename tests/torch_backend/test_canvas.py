"""Merging and cutting patches on a canvas against direct loops."""

from __future__ import annotations

import numpy as np
import torch

from ptycho_adapters.torch_backend.data.resident import group_canvas
from ptycho_adapters.torch_backend.physics.canvas import accumulate, extract, pixel_indices
from strategies_torch import merge


def test_patches_are_cut_where_they_start() -> None:
    """A patch holds the pixels from its start on, row by row."""
    canvas = torch.arange(5 * 7, dtype=torch.float32).reshape(1, -1)
    indices = pixel_indices(torch.tensor([[[1, 2], [0, 4]]]), 3, 7)

    patches = extract(canvas, indices, 3)

    whole = canvas.reshape(5, 7)
    assert torch.equal(patches[0, 0], whole[1:4, 2:5])
    assert torch.equal(patches[0, 1], whole[0:3, 4:7])


def test_groups_have_canvases_of_their_own() -> None:
    """What one group puts down is not seen on another group's canvas."""
    indices = pixel_indices(torch.zeros(2, 1, 2, dtype=torch.int64), 2, 3)
    patches = torch.stack([torch.ones(1, 2, 2), torch.full((1, 2, 2), 5.0)])

    canvas = accumulate(patches, indices, 9).reshape(2, 3, 3)

    assert canvas[0].sum() == 4.0
    assert canvas[1].sum() == 20.0


def test_an_overlap_is_the_weighted_mean() -> None:
    """Two patches that share a column agree there on their weighted mean and keep the rest."""
    starts = torch.tensor([[[0, 0], [0, 1]]])
    patches = torch.tensor([[[[2.0, 2.0]] * 2, [[8.0, 8.0]] * 2]], dtype=torch.complex64)
    weights = torch.tensor([[[[1.0, 1.0]] * 2, [[3.0, 3.0]] * 2]])

    merged = merge(patches, weights, pixel_indices(starts, 2, 3), 6)

    shared = (2.0 + 3 * 8.0) / 4
    assert torch.equal(merged[0, 0], torch.tensor([[2.0, shared]] * 2, dtype=torch.complex64))
    assert torch.equal(merged[0, 1], torch.tensor([[shared, 8.0]] * 2, dtype=torch.complex64))


def test_where_nothing_shines_the_mean_is_a_number() -> None:
    """Pixels without weight come back as one, with finite gradients."""
    patches = torch.full((1, 1, 2, 2), 3.0, dtype=torch.complex64, requires_grad=True)
    weights = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])

    merged = merge(patches, weights, pixel_indices(torch.zeros(1, 1, 2, dtype=torch.int64), 2, 2), 4)
    merged.abs().sum().backward()

    assert merged.detach().real.tolist() == [[[[3.0, 1.0], [1.0, 3.0]]]]
    assert patches.grad is not None
    assert bool(patches.grad.isfinite().all())


def test_a_group_canvas_holds_the_widest_group_and_no_more() -> None:
    """Its sides are the largest extents of any group, each taken from its own corner, plus a patch."""
    starts = np.array([[0, 0], [3, 1], [100, 50], [101, 57]])

    canvas = group_canvas(starts, np.array([[0, 1], [2, 3]], dtype=np.int32), 8)

    assert (canvas.height, canvas.width) == (3 + 8, 7 + 8)
