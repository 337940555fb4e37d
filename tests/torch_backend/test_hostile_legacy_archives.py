"""Archives of the legacy software that hold code, another network, too much or damage: refused, and nothing is run."""

from __future__ import annotations

import itertools
import json
import pickle
import random
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
import torch

from legacy_archive_sample import (
    MODEL,
    bundle,
    by_depth,
    keras,
    keras_arrays,
    parameter_file,
    saved,
    saved_model,
    structure,
    torch_bundle,
    unzipped,
    zipped,
)
from ptycho_adapters.legacy_archives import is_legacy_archive, read_legacy_archive, zip_members
from ptycho_adapters.torch_backend.legacy_models import read_legacy_model
from ptycho_core.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt
    from torch import Tensor

    from legacy_archive_sample import Made

SMALL = structure(64, 1, 1)


def _crafted(name: str, argument: object = "") -> bytes:
    """A dict with a call of what a pickle can name."""
    module, _, function = name.rpartition(".")
    call = f"c{module}\n{function}\n".encode() + pickle.dumps((argument,), 2)[2:-1] + b"R"
    return b"\x80\x04}(" + pickle.dumps("N", 2)[2:-1] + call + b"u."


@pytest.mark.parametrize(
    "name",
    [
        "posix.system",
        "builtins.eval",
        "builtins.getattr",
        "dill._dill._create_function",
        "dill._dill._create_array",
        "numpy.load",
        "operator.attrgetter",
        "torch.storage._load_from_bytes",
    ],
)
def test_parameters_that_would_run_something_are_refused(name: str, tmp_path: Path) -> None:
    """The error names what it was, and the file that it would have written is not there."""
    mark = tmp_path / "written"
    argument = f"open({str(mark)!r}, 'w')" if name == "builtins.eval" else f"touch {mark}"
    made = keras(SMALL)
    crafted = attrs.evolve(made, members={**made.members, f"{MODEL}/params.dill": _crafted(name, argument)})

    with pytest.raises(ArchiveError, match=r"params.dill: expected plain numbers.*found ") as caught:
        read_legacy_model(crafted.write(tmp_path / "a.zip"))

    assert name in str(caught.value) or "array" in str(caught.value)
    assert not mark.exists()


def test_the_same_parameters_would_have_run(tmp_path: Path) -> None:
    """Python's own reader writes the file: what is refused above is no harmless thing."""
    mark = tmp_path / "written"

    pickle.loads(_crafted("posix.system", f"touch {mark}"))

    assert mark.exists()


def test_a_torch_file_that_would_run_something_is_refused(tmp_path: Path) -> None:
    """The pickle inside of it is read as strictly."""
    mark = tmp_path / "written"
    made = torch_bundle(SMALL)
    model = unzipped(made.members[f"{MODEL}/model.pth"])
    (name,) = [name for name in model if name.endswith("data.pkl")]
    model[name] = _crafted("posix.system", f"touch {mark}")
    crafted = attrs.evolve(made, members={**made.members, f"{MODEL}/model.pth": zipped(model)})

    with pytest.raises(ArchiveError, match=r"posix.system"):
        read_legacy_model(crafted.write(tmp_path / "a.zip"))

    assert not mark.exists()


@pytest.mark.parametrize("make", [keras, saved_model, torch_bundle])
def test_members_that_carry_code_are_not_opened(
    make: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters and weights are all that is read."""
    opened: list[str] = []
    read = zip_members.Members.read

    def watched(self: zip_members.Members, name: str, largest: int = 1 << 31) -> bytes:
        opened.append(name)
        return read(self, name, largest)

    monkeypatch.setattr(zip_members.Members, "read", watched)

    read_legacy_archive(make(SMALL).write(tmp_path / "a.zip"))

    endings = (".pb", "custom_objects.dill", "manifest.dill", "autoencoder/model.pth", "metadata.json")
    assert opened
    assert not [name for name in opened if name.endswith(endings)]


def test_no_framework_is_loaded(tmp_path: Path) -> None:
    """Facts of an archive of each kind come without torch, h5py, dill or TensorFlow."""
    paths = [str(make(SMALL).write(tmp_path / f"{n}.zip")) for n, make in enumerate((keras, saved_model, torch_bundle))]
    program = (
        "import sys; from pathlib import Path; from ptycho_adapters.legacy_archives import read_legacy_archive\n"
        "for path in sys.argv[1:]: read_legacy_archive(Path(path))\n"
        "sys.exit(str({'torch', 'h5py', 'dill', 'tensorflow', 'keras'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == "set()"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("object.big", "yes"),
        ("probe.big", False),
        ("probe.mask", 1),
        ("pad_object", False),
        ("gaussian_smoothing_sigma", 0.5),
        ("amp_activation", "swish"),
        ("amp_activation", "gelu"),
        ("model_type", "supervised"),
        ("architecture", "fno"),
        ("N", 96),
        ("N", True),
        ("gridsize", 2),
        ("n_filters_scale", 3),
        ("offset", -1),
        ("probe", "none"),
        ("probe", np.zeros((64, 64, 1), np.complex64)),
        ("probe", np.ones((32, 32, 1), np.complex64)),
    ],
    ids=lambda value: "probe" if isinstance(value, np.ndarray) else str(value),
)
def test_what_no_sample_shows_is_refused_by_name(name: str, value: object, tmp_path: Path) -> None:
    """A setting that is not known how to follow, or contradicts the weights, is an error that names it."""
    with pytest.raises(ArchiveError, match=name):
        read_legacy_archive(keras(SMALL, **{name: value}).write(tmp_path / "a.zip"))


def test_a_group_that_is_not_merged_is_refused(tmp_path: Path) -> None:
    """Of several patterns one patch came: where it lies is not known."""
    made = keras(structure(64, 2, 1), **{"object.big": False})

    with pytest.raises(ArchiveError, match=r"gridsize: expected 1 where object\.big is False, found 2"):
        read_legacy_archive(made.write(tmp_path / "a.zip"))


def test_a_torch_bundle_with_a_mask_is_refused(tmp_path: Path) -> None:
    """Its mask has soft edges of a width that the bundle does not hold."""
    with pytest.raises(ArchiveError, match=r"probe\.mask: expected False, in a torch bundle, found True"):
        read_legacy_archive(torch_bundle(SMALL, notes=None, **{"probe.mask": True}).write(tmp_path / "a.zip"))


def test_missing_parameters_are_all_named(tmp_path: Path) -> None:
    """All at once."""
    made = keras(SMALL)
    few = attrs.evolve(made, members={**made.members, f"{MODEL}/params.dill": parameter_file({"N": 64})})

    with pytest.raises(ArchiveError) as caught:
        read_legacy_archive(few.write(tmp_path / "a.zip"))

    assert {"gridsize", "offset", "object.big", "amp_activation"} <= {p.path for p in caught.value.problems}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cnn_output_mode", "real_imag"),
        ("eca_encoder", True),
        ("batch_norm", True),
        ("n_filters_scale", 2),
        ("object_big", False),
        ("probe_big", False),
        ("amp_activation", "silu"),
    ],
)
def test_a_torch_bundle_of_another_network_is_refused(name: str, value: object, tmp_path: Path) -> None:
    """Its notes say more about the network than its parameters do."""
    with pytest.raises(ArchiveError, match=name):
        read_legacy_archive(torch_bundle(SMALL, notes={name: value}).write(tmp_path / "a.zip"))


def _keras_with(edit: Callable[[dict[str, Any]], object]) -> Made:
    made = keras(SMALL)
    model = unzipped(made.members[f"{MODEL}/model.keras"])
    config = json.loads(model["config.json"])
    edit({layer["name"]: layer for layer in config["config"]["layers"]})
    model["config.json"] = json.dumps(config).encode()
    return attrs.evolve(made, members={**made.members, f"{MODEL}/model.keras": zipped(model)})


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda layers: layers["amp"]["config"].update(activation_name="swish"), "amp_activation"),
        (lambda layers: layers["phi"]["config"].update(scale=1.0), "phi"),
        (lambda layers: layers["conv2d_33"]["config"].update(strides=[2, 2]), "conv2d_33.strides"),
        (lambda layers: layers["conv2d_33"].update(class_name="SeparableConv2D"), "a Conv2D, found a Separable"),
        (lambda layers: layers["obj"].update(class_name="Lambda"), "obj"),
    ],
)
def test_another_graph_is_refused_by_the_name_of_its_layer(
    edit: Callable[[dict[str, Any]], object], named: str, tmp_path: Path
) -> None:
    """What is connected otherwise, or computes something else, is not taken for the known network."""
    with pytest.raises(ArchiveError, match=named):
        read_legacy_archive(_keras_with(edit).write(tmp_path / "a.zip"))


def _variables(edit: Callable[[dict[str, npt.NDArray[np.float32]]], object]) -> Made:
    made = saved_model(SMALL)
    arrays = {
        f"layer_with_weights-{number}/{part}/.ATTRIBUTES/VARIABLE_VALUE": array
        for number, role in enumerate(by_depth(SMALL))
        for part, array in zip(("kernel", "bias"), keras_arrays(made.generator, role), strict=True)
    }
    edit(arrays)
    index, data = bundle(arrays)
    names = [f"{MODEL}/variables/variables.{end}" for end in ("index", "data-00000-of-00001")]
    return attrs.evolve(made, members={**made.members, names[0]: index, names[1]: data})


def _state(edit: Callable[[dict[str, Tensor]], object]) -> Made:
    made = torch_bundle(SMALL)
    state = {f"model.{name}": value for name, value in made.generator.state_dict().items()}
    edit(state)
    return attrs.evolve(made, members={**made.members, f"{MODEL}/model.pth": saved(state)})


_FIFTH = "layer_with_weights-5/{}/.ATTRIBUTES/VARIABLE_VALUE"
_BLOCK = "autoencoder.encoder.blocks.1.conv1"


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: _variables(lambda a: a.pop(_FIFTH.format("bias"))), "layer_with_weights-5/bias"),
        (lambda: _variables(lambda a: a.update({"layer_with_weights-99/kernel": np.ones(3, "f4")})), "weights-99"),
        (lambda: _variables(lambda a: a.update({_FIFTH.format("bias"): np.ones(3, "f4")})), "layer_with_weights-5 "),
        (lambda: _state(lambda s: s.pop(f"model.{_BLOCK}.bias")), f"{_BLOCK}.bias"),
        (lambda: _state(lambda s: s.update({"model.more": torch.ones(3)})), "more: expected no such weight"),
        (lambda: _state(lambda s: s.update({f"model.{_BLOCK}.bias": torch.ones(3)})), f"{_BLOCK}.bias: expected shape"),
        (lambda: _state(lambda s: s.update({"model.long": torch.ones(3).long()})), "long: expected float32"),
    ],
)
def test_a_weight_that_is_missing_unknown_or_misshaped_is_named(
    make: Callable[[], Made], named: str, tmp_path: Path
) -> None:
    """Nothing is made up, left out or left as it happened to be."""
    with pytest.raises(ArchiveError, match=named):
        read_legacy_model(make().write(tmp_path / "a.zip"))


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"manifest.dill": b""}, "one model"),
        ({f"{MODEL}/model.keras": b"", f"{MODEL}/model.pth": b""}, "one model"),
        ({f"{MODEL}/model.keras": b""}, "params.dill"),
        ({f"{MODEL}/model.keras": b"", "../outside": b""}, "relative path"),
        ({f"{MODEL}/model.keras": b"", "/outside": b""}, "relative path"),
        ({f"{MODEL}/model.keras": b"", "a" * 300: b""}, "relative path"),
        ({f"{MODEL}/model.keras": b"", **{f"{n}": b"" for n in range(5000)}}, "at most 4096 members"),
    ],
    ids=["no model", "two models", "no parameters", "above", "root", "long name", "many"],
)
def test_other_contents_are_refused(members: dict[str, bytes], named: str, tmp_path: Path) -> None:
    """Names and number of members are those of an archive."""
    (tmp_path / "a.zip").write_bytes(zipped(members))

    assert is_legacy_archive(tmp_path / "a.zip")
    with pytest.raises(ArchiveError, match=named):
        read_legacy_archive(tmp_path / "a.zip")


def test_a_member_that_unpacks_to_too_much_is_not_unpacked(tmp_path: Path) -> None:
    """A model of many zeros, or parameters larger than any, are refused by what the table of contents says."""
    made = keras(SMALL)
    for name, size, named in (
        (f"{MODEL}/model.keras", 1 << 26, "out of each"),
        (f"{MODEL}/params.dill", 1 << 25, "at most"),
    ):
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in made.members.items():
                archive.writestr(member, bytes(size) if member == name else content)
        with pytest.raises(ArchiveError, match=named):
            read_legacy_archive(tmp_path / "a.zip")


def test_a_pickle_cannot_ask_for_memory(tmp_path: Path) -> None:
    """Places in a far memory, endless copies of the same numbers and huge shapes cost nothing."""
    made = torch_bundle(SMALL)
    for crafted in (
        b"\x80\x04}r\xff\xff\xff\x7f.",
        b"\x80\x04" + b"(" * 1000 + b".",
        b"\x80\x04]" + b"\x94h\x00a" * 50 + b".",
        b"\x80\x04\x8a\xff" + b"\x7f" * 3 + b".",
    ):
        changed = attrs.evolve(made, members={**made.members, f"{MODEL}/params.dill": crafted})
        with pytest.raises(ArchiveError, match=r"params\.dill"):
            read_legacy_archive(changed.write(tmp_path / "a.zip"))


def mutated(made: Made, rng: random.Random) -> bytes:
    """An archive with some bytes changed: of the whole file, or of a member, whose checksums are right again."""
    name = rng.choice([name for name in made.members if name.startswith(MODEL) and not name.endswith("objects.dill")])
    members = dict(made.members)
    if name.endswith((".keras", ".pth")):
        inner = unzipped(members[name])
        part = rng.choice([part for part in inner if "data/" not in part])
        members[name] = zipped({**inner, part: _changed(inner[part], rng)})
    else:
        members[name] = _changed(members[name], rng)
    whole = zipped(members if rng.random() < 0.8 else made.members)
    return whole if rng.random() < 0.8 else _changed(whole, rng)


def _changed(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    if not changed:
        return bytes([rng.randrange(256)])
    for _ in range(rng.choice((1, 1, 4, 40))):
        # Structures stand at both ends.
        place = min(int(len(changed) * rng.random() ** rng.choice((1, 8))), len(changed) - 1)
        changed[place if rng.random() < 0.7 else -place - 1] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.1 else changed)


def test_damaged_archives_end_in_one_kind_of_error(tmp_path: Path) -> None:
    """Some hundred mutants of archives of every kind are read, or refused as archives."""
    rng, refused = random.Random(20), 0
    made = [keras(SMALL), saved_model(SMALL), torch_bundle(SMALL, notes={})]
    for each in itertools.islice(itertools.cycle(made), 240):
        (tmp_path / "a.zip").write_bytes(mutated(each, rng))
        try:
            read_legacy_archive(tmp_path / "a.zip")
        except ArchiveError:
            refused += 1

    assert 100 < refused < 240
