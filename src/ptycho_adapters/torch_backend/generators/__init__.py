"""Networks by name."""

from ptycho_adapters.torch_backend.generators import cnn as _cnn  # registers itself
from ptycho_adapters.torch_backend.generators import ffno as _ffno  # registers itself
from ptycho_adapters.torch_backend.generators import unet as _unet  # registers itself
from ptycho_adapters.torch_backend.generators import unrolled as _unrolled  # registers itself
from ptycho_adapters.torch_backend.generators.base import (
    AveragedPatches,
    Draft,
    Generator,
    Step,
    View,
    run_steps,
)
from ptycho_adapters.torch_backend.generators.registry import (
    GeneratorFactory,
    build_generator,
    find_generator,
    generator_names,
    register_generator,
)

__all__ = [
    "AveragedPatches",
    "Draft",
    "Generator",
    "GeneratorFactory",
    "Step",
    "View",
    "build_generator",
    "find_generator",
    "generator_names",
    "register_generator",
    "run_steps",
]

del _cnn, _ffno, _unet, _unrolled
