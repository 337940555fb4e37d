"""Formats of frames and what is known beside them: one description gives a reader and what a preparation needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.files.evidence.recognition import gather_evidence
from ptycho_adapters.files.formats.beamline import scan_of
from ptycho_adapters.files.formats.beamline_parts import BeamlineParts
from ptycho_adapters.files.reading import ArrayFacts, Evidence, Reader, ReadRequest, ScanFormat, refuse_product
from ptycho_adapters.files.stacks.stack import FrameStack, whole_stack
from ptycho_core.errors import Problem, ScanFileError

if TYPE_CHECKING:
    from ptycho_core.any_array import AnyArray
    from ptycho_core.measurement.scan import Scan


@attrs.frozen(kw_only=True)
class MeasuredFormat:
    """One such format.

    Attributes:
        format: its name.
        title: its name for people.
        recognises: tells from the evidence alone whether a file is of this format.
        stack: finds the frames, turned as their file asks for; None where there are none.
        parts: reads everything beside them, given them; what is missing is among the problems. Raises ScanFileError.
    """

    format: ScanFormat
    title: str
    recognises: Callable[[Evidence], bool]
    stack: Callable[[Evidence], FrameStack | None]
    parts: Callable[[Path, FrameStack, ReadRequest], BeamlineParts]

    def reader(self) -> Reader:
        """Give the reader of scans."""

        def patterns(evidence: Evidence) -> ArrayFacts | None:
            stack = self.stack(evidence)
            return None if stack is None else stack.facts

        return Reader(
            format=self.format,
            title=self.title,
            recognises=self.recognises,
            read=self._read,
            patterns=patterns,
            takes_stated=True,
        )

    def _read(self, path: Path, request: ReadRequest) -> Scan:
        refuse_product(path, request, self.title)
        evidence = gather_evidence(path)
        stack = self.stack(evidence)
        if stack is None:
            expected = f"a stack of frames (n, N, N), as {self.title} has it"
            problem = Problem(path="frames", expected=expected, found="none")
            raise ScanFileError(str(path), [*evidence.problems, problem])
        parts = self.parts(path, stack, request)
        parts.raster = stack.raster
        parts.key_of = {"patterns": stack.key, **parts.key_of}
        try:
            found: AnyArray | Problem | None = whole_stack(stack, request.pattern_map)
        except ScanFileError as error:
            parts.problems.extend(error.problems)
            found = None
        if isinstance(found, Problem):
            parts.problems.append(found)
        else:
            parts.patterns = found
        return scan_of(parts, path, request)
