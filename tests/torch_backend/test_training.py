"""Trainings as a whole: they learn, they repeat, and they leave the process as it was."""

from __future__ import annotations

import math
import os
import random
import warnings
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch

from ptycho_adapters.torch_backend import train, train_on, training_set_for
from ptycho_adapters.torch_backend.generators import generator_names
from ptycho_adapters.torch_backend.training import trainer
from ptycho_adapters.torch_backend.training.held_out import look_at_start
from ptycho_core.errors import ScanError
from ptycho_core.physics.optics import poisson_deviance
from ptycho_core.physics.subpixel import scan_counts
from torch_sample import payload_for, quick_training, same, tiny_scan

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from ptycho_core.measurement.scan import Scan


@pytest.mark.parametrize("architecture", generator_names())
@pytest.mark.parametrize("gridsize", [1, 2])
def test_a_tiny_training_learns(tmp_path: Path, architecture: str, gridsize: int) -> None:
    """In three epochs the training loss falls, and the held-out loss is below that of a transparent object."""
    settings: dict[str, object] = {"n_groups": 16 // gridsize**2, "batch_size": 4 // gridsize**2, "epochs": 3}
    if architecture == "unrolled":
        settings |= {"unrolled_steps": 2, "unrolled_repeats": 1}
    scan = tiny_scan()

    history = quick_training(tmp_path, {**settings, "architecture": architecture, "gridsize": gridsize}).history

    blank = scan_counts(np.ones_like(scan.object), scan.probe, scan.positions_px, background=0.01)
    assert history[0].train > history[1].train > history[2].train
    assert history[-1].validation is not None
    assert history[-1].validation < 0.8 * poisson_deviance(blank, scan.counts().astype(np.float64))


def test_the_same_seed_gives_the_same_bits(tmp_path: Path) -> None:
    """Two trainings with one seed agree in every weight, in the probe and in the history; another seed does not."""
    first, again, other = (quick_training(tmp_path, {"seed": seed, "epochs": 2}) for seed in (1, 1, 2))

    assert same(first, again)
    assert not same(first, other)


def test_groups_may_be_drawn_beforehand(tmp_path: Path) -> None:
    """A training on a set that was drawn earlier is the training that draws it."""
    payload, scan = payload_for(tmp_path, {"epochs": 2}), tiny_scan()

    assert same(train(payload, scan), train_on(payload, training_set_for(payload, scan)))


def test_a_scan_of_another_size_gives_no_training_set(tmp_path: Path) -> None:
    """The misfit is named before any group is drawn."""
    payload = payload_for(tmp_path, {"N": 128})

    with pytest.raises(ScanError, match=r"scan\.N: expected 128 px patterns"):
        training_set_for(payload, tiny_scan())


def test_other_draws_in_the_process_do_not_matter(tmp_path: Path) -> None:
    """What was drawn from global generators before leaves the training as it is."""
    first = quick_training(tmp_path)
    torch.rand(7)
    np.random.rand(7)  # noqa: NPY002 - the global generator is the point
    random.random()

    assert same(first, quick_training(tmp_path))


def test_the_process_is_left_as_it_was(tmp_path: Path) -> None:
    """Global generators, torch's switches, the environment and warning filters are untouched."""

    def state() -> tuple[object, ...]:
        numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002 - the global generator is the point
        assert isinstance(numpy_state, dict)
        return (
            torch.random.get_rng_state().tolist(),
            str(numpy_state["state"]),
            random.getstate(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.benchmark,
            torch.get_default_dtype(),
            torch.get_num_threads(),
            dict(os.environ),
            list(warnings.filters),
        )

    before = state()
    quick_training(tmp_path, deterministic=True)

    assert state() == before


def test_the_scan_is_left_as_it_was(tmp_path: Path) -> None:
    """Training reads patterns and probe and changes neither."""
    scan = tiny_scan()
    before = scan.patterns.copy(), scan.probe.copy()

    quick_training(tmp_path)

    assert np.array_equal(scan.patterns, before[0])
    assert np.array_equal(scan.probe, before[1])


def test_the_model_is_at_the_flux_of_the_scan(tmp_path: Path) -> None:
    """Flux is the mean photons per frame; both probes have it as their energy."""
    model = quick_training(tmp_path)

    wanted = tiny_scan().patterns.sum(axis=(1, 2), dtype=np.float64).mean()
    np.testing.assert_allclose(model.flux, wanted, rtol=1e-6)
    for probe in (model.probe, model.start_probe):
        np.testing.assert_allclose(np.sum(np.abs(probe.astype(np.complex128)) ** 2), wanted, rtol=1e-5)


def test_the_best_held_out_epoch_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the last epoch is worse than an earlier one, the weights of the earlier one are the model's."""
    # These steps are so large that a start is better than any epoch, unless it is as bad as can be.
    monkeypatch.setattr(trainer, "look_at_start", lambda *given: attrs.evolve(look_at_start(*given), loss=math.inf))
    for seed in range(8):
        folder = tmp_path / str(seed)
        settings = {"epochs": 4, "learning_rate": 0.05, "seed": seed}
        model = quick_training(folder, settings, enable_checkpointing=True, checkpoint_save_top_k=1)
        losses = [row.validation for row in model.history if row.validation is not None]
        best = int(np.argmin(losses))
        if best < len(losses) - 1:
            break
    else:
        pytest.fail("no training overshoots")

    (file,) = (folder / "checkpoints").glob("epoch=*")
    assert file.name.startswith(f"epoch={best}-")
    stored = torch.load(file, weights_only=True)["state_dict"]
    assert all(torch.equal(value, stored[f"generator.{name}"]) for name, value in model.generator.state_dict().items())


def test_bad_pixels_do_not_matter(tmp_path: Path) -> None:
    """Whatever bad pixels hold, the training is the same."""
    scan = tiny_scan()
    bad = np.zeros((64, 64), bool)
    bad[30:34, 10:20] = True
    rng = np.random.default_rng(0)
    spoilt = scan.patterns.copy()
    spoilt[:, bad] = rng.integers(0, 60_000, (len(spoilt), int(bad.sum())))
    payload = payload_for(tmp_path)

    first, second = (train(payload, _with(scan, patterns, bad)) for patterns in (scan.patterns, spoilt))

    assert same(first, second)
    assert not same(first, train(payload, scan))


def test_the_usual_training_is_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With checkpoints and log, with and without validation, twice into one folder: no print, no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fraction in (0.12, 0.0):
            quick_training(tmp_path, {"validation_fraction": fraction}, enable_checkpointing=True, logger_backend="csv")

    assert capfd.readouterr() == ("", "")
    assert len(list(tmp_path.rglob("metrics.csv"))) == 2


def _with(scan: Scan, patterns: npt.NDArray[np.generic], bad: npt.NDArray[np.bool_]) -> Scan:
    return attrs.evolve(scan, patterns=patterns, bad_pixels=bad)
