"""Reconstruction with generators whose answers are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

from ptycho_adapters.torch_backend import Generator, ScanProbe, TrainedModel, reconstruct, train
from ptycho_adapters.torch_backend.physics.optics import BACKGROUND_COUNTS
from ptycho_core.config import DataConfig, PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.errors import ConfigError, DependencyError, ScanError
from ptycho_core.physics import subpixel
from ptycho_core.physics.optics import expected_counts, poisson_deviance
from ptycho_core.physics.subpixel import scan_counts, shift_probe
from torch_sample import payload_for, quick_training, tiny_scan

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction


class _Known(Generator):
    """Answers each pattern of a scan with a patch that was laid down for it.

    Attributes:
        seen: shapes of the amplitudes it was asked about.
        amplitudes: the last amplitudes.
    """

    def __init__(self, scan: Scan, patches: npt.NDArray[np.complex64]) -> None:
        super().__init__()
        self._known = torch.tensor(scan.amplitude()).flatten(1)
        self._patches = torch.tensor(patches)
        self.seen: list[tuple[int, ...]] = []
        self.amplitudes = torch.empty(0)

    def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
        """Look the patterns up."""
        del probes
        self.seen.append(tuple(amplitude.shape))
        self.amplitudes = amplitude
        groups, members = amplitude.shape[:2]
        nearest = torch.cdist(amplitude.reshape(groups * members, -1), self._known).argmin(dim=1)
        patches: Tensor = self._patches[nearest].unflatten(0, (groups, members))
        return patches


def _flux(scan: Scan) -> float:
    return float(scan.patterns.sum(axis=(1, 2), dtype=np.float64).mean())


def _energy(probe: npt.NDArray[np.complex64]) -> float:
    return float(np.sum(np.abs(probe.astype(np.complex128)) ** 2))


def _starts(scan: Scan) -> npt.NDArray[np.int64]:
    """First pixel of each patch, from the reference's split of the positions."""
    whole, _ = subpixel.split_positions(scan.positions_px, scan.N)
    return np.rint(whole - (scan.N - 1) / 2).astype(np.int64)


def _true_patches(scan: Scan) -> npt.NDArray[np.complex64]:
    """Patches of the truth in the network's scale, where the probe's energy is the mean flux."""
    assert scan.object is not None
    scale = np.sqrt(_flux(scan) / _energy(scan.probe))
    cut = np.stack([scan.object[y : y + scan.N, x : x + scan.N] for y, x in _starts(scan)])
    patches: npt.NDArray[np.complex64] = (cut / scale).astype(np.complex64)
    return patches


def _model(folder: Path, generator: Generator, scan: Scan) -> TrainedModel:
    flux = _flux(scan)
    probe = (scan.probe * np.sqrt(flux / _energy(scan.probe))).astype(np.complex64)
    return TrainedModel(
        payload=payload_for(folder),
        generator=generator,
        probes=(ScanProbe(probe=probe, start_probe=probe, flux=flux),),
        history=(),
        code_version="test",
    )


def _with_probes(model: TrainedModel, *probes: npt.NDArray[np.complex64]) -> TrainedModel:
    return attrs.evolve(model, probes=tuple(attrs.evolve(model.probes[0], probe=probe) for probe in probes))


def _exact(folder: Path) -> TrainedModel:
    return _model(folder, _Known(tiny_scan(), _true_patches(tiny_scan())), tiny_scan())


def _truth_below(result: Reconstruction, scan: Scan) -> npt.NDArray[np.complex64]:
    assert scan.object is not None
    top, left = result.origin_px
    height, width = result.object.shape
    return scan.object[top : top + height, left : left + width]


@pytest.mark.parametrize("weighting", ["probe", "uniform"])
def test_exact_patches_give_the_truth(tmp_path: Path, weighting: str) -> None:
    """At sub-pixel positions, patches cut from the truth come back as the truth, wherever there was light."""
    scan = tiny_scan()
    assert np.any(scan.positions_px % 0.5 != 0)

    result = reconstruct(_exact(tmp_path), scan, inference_config=TorchInferenceConfig(patch_weighting=weighting))  # type: ignore[arg-type]

    truth = _truth_below(result, scan)
    np.testing.assert_allclose(result.object[result.covered], truth[result.covered], atol=2e-6)
    np.testing.assert_allclose(result.object[~result.covered], result.scale, rtol=1e-6)
    assert result.covered.mean() > 0.35


def test_the_canvas_holds_every_patch_and_no_more(tmp_path: Path) -> None:
    """Its origin is the first start of any patch, its size reaches to the end of the last one."""
    result = reconstruct(_exact(tmp_path), tiny_scan())

    starts = _starts(tiny_scan())
    assert result.origin_px == tuple(starts.min(axis=0))
    assert result.object.shape == tuple(np.ptp(starts, axis=0) + 64)
    assert result.coverage.shape == result.object.shape


@pytest.mark.parametrize("weighting", ["probe", "uniform"])
def test_coverage_is_the_light_on_each_pixel(tmp_path: Path, weighting: str) -> None:
    """Summed intensity of the probe at its sub-pixel positions, whatever the weighting, 0 where it is next to none."""
    scan = tiny_scan()
    result = reconstruct(_exact(tmp_path), scan, inference_config=TorchInferenceConfig(patch_weighting=weighting))  # type: ignore[arg-type]

    probe = scan.probe * np.sqrt(_flux(scan) / _energy(scan.probe))
    _, rests = subpixel.split_positions(scan.positions_px, 64)
    light = np.zeros(result.object.shape)
    for (y, x), rest in zip(_starts(scan) - np.array(result.origin_px), rests, strict=True):
        light[y : y + 64, x : x + 64] += (np.abs(shift_probe(probe, rest)) ** 2).sum(axis=0)
    np.testing.assert_allclose(result.coverage[result.covered], light[result.covered], rtol=1e-4)
    np.testing.assert_array_equal(result.covered, light > 3e-2 * light.max())


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_the_object_belongs_to_the_scan_s_own_probe(tmp_path: Path, factor: float) -> None:
    """The same counts under a probe that claims k times the amplitude mean an object of 1/k."""
    scan = tiny_scan()
    louder = attrs.evolve(scan, probe=scan.probe * np.float32(factor))

    plain, other = (reconstruct(_exact(tmp_path), each) for each in (scan, louder))

    np.testing.assert_allclose(other.object[other.covered], plain.object[plain.covered] / factor, rtol=1e-5)
    np.testing.assert_allclose(other.probe, plain.probe * factor, rtol=1e-4, atol=1e-3)
    assert other.scale == pytest.approx(plain.scale / factor, rel=1e-6)


def test_probe_and_object_explain_the_counts(tmp_path: Path) -> None:
    """The figures of merit are those of the returned object under the returned probe, by the reference model."""
    scan = tiny_scan()
    result = reconstruct(_exact(tmp_path), scan)

    level = result.background_counts + BACKGROUND_COUNTS
    rate = scan_counts(result.object, result.probe, scan.positions_px, origin_px=result.origin_px, background=level)
    counts = scan.counts().astype(np.float64)
    assert result.metrics["deviance_per_px"] == pytest.approx(poisson_deviance(rate, counts), rel=1e-4)
    gap = np.abs(np.sqrt(rate) - np.sqrt(counts)).sum() / np.sqrt(counts).sum()
    assert result.metrics["r_factor"] == pytest.approx(gap, rel=1e-4)


def test_batches_do_not_matter(tmp_path: Path) -> None:
    """One pattern at a time or all at once, the object is the same; the network sees batches of that size."""
    results, shapes = [], []
    for size in (1, 7, 64):
        model = _exact(tmp_path)
        settings = TorchInferenceConfig(probe_source="model")
        execution = PyTorchExecutionConfig(inference_batch_size=size)
        results.append(reconstruct(model, tiny_scan(), execution_config=execution, inference_config=settings))
        assert isinstance(model.generator, _Known)
        _measuring, *passes = model.generator.seen  # the first call only measures the memory that a pattern takes
        shapes.append([shape[1] for shape in passes])

    assert shapes == [[1] * 36, [7] * 5 + [1], [36]]
    for other in results[1:]:
        np.testing.assert_allclose(other.object, results[0].object, atol=1e-5)


def test_the_batch_size_of_the_settings_counts_too(tmp_path: Path) -> None:
    """Without one in the execution record, that of the reconstruction's settings is used."""
    model = _exact(tmp_path)

    reconstruct(model, tiny_scan(), inference_config=TorchInferenceConfig(batch_size=9, probe_source="model"))

    assert isinstance(model.generator, _Known)
    assert [shape[1] for shape in model.generator.seen[1:]] == [9] * 4  # the first call measures memory


def test_weights_are_the_light_or_even(tmp_path: Path) -> None:
    """Where patches disagree, 'probe' takes the mean by light and 'uniform' the plain mean of lit ones."""
    scan = tiny_scan().subset([0, 1])
    levels = np.array([1.0, 3.0])
    patches = np.broadcast_to(levels[:, None, None], (2, 64, 64)).astype(np.complex64)
    model = _model(tmp_path, _Known(scan, patches), scan)
    found = {
        weighting: reconstruct(
            model, scan, inference_config=TorchInferenceConfig(patch_weighting=weighting, probe_source="model")
        )
        for weighting in ("probe", "uniform")
    }

    origin = found["probe"].origin_px
    _, rests = subpixel.split_positions(scan.positions_px, 64)
    weights = np.zeros((2, *found["probe"].object.shape))
    for weight, (y, x), rest in zip(weights, _starts(scan) - np.array(origin), rests, strict=True):
        weight[y : y + 64, x : x + 64] = (np.abs(shift_probe(scan.probe, rest)) ** 2).sum(axis=0)
    bright = (weights > 0.05 * weights.max(axis=(1, 2), keepdims=True)).all(axis=0)
    by_light = np.einsum("i,iyx->yx", levels, weights) / weights.sum(axis=0)
    means = {"probe": by_light, "uniform": np.full(bright.shape, 2.0)}
    assert bright.sum() > 100
    for weighting, result in found.items():
        wanted = means[weighting][bright] * result.scale
        np.testing.assert_allclose(result.object[bright].real, wanted, rtol=1e-4)


@pytest.mark.parametrize("wanted", ["model", "scan"])
def test_the_probe_is_the_one_asked_for(tmp_path: Path, wanted: str) -> None:
    """The refined probe of the model, at the scan's flux, or the scan's own."""
    model = _exact(tmp_path)
    refined = np.roll(model.probe, 3, axis=-1)
    settings = TorchInferenceConfig(probe_source=wanted)  # type: ignore[arg-type]

    result = reconstruct(_with_probes(model, refined), tiny_scan(), inference_config=settings)

    probe = refined / result.scale if wanted == "model" else tiny_scan().probe
    assert result.probe_source == wanted
    np.testing.assert_allclose(result.probe, probe, atol=1e-4 * np.abs(probe).max())


def test_the_better_fitting_probe_is_found(tmp_path: Path) -> None:
    """Left alone, the probe under which the patterns are explained is taken, whichever it is."""
    model, scan = _exact(tmp_path), tiny_scan()
    moved = np.roll(scan.probe, 5, axis=-1)

    assert reconstruct(_with_probes(model, np.roll(model.probe, 5, axis=-1)), scan).probe_source == "scan"
    assert reconstruct(model, attrs.evolve(scan, probe=moved)).probe_source == "model"


@pytest.mark.parametrize(("shift_px", "looks_at_all"), [(5.0, 0), (0.05, 2)])
def test_only_probes_that_are_close_are_looked_at_thoroughly(
    tmp_path: Path, shift_px: float, looks_at_all: int
) -> None:
    """Sixteen patterns tell a probe that is far off; where they leave doubt, each probe is tried on as many as ever."""
    model, scan = _exact(tmp_path), tiny_scan()
    off = shift_probe(model.probe.astype(np.complex128), np.array([0.0, shift_px])).astype(np.complex64)
    network = model.generator
    assert isinstance(network, _Known)

    assert reconstruct(_with_probes(model, off), scan).probe_source == "scan"
    wanted = 2 * 16 + (looks_at_all + 1) * scan.n_patterns
    assert sum(shape[0] * shape[1] for shape in network.seen) == 1 + wanted  # and one for the memory


def test_the_best_of_several_probes_is_found(tmp_path: Path) -> None:
    """Among those of a model the one that explains the patterns is taken, at the scan's flux, and told by number."""
    model, scan = _exact(tmp_path), tiny_scan()
    right, wrong = model.probe, [np.roll(model.probe, shift, axis=-1) for shift in (5, -7)]
    off = attrs.evolve(scan, probe=np.roll(scan.probe, 4, axis=-2))
    louder = attrs.evolve(model.probes[0], probe=3 * right, flux=9 * model.flux)
    several = attrs.evolve(model, probes=(*_with_probes(model, *wrong).probes, louder))

    asked = reconstruct(several, off, inference_config=TorchInferenceConfig(probe_source="model"))
    own = reconstruct(_with_probes(model, *wrong), scan)

    for result in (asked, reconstruct(several, off)):
        assert (result.probe_source, result.probe_number) == ("model", 2)
        np.testing.assert_allclose(result.probe, right / result.scale, atol=1e-4 * np.abs(right).max() / result.scale)
    assert (own.probe_source, own.probe_number) == ("scan", None)


@pytest.mark.parametrize("setting", ["n_subsample", "n_groups"])
def test_fewer_patterns_can_be_used(tmp_path: Path, setting: str) -> None:
    """A number of patterns is drawn from the seed, sorted, and only those take part."""

    def run(seed: int) -> Reconstruction:
        settings = TorchInferenceConfig(seed=seed, probe_source="model", **{setting: 10})  # type: ignore[arg-type]
        return reconstruct(_exact(tmp_path), tiny_scan(), inference_config=settings)

    first, again, other = run(1), run(1), run(2)
    assert len(first.pattern_indices) == 10
    assert (np.diff(first.pattern_indices) > 0).all()
    np.testing.assert_array_equal(first.positions_px, tiny_scan().positions_px[first.pattern_indices])
    np.testing.assert_array_equal(first.pattern_indices, again.pattern_indices)
    assert not np.array_equal(first.pattern_indices, other.pattern_indices)


def test_the_choice_of_patterns_may_have_a_seed_of_its_own(tmp_path: Path) -> None:
    """As in a training, it outranks the seed of the run, and 0 is a seed like any other."""

    def chosen(seed: int, own: int | None) -> list[int]:
        settings = TorchInferenceConfig(seed=seed, n_groups=10, probe_source="model")
        result = reconstruct(
            _exact(tmp_path), tiny_scan(), inference_config=settings, data_config=DataConfig(subsample_seed=own)
        )
        return [int(index) for index in result.pattern_indices]

    assert chosen(1, 0) == chosen(2, 0) == chosen(0, None)
    assert chosen(1, 0) != chosen(1, None)


def test_bad_pixels_do_not_matter(tmp_path: Path) -> None:
    """Whatever they hold, object and figures of merit are the same, and the network sees the bare probe there."""
    scan = tiny_scan()
    bad = np.zeros((64, 64), bool)
    bad[31:34, 28:40] = True
    spoilt = scan.patterns.copy()
    spoilt[:, bad] = 54_321

    _, rests = subpixel.split_positions(scan.positions_px, 64)
    results = []
    for patterns in (scan.patterns, spoilt):
        model = _exact(tmp_path)
        masked = attrs.evolve(scan, patterns=patterns, bad_pixels=bad)
        results.append(reconstruct(model, masked, inference_config=TorchInferenceConfig(probe_source="model")))
        assert isinstance(model.generator, _Known)
        bare = expected_counts(np.ones((64, 64)), shift_probe(model.probe, rests[-1]))
        seen = model.generator.amplitudes[0, -1].numpy()
        np.testing.assert_allclose(seen[bad], np.sqrt(bare[bad]), rtol=0.02)

    np.testing.assert_array_equal(results[0].object, results[1].object)
    assert dict(results[0].metrics) == dict(results[1].metrics)


@pytest.mark.filterwarnings("ignore:precision 'bf16-mixed' on a processor without")
def test_precision_changes_the_network_s_arithmetic(tmp_path: Path) -> None:
    """bfloat16 gives nearly the same object, and not the same bits."""
    model = quick_training(tmp_path)
    full, mixed = (
        reconstruct(model, tiny_scan(), execution_config=PyTorchExecutionConfig(accelerator="cpu", precision=name))
        for name in ("32-true", "bf16-mixed")
    )

    assert not np.array_equal(full.object, mixed.object)
    np.testing.assert_allclose(mixed.object, full.object, atol=0.1)


def test_half_precision_on_a_cpu_is_refused(tmp_path: Path) -> None:
    """As in training."""
    execution = PyTorchExecutionConfig(accelerator="cpu", precision="16-mixed")

    with pytest.raises(ConfigError, match="precision: expected '32-true' or 'bf16-mixed' on a CPU"):
        reconstruct(_exact(tmp_path), tiny_scan(), execution_config=execution)


def test_a_missing_accelerator_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in training; the one that is there is taken."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = _exact(tmp_path)

    with pytest.raises(DependencyError, match="accelerator='cuda': no such device"):
        reconstruct(model, tiny_scan(), execution_config=PyTorchExecutionConfig(accelerator="cuda"))
    reconstruct(model, tiny_scan(), execution_config=PyTorchExecutionConfig(accelerator="cpu"))


def test_threads_are_lent(tmp_path: Path) -> None:
    """While it reconstructs, torch has as many as asked for, and afterwards its own again."""
    before, used = torch.get_num_threads(), []
    model = quick_training(tmp_path)
    model.generator.register_forward_pre_hook(lambda *_: used.append(torch.get_num_threads()))

    reconstruct(model, tiny_scan(), execution_config=PyTorchExecutionConfig(num_threads=before + 2))

    assert (set(used), torch.get_num_threads()) == ({before + 2}, before)


def test_patterns_of_another_size_are_refused(tmp_path: Path) -> None:
    """The message says what the model was trained on."""
    scan = tiny_scan()
    cut = attrs.evolve(scan, patterns=scan.patterns[:, 16:48, 16:48], probe=scan.probe[:, 16:48, 16:48])

    with pytest.raises(ScanError, match="expected 64 px, as the model was trained, found 32 px"):
        reconstruct(_exact(tmp_path), cut)


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    """Weights and mode of the network, and torch's generator, are the same afterwards."""
    model = quick_training(tmp_path)
    before = {name: value.clone() for name, value in model.generator.state_dict().items()}
    random_state = torch.random.get_rng_state()

    reconstruct(model, tiny_scan())

    assert all(torch.equal(value, before[name]) for name, value in model.generator.state_dict().items())
    assert torch.equal(random_state, torch.random.get_rng_state())


@pytest.mark.parametrize("searched", [True, False])
def test_a_beam_is_looked_for_as_in_the_training(tmp_path: Path, searched: bool) -> None:
    """Unless the reconstruction says: a probe that was learned with the beam where it is holds that as a slope."""
    given = tiny_scan()
    scan = attrs.evolve(given, patterns=np.roll(given.patterns, (4, 3), axis=(1, 2)))
    model = train(payload_for(tmp_path, {"beam_search": searched}), scan)
    explicit = TorchInferenceConfig(beam_search=not searched)

    assert (reconstruct(model, scan).beam_px == (4, 3)) is searched
    assert (reconstruct(model, scan, inference_config=explicit).beam_px == (4, 3)) is not searched


@pytest.mark.parametrize("source", ["scan", "model"])
def test_the_probe_is_refined_if_asked(tmp_path: Path, source: str) -> None:
    """With patches that are right, rounds of refinement bring a wrong probe to the one that made the counts."""
    scan = tiny_scan()
    wrong = (scan.probe * np.exp(4j * np.linspace(-1, 1, 64) ** 2)).astype(np.complex64)
    model, told = _with_probes(_exact(tmp_path), wrong), attrs.evolve(scan, probe=wrong)

    results = [
        reconstruct(
            model,
            told,
            inference_config=TorchInferenceConfig(
                probe_source=source,  # type: ignore[arg-type]
                probe_rounds=rounds,
                position_refinement="none",
                orientation_search="never",
                probe_search="never",
            ),
        )
        for rounds in (0, 3)
    ]

    as_it_was, refined = (abs(np.vdot(r.probe, scan.probe)) / np.linalg.norm(r.probe) for r in results)
    whole = np.linalg.norm(scan.probe)
    assert 1 - refined / whole < 0.5 * (1 - as_it_was / whole)
    assert results[1].metrics["r_factor"] < 0.8 * results[0].metrics["r_factor"]
