"""Error bars of a finish: against the dense inverse, against the truth, and where they are not to be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch

from ptycho_adapters.torch_backend import generalist_for, reconstruct
from ptycho_adapters.torch_backend.data.resident import Canvas, ResidentScan
from ptycho_adapters.torch_backend.finish.curvature import Curvature
from ptycho_adapters.torch_backend.finish.error_bars import error_bars, sampled_variances
from ptycho_adapters.torch_backend.finish.point import Point
from ptycho_adapters.torch_backend.finish.posterior import Measured, Posterior
from ptycho_adapters.torch_backend.finish.prior import Prior, SlowError, Weights
from ptycho_adapters.torch_backend.finish.prior_share import RINGS, prior_by_frequency
from ptycho_adapters.torch_backend.finish.tents import Tents
from ptycho_adapters.torch_backend.finish.thinning import apart
from ptycho_adapters.torch_backend.physics.optics import BACKGROUND_COUNTS
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.errors import ConfigError
from ptycho_core.measurement.findings import Suspicion
from ptycho_core.physics.subpixel import scan_counts
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction

Real = np.typing.NDArray[np.float64]
_AMPLITUDE, _PHASE, _SURER = 2e-3, 2e-2, 3.0


@pytest.fixture(scope="module")
def small() -> Scan:
    """A few patterns of 16 px."""
    return simulate(SimulationConfig(N=16, object_size_px=21, step_px=3.0, jitter_px=1.0, photons=2e4, background=0.2))


@pytest.fixture(scope="module")
def posterior(small: Scan) -> Posterior:
    assert small.object is not None
    height, width = small.object.shape
    canvas, object_ = Canvas(height=height, width=width), torch.tensor(small.object).reshape(-1)
    weight = torch.linspace(20.0, 60.0, height * width)
    weights = Weights(along=_SURER * weight, across=weight)
    tents = Tents(canvas, small.N, torch.device("cpu"))
    measured = Measured(
        scan=ResidentScan(small),
        indices=torch.arange(small.n_patterns),
        canvas=canvas,
        origin=torch.zeros(2, dtype=torch.int64),
        batch_size=8,
        background=0.2,
    )
    slow = SlowError(tents, object_, weights, amplitude=_AMPLITUDE, phase=_PHASE)
    prior = Prior(object=object_, weights=weights, slow=slow)
    return Posterior(measured=measured, prior=prior, refine_probe=False, held_out=False)


def _point(posterior: Posterior, scan: Scan) -> Point:
    return Point(posterior.prior.object, torch.tensor(scan.probe))


def _fisher(scan: Scan) -> Real:
    """Of the real and imaginary parts of all pixels, in a row: a rate is quadratic, so that differences are exact."""
    assert scan.object is not None
    object_, probe = scan.object.astype(np.complex128), scan.probe.astype(np.complex128)

    def rate(changed: np.typing.NDArray[np.complex128]) -> Real:
        counts = scan_counts(changed, probe, scan.positions_px, background=0.2 + BACKGROUND_COUNTS)
        return np.asarray(counts, dtype=np.float64).ravel()

    slopes = np.empty((2 * object_.size, rate(object_).size))
    for number in range(2 * object_.size):
        way = np.zeros(object_.size, dtype=np.complex128)
        way[number % object_.size] = 1.0 if number < object_.size else 1.0j
        step = way.reshape(object_.shape)
        slopes[number] = (rate(object_ + step) - rate(object_ - step)) / 2.0
    weighed: Real = slopes / rate(object_)
    product: Real = weighed @ slopes.T
    return product


def _prior_covariance(posterior: Posterior) -> Real:
    weight, object_ = (each.numpy() for each in (posterior.prior.weights.across, posterior.prior.object))
    canvas = posterior.measured.canvas
    tents = Tents(canvas, posterior.measured.scan.size, torch.device("cpu"))
    shapes = np.einsum("ay,bx->yxab", tents.rows, tents.columns).reshape(canvas.pixels, tents.nodes)
    along = np.exp(1j * np.angle(object_))
    covariance = np.zeros((2 * len(object_), 2 * len(object_)))
    for turn, times in ((along, _SURER), (1j * along, 1.0)):
        both = np.concatenate([np.diag(turn.real), np.diag(turn.imag)])
        covariance += both @ np.diag(0.5 / (times * weight)) @ both.T
    for turn, variance in ((1.0, _AMPLITUDE), (1.0j, _PHASE)):
        waves = turn * object_[:, None] * shapes
        both = np.concatenate([waves.real, waves.imag]).astype(np.float64)
        covariance += variance * both @ both.T
    return covariance


def _dense_variances(posterior: Posterior, scan: Scan) -> tuple[Real, Real]:
    covariance = np.linalg.inv(_fisher(scan) + np.linalg.inv(_prior_covariance(posterior)))
    object_ = posterior.prior.object.numpy().astype(np.complex128)
    light = posterior.light(torch.tensor(scan.probe)).numpy()
    bright, lit = np.abs(object_) ** 2, light > 0.1 * light.max()
    phase = np.concatenate([np.diag(-object_.imag / bright), np.diag(object_.real / bright)], axis=1)
    share = np.where(lit, bright, 0.0) / bright[lit].sum()
    phase -= share @ phase
    amplitude = np.concatenate([np.diag(object_.real), np.diag(object_.imag)], axis=1) / np.abs(object_)[:, None]
    one, other = (np.einsum("ij,jk,ik->i", rows, covariance, rows, optimize=True) for rows in (phase, amplitude))
    return one, other


def test_sampled_variances_are_those_of_the_dense_inverse(posterior: Posterior, small: Scan) -> None:
    """NumPy in float64 inverts Fisher matrix plus inverse covariance of the prior: the same at each pixel."""
    samples = 400
    found = sampled_variances(posterior, _point(posterior, small), samples).numpy()
    for own, dense in zip(found, _dense_variances(posterior, small), strict=True):
        ratio = own / dense
        assert ratio.std() < 1.3 * (2.0 / samples) ** 0.5
        assert ratio.mean() == pytest.approx(1.0, abs=0.05)


def test_an_object_that_is_not_the_likely_one_has_wider_bars(posterior: Posterior, small: Scan) -> None:
    """A bend of the phase that counts refuse is added to what they leave open."""
    there = _point(posterior, small)
    bend = 0.3 * torch.cos(torch.arange(there.object.numel()) / 100.0)
    bent = Point(there.object * torch.polar(torch.ones_like(bend), bend), there.probe)
    light = posterior.light(there.probe)
    lit = light > 0.3 * light.max()
    right, off = (error_bars(posterior, each) for each in (there, bent))
    assert float(off.phase[lit].mean()) > 2.0 * float(right.phase[lit].mean())
    assert float(off.phase[lit].square().mean()) == pytest.approx(float(bend[lit].var()), rel=0.5)


@pytest.fixture(scope="module")
def made() -> tuple[Scan, Reconstruction]:
    """A finished reconstruction of a simulated scan with its error bars."""
    scan = simulate(SimulationConfig(object_size_px=101, step_px=6.0, photons=1e6))
    quiet = PyTorchExecutionConfig(enable_progress_bar=False)
    wish = TorchInferenceConfig(probe_rounds=0, finish="auto", error_bars=True)
    return scan, reconstruct(generalist_for(scan), scan, execution_config=quiet, inference_config=wish)


def test_errors_lie_within_their_bars_as_often_as_they_should(made: tuple[Scan, Reconstruction]) -> None:
    """Of the lit pixels, 68 % within one standard deviation and 95 % within two, in phase and amplitude."""
    scan, result = made
    assert scan.object is not None
    assert result.uncertainty is not None
    top, left = result.origin_px
    height, width = result.object.shape
    truth = np.ones(result.object.shape, dtype=np.complex64)
    rows, columns = (slice(max(0, -first), None) for first in (top, left))
    inside = scan.object[max(0, top) : top + height, max(0, left) : left + width]
    truth[rows, columns][: inside.shape[0], : inside.shape[1]] = inside
    lit = result.coverage > 0.1 * result.coverage.max()
    ratio = result.object * truth.conj()
    constant = np.angle(ratio[lit].sum())
    phase = np.angle(ratio * np.exp(-1j * constant)) / result.uncertainty.phase_std_rad
    amplitude = (np.abs(result.object) - np.abs(truth)) / result.uncertainty.amplitude_std
    for errors in (phase[lit], amplitude[lit]):
        assert np.mean(np.abs(errors) < 1.0) == pytest.approx(0.683, abs=0.06)
        assert np.mean(np.abs(errors) < 1.96) == pytest.approx(0.95, abs=0.04)


def test_a_reconstruction_has_error_bars_if_asked(made: tuple[Scan, Reconstruction]) -> None:
    """They are of the object's shape, unknown where nothing was measured, and absent unless asked for."""
    scan, result = made
    found = result.uncertainty
    assert found is not None
    for values, unknown in (
        (found.phase_std_rad, np.inf),
        (found.amplitude_std, np.inf),
        (found.prior_share, 1.0),
    ):
        assert values.shape == result.object.shape
        assert values.dtype == np.float32
        assert (values[~result.covered] == unknown).all()
        assert (values[result.covered] > 0.0).all()
        assert np.isfinite(values[result.covered]).all()
    assert (found.prior_share <= 1.0).all()
    assert 0.0 < found.median_phase_std_rad < 0.2
    assert result.metrics["median_phase_std_rad"] == found.median_phase_std_rad

    few = TorchInferenceConfig(probe_rounds=0, finish=1)
    quiet = PyTorchExecutionConfig(enable_progress_bar=False)
    plain = reconstruct(generalist_for(scan), scan, execution_config=quiet, inference_config=few)
    assert plain.uncertainty is None


def test_error_bars_without_a_finish_are_refused() -> None:
    """They are about the object that one came to."""
    with pytest.raises(ConfigError, match=r"error_bars: .*error bars belong to a finish"):
        TorchInferenceConfig(error_bars=True)
    assert attrs.evolve(TorchInferenceConfig(finish=2), error_bars=True).error_bars


def test_the_priors_share_by_frequency_is_that_of_the_dense_matrices(posterior: Posterior, small: Scan) -> None:
    """The trace, ring by ring, of inverse curvature times precision of the prior, by NumPy in float64."""
    point = _point(posterior, small)
    curvature = Curvature(posterior, point)
    found = prior_by_frequency(curvature, samples=200)

    precision = np.linalg.inv(_prior_covariance(posterior))
    mixed = np.linalg.solve(_fisher(small) + precision, precision)
    object_, canvas = point.object.numpy().astype(np.complex128), posterior.measured.canvas
    lit = curvature.lit.numpy().reshape(canvas.height, canvas.width)
    y, x = (np.fft.fftfreq(length) for length in lit.shape)
    ring = (np.hypot(y[:, None], x) * 2 * RINGS).astype(int)
    for shares, turn in ((found.amplitude, 1.0), (found.phase, 1.0j)):
        unit = turn * object_ / np.abs(object_)
        into = np.concatenate([np.diag(unit.real), np.diag(unit.imag)])
        by_pixel = (into.T @ mixed @ into) * lit.ravel()[:, None] * lit.ravel()
        spectra = np.fft.fft2(by_pixel.reshape(*lit.shape, lit.size), axes=(0, 1)).reshape(lit.size, -1)
        diagonal = np.fft.ifft2(spectra.reshape(lit.size, *lit.shape), axes=(1, 2)).reshape(lit.size, -1)
        trace = lit.size * np.diagonal(diagonal).real.reshape(lit.shape)
        expected = np.array([trace[ring == r].sum() / (lit.sum() * (ring == r).sum()) for r in range(RINGS)])
        np.testing.assert_allclose(shares[1:], expected[1:], atol=0.05)
    assert found.phase[-1] > found.phase[2]


def test_error_bars_are_checked_if_asked(made: tuple[Scan, Reconstruction]) -> None:
    """Two halves of the counts lead apart by what the bars say; nothing is said of it unless asked."""
    scan, plain = made
    wished = TorchInferenceConfig(probe_rounds=0, finish="auto", error_bars=True, error_bars_check=True)
    quiet = PyTorchExecutionConfig(enable_progress_bar=False)
    checked = reconstruct(generalist_for(scan), scan, execution_config=quiet, inference_config=wished)
    for name in ("phase", "amplitude"):
        assert checked.metrics[f"halves_apart_{name}_in_bars"] == pytest.approx(1.0, abs=0.12)
        assert f"halves_apart_{name}_in_bars" not in plain.metrics
    assert Suspicion.ERROR_BARS not in {finding.kind for finding in checked.findings}
    np.testing.assert_array_equal(checked.object, plain.object)
    with pytest.raises(ConfigError, match=r"error_bars_check: .*none to check"):
        TorchInferenceConfig(finish=2, error_bars_check=True)


@pytest.mark.parametrize(("times", "wrong"), [(0.25, True), (1.0, False), (4.0, True)])
def test_bars_that_are_half_or_double_of_what_they_should_be_are_told(
    posterior: Posterior, small: Scan, times: float, *, wrong: bool
) -> None:
    """Two objects that err by what is said, apart, are held against variances that are right, a quarter or fourfold."""
    curvature, rng = Curvature(posterior, _point(posterior, small)), np.random.default_rng(2)
    truth, said = curvature.point.object, torch.tensor([[0.02**2], [0.01**2]])
    found = []
    for _ in range(2):
        phase, amplitude = (torch.tensor(rng.normal(size=len(truth))).float() * off for off in (0.02, 0.01))
        found.append(torch.polar(truth.abs() + amplitude, truth.angle() + phase + 0.7))
    one = attrs.evolve(curvature.point, object=found[0])
    check = apart(Curvature(posterior, one), found[1], times * said.expand(2, len(truth)))
    assert check.wrong == wrong
    assert check.phase == pytest.approx(times**-0.5, rel=0.15)
    assert check.amplitude == pytest.approx(times**-0.5, rel=0.15)


def test_halves_of_counts_add_up_and_know_nothing_of_each_other(small: Scan) -> None:
    """They are the same each time, whatever is read beside them, and as far apart as independent Poisson counts."""
    scan = ResidentScan(small)
    every = torch.arange(small.n_patterns)
    one, other = (scan.thinned(half).read(every) for half in (0, 1))
    torch.testing.assert_close(one + other, scan.read(every))
    torch.testing.assert_close(scan.thinned(0).read(every[3:5]), one[3:5])
    assert float((one - other).square().mean() / scan.read(every).mean()) == pytest.approx(1.0, abs=0.06)
