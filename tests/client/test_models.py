"""A model in each of the client's layouts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from client_sample import unpacked
from legacy_archive_sample import keras, structure
from ptycho_adapters.ptychodus.backend import Backend
from ptycho_adapters.ptychodus.models import as_archive, stored_backend, stored_payload, write_shipped_model
from ptycho_adapters.ptychodus.work import load_model
from ptycho_core.errors import ArchiveError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("layout", ["file", "unpacked"])
def test_a_file_may_stand_for_the_weights_in_the_package(layout: str, tmp_path: Path) -> None:
    """The client wants a model; this one holds none and says so."""
    write_shipped_model(tmp_path / "model.zip")
    path = tmp_path / "model.zip" if layout == "file" else unpacked(tmp_path / "model.zip", tmp_path / "bundle")

    model = load_model(path, logging.getLogger("ptychopinn"))

    assert model.trained is None
    assert model.keeps_probe
    assert stored_payload(path) is None


def test_a_probe_that_is_to_be_refined_is_torchs_affair(tmp_path: Path) -> None:
    """The TensorFlow backend takes probes as they are, so it gets no such model, where it would get any other."""
    found = {}
    for refine in (False, True):
        write_shipped_model(tmp_path / "model.zip", refine_probe=refine)
        model = load_model(tmp_path / "model.zip", logging.getLogger("ptychopinn"), shipped=Backend.TENSORFLOW)
        found[refine] = (model.backend, model.refines_probe)

    assert found == {False: (Backend.TENSORFLOW, False), True: (Backend.PYTORCH, True)}


@pytest.mark.filterwarnings("ignore:.*is a model of the legacy software")
@pytest.mark.parametrize("layout", ["file", "unpacked"])
def test_models_of_the_legacy_software_are_loaded(layout: str, tmp_path: Path) -> None:
    """In both layouts, by the torch backend."""
    archive = keras(structure(64, 2, 1)).write(tmp_path / "wts.h5.zip")
    path = archive if layout == "file" else unpacked(archive, tmp_path / "bundle")

    model = load_model(path, logging.getLogger("ptychopinn"))

    assert model.backend is Backend.PYTORCH
    assert model.payload is not None
    assert model.payload.tf_training_config.model.gridsize == 2


def test_the_packed_copy_is_removed(tmp_path: Path) -> None:
    """Nothing is left of what was packed again to be read, and nothing is written beside the model."""
    write_shipped_model(tmp_path / "model.zip")
    folder = unpacked(tmp_path / "model.zip", tmp_path / "bundle")

    with as_archive(folder) as archive:
        assert stored_backend(archive) is None

    assert not archive.exists()
    assert [each.name for each in folder.iterdir()] == ["manifest.json"]


def test_a_folder_of_other_things_is_no_model(tmp_path: Path) -> None:
    """It is read as an archive with the wrong members."""
    (tmp_path / "notes.txt").write_text("nothing")

    with pytest.raises(ArchiveError):
        load_model(tmp_path, logging.getLogger("ptychopinn"))
