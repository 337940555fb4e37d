"""Models of the legacy software: what they computed comes back, stage by stage, and nothing of them is ever run."""

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
    SAMPLES,
    bundle,
    by_depth,
    keras,
    keras_arrays,
    parameter_file,
    parameters,
    saved,
    saved_model,
    structure,
    torch_bundle,
    unzipped,
    zipped,
)
from ptycho_adapters.legacy_archives import Generation, is_legacy_archive, read_legacy_archive, zip_members
from ptycho_adapters.torch_backend import load_archive, reconstruct, save_archive
from ptycho_adapters.torch_backend.generators.cnn import LegacyCnn
from ptycho_adapters.torch_backend.legacy_groups import GroupStages, LegacyGroups, stitched
from ptycho_adapters.torch_backend.legacy_models import read_legacy_model
from ptycho_adapters.torch_backend.physics.legacy_canvas import merge, translate
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.errors import ArchiveError, ScanError
from torch_sample import tiny_scan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt
    from torch import Tensor

    from legacy_archive_sample import Made

Stored = dict[str, Any]

CASES = json.loads((SAMPLES / "index.json").read_text())["cases"] if SAMPLES.exists() else {}
NAMES = ("tf_k3polar_gs1", "tf_k3cart_gs2", "tf_savedmodel_gs2", "torch_gs2")
needs_samples = pytest.mark.skipif(not SAMPLES.exists(), reason="the legacy archives are not on this machine")
TF_STAGES = {"obj": "patches", "padded_obj_2": "canvas", "trimmed_obj": "image", "pred_amp_scaled": "amplitudes"}
TORCH_STAGES = {"forward_predict": "patches", "merged": "canvas", "pred_diffraction": "amplitudes"}
SMALL = structure(64, 1, 1)


def _stored(case: str) -> Stored:
    with np.load(SAMPLES / case / "io.npz") as file:
        return dict(file)


def _inputs(stored: Stored) -> tuple[Tensor, Tensor, Tensor | None]:
    """Patterns, offsets (y, x) and probe as the chain takes them."""
    if "X" in stored:
        offsets = stored["coords_relative"][:, :, 0, ::-1]
        return (
            torch.tensor(stored["X"] * stored["input_scale"]),
            torch.tensor(offsets.copy()),
            torch.tensor(stored["probe"]),
        )
    patterns = stored["X_norm"].transpose(0, 3, 1, 2)
    offsets = stored["coords_relative"][:, 0, ::-1].transpose(0, 2, 1)
    return torch.tensor(patterns.copy()), torch.tensor(offsets.copy()), None


def _outputs(stages: GroupStages, stored: Stored) -> dict[str, npt.NDArray[np.generic]]:
    """Stages under the names, in the order of axes and in the scale that they are stored in."""
    assert stages.amplitudes is not None
    if "X" in stored:
        found = {name: getattr(stages, stage).numpy() for name, stage in TORCH_STAGES.items()}
        found["pred_diffraction"] = found["pred_diffraction"] / stored["output_scale"]
        return found
    found = {name: getattr(stages, stage).numpy() for name, stage in TF_STAGES.items()}
    found["pred_amp_scaled"] = found["pred_amp_scaled"] * float(stored["intensity_scale"])
    return {name: np.moveaxis(value, 1, -1) if value.ndim == 4 else value[..., None] for name, value in found.items()}


@needs_samples
@pytest.mark.parametrize("case", NAMES)
def test_a_real_archive_gives_what_its_own_software_gave(case: str) -> None:
    """Every stage that was stored is met to the tolerance stated beside it."""
    stored, limits = _stored(case), CASES[case]["atol"]
    patterns, offsets, probe = _inputs(stored)
    chain = LegacyGroups(SAMPLES / case / "wts.h5.zip")

    found = _outputs(chain.stages(patterns, offsets, probe), stored)

    assert chain.canvas_px == CASES[case]["padded_size"]
    for name, value in found.items():
        np.testing.assert_allclose(value, stored[name], rtol=0.0, atol=limits[name], err_msg=name)
    if case == "torch_gs2":
        amplitude, phase = chain.generator.heads(patterns)
        np.testing.assert_allclose(amplitude.detach(), stored["amp"], rtol=0.0, atol=limits["amp"])
        np.testing.assert_allclose(phase.detach(), stored["phase"], rtol=0.0, atol=limits["phase"])


@needs_samples
@pytest.mark.parametrize("case", ["tf_k3cart_gs2", "torch_gs2"])
def test_a_group_gives_the_same_beside_any_others(case: str) -> None:
    """A batch of more than 64 groups gives each what it gets alone."""
    stored, limits = _stored(case), CASES[case]["atol"]
    patterns, offsets, probe = _inputs(stored)
    chain = LegacyGroups(SAMPLES / case / "wts.h5.zip")
    alone = chain.stages(patterns[:1], offsets[:1], probe)

    order = [0, *(1 + n % (len(patterns) - 1) for n in range(64))]
    many = chain.stages(patterns[order], offsets[order], probe)

    assert many.image.shape[0] == 65
    for name, stage in (TORCH_STAGES if "X" in stored else TF_STAGES).items():
        one, other = getattr(many, stage)[:1], getattr(alone, stage)
        torch.testing.assert_close(one, other, rtol=0.0, atol=limits[name])


@needs_samples
def test_a_whole_scan_is_stitched_as_its_software_did() -> None:
    """From the raw patterns to the picture."""
    stored = _stored("tf_k3polar_gs1")
    with np.load(SAMPLES / "synth64.npz") as raw:
        patterns = raw["diffraction"][stored["e2e_nn_indices"][:, 0]].astype(np.float64)
    patterns *= 32.0 / np.sqrt(np.square(patterns).sum(axis=(1, 2)).mean())
    chain = LegacyGroups(SAMPLES / "tf_k3polar_gs1" / "wts.h5.zip")

    stages = chain.stages(torch.tensor(patterns[:, None], dtype=torch.float32), torch.zeros(64, 1, 2))
    picture = stitched(stages.image, torch.tensor(stored["e2e_global_offsets"][:, 0, ::-1, 0].copy()))

    np.testing.assert_allclose(picture, stored["e2e_stitched"][..., 0], rtol=0.0, atol=1e-5)


MADE: Mapping[str, tuple[Callable[[], Made], Generation]] = {
    "keras, polar, 128 px": (lambda: keras(structure(128, 1, 1)), Generation.KERAS_POLAR),
    "keras, cartesian, groups of 9": (
        lambda: keras(structure(64, 3, 2, combination="cartesian", amplitude_channels=1)),
        Generation.KERAS_CARTESIAN,
    ),
    "saved model, 128 px, groups of 4": (
        lambda: saved_model(structure(128, 2, 1, amplitude_channels=1)),
        Generation.SAVED_MODEL,
    ),
    "torch, single patterns": (
        lambda: torch_bundle(structure(64, 1, 1, outer_channels=1, outer_width=32, block_attention=True)),
        Generation.TORCH,
    ),
    "torch, 128 px, groups of 4, with notes": (
        lambda: torch_bundle(structure(128, 2, 1, outer_width=32), notes={"cbam_encoder": False}),
        Generation.TORCH,
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_an_archive_of_any_size_is_read(name: str, tmp_path: Path) -> None:
    """Other sizes, groups and widths than those of the samples give the network that was stored, weight for weight."""
    make, generation = MADE[name]
    made = make()

    model = read_legacy_model(made.write(tmp_path / "wts.h5.zip"))

    assert read_legacy_archive(tmp_path / "wts.h5.zip").generation is generation
    assert isinstance(model.generator, LegacyCnn)
    found = model.generator.structure
    assert attrs.evolve(found, object_scale=1.0) == made.generator.structure
    for key, value in made.generator.state_dict().items():
        assert torch.equal(model.generator.state_dict()[key], value), key
    assert bool(model.probes) == (generation is not Generation.TORCH)
    assert "secret" not in str(model.payload)


def test_the_object_is_one_where_nothing_is(tmp_path: Path) -> None:
    """Patterns of the probe alone, whose patch is even, give that value in the scale of its own probe as 1."""
    made = keras(SMALL)
    with torch.no_grad():
        for parameter in made.generator.parameters():
            parameter.zero_()
    archive = read_legacy_archive(made.write(tmp_path / "a.zip"))
    probe = archive.parameters.probe
    assert probe is not None
    model = read_legacy_model(tmp_path / "a.zip")
    assert isinstance(model.generator, LegacyCnn)

    # In the legacy scale the probe gives normalised patterns through an object of this value.
    legacy_one = 32.0 / np.linalg.norm(probe)

    assert model.generator.structure.object_scale == pytest.approx(1.0 / legacy_one)
    assert model.flux == pytest.approx(np.square(np.abs(probe)).sum())


def test_a_network_without_a_probe_passes_on_the_light_of_each_pattern(tmp_path: Path) -> None:
    """Under any probe, its patches let as much light through as there are counts."""
    model = read_legacy_model(torch_bundle(structure(64, 2, 1, outer_width=32)).write(tmp_path / "a.zip"))
    generator = torch.Generator().manual_seed(0)
    amplitude = torch.rand(2, 4, 64, 64, generator=generator) * 9.0
    probes = torch.randn(2, 4, 1, 64, 64, generator=generator, dtype=torch.complex64)

    with torch.no_grad():
        patches = model.generator(amplitude, probes)

    light = (patches[:, :, None] * probes).abs().square().sum(dim=(-3, -2, -1))
    torch.testing.assert_close(light, amplitude.square().sum(dim=(-2, -1)))


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
        ("object.big", False),
        ("probe.big", False),
        ("probe.mask", True),
        ("pad_object", False),
        ("gaussian_smoothing_sigma", 0.5),
        ("amp_activation", "swish"),
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


def test_missing_parameters_are_all_named(tmp_path: Path) -> None:
    """All at once."""
    made = keras(SMALL)
    few = attrs.evolve(made, members={**made.members, f"{MODEL}/params.dill": parameter_file({"N": 64})})

    with pytest.raises(ArchiveError) as caught:
        read_legacy_archive(few.write(tmp_path / "a.zip"))

    assert {"gridsize", "offset", "object.big", "amp_activation"} <= {p.path for p in caught.value.problems}


@pytest.mark.parametrize(
    ("name", "value"),
    [("cnn_output_mode", "real_imag"), ("eca_encoder", True), ("batch_norm", True), ("n_filters_scale", 2)],
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


def test_translation_is_bilinear_and_takes_zeros_from_outside() -> None:
    """Whole pixels shift, halves average, and two shifts by halves are no shift by one."""
    image = torch.arange(16.0).reshape(1, 4, 4)

    torch.testing.assert_close(translate(image, torch.tensor([[1.0, 0.0]]))[0, 1:], image[0, :-1])
    half = translate(image, torch.tensor([[0.0, 0.5]]))[0]
    torch.testing.assert_close(half[:, 1:], (image[0, :, 1:] + image[0, :, :-1]) / 2)
    torch.testing.assert_close(half[:, 0], image[0, :, 0] / 2)
    assert not translate(image, torch.tensor([[9.0, 0.0]])).any()


@pytest.mark.parametrize("masked", [True, False])
def test_patches_of_one_object_merge_to_it(masked: bool) -> None:
    """Where the centres of patches lie, whatever their number, an even object comes back."""
    offsets = torch.tensor([[[0.0, 0.0], [3.0, -2.5]]])

    canvas = merge(torch.full((1, 2, 16, 16), 2.0 + 1.0j), offsets, 24, masked=masked)

    torch.testing.assert_close(canvas[0, 9:13, 11:15], torch.full((4, 4), 2.0 + 1.0j), rtol=2e-3, atol=0.0)


@pytest.mark.parametrize("masked", [True, False])
def test_each_group_has_a_canvas_of_its_own(masked: bool) -> None:
    """Any number of groups, 65 of 4 here, gives each of them what it gives it alone."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(65, 4, 16, 16, generator=generator, dtype=torch.complex64)
    offsets = torch.randn(65, 4, 2, generator=generator) * 3.0

    together = merge(patches, offsets, 26, masked=masked)

    alone = [merge(patches[n : n + 1], offsets[n : n + 1], 26, masked=masked) for n in range(65)]
    assert torch.equal(together, torch.cat(alone))


QUIET = PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False)


def test_a_network_of_groups_reconstructs_a_scan(tmp_path: Path) -> None:
    """Each pattern is seen with neighbours, so the result does not depend on the batches, and groups of 4 need 4."""
    model = read_legacy_model(keras(structure(64, 2, 1, amplitude_channels=1)).write(tmp_path / "a.zip"))
    scan, settings = tiny_scan(), TorchInferenceConfig(probe_source="scan")
    batches = (attrs.evolve(QUIET, inference_batch_size=size) for size in (5, 36))

    few, all_at_once = (
        reconstruct(model, scan, execution_config=batch, inference_config=settings) for batch in batches
    )

    assert len(all_at_once.pattern_indices) == 36
    np.testing.assert_allclose(few.object, all_at_once.object, rtol=0.0, atol=1e-5)
    with pytest.raises(ScanError, match=r"at least 4, which the network sees together"):
        reconstruct(model, scan.subset(np.arange(3)), execution_config=QUIET)


@pytest.mark.parametrize("name", ["keras, cartesian, groups of 9", "torch, single patterns"])
def test_a_migrated_model_is_the_same(name: str, tmp_path: Path) -> None:
    """Written in this library's own form and read again, it has the same structure, weights, settings and probes."""
    model = read_legacy_model(MADE[name][0]().write(tmp_path / "old.zip"))

    found = load_archive(save_archive(model, tmp_path / "new.zip"))

    assert isinstance(found.generator, LegacyCnn)
    assert isinstance(model.generator, LegacyCnn)
    assert found.generator.structure == model.generator.structure
    assert found.payload == model.payload
    assert (found.probe_refined, len(found.probes)) == (model.probe_refined, len(model.probes))
    for key, value in model.generator.state_dict().items():
        assert torch.equal(found.generator.state_dict()[key], value)
    for one, two in zip(found.probes, model.probes, strict=True):
        assert np.array_equal(one.probe, two.probe)
        assert one.flux == two.flux


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"size": 128}, "structure.size: expected 64"),
        ({"channels": 4}, "model.safetensors"),
        ({"channels": 10**9}, "structure.channels"),
        ({"outer_width": True}, "structure.outer_width"),
        ({"object_scale": -1.0}, "structure.object_scale"),
        ({"combination": "sum"}, "structure.combination"),
        ({"more": 1}, "structure: expected size"),
    ],
)
def test_a_structure_that_does_not_fit_is_refused(changes: dict[str, object], named: str, tmp_path: Path) -> None:
    """What stands in the manifest of a migrated model is looked at before a network is built of it."""
    model = read_legacy_model(torch_bundle(structure(64, 1, 1, outer_width=32)).write(tmp_path / "old.zip"))
    path = save_archive(model, tmp_path / "new.zip")
    members = unzipped(path.read_bytes())
    manifest = json.loads(members["manifest.json"])
    manifest["structure"] |= changes
    path.write_bytes(zipped({**members, "manifest.json": json.dumps(manifest).encode()}))

    with pytest.raises(ArchiveError, match=named):
        load_archive(path)


def test_a_model_of_the_legacy_software_is_loaded_with_a_word(tmp_path: Path) -> None:
    """A folder with it is enough, and a warning says what it is; parameters are told as settings."""
    keras(SMALL).write(tmp_path / "wts.h5.zip")

    with pytest.warns(UserWarning, match="is a model of the legacy software"):
        model = load_archive(tmp_path)

    assert model.payload.pt_model_config.architecture == "cnn"
    assert model.payload.tf_training_config.nphotons == parameters(SMALL)["nphotons"]
