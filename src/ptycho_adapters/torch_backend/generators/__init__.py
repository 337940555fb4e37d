"""Networks by name."""

from ptycho_adapters.torch_backend.generators import unet as _unet  # registers itself
from ptycho_adapters.torch_backend.generators.base import (
    Generator,
    GeneratorFactory,
    build_generator,
    generator_names,
    register_generator,
)

__all__ = ["Generator", "GeneratorFactory", "build_generator", "generator_names", "register_generator"]

del _unet
