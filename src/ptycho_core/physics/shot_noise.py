"""What counts that are nothing but noise about their rate still differ from it by: the floor of every fit.

A reconstruction cannot explain patterns better than the truth does, and the truth leaves the shot noise. For a rate of
λ photons both usual figures have an expectation that depends on λ alone, tabulated here.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import attrs
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Real = npt.NDArray[np.float64]

_LEAST_RATE, _LARGEST_RATE = 1e-4, 1e3
_STEPS_PER_DECADE = 40
_SPREADS = 12.0  # standard deviations of counts that are summed over


@attrs.frozen(kw_only=True, eq=False)
class ShotNoiseTable:
    """Expectations over counts drawn from a rate.

    Attributes:
        log_rate: (K,) float64, evenly spaced natural logarithms of the rate in photons per pixel.
        deviance: (K,) expected half deviance, λ - n + n log(n / λ); tends to 1/2 for bright pixels.
        gap: (K,) expected |√n - √λ|; tends to 1/√(2π) for bright pixels.
        amplitude: (K,) expected √n.
    """

    log_rate: Real
    deviance: Real
    gap: Real
    amplitude: Real


@cache
def shot_noise_table() -> ShotNoiseTable:
    """Tabulate the expectations from 1e-4 to 1e3 photons per pixel; brighter pixels differ from the last by 1e-4."""
    from scipy.special import xlogy  # noqa: PLC0415 - keeps `import ptycho_core` quick
    from scipy.stats import poisson  # noqa: PLC0415

    decades = np.log10(_LARGEST_RATE / _LEAST_RATE)
    rates = np.logspace(np.log10(_LEAST_RATE), np.log10(_LARGEST_RATE), round(decades * _STEPS_PER_DECADE) + 1)
    rows = []
    for rate in rates:
        highest = int(np.ceil(rate + _SPREADS * np.sqrt(rate) + _SPREADS))
        counts = np.arange(highest + 1, dtype=np.float64)
        chance = poisson.pmf(counts, rate)
        half_deviance = rate - counts + xlogy(counts, counts / rate)
        root = np.sqrt(counts)
        rows.append([chance @ half_deviance, chance @ np.abs(root - np.sqrt(rate)), chance @ root])
    deviance, gap, amplitude = np.array(rows).T
    return ShotNoiseTable(log_rate=np.log(rates), deviance=deviance, gap=gap, amplitude=amplitude)
