"""Networks by name."""

from ptycho_adapters.torch_backend.generators import unet as _unet  # registers itself
from ptycho_adapters.torch_backend.generators import unrolled as _unrolled  # registers itself
from ptycho_adapters.torch_backend.generators.base import (
    Generator,
    GeneratorFactory,
    Step,
    build_generator,
    generator_names,
    register_generator,
    run_steps,
)

__all__ = [
    "Generator",
    "GeneratorFactory",
    "Step",
    "build_generator",
    "generator_names",
    "register_generator",
    "run_steps",
]

del _unet, _unrolled
