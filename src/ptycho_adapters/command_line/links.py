"""The flag that lets a file lead to any other."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LINKS_HELP = "let HDF5 files lead to others anywhere, not in their own folder alone"


def links_of(typed: Mapping[str, object]) -> AbstractContextManager[None]:
    """Give what lets links be followed as far as the flag says."""
    if not typed.get("follow_links"):
        return nullcontext()
    from ptycho_adapters.files.hdf5.elsewhere import links_followed_anywhere  # noqa: PLC0415 - h5py

    return links_followed_anywhere()
