"""Every registered generator keeps the same contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

from ptycho_adapters.torch_backend import ScanProbe, TrainedModel, load_archive, save_archive
from ptycho_adapters.torch_backend.generators import (
    Draft,
    Generator,
    View,
    build_generator,
    generator_names,
    register_generator,
    run_steps,
    unrolled,
)
from ptycho_adapters.torch_backend.generators import (
    registry as registry_of_generators,
)
from ptycho_adapters.torch_backend.generators.canvas_unet import REACH_PX, CanvasUNet, without_checkerboard
from ptycho_adapters.torch_backend.generators.unrolled import Unrolled
from ptycho_adapters.torch_backend.physics.optics import detector_order, light_of
from ptycho_core.config import DataConfig, TorchModelConfig
from ptycho_core.errors import ConfigError
from ptycho_core.physics.probes import ProbeKind, make_probe
from torch_sample import payload_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ptycho_adapters.torch_backend.generators import Step

every_generator = pytest.mark.parametrize("name", generator_names())
BLIND_TO_PROBE = {"cnn"}  # its weights are tied to the probe they were trained with; it sees the flux alone


def _built(name: str, *, size: int = 64, scale: int = 1) -> Generator:
    torch.manual_seed(0)
    return build_generator(TorchModelConfig(architecture=name, n_filters_scale=scale), DataConfig(N=size))  # type: ignore[arg-type]


def _input(groups: int, members: int, size: int, n_modes: int = 1, *, photons: float = 1e5) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    probe = np.repeat(make_probe(ProbeKind.ZONE_PLATE, size, photons=photons), n_modes, axis=0)
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

    torch.testing.assert_close(patches, torch.ones_like(patches), rtol=0.0, atol=2e-2)


def _view(amplitude: Tensor, probes: Tensor, weight: Tensor) -> View:
    """Patterns (B, C, N, N), DC in the centre, that all lie on the same pixels of their group's canvas."""
    size = amplitude.shape[-1]
    return View(
        amplitude=detector_order(amplitude),
        probes=probes,
        weight=weight,
        where=torch.arange(size * size).expand(*amplitude.shape[:2], -1),
        good_pixels=None,
    )


@every_generator
def test_its_steps_are_the_whole(name: str) -> None:
    """On canvases of their own, where nothing overlaps, the steps give patterns what one call gives."""
    generator = _unsettled(_built(name))
    amplitude, probes = (each.flatten(0, 1).unsqueeze(1) for each in _input(2, 2, 64))
    light = light_of(probes)

    drafts = [draft for draft, _ in run_steps(generator, lambda: (_view(amplitude, probes, light),), light[:, 0])]

    lit = light[:, 0] > 0
    whole = generator(amplitude, probes)[:, 0]
    torch.testing.assert_close(drafts[-1].object[lit], whole[lit], rtol=1e-4, atol=1e-4)
    assert len(drafts) == len(generator.steps())


class _Adding:
    """A step that adds each pattern's amplitude to what it sees, and averages."""

    def contribution(self, view: View, patches: Tensor) -> Tensor:
        return view.weight * (patches + view.amplitude)

    def combine(self, total: Tensor, draft: Draft) -> Draft:
        return attrs.evolve(draft, object=total / draft.weight)


class _Counter(Generator):
    """Three such steps."""

    def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
        del probes
        return 1 + 3 * amplitude.to(torch.complex64)

    def steps(self) -> Sequence[Step]:
        return (_Adding(),) * 3


def test_overlaps_are_averaged_after_every_step() -> None:
    """Each step sees the weighted average that the one before left, over all views; the first sees ones."""
    _, probes = _input(1, 1, 64)
    views = [
        _view(torch.full((1, 1, 64, 64), amplitude), probes, torch.full((1, 1, 64, 64), weight))
        for amplitude, weight in ((1.0, 1.0), (3.0, 3.0))
    ]

    objects = [draft.object for draft, _ in run_steps(_Counter(), lambda: views, torch.full((1, 64, 64), 4.0))]

    for step, object_ in enumerate(objects, start=1):
        torch.testing.assert_close(object_, torch.full_like(object_, 1 + 2.5 * step))


@every_generator
def test_a_pattern_does_not_see_its_batch(name: str) -> None:
    """The patch of a pattern is the same whoever else is in the batch."""
    generator = _unsettled(_built(name)).eval()
    amplitude, probes = _input(5, 1, 64)

    with torch.no_grad():
        together = generator(amplitude, probes)
        alone = torch.cat([generator(amplitude[i : i + 1], probes[i : i + 1]) for i in range(5)])

    torch.testing.assert_close(together, alone, rtol=0.0, atol=1e-4)
    assert float((together[0] - together[1]).abs().max()) > 5e-4


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
        assert not torch.allclose(patch, generator(amplitude, 2 * probes))
        moved = generator(amplitude, probes.roll(5, dims=-1))
        assert torch.allclose(patch, moved, atol=1e-5) == (name in BLIND_TO_PROBE)


@every_generator
def test_dark_patterns_do_no_harm(name: str) -> None:
    """A pattern without a single photon gives finite patches and finite gradients."""
    generator = _unsettled(_built(name))
    _, probes = _input(1, 2, 64)

    patches = generator(torch.zeros(1, 2, 64, 64), probes)
    patches.abs().square().mean().backward()

    assert bool(patches.isfinite().all())
    assert all(bool(p.grad.isfinite().all()) for p in generator.parameters() if p.grad is not None)


@every_generator
@pytest.mark.parametrize("photons", [1e2, 1e5, 1e9])
def test_the_object_does_not_grow_with_the_flux(name: str, photons: float) -> None:
    """The same exposure under more light is the same object to within a factor of order one, not of the flux."""
    generator = _unsettled(_built(name)).eval()
    _, probes = _input(1, 2, 64, photons=photons)
    rate = torch.fft.fftshift(torch.fft.fft2(probes, norm="ortho"), dim=(-2, -1)).abs().square().sum(dim=2)

    with torch.no_grad():
        patches = generator(rate.sqrt(), probes)

    assert float(patches.abs().mean()) < 20.0
    assert float(patches.abs().amax()) < 100.0


@every_generator
def test_its_weights_come_back_from_a_state_dict(name: str) -> None:
    """Another instance that loads them, strictly, gives the same patches, bit for bit."""
    one, two = _unsettled(_built(name)).eval(), _built(name).eval()
    amplitude, probes = _input(1, 2, 64)

    two.load_state_dict(one.state_dict())

    with torch.no_grad():
        assert torch.equal(one(amplitude, probes), two(amplitude, probes))


@every_generator
def test_it_comes_back_from_an_archive(name: str, tmp_path: Path) -> None:
    """A stored model has the same weights and gives the same patches."""
    payload = payload_for(tmp_path, {"architecture": name})
    generator = _unsettled(build_generator(payload.pt_model_config, payload.pt_data_config)).eval()
    amplitude, probes = _input(1, 4, 64)
    probe = probes[0, 0].numpy()
    model = TrainedModel(
        payload=payload,
        generator=generator,
        probes=(ScanProbe(probe=probe, start_probe=probe, flux=1e5),),
        history=(),
        code_version="1",
    )

    restored = load_archive(save_archive(model, tmp_path))

    with torch.no_grad():
        assert torch.equal(restored.generator(amplitude, probes), generator(amplitude, probes))


@every_generator
def test_filters_scale_the_number_of_weights(name: str) -> None:
    """Twice the filters, more weights."""
    sizes = [sum(p.numel() for p in _built(name, scale=scale).parameters()) for scale in (1, 2, 4)]

    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize(("steps", "repeats", "order"), [(1, 0, [0]), (3, 0, [0, 1, 2]), (3, 2, [0, 1, 2, 1, 2, 1, 2])])
def test_the_unrolled_generator_has_the_steps_asked_for(steps: int, repeats: int, order: list[int]) -> None:
    """One network per step, each run once, and the later half again as often as asked."""
    settings = TorchModelConfig(
        architecture="unrolled", n_filters_scale=1, unrolled_steps=steps, unrolled_repeats=repeats
    )
    generator = build_generator(settings, DataConfig(N=64))
    lone = build_generator(attrs.evolve(settings, unrolled_steps=1, unrolled_repeats=0), DataConfig(N=64))

    assert isinstance(generator, Unrolled)
    assert [[*generator.refinements].index(step) for step in generator.steps()] == order
    assert sum(p.numel() for p in generator.parameters()) == steps * sum(p.numel() for p in lone.parameters())


class _Blank(Generator):
    def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
        del probes
        return torch.ones_like(amplitude, dtype=torch.complex64)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test register generators that are gone after it."""
    monkeypatch.setattr(registry_of_generators, "_FACTORIES", dict(registry_of_generators._FACTORIES))


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


def test_pixel_blocks_leave_no_checkerboard() -> None:
    """The filter takes the finest waves out and leaves a constant, a ramp and coarse waves as they are."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    finest = torch.stack([torch.cos(torch.pi * y), torch.cos(torch.pi * x), torch.cos(torch.pi * (x + y))])[:, None]
    coarse = torch.stack([torch.ones_like(x), 3 * x - y, torch.cos(2 * torch.pi * x / 16)])[:, None]

    inside = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    assert float(without_checkerboard(finest)[inside].abs().max()) < 1e-5
    torch.testing.assert_close(without_checkerboard(coarse)[inside], coarse[inside], rtol=0.0, atol=6e-3)


def test_a_canvas_beyond_a_size_is_treated_in_tiles_without_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces with their surroundings give what the whole gives, also where the last pieces are narrow."""
    torch.manual_seed(0)
    step = unrolled.Refinement((8, 8, 8))
    for parameter in step.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    shape = (1, 299, 343)
    total, object_ = (torch.randn(shape, dtype=torch.complex64) for _ in range(2))
    draft = Draft(object=object_, weight=torch.rand(shape), memory=torch.randn(1, 4, *shape[1:]))
    seen: list[int] = []
    step.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-1] * inputs[0].shape[-2]))

    with torch.no_grad():
        whole = step.combine(total, draft)
        monkeypatch.setattr(unrolled, "LARGEST_AT_ONCE_PX", 299 * 343 - 1)
        monkeypatch.setattr(unrolled, "TILE_PX", 112)
        tiled = step.combine(total, draft)

    assert len(seen) == 1 + 3 * 4
    assert max(seen[1:]) < seen[0]
    assert float((whole.object - object_).abs().std()) > 0.05
    torch.testing.assert_close(tiled.object, whole.object, rtol=0.0, atol=1e-4)
    torch.testing.assert_close(tiled.memory, whole.memory, rtol=0.0, atol=1e-4)


def test_the_first_layer_sees_blocks_of_pixels() -> None:
    """It gives what a 3x3 convolution on the unshuffled image gives, and so do its gradients."""
    torch.manual_seed(0)
    stem = CanvasUNet(3, 2, (8, 8, 8)).double().stem
    pixels = torch.randn(2, 3, 24, 16, dtype=torch.float64, requires_grad=True)
    wanted = torch.nn.functional.conv2d(
        torch.nn.functional.pixel_unshuffle(pixels, 2), stem.weight, stem.bias, padding=1
    )

    given = stem(pixels)

    torch.testing.assert_close(given, wanted)
    for parameter in (pixels, stem.weight):
        one, other = (
            torch.autograd.grad(out.square().sum(), parameter, retain_graph=True)[0] for out in (given, wanted)
        )
        torch.testing.assert_close(one, other)


def test_a_pixel_is_seen_no_farther_than_tiles_reach() -> None:
    """A change of one input pixel changes outputs within the reach and nothing beyond."""
    torch.manual_seed(0)
    network = CanvasUNet(1, 1, (8, 8, 8)).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    reach, middle = REACH_PX, 130
    canvas = torch.zeros(1, 1, 2 * middle, 2 * middle, dtype=torch.float64, requires_grad=True)

    network(canvas)[0, 0, middle, middle].backward()

    assert canvas.grad is not None
    rows = canvas.grad[0, 0].abs().sum(dim=1).nonzero().flatten()
    assert middle - reach <= int(rows.min()) < middle - reach // 2
    assert middle + reach // 2 < int(rows.max()) <= middle + reach
