"""From what was trained to a model as a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ptycho_adapters.common.model import EpochLosses, ScanProbe
from ptycho_adapters.common.shipped import prior_law_of_start
from ptycho_adapters.torch_backend.trained_model import TrainedModel
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ptycho_adapters.torch_backend.training.callbacks import LossHistory
    from ptycho_adapters.torch_backend.training.module import PtychoModule
    from ptycho_core.config.payload import TrainingPayload
    from ptycho_core.measurement.scan import Scan


@torch.no_grad()
def trained_model(
    payload: TrainingPayload, scans: Sequence[Scan], module: PtychoModule, history: LossHistory
) -> TrainedModel:
    """Put together what a training leaves behind.

    Args:
        payload: what it was told.
        scans: that it was trained on.
        module: network and probes, as they are to be kept.
        history: of its losses.

    Returns:
        The model, on the CPU. Which state of the training it is, is left open.
    """
    module = module.cpu().eval()
    mode = module.loss_name
    return TrainedModel(
        payload=payload,
        generator=module.generator,
        probes=tuple(_scan_probe(scan, module, number) for number, scan in enumerate(scans)),
        history=tuple(
            EpochLosses(
                epoch=epoch,
                train=values[f"{mode}_train_loss"],
                validation=values.get(f"{mode}_val_loss"),
                steps=steps,
            )
            for epoch, steps, values in history.rows
        ),
        step_losses=history.steps.means(),
        code_version=VERSION,
        prior_law=prior_law_of_start(payload),
    )


def _scan_probe(scan: Scan, module: PtychoModule, number: int) -> ScanProbe:
    flux = float(module.probes[number].energy)
    refined = module.probes[number]() * (0.5 * module.log_scales[number]).exp()
    energy = float(np.square(np.abs(scan.probe)).sum(dtype=np.float64))
    return ScanProbe(
        name=scan.metadata.name,
        probe=refined.numpy(),
        start_probe=(scan.probe * np.sqrt(flux / energy)).astype(np.complex64),
        flux=flux,
        findings=module.findings[number],
    )
