"""From files and settings to payloads: a plan, which writes nothing, and a commitment to it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping  # noqa: TC003 - signatures are read at run time too
from pathlib import Path
from typing import Literal

import attrs

from ptycho_adapters import legacy
from ptycho_adapters.archive_facts import find_archive, read_archive_config
from ptycho_adapters.scan_facts import read_probe_size, read_scan_facts
from ptycho_adapters.shipped_weights import generalist_payload, weights_path
from ptycho_core.config.bridge import legacy_dict
from ptycho_core.config.canonical import InferenceConfig, TrainingConfig
from ptycho_core.config.execution import PyTorchExecutionConfig  # noqa: TC001 - signatures are read at run time too
from ptycho_core.config.overrides import Layer
from ptycho_core.config.package_generator import PackageGenerator
from ptycho_core.config.payload import (
    ArchiveFacts,
    InferenceFacts,
    InferencePayload,
    TrainingPayload,
    resolve_inference,
    resolve_training,
)
from ptycho_core.config.record import evolve
from ptycho_core.errors import ArchiveError, ConfigError

StrPath = str | os.PathLike[str]


def plan_training(
    train_data_file: StrPath,
    output_dir: StrPath,
    overrides: Mapping[str, object] | None = None,
    execution_config: PyTorchExecutionConfig | None = None,
    *,
    cli: Mapping[str, object] | None = None,
    file: Mapping[str, object] | None = None,
) -> TrainingPayload:
    """Resolve a training on a scan file. Nothing is written and no pattern is read.

    Args:
        train_data_file: the scan; only its headers are read.
        output_dir: folder for everything that is written.
        overrides: settings by key or alias; `n_groups` is required here or in a lower layer.
        execution_config: how to use the machine; the fields passed to it outrank `cli`.
        cli: settings of a command line.
        file: settings of a configuration file.

    Raises:
        FileNotFoundError: there is no such scan.
        ScanFileError: the file is not a readable scan.
        ConfigError: settings are missing, unknown, not valid or cannot be honoured.
    """
    facts = read_scan_facts(_scan_file(train_data_file, "Training data"))
    payload = resolve_training(facts, overrides, execution_config, cli, output_dir=Path(output_dir), file=file)
    _look_for_generator(payload)
    return payload


def plan_inference(  # noqa: PLR0913 - five of the legacy signature, three layers and a fact
    model_path: StrPath | None,
    test_data_file: StrPath,
    output_dir: StrPath,
    overrides: Mapping[str, object] | None = None,
    execution_config: PyTorchExecutionConfig | None = None,
    *,
    cli: Mapping[str, object] | None = None,
    file: Mapping[str, object] | None = None,
    all_patterns: int | Literal["as stored"] | None = None,
    command: Mapping[str, object] | None = None,
) -> InferencePayload:
    """Resolve a reconstruction of a scan file; the model's settings outrank the scan's facts. Nothing is written.

    Args:
        model_path: a folder with ``wts.h5.zip``, or that file; None for the weights in the package.
        test_data_file: the scan; only its headers are read.
        output_dir: folder for everything that is written.
        overrides: settings by key or alias; `n_groups` is required here or in a lower layer, or `all_patterns`.
        execution_config: how to use the machine; the fields passed to it outrank `cli`.
        cli: settings of a command line.
        file: settings of a configuration file.
        all_patterns: number of patterns of the scan, which is that of the groups where no layer says another; "as
            stored" takes what the file's header says until `with_all_patterns` knows better.
        command: a command's own defaults, which everything that was said outranks.

    Raises:
        FileNotFoundError: there is no such model folder or scan.
        ArchiveError: the folder holds no archive, or the archive cannot be read.
        ScanFileError: the file is not a readable scan.
        ConfigError: settings are missing, unknown, not valid or cannot be honoured.

    Warns:
        UserWarning: the archive is an empty placeholder, so the scan's facts are used.
    """
    model = None if model_path is None else Path(model_path)
    archive = None if model is None else find_archive(model)
    scan = read_scan_facts(_scan_file(test_data_file, "Test data"))
    if model is None or archive is None:
        # The package's own weights take patterns of any size.
        known = ArchiveFacts(path=weights_path(), training=generalist_payload(scan.N), shipped=True)
    else:
        known = ArchiveFacts(path=model, training=read_archive_config(archive))
    counted = (scan.n_patterns or 1) if all_patterns == "as stored" else all_patterns
    facts = InferenceFacts(scan=scan, archive=known, all_patterns=counted)
    payload = resolve_inference(
        facts, overrides, execution_config, cli, output_dir=Path(output_dir), file=file, command=command
    )
    try:
        _look_for_generator(payload)
    except ConfigError as error:
        raise ArchiveError(str(archive), error.problems) from error
    return payload


def with_all_patterns(payload: InferencePayload, n_patterns: int) -> InferencePayload:
    """Return a plan for as many patterns as a scan turned out to hold, unless somebody asked for a number of groups."""
    if payload.provenance["n_groups"] is not Layer.SCAN:
        return payload
    return attrs.evolve(
        payload,
        tf_inference_config=evolve(payload.tf_inference_config, n_groups=n_patterns),
        pt_inference_config=evolve(payload.pt_inference_config, n_groups=n_patterns),
    )


def commit(payload: TrainingPayload | InferencePayload) -> None:
    """Begin what was planned: create the output folder and fill the legacy parameters.

    Raises:
        OSError: the folder cannot be made; the parameters are as they were.
    """
    config = payload.tf_training_config if isinstance(payload, TrainingPayload) else payload.tf_inference_config
    config.output_dir.mkdir(parents=True, exist_ok=True)
    populate_legacy_params(config, force=True)


def create_training_payload(
    train_data_file: StrPath,
    output_dir: StrPath,
    overrides: Mapping[str, object] | None = None,
    execution_config: PyTorchExecutionConfig | None = None,
    *,
    cli: Mapping[str, object] | None = None,
    file: Mapping[str, object] | None = None,
) -> TrainingPayload:
    """Plan a training on a scan file as `plan_training` does, and commit to it.

    Raises:
        FileNotFoundError: there is no such scan.
        ScanFileError: the file is not a readable scan.
        ConfigError: settings are missing, unknown, not valid or cannot be honoured.
    """
    payload = plan_training(train_data_file, output_dir, overrides, execution_config, cli=cli, file=file)
    commit(payload)
    return payload


def create_inference_payload(  # noqa: PLR0913 - as the plan
    model_path: StrPath,
    test_data_file: StrPath,
    output_dir: StrPath,
    overrides: Mapping[str, object] | None = None,
    execution_config: PyTorchExecutionConfig | None = None,
    *,
    cli: Mapping[str, object] | None = None,
    file: Mapping[str, object] | None = None,
    all_patterns: int | None = None,
) -> InferencePayload:
    """Plan a reconstruction of a scan file as `plan_inference` does, and commit to it.

    Raises:
        FileNotFoundError: there is no such model folder or scan.
        ArchiveError: the folder holds no archive, or the archive cannot be read.
        ScanFileError: the file is not a readable scan.
        ConfigError: settings are missing, unknown, not valid or cannot be honoured.

    Warns:
        UserWarning: the archive is an empty placeholder, so the scan's facts are used.
    """
    payload = plan_inference(
        model_path,
        test_data_file,
        output_dir,
        overrides,
        execution_config,
        cli=cli,
        file=file,
        all_patterns=all_patterns,
    )
    commit(payload)
    return payload


def infer_probe_size(data_file: StrPath) -> int:
    """Return the side [px] of a scan file's probe.

    Raises:
        ScanFileError: the file is there but cannot be read as a scan with a square probe.

    Warns:
        UserWarning: there is no such file; the answer is then 64, the smallest size.
    """
    path = Path(data_file)
    if not path.exists():
        warnings.warn(f"{path} not found: taking a probe of 64 px", UserWarning, stacklevel=2)
        return 64
    return read_probe_size(path)


def populate_legacy_params(config: TrainingConfig | InferenceConfig, force: bool = False) -> None:  # noqa: FBT001, FBT002
    """Fill the legacy parameters from a canonical record.

    Args:
        config: canonical training or reconstruction.
        force: overwrite what another record left there without a warning.

    Raises:
        TypeError: `config` is of another kind.

    Warns:
        UserWarning: the parameters hold values of another record, which are overwritten.
    """
    given: object = config
    if not isinstance(given, TrainingConfig | InferenceConfig):
        message = f"expected a canonical TrainingConfig or InferenceConfig, found {type(given).__name__}"
        raise TypeError(message)
    untouched = not legacy.cfg or legacy.cfg == legacy.DEFAULTS
    if not force and not untouched and any(legacy.cfg.get(k) != v for k, v in legacy_dict(config).items()):
        warnings.warn("the legacy parameters are already populated and are overwritten", UserWarning, stacklevel=2)
    legacy.update_legacy_dict(legacy.cfg, config)


def _look_for_generator(payload: TrainingPayload | InferencePayload) -> None:
    """Refuse a generator of a package that is not there; nothing is imported for one of ours."""
    architecture = payload.pt_model_config.architecture
    if isinstance(architecture, PackageGenerator):
        from ptycho_adapters.torch_backend.generators import find_generator  # noqa: PLC0415 - torch takes seconds

        find_generator(architecture)


def _scan_file(path: StrPath, what: str) -> Path:
    scan = Path(path)
    if not scan.exists():
        message = f"{what} file not found: {scan}"
        raise FileNotFoundError(message)
    return scan
