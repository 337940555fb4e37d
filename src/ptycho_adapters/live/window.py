"""The part of a detector's frames that is wanted."""

from __future__ import annotations

from typing import Self

import attrs

from ptycho_core.errors import Problem, ScanError


@attrs.frozen(kw_only=True)
class Window:
    """A square of a frame.

    Attributes:
        size_px: side.
        centre_px: (row, column) of the pixel that becomes the middle one, N // 2; None for frames of that very size.
    """

    size_px: int
    centre_px: tuple[int, int] | None = None

    def of(self, shape: tuple[int, ...], where: str) -> tuple[slice, slice]:
        """Give rows and columns.

        Args:
            shape: (H, W) of a frame.
            where: the frames, for messages.

        Raises:
            ScanError: the square does not lie within the frame, or the frame is of another size and nothing says where.
        """
        half, size = self.size_px // 2, self.size_px
        if self.centre_px is None:
            if shape != (size, size):
                expected, found = f"({size}, {size}), as the probe has", f"{shape}"
                fix = "--centre ROW,COLUMN says where the beam is, and cuts a square about it"
                raise ScanError(where, [Problem(path="frames", expected=expected, found=found, fix=fix)])
            return slice(0, size), slice(0, size)
        first = tuple(centre - half for centre in self.centre_px)
        if any(low < 0 or low + size > whole for low, whole in zip(first, shape, strict=True)):
            expected = f"{size} px about {self.centre_px} within the frame"
            raise ScanError(where, [Problem(path="--centre", expected=expected, found=f"frames {shape}")])
        return slice(first[0], first[0] + size), slice(first[1], first[1] + size)

    @classmethod
    def read(cls, text: str | None, size_px: int) -> Self:
        """Make a window from `ROW,COLUMN`, or from nothing for whole frames.

        Raises:
            ValueError: the text is not two whole numbers.
        """
        if text is None:
            return cls(size_px=size_px)
        row, column = (int(word) for word in text.split(","))
        return cls(size_px=size_px, centre_px=(row, column))
