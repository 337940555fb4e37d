"""The probe as a parameter: pixels and aberrations to learn, flux fixed, tip and tilt left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

_INDEPENDENT = 1e-6  # share of a function's norm that has to be new for it to be a direction of its own


class TrainableProbe(nn.Module):
    """Illumination (modes, N, N) of fixed energy, refined pixel by pixel and by its low-order aberrations.

    A wrong focus is a long, narrow valley for single pixels and one step for a focus coefficient, so both are learned:
    the probe is `IFFT(FFT(pixels) * exp(i * sum_j a_j Z_j))`, scaled to the given energy. The Z_j (focus, two
    astigmatisms, two comas, spherical) are orthonormal under the starting probe's angular spectrum, so that each
    coefficient is a root-mean-square phase in radians. Constant and tilt are gauge (phase and position of the object)
    and are not among them.

    Args:
        probe: (modes, N, N) complex, the starting illumination, in the scan's own scale.
        energy: photons per frame for a transparent object; the probe's summed intensity is held at it.
        mask: (N, N) float multiplied to the probe, or None.
    """

    pixels: nn.Parameter
    aberrations: nn.Parameter
    energy: Tensor
    basis: Tensor
    mask: Tensor | None

    def __init__(self, probe: NDArray[np.complex64], energy: float, mask: Tensor | None = None) -> None:
        super().__init__()
        start = torch.tensor(probe, dtype=torch.complex64)
        peak = start.abs().max()
        basis = aberration_basis(start)
        self.pixels = nn.Parameter(torch.view_as_real(start / peak).clone())
        self.aberrations = nn.Parameter(torch.zeros(len(basis)))
        self.register_buffer("energy", torch.tensor(energy, dtype=torch.float32), persistent=False)
        self.register_buffer("basis", basis, persistent=False)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self) -> Tensor:
        """Give the probe, (modes, N, N) complex64, with summed intensity `energy`."""
        pixels = torch.view_as_complex(self.pixels)
        # Not a matrix product: around a reduced-precision network those would be rounded, and this is a phase.
        angle = (self.aberrations[:, None, None] * self.basis).sum(dim=0)
        probe: Tensor = torch.fft.ifft2(torch.fft.fft2(pixels) * torch.polar(torch.ones_like(angle), angle))
        if self.mask is not None:
            probe = probe * self.mask
        return probe * torch.sqrt(self.energy / _energy(probe))


def _energy(probe: Tensor) -> Tensor:
    return probe.real.square().sum() + probe.imag.square().sum()


def aberration_basis(probe: Tensor) -> Tensor:
    """Orthonormal low-order phase polynomials over the angular spectrum of a probe, in FFT order.

    Args:
        probe: (modes, N, N) complex64.

    Returns:
        (6, N, N) float32: focus, astigmatism at 0 and 45 degrees, coma along y and x, spherical. Under the weight
        |FFT(probe)|² each has mean square 1 and is orthogonal to the others, to a constant and to both tilts. Where the
        spectrum is too small to hold them all, such as the single point of an even beam, the rest are zero.
    """
    frequencies = torch.fft.fftfreq(probe.shape[-1], dtype=torch.float64)
    y, x = torch.meshgrid(frequencies, frequencies, indexing="ij")
    spectrum: Tensor = torch.fft.fft2(probe.to(torch.complex128))
    weight = spectrum.abs().square().sum(dim=0)
    gauge = 3
    functions = list(_orthonormal(_polynomials(y, x), weight / weight.sum()))
    return torch.stack(functions[gauge:]).to(torch.float32)


def _polynomials(y: Tensor, x: Tensor) -> list[Tensor]:
    r2 = x.square() + y.square()
    return [torch.ones_like(x), y, x, r2, x.square() - y.square(), 2 * x * y, y * r2, x * r2, r2.square()]


def _orthonormal(functions: list[Tensor], weight: Tensor) -> Iterator[Tensor]:
    """Gram-Schmidt under a weight; a function that the weight cannot tell from earlier ones becomes zero."""
    done: list[Tensor] = []
    for function in functions:
        rest = function
        for other in done:
            rest = rest - (weight * rest * other).sum() * other
        size, left = ((weight * f.square()).sum().sqrt() for f in (function, rest))
        rest = rest / left if left > _INDEPENDENT * size else torch.zeros_like(rest)
        done.append(rest)
        yield rest


def soft_disc(size: int, diameter_px: float, sigma_px: float) -> Tensor:
    """Disc of ones centred in the frame, its edge softened by a Gaussian, maximum 1.

    Args:
        size: frame edge in px.
        diameter_px: diameter of the disc.
        sigma_px: standard deviation of the edge; 0 leaves it sharp.

    Returns:
        (size, size) float32.
    """
    offset = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    distance = torch.hypot(offset[:, None], offset[None, :])
    edge = diameter_px / 2 - distance
    if sigma_px == 0:
        return (edge >= 0).to(torch.float32)
    disc = 0.5 * (1 + torch.erf(edge / (sigma_px * 2**0.5)))
    peak = disc.max()  # zero for a disc that falls between the pixels
    return (disc / peak if peak > 0 else disc).to(torch.float32)
