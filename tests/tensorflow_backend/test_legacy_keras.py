"""Models as the legacy software wrote them, made here with Keras itself, against what Keras makes of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tensorflow import keras

from legacy_archive_sample import MODEL, parameter_file, parameters, structure, zipped
from ptycho_adapters import tensorflow_backend, torch_backend
from ptycho_adapters.torch_backend.generators.cnn import LegacyCnn
from ptycho_adapters.torch_backend.legacy_models import read_legacy_model
from tensorflow_sample import as_given, quietly, tiny_scan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from ptycho_adapters.common.cnn_structure import CnnStructure

# Keras against NumPy 2, while it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class Plain(keras.layers.Layer):  # type: ignore[misc] # Keras has no types
    """A layer of the legacy software: its settings are part of what is saved."""

    def __init__(self, settings: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Take the settings aside."""
        super().__init__(**kwargs)
        self.settings = settings or {}

    def get_config(self) -> dict[str, Any]:
        """Give all settings."""
        return {**super().get_config(), **self.settings}


class IntensityScaler(Plain):
    """Nothing, but under its name: the patterns are normalised."""

    def call(self, inputs: Any) -> Any:
        """Pass the patterns on."""
        return inputs[0]


class ActivationLayer(Plain):
    """An activation by name, times a number."""

    def call(self, inputs: Any) -> Any:
        """Activate."""
        function = getattr(keras.activations, {"swish": "silu"}.get(name := self.settings["activation_name"], name))
        return self.settings["scale"] * function(inputs)


class CenterMaskLayer(Plain):
    """Ones around the middle."""

    def call(self, inputs: Any) -> Any:
        """Give the mask."""
        half = self.settings["N"] // 2
        middle = keras.ops.pad(keras.ops.ones((half, half)), [[half // 2, half // 2]] * 2)
        return keras.ops.ones_like(inputs) * (1.0 - middle)[None, :, :, None]


class CombineComplexLayer(Plain):
    """Two heads side by side: what they mean is for who reads them."""

    def call(self, inputs: Any) -> Any:
        """Stack them."""
        return keras.ops.stack([inputs[0] + 0.0 * inputs[1], inputs[1]], axis=-1)


def made_by_keras(of: CnnStructure) -> keras.Model:
    """The legacy network with random weights."""
    keras.utils.set_random_seed(3)
    patterns = keras.Input((of.size, of.size, of.channels), name="input")
    code = IntensityScaler()([patterns])
    for width in of.encoder_channels[1:]:
        code = keras.layers.MaxPool2D(2)(_pair(code, width))
    polar = {"use_polar": True} if of.combination == "polar" else {}
    heads = [
        _head(of, code, "amp", of.amplitude_channels, {"silu": "swish"}.get(of.activation, of.activation), 1.0),
        _head(of, code, "phi", of.channels, "tanh", math.pi),
    ]
    model = keras.Model(patterns, CombineComplexLayer(polar, name="obj")(heads))
    random = np.random.default_rng(0)
    model.set_weights([value + 0.03 * random.standard_normal(value.shape) for value in model.get_weights()])
    return model


def _pair(x: Any, width: int) -> Any:
    for _ in range(2):
        x = keras.layers.Conv2D(width, 3, activation="relu", padding="same")(x)
    return x


def _head(of: CnnStructure, code: Any, name: str, outputs: int, activation: str, scale: float) -> Any:
    first, second = (keras.layers.Conv2D(outputs, 3, padding="same") for _ in range(2))
    x = code
    for width in of.decoder_channels[1:]:
        x = keras.layers.UpSampling2D(2)(_pair(x, width))
    act = ActivationLayer({"activation_name": activation, "scale": scale}, name=name)
    centre = keras.layers.ZeroPadding2D(of.size // 4)(act(first(x[..., : -of.outer_channels])))
    if not of.ring:
        return centre
    upper = keras.layers.UpSampling2D(2)(_pair(x[..., -of.outer_channels :], of.outer_width))
    ring = keras.ops.silu(second(upper))
    return centre + ring * CenterMaskLayer({"kind": "border", "N": of.size, "c": 1})(ring)


def archive_of(model: keras.Model, of: CnnStructure, folder: Path, **changes: object) -> Path:
    """What the legacy software makes of it."""
    model.save(folder / "model.keras")
    content = (folder / "model.keras").read_bytes()
    path = folder / "wts.h5.zip"
    path.write_bytes(
        zipped(
            {
                "manifest.dill": b"",
                f"{MODEL}/model.keras": content,
                f"{MODEL}/params.dill": parameter_file({**parameters(of), **changes}),
            }
        )
    )
    return path


def combined(of: CnnStructure, heads: NDArray[np.float32]) -> NDArray[np.complex64]:
    """The object from heads (B, N, N, C, 2) as (B, C, N, N)."""
    first, second = np.moveaxis(heads, -1, 0)
    whole = first * np.exp(1j * second) if of.combination == "polar" else first + 1j * second
    patches: NDArray[np.complex64] = np.moveaxis(whole, -1, 1).astype(np.complex64)
    return patches


MODELS: dict[str, Callable[[], CnnStructure]] = {
    "sigmoid": lambda: structure(64, 1, 1),
    "swish, without a ring": lambda: structure(64, 1, 1, activation="silu", ring=False, outer_width=1),
    "softplus, groups of 4": lambda: structure(64, 2, 1, activation="softplus"),
    "relu, cartesian, one amplitude for 4": lambda: structure(
        64, 2, 1, activation="relu", combination="cartesian", amplitude_channels=1
    ),
    "128 px, 3 times the channels": lambda: structure(128, 1, 3),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_keras_saved_gives_what_keras_gives(name: str, tmp_path: Path) -> None:
    """Its own writer, its own arithmetic; read without it."""
    of = MODELS[name]()
    model = made_by_keras(of)
    seen = np.abs(np.random.default_rng(1).standard_normal((2, of.size, of.size, of.channels))).astype(np.float32)
    wanted = combined(of, np.asarray(model(seen)))

    read = read_legacy_model(archive_of(model, of, tmp_path))

    assert isinstance(read.generator, LegacyCnn)
    with torch.inference_mode():
        found = read.generator.patches(torch.tensor(np.moveaxis(seen, -1, 1).copy())).numpy()
    assert np.abs(found - wanted).max() < 4e-5 * max(1.0, float(np.abs(wanted).max()))
    assert float(np.abs(wanted).std()) > 1e-3


@pytest.mark.usefixtures("eagerly")
def test_a_migrated_model_runs_on_tensorflow(tmp_path: Path) -> None:
    """Without a ring, under a masked probe: the same object on both backends."""
    of = MODELS["swish, without a ring"]()
    read = read_legacy_model(archive_of(made_by_keras(of), of, tmp_path, **{"probe.mask": True}))
    archive = torch_backend.save_archive(read, tmp_path / "new.zip")

    ours, theirs = tensorflow_backend.load_archive(archive), torch_backend.load_archive(archive)
    found, wanted = (
        backend.reconstruct(model, tiny_scan(), execution_config=quietly(), inference_config=as_given())
        for backend, model in ((tensorflow_backend, ours), (torch_backend, theirs))
    )

    assert np.abs(found.object - wanted.object).max() < 1e-5 * np.abs(wanted.object).max()
    assert found.probe_source == wanted.probe_source
