"""Arrays of any dtype, before it is known what they hold, and how messages name them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

AnyArray: TypeAlias = npt.NDArray[np.generic]


def describe(array: AnyArray) -> str:
    """Say an array's shape and dtype in one breath, for messages."""
    return f"shape {array.shape} of {array.dtype}"
