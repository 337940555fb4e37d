"""The fit of the stage: what it looks at. What it finds is tested on scans with faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ptycho_adapters.torch_backend.data.resident import ResidentScan
from ptycho_adapters.torch_backend.generators import build_generator
from ptycho_adapters.torch_backend.inference import stage_fit
from ptycho_adapters.torch_backend.inference.whole_scan import STEPS_OF_A_GLANCE, PassFactory, WholeScan
from ptycho_core.config import DataConfig, PyTorchExecutionConfig, TorchInferenceConfig, TorchModelConfig
from torch_sample import tiny_scan

if TYPE_CHECKING:
    import pytest

    from ptycho_adapters.common.candidates import Judgement


def _run() -> WholeScan:
    """A few patterns under a network that makes everything transparent."""
    scan = ResidentScan(tiny_scan())
    network = build_generator(TorchModelConfig(architecture="unet", n_filters_scale=1), DataConfig(N=64)).eval()
    few = np.arange(4)
    make_pass = PassFactory(network, scan, few, PyTorchExecutionConfig(), TorchInferenceConfig())
    return make_pass(tiny_scan().probe, few)


def test_a_stage_without_errors_is_not_judged_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no way leads to a better fit there is nothing to leave out again: only the start is looked at."""
    steps_of_looks: list[int | None] = []
    judge = WholeScan.judge_itself

    def counted(run: WholeScan, steps: int | None = None) -> Judgement:
        steps_of_looks.append(steps)
        return judge(run, steps)

    monkeypatch.setattr(WholeScan, "judge_itself", counted)
    monkeypatch.setattr(stage_fit, "_along", lambda _trials, start, _way, _barely: start)

    with torch.no_grad():
        found = stage_fit.fit_stage(_run())

    assert not found.linear.any()
    assert (found.focus_rad, found.gain) == (0.0, 0.0)
    assert steps_of_looks == [None, STEPS_OF_A_GLANCE]
