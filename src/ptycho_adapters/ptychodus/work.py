"""What the client's libraries ask for, done: a model loaded, trained, saved, and a scan reconstructed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.ptychodus.backend import Backend, module_of
from ptycho_adapters.ptychodus.models import ClientModel, as_archive, asks_for_a_refined_probe, stored_backend
from ptycho_core.config.execution import PyTorchExecutionConfig
from ptycho_core.config.payload import ScanFacts, TrainingPayload, resolve_training
from ptycho_core.config.record import evolve
from ptycho_core.config.torch_side import TorchInferenceConfig

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping, Sequence

    from lightning import Callback

    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction

_AS_GIVEN = TorchInferenceConfig(
    probe_rounds=0,
    position_refinement="none",
    orientation_search="never",
    probe_search="never",
    flux_search="never",
    blur_search="never",
)


def load_model(path: Path, log: logging.Logger, *, shipped: Backend = Backend.PYTORCH) -> ClientModel:
    """Read a model in any layout of the client.

    Args:
        path: a file or folder; see `as_archive`.
        log: where it is said what was loaded.
        shipped: who runs the weights in the package, unless the probe is to be refined for them; a stored model goes
            to the backend that wrote it.

    Raises:
        FileNotFoundError: there is no such model.
        ArchiveError: it is damaged, or no model.
        DependencyError: the framework of its backend is not installed.
    """
    with as_archive(path) as archive:
        backend = stored_backend(archive)
        if backend is None:
            log.info("%s stands for the weights in the package, which no scan of yours has trained", path)
            refines = asks_for_a_refined_probe(archive)
            # The TensorFlow backend takes every probe as it is.
            home = Backend.PYTORCH if refines else shipped
            name = "the weights in the package"
            return ClientModel(name=name, payload=None, backend=home, trained=None, refines_probe=refines)
        trained = module_of(backend).load_archive(archive)
    # Every backend's model knows how it was trained.
    payload: TrainingPayload = getattr(trained, "payload")  # noqa: B009 - it is of the backend's own kind
    log.info("loaded %s, a model of the %s backend", path, backend)
    return ClientModel(name=str(path), payload=payload, backend=backend, trained=trained)


def training_payload(path: Path, scan: Scan, settings: Mapping[str, object], backend: Backend) -> TrainingPayload:
    """Resolve a training on a scan of the client, which sees each pattern about once in an epoch.

    Args:
        path: the file that the scan was read from.
        scan: to train on.
        settings: by canonical name.
        backend: who trains.

    Raises:
        ConfigError: settings are not valid, cannot be honoured or do not fit the scan; all at once.
    """
    facts = ScanFacts(path=path, N=scan.N, n_patterns=scan.n_patterns, nphotons=scan.metadata.nphotons)
    own = {} if backend is Backend.PYTORCH else {"backend": str(backend)}
    together = {"n_groups": -(-scan.n_patterns // _patterns_of_a_group(settings))}
    return resolve_training(facts, together | dict(settings) | own, output_dir=Path())


def _patterns_of_a_group(settings: Mapping[str, object]) -> int:
    side = settings.get("gridsize")
    # What is no grid size is refused, with everything else, when the settings are resolved.
    return side**2 if isinstance(side, int) and side > 0 else 1


def train_model(
    payload: TrainingPayload,
    scans: Sequence[Scan],
    *,
    validation: Scan | None,
    backend: Backend,
    log: logging.Logger,
    callbacks: Sequence[Callback] = (),
) -> ClientModel:
    """Train; checkpoints go into a folder of the system's, which is removed.

    Args:
        payload: from `training_payload`; its output folder is not used.
        scans: to train on.
        validation: another scan to validate on; by default a region of each is held out.
        backend: who trains.
        log: where progress is said.
        callbacks: of Lightning, for the torch backend.

    Raises:
        PtychoError: the scans cannot be trained on as asked.
    """
    number = sum(scan.n_patterns for scan in scans)
    log.info("training on %d patterns of %d px with the %s backend", number, scans[0].N, backend)
    settings = payload.pt_training_config
    log.info("%d epochs, learning rate %g, %s", settings.epochs, settings.learning_rate, settings.scheduler)
    with tempfile.TemporaryDirectory(prefix="ptycho-core-training-") as scratch:
        own = _writing_to(payload, Path(scratch))
        trained: object
        if backend is Backend.PYTORCH:
            from ptycho_adapters.ptychodus.epoch_log import EpochLog  # noqa: PLC0415 - Lightning takes seconds
            from ptycho_adapters.torch_backend import train  # noqa: PLC0415 - as the last one

            found = train(own, scans, validation=validation, callbacks=(EpochLog(log), *callbacks))
            trained = attrs.evolve(found, payload=payload)
        else:
            # The client's PtychoPINN library, the only one that TensorFlow runs for, trains on one scan.
            (scan,) = scans
            trained = module_of(backend).train(own, scan, validation=validation)
    return ClientModel(name="the model just trained", payload=payload, backend=backend, trained=trained)


def save_model(model: ClientModel, path: Path) -> Path:
    """Write a trained model atomically; the folder is made.

    Args:
        model: from `train_model`.
        path: the file, ending in `.zip` or `.ckpt`, or a folder that gets `wts.h5.zip`.
    """
    return module_of(model.backend).save_archive(model.trained, path)


def reconstruct_scan(model: ClientModel, scan: Scan, log: logging.Logger, *, refine: bool = False) -> Reconstruction:
    """Reconstruct every pattern of a scan, by default under the client's probe and at its positions, which it keeps.

    Only a model that was trained with a probe to be trained brings its own, where that explains the scan better, and
    only one that asks for it has the probe refined for its answer.

    Args:
        model: from `load_model` or `train_model`.
        scan: from `scan_of_arrays`.
        log: where it is said what was done.
        refine: refine probe and positions first, where the model has no refined probe; its caller hands them on.

    Raises:
        PtychoError: model and scan do not fit, or do not fit into memory.
    """
    backend = module_of(model.backend)
    trained = backend.generalist_for(scan) if model.trained is None else model.trained
    log.info("reconstructing %d patterns with %s, %s backend", scan.n_patterns, model.name, model.backend)
    result = backend.reconstruct(
        trained,
        scan,
        execution_config=PyTorchExecutionConfig(enable_progress_bar=False),
        inference_config=_inference(model, refine=refine),
    )
    said = ", ".join(f"{name} {value:.4g}" for name, value in result.metrics.items())
    log.info("reconstructed in %.1f s: %s", sum(result.seconds.values()), said)
    if result.probe_source == "model" and not refine:
        log.warning("the model's refined probe explains the scan better than the product's, which the client keeps")
    if model.refines_probe and not refine:
        log.info("the probe was refined for this object; the product keeps the one that it has")
    for finding in result.findings:
        log.warning("%s", finding.text)
    return result


def _inference(model: ClientModel, *, refine: bool) -> TorchInferenceConfig:
    if refine:
        # The client's object has its orientation.
        return TorchInferenceConfig(orientation_search="never")
    if model.refines_probe:
        return TorchInferenceConfig(orientation_search="never", position_refinement="none")
    return evolve(_AS_GIVEN, probe_source="scan" if model.keeps_probe else "auto")


def _writing_to(payload: TrainingPayload, folder: Path) -> TrainingPayload:
    return attrs.evolve(
        payload,
        tf_training_config=evolve(payload.tf_training_config, output_dir=folder),
        pt_training_config=evolve(payload.pt_training_config, output_dir=folder),
        pt_inference_config=evolve(payload.pt_inference_config, output_dir=folder),
    )
