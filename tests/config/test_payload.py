"""Resolution of whole runs."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import attrs
import numpy as np
import pytest

from ptycho_core import InferencePayload, PyTorchExecutionConfig, TrainingPayload, resolve_inference, resolve_training
from ptycho_core.config import TorchTrainingConfig, evolve
from ptycho_core.config.overrides import Layer, Resolution, Unset
from ptycho_core.config.payload import ArchiveFacts, InferenceFacts, ScanFacts
from ptycho_core.config.table import TRAINING
from ptycho_core.errors import ConfigError

SCAN = ScanFacts(path=Path("scan.npz"), N=128, n_patterns=100, nphotons=5e8)
OUT = Path("out")
OLD_NAME = pytest.mark.filterwarnings("ignore:n_images is deprecated:DeprecationWarning")


def trained(**overrides: object) -> TrainingPayload:
    return resolve_training(SCAN, {"n_groups": 64, **overrides}, output_dir=OUT)


def reconstructed(training: TrainingPayload | None, scan: ScanFacts = SCAN, **overrides: object) -> InferencePayload:
    facts = InferenceFacts(scan=scan, archive=ArchiveFacts(path=Path("model"), training=training))
    return resolve_inference(facts, {"n_groups": 8, **overrides}, output_dir=OUT)


def test_facts_of_the_scan_fill_in_what_nobody_said() -> None:
    """Size and dose come from the file, and their source is known."""
    payload = trained()

    assert (payload.pt_data_config.N, payload.tf_training_config.model.N) == (128, 128)
    assert payload.tf_training_config.nphotons == 5e8
    assert payload.provenance["N"] is Layer.SCAN
    assert payload.tf_training_config.train_data_file == SCAN.path


def test_a_scan_without_a_dose_gets_the_default() -> None:
    """The default says that it is one."""
    payload = resolve_training(evolve_facts(nphotons=None), {"n_groups": 1}, output_dir=OUT)

    assert payload.tf_training_config.nphotons == 1e9
    assert payload.provenance["nphotons"].default


def evolve_facts(*, nphotons: float | None) -> ScanFacts:
    return ScanFacts(path=SCAN.path, N=64, nphotons=nphotons)


def test_execution_outranks_the_command_line_only_where_it_was_set() -> None:
    """A default of the execution record beats nothing."""
    execution = PyTorchExecutionConfig(num_workers=3)
    cli = {"n_groups": 4, "num_workers": 1, "learning_rate": 2e-4}

    payload = resolve_training(SCAN, None, execution, cli, output_dir=OUT)

    assert (payload.execution_config.num_workers, payload.pt_training_config.num_workers) == (3, 3)
    assert (payload.execution_config.learning_rate, payload.pt_training_config.learning_rate) == (2e-4, 2e-4)
    assert dict(payload.overrides_applied) == {"n_groups": 4, "num_workers": 3, "learning_rate": 2e-4}


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", 7e-4), ("scheduler", "Exponential"), ("accum_steps", 4), ("gradient_clip_val", 1.0)],
)
def test_a_shared_setting_has_one_value_everywhere(name: str, value: object) -> None:
    """Explicit settings beat the execution record, and every record shows the winner."""
    execution = evolve(PyTorchExecutionConfig(), **{name: value})

    by_execution = resolve_training(SCAN, {"n_groups": 1}, execution, output_dir=OUT)
    by_override = resolve_training(SCAN, {"n_groups": 1, name: value}, output_dir=OUT)

    for payload, layer in ((by_execution, Layer.EXECUTION), (by_override, Layer.EXPLICIT)):
        assert getattr(payload.execution_config, name) == getattr(payload.pt_training_config, name) == value
        assert payload.overrides_applied[name] == value
        assert payload.provenance[name] is layer


def test_arguments_are_no_overrides() -> None:
    """Only what was handed in as a setting is listed as one."""
    assert dict(trained().overrides_applied) == {"n_groups": 64}
    assert trained().provenance["output_dir"] is Layer.EXPLICIT


def test_a_path_that_is_passed_on_keeps_its_source() -> None:
    """The layer that named a path is its source, the higher one of two; the caller's word is explicit."""
    cli = {"n_groups": 1, "train_data_file": str(SCAN.path)}
    file = {"output_dir": str(OUT), "train_data_file": SCAN.path}

    payload = resolve_training(SCAN, None, None, cli, output_dir=OUT, file=file)
    repeated = resolve_training(SCAN, {"output_dir": OUT}, None, cli, output_dir=OUT, file=file)
    other = resolve_training(SCAN, None, None, {**cli, "train_data_file": "other.npz"}, output_dir=OUT)

    assert payload.provenance["train_data_file"] is Layer.CLI
    assert payload.provenance["output_dir"] is Layer.FILE
    assert dict(payload.overrides_applied) == {"n_groups": 1}
    assert repeated.provenance["output_dir"] is Layer.EXPLICIT
    assert other.provenance["train_data_file"] is Layer.EXPLICIT
    assert other.tf_training_config.train_data_file == SCAN.path


def test_weights_that_nobody_named_are_a_default() -> None:
    """A model of the caller is explicit, that of the package is not, and neither is an override."""
    for shipped, source in ((False, Layer.EXPLICIT), (True, Layer.TORCH_DEFAULT)):
        archive = ArchiveFacts(path=Path("model"), training=trained(), shipped=shipped)
        payload = resolve_inference(InferenceFacts(scan=SCAN, archive=archive), {"n_groups": 8}, output_dir=OUT)

        assert payload.provenance["model_path"] is source
        assert payload.provenance["output_dir"] is Layer.EXPLICIT
        assert payload.tf_inference_config.model_path == Path("model")
        assert dict(payload.overrides_applied) == {"n_groups": 8}
    assert reconstructed(trained()).provenance["model_path"] is Layer.EXPLICIT


def test_a_model_that_learned_its_beam_where_it_is_is_used_so() -> None:
    """Its probe holds the slope that a beam off the middle is, unless somebody says that it does not."""
    off, on = trained(beam_search=False), trained()

    for training, wanted in ((off, False), (on, True)):
        assert reconstructed(training).pt_inference_config.beam_search is wanted
    assert reconstructed(off).provenance["beam_search"] is Layer.ARCHIVE
    assert reconstructed(on).provenance["beam_search"].default
    assert reconstructed(off, beam_search=True).pt_inference_config.beam_search
    assert not reconstructed(on, beam_search=False).pt_inference_config.beam_search


def test_an_argument_may_be_repeated_but_not_contradicted() -> None:
    """The same folder as text is fine, another one is an error, and one left open is not said."""
    assert trained(output_dir="out").overrides_applied["output_dir"] == OUT
    assert trained(output_dir="out/").overrides_applied["output_dir"] == OUT
    assert dict(trained(output_dir=Unset).overrides_applied) == {"n_groups": 64}
    for other in ("elsewhere", "out/below", None):
        with pytest.raises(ConfigError, match="output_dir"):
            trained(output_dir=other)


def test_the_number_of_groups_has_to_be_said() -> None:
    """No default stands in for it."""
    for overrides in (None, {}, {"n_groups": Unset}):
        with pytest.raises(ConfigError, match="n_groups is required"):
            resolve_training(SCAN, overrides, output_dir=OUT)


@pytest.mark.parametrize("value", [0, -1, "many", None, 1.5])
@pytest.mark.parametrize("layer", ["overrides", "cli", "file"])
@pytest.mark.parametrize("name", ["n_groups", pytest.param("n_images", marks=OLD_NAME)])
def test_a_number_of_groups_that_is_not_valid_is_one_problem(name: str, layer: str, value: object) -> None:
    """It was said, so it is not missing as well, whatever layer and name it was said in."""
    said: dict[str, object] = {name: value}

    with pytest.raises(ConfigError) as error:
        resolve_training(SCAN, output_dir=OUT, **{layer: said})  # type: ignore[arg-type]

    assert [problem.path.partition(".")[2] for problem in error.value.problems] == [name]


@pytest.mark.parametrize(
    ("name", "value"),
    [("architecture", "fno"), ("cbam_encoder", False), ("middle_trim", 32), ("window", 5)],
)
def test_what_no_run_can_honour_is_refused(name: str, value: object) -> None:
    """The message says why."""
    with pytest.raises(ConfigError, match=rf"explicit\.{name}.*no run can honour this"):
        trained(**{name: value})


def test_asking_for_what_happens_anyway_is_fine() -> None:
    """The only value that can be honoured may be said."""
    assert trained(architecture="unet", cbam_encoder=True).overrides_applied["architecture"] == "unet"


def test_everything_wrong_with_a_run_comes_together() -> None:
    """Missing, unknown, invalid, refused and contradictory settings are one error."""
    execution = PyTorchExecutionConfig(num_workers=1, persistent_workers=True)
    overrides = {"spam": 1, "batch_size": 3, "architecture": "fno", "num_workers": 0, "output_dir": "elsewhere"}

    with pytest.raises(ConfigError) as error:
        resolve_training(SCAN, overrides, execution, output_dir=OUT)

    assert sorted(problem.path for problem in error.value.problems) == [
        "PyTorchExecutionConfig.persistent_workers",
        "explicit.architecture",
        "explicit.batch_size",
        "explicit.output_dir",
        "explicit.spam",
        "n_groups",
    ]


def test_a_mask_array_implies_the_mask() -> None:
    """The switch follows with the same source, and a switch that was turned off is a contradiction."""
    mask = np.ones((128, 128))
    payload = trained(probe_mask_tensor=mask)

    assert not trained().tf_training_config.model.probe_mask
    assert trained(probe_mask_tensor=mask, probe_mask=True).provenance["probe_mask"] is Layer.EXPLICIT
    assert payload.tf_training_config.model.probe_mask
    assert payload.provenance["probe_mask"] is Layer.EXPLICIT
    with pytest.raises(ConfigError, match="probe_mask"):
        trained(probe_mask_tensor=mask, probe_mask=False)
    for shape in ((4, 4), (128, 129), (256, 256), (128,)):
        with pytest.raises(ConfigError, match=r"shape \(128, 128\)"):
            trained(probe_mask_tensor=np.ones(shape))


def test_the_archive_outranks_the_scan() -> None:
    """Size, grid and dose of the trained model are kept for another scan."""
    scan = ScanFacts(path=Path("other.npz"), N=64, nphotons=1e6)

    payload = reconstructed(trained(gridsize=1), scan)

    assert (payload.pt_data_config.N, payload.pt_data_config.grid_size) == (128, (1, 1))
    assert payload.pt_data_config.nphotons == 5e8
    assert {payload.provenance[key] for key in ("N", "gridsize", "nphotons", "probe_scale")} == {Layer.ARCHIVE}
    assert payload.tf_inference_config.test_data_file == scan.path


def test_a_dose_that_nobody_stated_is_not_archived() -> None:
    """The default of a training does not outrank what a scan says."""
    training = resolve_training(evolve_facts(nphotons=None), {"n_groups": 1}, output_dir=OUT)

    assert reconstructed(training).pt_data_config.nphotons == 5e8


def test_choices_of_a_training_run_stay_there() -> None:
    """Groups, seeds and folders of the training do not leak into a reconstruction."""
    payload = reconstructed(trained(subsample_seed=5, n_subsample=9, neighbor_count=8))

    assert (payload.tf_inference_config.subsample_seed, payload.tf_inference_config.n_subsample) == (None, None)
    assert payload.tf_inference_config.n_groups == 8
    assert payload.tf_inference_config.output_dir == OUT


def test_an_empty_archive_leaves_the_word_to_the_scan() -> None:
    """Without an archived training the facts of the scan are used."""
    payload = reconstructed(None)

    assert (payload.pt_data_config.N, payload.provenance["N"]) == (128, Layer.SCAN)


@pytest.mark.parametrize(("said", "n_groups", "source"), [({}, 100, Layer.SCAN), ({"n_groups": 8}, 8, Layer.EXPLICIT)])
def test_a_reconstruction_may_take_all_patterns(said: dict[str, object], n_groups: int, source: Layer) -> None:
    """The number of patterns is that of the groups where nobody says another."""
    facts = InferenceFacts(scan=SCAN, archive=ArchiveFacts(path=Path("model")), all_patterns=100)

    payload = resolve_inference(facts, said, output_dir=OUT)

    assert (payload.pt_inference_config.n_groups, payload.provenance["n_groups"]) == (n_groups, source)
    assert payload.pt_data_config.N == 128


def test_a_reconstruction_that_takes_no_number_for_granted_needs_one() -> None:
    """Where all patterns are not meant, somebody has to say how many groups."""
    with pytest.raises(ConfigError, match="n_groups is required"):
        resolve_inference(InferenceFacts(scan=SCAN, archive=ArchiveFacts(path=Path("model"))), output_dir=OUT)


def test_a_reconstruction_has_the_layers_of_a_training() -> None:
    """Explicit beats execution beats command line beats file, and all of them are listed as applied."""
    execution = PyTorchExecutionConfig(num_threads=3, precision="16-mixed")
    facts = InferenceFacts(scan=SCAN, archive=ArchiveFacts(path=Path("model"), training=trained()))

    payload = resolve_inference(
        facts,
        {"n_groups": 8},
        execution,
        {"n_groups": 4, "num_threads": 1, "seed": 5},
        output_dir=OUT,
        file={"seed": 6, "n_subsample": 9, "output_dir": "elsewhere"},
    )

    assert dict(payload.overrides_applied) == {
        "n_groups": 8,
        "num_threads": 3,
        "precision": "16-mixed",
        "seed": 5,
        "n_subsample": 9,
    }
    layers = {key: payload.provenance[key] for key in ("n_groups", "num_threads", "seed", "n_subsample", "output_dir")}
    assert list(layers.values()) == [Layer.EXPLICIT, Layer.EXECUTION, Layer.CLI, Layer.FILE, Layer.EXPLICIT]
    assert (payload.execution_config, payload.execution_config.explicit) == (execution, execution.explicit)
    assert payload.pt_inference_config.output_dir == OUT


def test_contradictions_of_several_records_come_together() -> None:
    """One record's contradiction does not hide another's."""
    execution = PyTorchExecutionConfig(num_workers=1, prefetch_factor=2)
    overrides: dict[str, object] = {"n_groups": 1, "num_workers": 0, "measurement_domain": "normalized_amplitude"}

    with pytest.raises(ConfigError) as error:
        resolve_training(SCAN, overrides, execution, output_dir=OUT)

    assert [problem.path for problem in error.value.problems] == [
        "explicit.measurement_domain",
        "DataConfig.measurement_domain",
        "PyTorchExecutionConfig.prefetch_factor",
    ]


def test_weights_cannot_be_reinterpreted() -> None:
    """A setting that the weights were trained for cannot be changed afterwards."""
    assert (
        reconstructed(trained(n_filters_scale=300), n_filters_scale=int("300")).pt_model_config.n_filters_scale == 300
    )
    for other in (1, 4):
        with pytest.raises(ConfigError, match=r"n_filters_scale.*as the archive"):
            reconstructed(trained(), n_filters_scale=other)


def test_records_of_a_payload_cannot_disagree() -> None:
    """A payload put together by hand is checked like any other."""
    payload = trained()

    with pytest.raises(ConfigError, match="nepochs"):
        TrainingPayload(
            tf_training_config=payload.tf_training_config,
            pt_data_config=payload.pt_data_config,
            pt_model_config=payload.pt_model_config,
            pt_training_config=evolve(payload.pt_training_config, epochs=3),
            pt_inference_config=payload.pt_inference_config,
            execution_config=payload.execution_config,
            overrides_applied=payload.overrides_applied,
            provenance=payload.provenance,
        )


def test_resolution_changes_nothing_that_it_was_given() -> None:
    """Arguments are the same before and after."""
    overrides: dict[str, object] = {"n_groups": 3, "grid_size": [1, 1]}
    before = copy.deepcopy(overrides)

    resolve_training(SCAN, overrides, output_dir=OUT)

    assert overrides == before


def test_payloads_can_be_copied_and_sent() -> None:
    """Copies and pickles are equal to the original."""
    payload = trained(max_epochs=3)

    assert copy.deepcopy(payload) == payload
    assert pickle.loads(pickle.dumps(payload)) == payload


def test_payloads_with_arrays_can_be_compared() -> None:
    """Equal masks make equal payloads, other masks other ones."""
    mask = np.ones((128, 128))

    assert trained(probe_mask_tensor=mask) == trained(probe_mask_tensor=mask.copy())
    assert trained(probe_mask_tensor=mask) != trained(probe_mask_tensor=0.5 * mask)
    assert reconstructed(None, probe_mask_tensor=mask) == reconstructed(None, probe_mask_tensor=mask.copy())


@pytest.mark.parametrize(
    "record", [Resolution, ScanFacts, ArchiveFacts, InferenceFacts, TrainingPayload, InferencePayload]
)
def test_parts_are_given_by_name(record: type[attrs.AttrsInstance]) -> None:
    """No part can end up in the place of another."""
    with pytest.raises(TypeError, match="positional"):
        record(*attrs.fields(record))


def test_every_setting_has_a_source() -> None:
    """Provenance covers the whole table, and can be asked by alias."""
    payload = trained(max_epochs=3)

    assert set(payload.provenance) == {info.key for info in TRAINING}
    assert payload.provenance["epochs"] is payload.provenance["nepochs"] is Layer.EXPLICIT
    with pytest.raises(KeyError):
        payload.provenance["spam"]


def test_defaults_of_a_run() -> None:
    """A run in which only the number of groups was said uses the documented defaults."""
    payload = trained()
    training = payload.tf_training_config

    assert (training.model.gridsize, training.neighbor_count, training.batch_size, training.nepochs) == (3, 10, 1, 50)
    assert (training.model.architecture, training.probe_trainable, training.backend) == ("unrolled", True, "pytorch")
    assert payload.pt_training_config.learning_rate == payload.execution_config.learning_rate == 2e-4
    assert payload.pt_training_config.validation_fraction == TorchTrainingConfig().validation_fraction == 0.1
    assert payload.execution_config.accelerator == "auto"
