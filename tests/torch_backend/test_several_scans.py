"""Trainings on several scans: one network, and for each scan a probe, a flux and a mask of its own."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch

from ptycho_adapters.commands.train import probe_change
from ptycho_adapters.common.groups import training_groups, training_set
from ptycho_adapters.common.patterns import mean_flux
from ptycho_adapters.torch_backend import load_archive, reconstruct, save_archive, train
from ptycho_adapters.torch_backend.data.groups import group_loader
from ptycho_adapters.torch_backend.memory import residence
from ptycho_adapters.torch_backend.physics.probe import TrainableProbe
from ptycho_adapters.torch_backend.training.memory import check_patterns, check_training, kept_for_gradient
from ptycho_adapters.torch_backend.training.optimization import build_optimizer
from ptycho_adapters.torch_backend.training.trainer import build_module
from ptycho_core.errors import ConfigError, ScanError
from ptycho_core.measurement.suspicions import LEFT_OUT
from ptycho_core.memory import MemoryShortageError, training_demand
from ptycho_core.simulation.simulate import SimulationConfig, simulate, simulate_scan
from torch_sample import observed_training, payload_for, same, tiny_scan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from ptycho_adapters.torch_backend.training.module import PtychoModule
    from ptycho_core.config.payload import TrainingPayload
    from ptycho_core.measurement.scan import Scan

MEMORY = "ptycho_adapters.torch_backend.memory"
FREE = f"{MEMORY}.available_memory"
UNTOUCHED = {"probe_autofocus": False, "probe_rounds": 0}


def _focused(probe: npt.NDArray[np.complex64], focus_rad: float) -> npt.NDArray[np.complex64]:
    """The probe at another focus, root-mean-square radians over its spectrum."""
    moved = TrainableProbe(probe, float(np.square(np.abs(probe)).sum()))
    with torch.no_grad():
        moved.aberrations[0] = focus_rad
        found: npt.NDArray[np.complex64] = moved().numpy()
    return found


@cache
def other_scan() -> Scan:
    """25 patterns of another object, ten times as bright, of two modes, with bad pixels, at wider steps."""
    config = SimulationConfig(object_size_px=105, step_px=8.0, jitter_px=1.0, photons=1e6, n_modes=2, seed=5)
    bad = np.zeros((64, 64), bool)
    bad[10:14, 20:30] = True
    return attrs.evolve(simulate(config), bad_pixels=bad)


def two_scans() -> tuple[Scan, Scan]:
    """The tiny scan and one that differs from it in everything but the size of its patterns."""
    return tiny_scan(), other_scan()


def payload_of(folder: Path, overrides: Mapping[str, object] | None = None, **execution: object) -> TrainingPayload:
    """Settings for a quick training, with enough held out of the smaller scan for a group."""
    return payload_for(folder, {"validation_fraction": 0.2, **(overrides or {})}, **execution)


def module_and_groups(folder: Path, **overrides: object) -> tuple[PtychoModule, list[torch.Tensor]]:
    """The module that a training on both scans starts from, and a group of each."""
    payload = payload_of(folder, {**UNTOUCHED, **overrides})
    data = training_set(payload, two_scans())
    return build_module(payload, data), [torch.tensor(each.train[:1], dtype=torch.int64) for each in data.groups]


def _bright_scan(focus_rad: float, seed: int) -> tuple[Scan, npt.NDArray[np.complex64]]:
    """A scan of an object under a probe at some focus, told that it was in focus, and the true probe."""
    config = SimulationConfig(object_size_px=104, step_px=6.0, jitter_px=1.0, photons=1e6, seed=seed)
    plain = simulate(config)
    truth = _focused(plain.probe, focus_rad)
    assert plain.object is not None
    measured = simulate_scan(plain.object, truth, plain.positions_px, rng=np.random.default_rng(seed), name=f"{seed}")
    return attrs.evolve(measured, probe=plain.probe), truth


@pytest.mark.parametrize(
    "learned",
    [
        {"probe_autofocus": True, "probe_rounds": 0, "n_groups": 6, "epochs": 1},
        {"probe_autofocus": False, "probe_rounds": 4, "n_groups": 6, "epochs": 1},
        {"probe_autofocus": False, "probe_rounds": 0, "n_groups": 12, "epochs": 2, "aberration_learning_rate": 2e-2},
    ],
    ids=["autofocus", "rounds", "gradient"],
)
def test_each_scan_finds_its_own_probe(tmp_path: Path, learned: Mapping[str, object]) -> None:
    """Two scans under opposite defocus start from the same probe; each is led to its own truth, not to the other's."""
    (one, true_one), (two, true_two) = _bright_scan(0.5, 1), _bright_scan(-0.5, 2)
    assert np.array_equal(one.probe, two.probe)
    network = {"architecture": "unrolled", "unrolled_repeats": 0, "n_filters_scale": 2, "learning_rate": 2e-4}
    left = {"position_refinement": "none", "orientation_search": "never", "probe_search": "never", "probe_modes": 1}

    model = train(
        payload_of(tmp_path, {**network, **left, "gridsize": 2, "validation_fraction": 0.0, **learned}), [one, two]
    )

    found = [each.probe for each in model.probes]
    for probe, own, other in ((found[0], true_one, true_two), (found[1], true_two, true_one)):
        assert probe_change(probe, own) < 0.7 * probe_change(probe, other)
        assert probe_change(probe, own) < 0.8 * probe_change(one.probe, own)


@pytest.mark.parametrize(
    "network", [{"architecture": "unet"}, {"architecture": "unrolled", "unrolled_steps": 2}], ids=["unet", "unrolled"]
)
def test_a_sequence_of_one_scan_is_that_scan(tmp_path: Path, network: Mapping[str, object]) -> None:
    """Bit for bit, whether it is given by itself or in a list."""
    payload = payload_of(tmp_path, {**network, "epochs": 2})

    assert same(train(payload, tiny_scan()), train(payload, [tiny_scan()]))


def test_more_scans_are_another_training(tmp_path: Path) -> None:
    """The network learns from both, and so its weights are others than from either."""
    payload = payload_of(tmp_path)

    both = train(payload, two_scans())

    assert len(both.probes) == 2
    assert not any(same(both, train(payload, scan)) for scan in two_scans())
    assert both.history[0].steps > train(payload, tiny_scan()).history[0].steps


def test_the_same_seed_gives_the_same_bits(tmp_path: Path) -> None:
    """With several scans too; another seed does not."""
    one, again, other = (train(payload_of(tmp_path, {"seed": seed}), two_scans()) for seed in (1, 1, 2))

    assert same(one, again)
    assert not same(one, other)


def test_a_batch_moves_the_probe_of_its_scan_alone(tmp_path: Path) -> None:
    """Batches of one scan give the other one's probe and scale no gradient; not even momentum moves those on."""
    module, groups = module_and_groups(tmp_path, intensity_scale_trainable=True)
    optimizer = build_optimizer(module.generator, module.probes, module.log_scales, module.config)

    def step(scan: int) -> None:
        optimizer.zero_grad()
        prediction = module.predict_groups(groups[scan], module.arms.training[scan])
        module.objective.total(prediction)[0].backward()
        optimizer.step()

    step(0)
    assert module.probes[1].pixels.grad is None
    assert module.probes[1].aberrations.grad is None
    assert module.log_scales[1].grad is None
    before = [value.detach().clone() for value in (*module.probes[0].parameters(), module.log_scales[0])]
    second = module.probes[1].pixels.detach().clone()
    step(1)

    assert all(
        torch.equal(now, then)
        for now, then in zip((*module.probes[0].parameters(), module.log_scales[0]), before, strict=True)
    )
    assert not torch.equal(module.probes[1].pixels, second)


def test_each_scan_keeps_what_is_its_own(tmp_path: Path) -> None:
    """Flux, modes, bad pixels, number of patterns, canvas and starting probe are those of each scan by itself."""
    module, _ = module_and_groups(tmp_path)
    payload = payload_of(tmp_path, UNTOUCHED)

    for number, scan in enumerate(two_scans()):
        alone = build_module(payload, training_set(payload, [scan]))
        (own,), arm = alone.arms.training, module.arms.training[number]
        assert arm.patterns.flux == own.patterns.flux == mean_flux(scan)
        assert arm.canvas == own.canvas
        assert torch.equal(arm.patterns.counts, own.patterns.counts)
        assert (arm.patterns.good_pixels is None) == (scan.bad_pixels is None)
        assert torch.equal(module.probes[number](), alone.probes[0]())
    assert module.arms.training[0].canvas != module.arms.training[1].canvas
    assert module.arms.validation is module.arms.training


def test_a_prediction_is_that_of_the_scan_alone(tmp_path: Path) -> None:
    """The same network predicts a scan's groups alike, whatever other scans there are."""
    payload = payload_of(tmp_path, UNTOUCHED)
    both, (_, indices) = module_and_groups(tmp_path)
    alone = build_module(payload, training_set(payload, [other_scan()]))
    both.generator.load_state_dict(alone.generator.state_dict())

    with torch.no_grad():
        one = both.predict_groups(indices, both.arms.training[1])
        other = alone.predict_groups(indices, alone.arms.training[0])

    assert torch.equal(one.merged, other.merged)
    assert torch.equal(one.probes, other.probes)
    assert torch.equal(both.objective.total(one)[0], alone.objective.total(other)[0])


def test_a_model_has_every_scan_s_probe(tmp_path: Path) -> None:
    """In the order of the scans, with name, modes and flux; the first one's are the model's own."""
    # Where nothing is held out, the end is kept, however little was learned.
    model = train(payload_of(tmp_path, {"validation_fraction": 0.0}), two_scans())

    assert [each.name for each in model.probes] == [scan.metadata.name for scan in two_scans()]
    for each, scan in zip(model.probes, two_scans(), strict=True):
        assert each.flux == pytest.approx(mean_flux(scan), rel=0.01)  # less its background
        assert each.probe.shape == each.start_probe.shape == scan.probe.shape
        for probe in (each.probe, each.start_probe):
            np.testing.assert_allclose(np.sum(np.abs(probe.astype(np.complex128)) ** 2), each.flux, rtol=1e-5)
        assert probe_change(each.probe, each.start_probe) > 1e-3
    assert model.probe is model.probes[0].probe
    assert (model.flux, model.start_probe) == (model.probes[0].flux, model.probes[0].start_probe)
    assert re.search(r">scans</th><td[^>]*>2</td>", model._repr_html_())


def test_every_scan_has_its_numbers_of_groups(tmp_path: Path) -> None:
    """Groups, subsample and held-out region are drawn in each scan as if it were alone; every batch is of one scan."""
    payload = payload_of(tmp_path, {"n_groups": 12, "n_subsample": 16, "batch_size": 4, "validation_fraction": 0.25})

    run = observed_training(payload, two_scans())

    wanted = [training_groups(payload, scan) for scan in two_scans()]
    for number, groups in enumerate(wanted):
        seen = [batch for batch, scan in zip(run.observer.batches, run.observer.scans, strict=True) if scan == number]
        assert sorted(map(tuple, np.concatenate(seen))) == sorted(map(tuple, groups.train))
        assert [len(batch) for batch in seen] == [4, 4, 1]
    held_out = np.concatenate(run.observer.held_out)
    assert np.array_equal(held_out, np.concatenate([groups.validation for groups in wanted]))


def test_sequential_sampling_takes_scan_after_scan(tmp_path: Path) -> None:
    """Nothing is mixed where an order was asked for."""
    payload = payload_of(tmp_path, {"sequential_sampling": True, "batch_size": 1})

    assert observed_training(payload, two_scans()).observer.scans == [0] * 5 + [1] * 5


def test_another_scan_is_validated_on_under_the_first_probe(tmp_path: Path) -> None:
    """Then every scan trains whole, and the other one is predicted at its own flux."""
    held_out = attrs.evolve(tiny_scan(), patterns=tiny_scan().patterns.astype(np.float64) * 4)
    payload = payload_of(tmp_path, {"n_groups": 20, **UNTOUCHED})
    data = training_set(payload, two_scans(), held_out)
    module = build_module(payload, data)

    with torch.no_grad():
        (arm,) = module.arms.validation
        probes = module.predict_groups(torch.tensor([[0, 1, 2, 3]]), arm).probes

    assert float(probes.abs().square().sum()) / 4 == pytest.approx(4 * mean_flux(tiny_scan()), rel=1e-5)
    assert [len(groups.train) for groups in data.groups] == [20, 20]
    assert [len(groups.validation) for groups in data.groups] == [20, 0]
    assert train(payload, two_scans(), validation=held_out).history[0].validation is not None


def test_a_scale_is_learned_for_each_scan(tmp_path: Path) -> None:
    """It ends in the probe of its scan: the energies leave the fluxes, each by itself."""
    settings = {
        "intensity_scale_trainable": True,
        "epochs": 2,
        "learning_rate": 2e-2,
        "validation_fraction": 0.0,
    }

    model = train(payload_of(tmp_path, settings), two_scans())

    shares = [float(np.sum(np.abs(each.probe.astype(np.complex128)) ** 2)) / each.flux for each in model.probes]
    assert all(abs(share - 1) > 1e-3 for share in shares)
    assert abs(shares[0] - shares[1]) > 1e-4


def test_supervised_training_needs_every_object(tmp_path: Path) -> None:
    """With them it learns from all scans; the message says which one has none."""
    payload = payload_of(tmp_path, {"model_type": "supervised"})

    assert len(train(payload, two_scans()).probes) == 2
    with pytest.raises(ScanError, match=r"found none, in scan 2 \(dead-leaves-zone-plate-5\)"):
        train(payload, [tiny_scan(), attrs.evolve(other_scan(), object=None)])


def test_every_size_that_does_not_fit_is_named(tmp_path: Path) -> None:
    """All misfits at once, each with its position; and there has to be a scan."""
    payload = payload_of(tmp_path)
    small = attrs.evolve(
        tiny_scan(), patterns=tiny_scan().patterns[:, 16:48, 16:48], probe=tiny_scan().probe[:, 16:48, 16:48]
    )

    with pytest.raises(ScanError) as caught:
        train(payload, [small, tiny_scan(), small], validation=small)
    with pytest.raises(ScanError, match="scans: expected at least one, found none"):
        train(payload, [])

    assert [problem.path for problem in caught.value.problems] == ["scans[0].N", "scans[2].N", "validation.N"]


def test_every_scan_that_cannot_give_the_groups_is_named(tmp_path: Path) -> None:
    """All at once, with number and name."""
    payload = payload_of(tmp_path, {"n_subsample": 30})
    nameless = attrs.evolve(other_scan(), metadata=attrs.evolve(other_scan().metadata, name=""))

    with pytest.raises(ConfigError) as caught:
        train(payload, [tiny_scan(), other_scan(), nameless])

    assert [problem.found for problem in caught.value.problems] == [
        "30, in scan 2 (dead-leaves-zone-plate-5)",
        "30, in scan 3",
    ]


def test_a_scan_to_validate_on_that_is_too_small_is_named(tmp_path: Path) -> None:
    """It is not taken for one of those that are trained on, and its name is what the caller gives it."""
    scan = tiny_scan()
    few = attrs.evolve(scan, patterns=scan.patterns[:3], positions_px=scan.positions_px[:3], scan_index=[0, 0, 0])

    with pytest.raises(ConfigError, match="found 3 scan points, in the scan to validate on"):
        training_set(payload_of(tmp_path), two_scans(), few)
    with pytest.raises(ConfigError, match=r"found 3 scan points, in few\.npz"):
        training_set(payload_of(tmp_path), two_scans(), few, names=["one.npz", "other.npz", "few.npz"])


def test_a_run_is_taken_up_where_it_stopped(tmp_path: Path) -> None:
    """From a checkpoint half way, the rest of the run gives the whole run's result, bit for bit, with every probe."""
    settings: dict[str, object] = {"epochs": 4, "scheduler": "CosineAnnealing", "validation_fraction": 0.0}
    checkpoints: dict[str, object] = {"enable_checkpointing": True, "checkpoint_save_top_k": -1}
    whole = train(payload_of(tmp_path, settings, **checkpoints), two_scans())
    (half,) = (tmp_path / "checkpoints").glob("epoch=1-*")

    rest = train(payload_of(tmp_path / "rest", settings, enable_checkpointing=True, resume=half), two_scans())

    assert same(rest, whole)
    assert rest.step_losses == whole.step_losses


def test_a_checkpoint_of_another_number_of_scans_is_refused(tmp_path: Path) -> None:
    """Both ways, the message says how many it is of."""
    train(payload_of(tmp_path / "two", {}, enable_checkpointing=True), two_scans())
    train(payload_of(tmp_path / "one", {}, enable_checkpointing=True), tiny_scan())
    one, two = (tmp_path / name / "checkpoints" / "last.ckpt" for name in ("one", "two"))

    with pytest.raises(ConfigError, match=r"resume: expected a checkpoint of a training on 1 scan, found .*: one on 2"):
        train(payload_of(tmp_path, {}, resume=two), tiny_scan())
    with pytest.raises(ConfigError, match=r"resume: expected .* on 2 scans, found .*: one on 1"):
        train(payload_of(tmp_path, {}, resume=one), two_scans())


def test_a_checkpoint_of_other_modes_is_refused(tmp_path: Path) -> None:
    """Scans in another order have probes of other shapes here."""
    train(payload_of(tmp_path, {}, enable_checkpointing=True), two_scans())

    with pytest.raises(ConfigError, match=r"resume\.illumination\.0\.pixels: expected \(2, 64, 64, 2\), found \(1,"):
        train(payload_of(tmp_path, {}, resume=tmp_path / "checkpoints" / "last.ckpt"), two_scans()[::-1])


def test_an_archive_holds_every_probe(tmp_path: Path) -> None:
    """What comes back reconstructs a scan under the probe that fits it, and says which."""
    model = train(payload_of(tmp_path), two_scans())

    found = load_archive(save_archive(model, tmp_path))

    assert same(found, model)
    assert [each.name for each in found.probes] == [each.name for each in model.probes]
    one, other = (reconstruct(each, other_scan()) for each in (found, model))
    assert np.array_equal(one.object, other.object)
    assert one.probe_number == other.probe_number


def test_patterns_of_all_scans_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits for each does not fit for both; the subsample that is proposed does."""
    payload = payload_of(tmp_path, {"n_groups": 8, "gridsize": 1})
    data = training_set(payload, [tiny_scan(), tiny_scan()])
    number = data.groups[0].n_patterns
    free = residence([tiny_scan(), tiny_scan()]).demand([number, number]).total - 1
    assert free > residence([tiny_scan()]).demand([number]).total
    monkeypatch.setattr(FREE, lambda: free)
    check_patterns(payload, training_set(payload, [tiny_scan()]))

    with pytest.raises(MemoryShortageError, match="training does not fit") as caught:
        check_patterns(payload, data)

    number = int(caught.value.problems[0].fix.split("--n-subsample ")[1].split(" ")[0])
    fewer = payload_of(tmp_path, {"n_groups": number, "n_subsample": number, "gridsize": 1})
    check_patterns(fewer, training_set(fewer, [tiny_scan(), tiny_scan()]))


def test_the_largest_batch_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is of one scan, so that with the most to keep for its gradient decides, wherever it stands."""
    payload = payload_of(tmp_path, UNTOUCHED)
    data = training_set(payload, two_scans())
    module = build_module(payload, data)
    groups = [torch.tensor(each.train[:1], dtype=torch.int64) for each in data.groups]
    kept = [kept_for_gradient(module, groups[scan], scan) for scan in range(2)]
    assert kept[0] < kept[1]
    weights = sum(parameter.numel() for parameter in module.parameters())
    needed = training_demand(kept_bytes=kept[1], batch_size=2, n_weights=weights).total
    monkeypatch.setattr(FREE, lambda: needed)
    check_training(payload, module, data)
    monkeypatch.setattr(FREE, lambda: needed - 1)

    with pytest.raises(MemoryShortageError, match="a batch kept for its gradient"):
        check_training(payload, module, data)


def test_worker_processes_bring_the_same_batches(tmp_path: Path) -> None:
    """Batches of all scans, with their numbers, in the same order."""
    groups = [each.train for each in training_set(payload_of(tmp_path), two_scans()).groups]
    settings = {"num_workers": 1, "persistent_workers": True, "prefetch_factor": 2}

    plain, loaded = (
        list(group_loader(groups, payload_of(tmp_path, {}, **workers), shuffle=True)) for workers in ({}, settings)
    )

    assert [batch.scan for batch in plain] == [batch.scan for batch in loaded]
    assert all(torch.equal(one.indices, two.indices) for one, two in zip(plain, loaded, strict=True))


def test_groups_of_frames_that_were_left_out_are_not_drawn(tmp_path: Path) -> None:
    """A number of groups and patterns that was meant for all frames of a file is for those that are left of them."""
    scan = tiny_scan()
    left = scan.subset(np.arange(3, scan.n_patterns))
    noted = attrs.evolve(left, metadata=attrs.evolve(left.metadata, extra={LEFT_OUT: "3"}))
    payload = payload_of(tmp_path, {"n_groups": scan.n_patterns, "n_subsample": scan.n_patterns})

    same_as = payload_of(tmp_path, {"n_groups": left.n_patterns, "n_subsample": left.n_patterns})

    np.testing.assert_array_equal(training_groups(payload, noted).train, training_groups(same_as, left).train)
    with pytest.raises(ConfigError, match="n_subsample"):
        training_groups(payload, left)
