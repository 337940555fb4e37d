"""Flags that say what a scan file does not say about its detector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ptycho_core.errors import ScanError, ScanFileError
from ptycho_core.measurement.preparation.settings import Flip
from ptycho_core.measurement.views import DetectorView, seen

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from ptycho_core.measurement.scan import Scan


def add_view_options(parser: argparse._ActionsContainer) -> None:
    """Give a parser the three flags."""
    parser.add_argument(
        "--mask", metavar="FILE", help="bad pixels beside those of the file: anything but 0 (npy, TIFF, NPZ, HDF5)"
    )
    parser.add_argument(
        "--flip",
        choices=[str(flip) for flip in Flip],
        help="axes of the patterns that run the other way (default: none)",
    )
    parser.add_argument(
        "--transpose", action="store_true", help="exchange rows and columns of the patterns, after the flip"
    )


def as_seen(scan: Scan, typed: Mapping[str, object], path: Path) -> Scan:
    """Give a scan as the flags say that its detector is.

    Raises:
        FileNotFoundError: there is no such mask.
        ScanFileError: the mask does not fit, or the scan cannot be turned.
    """
    mask, flip = typed.get("mask"), Flip(str(typed.get("flip") or Flip.NONE))
    bad = None
    if mask is not None:
        from ptycho_adapters.files.raw.tables import read_picture  # noqa: PLC0415 - h5py

        file = Path(str(mask))
        if not file.exists():
            raise FileNotFoundError(f"Mask file not found: {file}")
        picture = read_picture(file, "mask", (scan.N, scan.N)).astype(np.bool_)
        bad = np.asarray(picture.any(axis=0)) if picture.ndim == 3 else picture
    try:
        return seen(scan, DetectorView(bad=bad, flip=flip, transpose=bool(typed.get("transpose"))))
    except ScanError as error:
        raise ScanFileError(str(path), error.problems) from None
