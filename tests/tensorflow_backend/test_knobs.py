"""Every setting that TensorFlow honours changes a training or a reconstruction of it."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
import tensorflow as tf

from ptycho_adapters import tensorflow_backend
from ptycho_adapters.tensorflow_backend import execution
from ptycho_adapters.tensorflow_backend.generators.cnn import Cnn
from ptycho_adapters.tensorflow_backend.generators.unrolled import Unrolled
from ptycho_adapters.tensorflow_backend.physics import optics
from ptycho_adapters.tensorflow_backend.training.start import starting_generator
from ptycho_adapters.tensorflow_backend.whole_scan import patterns_at_once
from ptycho_core.config import DataConfig, PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.errors import ConfigError, DependencyError, ScanError
from tensorflow_sample import AS_GIVEN, quietly, tiny_scan
from tensorflow_training import FakeClock, Observed, minute_payload, observed, small_scan, with_noise

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction

COSINE: dict[str, object] = {"scheduler": "CosineAnnealing", "epochs": 2}
PLATEAU: dict[str, object] = {
    "scheduler": "Adaptive",
    "epochs": 4,
    "plateau_patience": 0,
    "plateau_threshold": 1e6,
    "plateau_factor": 0.5,
    "plateau_min_lr": 1e-9,
}


def given(run: Observed) -> dict[str, object]:
    """What the network of a training was given, part by part."""
    first = run.learner.learned_from[0]
    return {
        "batches": [batch.tolist() for batch in run.learner.batches],
        "looks": [batch.tolist() for batch in run.learner.looks],
        "rates": run.learner.rates,
        "light": (first.background, float(np.abs(first.probe).sum())),
        "shapes": {name: value.shape for name, value in run.learner.generator.weights.items()},
        "first weight": float(run.learner.generator.weights["refinements.0.network.stem.weight"].sum()),
        "steps": run.learner.generator.n_steps,
        "epochs": len(run.model.history),
    }


@pytest.mark.parametrize(
    ("settings", "changed", "parts"),
    [
        ({}, {"gridsize": 1}, {"batches", "looks"}),
        ({}, {"n_groups": 12}, {"batches"}),
        ({}, {"seed": 7}, {"batches", "first weight"}),
        ({}, {"subsample_seed": 7}, {"batches"}),
        ({}, {"n_subsample": 20}, {"batches"}),
        ({}, {"neighbor_count": 9}, {"batches"}),
        ({}, {"sequential_sampling": True}, {"batches"}),
        ({}, {"batch_size": 4}, {"batches"}),
        ({}, {"validation_fraction": 0.3}, {"batches", "looks"}),
        ({}, {"enable_oversampling": True, "n_groups": 60}, {"batches"}),
        ({"enable_oversampling": True, "n_groups": 60}, {"neighbor_pool_size": 9}, {"batches"}),
        ({}, {"nepochs": 3}, {"batches", "rates", "epochs"}),
        ({}, {"learning_rate": 1e-3}, {"rates"}),
        ({"epochs": 2}, {"scheduler": "Exponential"}, {"rates"}),
        (COSINE, {"lr_min_ratio": 0.5}, {"rates"}),
        (COSINE, {"lr_warmup_epochs": 1}, {"rates"}),
        (PLATEAU, {"plateau_patience": 2}, {"rates"}),
        (PLATEAU, {"plateau_factor": 0.25}, {"rates"}),
        (PLATEAU, {"plateau_min_lr": 1e-3}, {"rates"}),
        (PLATEAU, {"plateau_threshold": 0.0}, {"rates"}),
        ({}, {"background_counts": 2.0}, {"light"}),
        ({}, {"unrolled_steps": 2}, {"shapes", "steps"}),
        ({}, {"unrolled_repeats": 1}, {"steps"}),
        ({}, {"n_filters_scale": 2}, {"shapes"}),
        ({"unrolled_steps": 6, "n_filters_scale": 2}, {"initial_weights": "generalist"}, {"first weight"}),
    ],
    ids=str,
)
def test_the_setting_changes_what_the_network_is_given(
    tmp_path: Path, settings: dict[str, object], changed: dict[str, object], parts: set[str]
) -> None:
    """Those parts that it is about, and where it is about one thing alone, nothing else."""
    kept = {key: value for key, value in settings.items() if not (key == "epochs" and "nepochs" in changed)}
    base = minute_payload(tmp_path, kept)
    if "nepochs" in changed:
        changed = {"epochs": changed["nepochs"]}
    before, after = given(observed(base)), given(observed(minute_payload(tmp_path, {**kept, **changed})))

    assert parts <= {part for part, value in before.items() if after[part] != value}
    if parts in ({"rates"}, {"light"}, {"steps"}):
        assert parts == {part for part, value in before.items() if after[part] != value}


def rolled(scan: Scan) -> Scan:
    """The scan with its beam off the middle."""
    return attrs.evolve(scan, patterns=np.roll(scan.patterns, (1, -2), axis=(1, 2)))


@pytest.mark.parametrize("search", [False, True])
def test_a_beam_off_the_middle_is_brought_back_if_asked(tmp_path: Path, search: bool) -> None:
    """In a training."""
    run = observed(minute_payload(tmp_path, {"beam_search": search}), rolled(small_scan()))

    assert (run.learner.learned_from[0].patterns.beam_px != (0, 0)) == search


def test_another_scan_can_be_the_validation(tmp_path: Path) -> None:
    """Its patterns are looked at, under the probe of the one that is learned from, as bright as it is itself."""
    other = attrs.evolve(small_scan(), patterns=4 * small_scan().patterns)  # counts: twice the amplitude

    run = observed(minute_payload(tmp_path), validation=other)

    looked, learned = run.learner.looked_at[0], run.learner.learned_from[0]
    assert looked.patterns.flux == pytest.approx(4 * learned.patterns.flux)
    np.testing.assert_allclose(looked.probe, 2 * learned.probe, rtol=1e-5)


def test_patterns_of_another_size_are_refused(tmp_path: Path) -> None:
    """The message has both sizes."""
    with pytest.raises(ScanError, match="expected 16 px patterns, as the payload says, found 64 px"):
        observed(minute_payload(tmp_path), tiny_scan())


def test_the_network_is_the_one_asked_for(tmp_path: Path) -> None:
    """By its name."""
    runs = [
        observed(minute_payload(tmp_path, {"architecture": name, "gridsize": 1}, 64), tiny_scan())
        for name in ("unrolled", "cnn")
    ]

    assert [type(run.model.generator) for run in runs] == [Unrolled, Cnn]


def test_a_time_limit_ends_the_run_cleanly(tmp_path: Path) -> None:
    """After the step in which it is reached, in the middle of an epoch too, its schedule gone through by the time."""
    settings: dict[str, object] = {"epochs": 40, "scheduler": "CosineAnnealing", "lr_min_ratio": 0.01}

    run = observed(minute_payload(tmp_path, settings, max_time="00:00:00:01"), clock=FakeClock(step_s=1 / 16))

    cosine = [0.5 * (1 + math.cos(math.pi * step / 16)) for step in range(16)]
    assert run.learner.rates == pytest.approx([2e-3 * (0.01 + 0.99 * factor) for factor in cosine])
    assert [row.steps for row in run.model.history] == [3, 6, 9, 12, 15, 16]


def test_the_bar_is_shown_on_standard_error_alone(
    tmp_path: Path, model: tensorflow_backend.TrainedModel, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the bar, standard error says what is done; without, it is silent; standard output always is."""
    heard = []
    for shown in (True, False):
        observed(minute_payload(tmp_path, enable_progress_bar=shown))
        training = capfd.readouterr()
        reconstructed(model, how=attrs.evolve(quietly(), enable_progress_bar=shown))
        reconstruction = capfd.readouterr()
        assert training.out == reconstruction.out == ""
        heard.append((training.err, reconstruction.err))

    (training_bar, reconstruction_bar), silence = heard
    assert re.search(r"training.*100 ?%", training_bar)
    assert "network and stitching" in reconstruction_bar
    assert silence == ("", "")


@pytest.fixture(scope="module")
def model(eagerly: None, tmp_path_factory: pytest.TempPathFactory) -> tensorflow_backend.TrainedModel:
    """A cnn that has seen the small scan, with a probe that is not the scan's."""
    del eagerly
    made = observed(minute_payload(tmp_path_factory.mktemp("model"), {"architecture": "unrolled"})).model
    (known,) = made.probes
    generator = starting_generator(made.payload)
    turned = attrs.evolve(known, probe=(known.probe * np.exp(1j * np.linspace(0, 2, 16))).astype(np.complex64))
    return attrs.evolve(made, probes=(turned,), generator=generator)


def reconstructed(
    model: tensorflow_backend.TrainedModel,
    settings: dict[str, Any] | None = None,
    *,
    scan: Scan | None = None,
    how: PyTorchExecutionConfig | None = None,
    data: DataConfig | None = None,
) -> Reconstruction:
    return tensorflow_backend.reconstruct(
        model,
        small_scan() if scan is None else scan,
        execution_config=how or quietly(),
        inference_config=TorchInferenceConfig(**{**AS_GIVEN, "beam_search": False, **(settings or {})}),
        data_config=data,
    )


@pytest.mark.usefixtures("eagerly")
def test_fewer_patterns_can_be_used(model: tensorflow_backend.TrainedModel) -> None:
    """As many as asked for, drawn by the seed of the run or one of their own."""
    base: dict[str, Any] = {"n_subsample": 9, "seed": 1}
    runs = {
        "subsample": reconstructed(model, base),
        "groups": reconstructed(model, {"n_groups": 9, "seed": 1}),
        "fewer": reconstructed(model, {**base, "n_groups": 5}),
        "other": reconstructed(model, {**base, "seed": 2}),
        "own": reconstructed(model, base, data=DataConfig(N=16, subsample_seed=2)),
    }

    drawn = {name: run.pattern_indices.tolist() for name, run in runs.items()}
    assert drawn["subsample"] == drawn["groups"] != drawn["other"] == drawn["own"]
    assert [len(each) for each in drawn.values()] == [9, 9, 5, 9, 9]


@pytest.mark.usefixtures("eagerly")
def test_probe_and_background_are_those_asked_for(model: tensorflow_backend.TrainedModel) -> None:
    """The probe of the model, the scan's, or the one that explains more; the background takes its light."""
    asked: dict[str, dict[str, Any]] = {
        "model": {"probe_source": "model"},
        "scan": {"probe_source": "scan"},
        "auto": {"probe_source": "auto"},
        "dark": {"probe_source": "scan", "background_counts": 3.0},
    }
    runs = {name: reconstructed(model, settings) for name, settings in asked.items()}

    sources = [run.probe_source for run in runs.values()]
    best = min(("model", "scan"), key=lambda name: runs[name].metrics["deviance_per_px"])
    assert sources == ["model", "scan", best, "scan"]
    assert np.abs(runs["model"].object - runs["scan"].object).max() > 1e-3
    assert (runs["scan"].background_counts, runs["dark"].background_counts) == (0.0, 3.0)
    assert np.abs(runs["dark"].object - runs["scan"].object).max() > 1e-3


@pytest.mark.usefixtures("eagerly")
def test_a_moved_beam_is_found_if_asked(model: tensorflow_backend.TrainedModel) -> None:
    """In a reconstruction."""
    found = [reconstructed(model, {"beam_search": asked}, scan=rolled(small_scan())).beam_px for asked in (True, False)]

    assert found[0] != (0, 0)
    assert found[1] == (0, 0)


@pytest.mark.usefixtures("eagerly")
def test_batches_have_the_size_asked_for(
    model: tensorflow_backend.TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And do not matter for the object."""
    sizes: list[int] = []
    moved = optics.shift_probe

    def counting(probe: tf.Tensor, shifts_px: tf.Tensor) -> tf.Tensor:
        sizes.append(int(shifts_px.shape[1]))
        return moved(probe, shifts_px)

    monkeypatch.setattr("ptycho_adapters.tensorflow_backend.whole_scan.shift_probe", counting)
    runs, seen = [], []
    for size in (None, 5, 36):
        sizes.clear()
        how = attrs.evolve(quietly(), inference_batch_size=size)
        runs.append(reconstructed(model, {"probe_source": "scan"}, how=how))
        seen.append(sizes[: sizes.index(min(sizes)) + 1])

    assert seen == [[36], [5] * 7 + [1], [36]]
    assert [patterns_at_once(size) for size in (16, 64, 128, 256)] == [48, 48, 12, 8]
    for run in runs[1:]:
        np.testing.assert_allclose(run.object, runs[0].object, atol=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_weights_are_the_light_or_even(tmp_path: Path) -> None:
    """Overlapping patches of a cnn are averaged by the light on them, or evenly over what is lit."""
    made = observed(minute_payload(tmp_path, {"architecture": "cnn"}, 64), tiny_scan()).model
    cnn = attrs.evolve(made, generator=with_noise(starting_generator(made.payload), made.payload))

    light, even = (
        reconstructed(cnn, {"patch_weighting": name, "n_subsample": 4, "probe_source": "scan"}, scan=tiny_scan()).object
        for name in ("probe", "uniform")
    )

    assert np.abs(light - even).max() > 1e-4


@pytest.mark.parametrize("name", ["gpu", "cuda"])
def test_a_missing_accelerator_is_refused(tmp_path: Path, name: Any, model: tensorflow_backend.TrainedModel) -> None:
    """In a training and in a reconstruction; the message names it."""
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has one")
    with pytest.raises(DependencyError, match=f"accelerator='{name}': no such device"):
        tensorflow_backend.train(minute_payload(tmp_path, accelerator=name), small_scan())
    with pytest.raises(DependencyError, match=f"accelerator='{name}': no such device"):
        reconstructed(model, how=attrs.evolve(quietly(), accelerator=name))


def test_several_processes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: tensorflow_backend.TrainedModel
) -> None:
    """Each would do the whole work and write it where the others do."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(ConfigError, match=r"one process, with backend tensorflow, found 2 .* without torchrun"):
        tensorflow_backend.train(minute_payload(tmp_path), small_scan())
    with pytest.raises(ConfigError, match="found 2 that were started together"):
        reconstructed(model)


@pytest.mark.parametrize(("name", "device"), [("auto", "GPU"), ("gpu", "GPU"), ("cuda", "GPU"), ("cpu", "CPU")])
def test_the_accelerator_is_the_one_asked_for(name: Any, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a GPU, `auto` takes it, and only `cpu` does not."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])

    with execution.device_of(PyTorchExecutionConfig(accelerator=name)), tf.Graph().as_default():
        assert tf.no_op().device == "" or device in tf.no_op().device
    asked: list[str] = []
    monkeypatch.setattr(tf, "device", asked.append)
    execution.device_of(PyTorchExecutionConfig(accelerator=name))
    assert asked == [f"/{device}:0"]


@pytest.mark.parametrize("asked", [True, False])
def test_determinism_is_switched_on_if_asked(asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And left alone otherwise."""
    calls: list[bool] = []
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: calls.append(True))

    execution.prepare_process(PyTorchExecutionConfig(deterministic=asked, num_threads=None))

    assert calls == [True] * asked


def test_another_number_of_threads_than_the_process_has_is_refused(
    tmp_path: Path, model: tensorflow_backend.TrainedModel
) -> None:
    """TensorFlow takes one once; the number that it has is taken again, and none in particular takes that."""
    tf.constant(1.0).numpy()
    execution.prepare_process(PyTorchExecutionConfig())
    now = tf.config.threading.get_intra_op_parallelism_threads()

    for run in (
        lambda: tensorflow_backend.train(minute_payload(tmp_path, num_threads=now + 1), small_scan()),
        lambda: reconstructed(model, how=attrs.evolve(quietly(), num_threads=now + 1)),
    ):
        with pytest.raises(ConfigError, match=rf"num_threads: expected {now or 'none'}, which TensorFlow runs with"):
            run()
    if now:
        execution.prepare_process(PyTorchExecutionConfig(num_threads=now))
