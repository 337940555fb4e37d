"""Work on a canvas that is too large to be treated at once: tile by tile, with the same result."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    Images = Sequence[Tensor]


def in_tiles(work: Callable[[Images], Images], images: Images, *, tile: int, reach: int) -> tuple[Tensor, ...]:
    """Treat pieces of a canvas and put together what comes out.

    Each piece is treated with what lies around it, as far as an output pixel can see, so there are no seams. Work that
    halves its images needs `tile` and `reach` to be multiples of what it can halve.

    Args:
        work: maps images (..., h, w) to others of the same size.
        images: of the same canvas, each (..., H, W).
        tile: edge of a piece in px.
        reach: how far from an output pixel an input pixel can matter, in px.

    Returns:
        Images (..., H, W) of the whole canvas.
    """
    height, width = images[0].shape[-2:]
    whole: tuple[Tensor, ...] = ()
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            above, before = max(0, top - reach), max(0, left - reach)
            around = slice(above, top + tile + reach), slice(before, left + tile + reach)
            made = work([image[(..., *around)] for image in images])
            whole = whole or tuple(one.new_empty(*one.shape[:-2], height, width) for one in made)
            for one, piece in zip(whole, made, strict=True):
                own = piece[..., top - above :, left - before :][..., :tile, :tile]
                one[..., top : top + tile, left : left + tile] = own
    return whole
