"""From files and settings to payloads: reads the files' facts, resolves, and projects into the legacy parameters."""

from __future__ import annotations

import os
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho_adapters import legacy
from ptycho_adapters.scan_facts import read_probe_size, read_scan_facts
from ptycho_core.config.bridge import legacy_dict
from ptycho_core.config.canonical import InferenceConfig, TrainingConfig
from ptycho_core.config.payload import (
    ArchiveFacts,
    InferenceFacts,
    InferencePayload,
    TrainingPayload,
    resolve_inference,
    resolve_training,
)
from ptycho_core.config.payload_json import payload_from_json
from ptycho_core.errors import ArchiveError, ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ptycho_core.config.execution import PyTorchExecutionConfig

ARCHIVE_NAME = "wts.h5.zip"
CONFIG_NAME = "config.json"
_TRAIN = f"ptycho train --train-data-file SCAN --output-dir FOLDER --n-groups INTEGER writes {ARCHIVE_NAME} there"

StrPath = str | os.PathLike[str]


def create_training_payload(
    train_data_file: StrPath,
    output_dir: StrPath,
    overrides: Mapping[str, object] | None = None,
    execution_config: PyTorchExecutionConfig | None = None,
    *,
    cli: Mapping[str, object] | None = None,
    file: Mapping[str, object] | None = None,
) -> TrainingPayload:
    """Resolve a training on a scan file, create the output folder and fill the legacy parameters.

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
    scan = Path(train_data_file)
    if not scan.is_file():
        message = f"Training data file not found: {scan}"
        raise FileNotFoundError(message)
    folder = Path(output_dir)
    payload = resolve_training(read_scan_facts(scan), overrides, execution_config, cli, output_dir=folder, file=file)
    folder.mkdir(parents=True, exist_ok=True)
    populate_legacy_params(payload.tf_training_config, force=True)
    return payload


def create_inference_payload(  # noqa: PLR0913 - five of the legacy signature, two layers and a fact
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
    """Resolve a reconstruction of a scan file with a trained model; the archive's settings outrank the scan's facts.

    Args:
        model_path: a folder with ``wts.h5.zip``, or that file.
        test_data_file: the scan; only its headers are read.
        output_dir: folder for everything that is written.
        overrides: settings by key or alias; `n_groups` is required here or in a lower layer, or `all_patterns`.
        execution_config: how to use the machine; the fields passed to it outrank `cli`.
        cli: settings of a command line.
        file: settings of a configuration file.
        all_patterns: number of patterns of the scan, which is that of the groups where no layer says another.

    Raises:
        FileNotFoundError: there is no such model folder or scan.
        ArchiveError: the folder holds no archive, or the archive cannot be read.
        ScanFileError: the file is not a readable scan.
        ConfigError: settings are missing, unknown, not valid or cannot be honoured.

    Warns:
        UserWarning: the archive is an empty placeholder, so the scan's facts are used.
    """
    model, scan, folder = Path(model_path), Path(test_data_file), Path(output_dir)
    archive = find_archive(model)
    if not scan.is_file():
        message = f"Test data file not found: {scan}"
        raise FileNotFoundError(message)
    facts = InferenceFacts(
        scan=read_scan_facts(scan),
        archive=ArchiveFacts(path=model, training=read_archive_config(archive)),
        all_patterns=all_patterns,
    )
    payload = resolve_inference(facts, overrides, execution_config, cli, output_dir=folder, file=file)
    folder.mkdir(parents=True, exist_ok=True)
    populate_legacy_params(payload.tf_inference_config, force=True)
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


def find_archive(model_path: Path) -> Path:
    """Return the archive that a model path stands for.

    Raises:
        FileNotFoundError: the path does not exist.
        ArchiveError: it is a folder without an archive.
    """
    if not model_path.exists():
        message = f"Model directory not found: {model_path}"
        raise FileNotFoundError(message)
    archive = model_path / ARCHIVE_NAME if model_path.is_dir() else model_path
    if not archive.is_file():
        problem = Problem(path=ARCHIVE_NAME, expected="a model archive", found="none", fix=_TRAIN)
        raise ArchiveError(f"Model archive not found in {model_path}", [problem])
    return archive


def read_archive_config(archive: Path) -> TrainingPayload | None:
    """Return how an archive's model was trained; None, with a warning, for an empty placeholder.

    Raises:
        ArchiveError: the archive is not a zip file, has no configuration, or has one that cannot be read.
    """
    if archive.stat().st_size == 0:
        warnings.warn(f"{archive} is empty: taking the facts of the scan instead", UserWarning, stacklevel=3)
        return None
    try:
        with zipfile.ZipFile(archive) as stored:
            text = stored.read(CONFIG_NAME).decode()
        return payload_from_json(text)
    except KeyError as error:
        problem = Problem(path=CONFIG_NAME, expected="the model's configuration", found="no such member")
        raise ArchiveError(str(archive), [problem]) from error
    except ConfigError as error:
        raise ArchiveError(f"{archive} ({CONFIG_NAME})", error.problems) from error
    except (zipfile.BadZipFile, zlib.error, UnicodeDecodeError, EOFError, OSError, NotImplementedError) as error:
        problem = Problem(path="file", expected="a model archive", found=str(error))
        raise ArchiveError(str(archive), [problem]) from error
