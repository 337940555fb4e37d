"""A trained model as a value."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from ptycho_adapters.torch_backend.generators import Generator
from ptycho_core.payload import TrainingPayload


@attrs.frozen(kw_only=True)
class EpochLosses:
    """Mean losses of one epoch.

    Attributes:
        epoch: counted from 0.
        train: mean loss over the epoch's groups.
        validation: mean loss over the held-out groups; None where nothing was held out.
        steps: optimiser steps of the run by the end of this epoch.
    """

    epoch: int
    train: float
    validation: float | None
    steps: int = 0


@attrs.frozen(kw_only=True, eq=False)
class TrainedModel:
    """What a training leaves behind.

    Attributes:
        payload: everything the training was told.
        generator: the network, in evaluation mode, on the CPU.
        probe: (modes, N, N) complex64, the refined illumination.
        start_probe: (modes, N, N) complex64, the illumination the training started from, at the same flux.
        flux: photons per frame that the probe was refined at.
        history: losses by epoch.
        code_version: version of the code that trained it.
    """

    payload: TrainingPayload
    generator: Generator
    probe: NDArray[np.complex64]
    start_probe: NDArray[np.complex64]
    flux: float
    history: tuple[EpochLosses, ...]
    code_version: str
