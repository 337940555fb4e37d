"""One way to read a scan, whatever its format: the content decides, never the file's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from ptycho_adapters.files.npz import read_npz_scan, write_npz_scan
from ptycho_core.errors import ConfigError, Problem, ScanFileError
from ptycho_core.scan import MeasurementDomain, Scan

Reader = Callable[[Path, MeasurementDomain | None], Scan]

_HEAD_BYTES = 8


@attrs.frozen(kw_only=True)
class _Format:
    """A file format: how its files begin and how they are read."""

    name: str
    magic: bytes
    read: Reader


_FORMATS = (_Format(name="NPZ", magic=b"PK\x03\x04", read=read_npz_scan),)
_KNOWN_STARTS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x93NUMPY": "a single .npy array",
    b"PK\x05\x06": "an NPZ (zip) file without members",
}


def read_scan(path: str | Path, *, domain: MeasurementDomain | str | None = None) -> Scan:
    """Read a scan from a file.

    Args:
        path: the file; its content decides on the format.
        domain: whether the patterns are "counts" or "amplitude". None means that the file tells, by a key or by
            evidence; a file that does not is refused.

    Returns:
        The scan, with how domain and layout were found in `metadata.extra`.

    Raises:
        ConfigError: when `domain` is neither of the two.
        FileNotFoundError: when there is no such file.
        ScanFileError: when it is no scan, with every problem there is.
    """
    path = Path(path)
    wanted = None if domain is None else _as_domain(domain)
    head = _read_head(path)
    for known in _FORMATS:
        if head.startswith(known.magic):
            return known.read(path, wanted)
    found = next((text for start, text in _KNOWN_STARTS.items() if head.startswith(start)), f"a file starting {head!r}")
    names = " or ".join(known.name for known in _FORMATS)
    problem = Problem(path="file", expected=f"a scan in {names} format", found=found if head else "an empty file")
    raise ScanFileError(str(path), [problem])


def write_scan(scan: Scan, path: str | Path) -> None:
    """Write a scan as NPZ with the legacy keys, so that `read_scan` gives back an equal one; atomic.

    Args:
        scan: what to write.
        path: where to; an existing file is replaced.

    Raises:
        OSError: from the file system; an existing file is then as it was.
    """
    write_npz_scan(scan, Path(path))


def _as_domain(value: str) -> MeasurementDomain:
    if value not in tuple(MeasurementDomain):
        expected = " or ".join(MeasurementDomain)
        raise ConfigError("read_scan", [Problem(path="domain", expected=expected, found=repr(value))])
    return MeasurementDomain(value)


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except FileNotFoundError:
        msg = f"Scan file not found: {path}"
        raise FileNotFoundError(msg) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ScanFileError(str(path), [Problem(path="file", expected="a readable file", found=reason)]) from None
