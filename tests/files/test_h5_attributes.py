"""Claimed lengths of texts in HDF5 attributes, against what h5py wrote and against damage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from ptycho_adapters.files.hdf5.attributes import longest_claim

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = {"name": "a grid of α", "comments": "", "position_units": "m" * 300}


def save(path: Path, *, libver: str = "earliest", filler: int = 0) -> Path:
    """A file with texts as attributes of the root and of a dataset, and other attributes beside."""
    with h5py.File(path, "w", libver=libver) as file:
        file["data"] = np.zeros(filler, dtype=np.uint8)
        for node in (file, file["data"]):
            node.attrs.update(TEXTS)
        file.attrs["fixed"] = np.bytes_("name\0name")
        file.attrs["number"] = 7
    return path


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("name", TEXTS)
def test_the_claim_is_the_length_in_bytes(libver: str, name: str, tmp_path: Path) -> None:
    """In old and new files, whatever the encoding, the length is that of the text in UTF-8."""
    assert longest_claim(save(tmp_path / "a.h5", libver=libver), name) == len(TEXTS[name].encode())


@pytest.mark.parametrize("name", ["fixed", "number", "nothing"])
def test_other_attributes_claim_nothing(name: str, tmp_path: Path) -> None:
    """Texts of fixed length and numbers have their size in their type."""
    assert longest_claim(save(tmp_path / "a.h5"), name) is None


def test_a_name_across_the_blocks_of_reading_is_found(tmp_path: Path) -> None:
    """Wherever the attribute lies, it is found."""
    sizes = [(1 << 20) - 4096 + shift * 512 for shift in range(8)]

    claims = [longest_claim(save(tmp_path / f"{size}.h5", filler=size), "position_units") for size in sizes]

    assert claims == [300] * len(sizes)


def test_a_damaged_length_is_seen(tmp_path: Path) -> None:
    """Four bytes of the length changed are the claim, and nothing is allocated for it."""
    path = save(tmp_path / "a.h5")
    content = path.read_bytes()
    length = (300).to_bytes(4, "little")
    assert content.count(length) >= 1
    path.write_bytes(content.replace(length, (2**31).to_bytes(4, "little")))

    assert longest_claim(path, "position_units") == 2**31
