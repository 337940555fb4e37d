"""`ptycho migrate`, and models of the legacy software given to the other commands."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest
import torch

from cli_samples import tiny_scan
from legacy_archive_sample import MODEL, keras, structure, zipped
from ptycho_adapters import create_inference_payload, generalist_for, legacy, load_archive, read_scan, save_archive
from ptycho_adapters.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOTICE = "is a model of the legacy software"
as_for_users = pytest.mark.filterwarnings(f"always:.*{NOTICE}")


@pytest.fixture(autouse=True)
def parameters() -> Iterator[None]:
    with legacy.legacy_scope():
        yield


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with a model of the legacy software."""
    (tmp_path / "old").mkdir()
    keras(structure(64, 1, 1)).write(tmp_path / "old" / "wts.h5.zip")
    return tmp_path / "old"


def test_a_model_is_migrated(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The new archive opens without a word, holds the same weights, and the old one is as it was."""
    before = (old / "wts.h5.zip").read_bytes()

    assert main(["migrate", str(old), str(tmp_path / "new")]) == 0

    told = capsys.readouterr()
    assert "Keras, amplitude and phase" in told.out
    assert told.out.splitlines()[-1] == f"wrote {tmp_path / 'new' / 'wts.h5.zip'}"
    assert told.err == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = load_archive(tmp_path / "new")
    with pytest.warns(UserWarning, match=NOTICE):
        states = [model.generator.state_dict() for model in (load_archive(old), new)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert (old / "wts.h5.zip").read_bytes() == before
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["wts.h5.zip"]


def test_what_cannot_be_migrated_is_said_and_nothing_is_written(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model of this library, a damaged one, none at all, and one onto itself."""
    own = save_archive(generalist_for(read_scan(tiny_scan(tmp_path))), tmp_path / "own")
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(zipped({f"{MODEL}/model.keras": b"", f"{MODEL}/params.dill": b"cposix\nsystem\n."}))
    before = (old / "wts.h5.zip").read_bytes()

    for source, target, named in (
        (own, tmp_path / "new", "expected a model of the legacy software"),
        (damaged, tmp_path / "new", "posix.system"),
        (tmp_path / "nothing", tmp_path / "new", "Model directory not found"),
        (old, old, "another file than OLD"),
    ):
        assert main(["migrate", str(source), str(target)]) == 2
        assert named in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert (old / "wts.h5.zip").read_bytes() == before


@as_for_users
def test_a_scan_is_reconstructed_with_a_model_as_it_is(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`infer` takes it, and says once on standard error what it is."""
    scan = tiny_scan(tmp_path)
    line = ["infer", "--model-path", str(old), "--test-data", str(scan), "--output-dir", str(tmp_path / "out")]

    assert main([*line, "--accelerator", "cpu"]) == 0

    told = capsys.readouterr()
    assert told.err.count(NOTICE) == 1
    assert NOTICE not in told.out
    assert (tmp_path / "out" / "object.h5").is_file()


def test_a_payload_takes_the_settings_of_the_model(old: Path, tmp_path: Path) -> None:
    """Size, network and dose come from the archive; a model of this library raises no such notice."""
    scan = tiny_scan(tmp_path)

    with pytest.warns(UserWarning, match=NOTICE):
        payload = create_inference_payload(old, scan, tmp_path / "out", {"n_groups": 4})

    assert payload.pt_model_config.architecture == "cnn"
    assert payload.pt_model_config.n_filters_scale == 1
    assert not payload.pt_model_config.cbam_encoder
    assert payload.provenance["amp_activation"].value == "archive"


@as_for_users
def test_a_model_is_inspected(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`inspect` tells whose it is."""
    assert main(["inspect", str(old / "wts.h5.zip")]) == 0

    assert "archive of the legacy software" in capsys.readouterr().out
