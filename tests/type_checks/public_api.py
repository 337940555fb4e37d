"""What a type checker knows about the public names. Checked by mypy and pyright; never run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, assert_type

import attrs
import numpy as np
from numpy.typing import NDArray

import ptycho_adapters
from ptycho_adapters import legacy
from ptycho_adapters.archive_facts import read_archive_config
from ptycho_adapters.factory import (
    commit,
    create_inference_payload,
    create_training_payload,
    infer_probe_size,
    plan_inference,
    plan_training,
)
from ptycho_core import (
    KEY_MAPPINGS,
    DataConfig,
    InferenceConfig,
    InferencePayload,
    Layer,
    ModelConfig,
    PyTorchExecutionConfig,
    TorchInferenceConfig,
    TorchModelConfig,
    TorchTrainingConfig,
    TrainingConfig,
    TrainingPayload,
    from_inference_config,
    from_training_config,
    legacy_dict,
    resolve_training,
    to_inference_config,
    to_model_config,
    to_training_config,
)
from ptycho_core.config import evolve
from ptycho_core.config.overrides import Settings, Unset
from ptycho_core.config.payload_json import payload_from_json, payload_to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ptycho_adapters.torch_backend import TrainedModel
    from ptycho_core import Product, Scan
    from ptycho_core.config.bridge import LegacyValue
    from ptycho_core.config.payload import ScanFacts
    from ptycho_core.errors import ConfigError, Problem
    from ptycho_core.results.reconstruction import Reconstruction


def records_know_their_fields(model: ModelConfig, training: TrainingConfig, execution: PyTorchExecutionConfig) -> None:
    """Vocabularies are literals, open settings are optional, derived values are there."""
    assert_type(model.N, int)
    assert_type(model.model_type, Literal["pinn", "supervised"])
    assert_type(model.probe_mask_diameter, float | None)
    assert_type(model.C, int)
    assert_type(training.model, ModelConfig)
    assert_type(training.train_data_file, Path | None)
    assert_type(training.n_groups, int)
    assert_type(training.n_subsample, int | None)
    assert_type(execution.devices, int | Literal["auto"])
    assert_type(execution.deterministic, bool | Literal["warn"])
    assert_type(execution.explicit, frozenset[str])
    assert_type(DataConfig().grid_size, tuple[int, int])
    assert_type(TorchModelConfig().probe_mask_tensor, NDArray[np.float32] | None)


def records_are_checked_and_frozen(model: ModelConfig) -> None:
    """A wrong word, a wrong type, a positional field, a missing one, an unknown one and an assignment are all found."""
    ModelConfig(N="100")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ModelConfig(gridsize="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ModelConfig(64)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    TrainingConfig()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    InferenceConfig(model=model, model_path=Path())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    PyTorchExecutionConfig(learnig_rate=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    DataConfig(C=4)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    model.N = 128  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def changed_records_keep_their_type(data: DataConfig, execution: PyTorchExecutionConfig) -> None:
    """Both ways of changing a record give a record of the same kind."""
    assert_type(evolve(data, N=128), DataConfig)
    assert_type(evolve(execution, devices=2), PyTorchExecutionConfig)
    assert_type(attrs.evolve(data, N=128), DataConfig)


def the_bridge_has_two_ends(data: DataConfig, network: TorchModelConfig, loop: TorchTrainingConfig) -> None:
    """Each direction gives the other one's records."""
    model = assert_type(to_model_config(data, network, {"gridsize": 2}), ModelConfig)
    training = assert_type(to_training_config(model, data, network, loop), TrainingConfig)
    inference = assert_type(to_inference_config(model, data, TorchInferenceConfig(), {}), InferenceConfig)
    there = from_training_config(training)
    assert_type(there.data, DataConfig)
    assert_type(there.model, TorchModelConfig)
    assert_type(there.training, TorchTrainingConfig)
    assert_type(from_inference_config(inference).inference, TorchInferenceConfig)
    from_training_config(inference)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def legacy_parameters_are_plain(training: TrainingConfig, execution: PyTorchExecutionConfig) -> None:
    """The projection holds plain values; an execution record has none."""
    parameters = legacy_dict(training)
    held: dict[str, LegacyValue] = parameters
    assert_type(held["N"], bool | int | float | str | None)
    assert_type(KEY_MAPPINGS, Mapping[str, str])
    assert_type(legacy.cfg, dict[str, object])
    legacy.update_legacy_dict(legacy.cfg, training)
    legacy_dict(execution)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    legacy.update_legacy_dict(legacy.cfg, execution)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def payloads_hold_records(file: Path) -> None:
    """Factories and resolver give payloads whose parts have their own types."""
    payload = assert_type(create_training_payload(file, "out", {"n_groups": 8}), TrainingPayload)
    assert_type(payload.tf_training_config, TrainingConfig)
    assert_type(payload.pt_data_config, DataConfig)
    assert_type(payload.pt_inference_config, TorchInferenceConfig)
    assert_type(payload.execution_config, PyTorchExecutionConfig)
    assert_type(payload.overrides_applied, Mapping[str, object])
    assert_type(payload.provenance["n_groups"], Layer)
    other = assert_type(
        create_inference_payload("model", file, "out", None, PyTorchExecutionConfig()), InferencePayload
    )
    assert_type(other.tf_inference_config, InferenceConfig)
    commit(assert_type(plan_training(file, "out"), TrainingPayload))
    commit(assert_type(plan_inference(None, file, "out", all_patterns="as stored"), InferencePayload))
    assert_type(infer_probe_size("scan.npz"), int)
    assert_type(read_archive_config(file), TrainingPayload | None)
    assert_type(payload_from_json(payload_to_json(payload)), TrainingPayload)


def settings_are_open_or_unset(facts: ScanFacts, values: Settings[Layer]) -> None:
    """Values of a mapping may be anything, the resolver judges them; paths and folders may not."""
    assert_type(resolve_training(facts, {"n_groups": Unset}, output_dir=Path()), TrainingPayload)
    resolve_training(facts, output_dir="out")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    resolve_training(facts, ["n_groups"], output_dir=Path())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(values["nepochs"], Layer)
    _anything: Settings[object] = values


def errors_are_data(error: ConfigError) -> None:
    """Problems are records in a stable order."""
    problems: Sequence[Problem] = assert_type(error.problems, "tuple[Problem, ...]")
    assert_type(problems[0].path, str)


def the_adapters_offer_typed_names(file: Path, trained: TrainedModel) -> None:
    """What loads on demand has the types of its home, and no other name passes for one."""
    scan = assert_type(ptycho_adapters.read_scan(file), "Scan")
    ptycho_adapters.write_scan(scan, file)
    payload = assert_type(ptycho_adapters.create_training_payload(file, "out", {"n_groups": 8}), TrainingPayload)
    assert_type(ptycho_adapters.create_inference_payload("model", file, "out"), InferencePayload)
    model = assert_type(ptycho_adapters.train(payload, [scan], validation=scan), "TrainedModel")
    assert_type(ptycho_adapters.generalist_for(scan), "TrainedModel")
    assert_type(ptycho_adapters.save_archive(trained, "model"), Path)
    assert_type(ptycho_adapters.load_archive("model"), "TrainedModel")
    result = assert_type(ptycho_adapters.reconstruct(model, scan), "Reconstruction")
    ptycho_adapters.write_product(result, "object.h5", metadata=scan.metadata)
    ptycho_adapters.retrain(payload, scan)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def results_can_be_written(product: Product, result: Reconstruction, scan: Scan) -> None:
    """A product has its own metadata, a reconstruction takes those of its scan; nothing else is a result."""
    ptycho_adapters.write_product(product, "object.h5")
    ptycho_adapters.write_product(result, Path("object.h5"))
    assert_type(ptycho_adapters.read_product("object.h5"), "Product")
    ptycho_adapters.write_product(product, "object.h5", metadata=scan.metadata)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    ptycho_adapters.write_product(scan, "object.h5")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
