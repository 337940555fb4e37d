"""Laws of merging and cutting patches."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ptycho_adapters.torch_backend.physics.canvas import accumulate, extract
from strategies_torch import Placed, merge, noise, placed_groups


def _weights(case: Placed) -> Tensor:
    return 0.1 + noise(case.seed + 7, *case.shape, dtype=torch.float64).abs()


@given(placed_groups())
def test_accumulating_is_the_adjoint_of_cutting(case: Placed) -> None:
    """<cut(canvas), patches> = <canvas, accumulate(patches)>, for complex numbers."""
    canvas = noise(case.seed, case.shape[0], case.pixels)
    patches = noise(case.seed + 1, *case.shape)

    left = torch.vdot(extract(canvas, case.indices, case.size).flatten(), patches.flatten())
    right = torch.vdot(canvas.flatten(), accumulate(patches, case.indices, case.pixels).flatten())

    torch.testing.assert_close(left, right)


@given(placed_groups())
def test_patches_of_one_object_stay_as_they_are(case: Placed) -> None:
    """Cut from one object per group and merged with any positive weights, patches come back."""
    patches = extract(noise(case.seed, case.shape[0], case.pixels), case.indices, case.size)

    torch.testing.assert_close(merge(patches, _weights(case), case.indices, case.pixels), patches)


@given(placed_groups(), st.complex_numbers(max_magnitude=100))
def test_constants_stay(case: Placed, level: complex) -> None:
    """A constant is its own mean."""
    patches = torch.full(case.shape, level, dtype=torch.complex128)

    torch.testing.assert_close(merge(patches, _weights(case), case.indices, case.pixels), patches)


@given(placed_groups())
def test_one_member_is_its_own_mean(case: Placed) -> None:
    """With a single patch per group, merging is the identity, whatever the patch."""
    patches, weights = noise(case.seed, *case.shape)[:, :1], _weights(case)[:, :1]

    torch.testing.assert_close(merge(patches, weights, case.indices[:, :1], case.pixels), patches)


@given(placed_groups())
def test_the_order_of_members_does_not_matter(case: Placed) -> None:
    """Permuting the members permutes the merged patches."""
    order = torch.randperm(case.shape[1], generator=torch.Generator().manual_seed(case.seed))
    patches, weights = noise(case.seed, *case.shape), _weights(case)

    merged = merge(patches, weights, case.indices, case.pixels)
    permuted = merge(patches[:, order], weights[:, order], case.indices[:, order], case.pixels)

    torch.testing.assert_close(permuted, merged[:, order])


@given(placed_groups(), st.floats(1e-3, 1e3))
def test_only_relative_weights_matter(case: Placed, factor: float) -> None:
    """Scaling all weights changes nothing."""
    patches, weights = noise(case.seed, *case.shape), _weights(case)

    merged = merge(patches, weights, case.indices, case.pixels)

    torch.testing.assert_close(merge(patches, factor * weights, case.indices, case.pixels), merged)


@given(placed_groups())
def test_merging_is_linear(case: Placed) -> None:
    """The mean of a sum is the sum of means."""
    first, second = noise(case.seed, *case.shape), noise(case.seed + 1, *case.shape)
    weights = _weights(case)

    together = merge(first + 2j * second, weights, case.indices, case.pixels)
    apart = merge(first, weights, case.indices, case.pixels) + 2j * merge(second, weights, case.indices, case.pixels)

    torch.testing.assert_close(together, apart)
