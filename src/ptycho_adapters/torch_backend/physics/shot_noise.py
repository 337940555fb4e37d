"""The floor that shot noise sets to a fit, for rates on a device."""

from __future__ import annotations

import torch
from torch import Tensor

from ptycho_core.physics.shot_noise import shot_noise_table


def expected_misfit(rate: Tensor) -> tuple[Tensor, Tensor]:
    """What counts drawn from rates differ from them by, on average.

    Args:
        rate: photons per pixel, any shape, all positive.

    Returns:
        Half deviance and absolute difference of roots, both in the shape of the rate.
    """
    table = shot_noise_table()
    first, step = float(table.log_rate[0]), float(table.log_rate[1] - table.log_rate[0])
    place = ((rate.log() - first) / step).clamp(0.0, len(table.log_rate) - 1.0)
    below = place.floor().to(torch.int64).clamp_max(len(table.log_rate) - 2)
    part = place - below
    found = []
    for values in (table.deviance, table.gap):
        known = torch.tensor(values, dtype=rate.dtype, device=rate.device)
        found.append(known[below] * (1.0 - part) + known[below + 1] * part)
    deviance, gap = found
    return deviance, gap
