"""Generators by name: ours, those that a program registers, and those that installed packages declare.

A package declares its own as entry points of the group `ptycho_core.generators`. It is imported when a run or an
archive names one of them, and only then; what no package has declared is never imported, whatever an archive says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import TYPE_CHECKING, TypeVar, cast, get_args

from ptycho_adapters.torch_backend.generators.base import Generator
from ptycho_adapters.torch_backend.generators.check import checked_generator
from ptycho_core.config.frame_sides import side_problems
from ptycho_core.config.package_generator import PackageGenerator
from ptycho_core.config.shared import Architecture
from ptycho_core.errors import ConfigError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ptycho_core.config import DataConfig, TorchModelConfig

GROUP = "ptycho_core.generators"
"""Group of entry points in which packages declare generators."""

GeneratorFactory = Callable[["TorchModelConfig", "DataConfig"], Generator]
F = TypeVar("F", bound=GeneratorFactory)

_FACTORIES: dict[str, GeneratorFactory] = {}


def register_generator(name: str) -> Callable[[F], F]:
    """Register a factory `(model_config, data_config) -> Generator`, such as a class, for this process.

    Args:
        name: `package:name`, or one of `Architecture` for a network of this package. The same factory may come again,
            as it does when a cell of a notebook runs twice.

    Raises:
        ConfigError: the name is taken, or has another form.
    """
    if name not in get_args(Architecture) and not PackageGenerator.fits(name):
        raise ConfigError("generator", [Problem(path="name", expected=PackageGenerator.form(), found=repr(name))])

    def add(factory: F) -> F:
        if name in _FACTORIES and _origin(_FACTORIES[name]) != _origin(factory):
            raise ConfigError("generator", [Problem(path=name, expected="a free name", found="a registered one")])
        _FACTORIES[name] = factory
        return factory

    return add


def generator_names() -> tuple[str, ...]:
    """Names of all registered generators and of those that installed packages declare, sorted."""
    return tuple(sorted({*_FACTORIES, *_declared()}))


def find_generator(name: str) -> GeneratorFactory:
    """Return the factory of a name; a package that declares it is imported.

    Raises:
        ConfigError: there is no such generator; with the package that is missing, or what it declares.
    """
    if name in _FACTORIES:
        return _FACTORIES[name]
    declared = _declared()
    if name in declared:
        return _loaded(name, declared[name])
    expected = "one of " + ", ".join(sorted({*_FACTORIES, *declared}))
    fix = _what_is_missing(PackageGenerator(name), declared) if PackageGenerator.fits(name) else ""
    raise ConfigError("generator", [Problem(path="architecture", expected=expected, found=name, fix=fix)])


def build_generator(model: TorchModelConfig, data: DataConfig, *, precision: str = "32-true") -> Generator:
    """Build the generator that a configuration asks for.

    Args:
        model: names it.
        data: size of a pattern.
        precision: under which that of another package is tried.

    Raises:
        ConfigError: there is no generator of that name, it cannot take patterns of this size, or what a package brings
            is none: it fails on a few patterns, or does not give finite complex64 patches.
    """
    factory = find_generator(model.architecture)
    raise_if_any(ConfigError, "generator", side_problems(model.architecture, data.N))
    made = factory(model, data)
    if isinstance(model.architecture, PackageGenerator):
        return checked_generator(made, model.architecture, data.N, precision)
    made.registered_as = model.architecture
    return made


def _origin(factory: GeneratorFactory) -> tuple[str, str]:
    return factory.__module__, getattr(factory, "__qualname__", repr(factory))


def _declared() -> Mapping[str, EntryPoint]:
    """Return the declared generators by name; one that no run could name is left out."""
    named = {
        f"{_canonical(point.dist.name)}:{point.name}": point
        for point in entry_points(group=GROUP)
        if point.dist is not None
    }
    return {name: point for name, point in named.items() if PackageGenerator.fits(name)}


def _canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _loaded(name: str, point: EntryPoint) -> GeneratorFactory:
    try:
        factory: object = point.load()
    except (ImportError, AttributeError) as error:
        found = f"{type(error).__name__}: {error}"
        expected = f"{name} to be an importable {point.value}, as the package declares"
        problem = Problem(path="architecture", expected=expected, found=found)
        raise ConfigError("generator", [problem]) from error
    if not callable(factory):
        expected = f"{name} to be a function or a class that makes a Generator"
        found = f"{type(factory).__name__} at {point.value}"
        raise ConfigError("generator", [Problem(path="architecture", expected=expected, found=found)])
    return cast("GeneratorFactory", factory)


def _what_is_missing(name: PackageGenerator, declared: Mapping[str, EntryPoint]) -> str:
    try:
        installed = version(name.package)
    except PackageNotFoundError:
        return f"the package {name.package} is not installed: install it, or import what registers {name} before"
    own = [other for other in declared if other.startswith(f"{name.package}:")]
    brings = f"declares {' and '.join(own)}" if own else f"declares no generator (entry points, group {GROUP})"
    return f"the installed {name.package} {installed} {brings}"
