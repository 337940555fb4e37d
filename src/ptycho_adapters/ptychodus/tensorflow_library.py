"""What the client's PtychoPINN library imports from `ptycho`, under the names that it expects.

The client strings ten calls together and looks at almost nothing that they return. So the scan goes through them as one
value: a group holds all of it, every position is reconstructed whatever number of samples is asked for, and the canvas
is the object that the client gave.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from ptycho_adapters import legacy
from ptycho_adapters.ptychodus import tensorflow_configs as configs
from ptycho_adapters.ptychodus.backend import Backend, tensorflow_or_torch
from ptycho_adapters.ptychodus.client_logs import TENSORFLOW_LIBRARY, said_to
from ptycho_adapters.ptychodus.mapping import on_canvas, positions_yx, scan_of_arrays, smallest_canvas, with_room
from ptycho_adapters.ptychodus.models import ClientModel
from ptycho_adapters.ptychodus.settings import as_tensorflow_takes_them, tensorflow_settings
from ptycho_adapters.ptychodus.work import load_model, reconstruct_scan, save_model, train_model, training_payload
from ptycho_core.config.canonical import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_core.errors import ConfigError, Problem, ScanError
from ptycho_core.measurement.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from ptycho_core.results.reconstruction import Reconstruction

INTENSITY_SCALE: Final = 1.0
"""The probe carries the flux, so nothing is scaled on the way."""


@attrs.frozen(kw_only=True, eq=False)
class RawData:
    """A scan on its way through the client's calls.

    Attributes:
        path: the file that it was read from, if any.
        scan: in the pixels of the client's object.
        canvas_shape: rows and columns of that object.
    """

    path: Path = Path()
    scan: Scan
    canvas_shape: tuple[int, int]

    @classmethod
    def from_file(cls, path: Path) -> RawData:
        """Read training data that the client exported.

        Raises:
            FileNotFoundError: there is no such file.
            ScanFileError: it is no scan.
        """
        from ptycho_adapters.files import read_scan  # noqa: PLC0415 - a reconstruction reads none

        with said_to(TENSORFLOW_LIBRARY):
            scan = read_scan(path)
        known = scan.object
        shape = smallest_canvas(scan.positions_px) if known is None else (known.shape[0], known.shape[1])
        return cls(path=path, scan=with_room(scan), canvas_shape=shape)

    @classmethod
    def from_coords_without_pc(
        cls,
        xcoords: npt.NDArray[np.floating],
        ycoords: npt.NDArray[np.floating],
        diff3d: npt.NDArray[np.number],
        probeGuess: npt.NDArray[np.complexfloating],
        scan_index: npt.NDArray[np.integer] | None = None,
        objectGuess: npt.NDArray[np.complexfloating] | None = None,
    ) -> RawData:
        """Take what the client has in memory.

        Args:
            xcoords: (n,) columns in pixels of the client's object.
            ycoords: (n,) rows.
            diff3d: (n, N, N) photon counts.
            probeGuess: (modes, N, N) or (N, N), with the flux in it.
            scan_index: not used: it is one scan.
            objectGuess: (H, W), the shape of the answer; by default the smallest that the positions allow.

        Raises:
            ScanError: it is no scan.
        """
        del scan_index
        positions = positions_yx(ycoords, xcoords)
        scan = scan_of_arrays(diff3d, positions, probeGuess)
        shape = smallest_canvas(positions) if objectGuess is None else (objectGuess.shape[-2], objectGuess.shape[-1])
        return cls(scan=scan, canvas_shape=shape)

    @property
    def diff3d(self) -> npt.NDArray[np.number]:
        """The patterns, (n, N, N)."""
        return self.scan.patterns

    @property
    def probeGuess(self) -> npt.NDArray[np.complex64]:  # noqa: N802 - the client's name
        """The probe, (modes, N, N)."""
        return self.scan.probe

    def generate_grouped_data(self, N: int, K: int = 4, nsamples: int = 1, gridsize: int | None = None) -> RawData:
        """Give all of it: every pattern is reconstructed, whatever number of samples and neighbours is asked for.

        Raises:
            ScanError: the patterns are not of size N.
        """
        log = logging.getLogger(TENSORFLOW_LIBRARY)
        if self.scan.N != N:
            frame = " x ".join(map(str, self.scan.patterns.shape[1:]))
            problem = Problem(path="N", expected=f"{self.scan.N}, as the patterns of {frame} px", found=str(N))
            raise ScanError("scan of Ptychodus", [problem])
        grouping = "the model's" if gridsize is None else str(gridsize)
        log.debug("gridsize %s, %d neighbours and %d samples: all positions are taken", grouping, K, nsamples)
        return self


@attrs.frozen(kw_only=True, eq=False)
class Intensities:
    """The patterns of a scan, which the client multiplies by the intensity scale."""

    scan: Scan

    def __mul__(self, factor: float) -> Intensities:
        """Give them again.

        Raises:
            ConfigError: for any other factor than 1.
        """
        if factor != INTENSITY_SCALE:
            problem = Problem(path="intensity_scale", expected="1.0: the probe carries the flux", found=repr(factor))
            raise ConfigError("ptycho.params", [problem])
        return self


@attrs.frozen(kw_only=True, eq=False)
class PtychoDataContainer:
    """What the client hands from one call to the next.

    Attributes:
        X: the patterns.
        local_offsets: nothing; the scan has its positions.
        global_offsets: rows and columns of the answer.
    """

    X: Intensities
    local_offsets: None = None
    global_offsets: tuple[int, int]


@attrs.frozen(kw_only=True, eq=False)
class InferenceModel:
    """A model that the client has loaded."""

    model: ClientModel

    def predict(self, inputs: Sequence[object]) -> Reconstruction:
        """Reconstruct a scan.

        Args:
            inputs: patterns as `load` gives them, and their offsets, which are not used.

        Raises:
            PtychoError: model and scan do not fit.
        """
        intensities = inputs[0]
        if not isinstance(intensities, Intensities):
            message = f"expected the patterns of ptycho.loader.load, found {type(intensities).__name__}"
            raise TypeError(message)
        with said_to(TENSORFLOW_LIBRARY) as log:
            return reconstruct_scan(self.model, intensities.scan, log)


@attrs.define
class _Session:
    """What the client leaves to be saved by a later call; it makes one call a process."""

    trained: ClientModel | None = None


_SESSION = _Session()


def update_legacy_dict(
    cfg: legacy.Parameters, config: configs.ModelConfig | configs.TrainingConfig | configs.InferenceConfig
) -> None:
    """Project the client's settings into the legacy parameters, as `ptycho_adapters.legacy` does with records.

    Raises:
        ConfigError: settings are not valid; every one is named.
    """
    legacy.update_legacy_dict(cfg, canonical(config))


def canonical(
    config: configs.ModelConfig | configs.TrainingConfig | configs.InferenceConfig,
) -> ModelConfig | TrainingConfig | InferenceConfig:
    """Give the client's settings as a canonical record.

    Raises:
        ConfigError: settings are not valid; every one is named.
    """
    if isinstance(config, configs.ModelConfig):
        return ModelConfig(**attrs.asdict(config))
    own = attrs.asdict(config, recurse=False) | {"model": ModelConfig(**attrs.asdict(config.model))}
    return TrainingConfig(**own) if isinstance(config, configs.TrainingConfig) else InferenceConfig(**own)


def load_inference_bundle(folder: Path) -> tuple[InferenceModel, dict[str, object]]:
    """Load a model and set the intensity scale of the legacy parameters.

    Args:
        folder: with `wts.h5.zip`, or with what it holds; an archive of the legacy software is read too.

    Returns:
        The model, and the legacy parameters.

    Raises:
        FileNotFoundError: there is no model.
        ArchiveError: it cannot be read.
    """
    with said_to(TENSORFLOW_LIBRARY) as log:
        model = load_model(Path(folder), log, shipped=tensorflow_or_torch())
        legacy.set("intensity_scale", INTENSITY_SCALE)
        _say_differences(model, log)
    return InferenceModel(model=model), legacy.cfg


def _say_differences(model: ClientModel, log: logging.Logger) -> None:
    """Say where the client's settings describe another model; the loaded one is as it was trained."""
    if model.payload is None:
        return
    trained = model.payload.tf_training_config.model
    for name in ("gridsize", "model_type", "n_filters_scale"):
        said, own = legacy.cfg.get(name), getattr(trained, name)
        if said is not None and said != own:
            log.warning("%s: the settings say %r, the model was trained with %r, which counts", name, said, own)


def load(
    data: Callable[[], RawData], probe_guess: object, which: str | None = None, *, create_split: bool = False
) -> PtychoDataContainer:
    """Put the scan into the container that the client takes apart.

    Args:
        data: gives what `generate_grouped_data` gave.
        probe_guess: not used: the scan has its probe.
        which: not used.
        create_split: has to be false.
    """
    del probe_guess, which
    if create_split:
        message = "create_split: expected False, for a reconstruction takes the whole scan"
        raise ValueError(message)
    raw = data()
    return PtychoDataContainer(X=Intensities(scan=raw.scan), global_offsets=raw.canvas_shape)


def set_probe_guess(x_train: None, probe_guess: npt.NDArray[np.complexfloating]) -> None:
    """Keep the probe in the legacy parameters, where nothing here reads it."""
    del x_train
    legacy.set("probe", probe_guess)


def reassemble_position(
    patches: Reconstruction, global_offsets: tuple[int, int], M: int = 20
) -> npt.NDArray[np.complex64]:
    """Lay the object onto the client's array, (H, W); M, a crop of patches, is not needed."""
    del M
    return on_canvas(patches, global_offsets)


def run_cdi_example(
    train_data: RawData, test_data: RawData | None, config: configs.TrainingConfig
) -> tuple[None, None, dict[str, object]]:
    """Train on one scan and validate on the other. Nothing is written until `save`.

    Returns:
        No amplitude, no phase, and what ran.

    Raises:
        PtychoError: settings or data cannot be used.
    """
    with said_to(TENSORFLOW_LIBRARY) as log:
        settings, backend = _settled(tensorflow_settings(config), log)
        payload = training_payload(train_data.path, train_data.scan, settings, backend)
        validation = None if test_data is None else test_data.scan
        _SESSION.trained = train_model(payload, [train_data.scan], validation=validation, backend=backend, log=log)
    return None, None, {"backend": str(backend)}


def _settled(settings: dict[str, object], log: logging.Logger) -> tuple[dict[str, object], Backend]:
    """Choose who trains: TensorFlow where it is, unless it cannot do what is asked for, which is said."""
    if tensorflow_or_torch() is Backend.PYTORCH:
        return settings, Backend.PYTORCH
    own, beyond = as_tensorflow_takes_them(settings)
    if not beyond:
        return own, Backend.TENSORFLOW
    reasons = "; ".join(f"{name} = {settings[name]!r}: {why}" for name, why in beyond.items())
    log.warning("PyTorch trains, not TensorFlow, which cannot do it: %s", reasons)
    return settings, Backend.PYTORCH


def save(folder: Path) -> None:
    """Write the model that was trained last to `folder/wts.h5.zip`, atomically; the folder is made.

    Raises:
        RuntimeError: none was.
        OSError: from the file system; an older model is then as it was.
    """
    if _SESSION.trained is None:
        message = "no model has been trained: run_cdi_example comes first"
        raise RuntimeError(message)
    with said_to(TENSORFLOW_LIBRARY) as log:
        log.info("saved the model to %s", save_model(_SESSION.trained, Path(folder)))


def save_outputs(amplitude: object, phase: object, results: object, folder: str) -> None:
    """Write nothing: a training gives a model and no object, so there are no pictures of one."""
    del amplitude, phase, results, folder
