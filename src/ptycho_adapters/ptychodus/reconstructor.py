"""A reconstructor of the client that runs in its own process: for notebooks and scripts.

    from ptychodus.api.io import load_diffraction_data, load_product
    from ptychodus.api.reconstruct import prepare_reconstruct_input
    parameters = prepare_reconstruct_input(load_diffraction_data("diffraction.h5"), load_product("product.h5"))
    (output,) = PtychoReconstructor().reconstruct(parameters)

Unlike the client's own PtychoPINN libraries it hands probe and positions back as they were refined, so that the product
is of one piece, and it needs no model: without one it takes the weights in the package, and says so.
"""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING, Literal

from ptychodus.api.io import save_ptychopinn_training_data
from ptychodus.api.product import LossValue
from ptychodus.api.reconstruct import ReconstructOutput, TrainableReconstructor, TrainOutput

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.ptychodus.backend import Backend
from ptycho_adapters.ptychodus.client_products import product_from, scan_from
from ptycho_adapters.ptychodus.models import ClientModel
from ptycho_adapters.ptychodus.settings import UNATTENDED
from ptycho_adapters.ptychodus.work import (
    load_model,
    reconstruct_scan,
    save_model,
    train_model,
    training_payload,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ptychodus.api.reconstruct import ReconstructInput

_SHIPPED = ClientModel(name="the weights in the package", payload=None, backend=Backend.PYTORCH, trained=None)


class PtychoReconstructor(TrainableReconstructor):
    """Trains and reconstructs for the client, in this process.

    Args:
        mode: whether a training learns from the patterns or from a known object.
        settings: of a training, by canonical name, such as `nepochs` or `gridsize`; the package's defaults otherwise.
        refine: refine probe and positions before a reconstruction and hand them back.
        logger: where it is said what is done.
    """

    def __init__(
        self,
        *,
        mode: Literal["pinn", "supervised"] = "pinn",
        settings: Mapping[str, object] | None = None,
        refine: bool = True,
        logger: logging.Logger | None = None,
    ) -> None:
        super().__init__()
        self._settings = {**UNATTENDED, "model_type": mode, **(settings or {})}
        self._refine = refine
        self._log = logger or logging.getLogger(__name__)
        self._model = _SHIPPED
        self._path: Path | None = None

    @property
    def name(self) -> str:
        """Its name in the client's lists."""
        return "ptycho-core"

    def get_progress_goal(self) -> int:
        """Number of results of a reconstruction."""
        return 1

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        """Reconstruct, once.

        Raises:
            PtychoError: the input cannot be reconstructed, or not with this model.
        """
        scan = scan_from(parameters)
        result = reconstruct_scan(self._model, scan, self._log, refine=self._refine)
        yield ReconstructOutput(product_from(parameters, result), progress=1)

    def is_model_loaded(self) -> bool:
        """Whether it would use another model than the weights in the package."""
        return self._path is not None

    def get_model_file_filter(self) -> str:
        """Give the client's filter for its file dialog."""
        return "Zipped Archive (*.zip)"

    def get_model_file_extension(self) -> str:
        """Give the suffix of a model's file."""
        return ".zip"

    def load_model_from_file(self, file_path: Path) -> None:
        """Load a model of this library, or one of the legacy software.

        Raises:
            FileNotFoundError: there is no such file.
            ArchiveError: it is no model.
        """
        self._model, self._path = load_model(file_path, self._log), file_path

    def save_model(self, file_path: Path) -> None:
        """Copy the model that was loaded or trained, atomically.

        Raises:
            RuntimeError: there is none.
        """
        if self._path is None:
            message = "no model has been loaded or trained"
            raise RuntimeError(message)
        with atomic_path(file_path) as partial:
            shutil.copyfile(self._path, partial)

    def get_training_data_file_filter(self) -> str:
        """Give the client's filter for its file dialog."""
        return "NumPy Zipped Archive (*.npz)"

    def export_training_data(self, file_path: Path, parameters: ReconstructInput) -> None:
        """Write a scan of the client to be trained on."""
        save_ptychopinn_training_data(file_path, parameters)

    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        """Train on every `.npz` file of a folder, write `wts.h5.zip` into another one and keep it as the model.

        Raises:
            FileNotFoundError: the folder holds no training data.
            PtychoError: they cannot be trained on.
        """
        from ptycho_adapters.files import read_scan  # noqa: PLC0415 - a reconstruction reads none

        files = sorted(input_path.glob("*.npz"))
        if not files:
            message = f"no training data: {input_path} holds no .npz file"
            raise FileNotFoundError(message)
        scans = [read_scan(path) for path in files]
        payload = training_payload(files[0], scans[0], self._settings, Backend.PYTORCH)
        model = train_model(payload, scans, validation=None, backend=Backend.PYTORCH, log=self._log)
        self._model, self._path = model, save_model(model, output_path)
        history = [(each.epoch, each.train, each.validation) for each in getattr(model.trained, "history", ())]
        yield TrainOutput(
            training_loss=[LossValue(epoch=epoch, value=train) for epoch, train, _ in history],
            validation_loss=[LossValue(epoch=epoch, value=value) for epoch, _, value in history if value is not None],
            progress=len(history),
        )
