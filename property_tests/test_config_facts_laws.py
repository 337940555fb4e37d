"""Laws of reading a scan file's facts."""

from __future__ import annotations

import io
import json
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_adapters.factory import infer_probe_size
from ptycho_adapters.scan_facts import read_scan_facts
from ptycho_core.errors import ScanFileError
from strategies_config import JSON

if TYPE_CHECKING:
    from numpy.typing import NDArray


def npy(array: NDArray[np.generic]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return stream.getvalue()


GOOD = {
    "probeGuess.npy": npy(np.ones((64, 64), np.complex64)),
    "diffraction.npy": npy(np.ones((3, 64, 64), np.float32)),
    "_metadata.npy": npy(np.array(json.dumps({"physics_parameters": {"nphotons": 5e8}}), dtype=object)),
}


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def facts_or_error(content: bytes) -> None:
    """Read the content as a scan file; anything but facts or the documented error escapes."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "scan.npz"
        path.write_bytes(content)
        try:
            facts = read_scan_facts(path)
        except ScanFileError as error:
            assert str(path) in str(error)  # noqa: PT017 - success is fine too
        else:
            assert facts.N >= 1
            assert facts.nphotons is None or facts.nphotons > 0


@given(content=st.binary(max_size=200))
def test_any_bytes_give_facts_or_one_error(content: bytes) -> None:
    """No file content escapes as another exception."""
    facts_or_error(content)


@given(cut=st.integers(0, 2000), at=st.integers(0, 2000), byte=st.integers(0, 255))
def test_a_damaged_file_gives_facts_or_one_error(cut: int, at: int, byte: int) -> None:
    """One changed byte or a lost tail is at worst one clear error."""
    content = bytearray(zipped(GOOD))
    content[at % len(content)] = byte

    facts_or_error(bytes(content))
    facts_or_error(bytes(content[: len(content) - cut]))


@given(member=st.sampled_from(sorted(GOOD)), header=st.text(max_size=40) | st.just("{'descr': '<f4', 'shape': (-1,"))
def test_a_strange_header_gives_facts_or_one_error(member: str, header: str) -> None:
    """What stands in an array's header is never executed and never escapes."""
    body = header.encode("latin1", "replace")
    spoiled = b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body

    facts_or_error(zipped({**GOOD, member: spoiled}))


@given(pickled=st.binary(max_size=60), metadata=JSON)
def test_strange_metadata_give_facts_or_one_error(pickled: bytes, metadata: object) -> None:
    """Neither a spoiled pickle nor unexpected JSON stops the size from being read."""
    cut = GOOD["_metadata.npy"].index(b"\n") + 1

    facts_or_error(zipped({**GOOD, "_metadata.npy": GOOD["_metadata.npy"][:cut] + pickled}))
    facts_or_error(zipped({**GOOD, "_metadata.npy": npy(np.array(json.dumps({"physics_parameters": metadata})))}))


@given(size=st.integers(2, 300), modes=st.integers(1, 4) | st.none())
def test_the_probe_size_is_exact(size: int, modes: int | None) -> None:
    """Whatever the number of modes, the side of a frame is the answer; another aspect has none."""
    leading = () if modes is None else (modes,)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.npz"
        path.write_bytes(zipped({"probeGuess.npy": npy(np.ones((*leading, size, size), np.complex64))}))
        assert infer_probe_size(path) == size

        path.write_bytes(zipped({"probeGuess.npy": npy(np.ones((*leading, size, size + 1), np.complex64))}))
        with pytest.raises(ScanFileError):
            infer_probe_size(path)
