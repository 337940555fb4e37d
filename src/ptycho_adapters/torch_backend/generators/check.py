"""What another package brings, held against what a generator is."""

from __future__ import annotations

import torch
from torch import Tensor

from ptycho_adapters.torch_backend.execution import network_precision
from ptycho_adapters.torch_backend.generators.base import Generator
from ptycho_adapters.torch_backend.generators.calling import patches_from
from ptycho_core.errors import ConfigError, Problem

_GROUPS, _MEMBERS, _MODES = 2, 3, 2
_PHOTONS = 1e5
_BEAM = 0.1  # radius over the side of a frame


def checked_generator(made: object, name: str, size: int, precision: str) -> Generator:
    """Try a network on a few patterns, several groups and modes, under the precision of the run.

    Args:
        made: by the package's factory.
        name: of the generator.
        size: of a pattern in px.
        precision: as the execution settings call it.

    Returns:
        What was made, in the mode, training or evaluation, that it was in.

    Raises:
        ConfigError: it is no generator, fails, or gives something other than finite complex64 patches.
    """
    if not isinstance(made, Generator):
        raise _refused(f"{name} to be a subclass of Generator", type(made).__name__)
    made.registered_as = name
    if made.patchwise:
        amplitude, probes = _patterns(_MEMBERS * made.together, size)
        training = made.training
        # The CPU has bfloat16 for all that networks are made of; float16 it has not.
        tried = precision if precision == "bf16-mixed" else "32-true"
        with torch.no_grad(), network_precision(tried, amplitude.device):
            patches: object = patches_from(made.eval(), amplitude, probes)
        made.train(training)
        _check_patches(patches, name, tuple(amplitude.shape))
    return made


def _check_patches(patches: object, name: str, shape: tuple[int, ...]) -> None:
    found = f"{patches.dtype} {tuple(patches.shape)}" if isinstance(patches, Tensor) else type(patches).__name__
    found, expected = found.removeprefix("torch."), f"complex64 {shape}"
    if found != expected:
        raise _refused(f"{name} to give {expected}", found)
    if isinstance(patches, Tensor) and not bool(patches.isfinite().all()):
        share = 1.0 - float(patches.isfinite().float().mean())
        raise _refused(f"{name} to give finite values", f"{share:.0%} NaN or infinite, before any training")


def _refused(expected: str, found: str) -> ConfigError:
    return ConfigError("generator", [Problem(path="architecture", expected=expected, found=found)])


def _patterns(members: int, size: int) -> tuple[Tensor, Tensor]:
    """Amplitudes (B, C, N, N) that a transparent object gives, and probes (B, C, modes, N, N): a focused beam.

    They are much like measured ones, dark corners included: a network may divide by what varies.
    """
    axis = (torch.arange(size) - size // 2) / (_BEAM * size)
    bell = torch.exp(-0.5 * axis.square())
    # Modes by falling power, and orthogonal.
    modes = torch.stack([bell[:, None] * bell, 0.5 * (bell * axis)[:, None] * bell]).to(torch.complex64)
    modes = modes * (_PHOTONS / modes.abs().square().sum()).sqrt()
    far = torch.fft.fftshift(torch.fft.fft2(modes, norm="ortho"), dim=(-2, -1))
    amplitude = far.abs().square().sum(dim=0).sqrt()
    return amplitude.repeat(_GROUPS, members, 1, 1), modes.repeat(_GROUPS, members, 1, 1, 1)
