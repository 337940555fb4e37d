"""Archives: the same model comes back, bit for bit, or an error says what is wrong with the file."""

from __future__ import annotations

import functools
import io
import itertools
import json
import logging
import multiprocessing
import operator
import os
import time
import zipfile
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch
from safetensors import torch as safetensors_torch

from ptycho_adapters.common.shipped import shipped_prior_law
from ptycho_adapters.notices import NOTICES
from ptycho_adapters.torch_backend import (
    EpochLosses,
    ScanProbe,
    generalist_for,
    load_archive,
    reconstruct,
    save_archive,
)
from ptycho_core.config.knob import ELSEWHERE
from ptycho_core.config.older_payloads import _fields
from ptycho_core.config.payload_json import _Stored
from ptycho_core.errors import ArchiveError
from ptycho_core.measurement.findings import Finding, Suspicion
from torch_sample import quick_training, same, tiny_scan

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from pathlib import Path

    from torch import Tensor

    from ptycho_adapters.torch_backend import TrainedModel

Members = dict[str, bytes]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """A trained model whose settings hold more than defaults."""
    mask = np.zeros((64, 64), np.float32)
    mask[8:56, 8:56] = 1.0
    overrides = {"architecture": "unrolled", "probe_mask_tensor": mask, "notes": "ä", "seed": 5}
    return quick_training(tmp_path_factory.mktemp("model"), overrides)


@pytest.fixture
def stored(model: TrainedModel, tmp_path: Path) -> Path:
    """The archive of the model."""
    return save_archive(model, tmp_path)


def _members(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _rewrite(path: Path, members: Members) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _with_manifest(**changes: object) -> Callable[[Members], Members]:
    def change(members: Members) -> Members:
        manifest = json.loads(members["manifest.json"]) | changes
        return members | {"manifest.json": json.dumps(manifest).encode()}

    return change


def _with_tensors(edit: Callable[[dict[str, Tensor]], object]) -> Callable[[Members], Members]:
    def change(members: Members) -> Members:
        tensors = safetensors_torch.load(members["model.safetensors"])
        edit(tensors)
        return members | {"model.safetensors": safetensors_torch.save(tensors)}

    return change


def _with_probe(edit: Callable[[Tensor], Tensor]) -> Callable[[Members], Members]:
    return _with_tensors(lambda tensors: tensors.update({"probe.0": edit(tensors["probe.0"]).contiguous()}))


def _of_version_1(members: Members) -> Members:
    """Write the members as they were when a model had one probe."""
    manifest = json.loads(members["manifest.json"])
    (probe,) = manifest.pop("probes")
    manifest |= {"format_version": 1, "flux": probe["flux"]}
    tensors = safetensors_torch.load(members["model.safetensors"])
    old = {name.removesuffix(".0") if "probe" in name else name: tensor for name, tensor in tensors.items()}
    return members | {"manifest.json": json.dumps(manifest).encode(), "model.safetensors": safetensors_torch.save(old)}


def _of_release_0_1(members: Members) -> Members:
    """Write the members as version 0.1.0 did, whose settings were fewer."""
    config = json.loads(members["config.json"]) | {"format_version": 1}
    for field in _fields(_Stored):
        if field.since.version > 1:
            record = functools.reduce(operator.getitem, field.records, config)
            del record[field.name]
            if field.since.before is not ELSEWHERE:
                config["provenance"].pop(field.key, None)
    changed = _with_manifest(code_version="0.1.0")(members)
    return changed | {"config.json": json.dumps(config).encode()}


def _without(name: str) -> Callable[[Members], Members]:
    return lambda members: {key: value for key, value in members.items() if key != name}


def _with(name: str, content: bytes) -> Callable[[Members], Members]:
    return lambda members: members | {name: content}


def _first_weight(tensors: dict[str, Tensor]) -> str:
    return min(name for name in tensors if name.startswith("generator."))


def test_a_model_comes_back(model: TrainedModel, stored: Path) -> None:
    """Weights, both probes, settings, flux, history and version are the same, bit for bit."""
    found = load_archive(stored)

    assert same(found, model)
    assert np.array_equal(found.start_probe, model.start_probe)
    assert found.payload == model.payload
    assert found.selection == model.selection is not None
    assert dict(found.payload.provenance) == dict(model.payload.provenance)
    assert (found.flux, found.code_version) == (model.flux, model.code_version)
    assert not found.generator.training


def test_several_probes_come_back(model: TrainedModel, tmp_path: Path) -> None:
    """Each with its name, its start, its flux and what was found out, whatever its number of modes, in their order."""
    moved = Finding(kind=Suspicion.BEAM_MOVED, text="the beam was moved by 3 µm")
    first = attrs.evolve(model.probes[0], name="ä b", findings=(moved,))
    other = ScanProbe(
        name="", probe=np.repeat(first.start_probe, 2, axis=0), start_probe=first.probe, flux=3.5 * first.flux
    )

    found = load_archive(save_archive(attrs.evolve(model, probes=(first, other)), tmp_path)).probes

    assert [(each.name, each.flux) for each in found] == [("ä b", first.flux), ("", 3.5 * first.flux)]
    assert [each.findings for each in found] == [(moved,), ()]
    for one, wanted in zip(found, (first, other), strict=True):
        assert np.array_equal(one.probe, wanted.probe)
        assert np.array_equal(one.start_probe, wanted.start_probe)


def test_an_archive_of_one_probe_in_the_older_form_is_read(model: TrainedModel, stored: Path) -> None:
    """It gives the same model, whose one probe has no name."""
    _rewrite(stored, _of_version_1(_members(stored)))

    found = load_archive(stored)

    assert same(found, model)
    assert [(each.name, each.flux) for each in found.probes] == [("", model.flux)]
    assert np.array_equal(found.start_probe, model.start_probe)


def _without_prior_law(members: Members) -> Members:
    manifest = json.loads(members["manifest.json"])
    del manifest["prior_law"]
    return members | {"manifest.json": json.dumps(manifest).encode()}


def test_the_law_by_which_a_network_errs_comes_back(model: TrainedModel, tmp_path: Path) -> None:
    """A number that is its own survives; so does that none is known."""
    own = attrs.evolve(shipped_prior_law(), fine_phase=0.123456789)
    for number, law in enumerate((own, None)):
        stored = save_archive(attrs.evolve(model, prior_law=law), tmp_path / str(number))
        assert load_archive(stored).prior_law == law


def test_an_archive_that_tells_of_no_law_has_that_of_its_start(model: TrainedModel, tmp_path: Path) -> None:
    """Those of before laws were stored: the shipped one after those weights, none after random ones."""
    assert model.prior_law is None
    for number, (kept, law) in enumerate(((generalist_for(tiny_scan()), shipped_prior_law()), (model, None))):
        assert kept.prior_law == law
        stored = save_archive(kept, tmp_path / str(number))
        _rewrite(stored, _without_prior_law(_members(stored)))
        assert load_archive(stored).prior_law == law


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_with_manifest(flux=-1.0), r"manifest\.json\.probes: .*found .*-1\.0"),
        (_with_tensors(lambda t: t.pop("start_probe")), r"start_probe\.0: expected complex64 .*, found none"),
        (_with_tensors(lambda t: t.update(extra=torch.zeros(2))), r"\.extra: expected no such weight, found float32"),
    ],
)
def test_a_wrong_part_of_an_older_archive_is_named(
    stored: Path, damage: Callable[[Members], Members], message: str
) -> None:
    """The older form is checked like the present one."""
    _rewrite(stored, damage(_of_version_1(_members(stored))))

    with pytest.raises(ArchiveError, match=message):
        load_archive(stored)


def test_all_wrong_probes_are_listed(stored: Path) -> None:
    """Two misfits are two lines."""
    edit = _with_tensors(lambda t: [t.pop(name) for name in ("probe.0", "start_probe.0")])
    _rewrite(stored, edit(_members(stored)))

    with pytest.raises(ArchiveError) as error:
        load_archive(stored)
    assert [problem.path for problem in error.value.problems] == [
        "model.safetensors.probe.0",
        "model.safetensors.start_probe.0",
    ]


def test_it_reconstructs_as_before(model: TrainedModel, stored: Path) -> None:
    """The stored model gives the same object, bit for bit."""
    before, after = (reconstruct(each, tiny_scan()) for each in (model, load_archive(stored)))

    assert np.array_equal(before.object, after.object)


def test_a_folder_stands_for_the_file_in_it(model: TrainedModel, tmp_path: Path) -> None:
    """Both ways: a folder gets `wts.h5.zip`, made on the way, and is read back by its own name."""
    file = save_archive(model, tmp_path / "new" / "folder")

    assert file == tmp_path / "new" / "folder" / "wts.h5.zip"
    assert same(load_archive(file.parent), model)


def test_equal_models_make_equal_files(model: TrainedModel, tmp_path: Path) -> None:
    """Saving twice, or saving what was loaded, gives the same bytes."""
    first = save_archive(model, tmp_path / "a.zip")
    second = save_archive(load_archive(first), tmp_path / "b.zip")

    assert first.read_bytes() == second.read_bytes()


def test_an_archive_of_an_older_version_reconstructs_as_ever(
    model: TrainedModel, stored: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Bit for bit what the model itself gives; that its settings were fewer is said once; written anew it is whole."""
    caplog.set_level(logging.INFO, logger=NOTICES)
    _rewrite(stored, _of_release_0_1(_members(stored)))

    found = load_archive(stored)
    load_archive(stored)

    scan = tiny_scan()
    np.testing.assert_array_equal(reconstruct(found, scan).object, reconstruct(model, scan).object)
    assert found.code_version == "0.1.0"
    (said,) = [record.getMessage() for record in caplog.records if record.name == NOTICES]
    assert f"{stored}: written in format 1" in said
    assert "beam_search=False" in said
    assert same(load_archive(save_archive(found, tmp_path / "anew")), found)


def test_what_an_older_version_had_is_missed_in_its_archive(stored: Path) -> None:
    """By the path of the setting; nothing stands in for it."""
    members = _of_release_0_1(_members(stored))
    config = json.loads(members["config.json"])
    del config["pt_model"]["unrolled_steps"]
    _rewrite(stored, members | {"config.json": json.dumps(config).encode()})

    with pytest.raises(ArchiveError, match=r"pt_model\.unrolled_steps: expected a value, found nothing"):
        load_archive(stored)


def test_nothing_in_it_can_run(stored: Path) -> None:
    """It holds two JSON texts and one safetensors file, and no pickle."""
    members = _members(stored)

    assert set(members) == {"manifest.json", "config.json", "model.safetensors"}
    assert json.loads(members["manifest.json"])["format"] == "ptycho-core-model"
    assert isinstance(json.loads(members["config.json"]), dict)
    assert safetensors_torch.load(members["model.safetensors"])


def test_a_file_that_is_no_archive_is_called_that(tmp_path: Path) -> None:
    """A file that is there is not said to be missing, and what an archive would be is said."""
    (tmp_path / "night_1.npz").write_bytes(b"PK")

    with pytest.raises(ArchiveError, match=r"night_1\.npz:\s+- file: expected a model archive.*wts\.h5\.zip.*\.npz"):
        load_archive(tmp_path / "night_1.npz")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """As a missing file, by its path."""
    with pytest.raises(FileNotFoundError, match=r"Model archive not found: .*nowhere.*wts\.h5\.zip"):
        load_archive(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without("config.json"), r"config\.json: expected a member of that name, found none"),
        (_without("manifest.json"), r"manifest\.json: expected a member"),
        (_without("model.safetensors"), r"model\.safetensors: expected a member"),
        (_with("evil.pkl", b"."), r"evil\.pkl: expected no such member"),
        (_with("manifest.json", b"{"), r"manifest\.json: expected JSON"),
        (_with("manifest.json", b"[]"), r"manifest\.json\.format: expected 'ptycho-core-model', found None"),
        (_with("manifest.json", b"\xff"), r"manifest\.json: expected JSON"),
        (_with_manifest(format_version=3), r"manifest\.json\.format_version: expected 1 or 2, found 3"),
        (_with_manifest(backend="jax"), r"manifest\.json\.backend: expected 'pytorch' or 'tensorflow', found 'jax'"),
        (
            _with_manifest(generator="fno"),
            r"manifest\.json\.generator: expected 'unrolled', as config\.json, found 'fno'",
        ),
        (_with_manifest(probes=[]), r"manifest\.json\.probes: expected one or more of name and flux, .*found \[\]"),
        (_with_manifest(probes=None), r"manifest\.json\.probes: expected one or more"),
        (_with_manifest(probes=[{"name": "a", "flux": "much"}]), r"manifest\.json\.probes: .*found .*'much'"),
        (_with_manifest(probes=[{"name": "a", "flux": -1.0}]), r"manifest\.json\.probes: .* a positive number"),
        (_with_manifest(probes=[{"name": 3, "flux": 1.0}]), r"manifest\.json\.probes: .*found .*3"),
        (_with_manifest(probes=[{"flux": 1.0}]), r"manifest\.json\.probes: "),
        (_with_manifest(probes=[{"name": "", "flux": 1.0}] * 2), r"\.probe\.1: expected complex64 .*found none"),
        (_with_manifest(history=[{"epoch": 0}]), r"manifest\.json\.history: expected rows of epoch, train"),
        (_with_manifest(history=5), r"manifest\.json\.history"),
        (_with_manifest(selection=3), r"manifest\.json\.selection: expected start_loss, end_loss, epoch, or nothing"),
        (_with_manifest(selection={"start_loss": 1.0, "end_loss": 2.0}), r"manifest\.json\.selection: "),
        (_with_manifest(selection={"start_loss": 1.0, "end_loss": 2.0, "epoch": 0.5}), r"\.selection: .*0\.5"),
        (_with_manifest(selection={"start_loss": "", "end_loss": 2.0, "epoch": 1}), r"\.selection: "),
        (_with_manifest(prior_law=3), r"manifest\.json\.prior_law: expected a positive number for each of fine_phase"),
        (_with_manifest(prior_law={"fine_phase": 1.0}), r"\.prior_law: .*found \{'fine_phase': 1\.0\}"),
        (
            _with_manifest(prior_law=attrs.asdict(shipped_prior_law()) | {"slow_phase": -1.0}),
            r"\.prior_law: .*found slow_phase: expected a number > 0, found -1\.0",
        ),
        (
            _with_manifest(findings=3),
            r"manifest\.json\.findings: expected for each probe a list of kind and text, found 3",
        ),
        (_with_manifest(findings=[]), r"manifest\.json\.findings: expected for each probe"),
        (_with_manifest(findings=[[{"kind": "odd", "text": "a"}]]), r"manifest\.json\.findings: .*found .*odd"),
        (_with_manifest(findings=[[{"kind": "background", "text": 3}]]), r"manifest\.json\.findings: "),
        (_with_manifest(code_version=None), r"manifest\.json\.code_version: expected text, found None"),
        (_with("config.json", b"{}"), r"\(config\.json\):\s+- format_version: expected a value, found nothing"),
        (_with("config.json", b"\xff\xfe"), r"config\.json: expected UTF-8 text"),
        (_with("model.safetensors", b"nonsense"), r"model\.safetensors: expected a safetensors file"),
        (_with_tensors(lambda t: t.pop("probe.0")), r"model\.safetensors\.probe\.0: expected complex64 .*found none"),
        (_with_probe(lambda probe: probe[:, :32]), r"probe\.0: expected complex64 \(modes, 64, 64\)"),
        (_with_probe(lambda probe: probe.abs()), r"probe\.0: expected complex64 .*found float32"),
        (
            _with_tensors(lambda t: t.update({"start_probe.1": t["probe.0"].clone()})),
            r"model\.safetensors\.start_probe\.1: expected no such probe: 1 are listed, found one",
        ),
        (_with_tensors(lambda t: t.update(extra=torch.zeros(2))), r"\.extra: expected no such weight, found float32"),
        (_with_tensors(lambda t: t.pop(_first_weight(t))), r"\.generator\..*: expected float32 .*, found none"),
        (
            _with_tensors(lambda t: t.update({_first_weight(t): torch.zeros(3, 3)})),
            r"\.generator\..*: expected float32 .*, found float32 \(3, 3\)",
        ),
        (
            _with_tensors(lambda t: t.update({_first_weight(t): t[_first_weight(t)].double()})),
            r"\.generator\..*: expected float32 .*, found float64",
        ),
    ],
)
def test_a_wrong_part_is_named(stored: Path, damage: Callable[[Members], Members], message: str) -> None:
    """Whatever is missing, extra, misshapen or of another version, the error says where and what."""
    _rewrite(stored, damage(_members(stored)))

    with pytest.raises(ArchiveError, match=message) as error:
        load_archive(stored)
    assert str(stored) in str(error.value)


def test_all_wrong_weights_are_listed(stored: Path) -> None:
    """Two misfits are two lines."""
    tensors = safetensors_torch.load(_members(stored)["model.safetensors"])
    names = sorted(name for name in tensors if name.startswith("generator."))[:2]
    _rewrite(stored, _with_tensors(lambda t: [t.pop(name) for name in names])(_members(stored)))

    with pytest.raises(ArchiveError) as error:
        load_archive(stored)
    assert [problem.path for problem in error.value.problems] == [f"model.safetensors.{name}" for name in names]


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(stored: Path, kept: float) -> None:
    """However much is left of it."""
    content = stored.read_bytes()
    stored.write_bytes(content[: int(kept * len(content))])

    with pytest.raises(ArchiveError, match="expected a complete zip archive"):
        load_archive(stored)


def test_a_flipped_bit_is_refused(stored: Path) -> None:
    """Check sums cover every member."""
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    stored.write_bytes(bytes(content))

    with pytest.raises(ArchiveError, match="expected a complete zip archive"):
        load_archive(stored)


def test_damaged_compression_is_refused(stored: Path) -> None:
    """A member that another program compressed and something damaged is an error of the archive, not of zlib."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _members(stored).items():
            archive.writestr(name, content)
    damaged = bytearray(buffer.getvalue())
    start = damaged.index(b"manifest.json") + len(b"manifest.json")
    damaged[start : start + 8] = b"\xff" * 8
    stored.write_bytes(bytes(damaged))

    with pytest.raises(ArchiveError, match="expected a complete zip archive"):
        load_archive(stored)


def test_an_empty_history_is_kept(model: TrainedModel, tmp_path: Path) -> None:
    """A run that ended before its first epoch has none, and one without validation has None in its rows."""
    for history in ((), (EpochLosses(epoch=3, train=0.5, validation=None, steps=7),)):
        changed = attrs.evolve(model, history=history)

        assert load_archive(save_archive(changed, tmp_path)).history == history


def _save_for_ever(model: TrainedModel, target: Path, begun: Connection) -> None:
    for number in itertools.count():
        begun.send_bytes(b".")
        save_archive(attrs.evolve(model, code_version=f"{number:05d}" * 20_000), target)


@pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_kill_leaves_the_old_or_the_new_archive(model: TrainedModel, tmp_path: Path) -> None:
    """Processes killed while they save over and over each leave one complete archive, their own or the one before."""
    target, context = tmp_path / "wts.h5.zip", multiprocessing.get_context("fork")
    save_archive(attrs.evolve(model, code_version="00000" * 20_000), target)
    rng = np.random.default_rng(0)
    for saves in (1, 1, 1, 1, 2, 2, 3, 4):
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=_save_for_ever, args=(model, target, writer))
        process.start()
        writer.close()
        for _ in range(saves):
            reader.recv_bytes()
        time.sleep(float(rng.uniform(0.0, 0.03)))  # somewhere in that save, or later: no matter
        process.kill()
        process.join()

        version = load_archive(target).code_version
        assert version == version[:5] * 20_000
        assert int(version[:5]) >= saves - 2  # the saves before the last one that had begun
