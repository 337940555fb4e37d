"""The finish: its slope, its slow waves, its descent, and what it does to an object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs
import numpy as np
import pytest
import torch
from scipy.special import xlogy

from ptycho_adapters.common.shipped import shipped_prior_law
from ptycho_adapters.torch_backend import generalist_for, reconstruct
from ptycho_adapters.torch_backend.data.resident import Canvas, ResidentScan
from ptycho_adapters.torch_backend.finish.beside import known_by_the_counts
from ptycho_adapters.torch_backend.finish.descent import Descent, Place
from ptycho_adapters.torch_backend.finish.finish import Finished, Wish, finish
from ptycho_adapters.torch_backend.finish.point import Point
from ptycho_adapters.torch_backend.finish.posterior import Look, Measured, Posterior
from ptycho_adapters.torch_backend.finish.prior import Prior, SlowError, Weights, around
from ptycho_adapters.torch_backend.finish.slow_waves import SlowWaves
from ptycho_adapters.torch_backend.finish.stray import Stray, ways_of_the_stage
from ptycho_adapters.torch_backend.finish.tents import Tents
from ptycho_adapters.torch_backend.physics.optics import BACKGROUND_COUNTS
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.physics.subpixel import scan_counts
from ptycho_core.simulation.simulate import SimulationConfig, simulate
from torch_sample import tiny_scan

if TYPE_CHECKING:
    from ptycho_core.measurement.scan import Scan

Complex = np.typing.NDArray[np.complex128]


def _posterior(scan: Scan, *, held_out: bool = False, weight: float = 3.0, background: float = 0.25) -> Posterior:
    """Counts of a scan whose canvas begins at the object's first pixel, with a prior around transparency."""
    assert scan.object is not None
    height, width = scan.object.shape
    around = torch.ones(height * width, dtype=torch.complex64)
    return Posterior(
        measured=Measured(
            scan=ResidentScan(scan),
            indices=torch.arange(scan.n_patterns),
            canvas=Canvas(height=height, width=width),
            origin=torch.zeros(2, dtype=torch.int64),
            batch_size=8,
            background=background,
        ),
        prior=Prior(object=around, weights=Weights.same(torch.full((height * width,), weight))),
        refine_probe=True,
        held_out=held_out,
    )


def _truth(scan: Scan) -> Point:
    assert scan.object is not None
    return Point(torch.tensor(scan.object).reshape(-1), torch.tensor(scan.probe))


def _misfit(scan: Scan, object_: Complex, probe: Complex) -> float:
    """The same sum by NumPy in float64."""
    rate = scan_counts(object_, probe, scan.positions_px, background=0.25 + BACKGROUND_COUNTS)
    counts = scan.counts().astype(np.float64)
    likelihood = (rate - counts + xlogy(counts, np.where(counts > 0, counts, 1.0) / rate)).sum()
    return float(likelihood + 3.0 * np.square(np.abs(object_ - 1.0)).sum())


@pytest.mark.parametrize("moved", ["object", "probe"])
def test_misfit_and_slope_are_those_of_the_likelihood(moved: str) -> None:
    """NumPy in float64 gives the same sum, and the same change along any direction."""
    scan, rng = tiny_scan(), np.random.default_rng(1)
    assert scan.object is not None
    object_, probe = scan.object.astype(np.complex128) * np.exp(0.1j), scan.probe.astype(np.complex128) * 1.02
    seen = _posterior(scan).look(
        Point(torch.tensor(object_.ravel()).to(torch.complex64), torch.tensor(probe).to(torch.complex64))
    )
    assert seen.misfit == pytest.approx(_misfit(scan, object_, probe), rel=1e-5)

    shape = object_.shape if moved == "object" else probe.shape
    way = (
        1e-3
        * (rng.normal(size=shape) + 1j * rng.normal(size=shape))
        * (1.0 if moved == "object" else np.abs(probe).max())
    )
    ways = (way, 0.0 * probe) if moved == "object" else (0.0 * object_, way)
    there, back = (_misfit(scan, object_ + sign * ways[0], probe + sign * ways[1]) for sign in (0.1, -0.1))
    along = Point(*(torch.tensor(each).to(torch.complex64) for each in (ways[0].ravel(), ways[1])))
    assert 2.0 * seen.slope.dot(along) == pytest.approx((there - back) / 0.2, rel=1e-3)


def test_a_prior_weighs_as_its_errors_do() -> None:
    """Errors by pixel and slow waves add up in the covariance: what pulls, times it, is the distance (NumPy)."""
    rng, canvas = np.random.default_rng(5), Canvas(height=21, width=17)
    tents = Tents(canvas, 16, torch.device("cpu"))
    object_, away = (
        torch.tensor(rng.normal(size=canvas.pixels) + 1j * rng.normal(size=canvas.pixels)).to(torch.complex64)
        for _ in range(2)
    )
    weight = torch.tensor(rng.uniform(5.0, 50.0, canvas.pixels)).float()
    weights = Weights(along=3.0 * weight, across=weight)
    slow = SlowError(tents, object_, weights, amplitude=1e-3, phase=0.2)
    pull = Prior(object=object_, weights=weights, slow=slow).pull(away).numpy().astype(np.complex128)

    on, by_node = object_.numpy().astype(np.complex128), np.einsum("ay,bx->abyx", tents.rows, tents.columns)
    shapes = by_node.reshape(tents.nodes, canvas.pixels)
    asked = shapes @ (on.conj() * pull)
    waves = on * (shapes.T @ (2e-3 * asked.real + 0.4j * asked.imag))
    unit = on / np.abs(on)
    turned = pull * unit.conj()
    by_pixel = unit * (turned.real / 3.0 + 1j * turned.imag) / weight.numpy()
    np.testing.assert_allclose(by_pixel + waves, away.numpy(), rtol=1e-3, atol=1e-3)


def test_a_network_is_trusted_less_where_its_object_bends_and_more_in_the_light() -> None:
    """Beside an edge an error weighs less than a tenth of one on even ground; one of the amplitude weighs most."""
    canvas, size = Canvas(height=48, width=48), 16
    object_ = torch.ones(canvas.height, canvas.width, dtype=torch.complex64)
    object_[:, 24:] = torch.polar(torch.tensor(0.8), torch.tensor(1.0))
    tents = Tents(canvas, size, torch.device("cpu"))
    dim, bright = (
        around(object_.reshape(-1), torch.full((canvas.pixels,), photons), photons, tents, shipped_prior_law()).weights
        for photons in (10.0, 100.0)
    )
    edge, even = 24 * canvas.width + 24, 24 * canvas.width + 8
    assert dim.across[edge] < 0.1 * dim.across[even]
    assert dim.along[edge] < 0.1 * dim.along[even]
    assert (dim.along > dim.across).all()
    assert (bright.across > 2.0 * dim.across).all()


def test_pixels_left_out_have_no_say_and_all_others_have_one() -> None:
    """What is fitted and what is left out add up to the whole, and a fiftieth is left out, other pixels each time."""
    scan = tiny_scan()
    whole, parted = (_posterior(scan, held_out=held, weight=0.0).look(_truth(scan)) for held in (False, True))
    assert whole.left_out.abs().sum() == 0.0
    assert parted.misfit + float(parted.left_out.sum()) == pytest.approx(whole.misfit, rel=1e-6)
    left = torch.cat([part.left_out[0] for part in _posterior(scan, held_out=True).parts(8)])
    assert 0.015 < float(left.mean()) < 0.025
    assert not torch.equal(left[0], left[1])


def test_a_slow_wave_is_undone_at_once() -> None:
    """One step of the slow waves takes a bend of the phase back that is much longer than the beam."""
    scan = simulate(SimulationConfig(object_size_px=160, step_px=9.0, photons=1e6))
    true = _truth(scan)
    posterior = _posterior(scan, weight=0.0, background=0.0)
    canvas = posterior.measured.canvas
    side = canvas.width
    wave = 0.1 * torch.cos(2.0 * torch.pi * torch.arange(side) / side).repeat(canvas.height)
    bent = Point(true.object * torch.polar(torch.ones_like(wave), wave), true.probe)
    step = SlowWaves(posterior, bent).solver(1e-6)(posterior.look(bent).slope.object)

    light = posterior.light(true.probe)
    lit = light > 0.1 * light.max()
    before, after = (torch.angle(each / true.object)[lit] for each in (bent.object, bent.object - step))
    assert (after - after.mean()).square().mean() < 0.05 * (before - before.mean()).square().mean()


def test_a_descent_finds_the_bottom_of_a_bowl() -> None:
    """A quadratic of different curvatures is solved as by a direct method, without a preconditioner."""
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(6, 6)) + 1j * rng.normal(size=(6, 6))
    bowl = matrix.conj().T @ matrix + 0.5 * np.eye(6)
    asked = rng.normal(size=6) + 1j * rng.normal(size=6)

    def look(point: Point) -> Look:
        x = point.object.numpy()
        slope = bowl @ x - asked
        misfit = float((x.conj() @ bowl @ x - 2.0 * (asked.conj() @ x)).real)
        slope_at = Point(torch.tensor(slope), torch.zeros(1, dtype=torch.complex128))
        return Look(misfit=misfit, left_out=torch.zeros(1), slope=slope_at)

    nothing = Point(torch.zeros(6, dtype=torch.complex128), torch.zeros(1, dtype=torch.complex128))
    descent = Descent(look, Place(nothing, look(nothing)), lambda slope: slope)
    for _ in range(40):
        if not descent.step():
            break
    np.testing.assert_allclose(descent.place.point.object.numpy(), np.linalg.solve(bowl, asked), rtol=1e-4, atol=1e-6)


def _finished(scan: Scan, object_: torch.Tensor, probe: torch.Tensor, *, refine_probe: bool = False) -> Finished:
    wish = Wish(steps="auto", refine_probe=refine_probe)
    return finish(_posterior(scan, background=0.0).measured, object_, probe, wish)


def _error(scan: Scan, found: torch.Tensor) -> float:
    """Mean squared error where there is light, constant phase free."""
    true = _truth(scan)
    light = _posterior(scan).light(true.probe)
    lit = light > 0.1 * light.max()
    turn = torch.sgn((found[lit].conj() * true.object[lit]).sum())
    return float(
        (found[lit] * turn - true.object[lit]).abs().square().mean() * light[lit].reciprocal().mean().reciprocal()
    )


def test_a_bright_scan_comes_to_what_shot_noise_allows() -> None:
    """From an object in error by a tenth at each pixel, the error in units of one over the photons comes below 2."""
    scan = simulate(SimulationConfig(object_size_px=110, step_px=6.0, photons=1e6, seed=2))
    true = _truth(scan)
    generator = torch.Generator().manual_seed(1)
    rough = true.object * (1.0 + 0.1 * torch.randn(true.object.shape, dtype=torch.complex64, generator=generator))

    found = _finished(scan, rough, true.probe)
    assert _error(scan, rough) > 50.0
    assert _error(scan, found.object) < 2.0
    assert found.gain is not None
    assert found.gain > 0.0


def test_what_follows_noise_alone_is_not_taken() -> None:
    """The true object is handed back as it is: nothing explains the pixels that were left out better."""
    scan = simulate(SimulationConfig(object_size_px=110, step_px=6.0, photons=1e6, seed=2))
    true = _truth(scan)
    found = _finished(scan, true.object, true.probe)
    assert found.refused is not None
    assert found.refused > 0.0
    assert found.steps == 0
    assert found.gain == 0.0
    torch.testing.assert_close(found.object, true.object)


def test_a_probe_that_is_a_little_off_is_finished_too() -> None:
    """Pixels left out are explained better where the probe may move too, and it comes nearer to the true one."""
    scan = simulate(SimulationConfig(object_size_px=110, step_px=6.0, photons=1e6, seed=2))
    true = _truth(scan)
    bend = 0.2 * torch.cos(torch.arange(64) / 5.0)
    off = true.probe * torch.polar(torch.ones(64), bend)
    fixed, moved = (_finished(scan, true.object, off, refine_probe=refined) for refined in (False, True))

    torch.testing.assert_close(fixed.probe, off)
    assert fixed.gain is not None
    assert moved.gain is not None
    assert moved.gain > 1.1 * fixed.gain
    before, after = (float((each - true.probe).abs().square().sum()) for each in (off, moved.probe))
    assert after < 0.7 * before


@pytest.mark.parametrize("steps", [2, "auto"])
def test_a_reconstruction_is_finished_if_asked(steps: int | Literal["auto"]) -> None:
    """So many steps, or as many as are worth while, bring it nearer to the counts, and are said; else none are made."""
    scan = simulate(SimulationConfig(object_size_px=101, step_px=6.0, photons=1e6))
    quiet = PyTorchExecutionConfig(enable_progress_bar=False)
    settings = TorchInferenceConfig(probe_rounds=0)
    plain, made = (
        reconstruct(generalist_for(scan), scan, execution_config=quiet, inference_config=wished)
        for wished in (settings, attrs.evolve(settings, finish=steps))
    )
    assert "finish_steps" not in plain.metrics
    assert made.metrics["finish_steps"] == steps or (steps == "auto" and made.metrics["finish_steps"] > 2)
    assert made.metrics["deviance_per_px"] < 0.95 * plain.metrics["deviance_per_px"]
    assert ("finish_gain" in made.metrics) == (steps == "auto")
    assert plain.before_finish is None
    assert made.before_finish is not None
    np.testing.assert_allclose(made.before_finish, plain.object, rtol=1e-6)
    assert made.metrics["pass_r_factor"] == pytest.approx(plain.metrics["r_factor"])


def _known_but_for_the_rest(scan: Scan) -> tuple[Posterior, Point]:
    """Positions that stray around others, and a background that is off."""
    strayed = torch.linspace(-0.6, 0.9, 2 * scan.n_patterns).reshape(-1, 2)
    posterior = attrs.evolve(_posterior(scan), stray=Stray(px=strayed, spread_px=0.4))
    # So that no position comes nearer to a pixel's border, where the oracle would exchange the probe's rim.
    moves = 0.4 * torch.sin(torch.arange(2.0 * scan.n_patterns)).reshape(-1, 2) - posterior.measured.scan.fractions_px
    true = _truth(scan)
    return posterior, Point(1.02 * true.object, true.probe, moves, torch.tensor(0.2))


def test_slopes_by_positions_and_background_are_those_of_the_likelihood() -> None:
    """NumPy in float64, at moved positions and under another background, changes by as much."""
    scan, rng = tiny_scan(), np.random.default_rng(4)
    posterior, point = _known_but_for_the_rest(scan)
    assert point.moves is not None
    assert point.dark is not None
    assert posterior.stray is not None
    object_ = point.object.numpy().astype(np.complex128).reshape(posterior.measured.canvas.height, -1)
    strayed = posterior.stray.px.numpy().astype(np.float64)

    def misfit(moves: np.typing.NDArray[np.float64], dark: float) -> float:
        positions, floor = scan.positions_px + moves, 0.25 * np.exp(dark) + BACKGROUND_COUNTS
        rate = scan_counts(object_, scan.probe.astype(np.complex128), positions, background=floor)
        counts = scan.counts().astype(np.float64)
        likelihood = (rate - counts + xlogy(counts, np.where(counts > 0, counts, 1.0) / rate)).sum()
        near = np.square(strayed + moves).sum() / (2.0 * 0.4**2)
        return float(likelihood + 3.0 * np.square(np.abs(object_ - 1.0)).sum() + near)

    seen, moves = posterior.look(point), point.moves.numpy().astype(np.float64)
    assert seen.misfit == pytest.approx(misfit(moves, 0.2), rel=1e-5)
    way = rng.normal(size=moves.shape)
    way -= way.mean(axis=0)
    nowhere = seen.slope.times(0.0)
    for along, there, back in (
        (
            attrs.evolve(nowhere, moves=torch.tensor(way).float()),
            misfit(moves + 1e-3 * way, 0.2),
            misfit(moves - 1e-3 * way, 0.2),
        ),
        (attrs.evolve(nowhere, dark=torch.tensor(1.0)), misfit(moves, 0.201), misfit(moves, 0.199)),
    ):
        assert 2.0 * seen.slope.dot(along) == pytest.approx((there - back) / 2e-3, rel=2e-3)


def test_what_the_counts_know_of_positions_and_background_is_their_fisher_information() -> None:
    """Half the sum of squared slopes of the rates over the rates, by differences in float64."""
    scan = tiny_scan()
    posterior, point = _known_but_for_the_rest(scan)
    assert point.moves is not None
    object_ = point.object.numpy().astype(np.complex128).reshape(posterior.measured.canvas.height, -1)

    def rate(y: float, x: float, dark: float) -> np.typing.NDArray[np.float64]:
        assert point.moves is not None
        positions = scan.positions_px + point.moves.numpy() + np.array([y, x])
        floor = 0.25 * np.exp(0.2 + dark) + BACKGROUND_COUNTS
        return np.asarray(scan_counts(object_, scan.probe.astype(np.complex128), positions, background=floor))

    def information(*way: float) -> np.typing.NDArray[np.float64]:
        slope = (rate(*(1e-4 * each for each in way)) - rate(*(-1e-4 * each for each in way))) / 2e-4
        return np.asarray((np.square(slope) / rate(0.0, 0.0, 0.0)).sum(axis=(1, 2)) / 2.0)

    found = known_by_the_counts(posterior, point)
    assert found.moves is not None
    assert found.dark is not None
    expected = np.stack([information(1.0, 0.0, 0.0), information(0.0, 1.0, 0.0)], axis=1)
    np.testing.assert_allclose(found.moves, expected, rtol=2e-3)
    assert float(found.dark) == pytest.approx(information(0.0, 0.0, 1.0).sum(), rel=1e-3)


def _rough(scan: Scan) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    true = _truth(scan).object
    return true * (1.0 + 0.05 * torch.randn(true.shape, dtype=torch.complex64, generator=generator))


def test_positions_are_finished_too() -> None:
    """Where patterns are half a pixel off, they come back, and the object to what shot noise allows."""
    scan = simulate(SimulationConfig(object_size_px=110, step_px=6.0, photons=1e5, seed=2))
    off = np.random.default_rng(3).normal(size=scan.positions_px.shape) * 0.5
    off -= off.mean(axis=0)
    measured = _posterior(scan, background=0.0).measured
    measured = attrs.evolve(measured, scan=measured.scan.nudged(measured.indices, torch.tensor(off)))
    stray = Stray(px=torch.zeros(scan.n_patterns, 2), spread_px=0.5)
    wish = Wish(steps="auto", refine_probe=False)
    start, probe = _rough(scan), _truth(scan).probe
    still, moved = (finish(measured, start, probe, attrs.evolve(wish, stray=each)) for each in (None, stray))
    assert still.moves_px is None
    assert _error(scan, still.object) > 2.0
    assert _error(scan, moved.object) < 1.1
    assert moved.moves_px is not None
    assert (moved.moves_px.numpy() + off).std() < 0.05


def test_a_stage_that_is_a_little_off_is_put_right_as_a_whole() -> None:
    """Where only a linear map may move the patterns, a scale that is off by half a percent is undone, and no more."""
    scan = simulate(SimulationConfig(object_size_px=110, step_px=6.0, photons=1e5, seed=2))
    about = scan.positions_px - scan.positions_px.mean(axis=0)
    measured = _posterior(scan, background=0.0).measured
    measured = attrs.evolve(measured, scan=measured.scan.nudged(measured.indices, torch.tensor(0.02 * about)))
    ways = ways_of_the_stage(torch.tensor(scan.positions_px))
    stray = Stray(px=torch.zeros(scan.n_patterns, 2), spread_px=0.3, ways=ways)
    wish = Wish(steps="auto", refine_probe=False, stray=stray)
    moves = finish(measured, _rough(scan), _truth(scan).probe, wish).moves_px
    assert moves is not None
    linear, *_ = np.linalg.lstsq(about, moves.numpy(), rcond=None)
    np.testing.assert_allclose(about @ linear, moves, atol=1e-4)
    assert np.abs(linear + 0.02 * np.eye(2)).max() < 0.01


def test_a_background_is_finished_too() -> None:
    """One that is off by two fifths is found to 2 %, and the object is better for it."""
    scan = simulate(SimulationConfig(object_size_px=110, step_px=6.0, photons=1e4, seed=2, background=2.0))
    measured = _posterior(scan, background=1.2).measured
    wish = Wish(steps="auto", refine_probe=False)
    start, probe = _rough(scan), _truth(scan).probe
    held, freed = (finish(measured, start, probe, attrs.evolve(wish, refine_background=each)) for each in (False, True))
    assert held.background == pytest.approx(1.2)
    assert freed.background == pytest.approx(2.0, rel=0.02)
    assert _error(scan, freed.object) < 0.2 * _error(scan, held.object)
