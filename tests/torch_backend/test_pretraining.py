"""The training of the shipped weights: what it is shown, what it minimises, that it can be repeated."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch
from safetensors import safe_open

from ptycho_adapters.pretraining import __main__ as command
from ptycho_adapters.pretraining import training
from ptycho_adapters.pretraining.recipe import Material, Specimen, draw_specimen, make_material
from ptycho_adapters.pretraining.simulated_groups import expose, relative_error
from ptycho_adapters.pretraining.training import Settings, pretrain, save_weights
from ptycho_adapters.torch_backend.generators import build_generator, run_steps
from ptycho_adapters.torch_backend.generators.unrolled import Unrolled
from ptycho_core.config import DataConfig, TorchModelConfig
from ptycho_core.physics import subpixel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ptycho_adapters.torch_backend.generators.base import Generator, Step


@pytest.fixture(scope="module")
def material() -> Material:
    """A little of everything."""
    return make_material(np.random.default_rng(0), textures=4, probes=4)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of two narrow steps wherever the default one is built."""
    width = TorchModelConfig(n_filters_scale=1, unrolled_steps=2)

    def build(model: TorchModelConfig, data: DataConfig) -> Generator:
        assert (model, data) == (TorchModelConfig(), DataConfig())
        return build_generator(width, data)

    for module in (training, command):
        monkeypatch.setattr(module, "build_generator", build)


def _specimens(material: Material, number: int, seed: int = 0) -> list[Specimen]:
    rng = np.random.default_rng(seed)
    return [draw_specimen(rng, material) for _ in range(number)]


def test_specimens_are_what_a_network_can_meet(material: Material) -> None:
    """Sixteen overlapping patches inside the object, doses over orders of magnitude, probes of the stated energy."""
    drawn = _specimens(material, 40)

    doses = [float(np.square(np.abs(s.probe)).sum()) for s in drawn]
    assert min(doses) < 1e4
    assert max(doses) > 1e6
    for specimen, dose in zip(drawn, doses, strict=True):
        size = specimen.probe.shape[-1]
        assert specimen.starts.shape == (16, 2)
        assert specimen.starts.min() >= 0
        assert (specimen.starts.max(axis=0) + size == specimen.object.shape).all()
        assert np.abs(specimen.fractions_px).max() <= 0.5
        assert np.abs(specimen.object).max() <= 1 + 1e-6
        assert np.square(np.abs(specimen.known_probe)).sum() == pytest.approx(dose, rel=1e-4)


def test_every_fault_is_met(material: Material) -> None:
    """Some probes are known wrongly, some have modes, some detectors have bad pixels, some sources flicker."""
    drawn = _specimens(material, 120)

    for share in (
        np.mean([not np.allclose(s.known_probe, s.probe, rtol=1e-3) for s in drawn]),
        np.mean([len(s.probe) > 1 for s in drawn]),
        np.mean([s.good_pixels is not None for s in drawn]),
        np.mean([np.ptp(s.flux) > 0 for s in drawn]),
        np.mean([s.probe.shape[-1] == 128 for s in drawn]),
        np.mean([not s.fractions_px.any() for s in drawn]),
    ):
        assert 0.02 < share < 0.5


def _plain(material: Material) -> Specimen:
    """A bright specimen without faults, in one mode."""
    return next(
        attrs.evolve(s, known_probe=s.probe, flux=np.ones_like(s.flux), good_pixels=None)
        for s in _specimens(material, 60, seed=3)
        if len(s.probe) == 1 and np.square(np.abs(s.probe)).sum() > 1e6 and s.fractions_px.any()
    )


def test_photons_follow_the_reference_physics(material: Material) -> None:
    """Counts are Poisson around the float64 forward model of the core."""
    specimen = _plain(material)
    size = specimen.probe.shape[-1]

    group = expose(specimen, torch.Generator().manual_seed(0))

    positions = specimen.starts + specimen.fractions_px + (size - 1) / 2
    wanted = subpixel.scan_counts(specimen.object, specimen.probe, positions)
    counts = np.fft.fftshift(group.view.amplitude[0].square().numpy(), axes=(-2, -1))
    bright = wanted > 5
    pull = (counts - wanted)[bright] / np.sqrt(wanted[bright])
    assert abs(pull.mean()) < 0.02
    assert pull.std() == pytest.approx(1.0, abs=0.02)


def test_the_target_explains_the_counts_under_the_probe_that_is_told(material: Material) -> None:
    """The probe carries the mean count; the target carries what the sample absorbs."""
    specimen = _plain(material)

    group = expose(specimen, torch.Generator().manual_seed(0))

    told = group.view.probes[0].abs().square().sum(dim=(1, 2, 3))
    assert float(told.mean()) == pytest.approx(float(group.view.amplitude.square().sum() / 16), rel=1e-3)
    exit_energy = (group.target.flatten()[group.view.where] * group.view.probes.flatten(2)).abs().square().sum()
    assert float(exit_energy) == pytest.approx(float(group.view.amplitude.square().sum()), rel=1e-2)


def test_the_error_is_relative_and_blind_to_a_constant_phase(material: Material) -> None:
    """Zero for the target turned by any phase, one for its mean, and real for a wrong scale."""
    group = expose(_plain(material), torch.Generator().manual_seed(0))
    turned = group.target * torch.polar(torch.ones(()), torch.tensor(1.1))
    lit = group.light > 0.3 * group.light.max()
    mean = torch.full_like(group.target, complex(group.target[lit].mean()))

    assert float(relative_error(turned, group)) < 1e-9
    assert float(relative_error(mean, group)) == pytest.approx(1.0, abs=0.25)
    assert float(relative_error(1.2 * group.target, group)) > 0.05


def test_bad_pixels_and_their_counts_are_kept_from_the_network(material: Material) -> None:
    """A dead pixel counts nothing and is marked."""
    good = np.ones((64, 64), np.float32)
    good[10, 20] = 0
    specimen = next(s for s in _specimens(material, 60) if s.probe.shape[-1] == 64)

    view = expose(attrs.evolve(specimen, good_pixels=good), torch.Generator().manual_seed(0)).view

    assert view.good_pixels is not None
    assert float(view.good_pixels.sum()) == 64 * 64 - 1
    assert not bool(view.amplitude[..., view.good_pixels == 0].any())


def test_the_amplitude_is_sometimes_of_another_texture(material: Material) -> None:
    """Else a network learns to see every edge of the phase in the amplitude too."""
    same = material.textures[:, :1].repeat(2, axis=1)
    drawn = _specimens(attrs.evolve(material, textures=same), 60)

    follows = []
    for specimen in drawn:
        phase, amplitude = np.angle(specimen.object).ravel(), np.abs(specimen.object).ravel()
        if np.ptp(amplitude) > 0.05:
            follows.append(abs(np.corrcoef(phase, amplitude)[0, 1]) > 0.99)

    assert 0.4 < np.mean(follows) < 0.9


@pytest.mark.usefixtures("narrow")
def test_the_network_is_trained_with_either_number_of_repeats(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One and two, in turn."""
    seen = []
    steps = Unrolled.steps

    def watched(generator: Unrolled) -> Sequence[Step]:
        seen.append(generator.repeats)
        return steps(generator)

    monkeypatch.setattr(Unrolled, "steps", watched)

    [*pretrain(Settings(steps=4), material)]

    assert seen == [1, 2, 1, 2]


@pytest.mark.usefixtures("narrow")
def test_a_pretraining_can_be_repeated(material: Material) -> None:
    """Equal seeds give equal weights, another seed others; reports come at the stated steps."""
    settings = Settings(steps=3, report_every=2, seed=5)

    runs = [[*pretrain(s, material)] for s in (settings, settings, attrs.evolve(settings, seed=6))]

    assert [report.step for _, report in runs[0]] == [2, 3]
    one, same, other = (torch.cat([p.detach().flatten() for p in run[-1][0].parameters()]) for run in runs)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.usefixtures("narrow")
def test_a_pretraining_learns(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps on one specimen lower the error of its object by a fifth and more."""
    specimen = _plain(material)
    group = expose(specimen, torch.Generator().manual_seed(0))
    monkeypatch.setattr(training, "draw_specimen", lambda *_: specimen)
    (generator, _), *_ = pretrain(Settings(steps=6, learning_rate=1e-2, warm_up_steps=2), material)
    (first, _), *_ = pretrain(Settings(steps=1, learning_rate=1e-9), material)

    with torch.no_grad():
        after, before = (
            float(relative_error([*run_steps(g, lambda: (group.view,), group.light)][-1][0].object, group))
            for g in (generator, first)
        )

    assert after < 0.8 * before


@pytest.mark.usefixtures("narrow")
def test_weights_are_written_with_their_notes(material: Material, tmp_path: Path) -> None:
    """Float16 safetensors that give the network back to within its precision."""
    ((generator, _),) = pretrain(Settings(steps=1), material)
    save_weights(generator, tmp_path / "w.safetensors", {"seed": "5"})

    with safe_open(str(tmp_path / "w.safetensors"), framework="pt") as file:
        assert file.metadata() == {"seed": "5"}
        for name, value in generator.state_dict().items():
            torch.testing.assert_close(file.get_tensor(name).float(), value, rtol=1e-3, atol=1e-6)


@pytest.mark.usefixtures("narrow")
def test_the_command_writes_weights_and_a_log(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And goes on from weights that it is given."""
    monkeypatch.setattr(command, "make_material", lambda _rng: material)
    target = tmp_path / "weights.safetensors"
    for extra in ([], ["--first", str(target)]):
        monkeypatch.setattr(
            sys, "argv", ["pretraining", "--output", str(target), "--steps", "2", "--seed", "3", *extra]
        )
        command.main()

        (line,) = target.with_suffix(".jsonl").read_text().splitlines()
        assert json.loads(line)["step"] == 2
        with safe_open(str(target), framework="pt") as file:
            assert file.metadata()["seed"] == "3"
            assert file.metadata()["first"] == (target.name if extra else "None")
