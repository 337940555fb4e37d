"""Folders of scans on the command line: which files are trained on, what comes of it, and what is refused."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from cli_samples import tiny_scan, training_payload
from ptycho_adapters import legacy
from ptycho_adapters.cli import main, parse
from ptycho_adapters.command_line.training_scans import training_files
from ptycho_adapters.commands import train
from ptycho_adapters.files import read_product, read_scan, scan_files, write_scan
from ptycho_adapters.torch_backend import load_archive
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ["dead-leaves-zone-plate-0", "a", "dead-leaves-zone-plate-2"]
FLAGS = "--n-groups 16 --gridsize 1 --epochs 1 --batch-size 8 --architecture unet --n-filters-scale 1 --quiet "
FLAGS += "--accelerator cpu --logger none --no-probe-autofocus"


@pytest.fixture(autouse=True)
def parameters() -> Iterator[None]:
    with legacy.legacy_scope():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three scans, one of them without a name, and some files that are none."""
    folder = tmp_path_factory.mktemp("scans")
    for seed, name in enumerate(("b.npz", "a.npz", "c.NPZ")):
        tiny_scan(folder, "written.npz", seed=seed).rename(folder / name)
    scan = read_scan(folder / "a.npz")
    write_scan(attrs.evolve(scan, metadata=attrs.evolve(scan.metadata, name="")), folder / "a.npz")
    (folder / "notes.txt").write_text("of the session")
    (folder / "picture.png").write_bytes(b"no picture")
    (folder / "._a.npz").write_bytes(b"what another system leaves")
    (folder / "more.npz").mkdir()
    return folder


def run(out: Path, *arguments: object, code: int = 0) -> tuple[str, str]:
    """Run a training; what it said on standard output and on standard error."""
    said, told = io.StringIO(), io.StringIO()
    line = ["train", "--output-dir", str(out), *FLAGS.split(), *map(str, arguments)]
    with redirect_stdout(said), redirect_stderr(told):
        found = main(line)
    assert found == code, told.getvalue()
    return said.getvalue(), told.getvalue()


def files_of(*arguments: object) -> list[str]:
    """Names of the files that a command line trains on."""
    line = ["train", "--output-dir", "out", "--n-groups", "8", *map(str, arguments)]
    request = train.read_request(parse(line)[1])
    source = request.required_path("train_data_file")
    return [path.name for path in training_files(request, training_payload(source, source.parent, *line[5:])).train]


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A model of all scans of the folder, and what its training said."""
    out = tmp_path_factory.mktemp("model")
    with legacy.legacy_scope():
        said, _ = run(out, "--train-data-file", folder / "b.npz", "--training-directories", folder)
    return out, said


def test_the_scans_of_a_folder_are_trained_on_together(folder: Path, trained: tuple[Path, str]) -> None:
    """The one that was named comes first, the others by name, each with a probe and a flux of its own.

    A scan that says no name is called after its file.
    """
    model = load_archive(trained[0])

    scans = [read_scan(folder / name) for name in ("b.npz", "a.npz", "c.NPZ")]
    assert [each.flux for each in model.probes] == pytest.approx([float(s.counts().sum((1, 2)).mean()) for s in scans])
    assert [each.name for each in model.probes] == NAMES
    assert len({each.probe.tobytes() for each in model.probes}) == 3
    assert model.payload.pt_training_config.training_directories == (folder,)


def test_the_report_speaks_of_every_scan(folder: Path, trained: tuple[Path, str]) -> None:
    """How many there are, where they came from, and how far each probe was moved."""
    out, said = trained
    summary = json.loads((out / "summary.json").read_text())

    assert said.startswith(f"trained on {folder / 'b.npz'} and 2 more scans: 48 patterns of 64 px\n")
    assert summary["inputs"] == {
        "train_data_file": str(folder / "b.npz"),
        "scan_2": str(folder / "a.npz"),
        "scan_3": str(folder / "c.NPZ"),
    }
    figures = summary["figures"]
    assert figures["scans"] == 3
    assert all(figures[name] > 0 for name in ("probe_change", "probe_change_2", "probe_change_3"))
    assert summary["settings"]["training_directories"] == [str(folder)]


def test_a_model_of_several_scans_can_be_looked_at(
    trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its sheet lists the scans and the photons of each."""
    assert main(["inspect", str(trained[0] / "wts.h5.zip"), "--json"]) == 0

    facts = json.loads(capsys.readouterr().out)["facts"]["model"]
    assert facts["scans"] == NAMES
    assert facts["photons_per_frame"] == [each.flux for each in load_archive(trained[0]).probes]


def test_a_reconstruction_says_whose_probe_it_took(folder: Path, trained: tuple[Path, str], tmp_path: Path) -> None:
    """By number and name of the scan; the first probe in the product is the one that this one started from."""
    flags = ["--output-dir", str(tmp_path), "--accelerator", "cpu", "--quiet", "--probe-source", "model"]

    assert main(["infer", "--model-path", str(trained[0]), "--test-data", str(folder / "a.npz"), *flags]) == 0

    figures = json.loads((tmp_path / "summary.json").read_text())["figures"]
    assert figures["probe_source"] == "model"
    number, name = figures["probe_of_scan"].split(" ")
    probe = load_archive(trained[0]).probes[int(number) - 1]
    assert probe.name == name
    details = read_product(tmp_path / "object.h5").run
    assert details is not None
    assert details.first_probe is not None
    start, first = probe.start_probe.ravel(), details.first_probe.ravel()
    assert abs(np.vdot(start, first)) == pytest.approx(float(np.linalg.norm(start) * np.linalg.norm(first)), rel=1e-5)


def test_folders_change_the_training(folder: Path, tmp_path: Path) -> None:
    """More scans, other weights; what a training without folders says is as ever."""
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(folder / "a.npz", other / "a.npz")
    named = ["--train-data-file", folder / "b.npz"]

    said, _ = run(tmp_path / "one", *named)
    run(tmp_path / "two", *named, "--training-directories", other)

    one, two = (load_archive(tmp_path / name) for name in ("one", "two"))
    assert [len(model.probes) for model in (one, two)] == [1, 2]
    weights = [next(model.generator.parameters()).detach().numpy() for model in (one, two)]
    assert not np.array_equal(weights[0], weights[1])
    assert said.startswith(f"trained on {folder / 'b.npz'}: 16 patterns of 64 px\n")
    assert (
        not {"scans", "probe_change_2"} & json.loads((tmp_path / "one" / "summary.json").read_text())["figures"].keys()
    )


def test_every_file_is_read_once(folder: Path, tmp_path: Path) -> None:
    """Neither a folder that is named twice, nor a link to it, nor the scan to validate on adds anything."""
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    shutil.copy(folder / "a.npz", tmp_path / "d.npz")
    named = ["--train-data-file", folder / "b.npz"]

    assert files_of(*named, "--training-directories", folder) == ["b.npz", "a.npz", "c.NPZ"]
    assert files_of(*named, "--training-directories", f"{folder},{tmp_path / 'link'},{tmp_path}") == [
        "b.npz",
        "a.npz",
        "c.NPZ",
        "d.npz",
    ]
    held_out = ["--test-data-file", tmp_path / "link" / "a.npz"]
    assert files_of(*named, "--training-directories", folder, *held_out) == ["b.npz", "c.NPZ"]
    assert files_of(*named) == ["b.npz"]


def test_the_files_of_a_folder_are_told_by_their_suffixes(folder: Path, tmp_path: Path) -> None:
    """Other suffixes, hidden files, folders, and the parameters of a pair are passed over."""
    for name in ("s_dp.hdf5", "s_para.hdf5", "lone_para.hdf5", "x.cxi", "y.h5", "z.ptyd", "k.npy", "t.tif"):
        (tmp_path / name).touch()

    assert [path.name for path in scan_files(folder)] == ["a.npz", "b.npz", "c.NPZ"]
    assert [path.name for path in scan_files(tmp_path)] == ["lone_para.hdf5", "s_dp.hdf5", "x.cxi", "y.h5", "z.ptyd"]


def test_folders_without_scans_are_named(folder: Path, tmp_path: Path) -> None:
    """All of them at once: one that is not there, one that is a file, one that is empty, one with other files."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    wrong = [tmp_path / "nowhere", folder / "a.npz", tmp_path / "empty", tmp_path / "notes"]

    _, told = run(
        tmp_path / "out",
        "--train-data-file",
        folder / "b.npz",
        "--training-directories",
        ",".join(map(str, [*wrong, folder])),
        code=2,
    )

    found = ["No such file or directory", "Not a directory", "an empty one", "a.txt"]
    for path, what in zip(wrong, found, strict=True):
        assert f"{path}: expected a folder with scan files (.npz, .h5, .hdf5, .hdf, .cxi, .ptyd), found {what}" in told
    assert str(folder) + ":" not in told
    assert not (tmp_path / "out").exists()


def test_scans_that_do_not_fit_are_named(folder: Path, tmp_path: Path) -> None:
    """Before any pattern is read, those that cannot be read and those of another size, all at once."""
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 torn")
    (tmp_path / "empty.h5").write_bytes(b"")
    write_scan(simulate(SimulationConfig(N=128, object_size_px=150, step_px=9, photons=1e5)), tmp_path / "large.npz")

    _, told = run(tmp_path / "out", "--train-data-file", folder / "b.npz", "--training-directories", tmp_path, code=2)

    assert f"{tmp_path / 'broken.npz'}: file: expected a readable NPZ scan" in told
    assert f"{tmp_path / 'empty.h5'}: file: expected" in told
    assert f"{tmp_path / 'large.npz'}: patterns: expected 64 px, as the first scan has, found 128 px" in told
    assert not (tmp_path / "out").exists()


def test_a_scan_with_wrong_contents_is_named(folder: Path, tmp_path: Path) -> None:
    """What only shows when the patterns are read ends with the name of the file."""
    with np.load(folder / "a.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    np.savez(tmp_path / "short.npz", **arrays | {"xcoords": arrays["xcoords"][:-1]})

    _, told = run(tmp_path / "out", "--train-data-file", folder / "b.npz", "--training-directories", tmp_path, code=2)

    assert str(tmp_path / "short.npz") in told
    assert "xcoords" in told


def test_an_empty_name_is_no_folder(folder: Path, tmp_path: Path) -> None:
    """Two commas in a row do not stand for the present folder."""
    _, told = run(
        tmp_path / "out", "--train-data-file", folder / "b.npz", "--training-directories", f"{folder},,x", code=2
    )

    assert "--training-directories: expected a list, each a path" in told


def test_the_way_to_read_holds_for_all(folder: Path, tmp_path: Path) -> None:
    """Maps are made of every scan, and one probe is the start of every scan."""
    probe = read_scan(folder / "b.npz").probe * np.exp(1j * np.linspace(-1, 1, 64) ** 2).astype(np.complex64)
    np.save(tmp_path / "probe.npy", probe)
    out, maps = tmp_path / "out", tmp_path / "maps"
    named = ["--train-data-file", folder / "b.npz", "--training-directories", folder]

    run(out, *named, "--memory-map", maps, "--probe", tmp_path / "probe.npy")

    assert len(list(maps.iterdir())) == 3
    for each in load_archive(out).probes:
        start, given = each.start_probe.ravel(), probe.ravel()
        overlap = abs(np.vdot(start, given)) / float(np.linalg.norm(start) * np.linalg.norm(given))
        assert overlap == pytest.approx(1.0, abs=1e-5)


def test_groups_that_a_scan_cannot_give_are_refused_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    """In the words of the command line, with the scans that lack them."""
    named = ["--train-data-file", folder / "b.npz", "--training-directories", folder]

    _, told = run(tmp_path / "out", *named, "--n-subsample", "17", code=2)

    for name in ("b.npz", "a.npz", "c.NPZ"):
        assert f"--n-subsample: expected at most 16 patterns, found 17, in {folder / name}\n" in told
    assert not (tmp_path / "out").exists()


def test_a_configuration_file_and_the_print_know_folders(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The setting comes from the file as from the flag, and is shown with its source; nothing is read for that."""
    config = tmp_path / "run.toml"
    config.write_text(f"[files]\ntraining_directories = ['{folder}', 'nowhere']\n")
    line = ["train", "--train-data-file", str(folder / "b.npz"), "--config", str(config), "--print-config", "--json"]

    assert main(line) == 0

    shown = json.loads(capsys.readouterr().out)["settings"]["training_directories"]
    assert shown["value"] == [str(folder), "nowhere"]
    assert (shown["source"], shown["section"]) == ("file", "files")
