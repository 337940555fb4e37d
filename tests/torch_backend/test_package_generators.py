"""Generators of other packages: trained, kept and loaded by name; refused by name where they are not or are none."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch

from generator_package import install
from ptycho_adapters.factory import plan_inference, plan_training
from ptycho_adapters.files import write_scan
from ptycho_adapters.torch_backend import Generator, load_archive, reconstruct, register_generator, save_archive
from ptycho_adapters.torch_backend.generators import build_generator, generator_names, registry
from ptycho_adapters.torch_backend.generators.calling import patches_from
from ptycho_core.config import DataConfig, PackageGenerator, TorchInferenceConfig, TorchModelConfig
from ptycho_core.errors import ArchiveError, ConfigError, NotFiniteError
from torch_sample import quick_training, tiny_scan

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

NAME = "lab-networks:residual"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is installed as long as the test runs, and imported by nobody."""
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(str(install(tmp_path / "site")))
    monkeypatch.delitem(sys.modules, "lab_networks", raising=False)


def _build(name: str) -> Generator:
    return build_generator(TorchModelConfig(architecture=PackageGenerator(name)), DataConfig(N=64))


@pytest.mark.usefixtures("package")
def test_it_is_trained_kept_and_loaded_by_its_name(tmp_path: Path) -> None:
    """Every weight comes back, whatever its type, and gives the same object."""
    trained = quick_training(tmp_path, {"architecture": NAME, "epochs": 2})
    loaded = load_archive(save_archive(trained, tmp_path))

    assert trained.history[-1].train < trained.history[0].train
    assert loaded.payload.pt_model_config.architecture == NAME
    assert {value.dtype for value in loaded.generator.state_dict().values()} == {torch.float32, torch.int64}
    assert all(
        torch.equal(value, loaded.generator.state_dict()[name])
        for name, value in trained.generator.state_dict().items()
    )
    one, other = (reconstruct(model, tiny_scan()) for model in (trained, loaded))
    assert np.array_equal(one.object, other.object)


def test_an_archive_names_the_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is loaded, and before that when a reconstruction is planned; likewise a training."""
    scan = tmp_path / "scan.npz"
    write_scan(tiny_scan(), scan)
    with monkeypatch.context() as installed:
        (tmp_path / "site").mkdir()
        installed.syspath_prepend(str(install(tmp_path / "site")))
        archive = save_archive(quick_training(tmp_path, {"architecture": NAME}), tmp_path)
    words = "found lab-networks:residual; the package lab-networks is not installed: install it"

    with pytest.raises(ArchiveError, match=words) as loading:
        load_archive(archive)
    with pytest.raises(ArchiveError, match=words):
        plan_inference(archive, scan, tmp_path / "out", all_patterns="as stored")
    with pytest.raises(ConfigError, match=words):
        plan_training(scan, tmp_path / "out", {"n_groups": 4, "architecture": NAME, "backend": "pytorch"})
    assert loading.value.subject == str(archive)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "real",
            r"architecture: expected \S+:real to give complex64 \(2, 3, 64, 64\), found float32 \(2, 3, 64, 64\)",
        ),
        ("identity", "architecture: expected lab-networks:identity to be a subclass of Generator, found Identity"),
        (
            "number",
            "architecture: expected .* to be a function or a class .*Generator, found int at lab_networks:A_NUMBER",
        ),
        ("gone", "expected .* to be an importable lab_networks:Gone.*found AttributeError"),
        (
            "away",
            "expected .* to be an importable lab_networks_of_old:Residual.*found ModuleNotFoundError",
        ),
        ("other", "the installed lab-networks 1.2 declares lab-networks:residual and lab-networks:real"),
    ],
)
def test_what_is_no_generator_is_refused(name: str, words: str) -> None:
    """With what was expected of it and what was found."""
    with pytest.raises(ConfigError, match=words):
        _build(f"lab-networks:{name}")


@pytest.mark.usefixtures("package")
def test_declared_generators_are_listed_and_not_imported() -> None:
    """A list of names is no reason to run anything of a package."""
    assert NAME in generator_names()
    assert "lab_networks" not in sys.modules


def test_a_package_without_generators_is_told() -> None:
    """It is there, and what it would have to declare is said."""
    with pytest.raises(ConfigError, match=r"the installed attrs \S+ declares no generator \(entry points, group"):
        _build("attrs:net")


def test_a_program_registers_one_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same class may come again, as in a notebook; another one may not, nor a name that no run could name."""
    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))

    def define(*_: object) -> Any:
        class Ones(Generator):
            def __init__(self, model: TorchModelConfig, data: DataConfig) -> None:
                super().__init__()

            def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
                return torch.ones_like(amplitude, dtype=torch.complex64)

        return Ones

    register_generator("notebook:ones")(define())
    again = register_generator("notebook:ones")(define())

    assert isinstance(_build("notebook:ones"), again)
    with pytest.raises(ConfigError, match="notebook:ones: expected a free name"):
        register_generator("notebook:ones")(define)
    with pytest.raises(ConfigError, match=r"name: expected 'package:name' .*found 'ones'"):
        register_generator("ones")


class _Filled(Generator):
    """Gives what it is told to give everywhere, whatever it sees."""

    value = 1.0

    def __init__(self, model: TorchModelConfig, data: DataConfig) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
        return (torch.full_like(amplitude, self.value) + self.weight).to(torch.complex64)


class _OneMode(_Filled):
    """Works with one mode, and with one alone."""

    def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
        return super().forward(amplitude, probes) * probes.reshape(amplitude.shape).abs()


class _Convolved(_Filled):
    """Makes complex numbers of what a convolution gives, which under a low precision is no float32."""

    def __init__(self, model: TorchModelConfig, data: DataConfig) -> None:
        super().__init__(model, data)
        self.network = torch.nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
        parts = self.network(amplitude.flatten(0, 1)[:, None]).unflatten(0, amplitude.shape[:2])
        return torch.complex(parts[:, :, 0], parts[:, :, 1])


class _Moody(_Filled):
    """Gives transparency, and what is no number once it is in a certain mood."""

    gloomy = False

    def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
        made = super().forward(amplitude, probes)
        return made * math.nan if self.gloomy else made


def _registered(monkeypatch: pytest.MonkeyPatch, name: str, factory: type[Generator]) -> str:
    monkeypatch.setitem(registry._FACTORIES, name, factory)
    return name


def test_one_that_gives_no_numbers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is trained."""
    monkeypatch.setattr(_Filled, "value", math.nan)
    name = _registered(monkeypatch, "ml-lab:nan", _Filled)

    with pytest.raises(ConfigError, match=r"architecture: expected ml-lab:nan to give finite values, found 100% NaN"):
        _build(name)


def test_one_that_takes_a_single_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name, with the shapes that it was given, and its own error as the cause."""
    name = _registered(monkeypatch, "ml-lab:one-mode", _OneMode)
    words = r"ml-lab:one-mode to take amplitude \(2, 3, 64, 64\) and probes \(2, 3, 2, 64, 64\), found RuntimeError: "

    with pytest.raises(ConfigError, match=words) as refusal:
        _build(name)
    assert isinstance(refusal.value.__cause__, RuntimeError)


def test_a_failure_under_a_low_precision_says_what_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is built for a run of that precision; and in a pass, where it was built for another."""
    name = _registered(monkeypatch, "ml-lab:convolved", _Convolved)
    model, hint = (
        TorchModelConfig(architecture=PackageGenerator(name)),
        r"bf16-mixed .* give bfloat16: \.float\(\) before",
    )
    generator = _build(name)

    with pytest.raises(ConfigError, match=hint):
        build_generator(model, DataConfig(N=64), precision="bf16-mixed")
    amplitude = torch.ones(1, 9, 64, 64)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ConfigError, match=r"\(1, 9, 64, 64\).*" + hint):
        patches_from(generator, amplitude, amplitude[:, :, None].to(torch.complex64))
    with pytest.raises(ConfigError, match=r"ml-lab:convolved to take .* found RuntimeError: [^;]*$"):
        patches_from(generator, amplitude[:, :, None], amplitude)


@pytest.mark.parametrize("finish", ["none", "auto"])
def test_a_reconstruction_names_the_network_that_gives_no_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, finish: Literal["none", "auto"]
) -> None:
    """In one error, before anything is made of them."""
    model = quick_training(tmp_path, {"architecture": _registered(monkeypatch, "ml-lab:moody", _Moody)})
    monkeypatch.setattr(_Moody, "gloomy", True)

    with pytest.raises(NotFiniteError, match=r"expected finite values of ml-lab:moody, found .* NaN or infinite"):
        reconstruct(model, tiny_scan(), inference_config=TorchInferenceConfig(finish=finish))
