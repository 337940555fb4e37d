"""What the shipped weights are shown: each fault changes the counts as it says, by the float64 physics of the core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from pretraining_sample import plain_specimen, specimens
from ptycho_adapters.pretraining.faults import Faults, draw_faults
from ptycho_adapters.pretraining.recipe import Misjudgement, draw_batches
from ptycho_adapters.pretraining.resident import ResidentMaterial, told_beams
from ptycho_adapters.pretraining.simulated_groups import SimulatedGroups, expose, relative_errors
from ptycho_core.physics.optics import expected_counts, extract_patches, far_field, inverse_far_field
from ptycho_core.physics.probes import aberrate, with_modes
from ptycho_core.physics.subpixel import shift_probe, split_positions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptycho_adapters.pretraining.material import Material
    from ptycho_adapters.pretraining.recipe import Specimen

_MARGIN = 8


@pytest.fixture
def noiseless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts are their expectations."""
    monkeypatch.setattr(torch, "poisson", lambda rate, generator: rate)


def _object(specimen: Specimen, material: Material) -> NDArray[np.complex128]:
    """The object with a margin on all sides, in float64."""
    drawn, faults = specimen.object, specimen.faults
    height, width = specimen.starts.max(axis=0) + specimen.size
    blend = np.zeros((2, height + 2 * _MARGIN, width + 2 * _MARGIN))
    for k in range(len(drawn.textures)):
        texture = np.roll(material.textures[drawn.textures[k]], tuple(_MARGIN - drawn.corners[k]), axis=(1, 2))
        window = np.pad(texture, ((0, 0), (0, 64), (0, 64)), mode="wrap")[:, : blend.shape[1], : blend.shape[2]]
        window = window[::-1] if drawn.exchanged[k] else window
        blend += drawn.shares[:, k, None, None] * window
    y, x = np.indices(blend.shape[1:]) - np.reshape([(edge - 1) / 2 for edge in blend.shape[1:]], (2, 1, 1))
    slope = np.array(faults.wedge_rad_per_px)
    phase = drawn.phase_rad * faults.depth * (blend[0] - 0.5)
    phase += np.maximum(slope[0] * y + slope[1] * x - np.hypot(*slope) * faults.wedge_offset_px, 0)
    made: NDArray[np.complex128] = (1 - (1 - drawn.lowest_amplitude) * blend[1]) * np.exp(1j * phase)
    return made


def _probe(specimen: Specimen, material: Material) -> NDArray[np.complex128]:
    """The beam alone, at its dose."""
    beam = material.beams[specimen.size].modes[specimen.beam, :1]
    made: NDArray[np.complex128] = np.sqrt(specimen.dose) * beam.astype(np.complex128)
    return made


def _counts(
    object_: NDArray[np.complex128],
    probe: NDArray[np.complex128],
    positions_px: NDArray[np.floating],
    copy_px: NDArray[np.floating] | tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.float64]:
    """Mean counts under a probe that lies off the middle of its frame."""
    whole, rest = split_positions(positions_px, probe.shape[-1])
    patches = extract_patches(object_, whole + _MARGIN, probe.shape[-1])
    pairs = zip(patches, rest, strict=True)
    return np.stack([expected_counts(patch, shift_probe(probe, shift + copy_px)) for patch, shift in pairs])


def _positions(specimen: Specimen) -> NDArray[np.float64]:
    middle: NDArray[np.float64] = specimen.starts + specimen.fractions_px.astype(float) + (specimen.size - 1) / 2
    return middle


def _shown(groups: SimulatedGroups) -> NDArray[np.float64]:
    """Counts that the network is shown, centred."""
    counts: NDArray[np.float64] = np.fft.fftshift(groups.view.amplitude[0].double().square().numpy(), axes=(-2, -1))
    return counts


def _compare(found: NDArray[np.float64], wanted: NDArray[np.float64], tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * wanted.max())


@pytest.mark.usefixtures("noiseless")
@pytest.mark.parametrize(
    "faults",
    [
        Faults(),
        Faults(depth=3.5),
        Faults(wedge_rad_per_px=(0.1, -0.05), wedge_offset_px=3.0),
        Faults(position_errors_px=np.random.default_rng(1).uniform(-3, 3, (16, 2))),
    ],
    ids=["none", "deep", "wedge", "positions"],
)
def test_objects_and_positions_are_as_the_faults_say(
    material: Material, resident: ResidentMaterial, faults: Faults
) -> None:
    """Deeper phases, a wedge that begins at a line, patterns from elsewhere than the network is told."""
    specimen = attrs.evolve(plain_specimen(material), faults=faults)
    errors = 0.0 if faults.position_errors_px is None else faults.position_errors_px

    groups = expose([specimen], resident, None)

    object_ = _object(specimen, material)
    _compare(_shown(groups), _counts(object_, _probe(specimen, material), _positions(specimen) + errors))
    inner = object_[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    scale = groups.target[0, 0, 0].numpy() / inner[0, 0]
    np.testing.assert_allclose(groups.target[0].numpy(), scale * inner, rtol=0, atol=1e-4 * abs(scale))


@pytest.mark.usefixtures("noiseless")
def test_light_beside_the_middle_is_a_slope_of_the_object(material: Material, resident: ResidentMaterial) -> None:
    """Patterns are those of a probe with a slope of phase, and the target explains them without it."""
    whole = attrs.evolve(plain_specimen(material), fractions_px=np.zeros((16, 2), np.float32))
    specimen = attrs.evolve(whole, faults=Faults(beam_px=(0.4, -0.3)))
    place = np.arange(specimen.size)
    slope = np.exp(2j * np.pi / specimen.size * (0.4 * place[:, None] - 0.3 * place))

    groups = expose([specimen], resident, None)

    probe, object_ = _probe(specimen, material), _object(specimen, material)
    _compare(_shown(groups), _counts(object_, probe * slope, _positions(specimen)))
    told = groups.view.probes[0, 0].numpy().astype(np.complex128)
    target = np.pad(groups.target[0].numpy().astype(np.complex128), _MARGIN)
    _compare(_shown(groups), _counts(target, told, _positions(specimen)))


@pytest.mark.usefixtures("noiseless")
def test_light_of_no_beam_is_added_and_told_of(material: Material, resident: ResidentMaterial) -> None:
    """The network hears of a part of it, and takes the rest for light of the probe."""
    specimen = plain_specimen(material)
    faults = Faults(background_counts=40.0, told_background_counts=30.0)

    clean, groups = (
        expose([attrs.evolve(specimen, faults=each)], resident, None) for each in (specimen.faults, faults)
    )

    _compare(_shown(groups), _shown(clean) + 40)
    assert float(torch.as_tensor(groups.view.background).squeeze()) == 30
    energy = float(groups.view.probes[0, 0].abs().square().sum())
    assert energy == pytest.approx(_shown(clean).sum() / 16 + 10 * specimen.size**2, rel=1e-4)


@pytest.mark.usefixtures("noiseless")
def test_hot_pixels_are_masked_where_they_are_told(material: Material, resident: ResidentMaterial) -> None:
    """Of two, one is bad and empty, the other counts too much."""
    specimen = plain_specimen(material)
    size = specimen.size
    hot = Faults(
        hot_pixels=np.array([5 * size + 7, 9 * size + 3]),
        hot_counts=np.array([1e4, 2e4]),
        hot_told=np.array([True, False]),
    )

    clean, groups = (expose([attrs.evolve(specimen, faults=each)], resident, None) for each in (specimen.faults, hot))

    wanted = _shown(clean)
    wanted[:, 5, 7] = 0
    wanted[:, 9, 3] += 2e4
    _compare(_shown(groups), wanted)
    assert groups.view.good_pixels is not None
    bad = np.fft.fftshift(groups.view.good_pixels[0, 0].numpy()) == 0
    assert np.argwhere(bad).tolist() == [[5, 7]]


@pytest.mark.usefixtures("noiseless")
def test_a_beam_that_moves_within_a_frame_adds_up_its_patterns(material: Material, resident: ResidentMaterial) -> None:
    """The network is told of one beam at rest."""
    copies, shares = np.array([[-1.5, 2.0], [0.5, 0.25], [2.0, -1.0]]), np.array([0.2, 0.5, 0.3])
    still = plain_specimen(material)
    specimen = attrs.evolve(still, faults=Faults(copies_px=copies, copy_shares=shares))

    groups, at_rest = (expose([each], resident, None) for each in (specimen, still))

    probe, object_, positions = _probe(specimen, material), _object(specimen, material), _positions(specimen)
    each = [share * _counts(object_, probe, positions, copy) for copy, share in zip(copies, shares, strict=True)]
    _compare(_shown(groups), np.sum(each, axis=0))
    told, wanted = groups.view.probes, at_rest.view.probes
    torch.testing.assert_close(told / told.abs().max(), wanted / wanted.abs().max(), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("noiseless")
def test_modes_that_the_network_does_not_know(material: Material, resident: ResidentMaterial) -> None:
    """Patterns of two modes, of which it has the first with the light of both."""
    still = plain_specimen(material)
    specimen = attrs.evolve(still, faults=Faults(untold_modes=(0.8, 0.2)))

    groups = expose([specimen], resident, None)

    modes = with_modes(_probe(specimen, material), 2, power_ratio=0.25)
    _compare(_shown(groups), _counts(_object(specimen, material), modes, _positions(specimen)))
    assert groups.view.probes.shape[2] == 1
    assert float(groups.view.probes[0, 0].abs().square().sum()) == pytest.approx(_shown(groups).sum() / 16, rel=1e-4)


@pytest.mark.usefixtures("noiseless")
def test_the_detector_spreads_its_light(material: Material, resident: ResidentMaterial) -> None:
    """Each pattern is blurred by a Gaussian."""
    still = plain_specimen(material)

    clean, blurred = (
        _shown(expose([attrs.evolve(still, faults=each)], resident, None))
        for each in (Faults(), Faults(point_spread_px=1.0))
    )

    _compare(blurred, gaussian_filter(clean, 1.0, mode="wrap", axes=(1, 2), truncate=8), tolerance=0.02)
    assert blurred.sum() == pytest.approx(clean.sum(), rel=1e-4)


def test_a_probe_is_misjudged_like_the_core_aberrates(material: Material, resident: ResidentMaterial) -> None:
    """The device's aberrations are those of the float64 reference, with a defocus beside them."""
    coefficients = np.random.default_rng(5).normal(size=7)
    wrong = Misjudgement(coefficients=coefficients, aberration_rad=0.3, defocus_rad=-0.2)
    specimen = attrs.evolve(plain_specimen(material), misjudged=wrong)

    told = told_beams([specimen], resident)[0].numpy()

    pupil = far_field(aberrate(_probe(specimen, material), np.random.default_rng(5), strength_rad=0.3))[0]
    y, x = np.indices(pupil.shape) - specimen.size // 2
    radius2, weight = y**2 + x**2, np.abs(pupil) ** 2
    centred = radius2 - np.average(radius2, weights=weight)
    spread = np.sqrt(np.average(centred**2, weights=weight))
    wanted = inverse_far_field(pupil * np.exp(-0.2j * np.clip(centred / spread, -3, 3)))
    np.testing.assert_allclose(told[0], wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.usefixtures("noiseless")
def test_groups_are_the_same_alone_and_in_a_batch(material: Material, resident: ResidentMaterial) -> None:
    """Whatever their faults; a canvas is filled up to the largest, and nothing judges what is added."""
    batch, *_ = draw_batches(np.random.default_rng(4), material, batches=1, groups=6)
    assert any(each.faults.position_errors_px is not None for each in batch)

    together = expose(batch, resident, None)

    for k, specimen in enumerate(batch):
        alone = expose([specimen], resident, None)
        height, width = alone.target.shape[1:]
        assert torch.allclose(together.view.amplitude[k], alone.view.amplitude[0], rtol=1e-4, atol=1e-3)
        assert torch.allclose(together.target[k, :height, :width], alone.target[0], atol=1e-4)
        assert torch.allclose(together.light[k, :height, :width], alone.light[0], rtol=1e-4, atol=1e-3)
        assert float(together.light[k].sum()) == pytest.approx(float(alone.light.sum()), rel=1e-4)
        turned = (1.1 * together.target.roll(1, dims=2), 1.1 * alone.target.roll(1, dims=2))
        errors = relative_errors(turned[0], together)[k], relative_errors(turned[1], alone)[0]
        assert float(errors[0]) == pytest.approx(float(errors[1]), rel=1e-2)


def test_half_of_the_groups_are_sound(material: Material) -> None:
    """The others have each fault now and then."""
    drawn = [each.faults for each in specimens(material, 400, faulty_share=0.5)]

    plain = Faults()
    faulty = [
        (
            each.beam_px != plain.beam_px,
            each.background_counts > 0,
            len(each.hot_pixels) > 0,
            each.position_errors_px is not None,
            len(each.copies_px) > 1 or len(each.untold_modes) > 0,
            each.point_spread_px > 0 or len(each.copies_px) == 7,
            each.depth > 1,
            each.wedge_rad_per_px != plain.wedge_rad_per_px,
        )
        for each in drawn
    ]
    assert 0.4 < np.mean([not any(each) for each in faulty]) < 0.6
    shares = np.mean(faulty, axis=0)
    assert (shares > 0.08).all()
    assert (shares < 0.3).all()


def test_faults_leave_the_rest_of_a_draw_alone(material: Material) -> None:
    """A sound group and a faulty one of one seed differ in the faults alone."""
    ((sound,), (faulty,)) = (specimens(material, 1, seed=9, faulty_share=share) for share in (0.0, 1.0))

    for name in (each.name for each in attrs.fields(type(sound)) if each.name not in {"faults", "object"}):
        np.testing.assert_equal(getattr(sound, name), getattr(faulty, name))
    np.testing.assert_equal(attrs.asdict(sound.object), attrs.asdict(faulty.object))


def test_drawn_faults_keep_their_promises() -> None:
    """Shares add up to one, shifts and errors have no mean, sizes stay in range, some things are told and some not."""
    rng, grid = np.random.default_rng(0), 6.0 * np.stack(np.meshgrid(range(4), range(4)), axis=-1).reshape(-1, 2)

    drawn = [draw_faults(rng, positions_px=grid, size=64, dose=1e5) for _ in range(300)]

    for each in drawn:
        assert max(np.abs(each.beam_px)) <= 0.5
        assert each.copy_shares.sum() == pytest.approx(1)
        np.testing.assert_allclose(each.copy_shares @ each.copies_px, 0, atol=1e-12)
        assert 0 <= each.told_background_counts <= 1.15 * each.background_counts
        assert not each.untold_modes or sum(each.untold_modes) == pytest.approx(1)
        if len(each.copies_px) == 7:
            moments = np.einsum("k,ki,kj->ij", each.copy_shares, each.copies_px, each.copies_px)
            np.testing.assert_allclose(moments, moments[0, 0] * np.eye(2), atol=1e-12)
            assert 0.3**2 <= moments[0, 0] <= 1.5**2
        if each.position_errors_px is not None:
            np.testing.assert_allclose(each.position_errors_px.mean(axis=0), 0, atol=1e-12)
            assert np.sqrt((each.position_errors_px**2).sum(axis=1).mean()) < 3.5
    told = [each.told_background_counts / each.background_counts for each in drawn if each.background_counts]
    assert {0.0, 1.0} < set(told)
    hot = np.concatenate([each.hot_told for each in drawn])
    assert 0.7 < hot.mean() < 0.95
