"""The groups that the shipped weights are trained on: what they are drawn from, their photons, how they judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch

from pretraining_sample import plain_specimen, specimens
from ptycho_adapters.pretraining.material import make_material
from ptycho_adapters.pretraining.recipe import draw_batches
from ptycho_adapters.pretraining.resident import objects, true_beams
from ptycho_adapters.pretraining.simulated_groups import expose, relative_errors
from ptycho_core.physics import subpixel

if TYPE_CHECKING:
    from ptycho_adapters.pretraining.material import Material
    from ptycho_adapters.pretraining.resident import ResidentMaterial


def _photons() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_material_is_the_same_from_several_processes() -> None:
    """And holds what was asked for."""
    one, two = (
        make_material(np.random.default_rng(2), textures=2, probes=1, size_shares={16: 1.0}, processes=processes)
        for processes in (1, 2)
    )

    assert one.textures.shape == (2, 2, 384, 384)
    assert one.beams[16].modes.shape == (1, 3, 16, 16)
    np.testing.assert_array_equal(one.textures, two.textures)
    np.testing.assert_array_equal(one.beams[16].modes, two.beams[16].modes)


def test_specimens_are_what_a_network_can_meet(material: Material, resident: ResidentMaterial) -> None:
    """Sixteen overlapping patches inside the object, doses over orders of magnitude, beams of the stated energy."""
    drawn = specimens(material, 40)

    doses = [each.dose for each in drawn]
    assert min(doses) < 1e4
    assert max(doses) > 1e6
    for specimen in drawn:
        assert specimen.starts.shape == (16, 2)
        assert specimen.starts.min() == 0
        assert np.abs(specimen.fractions_px).max() <= 0.5
        height, width = specimen.starts.max(axis=0) + specimen.size
        assert float(objects([specimen], resident, (height, width), 0).abs().max()) <= 1 + 1e-6
        assert float(true_beams([specimen], resident).abs().square().sum()) == pytest.approx(specimen.dose, rel=1e-4)


def test_everything_is_met(material: Material) -> None:
    """Some probes are known wrongly, some have modes, some detectors have bad pixels, some sources flicker."""
    drawn = specimens(material, 200)

    for share in (
        np.mean([each.misjudged is not None for each in drawn]),
        np.mean([len(each.mode_shares) > 1 for each in drawn]),
        np.mean([each.good_pixels is not None for each in drawn]),
        np.mean([np.ptp(each.flux) > 0 for each in drawn]),
        np.mean([each.size == 48 for each in drawn]),
        np.mean([not each.fractions_px.any() for each in drawn]),
    ):
        assert 0.02 < share < 0.5


def test_the_groups_of_a_batch_are_alike(material: Material) -> None:
    """One frame size; between batches the numbers of modes do not mingle more than they must."""
    batches = draw_batches(np.random.default_rng(0), material, batches=8, groups=4)

    assert [len(each) for each in batches] == [4] * 8
    assert len({each.size for batch in batches for each in batch}) == 1
    assert sum(len({each.told_modes for each in batch}) > 1 for batch in batches) <= 2


def test_photons_follow_the_reference_physics(material: Material, resident: ResidentMaterial) -> None:
    """Counts are Poisson around the float64 forward model of the core."""
    specimen = plain_specimen(material)
    size = specimen.size

    group = expose([specimen], resident, _photons())

    positions = specimen.starts + specimen.fractions_px + (size - 1) / 2
    object_ = objects([specimen], resident, (group.target.shape[1], group.target.shape[2]), 0)[0].numpy()
    wanted = subpixel.scan_counts(object_, true_beams([specimen], resident)[0].numpy(), positions)
    counts = np.fft.fftshift(group.view.amplitude[0].square().numpy(), axes=(-2, -1))
    bright = wanted > 5
    pull = (counts - wanted)[bright] / np.sqrt(wanted[bright])
    assert abs(pull.mean()) < 0.04
    assert pull.std() == pytest.approx(1.0, abs=0.04)


def test_the_target_explains_the_counts_under_the_probe_that_is_told(
    material: Material, resident: ResidentMaterial
) -> None:
    """The probe carries the mean count; the target carries what the sample absorbs."""
    group = expose([plain_specimen(material)], resident, _photons())

    told = group.view.probes[0].abs().square().sum(dim=(1, 2, 3))
    assert float(told.mean()) == pytest.approx(float(group.view.amplitude.square().sum() / 16), rel=1e-3)
    exit_energy = (group.target.flatten()[group.view.where] * group.view.probes.flatten(2)).abs().square().sum()
    assert float(exit_energy) == pytest.approx(float(group.view.amplitude.square().sum()), rel=1e-2)


def test_the_error_is_relative_and_blind_to_a_constant_phase(material: Material, resident: ResidentMaterial) -> None:
    """Zero for the target turned by any phase, one for its mean, and real for a wrong scale."""
    group = expose([plain_specimen(material)], resident, _photons())
    turned = group.target * torch.polar(torch.ones(()), torch.tensor(1.1))
    lit = group.light > 0.3 * group.light.max()
    mean = torch.full_like(group.target, complex(group.target[lit].mean()))

    assert float(relative_errors(turned, group)) < 1e-9
    assert float(relative_errors(mean, group)) == pytest.approx(1.0, abs=0.25)
    assert float(relative_errors(1.2 * group.target, group)) > 0.05


def test_bad_pixels_and_their_counts_are_kept_from_the_network(material: Material, resident: ResidentMaterial) -> None:
    """A dead pixel counts nothing and is marked."""
    specimen = plain_specimen(material)
    good = np.ones((specimen.size,) * 2, np.float32)
    good[10, 20] = 0

    view = expose([attrs.evolve(specimen, good_pixels=good)], resident, _photons()).view

    assert view.good_pixels is not None
    assert float(view.good_pixels.sum()) == good.size - 1
    assert not bool(view.amplitude[..., view.good_pixels[0, 0] == 0].any())


def test_the_amplitude_is_sometimes_of_another_texture(material: Material) -> None:
    """Else a network learns to see every edge of the phase in the amplitude too."""
    drawn = [each.object.shares for each in specimens(material, 100)]

    assert 0.4 < np.mean([np.array_equal(phase, absorption) for phase, absorption in drawn]) < 0.9
