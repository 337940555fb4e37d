"""A generator's `forward`, called so that a failure of another package's network names it and what it was given."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from ptycho_core.config.package_generator import PackageGenerator
from ptycho_core.errors import ConfigError, Problem, PtychoError

# What an autocast to a type is called in the settings, and what torch's messages call the type.
_LOW_PRECISIONS = {torch.bfloat16: ("bf16-mixed", "BFloat16"), torch.float16: ("16-mixed", "Half")}


class Called(Protocol):
    """A generator, as far as it is called: what it is lies above this module.

    Attributes:
        registered_as: name that it was built by.
    """

    registered_as: str
    __call__: Any


def name_of(generator: Called) -> str:
    """Give the name that a generator was built by; that of its class where it was built otherwise."""
    return generator.registered_as or type(generator).__name__


def patches_from(generator: Called, amplitude: Tensor, probes: Tensor) -> Tensor:
    """Call a generator.

    Args:
        generator: the network.
        amplitude: (B, C, N, N) float32.
        probes: (B, C, modes, N, N) complex64.

    Returns:
        Patches (B, C, N, N) complex64.

    Raises:
        ConfigError: a generator of another package fails; its own error is the cause.
    """
    try:
        made: Tensor = generator(amplitude, probes)
    except (PtychoError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        # A failure of our own networks is a fault of this package, and its traceback says more.
        if not PackageGenerator.fits(generator.registered_as):
            raise
        raise ConfigError("generator", [_failure(generator, amplitude, probes, error)]) from error
    return made


def _failure(generator: Called, amplitude: Tensor, probes: Tensor, error: Exception) -> Problem:
    given = f"amplitude {tuple(amplitude.shape)} and probes {tuple(probes.shape)}"
    return Problem(
        path="architecture",
        expected=f"{name_of(generator)} to take {given}",
        found=f"{type(error).__name__}: {error}",
        fix=_hint(str(error), amplitude.device.type),
    )


def _hint(message: str, device: str) -> str:
    """Say what mends a failure for the type that convolutions give under a low precision."""
    if not torch.is_autocast_enabled(device):
        return ""
    low = torch.get_autocast_dtype(device)
    precision, word = _LOW_PRECISIONS[low]
    if word not in message:
        return ""
    given = str(low).removeprefix("torch.")
    return f"under precision {precision} convolutions give {given}: .float() before torch.complex"
