"""The formats that a scan can be written in, and one way to write it: by the file's suffix or by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from ptycho_adapters.files.formats.cxi.writer import cxi_refuses, write_cxi_scan
from ptycho_adapters.files.formats.npz.writer import ptychopinn_refuses, write_npz_scan, write_ptychopinn_scan
from ptycho_adapters.files.formats.ptychodus.writer import (
    ptychodus_refuses,
    write_ptychodus_folder,
    write_training_scan,
)
from ptycho_adapters.files.reading import ScanFormat
from ptycho_core.errors import ConfigError, Problem, ScanError, raise_if_any
from ptycho_core.measurement.scan import Scan

_SAY_FORMAT = "rename it, or name the format with format= or --format"


def _holds_anything(_scan: Scan) -> tuple[Problem, ...]:
    return ()


@attrs.frozen(kw_only=True)
class Writer:
    """One format to write scans in.

    Attributes:
        format: the format.
        title: its name for people and messages.
        suffixes: what the names of its files end with, in lower case with the dot; "" stands for a folder. A format
            without any is written only by name.
        write: writes a scan that the format can hold, atomically, so that `read_scan` gives back an equal one.
        refuses: names everything in a scan that the format cannot hold; empty for one that it can.
    """

    format: ScanFormat
    title: str
    suffixes: tuple[str, ...]
    write: Callable[[Scan, Path], None]
    refuses: Callable[[Scan], tuple[Problem, ...]] = _holds_anything


WRITERS: tuple[Writer, ...] = (
    Writer(format=ScanFormat.NPZ, title="NPZ", suffixes=(".npz",), write=write_npz_scan),
    Writer(
        format=ScanFormat.PTYCHOPINN,
        title="PtychoPINN NPZ",
        suffixes=(),
        write=write_ptychopinn_scan,
        refuses=ptychopinn_refuses,
    ),
    Writer(
        format=ScanFormat.PTYCHODUS_TRAINING,
        title="Ptychodus training",
        suffixes=(".h5", ".hdf5"),
        write=write_training_scan,
        refuses=ptychodus_refuses,
    ),
    Writer(
        format=ScanFormat.PTYCHODUS,
        title="Ptychodus folder",
        suffixes=("",),
        write=write_ptychodus_folder,
        refuses=ptychodus_refuses,
    ),
    Writer(format=ScanFormat.CXI, title="CXI", suffixes=(".cxi",), write=write_cxi_scan, refuses=cxi_refuses),
)


def write_scan(scan: Scan, path: str | Path, *, format: ScanFormat | str | None = None) -> None:  # noqa: A002
    """Write a scan so that `read_scan` gives back an equal one; atomic.

    Args:
        scan: what to write.
        path: where to; an existing file is replaced.
        format: the format; None means that the suffix of the path says it.

    Raises:
        ConfigError: when the format is not known or cannot be written, or the suffix belongs to none.
        ScanError: with everything in the scan that the format cannot hold; nothing is written then.
        OSError: from the file system; an existing file is then as it was.
    """
    path = Path(path)
    writer = choose_writer(path, format)
    raise_if_any(ScanError, f"{path} ({writer.title})", writer.refuses(scan))
    writer.write(scan, path)


def choose_writer(path: Path, format: ScanFormat | str | None = None) -> Writer:  # noqa: A002
    """Give the writer for a path or a named format.

    Raises:
        ConfigError: when there is none.
    """
    if format is not None:
        return _writer_named(format)
    for writer in WRITERS:
        if path.suffix.lower() in writer.suffixes:
            return writer
    expected = "a path ending in " + ", ".join(suffix for writer in WRITERS for suffix in writer.suffixes if suffix)
    problem = Problem(path="path", expected=expected, found=str(path), fix=_SAY_FORMAT)
    raise ConfigError("write_scan", [problem])


def _writer_named(name: str) -> Writer:
    for writer in WRITERS:
        if writer.format == name:
            return writer
    expected = " or ".join(writer.format for writer in WRITERS)
    raise ConfigError("write_scan", [Problem(path="format", expected=expected, found=repr(str(name)))])
