"""Stacks of detector frames in files of any kind, of any size and rectangular ones too, read a few at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.evidence.recognition import gather_evidence
from ptycho_adapters.files.formats.every_measured import measured_format
from ptycho_adapters.files.formats.ptyd import is_ptyd, ptyd_stack
from ptycho_adapters.files.hdf5.nodes import list_arrays, open_h5
from ptycho_adapters.files.npz.members import DAMAGE as NPZ_DAMAGE
from ptycho_adapters.files.npz.members import member_keys, open_archive, read_pieces
from ptycho_adapters.files.raw.number_formats import COMPLEX, REAL, TEXT, TRUTH, with_counts
from ptycho_adapters.files.reading import ArrayFacts, Container
from ptycho_adapters.files.stacks.hdf5 import hdf5_series, hdf5_stack, numbered_series
from ptycho_adapters.files.stacks.stack import Chosen, FrameStack, Pieces, stack_facts
from ptycho_core.errors import Problem, ScanFileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ptycho_adapters.files.reading import Evidence
    from ptycho_core.any_array import AnyArray

_KNOWN = ("entry_1/data_1/data", "entry_1/instrument_1/detector_1/data", "diff3d", "diffraction", "dp", "patterns")
_NUMPY_START = b"\x93NUMPY"
_BYTES_AT_ONCE = 1 << 25
_OTHER_WAVES = ("probe", "object", "illumination")


@attrs.frozen(kw_only=True, eq=False)
class RawFrames:
    """A stack of frames that is read when its pieces are asked for.

    Attributes:
        path: the file.
        key: where in the file.
        shape: (n, H, W); a raster (ny, nx, H, W) is gone through row by row.
        dtype: number format in the file; true and false are given as 1 and 0, uint8.
        raster: (ny, nx) where the file has the frames in rows and columns.
        read: gives all frames in order, some at a time, (m, H, W) each; anew at every call.
        at: gives the frames of these numbers alone, (m, H, W); None where the file can only be gone through.
    """

    path: Path
    key: str
    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    raster: tuple[int, int] | None
    read: Pieces
    at: Chosen | None = None

    def spread(self, kept: npt.NDArray[np.int64], most: int) -> AnyArray:
        """Give some of the frames that are kept, from the first to the last, as evenly as can be.

        Args:
            kept: (m,) their numbers, ascending.
            most: how many to give, if there are that many.
        """
        places = np.linspace(0, len(kept) - 1, min(most, len(kept))).astype(np.int64)
        return np.concatenate(list(self.pieces(kept[places]))) if self.at is None else self.at(kept[places])

    def pieces(self, kept: npt.NDArray[np.int64]) -> Iterator[AnyArray]:
        """Give the frames that are kept, ascending, some at a time."""
        first = 0
        for piece in self.read():
            inside = kept[(kept >= first) & (kept < first + len(piece))] - first
            if inside.size:
                yield piece if inside.size == len(piece) else piece[inside]
            first += len(piece)


def raw_frames(path: Path, key: str | None = None) -> RawFrames:
    """Find the frames in a file.

    Args:
        path: an HDF5 or NPZ file, or a single .npy array.
        key: their name in it; by default the known ones of the formats, then the largest stack that there is.

    Raises:
        FileNotFoundError: there is no such file.
        ScanFileError: the file cannot be read, or holds no stack of frames.
        NumberFormatError: it holds one of complex numbers or of text.
    """
    stack = with_counts(path, _stack(gather_evidence(path), key))
    n_frames, height, width = stack.facts.shape
    return RawFrames(
        path=path,
        key=stack.key,
        shape=(n_frames, height, width),
        dtype=stack.facts.dtype,
        raster=stack.raster,
        read=stack.read,
        at=stack.at,
    )


def _stack(evidence: Evidence, key: str | None) -> FrameStack:
    """Find the frames as the reader of their format does, whatever they are made of."""
    path = evidence.path
    if (
        evidence.head.startswith(_NUMPY_START[: len(evidence.head)])
        and evidence.container is Container.OTHER
        and evidence.head
    ):
        return _of_npy(path)
    measured = measured_format(evidence) if key is None else None
    stack = None if measured is None else measured.stack(evidence)
    if stack is not None:
        return stack
    chunks = ptyd_stack(evidence) if key is None and is_ptyd(evidence) else None
    if chunks is not None:
        return chunks
    series = numbered_series(evidence) if key is None else ()
    if series:
        return hdf5_series(path, {name: evidence.arrays[name] for name in series})
    name, facts = _chosen(evidence, key)
    if evidence.container is Container.HDF5:
        return hdf5_stack(path, name, facts)
    of_stack, raster = stack_facts(facts)
    return FrameStack(key=name, facts=of_stack, raster=raster, read=_of_npz(path, name, facts))


def _chosen(evidence: Evidence, key: str | None) -> tuple[str, ArrayFacts]:
    """Choose the array: the one that is named, else of real numbers, else of true and false, else to be refused."""
    arrays = {**_texts(evidence), **evidence.arrays}
    stacks = {name: facts for name, facts in arrays.items() if len(facts.shape) in (3, 4) and facts.nbytes}
    name = _largest(stacks) if key is None else key.strip("/")
    if name in stacks:
        return name, stacks[name]
    found = ", ".join(f"{name} {facts.shape}" for name, facts in list(evidence.arrays.items())[:12]) or "none"
    expected = "a stack of frames (n, H, W) of real numbers" if key is None else f"a stack of frames under {key}"
    fix = "name it with --frames" if key is None else ""
    raise ScanFileError(
        str(evidence.path), [*evidence.problems, Problem(path="frames", expected=expected, found=found, fix=fix)]
    )


def _largest(stacks: Mapping[str, ArrayFacts]) -> str:
    """Name a known or the largest stack of the first kind that there is; nothing where there is none."""
    for kinds in (REAL, TRUTH, COMPLEX + TEXT):
        alike = {name: facts.nbytes for name, facts in stacks.items() if facts.dtype.kind in kinds}
        if COMPLEX in kinds:
            alike = {
                name: size for name, size in alike.items() if not any(word in name.lower() for word in _OTHER_WAVES)
            }
        if alike:
            return next((name for name in _KNOWN if name in alike), max(alike, key=alike.__getitem__))
    return ""


def _texts(evidence: Evidence) -> dict[str, ArrayFacts]:
    """List datasets of text, which are no evidence of any format."""
    if evidence.container is not Container.HDF5:
        return {}
    file = open_h5(evidence.path)
    if isinstance(file, Problem):
        return {}
    with file:
        return list_arrays(file, TEXT)[0]


def _of_npz(path: Path, name: str, facts: ArrayFacts) -> Pieces:
    def read() -> Iterator[AnyArray]:
        archive = open_archive(path)
        if isinstance(archive, Problem):
            raise ScanFileError(str(path), [archive])
        with archive:
            infos = member_keys(archive)
            found = infos if isinstance(infos, Problem) else read_pieces(archive, infos[name])
            if isinstance(found, Problem):
                raise ScanFileError(str(path), [found])
            try:
                for piece in found:
                    yield piece.reshape(-1, *facts.shape[-2:])
            except NPZ_DAMAGE as error:
                text = " ".join(str(error).split()) or type(error).__name__
                problem = Problem(path="frames", expected="an undamaged array", found=f"damaged data ({text})")
                raise ScanFileError(str(path), [problem]) from error

    return read


def _of_npy(path: Path) -> FrameStack:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        problem = Problem(path="file", expected="an undamaged .npy array", found=str(error))
        raise ScanFileError(str(path), [problem]) from None
    if array.ndim not in (3, 4) or not array.size:
        problem = Problem(
            path="frames",
            expected="a stack of frames (n, H, W) of real numbers",
            found=f"{array.shape} of {array.dtype}",
        )
        raise ScanFileError(str(path), [problem])
    facts, raster = stack_facts(ArrayFacts(shape=array.shape, dtype=array.dtype))
    stack = array.reshape(facts.shape)

    def read() -> Iterator[AnyArray]:
        step = max(1, _BYTES_AT_ONCE // stack[0].nbytes)
        for first in range(0, len(stack), step):
            yield np.asarray(stack[first : first + step])

    return FrameStack(key="", facts=facts, raster=raster, read=read, at=lambda numbers: np.asarray(stack[numbers]))
