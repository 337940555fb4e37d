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
    first, step, last = float(table.log_rate[0]), float(table.log_rate[1] - table.log_rate[0]), len(table.log_rate) - 1
    place = rate.flatten().log().sub_(first).div_(step).clamp_(0.0, float(last))
    below = place.to(torch.int64).clamp_max_(last - 1)
    above, part = below + 1, place.sub_(below)
    deviance, gap = (
        torch.lerp(known.index_select(0, below), known.index_select(0, above), part).reshape(rate.shape)
        for known in (rate.new_tensor(values) for values in (table.deviance, table.gap))
    )
    return deviance, gap
