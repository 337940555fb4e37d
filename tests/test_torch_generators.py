"""Every registered generator keeps the same contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from ptycho_adapters.torch_backend.generators import (
    Generator,
    base,
    build_generator,
    generator_names,
    register_generator,
    run_steps,
)
from ptycho_core.config import DataConfig, TorchModelConfig
from ptycho_core.errors import ConfigError
from ptycho_core.probes import ProbeKind, make_probe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ptycho_adapters.torch_backend.generators import Step

pytest_plugins = ("torch_fixtures",)

every_generator = pytest.mark.parametrize("name", generator_names())


def _built(name: str, *, size: int = 64, scale: int = 1) -> Generator:
    torch.manual_seed(0)
    return build_generator(TorchModelConfig(architecture=name, n_filters_scale=scale), DataConfig(N=size))  # type: ignore[arg-type]


def _input(groups: int, members: int, size: int, n_modes: int = 1) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    probe = np.repeat(make_probe(ProbeKind.ZONE_PLATE, size, photons=1e5), n_modes, axis=0)
    amplitude = np.sqrt(rng.poisson(20.0, (groups, members, size, size))).astype(np.float32)
    probes = torch.tensor(probe.astype(np.complex64)).expand(groups, members, n_modes, size, size)
    return torch.tensor(amplitude), probes


def _unsettled(generator: Generator) -> Generator:
    """Move it away from its start, where the last layer may be zero."""
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return generator


@every_generator
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize(("groups", "members", "n_modes"), [(2, 1, 1), (1, 4, 2)])
def test_it_maps_amplitudes_to_patches(name: str, size: int, groups: int, members: int, n_modes: int) -> None:
    """Finite complex64 patches of the input's shape, for any number of groups, members and modes."""
    patches = _unsettled(_built(name, size=size))(*_input(groups, members, size, n_modes))

    assert patches.shape == (groups, members, size, size)
    assert patches.dtype == torch.complex64
    assert bool(patches.isfinite().all())


@every_generator
def test_it_starts_from_a_transparent_object(name: str) -> None:
    """Before any training, the pattern of the bare probe means an object of ones."""
    _, probes = _input(2, 2, 64)
    far = torch.fft.fftshift(torch.fft.fft2(probes, norm="ortho"), dim=(-2, -1))

    patches = _built(name)(far.abs().square().sum(dim=2).sqrt(), probes)

    torch.testing.assert_close(patches, torch.ones_like(patches), rtol=0.0, atol=1e-4)


@every_generator
def test_its_steps_are_the_whole(name: str) -> None:
    """Run one after the other without any average in between, the steps give what one call gives."""
    generator = _unsettled(_built(name))
    amplitude, probes = _input(2, 2, 64)

    single, merged = run_steps(generator, amplitude, probes, lambda patches: patches)

    torch.testing.assert_close(single, generator(amplitude, probes))
    assert torch.equal(single, merged[-1])
    assert len(merged) == len(generator.steps())


class _Counter(Generator):
    """Three steps that each add one to what they see."""

    def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
        del probes
        return torch.full_like(amplitude, 4.0, dtype=torch.complex64)

    def steps(self) -> Sequence[Step]:
        return (lambda _amplitude, _probes, patches: patches + 1,) * 3


def test_overlaps_are_averaged_after_every_step() -> None:
    """Each step sees the average of the one before; the first sees ones."""
    single, merged = run_steps(_Counter(), *_input(1, 2, 64), lambda patches: 10 * patches)

    assert bool((single == (((1 + 1) * 10 + 1) * 10 + 1)).all())
    assert bool((merged[-1] == 10 * single).all())
    assert bool((merged[0] == 20).all())


@every_generator
def test_a_pattern_does_not_see_its_batch(name: str) -> None:
    """The patch of a pattern is the same whoever else is in the batch."""
    generator = _unsettled(_built(name)).eval()
    amplitude, probes = _input(5, 1, 64)

    with torch.no_grad():
        together = generator(amplitude, probes)
        alone = torch.cat([generator(amplitude[i : i + 1], probes[i : i + 1]) for i in range(5)])

    torch.testing.assert_close(together, alone, rtol=0.0, atol=2e-5)
    assert float((together[0] - together[1]).abs().max()) > 1e-2


@every_generator
def test_gradients_reach_every_weight(name: str) -> None:
    """Away from the start, every parameter tensor gets a gradient."""
    generator = _unsettled(_built(name))

    generator(*_input(1, 2, 64)).abs().square().mean().backward()

    for key, parameter in generator.named_parameters():
        assert parameter.grad is not None, key
        assert bool(parameter.grad.isfinite().all()), key
        assert bool((parameter.grad != 0).any()), key


@every_generator
def test_it_uses_pattern_and_probe(name: str) -> None:
    """Changing either changes the patch."""
    generator = _unsettled(_built(name)).eval()
    amplitude, probes = _input(1, 1, 64)

    with torch.no_grad():
        patch = generator(amplitude, probes)
        assert not torch.allclose(patch, generator(2 * amplitude, probes))
        assert not torch.allclose(patch, generator(amplitude, probes.roll(5, dims=-1)))


@every_generator
def test_filters_scale_the_number_of_weights(name: str) -> None:
    """Twice the filters, more weights."""
    sizes = [sum(p.numel() for p in _built(name, scale=scale).parameters()) for scale in (1, 2, 4)]

    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("steps", [1, 3])
def test_the_unrolled_generator_has_the_steps_asked_for(steps: int) -> None:
    """One network per step, and each is run once."""
    generator = build_generator(
        TorchModelConfig(architecture="unrolled", n_filters_scale=1, unrolled_steps=steps), DataConfig(N=64)
    )
    whole = _built("unrolled")
    one = sum(p.numel() for p in whole.parameters()) // len(whole.steps())

    assert len(generator.steps()) == steps
    assert sum(p.numel() for p in generator.parameters()) == steps * one


class _Blank(Generator):
    def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
        del probes
        return torch.ones_like(amplitude, dtype=torch.complex64)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test register generators that are gone after it."""
    monkeypatch.setattr(base, "_FACTORIES", dict(base._FACTORIES))


@pytest.mark.usefixtures("registry")
def test_a_new_generator_registers_by_name() -> None:
    """Once registered, it is listed and built when a configuration asks for it."""
    register_generator("fno")(lambda _model, _data: _Blank())

    assert "fno" in generator_names()
    assert isinstance(_built("fno"), _Blank)


@pytest.mark.usefixtures("registry")
def test_a_name_is_given_once() -> None:
    """A second generator of the same name is refused."""
    with pytest.raises(ConfigError, match="unet: expected a free name"):
        register_generator("unet")(lambda _model, _data: _Blank())


def test_an_unregistered_name_is_refused() -> None:
    """The message says which names there are."""
    with pytest.raises(ConfigError, match=r"architecture: expected one of .*unet.*, found fno"):
        _built("fno")
