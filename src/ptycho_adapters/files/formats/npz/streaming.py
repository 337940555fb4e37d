"""An NPZ scan written while its patterns come, a few at a time."""

from __future__ import annotations

import zipfile
from typing import IO, TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from ptycho_adapters.files.evidence.domain import LAYOUT_KEY, PATTERNS_FIRST
from ptycho_adapters.files.formats.metadata_json import KEY as METADATA_KEY
from ptycho_adapters.files.formats.metadata_json import metadata_to_text
from ptycho_adapters.files.formats.npz.parts import DOMAIN_KEY
from ptycho_core.measurement.scan import ScanMetadata

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ptycho_core.any_array import AnyArray

_QUICKLY = 1  # of deflate's levels


@attrs.frozen(kw_only=True, eq=False)
class PreparedScan:
    """A scan without its patterns.

    Attributes:
        n_patterns: how many will come.
        size: their side.
        dtype: their number format.
        positions_px: (n, 2), (y, x).
        bad_pixels: (N, N), if any.
        probe: (modes, N, N), if any; without one, a reading has to say where the probe comes from.
        domain: what the patterns are; None leaves it to whoever reads.
        metadata: of the scan.
    """

    n_patterns: int
    size: int
    dtype: np.dtype[np.generic]
    positions_px: npt.NDArray[np.float64]
    bad_pixels: npt.NDArray[np.bool_] | None
    probe: npt.NDArray[np.complex64] | None
    domain: str | None
    metadata: ScanMetadata


def write_prepared(scan: PreparedScan, path: Path, pieces: Iterable[AnyArray]) -> npt.NDArray[np.float64]:
    """Write a scan; not atomic by itself.

    Args:
        scan: everything but the patterns.
        path: where to.
        pieces: the patterns in order, (m, N, N) each, all together as many as said.

    Returns:
        (N, N) mean of the patterns.

    Raises:
        OSError: from the file system.
        ValueError: more or fewer patterns came than said.
    """
    total, count = np.zeros((scan.size, scan.size)), 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=_QUICKLY) as archive:
        with archive.open("diff3d.npy", "w", force_zip64=True) as stream:
            _write_header(stream, (scan.n_patterns, scan.size, scan.size), scan.dtype)
            for piece in pieces:
                stream.write(np.ascontiguousarray(piece, dtype=scan.dtype).tobytes())
                total += piece.sum(axis=0, dtype=np.float64)
                count += len(piece)
        if count != scan.n_patterns:
            raise ValueError(f"{scan.n_patterns} patterns were to be written, {count} came")
        for key, array in _arrays(scan).items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as stream:
                npy.write_array(stream, array, allow_pickle=False)
    return total / max(1, count)


def _write_header(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    header = {"shape": shape, "fortran_order": False, "descr": npy.dtype_to_descr(dtype)}
    npy.write_array_header_1_0(stream, header)


def _arrays(scan: PreparedScan) -> dict[str, AnyArray]:
    optional: dict[str, AnyArray | None] = {
        "probeGuess": scan.probe,
        "bad_pixels": scan.bad_pixels,
        DOMAIN_KEY: None if scan.domain is None else np.array(scan.domain),
    }
    arrays: dict[str, AnyArray | None] = {
        "xcoords": np.ascontiguousarray(scan.positions_px[:, 1]),
        "ycoords": np.ascontiguousarray(scan.positions_px[:, 0]),
        "scan_index": np.zeros(scan.n_patterns, dtype=np.int32),
        LAYOUT_KEY: np.array(PATTERNS_FIRST),
        METADATA_KEY: np.array(metadata_to_text(scan.metadata, N=scan.size)),
    }
    return {key: array for key, array in (arrays | optional).items() if array is not None}
