"""One way to read a scan, whatever its format: the content decides, never the file's name."""

from __future__ import annotations

from pathlib import Path

import attrs
from numpy.lib import format as npy

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.files.evidence.recognition import gather_evidence
from ptycho_adapters.files.in_file import InFile
from ptycho_adapters.files.pattern_map import PatternMap, map_name
from ptycho_adapters.files.readers import choose_reader, facts_of
from ptycho_adapters.files.reading import DetectorCheck, FileFacts, ProbeSource, Reader, ReadRequest
from ptycho_core.errors import ConfigError, Problem, ScanFileError
from ptycho_core.measurement.scan import MeasurementDomain, Scan

_TOO_LARGE = Problem(
    path="file",
    expected="a scan that fits into memory",
    found="one that does not",
    fix="map its patterns to a folder on disk with memory_map= or --memory-map FOLDER, or read it on a larger machine",
)


def read_scan(
    path: str | Path,
    *,
    domain: MeasurementDomain | str | None = None,
    product: str | Path | None = None,
    probe: ProbeSource | None = None,
    memory_map: str | Path | None = None,
    detector_check: DetectorCheck | str = DetectorCheck.MASK,
) -> Scan:
    """Read a scan from a file, or from the folder of a Ptychodus workflow.

    Args:
        path: the file; its content decides on the format.
        domain: whether the patterns are "counts" or "amplitude". None means that the file tells, by its format, by a
            key or by evidence; a file that does not is refused.
        product: a second file with what the first one lacks: the Ptychodus product with the positions and the probe
            that a diffraction file goes with. It is never searched for beside the first one, save
            for a PtychoShelves pair, which belongs together by its names.
        probe: makes the probe from what is known of the scan, instead of the one in the files.
        memory_map: a folder, made if need be, for a scan that is larger than the memory. The patterns are copied into
            a file of their own there, a few at a time, and the scan's patterns are a read-only map of that file. It is
            made anew by every reading, never taken for what it may still hold, and left for the caller to remove;
            it takes the place of an older one of the same scan file at once, so that a scan that has it mapped keeps
            what it has.
        detector_check: what is done about hot, stuck and dead pixels, gaps, spikes, overflows, values that are no
            numbers or below 0, and frames that are dark, glitched or not finite. "mask" masks the pixels, replaces
            single readings, and leaves out the frames with their positions; "warn" changes nothing; both say what was
            found, with places and the numbers that frames have in the file, in `metadata.extra` under `detector_...`.
            "off" does not look.

    Returns:
        The scan, with what was found out rather than stated in `metadata.extra`.

    Raises:
        ConfigError: when `domain` or `detector_check` is none of its words.
        FileNotFoundError: when there is no such file.
        ScanFileError: when it is no scan, with every problem there is, or does not fit into memory.
        OSError: when the map cannot be written.
    """
    path = Path(path)
    request = ReadRequest(
        domain=None if domain is None else _as_domain(domain),
        product=None if product is None else Path(product),
        probe=probe,
        detector_check=_as_check(detector_check),
    )
    return read_requested(path, request, memory_map)


def open_scan(
    path: str | Path,
    *,
    domain: MeasurementDomain | str | None = None,
    product: str | Path | None = None,
    probe: ProbeSource | None = None,
    detector_check: DetectorCheck | str = DetectorCheck.MASK,
    always: bool = True,
) -> Scan:
    """Read a scan as `read_scan` does, but leave the patterns in their HDF5 file.

    They may be chunked and compressed, and lie in other files that this one links or is put together from. They are
    gone through a few times to be checked, and later read some at a time when they are looked at; the values are
    those that `read_scan` gives. The files have to stay as they are.

    Args:
        path: the file.
        domain: as for `read_scan`.
        product: as for `read_scan`.
        probe: as for `read_scan`.
        detector_check: as for `read_scan`; what is mended is mended whenever it is read.
        always: False leaves only patterns that do not fit into memory.

    Returns:
        The scan; its patterns are `StoredPatterns`.

    Raises:
        ConfigError: when `domain` or `detector_check` is none of its words.
        FileNotFoundError: when there is no such file.
        ScanFileError: when it is no scan, or its patterns can only be read one after the other.
    """
    request = ReadRequest(
        domain=None if domain is None else _as_domain(domain),
        product=None if product is None else Path(product),
        probe=probe,
        detector_check=_as_check(detector_check),
        pattern_map=InFile(always=always),
    )
    return read_requested(Path(path), request)


def read_requested(path: Path, request: ReadRequest, memory_map: str | Path | None = None) -> Scan:
    """Read a scan as `read_scan` does, with what was said about it as one record.

    Args:
        path: the file.
        request: what was said, lengths and positions included, which outrank those of the file.
        memory_map: folder for a scan that is larger than the memory.

    Raises:
        FileNotFoundError: when there is no such file.
        ScanFileError: when it is no scan, when lengths or positions were said of a format that says them itself, or
            when it does not fit into memory.
        OSError: when the map cannot be written.
    """
    if request.product is not None and not request.product.exists():
        msg = f"Product file not found: {request.product}"
        raise FileNotFoundError(msg)
    evidence = gather_evidence(path)
    try:
        reader = choose_reader(evidence)
        _check_stated(reader, request, path)
        return reader.read(path, request) if memory_map is None else _mapped(reader, path, request, Path(memory_map))
    except MemoryError:
        raise ScanFileError(str(path), [_TOO_LARGE]) from None


def _check_stated(reader: Reader, request: ReadRequest, path: Path) -> None:
    """Refuse what was said about the experiment of a file that says all of it in its own words."""
    if request.stated.names and not reader.takes_stated:
        said = ", ".join(name.replace("_", " ") for name in request.stated.names)
        expected, fix = f"no such flags: {reader.title} says it in the file", "change it with ptycho prepare IN OUT.npz"
        raise ScanFileError(str(path), [Problem(path="experiment", expected=expected, found=said, fix=fix)])


def _mapped(reader: Reader, path: Path, request: ReadRequest, folder: Path) -> Scan:
    """Read a scan whose patterns stay in a file of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / map_name(path)
    with atomic_path(target) as partial:
        pattern_map = PatternMap(partial)
        scan = reader.read(path, attrs.evolve(request, pattern_map=pattern_map))
        pattern_map.finish(scan.patterns, path)
    return attrs.evolve(scan, patterns=npy.open_memmap(target, mode="r"))


def read_file_facts(path: str | Path) -> FileFacts:
    """Say what a scan file holds without loading a pattern: format, number, size, dtype and bytes of its patterns.

    Raises:
        FileNotFoundError: when there is no such file.
        ScanFileError: when it is no scan file, or holds no stack of patterns.
    """
    return facts_of(gather_evidence(Path(path)))


def _as_check(value: str) -> DetectorCheck:
    if value not in tuple(DetectorCheck):
        expected = " or ".join(DetectorCheck)
        raise ConfigError("read_scan", [Problem(path="detector_check", expected=expected, found=repr(value))])
    return DetectorCheck(value)


def _as_domain(value: str) -> MeasurementDomain:
    if value not in tuple(MeasurementDomain):
        expected = " or ".join(MeasurementDomain)
        raise ConfigError("read_scan", [Problem(path="domain", expected=expected, found=repr(value))])
    return MeasurementDomain(value)
