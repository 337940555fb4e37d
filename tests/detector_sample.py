"""Messages as a detector sends them: SIMPLON stream, version 1."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import h5py
import hdf5plugin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LENGTHS = 16  # bytes before the only block of an LZ4 chunk of HDF5


def content_of(frame: NDArray[np.unsignedinteger], encoding: str) -> bytes:
    """Encode a frame (H, W) as the detector does, by the filters of HDF5."""
    frame = frame.astype(frame.dtype.newbyteorder("<" if encoding[-1] == "<" else ">"))
    if encoding in "<>":
        return frame.tobytes()
    shuffled = encoding.startswith("bs")
    filters = hdf5plugin.Bitshuffle(cname="lz4") if shuffled else hdf5plugin.LZ4(nbytes=frame.nbytes)
    with h5py.File("sample", "w", driver="core", backing_store=False) as file:
        chunk = file.create_dataset("frame", data=frame, chunks=frame.shape, **filters).id.read_direct_chunk((0, 0))[1]
    return bytes(chunk if shuffled else chunk[_LENGTHS:])


def image(number: int, frame: NDArray[np.unsignedinteger], encoding: str = "<", series: int = 7) -> list[bytes]:
    """Give the message of a frame."""
    height, width = frame.shape
    return [
        _json(htype="dimage-1.0", series=series, frame=number, hash=""),
        _json(htype="dimage_d-1.0", shape=[width, height], type=str(frame.dtype), encoding=encoding),
        content_of(frame, encoding),
        _json(htype="dconfig-1.0", start_time=0, stop_time=1, real_time=1),
    ]


def header(series: int = 7) -> list[bytes]:
    """Give the message before the first frame."""
    return [_json(htype="dheader-1.0", series=series, header_detail="basic"), _json(bit_depth_image=16)]


def end(series: int = 7) -> list[bytes]:
    """Give the message after the last frame."""
    return [_json(htype="dseries_end-1.0", series=series)]


def _json(**values: object) -> bytes:
    return json.dumps(values).encode()
