"""Muon: momentum whose singular values are made equal, for the kernels of a network.

An update then turns every direction of a kernel about equally, not only those that the common groups ask for. It
learns what moves the loss little: after 1,200 groups from random weights the relative squared error of the amplitude
was 0.52 on fresh groups, 0.80 with Adam, and 0.46 instead of 0.52 of the object below 10,000 photons.
`torch.optim.Muon` does the same to one matrix at a time in bfloat16; here kernels of one shape go together and the
iteration runs on their small Gram matrices, which takes about half its time on this network.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_COEFFICIENTS, _ITERATIONS = (3.4445, -4.7750, 2.0315), 5  # Jordan et al. 2024, "Muon"
_TINY = 1e-7
_LIKE_ADAM = 0.2  # root mean square of an update, as Adam's usually is: learning rates mean the same for both


class Muon:
    """Muon with Nesterov momentum, without weight decay.

    Args:
        kernels: (outputs, ...) float32 parameters, at least two-dimensional; other parameters are not for it.
        momentum: share of the past in the running mean of gradients.
    """

    def __init__(self, kernels: Iterable[nn.Parameter], *, momentum: float = 0.95) -> None:
        alike = groupby(sorted(kernels, key=_matrix_shape), key=_matrix_shape)
        self._kernels = [list(group) for _, group in alike]
        self._means = [group[0].new_zeros(len(group), *_matrix_shape(group[0])) for group in self._kernels]
        self._momentum = momentum

    def state(self) -> list[Tensor]:
        """Give the running means of gradients, which go on to change."""
        return self._means

    def load(self, means: Sequence[Tensor]) -> None:
        """Take running means over that another instance for such kernels gave."""
        for mean, given in zip(self._means, means, strict=True):
            mean.copy_(given)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Change the kernels by their gradients."""
        for kernels, mean in zip(self._kernels, self._means, strict=True):
            gradient = torch.stack([_gradient(kernel).flatten(1) for kernel in kernels])
            mean.lerp_(gradient, 1 - self._momentum)
            update = orthogonalized(gradient.lerp(mean, self._momentum))
            size = learning_rate * _LIKE_ADAM * max(update.shape[1:]) ** 0.5
            for kernel, change in zip(kernels, update, strict=True):
                kernel.sub_(size * change.reshape(kernel.shape))


def orthogonalized(matrices: Tensor) -> Tensor:
    """Bring the singular values of matrices (n, rows, columns) close to one, between 0.6 and 1.3, keeping vectors.

    The quintic Newton-Schulz iteration X <- (a + b G + c G^2) X with G = X X^T; all its factors are polynomials of the
    first G, so only they are iterated and X itself is multiplied once. Directions far below a thousandth of the
    strongest stay small.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    wide = matrices.transpose(1, 2) if tall else matrices
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp_min(_TINY)
    gram = wide @ wide.transpose(1, 2)
    one = torch.eye(gram.shape[-1], device=gram.device)
    product = one.expand_as(gram)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        factor = a * one + b * gram + c * gram @ gram
        product, gram = factor @ product, factor @ gram @ factor
    made: Tensor = product @ wide
    return made.transpose(1, 2) if tall else made


def split_parameters(parameters: Sequence[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Part parameters into kernels, for Muon, and the rest, for Adam."""
    kernels = [each for each in parameters if each.ndim > 1]
    return kernels, [each for each in parameters if each.ndim <= 1]


def _matrix_shape(kernel: Tensor) -> tuple[int, int]:
    return kernel.shape[0], kernel[0].numel()


def _gradient(kernel: nn.Parameter) -> Tensor:
    return torch.zeros_like(kernel) if kernel.grad is None else kernel.grad
