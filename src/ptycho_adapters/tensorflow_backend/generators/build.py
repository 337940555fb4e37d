"""Networks by name: which there are, what weights they have, and how they are built of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ptycho_adapters.common.cnn_structure import structure_of
from ptycho_adapters.tensorflow_backend.generators.cnn import Cnn, cnn_weights
from ptycho_adapters.tensorflow_backend.generators.unrolled import Unrolled, unrolled_weights
from ptycho_core.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ptycho_adapters.common.cnn_structure import CnnStructure
    from ptycho_adapters.tensorflow_backend.generators.base import Generator
    from ptycho_adapters.tensorflow_backend.generators.layers import Weight
    from ptycho_core.config import DataConfig, TorchModelConfig

GENERATORS = ("unrolled", "cnn")


def weights_for(model: TorchModelConfig, data: DataConfig, structure: CnnStructure | None = None) -> dict[str, Weight]:
    """Give the weights that a configuration's network has.

    Args:
        model: names the network.
        data: size of its patterns.
        structure: of a cnn that its settings do not say in full.

    Raises:
        ConfigError: it is not built here.
    """
    match model.architecture:
        case "unrolled":
            return unrolled_weights(model)
        case "cnn":
            return cnn_weights(structure or structure_of(model, data))
        case other:
            expected = f"{' or '.join(GENERATORS)}, which backend tensorflow has built"
            raise ConfigError("generator", [Problem(path="architecture", expected=expected, found=other)])


def build_generator(
    model: TorchModelConfig,
    data: DataConfig,
    weights: Mapping[str, NDArray[Any]],
    structure: CnnStructure | None = None,
) -> Generator:
    """Build a network of weights that fit it, which are in torch's layout."""
    if model.architecture == "cnn":
        return Cnn(weights, structure or structure_of(model, data))
    return Unrolled(weights, model.unrolled_steps, model.unrolled_repeats)
