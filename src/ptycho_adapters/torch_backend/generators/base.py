"""What a generator is, and how new ones are registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ptycho_core.errors import ConfigError, Problem

if TYPE_CHECKING:
    from ptycho_core.config import DataConfig, TorchModelConfig

Step = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps amplitude (B, C, N, N), probes (B, C, modes, N, N) and patches (B, C, N, N) to patches (B, C, N, N)."""


class Generator(nn.Module, ABC):
    """A network from diffraction amplitudes to object patches.

    A subclass implements `forward(amplitude, probes)`:

    - amplitude: (B, C, N, N) float32, square root of counts, DC at N // 2;
    - probes: (B, C, modes, N, N) complex64, the illumination of each pattern, in the same unit of flux, moved to its
      sub-pixel position; no gradient is wanted through it;
    - result: (B, C, N, N) complex64 object patches on whole pixels, about 1 where the object is transparent.
    """

    @abstractmethod
    def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
        """Map amplitudes to patches."""

    def steps(self) -> Sequence[Step]:
        """Parts that are run one after the other, overlapping patches being averaged after each.

        A step maps (amplitude, probes, patches so far) to better patches; the first sees patches of ones. By default
        there is one step, which is `forward`.
        """
        return (lambda amplitude, probes, _patches: self(amplitude, probes),)


def run_steps(
    generator: Generator, amplitude: Tensor, probes: Tensor, merge: Callable[[Tensor], Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a generator's steps on groups, averaging overlaps after each.

    Args:
        generator: the network.
        amplitude: (B, C, N, N) float32, DC at N // 2.
        probes: (B, C, modes, N, N) complex64.
        merge: averages overlapping patches (B, C, N, N) of each group.

    Returns:
        The patches of the last step as they are, and the averaged patches after every step.
    """
    single = torch.ones_like(amplitude, dtype=probes.dtype)
    merged = [single]
    for step in generator.steps():
        single = step(amplitude, probes, merged[-1])
        merged.append(merge(single))
    return single, tuple(merged[1:])


GeneratorFactory = Callable[["TorchModelConfig", "DataConfig"], Generator]

_FACTORIES: dict[str, GeneratorFactory] = {}


def register_generator(name: str) -> Callable[[GeneratorFactory], GeneratorFactory]:
    """Register a factory `(model_config, data_config) -> Generator` under an architecture name.

    Raises:
        ConfigError: the name is taken.
    """

    def add(factory: GeneratorFactory) -> GeneratorFactory:
        if name in _FACTORIES:
            raise ConfigError("generator", [Problem(path=name, expected="a free name", found="a registered one")])
        _FACTORIES[name] = factory
        return factory

    return add


def generator_names() -> tuple[str, ...]:
    """Names of all registered generators, sorted."""
    return tuple(sorted(_FACTORIES))


def build_generator(model: TorchModelConfig, data: DataConfig) -> Generator:
    """Build the generator that a configuration asks for.

    Raises:
        ConfigError: no generator of that name is registered.
    """
    factory = _FACTORIES.get(model.architecture)
    if factory is None:
        expected = "one of " + ", ".join(generator_names())
        raise ConfigError("generator", [Problem(path="architecture", expected=expected, found=model.architecture)])
    return factory(model, data)
