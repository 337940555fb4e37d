"""Payloads: everything a run needs to know, resolved once from facts and layers of settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import attrs
import numpy as np

from ptycho_core.callers import warn_caller
from ptycho_core.config.backend_limits import beyond_backend, for_backend
from ptycho_core.config.bridge import disagreements, settings_of
from ptycho_core.config.canonical import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_core.config.execution import PyTorchExecutionConfig
from ptycho_core.config.frame_sides import side_problems
from ptycho_core.config.overrides import Layer, Resolution, Settings, Unset, merge, says
from ptycho_core.config.record import Record, remember
from ptycho_core.config.small_scan import for_few_patterns
from ptycho_core.config.table import CANONICAL, INFERENCE, OF_ARCHIVE, TRAINING, FieldInfo, Table, spell
from ptycho_core.config.torch_side import DataConfig, TorchInferenceConfig, TorchModelConfig, TorchTrainingConfig
from ptycho_core.config.types import describe, shown
from ptycho_core.errors import ConfigError, Problem, raise_if_any

R = TypeVar("R", bound=Record)


@attrs.frozen(kw_only=True)
class ScanFacts:
    """What a scan file says about itself.

    Attributes:
        path: the file.
        N: side of a pattern [px].
        n_patterns: number of patterns.
        nphotons: photons per pattern; None if the file does not say.
    """

    path: Path
    N: int
    n_patterns: int | None = None
    nphotons: float | None = None

    def layer(self) -> dict[str, object]:
        """Return the facts that are settings."""
        known = {"N": self.N, "nphotons": self.nphotons}
        return {key: value for key, value in known.items() if value is not None}


@attrs.frozen(kw_only=True)
class TrainingPayload:
    """Everything a training needs. All records agree on every setting that they share.

    Raises:
        ConfigError: they do not.
    """

    tf_training_config: TrainingConfig
    pt_data_config: DataConfig
    pt_model_config: TorchModelConfig
    pt_training_config: TorchTrainingConfig
    pt_inference_config: TorchInferenceConfig
    execution_config: PyTorchExecutionConfig
    overrides_applied: Mapping[str, object] = attrs.field(eq=False)
    provenance: Mapping[str, Layer]

    def __attrs_post_init__(self) -> None:
        raise_if_any(ConfigError, "training payload", disagreements(*self.records))

    @property
    def records(self) -> tuple[Record, ...]:
        """The records, canonical ones first."""
        torch_side = (self.pt_data_config, self.pt_model_config, self.pt_training_config, self.pt_inference_config)
        return (self.tf_training_config.model, self.tf_training_config, *torch_side, self.execution_config)


@attrs.frozen(kw_only=True)
class InferencePayload:
    """Everything a reconstruction needs. All records agree on every setting that they share.

    Raises:
        ConfigError: they do not.
    """

    tf_inference_config: InferenceConfig
    pt_data_config: DataConfig
    pt_model_config: TorchModelConfig
    pt_inference_config: TorchInferenceConfig
    execution_config: PyTorchExecutionConfig
    overrides_applied: Mapping[str, object] = attrs.field(eq=False)
    provenance: Mapping[str, Layer]

    def __attrs_post_init__(self) -> None:
        raise_if_any(ConfigError, "inference payload", disagreements(*self.records))

    @property
    def records(self) -> tuple[Record, ...]:
        """The records, canonical ones first."""
        torch_side = (self.pt_data_config, self.pt_model_config, self.pt_inference_config)
        return (self.tf_inference_config.model, self.tf_inference_config, *torch_side, self.execution_config)


@attrs.frozen(kw_only=True)
class ArchiveFacts:
    """What a model archive says about itself.

    Attributes:
        path: the archive, or the folder that holds it.
        training: how the model was trained; None for an empty placeholder.
        shipped: whether they are the package's own weights, which a run takes where nobody names a model.
    """

    path: Path
    training: TrainingPayload | None = None
    shipped: bool = False

    def layer(self) -> dict[str, object]:
        """Return the settings that belong to the model rather than to the run that made it."""
        if self.training is None:
            return {}
        known = settings_of(*self.training.records)
        # A dose that nobody stated is no fact. Probes that were learned with the beam where it is hold that as a slope.
        own = OF_ARCHIVE - {"nphotons"} if self.training.provenance["nphotons"].default else OF_ARCHIVE
        return {k: v for k, v in known.items() if k in own or (k == "beam_search" and not v)}


@attrs.frozen(kw_only=True)
class InferenceFacts:
    """What the files of a reconstruction say about themselves.

    Attributes:
        scan: the scan.
        archive: the model.
        all_patterns: number of patterns of the scan, for a run that takes all of them unless somebody asks for a
            number of groups; None for one in which somebody has to.
    """

    scan: ScanFacts
    archive: ArchiveFacts
    all_patterns: int | None = None

    def scan_layer(self) -> dict[str, object]:
        """Return the facts of the scan that are settings of a reconstruction."""
        groups = {} if self.all_patterns is None else {"n_groups": self.all_patterns}
        return {**self.scan.layer(), **groups}


def resolve_training(
    facts: ScanFacts,
    overrides: Mapping[str, object] | None = None,
    execution: PyTorchExecutionConfig | None = None,
    cli: Mapping[str, object] | None = None,
    *,
    output_dir: Path,
    file: Mapping[str, object] | None = None,
) -> TrainingPayload:
    """Resolve the settings of a training. Pure: equal arguments give equal payloads and nothing is changed.

    Args:
        facts: what the scan to train on says about itself.
        overrides: explicit settings, by key or alias; they outrank everything else.
        execution: execution record; the fields that were passed to it outrank the command line.
        cli: settings of the command line.
        output_dir: folder for everything that is written.
        file: settings of a configuration file; the command line outranks them.

    Raises:
        ConfigError: `n_groups` is missing, a name is unknown, a value is not valid, cannot be honoured or asks for
            something that only a reconstruction does; all at once.
    """
    arguments = {"train_data_file": facts.path, "output_dir": output_dir}
    layers = _layers(overrides, execution, cli, file) | {Layer.SCAN: facts.layer()}
    resolution = for_few_patterns(_resolve(layers, arguments, TRAINING, {}), facts.n_patterns)
    values = resolution.values
    model = _make(ModelConfig, values)
    return TrainingPayload(
        tf_training_config=_make(TrainingConfig, values, model=model),
        pt_data_config=_make(DataConfig, values),
        pt_model_config=_make(TorchModelConfig, values),
        pt_training_config=_make(TorchTrainingConfig, values),
        pt_inference_config=_make(TorchInferenceConfig, values),
        execution_config=_execution(values, execution),
        overrides_applied=_applied(resolution, arguments, layers[Layer.EXPLICIT], TRAINING),
        provenance=resolution.provenance,
    )


def resolve_inference(  # noqa: PLR0913 - five layers and two facts
    facts: InferenceFacts,
    overrides: Mapping[str, object] | None = None,
    execution: PyTorchExecutionConfig | None = None,
    cli: Mapping[str, object] | None = None,
    *,
    output_dir: Path,
    file: Mapping[str, object] | None = None,
    command: Mapping[str, object] | None = None,
) -> InferencePayload:
    """Resolve the settings of a reconstruction; the archive's facts outrank those of the scan. Otherwise as training.

    A command may bring defaults of its own, `command`; everything that a person or a file says outranks them.

    Raises:
        ConfigError: as for a training; also where a setting contradicts what the archive says about the model.

    Warns:
        UserWarning: `num_workers` is set, and there is nothing to load.
    """
    arguments = {
        "model_path": facts.archive.path,
        "test_data_file": facts.scan.path,
        "output_dir": output_dir,
    }
    archived = facts.archive.layer()
    found = {Layer.ARCHIVE: archived, Layer.SCAN: facts.scan_layer(), Layer.COMMAND: command or {}}
    layers = _layers(overrides, execution, cli, file) | found
    resolution = _resolve(layers, arguments, INFERENCE, archived)
    if facts.archive.shipped:
        sources = {**resolution.provenance, "model_path": Layer.TORCH_DEFAULT}
        resolution = attrs.evolve(resolution, provenance=Settings(INFERENCE, sources))
    values = resolution.values
    model = _make(ModelConfig, values)
    return InferencePayload(
        tf_inference_config=_make(InferenceConfig, values, model=model),
        pt_data_config=_make(DataConfig, values),
        pt_model_config=_make(TorchModelConfig, values),
        pt_inference_config=_make(TorchInferenceConfig, values),
        execution_config=_execution(values, execution),
        overrides_applied=_applied(resolution, arguments, layers[Layer.EXPLICIT], INFERENCE),
        provenance=resolution.provenance,
    )


def refusals(resolution: Resolution, table: Table) -> list[Problem]:
    """Return the settings whose value no run of the table's kind can honour, with the reason."""
    problems = []
    for info in table:
        value, layer = resolution.values[info.key], resolution.provenance[info.key]
        path = f"{layer}.{info.key}"
        if not info.honours(value, resolution.values["architecture"]):
            allowed = " or ".join([*map(repr, info.honoured), *map(describe, info.knob.kinds)])
            fix = f"no run can honour this: {info.why_not(resolution.values['architecture'])}"
            problems.append(Problem(path=path, expected=allowed, found=shown(value), fix=fix))
        # What describes a model is held against its archive instead.
        elif layer.chosen and info.key not in OF_ARCHIVE and not info.knob.unread and _asks_in_vain(info, value, table):
            fix = f"{info.key} belongs to a {info.phase}, a {table.phase} does not read it: leave it out"
            expected = f"{info.default!r}, the default"
            problems.append(Problem(path=path, expected=expected, found=shown(value), fix=fix))
    return [*problems, *beyond_backend(resolution, table)]


def _asks_in_vain(info: FieldInfo, value: object, table: Table) -> bool:
    """Tell whether a value asks for something that only the other kind of run does."""
    return not table.reads(info) and value not in (info.default, *info.knob.idle)


def _layers(
    overrides: Mapping[str, object] | None,
    execution: PyTorchExecutionConfig | None,
    cli: Mapping[str, object] | None,
    file: Mapping[str, object] | None,
) -> dict[Layer, Mapping[str, object]]:
    return {
        Layer.EXPLICIT: overrides or {},
        Layer.EXECUTION: {} if execution is None else {name: getattr(execution, name) for name in execution.explicit},
        Layer.CLI: cli or {},
        Layer.FILE: file or {},
    }


def _resolve(
    layers: dict[Layer, Mapping[str, object]],
    arguments: Mapping[str, object],
    table: Table,
    archived: Mapping[str, object],
) -> Resolution:
    """Merge the layers under the caller's arguments and raise everything that is wrong at once."""
    problems = _said_twice(layers[Layer.EXPLICIT], arguments, table)
    resolution = merge(layers | {Layer.EXPLICIT: {**layers[Layer.EXPLICIT], **arguments}}, table, problems)
    resolution = for_backend(_with_mask(_with_speakers(resolution, arguments, layers, table), table, problems), table)
    problems += _missing(resolution, layers, table) + refusals(resolution, table)
    problems += _foreign(resolution, archived, table) + _contradictions(resolution, table)
    raise_if_any(ConfigError, "settings", problems)
    _warn_of_unread(resolution, table)
    return resolution


def _with_speakers(
    resolution: Resolution,
    arguments: Mapping[str, object],
    layers: Mapping[Layer, Mapping[str, object]],
    table: Table,
) -> Resolution:
    """Return the resolution with the layer that named an argument as its source, where the caller passes it on."""
    sources = dict(resolution.provenance)
    for key, value in arguments.items():
        # From the lowest up, so that the highest one that says the same is the source.
        for layer in (Layer.FILE, Layer.CLI, Layer.EXPLICIT):
            if any(table.key(name) == key and _means(name, said, value, table) for name, said in layers[layer].items()):
                sources[key] = layer
    return attrs.evolve(resolution, provenance=Settings(table, sources))


def _means(name: str, said: object, value: object, table: Table) -> bool:
    return said is not Unset and _equal(table.translate(name, said, name)[0], value)


def _said_twice(overrides: Mapping[str, object], arguments: Mapping[str, object], table: Table) -> list[Problem]:
    """Return the overrides that contradict an argument of the call."""
    return [
        Problem(path=f"{Layer.EXPLICIT}.{name}", expected=f"the same as the argument, {value}", found=shown(given))
        for name, value in arguments.items()
        if (given := overrides.get(name, Unset)) is not Unset
        and not _equal(table.translate(name, given, name)[0], value)
    ]


def _with_mask(resolution: Resolution, table: Table, problems: list[Problem]) -> Resolution:
    """Return the resolution with the switch that a given probe mask implies."""
    layer = resolution.provenance["probe_mask_tensor"]
    switch = resolution.provenance["probe_mask"]
    if resolution.values["probe_mask_tensor"] is None or resolution.values["probe_mask"] is True:
        return resolution
    if not switch.default:
        path = f"{switch}.probe_mask"
        problems.append(Problem(path=path, expected="true beside a probe_mask_tensor", found="False", fix="drop one"))
    return Resolution(
        values=Settings(table, {**resolution.values, "probe_mask": True}),
        provenance=Settings(table, {**resolution.provenance, "probe_mask": layer}),
    )


def _missing(resolution: Resolution, layers: Mapping[Layer, Mapping[str, object]], table: Table) -> list[Problem]:
    """Return the lack of a number of groups; one that was said and is not valid is a problem already."""
    if not resolution.provenance["n_groups"].default or any(says(said, "n_groups", table) for said in layers.values()):
        return []
    fix = "n_groups is required in overrides, such as n_groups=512"
    return [Problem(path="n_groups", expected="a number of groups", found="none", fix=fix)]


def _foreign(resolution: Resolution, archived: Mapping[str, object], table: Table) -> list[Problem]:
    """Return the settings that describe another model than the archive's."""
    problems = []
    for key, value in archived.items():
        info, chosen = table[key], resolution.values[key]
        if (info.knob.in_weights or not table.reads(info)) and not _equal(chosen, value):
            path, expected = f"{resolution.provenance[key]}.{key}", f"{shown(value)}, as the archive"
            fix = "the model was trained with it: leave it out"
            problems.append(Problem(path=path, expected=expected, found=shown(chosen), fix=fix))
    return problems


def _equal(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return type(one) is type(other) and one == other


def _warn_of_unread(resolution: Resolution, table: Table) -> None:
    for info in table:
        if info.knob.unread and _asks_in_vain(info, resolution.values[info.key], table):
            warn_caller(f"{info.key} has no effect on a {table.phase}: {info.knob.unread}", UserWarning)


def _contradictions(resolution: Resolution, table: Table) -> list[Problem]:
    """Return what is wrong between settings that are right by themselves."""
    problems: list[Problem] = []
    for record in table.records:
        if record not in CANONICAL:
            try:
                _make(record, resolution.values)
            except ConfigError as error:
                problems += [attrs.evolve(found, path=f"{error.subject}.{found.path}") for found in error.problems]
    mask, side = resolution.values["probe_mask_tensor"], resolution.values["N"]
    architecture, source = resolution.values["architecture"], resolution.provenance["N"]
    if isinstance(side, int) and isinstance(architecture, str):
        problems += [attrs.evolve(found, path=f"{source}.N") for found in side_problems(architecture, side)]
    if isinstance(mask, np.ndarray) and mask.shape != (side, side):
        problems.append(Problem(path="probe_mask_tensor", expected=f"shape ({side}, {side})", found=str(mask.shape)))
    return problems


def _make(record: type[R], values: Mapping[str, object], **nested: Record) -> R:
    return record(**spell(record, values), **nested)


def _execution(values: Mapping[str, object], given: PyTorchExecutionConfig | None) -> PyTorchExecutionConfig:
    """Return the effective execution record, which still knows what was passed to the given one."""
    effective = _make(PyTorchExecutionConfig, values)
    remember(effective, frozenset() if given is None else given.explicit)
    return effective


def _applied(
    resolution: Resolution, arguments: Mapping[str, object], explicit: Mapping[str, object], table: Table
) -> Settings[object]:
    """Return what somebody chose; the call's own arguments are no overrides unless they are repeated as such."""
    hidden = {name for name in arguments if explicit.get(name, Unset) is Unset}
    chosen = resolution.overrides_applied
    return Settings(table, {key: value for key, value in chosen.items() if key not in hidden})
