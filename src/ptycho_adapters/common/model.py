"""What a training leaves behind, as values that every backend shares."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from ptycho_adapters.common.prior_law import PriorLaw
from ptycho_core.config import TorchInferenceConfig
from ptycho_core.config.main_term import main_term_name
from ptycho_core.config.payload import TrainingPayload
from ptycho_core.measurement.findings import Finding
from ptycho_core.notebook import html_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


@attrs.frozen(kw_only=True)
class StepLoss:
    """Mean training loss of some batches in a row.

    Attributes:
        step: optimiser steps of the run by the last of them.
        train: mean loss over the batches.
    """

    step: int
    train: float


@attrs.frozen(kw_only=True)
class Selection:
    """Which state of a training the model holds: the one that explains best what was held out.

    Attributes:
        start_loss: held-out loss before the first step.
        end_loss: held-out loss of the training's end, which is its best epoch where that is known, else its last one.
        epoch: that end, counted from 0, if it is what is kept; None if the start is.
    """

    start_loss: float
    end_loss: float
    epoch: int | None

    def __str__(self) -> str:
        start, end = f"{self.start_loss:.4g}", f"{self.end_loss:.4g}"
        if self.epoch is None:
            if not math.isfinite(self.end_loss):
                return f"the start, whose held-out loss of {start} is finite; that of the end is not"
            return f"the start, whose held-out loss of {start} is not above the {end} of the end"
        if not math.isfinite(self.start_loss):
            return f"epoch {self.epoch + 1}, whose held-out loss of {end} is finite; that of the start is not"
        return f"epoch {self.epoch + 1}, whose held-out loss of {end} is below the {start} of the start"


@attrs.frozen(kw_only=True, eq=False)
class ScanProbe:
    """The illumination of one scan that a model was trained on.

    Attributes:
        name: of the scan, for people; may be empty.
        probe: (modes, N, N) complex64, refined.
        start_probe: (modes, N, N) complex64, what the training started from, at the same flux.
        flux: photons per frame that it was refined at.
        findings: what was found out about the scan before the first step, and put right.
    """

    name: str = ""
    probe: NDArray[np.complex64]
    start_probe: NDArray[np.complex64]
    flux: float
    findings: tuple[Finding, ...] = ()


@attrs.frozen(kw_only=True, eq=False)
class ModelRecord:
    """What a training leaves behind, but for the network, which is a backend's own.

    Attributes:
        payload: everything the training was told.
        probes: of every scan that it was trained on, in their order; none where an archive of other software holds
            none, and a reconstruction then takes that of its scan.
        history: losses by epoch.
        code_version: version of the code that trained it.
        step_losses: training losses by step, a bounded number of them; empty where they were not taken down.
        selection: which state of the training this is; None where nothing was held out.
        probe_refined: whether the probes were learned along with the network; False for weights that know no scan.
        prior_law: by which the network errs, or that from which its training started does; None where it is not known.

    Raises:
        ValueError: there is no probe, and one is said to be refined.
    """

    payload: TrainingPayload
    probes: tuple[ScanProbe, ...]
    history: tuple[EpochLosses, ...]
    code_version: str
    step_losses: tuple[StepLoss, ...] = ()
    selection: Selection | None = None
    probe_refined: bool = True
    prior_law: PriorLaw | None = None

    def __attrs_post_init__(self) -> None:
        if self.probe_refined and not self.probes:
            raise ValueError("a model without a probe has no refined one")

    @property
    def n_weights(self) -> int:
        """Number of weights of the network."""
        raise NotImplementedError

    @property
    def inference_defaults(self) -> TorchInferenceConfig:
        """What holds for a reconstruction of which nobody said anything.

        Probes that were learned with the beam where it is hold that as a slope: it is not looked for again.
        """
        return TorchInferenceConfig(beam_search=self.payload.pt_training_config.beam_search)

    @property
    def probe(self) -> NDArray[np.complex64]:
        """Refined illumination of the first scan, (modes, N, N)."""
        return self._first.probe

    @property
    def start_probe(self) -> NDArray[np.complex64]:
        """What that of the first scan started from, (modes, N, N), at the same flux."""
        return self._first.start_probe

    @property
    def flux(self) -> float:
        """Photons per frame of the first scan."""
        return self._first.flux

    @property
    def _first(self) -> ScanProbe:
        if not self.probes:
            raise ValueError("this model knows no probe: a reconstruction takes that of its scan")
        return self.probes[0]

    def plot(self) -> Figure:
        """Draw the probe of the first scan before and after the training, and the losses.

        Raises:
            DependencyError: matplotlib is not installed.
        """
        from ptycho_adapters.plotting.curves import training_curves  # noqa: PLC0415 - as the next one
        from ptycho_adapters.plotting.values import plot_model  # noqa: PLC0415 - only who draws needs it

        curves = training_curves(self.history, self.step_losses)
        return plot_model(self.probe, self.start_probe, curves, unit=f"{main_term_name(self.payload)} loss")

    def _repr_html_(self) -> str:
        config, last = self.payload.pt_model_config, self.history[-1] if self.history else None
        rows = {
            "generator": config.architecture,
            "weights": self.n_weights,
            "size [px]": (self.payload.pt_data_config.N,) * 2,
            "probe": f"{len(self.probe)} modes, {self.flux:.3g} photons" if self.probes else None,
            "scans": len(self.probes),
            "epochs": len(self.history),
            "training loss": None if last is None else last.train,
            "held-out loss": None if last is None else last.validation,
            "kept": None if self.selection is None else str(self.selection),
            "code version": self.code_version,
        }
        return html_table("Trained model", rows)
