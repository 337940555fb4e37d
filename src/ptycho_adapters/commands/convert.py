"""`ptycho convert`: a scan or a result from one format into another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.scan_source import add_scan_options, read_source
from ptycho_adapters.command_line.stated_facts import LABELS, LENGTHS, add_labels, with_stated_facts
from ptycho_adapters.command_line.usage import UsageError, kebab
from ptycho_adapters.files import DetectorCheck
from ptycho_core.errors import ConfigError, Problem, ScanFileError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.product import Product

HELP = "write a scan or a result in another format"
USAGE = "ptycho convert IN OUT [flags]"
_TIFF, _PRODUCT = "tiff", "ptychodus-product"
_TIFF_SUFFIXES: Final = frozenset({".tif", ".tiff"})
_ARRAYS = ("object", "probe")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's flags."""
    parser.add_argument("source", metavar="IN", help="scan or result (product), in any known format")
    parser.add_argument(
        "target",
        metavar="OUT",
        help="file to write, or folder for a format of several files; what is there is replaced",
    )
    parser.add_argument(
        "--format",
        metavar="NAME",
        help=f"format of OUT, such as npz or cxi for a scan, {_PRODUCT} for a result, {_TIFF} for an array of either "
        "(default: as the suffix of OUT says)",
    )
    parser.add_argument("--array", choices=_ARRAYS, help="what a TIFF is to hold (default: object)")
    parser.add_argument(
        "--tiff-layout",
        choices=("real-imaginary", "complex"),
        help="two real pages per image, which any program opens, or one complex page (default: real-imaginary)",
    )
    parser.add_argument(
        "--as-counts",
        action="store_true",
        help="square the patterns of a scan that holds amplitudes, for formats that hold counts",
    )
    parser.add_argument(
        "--as-amplitude",
        action="store_true",
        help="take the square roots of the patterns of a scan that holds counts, for PtychoPINN",
    )
    add_labels(parser)
    # A copy holds what its source holds, unless it is asked for something else.
    add_scan_options(parser, detector_check=DetectorCheck.OFF)


def run(typed: Mapping[str, object]) -> None:
    """Read, write and report.

    Raises:
        PtychoError: the input is nothing that is known, or the format cannot hold it.
        OSError: from the file system.
    """
    source, target = Path(str(typed["source"])), Path(str(typed["target"]))
    wanted = None if typed.get("format") is None else str(typed["format"])
    to_tiff = wanted == _TIFF if wanted is not None else target.suffix.lower() in _TIFF_SUFFIXES
    for flag in ("array", "tiff_layout"):
        if typed.get(flag) is not None and not to_tiff:
            raise UsageError(f"--{flag.replace('_', '-')} is for TIFF files, and {target} is to be none")
    content = _read(source, typed)
    for flag in ("as_counts", "as_amplitude"):
        if typed.get(flag):
            content = _in_domain(content, source, flag, to_tiff=to_tiff)
    if target.is_dir() and not _makes_folders(content, target, wanted):
        message = f"OUT is to be a file, and this is a folder: {target}"
        raise IsADirectoryError(message)
    figures = _write_tiff(content, source, target, typed) if to_tiff else _write(content, target, wanted)
    console.tell(console.summary(f"converted {source}", figures, [target]))


def _read(source: Path, typed: Mapping[str, object]) -> Scan | Product:
    from ptycho_adapters.files import read_product  # noqa: PLC0415 - h5py
    from ptycho_adapters.files.evidence.recognition import gather_evidence  # noqa: PLC0415
    from ptycho_adapters.files.products.store import is_product  # noqa: PLC0415
    from ptycho_adapters.files.readers import choose_reader  # noqa: PLC0415

    evidence = gather_evidence(source)
    if not is_product(evidence):
        read_with = typed
        if not choose_reader(evidence).takes_stated:
            read_with = {name: None if name in LENGTHS else value for name, value in typed.items()}
        return with_stated_facts(read_source(read_with, source), typed, source)
    for name in (*LENGTHS, *LABELS):
        if typed.get(name) is not None:
            raise UsageError(f"{kebab(name)} is for scans, and {source} is a result")
    return read_product(source)


def _in_domain(content: Scan | Product, source: Path, flag: str, *, to_tiff: bool) -> Scan:
    from ptycho_core.results.product import Product  # noqa: PLC0415 - as above

    if to_tiff or isinstance(content, Product):
        what = "TIFF files hold no patterns" if to_tiff else f"{source} is a result"
        raise UsageError(f"{kebab(flag)} is for the patterns of scans, and {what}")
    return content.as_counts() if flag == "as_counts" else content.as_amplitude()


def _makes_folders(content: Scan | Product, target: Path, wanted: str | None) -> bool:
    """Tell whether a scan is to be written in a format whose files stand in a folder of their own."""
    from ptycho_adapters.files.writers import choose_writer  # noqa: PLC0415 - h5py
    from ptycho_core.measurement.scan import Scan  # noqa: PLC0415

    return isinstance(content, Scan) and wanted != _TIFF and "" in choose_writer(target, wanted).suffixes


def _write(content: Scan | Product, target: Path, wanted: str | None) -> dict[str, object]:
    """Write a scan as a scan or a result as a result."""
    from ptycho_adapters.files import write_product, write_scan  # noqa: PLC0415 - h5py
    from ptycho_core.results.product import Product  # noqa: PLC0415

    if isinstance(content, Product):
        if wanted not in {None, _PRODUCT}:
            problem = Problem(path="--format", expected=f"{_PRODUCT} or {_TIFF} for a result", found=repr(wanted))
            raise ConfigError("this conversion cannot be made", [problem])
        write_product(content, target)
        return {"object_px": _size(content.object), "probe_modes": len(content.probe)}
    write_scan(content, target, format=wanted)
    return {"patterns": content.n_patterns, "pattern_px": content.N, "domain": str(content.domain)}


def _write_tiff(content: Scan | Product, source: Path, target: Path, typed: Mapping[str, object]) -> dict[str, object]:
    from ptycho_adapters.files.images.complex_tiff import TiffLayout, write_complex_tiff  # noqa: PLC0415 - tifffile

    name = str(typed.get("array") or _ARRAYS[0])
    array = content.probe if name == "probe" else content.object
    if array is None:
        problem = Problem(path="object", expected="an object to write", found="a scan without one", fix="--array probe")
        raise ScanFileError(str(source), [problem])
    layout = TiffLayout(str(typed.get("tiff_layout") or TiffLayout.REAL_IMAGINARY))
    write_complex_tiff(array, target, layout=layout)
    return {"array": name, "size_px": _size(array), "layout": str(layout)}


def _size(array: NDArray[np.complex64]) -> str:
    return " x ".join(map(str, array.shape))
