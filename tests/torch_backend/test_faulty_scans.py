"""Scans with the ordinary faults of measured data are reconstructed all the same, and what was put right is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform, gaussian_filter

from ptycho_adapters.torch_backend import reconstruct
from ptycho_adapters.torch_backend.generalist import generalist_for
from ptycho_adapters.torch_backend.generators.unrolled import Unrolled
from ptycho_adapters.torch_backend.inference.blur import Blur
from ptycho_adapters.torch_backend.inference.findings import findings_of
from ptycho_adapters.torch_backend.inference.preparation import Preparation, Prepared, _is_hopeless
from ptycho_adapters.torch_backend.inference.reconstruct import first_pass, preparation_for
from ptycho_adapters.torch_backend.physics.probe import TrainableProbe
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.measurement.findings import Finding, Suspicion
from ptycho_core.physics.optics import expected_counts
from ptycho_core.physics.subpixel import scan_counts, shift_probe
from ptycho_core.results.metrics import compare, evaluation_mask
from ptycho_core.simulation.simulate import SimulationConfig, simulate, simulate_scan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction

QUIET = PyTorchExecutionConfig(enable_progress_bar=False)
ALL_LEFT: Mapping[str, object] = {
    "beam_search": False,
    "probe_autofocus": False,
    "position_refinement": "none",
    "orientation_search": "never",
    "probe_search": "never",
    "flux_search": "never",
    "blur_search": "never",
    "background_counts": 0.0,
    "probe_modes": 1,
}


@pytest.fixture(scope="module")
def sound() -> Scan:
    """A scan without a fault."""
    return simulate(SimulationConfig(object_size_px=106, step_px=6.0, photons=1e5, seed=5))


@pytest.fixture(scope="module")
def plain(sound: Scan) -> Reconstruction:
    """What it gives."""
    return _result(sound)


def _result(scan: Scan, *, repeats: int = 0, **settings: object) -> Reconstruction:
    """What a scan gives under the shipped network, which goes through its later steps once unless told otherwise."""
    config = TorchInferenceConfig(**settings)  # type: ignore[arg-type]
    model = generalist_for(scan)
    assert isinstance(model.generator, Unrolled)
    model.generator.repeats = repeats
    return reconstruct(model, scan, execution_config=QUIET, inference_config=config)


def _looking_only(scan: Scan, *, repeats: int = 0, **settings: object) -> Reconstruction:
    """What a scan gives where nothing is looked for but this."""
    return _result(scan, repeats=repeats, **{**ALL_LEFT, **settings})


def _again(scan: Scan, probe: NDArray[np.complex64] | None = None, background: float = 0.0) -> Scan:
    """The same experiment with another light, under the sound scan's probe as the guess."""
    assert scan.object is not None
    light = scan.probe if probe is None else probe
    rng = np.random.default_rng(3)
    measured = simulate_scan(scan.object, light, scan.positions_px, rng=rng, background=background)
    return attrs.evolve(measured, probe=scan.probe)


def _correlation(result: Reconstruction, scan: Scan) -> float:
    assert scan.object is not None
    mask = evaluation_mask(result.coverage)
    return compare(result.object, scan.object, mask=mask, origin_px=result.origin_px).phase_correlation


def _kinds(result: Reconstruction) -> set[Suspicion]:
    return {finding.kind for finding in result.findings}


def test_a_sound_scan_is_left_as_it_is(sound: Scan, plain: Reconstruction) -> None:
    """Nothing is moved, replaced or said, and the searches cost it nothing."""
    assert not plain.findings
    assert plain.beam_px == (0, 0)
    assert plain.background_counts == 0.0
    np.testing.assert_array_equal(plain.positions_px, sound.positions_px)
    left = _looking_only(sound)
    assert _correlation(plain, sound) > _correlation(left, sound) - 0.002
    assert _correlation(plain, sound) > 0.97


def test_a_sound_fit_is_near_the_floor_of_shot_noise(plain: Reconstruction) -> None:
    """Deviance and R-factor are within a fifth of what the truth itself would leave."""
    for name in ("deviance_per_px", "r_factor"):
        assert 0.9 < plain.metrics[name] / plain.metrics[f"expected_{name}"] < 1.25


def test_a_beam_off_the_middle_is_brought_back(sound: Scan, plain: Reconstruction) -> None:
    """The object is the same to rounding, and the probe explains the patterns as they are stored."""
    off = attrs.evolve(sound, patterns=np.roll(sound.patterns, (6, -5), axis=(1, 2)))

    found, left = _result(off), _looking_only(off)

    assert found.beam_px == (6, -5)
    assert Suspicion.BEAM_MOVED in _kinds(found)
    np.testing.assert_allclose(found.object, plain.object, atol=1e-3)
    bare = [expected_counts(np.ones((64, 64)), each.probe) for each in (plain, found)]
    np.testing.assert_allclose(np.roll(bare[0], (6, -5), axis=(0, 1)), bare[1], atol=1e-3 * bare[0].max())
    assert left.beam_px == (0, 0)
    assert left.metrics["deviance_per_px"] > 1.02 * found.metrics["deviance_per_px"]


def test_patterns_with_zero_frequency_in_the_corner_are_an_offset_like_any_other(
    sound: Scan, plain: Reconstruction
) -> None:
    """Data as a Fourier transform leaves them give the same object."""
    corner = attrs.evolve(sound, patterns=np.fft.ifftshift(sound.patterns, axes=(1, 2)))

    np.testing.assert_allclose(_result(corner).object, plain.object, atol=1e-3)


def test_a_background_is_found_or_given(sound: Scan) -> None:
    """Three counts per pixel are found within a tenth, and said; a number that is given is believed."""
    grey = _again(sound, background=3.0)

    found, told, blind = (_looking_only(grey, background_counts=level) for level in (None, 3.0, 0.0))

    assert found.background_counts == pytest.approx(3.0, abs=0.3)
    assert Suspicion.BACKGROUND in _kinds(found)
    assert told.background_counts == 3.0
    assert Suspicion.BACKGROUND not in _kinds(told)
    assert blind.background_counts == 0.0
    assert _correlation(found, sound) > _correlation(blind, sound) + 0.01
    assert _correlation(told, sound) > _correlation(blind, sound) + 0.01


def test_deep_phases_are_no_background(sound: Scan) -> None:
    """They scatter light into the darkest corners too; a background would explain that little better."""
    assert sound.object is not None
    deep = attrs.evolve(
        sound, object=(np.abs(sound.object) * np.exp(3.5j * np.angle(sound.object))).astype(np.complex64)
    )

    found = _looking_only(_again(deep), repeats=2, background_counts=None)

    assert np.percentile(_again(deep).counts().mean(axis=0), 5) > 0.2
    assert found.background_counts == 0.0


@pytest.mark.parametrize("flux", ["flickers", "alternates"])
def test_each_frame_has_its_flux(sound: Scan, flux: str) -> None:
    """A source that flickers by a fifth, and times of exposure of ten to one: found for each frame, and said."""
    n = sound.n_patterns
    true = 0.1 + 0.9 * (np.arange(n, dtype=np.float64) % 2)
    if flux == "flickers":
        true = np.random.default_rng(2).lognormal(0.0, 0.2, n)
    uneven = _flickering(sound, true)

    found, left = (_looking_only(uneven, flux_search=when) for when in ("auto", "never"))

    assert found.relative_flux is not None
    np.testing.assert_allclose(found.relative_flux, true / true.mean(), rtol=0.1)
    assert np.std(np.log(found.relative_flux / true)) < 0.02
    assert Suspicion.FRAME_FLUX in _kinds(found)
    assert _correlation(found, sound) > max(0.97, _correlation(left, sound) + 0.01)
    assert left.relative_flux is None


def test_a_faint_flicker_is_looked_for_if_asked(sound: Scan) -> None:
    """A hundredth is no more than what a rough object gets wrong: left, unless it is asked for."""
    faint = _flickering(sound, np.random.default_rng(2).lognormal(0.0, 0.01, sound.n_patterns))

    left, asked = (_looking_only(faint, flux_search=when, probe_rounds=1) for when in ("auto", "always"))

    assert left.relative_flux is None
    assert asked.relative_flux is not None
    assert asked.metrics["deviance_per_px"] < left.metrics["deviance_per_px"]


def test_blurred_patterns_have_modes(sound: Scan) -> None:
    """A source that is not coherent, or a detector that spreads counts: followed, said, and left alone if told to."""
    assert sound.object is not None
    expected = scan_counts(sound.object, sound.probe, sound.positions_px)
    blurred = np.stack([gaussian_filter(each, 0.9) for each in expected])
    counts = np.random.default_rng(3).poisson(blurred).astype(np.uint16)
    scan = attrs.evolve(sound, patterns=counts)

    # Without its repeated steps the network sees less of a blur than it asks for by itself.
    found, left = (_looking_only(scan, probe_modes=None, blur_search=when) for when in ("always", "never"))

    assert len(found.probe) > 3
    assert len(left.probe) == 1
    said = [each.text for each in found.findings if each.kind is Suspicion.PROBE_MODES]
    assert "the patterns seem to be blurred by about" in said[0]
    assert found.metrics["deviance_per_px"] < 1.1 * found.metrics["expected_deviance_per_px"]
    assert left.metrics["deviance_per_px"] > 1.2 * left.metrics["expected_deviance_per_px"]
    assert _correlation(found, sound) > _correlation(left, sound) + 0.005


def test_a_blur_that_is_not_followed_is_said() -> None:
    """A little of it, in much else that is wrong: the way to follow it is named."""
    faint = Blur(width_px=0.6, modes=torch.ones(3, 8, 8, dtype=torch.complex64), share=0.2)
    scan = simulate(SimulationConfig(object_size_px=94, step_px=10.0, seed=5))
    model, execution, settings = generalist_for(scan), PyTorchExecutionConfig(), TorchInferenceConfig()
    run, _ = first_pass(model, scan, np.arange(scan.n_patterns), execution, settings)

    (said,) = findings_of(
        Prepared(run=run, faint_blur=faint), {"deviance_per_px": 1.0, "expected_deviance_per_px": 0.5}
    )

    assert said.kind is Suspicion.PROBE_MODES
    assert "may be blurred by about 0.6 px" in said.text
    assert "20% of what is above shot noise (--blur-search always" in said.text


def test_a_sharp_scan_with_another_fault_is_not_blurred(sound: Scan) -> None:
    """Light that does not come from the sample, and no blur, may be left unexplained: no mode is made up for it."""
    uneven = sound.patterns + np.random.default_rng(3).poisson(np.linspace(0.0, 4.0, 64), sound.patterns.shape)

    found = _looking_only(attrs.evolve(sound, patterns=uneven), probe_modes=None, blur_search="auto")

    assert len(found.probe) == 1


def _flickering(scan: Scan, flux: NDArray[np.float64]) -> Scan:
    """The same experiment with as much light, unevenly shared among the frames."""
    assert scan.object is not None
    rng = np.random.default_rng(4)
    shares = flux / flux.mean()
    frames = [
        simulate_scan(scan.object, np.sqrt(share) * scan.probe, scan.positions_px[[number]], rng=rng).patterns
        for number, share in enumerate(shares)
    ]
    return attrs.evolve(scan, patterns=np.concatenate(frames))


def test_wrong_positions_are_refined_if_they_may(sound: Scan) -> None:
    """Errors of a pixel shrink to a third; without refinement the positions stay; the stage alone cannot mend them."""
    rng = np.random.default_rng(8)
    wrong = attrs.evolve(sound, positions_px=sound.positions_px + rng.normal(0.0, 1.0, sound.positions_px.shape))

    each, stage, none = (_looking_only(wrong, position_refinement=how) for how in ("each", "affine", "none"))

    errors = {name: _error_px(result, sound) for name, result in (("each", each), ("stage", stage), ("none", none))}
    assert errors["each"] < 0.35 * errors["none"]
    assert errors["stage"] > 0.8 * errors["none"]
    assert Suspicion.POSITIONS_REFINED in _kinds(each)
    np.testing.assert_array_equal(none.positions_px, wrong.positions_px)
    assert each.given_positions_px is not None
    np.testing.assert_array_equal(each.given_positions_px, wrong.positions_px)
    assert _correlation(each, sound) > _correlation(none, sound) + 0.02


def _error_px(result: Reconstruction, scan: Scan) -> float:
    """Root mean square error of the positions, apart from their mean."""
    error = result.positions_px - scan.positions_px
    return float(np.sqrt(np.square(error - error.mean(axis=0)).sum(axis=1).mean()))


@pytest.mark.parametrize(
    ("fault", "matrix"),
    [("turned by 4 degrees", [[0.99756, -0.06976], [0.06976, 0.99756]]), ("4 % too long", [[1.04, 0.0], [0.0, 1.04]])],
)
def test_a_stage_that_is_off_as_a_whole_is_put_right(sound: Scan, fault: str, matrix: list[list[float]]) -> None:
    """A linear map of all positions is found from the patterns, for all of them and by the stage's own parameters."""
    middle = sound.positions_px.mean(axis=0)
    wrong = attrs.evolve(sound, positions_px=(sound.positions_px - middle) @ np.asarray(matrix).T + middle)

    found = _looking_only(wrong, position_refinement="affine")

    before = attrs.evolve(found, positions_px=wrong.positions_px)
    assert _error_px(found, sound) < 0.3 * _error_px(before, sound)
    (said,) = (each.text for each in found.findings if each.kind is Suspicion.POSITIONS_REFINED)
    assert ("on the whole scaled by 0.96" in said) == (fault == "4 % too long")


def test_a_wrong_focus_does_not_move_the_stage(sound: Scan) -> None:
    """Focus and scale of the stage make up for each other almost; where the focus is wrong the positions stay."""
    probe = TrainableProbe(sound.probe, float(np.square(np.abs(sound.probe)).sum()))
    with torch.no_grad():
        probe.aberrations[0] = 1.6
        wrong = attrs.evolve(sound, probe=probe().numpy())

    found = _looking_only(wrong, position_refinement="affine")

    assert _error_px(found, sound) < 0.1


@pytest.mark.parametrize("fault", ["mirrored", "exchanged"])
def test_positions_are_turned_over_where_they_have_to_be(sound: Scan, plain: Reconstruction, fault: str) -> None:
    """The fit is that of the sound scan, and the words say what was done; never leaves them as given."""
    places = sound.positions_px
    wrong = attrs.evolve(sound, positions_px=places * [1, -1] if fault == "mirrored" else places[:, ::-1])

    found, left = _looking_only(wrong, orientation_search="auto"), _looking_only(wrong)

    assert found.metrics["deviance_per_px"] == pytest.approx(plain.metrics["deviance_per_px"], rel=0.05)
    (said,) = (each.text for each in found.findings if each.kind is Suspicion.ORIENTATION)
    assert ("mirrored" if fault == "mirrored" else "swapped") in said
    assert left.metrics["deviance_per_px"] > 1.5 * found.metrics["deviance_per_px"]


def test_a_probe_that_explains_nothing_is_replaced(sound: Scan) -> None:
    """A Gaussian guess for a ring-shaped beam gives way to one made out of the patterns."""
    y, x = np.mgrid[:64, :64] - 31.5
    guess = np.exp(-(y**2 + x**2) / (2 * 6.0**2)).astype(np.complex64)[None]
    guess *= np.linalg.norm(sound.probe) / np.linalg.norm(guess)
    wrong = attrs.evolve(sound, probe=guess)

    # Without its repeated steps the network sees too little through such a probe to tell it from a worse one.
    found, left = (_looking_only(wrong, repeats=2, probe_search=search) for search in ("auto", "never"))

    assert Suspicion.PROBE_REPLACED in _kinds(found)
    assert _correlation(found, sound) > 0.93
    assert left.metrics["deviance_per_px"] > 3.0 * found.metrics["deviance_per_px"]
    assert Suspicion.POOR_FIT in _kinds(left)
    assert left.findings[0].kind is Suspicion.POOR_FIT


def test_a_probe_does_not_follow_the_noise_of_few_photons() -> None:
    """A true probe stays where a refined one would explain no more than noise lets it; a wrong one is refined."""
    scan = simulate(SimulationConfig(object_size_px=106, step_px=8.0, photons=1e3, seed=5))
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(scan.probe.shape) + 1j * rng.standard_normal(scan.probe.shape)
    bright = simulate(SimulationConfig(object_size_px=106, step_px=8.0, photons=1e5, seed=5))
    wrong = attrs.evolve(bright, probe=(bright.probe * (1.0 + 0.2 * noise)).astype(np.complex64))

    dim, left = (_looking_only(scan, probe_rounds=rounds) for rounds in (3, 0))
    refined, as_given = (_looking_only(wrong, probe_rounds=rounds) for rounds in (3, 0))

    assert (dim.probe_refined, dim.probe_stays) == (False, True)
    np.testing.assert_allclose(dim.object, left.object, atol=1e-4)
    assert (refined.probe_refined, refined.probe_stays) == (True, False)
    assert _correlation(refined, bright) > _correlation(as_given, bright) + 0.01


@pytest.mark.parametrize(("said", "rounds", "for_a_new_one"), [(None, 3, 10), (2, 2, 2), (0, 0, 0)])
def test_a_new_probe_has_more_rounds_unless_they_are_said(
    sound: Scan, said: int | None, rounds: int, for_a_new_one: int
) -> None:
    """The modulus of its far field is about right, and no more; who says how many rounds has as many."""
    wanted = preparation_for(generalist_for(sound), TorchInferenceConfig(probe_rounds=said))

    assert (wanted.probe_rounds, wanted.new_probe_rounds) == (rounds, for_a_new_one)


def test_rounds_that_seem_to_get_somewhere_do_not_save_a_guess() -> None:
    """Of a guess that explains next to nothing two rounds take much of the misfit, where frames are large: no sign."""
    large = simulate(SimulationConfig(N=128, object_size_px=190, step_px=11.0, photons=1e5, seed=12))
    y, x = np.mgrid[:128, :128] - 63.5
    guess = np.exp(-(y**2 + x**2) / (2 * 12.8**2)).astype(np.complex64)[None]
    guess *= np.linalg.norm(large.probe) / np.linalg.norm(guess)
    searching = Preparation(focus_patterns=0, judged=True, probe_rounds=3, background_counts=0.0, positions="none")
    searching = attrs.evolve(searching, probe_search="auto")
    told = []
    for probe in (large.probe, guess):
        scan = attrs.evolve(large, probe=probe)
        everything = np.arange(scan.n_patterns)
        with torch.no_grad():
            run, _ = first_pass(generalist_for(scan), scan, everything, QUIET, TorchInferenceConfig())
            told.append(_is_hopeless(Prepared(run=run), searching))

    assert told == [False, True]


def test_another_probe_than_the_one_given_is_named(sound: Scan, plain: Reconstruction) -> None:
    """Optics that open a third wider than those of the measurement leave little of themselves in what fits."""
    far = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(sound.probe[0])))
    wide = affine_transform(far, [1 / 1.3] * 2, [32 - 32 / 1.3] * 2, order=1)
    probe = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(wide))).astype(np.complex64)

    found = _looking_only(attrs.evolve(sound, probe=probe[None]), probe_rounds=3)

    (said,) = (each.text for each in found.findings if each.kind is Suspicion.PROBE_CHANGED)
    common = abs(np.vdot(probe, found.probe[0])) ** 2 / np.vdot(probe, probe).real / np.linalg.norm(found.probe) ** 2
    assert f"overlap by {common:.0%}" in said
    assert Suspicion.PROBE_CHANGED not in _kinds(plain)


@pytest.mark.parametrize(("dose", "gain"), [(1.0, 0.03), (0.5, 0.03)])
def test_a_beam_that_moves_within_a_frame_has_modes(dose: float, gain: float, sound: Scan) -> None:
    """A way of five pixels is found along its direction, where counts are few too; a single mode leaves the blur."""
    way = np.linspace(-2.5, 2.5, 5)
    copies = np.concatenate([shift_probe(sound.probe, np.array([0.0, step])) for step in way])
    copies *= np.sqrt(dose / len(way))
    blurred = _again(sound, probe=copies.astype(np.complex64))

    found, single = _looking_only(blurred, probe_modes=None), _looking_only(blurred)

    assert len(found.probe) == 3
    assert len(single.probe) == 1
    assert Suspicion.PROBE_MODES in _kinds(found)
    assert _correlation(found, sound) > _correlation(single, sound) + gain
    shares = np.square(np.abs(found.probe)).sum(axis=(1, 2))
    assert (np.diff(shares) < 0).all()
    assert abs(np.vdot(found.probe[0], found.probe[1])) < 1e-3 * shares[0]


def test_the_scale_of_the_probe_does_not_matter(sound: Scan, plain: Reconstruction) -> None:
    """A guess ten thousand times too strong gives the same figures, and the same object at its own scale."""
    strong = _result(attrs.evolve(sound, probe=1e4 * sound.probe))

    assert strong.metrics == pytest.approx(plain.metrics, rel=1e-3)
    np.testing.assert_allclose(1e4 * strong.object[strong.covered], plain.object[plain.covered], atol=1e-2)


def test_the_focus_is_looked_for_if_asked(sound: Scan) -> None:
    """Out of focus by more than the probe's own steps reach, the search brings the fit back."""
    probe = TrainableProbe(sound.probe, 1.0)
    with torch.no_grad():
        probe.aberrations[0] = 1.6
        blurred = attrs.evolve(sound, probe=probe().numpy())

    found, left = _looking_only(blurred, probe_autofocus=True), _looking_only(blurred)

    assert Suspicion.FOCUS_MOVED in _kinds(found)
    assert found.metrics["deviance_per_px"] < 0.9 * left.metrics["deviance_per_px"]


def test_what_the_reading_found_comes_first(sound: Scan, plain: Reconstruction) -> None:
    """The findings of a scan's detector are those of its result too, each once, before those of the fit."""
    text = "1 pixel at (10, 55) with one value in all frames, stuck: masked"
    metadata = attrs.evolve(sound.metadata, extra={**sound.metadata.extra, "detector_stuck_pixels": text})

    found = _result(attrs.evolve(sound, metadata=metadata)).findings

    assert found == (Finding(kind=Suspicion.STUCK_PIXELS, text=text), *plain.findings)
