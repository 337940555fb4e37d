"""Objects that are compared with a truth, as they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ptycho_adapters.evaluation.objects import read_object
from ptycho_core.errors import ScanFileError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("number", [1e39, np.inf, np.nan])
def test_an_object_that_single_precision_does_not_hold_is_refused(number: float, tmp_path: Path) -> None:
    """A number too large for complex64 is refused as an infinite one is."""
    np.savez(tmp_path / "truth.npz", object=np.full((4, 4), number + 0j))

    with pytest.raises(ScanFileError, match="object: expected a finite complex"):
        read_object(tmp_path / "truth.npz")
