"""Muon: equal singular values, and the same steps as the library's, which takes matrices one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ptycho_adapters.pretraining.muon import Muon, orthogonalized, split_parameters


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("rows", "columns"), [(16, 144), (144, 16), (24, 30)])
def test_singular_values_become_nearly_equal(rows: int, columns: int) -> None:
    """Vectors stay, by a float64 decomposition; values that were not tiny end between 0.6 and 1.3."""
    given = _random(3, rows, columns)

    made = orthogonalized(given)

    left, before, right = torch.linalg.svd(given.double(), full_matrices=False)
    inner = left.mT @ made.double() @ right.mT
    values = inner.diagonal(dim1=-2, dim2=-1)
    strong = before > 0.1 * before[:, :1]
    assert made.shape == given.shape
    assert bool(((values > 0.6) & (values < 1.3))[strong].all())
    torch.testing.assert_close(inner, torch.diag_embed(values), rtol=0.0, atol=1e-2)


def test_nothing_stays_nothing() -> None:
    """A kernel without gradient does not move."""
    assert not bool(orthogonalized(torch.zeros(1, 4, 9)).any())


def test_steps_are_those_of_the_library() -> None:
    """Convolution kernels of several shapes, over some steps, to within the bfloat16 of the other one."""
    shapes = [(8, 4, 3, 3), (6, 8, 1, 1), (8, 4, 3, 3), (12, 2, 2, 2)]
    ours = [nn.Parameter(_random(*shape, seed=k)) for k, shape in enumerate(shapes)]
    theirs = [nn.Parameter(kernel.detach().flatten(1).clone()) for kernel in ours]
    before = [kernel.detach().clone() for kernel in ours]
    optimizer = Muon(ours)
    library = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")

    for step in range(3):
        for k, (kernel, matrix) in enumerate(zip(ours, theirs, strict=True)):
            kernel.grad = _random(*kernel.shape, seed=100 * step + k)
            matrix.grad = kernel.grad.flatten(1)
        optimizer.step(1e-2)
        library.step()

    for kernel, matrix, start in zip(ours, theirs, before, strict=True):
        moved, wanted = (kernel.detach() - start).flatten(1), matrix.detach() - start.flatten(1)
        assert float(wanted.norm()) > 0
        assert float((moved - wanted).norm()) < 0.03 * float(wanted.norm())


def test_only_kernels_are_for_it() -> None:
    """Biases and single numbers are the other optimizer's."""
    layer, length = nn.Conv2d(2, 3, 3), nn.Parameter(torch.ones(()))

    kernels, rest = split_parameters([*layer.parameters(), length])

    assert [id(each) for each in kernels] == [id(layer.weight)]
    assert {id(each) for each in rest} == {id(layer.bias), id(length)}
