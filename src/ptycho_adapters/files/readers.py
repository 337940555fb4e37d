"""The formats that a scan can be read from, in the order in which a file is tried against them."""

from __future__ import annotations

from ptycho_adapters.files.formats.cxi.reader import TITLE as CXI_TITLE
from ptycho_adapters.files.formats.cxi.reader import cxi_patterns, is_cxi, read_cxi_scan
from ptycho_adapters.files.formats.every_measured import MEASURED
from ptycho_adapters.files.formats.fold_slice import TITLE as FOLD_SLICE_TITLE
from ptycho_adapters.files.formats.fold_slice import fold_slice_patterns, is_fold_slice, read_fold_slice_scan
from ptycho_adapters.files.formats.npz.reader import npz_patterns, read_npz_scan
from ptycho_adapters.files.formats.ptychodus.reader import (
    PRODUCT_TITLE,
    is_product_only,
    is_ptychodus,
    ptychodus_patterns,
    read_ptychodus_scan,
    refuse_product_as_scan,
)
from ptycho_adapters.files.formats.ptychodus.reader import TITLE as PTYCHODUS_TITLE
from ptycho_adapters.files.formats.ptychodus.training import TITLE as TRAINING_TITLE
from ptycho_adapters.files.formats.ptychodus.training import (
    is_ptychodus_training,
    read_training_scan,
    training_patterns,
)
from ptycho_adapters.files.formats.ptyd import TITLE as PTYD_TITLE
from ptycho_adapters.files.formats.ptyd import is_ptyd, ptyd_patterns, read_ptyd_scan
from ptycho_adapters.files.reading import ArrayFacts, Container, Evidence, FileFacts, Reader, ScanFormat
from ptycho_core.errors import Problem, ScanFileError

_LISTED_ARRAYS = 12
_KNOWN_STARTS = {
    b"\x93NUMPY": "a single .npy array",
    b"PK\x05\x06": "an NPZ (zip) file without members",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"MATLAB": "a MATLAB file older than version 7.3",
}


def _is_any_npz(evidence: Evidence) -> bool:
    return evidence.container is Container.ZIP


def no_patterns(_evidence: Evidence) -> ArrayFacts | None:
    """Say that a format holds no patterns."""
    return None


READERS: tuple[Reader, ...] = (
    Reader(
        format=ScanFormat.PTYCHOSHELVES,
        title=FOLD_SLICE_TITLE,
        recognises=is_fold_slice,
        read=read_fold_slice_scan,
        patterns=fold_slice_patterns,
        takes_stated=True,
    ),
    Reader(
        format=ScanFormat.PTYPY,
        title=PTYD_TITLE,
        recognises=is_ptyd,
        read=read_ptyd_scan,
        patterns=ptyd_patterns,
        takes_stated=True,
    ),
    Reader(
        format=ScanFormat.CXI,
        title=CXI_TITLE,
        recognises=is_cxi,
        read=read_cxi_scan,
        patterns=cxi_patterns,
        takes_stated=True,
    ),
    Reader(
        format=ScanFormat.PTYCHODUS_TRAINING,
        title=TRAINING_TITLE,
        recognises=is_ptychodus_training,
        read=read_training_scan,
        patterns=training_patterns,
    ),
    Reader(
        format=ScanFormat.PTYCHODUS,
        title=PTYCHODUS_TITLE,
        recognises=is_ptychodus,
        read=read_ptychodus_scan,
        patterns=ptychodus_patterns,
    ),
    Reader(
        format=ScanFormat.PTYCHODUS_PRODUCT,
        title=PRODUCT_TITLE,
        recognises=is_product_only,
        read=refuse_product_as_scan,
        patterns=no_patterns,
    ),
    *(measured.reader() for measured in MEASURED),
    # What is an NPZ and nothing more special is a scan with the legacy keys; its reader says what is missing.
    Reader(format=ScanFormat.NPZ, title="NPZ", recognises=_is_any_npz, read=read_npz_scan, patterns=npz_patterns),
)


def choose_reader(evidence: Evidence) -> Reader:
    """Give the reader for a file.

    Raises:
        ScanFileError: when no format fits, with what was found instead.
    """
    for reader in READERS:
        if reader.recognises(evidence):
            return reader
    if evidence.problems:
        raise ScanFileError(str(evidence.path), evidence.problems)
    titles = " or ".join(reader.title for reader in READERS if reader.patterns is not no_patterns)
    problem = Problem(path="file", expected=f"a scan in {titles} format", found=describe_evidence(evidence))
    raise ScanFileError(str(evidence.path), [problem])


def title_of(evidence: Evidence) -> str:
    """Give the name of a file's format for people; what it is made of where no format fits."""
    return next((reader.title for reader in READERS if reader.recognises(evidence)), str(evidence.container))


def describe_evidence(evidence: Evidence) -> str:
    """Say in one breath what a file is that no reader recognises."""
    if evidence.container in (Container.FOLDER, Container.HDF5, Container.ZIP):
        names = sorted(evidence.arrays)
        listed = ", ".join(names[:_LISTED_ARRAYS]) + (", …" if len(names) > _LISTED_ARRAYS else "")
        what = {Container.FOLDER: "a folder", Container.HDF5: "an HDF5 file", Container.ZIP: "an NPZ file"}
        return f"{what[evidence.container]} with {listed or 'nothing in it'}"
    if not evidence.head:
        return "an empty file"
    known = (text for start, text in _KNOWN_STARTS.items() if evidence.head.startswith(start))
    return next(known, f"a file starting {evidence.head!r}")


def facts_of(evidence: Evidence) -> FileFacts:
    """Say what a scan file holds, from its evidence alone.

    Raises:
        ScanFileError: when it is no scan file, or holds no stack of patterns.
    """
    reader = choose_reader(evidence)
    patterns = reader.patterns(evidence)
    if patterns is None or len(patterns.shape) != 3:
        found = "none" if patterns is None else f"shape {patterns.shape}"
        problem = Problem(path="patterns", expected="a stack of diffraction patterns (n, N, N)", found=found)
        raise ScanFileError(str(evidence.path), [*evidence.problems, problem])
    n_patterns, rows, columns = patterns.shape
    return FileFacts(
        format=reader.format,
        title=reader.title,
        n_patterns=n_patterns,
        frame=(rows, columns),
        dtype=patterns.dtype,
        pattern_bytes=patterns.nbytes,
    )
