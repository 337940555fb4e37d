"""The generators that are built to a structure: the weights that they hold, and what each setting of it changes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import scipy.signal
import torch

from ptycho_adapters.common.cnn_structure import CnnStructure
from ptycho_adapters.torch_backend.generators import build_generator
from ptycho_adapters.torch_backend.generators.cnn import LegacyCnn
from ptycho_adapters.torch_backend.generators.ffno import AxisMixer, FactorisedFourierOperator, SpectralMixer
from ptycho_core.config import DataConfig, TorchModelConfig
from ptycho_core.errors import ConfigError
from torch_sample import payload_for, quick_training, weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt
    from torch import nn

    from ptycho_adapters.torch_backend import TrainedModel

Array = "npt.NDArray[np.float64]"


def _size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("size", "channels", "weights_of_legacy_model"),
    [(64, 1, 2339892), (64, 4, 2351730), (128, 1, 4727896), (128, 4, 4738870), (256, 1, 12994427)],
)
def test_it_is_as_large_as_the_legacy_torch_network(size: int, channels: int, weights_of_legacy_model: int) -> None:
    """Number of weights for every size of pattern and group."""
    structure = CnnStructure(size=size, channels=channels, amplitude_channels=channels, outer_channels=channels)

    assert _size(LegacyCnn(structure)) == weights_of_legacy_model


@pytest.mark.parametrize(
    ("size", "scale", "channels", "weights_of_legacy_model"),
    [(128, 2, 1, 4661212), (64, 1, 1, 585244), (64, 1, 4, 589360)],
)
def test_it_is_as_large_as_the_legacy_keras_network(
    size: int, scale: int, channels: int, weights_of_legacy_model: int
) -> None:
    """Without attention, with four channels for the ring, whose width falls with the size of the pattern."""
    structure = CnnStructure(
        size=size,
        channels=channels,
        filters_scale=scale,
        block_attention=False,
        amplitude_channels=channels,
        outer_channels=4,
        outer_width=scale * 2048 // size,
    )

    assert _size(LegacyCnn(structure)) == weights_of_legacy_model


def test_its_weights_have_the_legacy_names() -> None:
    """Names and shapes are those of the legacy state dict behind its `model.`; here those of the smallest network."""
    network = LegacyCnn(CnnStructure(size=64, channels=4, filters_scale=1, amplitude_channels=4, outer_channels=4))
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}

    encoder = "autoencoder.encoder.blocks.2"
    expected = {
        f"{encoder}.conv1.weight": (128, 64, 3, 3),
        f"{encoder}.conv2.bias": (128,),
        f"{encoder}.attention.ChannelGate.mlp.1.weight": (8, 128),
        f"{encoder}.attention.ChannelGate.mlp.3.weight": (128, 8),
        f"{encoder}.attention.SpatialGate.compress.weight": (1, 2, 7, 7),
        "autoencoder.encoder.blocks.0.conv1.weight": (32, 4, 3, 3),
        "autoencoder.decoder_amp.blocks.1.conv1.weight": (32, 64, 3, 3),
        "autoencoder.decoder_amp.amp.conv1.weight": (4, 28, 3, 3),
        "autoencoder.decoder_amp.amp.conv_up_block.conv1.weight": (64, 4, 3, 3),
        "autoencoder.decoder_phase.phase.conv2.weight": (4, 64, 3, 3),
        "autoencoder.decoder_phase.phase.conv2.bias": (4,),
    }
    assert expected.items() <= shapes.items()
    assert len(shapes) == 59


def _convolve(image: npt.NDArray[np.float64], layer: nn.Module) -> npt.NDArray[np.float64]:
    """A 3x3 layer as a sum over windows, with zeros outside."""
    kernel, bias = (p.detach().double().numpy() for p in layer.parameters())
    surrounded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(surrounded, (3, 3), axis=(1, 2))
    planes: npt.NDArray[np.float64] = np.tensordot(kernel, windows, axes=((1, 2, 3), (0, 3, 4)))
    biased: npt.NDArray[np.float64] = planes + bias[:, None, None]
    return biased


def _pair(image: npt.NDArray[np.float64], block: nn.Module) -> npt.NDArray[np.float64]:
    for name in ("conv1", "conv2"):
        image = np.maximum(_convolve(image, block.get_submodule(name)), 0)
    return image


def _attended(image: npt.NDArray[np.float64], block: nn.Module) -> npt.NDArray[np.float64]:
    channel = [p.detach().double().numpy() for p in block.get_submodule("attention.ChannelGate").parameters()]
    (spatial,) = (p.detach().double().numpy() for p in block.get_submodule("attention.SpatialGate").parameters())

    def hidden(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        result: npt.NDArray[np.float64] = channel[2] @ np.maximum(channel[0] @ values + channel[1], 0) + channel[3]
        return result

    gate = 1 / (1 + np.exp(-hidden(image.mean(axis=(1, 2))) - hidden(image.max(axis=(1, 2)))))
    image = image * gate[:, None, None]
    summary = zip((image.max(axis=0), image.mean(axis=0)), spatial[0], strict=True)
    compressed = np.sum([scipy.signal.correlate2d(plane, k, mode="same") for plane, k in summary], axis=0)
    attended: npt.NDArray[np.float64] = image / (1 + np.exp(-compressed))
    return attended


def _head(image: npt.NDArray[np.float64], head: nn.Module, outer: int) -> tuple[npt.NDArray[np.float64], ...]:
    """What the centre and the ring give before the centre's activation."""
    centre = _convolve(image[:-outer], head.get_submodule("conv1"))
    wide = _pair(image[-outer:], head.get_submodule("conv_up_block")).repeat(2, axis=1).repeat(2, axis=2)
    ring = _convolve(wide, head.get_submodule("conv2"))
    return centre, ring / (1 + np.exp(-ring))


@pytest.mark.parametrize("attention", [True, False])
def test_it_computes_what_the_legacy_network_computes(attention: bool) -> None:
    """A plain float64 rendering of the structure in numpy and scipy gives the same amplitude and phase."""
    torch.manual_seed(1)
    network = LegacyCnn(
        CnnStructure(size=64, filters_scale=1, block_attention=attention, outer_channels=4, activation="sigmoid")
    )
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    x = np.random.default_rng(2).uniform(size=(1, 64, 64))

    image = x
    for name in "012":
        block = network.get_submodule(f"autoencoder.encoder.blocks.{name}")
        image = _pair(image, block)
        image = _attended(image, block) if attention else image
        image = image.reshape(len(image), image.shape[1] // 2, 2, -1, 2).max(axis=(2, 4))
    expected = []
    for name in ("amp", "phase"):
        decoder, values = network.get_submodule(f"autoencoder.decoder_{name}"), image
        for block_name in "01":
            values = _pair(values, decoder.get_submodule(f"blocks.{block_name}")).repeat(2, axis=1).repeat(2, axis=2)
        centre, whole = _head(values, decoder.get_submodule(name), outer=4)
        whole[:, 16:48, 16:48] = 1 / (1 + np.exp(-centre)) if name == "amp" else np.pi * np.tanh(centre)
        expected.append(whole)

    with torch.no_grad():
        found = network.heads(torch.tensor(x[None], dtype=torch.float32))

    for want, got in zip(expected, found, strict=True):
        np.testing.assert_allclose(got[0].numpy(), want, rtol=1e-4, atol=1e-4)


def _structure(**changes: object) -> CnnStructure:
    return attrs.evolve(CnnStructure(size=64, filters_scale=1), **changes)  # type: ignore[arg-type]


def _patches(network: torch.nn.Module, members: int = 4) -> torch.Tensor:
    rng = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=rng)
    amplitude = torch.rand(1, members, 64, 64, generator=rng)
    probes = torch.ones(1, members, 1, 64, 64, dtype=torch.complex64)
    with torch.no_grad():
        result: torch.Tensor = network(amplitude, probes)
    return result


def test_a_shared_amplitude_is_one_for_all_patches() -> None:
    """With one amplitude channel the patches of a group differ in phase alone."""
    patches = _patches(LegacyCnn(_structure(channels=4, outer_channels=4, activation="softplus")))[0, :, 16:48, 16:48]

    torch.testing.assert_close(patches.abs(), patches.abs()[:1].expand(4, -1, -1))
    assert float((patches[0] - patches[1]).abs().max()) > 1e-4


def test_cartesian_heads_are_real_and_imaginary_part() -> None:
    """The same weights give a + i·b in place of a·exp(i·b)."""
    torch.manual_seed(0)
    polar = LegacyCnn(_structure())
    cartesian = LegacyCnn(_structure(combination="cartesian"))
    cartesian.load_state_dict(polar.state_dict())

    one, two = _patches(polar, 1), _patches(cartesian, 1)

    torch.testing.assert_close(one, torch.polar(two.real, two.imag))


def test_real_and_imaginary_parts_are_bounded_in_the_centre() -> None:
    """However large the weights, the real part stays in (-0.8, 1.2) and the imaginary part in (-1.2, 1.2)."""
    network = LegacyCnn(_structure(combination="real_imag"))
    for head in ("decoder_amp.amp", "decoder_phase.phase"):
        (weight, _) = network.get_submodule(f"autoencoder.{head}.conv1").parameters()
        torch.nn.init.normal_(weight, std=100.0)

    centre = _patches(network, 1)[..., 16:48, 16:48]

    assert float(centre.real.min()) == pytest.approx(-0.8)
    assert float(centre.real.max()) == pytest.approx(1.2)
    assert float(centre.imag.abs().max()) == pytest.approx(1.2)


def test_groups_of_the_wrong_size_are_refused() -> None:
    """A network that sees four patterns together cannot take three."""
    with pytest.raises(ValueError, match="a multiple of 4 patterns, found 3"):
        _patches(LegacyCnn(_structure(channels=4)), 3)


@pytest.mark.parametrize("activation", ["silu", "sigmoid", "softplus", "relu"])
def test_the_amplitude_has_the_activation_asked_for(activation: str) -> None:
    """The centre of the patch passes through it, which a reference value shows."""
    config = TorchModelConfig(architecture="cnn", n_filters_scale=1, amp_activation=activation)  # type: ignore[arg-type]
    network = build_generator(config, DataConfig(N=64))
    head = network.get_submodule("autoencoder.decoder_amp.amp.conv1")
    torch.nn.init.constant_(dict(head.named_parameters())["bias"], 0.7)
    expected = {
        "silu": 0.7 / (1 + math.exp(-0.7)),
        "sigmoid": 1 / (1 + math.exp(-0.7)),
        "softplus": math.log1p(math.exp(0.7)),
        "relu": 0.7,
    }[activation]

    with torch.no_grad():
        patch = network(torch.ones(1, 1, 64, 64), torch.ones(1, 1, 1, 64, 64, dtype=torch.complex64))

    assert float(patch.abs()[0, 0, 32, 32]) == pytest.approx(expected, rel=1e-5)


CNN: Mapping[str, object] = {"architecture": "cnn", "n_groups": 4, "validation_fraction": 0.0}


@pytest.fixture(scope="module")
def plain_cnn(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """A training of the cnn with nothing changed; nothing is held out, so it keeps its end."""
    return quick_training(tmp_path_factory.mktemp("plain"), CNN)


@pytest.mark.parametrize("setting", [{"cbam_encoder": False}, {"cnn_output_mode": "real_imag"}], ids=str)
def test_the_setting_changes_the_cnn_and_no_other_has_it(
    plain_cnn: TrainedModel, tmp_path: Path, setting: Mapping[str, object]
) -> None:
    """A training of the cnn ends elsewhere; another generator refuses it."""
    changed = quick_training(tmp_path, {**CNN, **setting})

    assert not np.array_equal(plain_cnn.probe, changed.probe)
    assert not np.array_equal(plain_cnn.probe, plain_cnn.start_probe)
    with pytest.raises(ConfigError, match="the built generator has no such part"):
        payload_for(tmp_path, {"architecture": "unet", **setting})


def _operator(**settings: int) -> FactorisedFourierOperator:
    model = TorchModelConfig(architecture="ffno", n_filters_scale=1, **settings)  # type: ignore[arg-type]
    network = build_generator(model, DataConfig(N=64))
    assert isinstance(network, FactorisedFourierOperator)
    return network


def test_the_operator_has_the_parts_asked_for() -> None:
    """Modes, width, spectral blocks and convolution blocks are counted."""
    network = _operator(fno_modes=5, fno_width=16, fno_blocks=3, fno_cnn_blocks=1)

    assert network.mixer.rows.weight.shape == (5, 16, 16, 2)
    assert (len(network.blocks), len(network.refiners)) == (3, 1)
    assert network.lift.out_channels == 16
    assert _size(_operator(fno_cnn_blocks=0)) < _size(_operator(fno_cnn_blocks=1))


def test_an_operator_that_was_stored_keeps_its_structure(tmp_path: Path) -> None:
    """Trainings of two structures end with different numbers of weights."""
    sizes = [
        len(weights(quick_training(tmp_path, {"architecture": "ffno", "fno_width": width, "fno_blocks": 1})))
        for width in (8, 16)
    ]

    assert sizes[0] < sizes[1]


def test_a_mixer_is_a_circular_convolution_of_low_frequencies() -> None:
    """Against a plain sum over frequencies in numpy, axis by axis."""
    rng = np.random.default_rng(4)
    torch.manual_seed(2)
    mixer = SpectralMixer(3, 4)
    x = rng.normal(size=(3, 12, 10))
    rows, columns = (part.weight.detach().double().numpy() @ np.array([1, 1j]) for part in (mixer.rows, mixer.columns))

    def along(image: npt.NDArray[np.float64], weight: npt.NDArray[np.complex128]) -> npt.NDArray[np.float64]:
        n = image.shape[-1]
        result = np.zeros(image.shape)
        for k in range(4):
            wave = np.exp(-2j * np.pi * k * np.arange(n) / n)
            coefficient = np.einsum("io,ihn,n->oh", weight[k], image, wave)
            share = 1.0 if k == 0 else 2.0
            result += share / n * (coefficient[..., None] * wave.conj()).real
        return result

    expected = along(x, rows) + along(x.swapaxes(1, 2), columns).swapaxes(1, 2)
    with torch.no_grad():
        found = mixer(torch.tensor(x[None], dtype=torch.float32))[0].numpy()

    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_mixer_takes_axes_shorter_than_its_modes() -> None:
    """Frequencies that the axis does not have are left out."""
    mixed = AxisMixer(2, 40)(torch.randn(1, 6, 2, 16))

    assert mixed.shape == (1, 6, 2, 16)
    assert bool(mixed.isfinite().all())
