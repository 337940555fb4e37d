"""A probe out of another file, whatever program wrote it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from ptycho_adapters.files.hdf5.byte_search import hdf5_start
from ptycho_adapters.files.hdf5.collect import Collector, collecting
from ptycho_adapters.files.hdf5.members import is_plain_record, read_number
from ptycho_adapters.files.hdf5.nodes import DAMAGE as HDF5_DAMAGE
from ptycho_adapters.files.hdf5.nodes import damaged, find_node
from ptycho_adapters.files.images.complex_tiff import read_complex_tiff
from ptycho_adapters.files.npz.members import DAMAGE, member_keys, open_archive, read_member
from ptycho_core.any_array import AnyArray, describe
from ptycho_core.errors import Problem, ScanFileError, raise_if_any
from ptycho_core.measurement.arrays import as_probe

if TYPE_CHECKING:
    from pathlib import Path

    import h5py

# Products, CXI images, scans, and what the two packages that write `probe` and `content/probe` leave behind.
_HDF5_KEYS = (
    "probe",
    "entry_1/image_1/data",
    "entry_1/instrument_1/source_1/illumination",
    "entry_1/instrument_1/source_1/probe",
    "probeGuess",
)
_PTYPY_STORAGES = "content/probe"
_PIXEL_KEYS = ("entry_1/ptychodus/probe_pixel_width_m", "object_pixel_width_m", "dxp")
_PTYLAB_AXES = 6  # wavelengths, objects, modes, slices, rows, columns
_NPZ_KEYS = ("probeGuess", "probe")
_LARGEST_DEFLATE_RATIO = 1032
_SLACK_BYTES = 1 << 16
_MATLAB_FIELDS = ("real", "imag")
_HEAD_BYTES = 8
_STARTS = {b"PK\x03\x04": "NPZ", b"\x93NUMPY": "npy", b"II*\0": "TIFF", b"MM\0*": "TIFF"}


@attrs.frozen(kw_only=True, eq=False)
class StoredProbe:
    """A probe from a file.

    Attributes:
        array: (modes, N, N) complex64.
        pixel_m: object pixel that it was made for, None when unknown.
    """

    array: npt.NDArray[np.complex64]
    pixel_m: float | None = None


def read_probe_file(path: Path) -> StoredProbe:
    """Read a probe, whatever the format of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ScanFileError: it holds no probe.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
            wrapped = hdf5_start(stream) is not None
    except FileNotFoundError:
        msg = f"Probe file not found: {path}"
        raise FileNotFoundError(msg) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ScanFileError(str(path), [Problem(path="file", expected="a readable file", found=reason)]) from None
    kind = "HDF5" if wrapped else next((kind for start, kind in _STARTS.items() if head.startswith(start)), "")
    match kind:
        case "HDF5":
            stored = _from_hdf5(path)
        case "NPZ":
            stored = StoredProbe(array=_as_stack(_from_npz(path), path))
        case "npy":
            stored = StoredProbe(array=_as_stack(_from_npy(path), path))
        case "TIFF":
            stored = StoredProbe(array=read_complex_tiff(path))
        case _:
            expected = "a probe in an HDF5, NPZ, npy or TIFF file"
            found = f"a file starting {head!r}" if head else "an empty file"
            raise ScanFileError(str(path), [Problem(path="file", expected=expected, found=found)])
    return stored


def _as_stack(found: AnyArray | Problem, path: Path) -> npt.NDArray[np.complex64]:
    """Bring what a file has to (modes, N, N)."""
    if isinstance(found, Problem):
        raise ScanFileError(str(path), [found])
    array = found
    if array.ndim == _PTYLAB_AXES and array.shape[3] == 1:
        array = array[:, :, :, 0]
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[0] == array.shape[1] != array.shape[2]:
        array = np.moveaxis(array, 2, 0)
    if array.ndim not in (2, 3) or array.dtype.kind not in "fc" or not array.size:
        problem = Problem(path="probe", expected="(N, N) or (modes, N, N) complex", found=describe(array))
        raise ScanFileError(str(path), [problem])
    return as_probe(array)


def _from_hdf5(path: Path) -> StoredProbe:
    with collecting(path) as file:
        storages = [f"{_PTYPY_STORAGES}/{name}/data" for name in file.names(_PTYPY_STORAGES)]
        keys = [key for key in (*_HDF5_KEYS, *storages) if file.kind(key) in {"c", "V"}]
        if not keys:
            listed = ", ".join(file.names("/")) or "nothing"
            problem = Problem(
                path="probe", expected=f"an illumination under {', '.join(_HDF5_KEYS)}", found=f"only {listed}"
            )
            raise ScanFileError(str(path), [*file.problems, problem])
        key = keys[0]
        found = _matlab(file, key) if file.kind(key) == "V" else file.array(key, "an illumination")
        pixel_m = _pixel_m(file, key)
        raise_if_any(ScanFileError, str(path), file.problems)
    if found is None:
        raise ScanFileError(str(path), [Problem(path=key, expected="an illumination", found="nothing")])
    return StoredProbe(array=_as_stack(found, path), pixel_m=pixel_m)


def _pixel_m(file: Collector, key: str) -> float | None:
    node = find_node(file.file, key)
    if node is not None and not isinstance(node, Problem):
        stated = read_number(node, "pixel_width_m")
        if isinstance(stated, float) and stated > 0.0:
            return stated
    for name in _PIXEL_KEYS:
        number = file.positive(name, "m")
        if number is not None:
            return number
    return None


def _matlab(file: Collector, key: str) -> AnyArray | Problem:
    """Read a complex array as MATLAB 7.3 keeps it: pairs called real and imag, axes in the other order."""
    node = find_node(file.file, key)
    try:
        if node is None or isinstance(node, Problem) or not _is_pair(node):
            return Problem(path=key, expected="complex numbers", found="records of something else")
        return _joined(node, key)
    except HDF5_DAMAGE as error:
        return damaged(key, error, "an undamaged array")


def _is_pair(node: h5py.Dataset) -> bool:
    plain = [np.dtype([(name, size) for name in _MATLAB_FIELDS]) for size in ("<f4", "<f8")]
    return node.dtype in plain and is_plain_record(node, node.dtype)


def _joined(node: h5py.Dataset, key: str) -> AnyArray | Problem:
    declared, stored = math.prod(node.shape) * node.dtype.itemsize, int(node.id.get_storage_size())
    if node.external or node.is_virtual or declared > _LARGEST_DEFLATE_RATIO * stored + _SLACK_BYTES:
        return Problem(path=key, expected=f"{declared} bytes for shape {node.shape}", found=f"{stored}")
    values = np.asarray(node[()])
    joined = np.empty(values.shape, dtype=np.complex128)
    joined.real, joined.imag = (values[name] for name in _MATLAB_FIELDS)
    # (h, w, modes) is (modes, w, h) here: the last two axes change places.
    return np.swapaxes(joined, -1, -2) if joined.ndim >= 2 else joined


def _from_npz(path: Path) -> AnyArray | Problem:
    archive = open_archive(path)
    if isinstance(archive, Problem):
        return archive
    with archive:
        infos = member_keys(archive)
        if isinstance(infos, Problem):
            return infos
        key = next((key for key in _NPZ_KEYS if key in infos), None)
        if key is None:
            expected, found = f"an illumination under {' or '.join(_NPZ_KEYS)}", f"only {', '.join(sorted(infos))}"
            return Problem(path="probe", expected=expected, found=found)
        return read_member(archive, infos[key])


def _from_npy(path: Path) -> AnyArray | Problem:
    try:
        with path.open("rb") as stream:
            version = npy.read_magic(stream)
            header = npy.read_array_header_1_0(stream) if version == (1, 0) else npy.read_array_header_2_0(stream)
            shape, fortran_order, dtype = header
            declared, there = math.prod(shape) * dtype.itemsize, path.stat().st_size - stream.tell()
            if dtype.hasobject or declared != there or min(shape, default=0) < 0:
                found = f"{there} bytes of {dtype}"
                return Problem(path="file", expected=f"{declared} bytes of numbers for shape {shape}", found=found)
            content = stream.read()
        return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")
    except (*DAMAGE, SyntaxError, TypeError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        return Problem(path="file", expected="an undamaged array", found=f"damaged data ({text})")
