"""Frames as a detector sends them, made into arrays by the filters of HDF5, whose framing the shuffled ones have."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.live.extra import module

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ptycho_adapters.live.detector_messages import Kind

_SIZES = struct.Struct(">QI")  # of the whole and of a block, in bytes
_LENGTH = struct.Struct(">I")


def decode(contents: Sequence[bytes], kind: Kind) -> tuple[NDArray[np.unsignedinteger], NDArray[np.bool_]]:
    """Decode frames.

    Args:
        contents: of m frames.
        kind: how all of them are written.

    Returns:
        (m, H, W) in the machine's byte order, and (m,) which of them could be read; the others are 0.

    Raises:
        DependencyError: they are compressed, and hdf5plugin is not installed.
    """
    frames = np.zeros((len(contents), *kind.shape), dtype=kind.dtype.newbyteorder("="))
    n_bytes = int(np.prod(kind.shape)) * kind.dtype.itemsize
    good = np.array([_is_whole(content, kind, n_bytes) for content in contents], dtype=bool)
    if not kind.lz4:
        for number in np.flatnonzero(good).tolist():
            frames[number] = np.frombuffer(contents[number], dtype=kind.dtype).reshape(kind.shape)
        return frames, good
    module("hdf5plugin")
    if not good.any():
        return frames, good  # HDF5 makes no dataset in chunks of a frame for none
    chunks = [content if kind.shuffled else _framed(content, n_bytes) for content in contents]
    try:
        frames[good] = _filtered([chunks[number] for number in np.flatnonzero(good).tolist()], kind)
    except OSError:
        # One that is broken hides the others of its pass.
        for number in np.flatnonzero(good).tolist():
            try:
                frames[number] = _filtered([chunks[number]], kind)[0]
            except OSError:
                good[number] = False
    return frames, good


def _is_whole(content: bytes, kind: Kind, n_bytes: int) -> bool:
    if not kind.lz4:
        return len(content) == n_bytes
    if kind.shuffled:
        return len(content) > _SIZES.size and _SIZES.unpack_from(content)[0] == n_bytes
    # What is as long as the frame would be taken for the frame itself.
    return 0 < len(content) != n_bytes


def _framed(content: bytes, n_bytes: int) -> bytes:
    """Put the lengths before a block that HDF5 wants there."""
    return _SIZES.pack(n_bytes, n_bytes) + _LENGTH.pack(len(content)) + content


def _filtered(chunks: Sequence[bytes], kind: Kind) -> NDArray[np.unsignedinteger]:
    import h5py  # noqa: PLC0415 - loaded by who has such frames
    import hdf5plugin  # noqa: PLC0415 - an extra

    filters = hdf5plugin.Bitshuffle(cname="lz4") if kind.shuffled else hdf5plugin.LZ4()
    with h5py.File("frames", "w", driver="core", backing_store=False) as file:
        shape = (len(chunks), *kind.shape)
        data = file.create_dataset("frames", shape, chunks=(1, *kind.shape), dtype=kind.dtype, **filters)
        for number, chunk in enumerate(chunks):
            data.id.write_direct_chunk((number, 0, 0), chunk)
        found: NDArray[np.unsignedinteger] = data[...]
    return found
