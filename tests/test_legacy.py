"""The legacy parameter dict."""

from __future__ import annotations

import sys
from collections.abc import Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from ptycho_adapters import legacy
from ptycho_core import ModelConfig, PyTorchExecutionConfig, TrainingConfig, legacy_dict
from ptycho_core.config import InferenceConfig
from ptycho_core.errors import DependencyError

TRAINING = TrainingConfig(model=ModelConfig(gridsize=3), train_data_file=Path("a/b.npz"))


@pytest.fixture(autouse=True)
def parameters() -> Iterator[None]:
    with legacy.legacy_scope():
        yield


class Fragile(MutableMapping[str, object]):
    """A mapping whose n-th change fails."""

    def __init__(self, values: dict[str, object], *, fails_at: int) -> None:
        self.values_held, self.changes, self.fails_at = dict(values), 0, fails_at

    def _count(self) -> None:
        self.changes += 1
        if self.changes == self.fails_at:
            raise OSError("injected")

    def __getitem__(self, key: str) -> object:
        return self.values_held[key]

    def __setitem__(self, key: str, value: object) -> None:
        self._count()
        self.values_held[key] = value

    def __delitem__(self, key: str) -> None:
        self._count()
        del self.values_held[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_held)

    def __len__(self) -> int:
        return len(self.values_held)


def test_stale_values_do_not_survive() -> None:
    """A setting that the record leaves open is removed, whatever stood there."""
    target: dict[str, object] = {"n_subsample": 99, "test_data_file_path": "old", "npseed": 1}

    legacy.update_legacy_dict(target, TRAINING)

    assert "n_subsample" not in target
    assert "test_data_file_path" not in target
    assert target["npseed"] == 1
    assert target["train_data_file_path"] == "a/b.npz"


def test_the_dict_holds_what_the_projection_says() -> None:
    """From an empty dict, the result is the projection without its open settings."""
    target: dict[str, object] = {}

    legacy.update_legacy_dict(target, TRAINING)

    assert target == legacy_only(TRAINING)


INFERENCE = InferenceConfig(model=ModelConfig(), model_path=Path("m"), test_data_file=Path("t"))


@pytest.mark.parametrize("config", [ModelConfig(), TRAINING, INFERENCE], ids=lambda config: type(config).__name__)
def test_a_failure_at_any_step_leaves_the_dict_as_it_was(
    config: ModelConfig | TrainingConfig | InferenceConfig,
) -> None:
    """Whichever change fails, none of them stays, and the projection works when nothing fails."""
    before: dict[str, object] = {"n_subsample": 99, "gridsize": 7, "mine": "x", "n_groups": 3}
    whole = Fragile(before, fails_at=0)
    legacy.update_legacy_dict(whole, config)
    assert whole.values_held == legacy_only(config) | {key: before[key] for key in before.keys() - legacy_dict(config)}
    assert whole.changes >= len(legacy_only(config))

    for step in range(1, whole.changes + 1):
        target = Fragile(before, fails_at=step)
        with pytest.raises(OSError, match="injected"):
            legacy.update_legacy_dict(target, config)
        assert target.values_held == before


def legacy_only(config: ModelConfig | TrainingConfig | InferenceConfig) -> dict[str, object]:
    """Return the parameters that a record sets, as opposed to those it leaves open."""
    return {key: value for key, value in legacy_dict(config).items() if value is not None}


def test_concurrent_projections_do_not_mix() -> None:
    """Threads that fill one dict leave it as one of them would have alone."""
    configs = [
        TrainingConfig(
            model=ModelConfig(gridsize=n), n_groups=n, nepochs=n, test_data_file=None if n % 2 else Path("t")
        )
        for n in range(1, 33)
    ]
    target: dict[str, object] = {}

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda config: legacy.update_legacy_dict(target, config), configs))

    assert target in [legacy_only(config) for config in configs]


def test_only_canonical_records_are_projected() -> None:
    """Execution settings can never enter, and nothing changes when they try."""
    target: dict[str, object] = {"N": 1}

    with pytest.raises(TypeError, match="PyTorchExecutionConfig"):
        legacy.update_legacy_dict(target, PyTorchExecutionConfig())  # type: ignore[arg-type]

    assert target == {"N": 1}


def test_a_scope_restores_even_after_an_error() -> None:
    """The dict is as it was found, and is the same dict."""
    before, identity = dict(legacy.cfg), id(legacy.cfg)

    def spoil() -> None:
        with legacy.legacy_scope() as cfg:
            cfg["N"] = 7
            del cfg["gridsize"]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        spoil()

    assert (legacy.cfg, id(legacy.cfg)) == (before, identity)


def test_missing_parameters_have_their_defaults() -> None:
    """Reading an empty dict gives the legacy defaults and writes nothing."""
    legacy.cfg.clear()

    assert legacy.get("gridsize") == 2
    assert legacy.cfg == {}


def test_padded_sizes_are_computed() -> None:
    """The sizes follow from frame, grid, offset and jitter."""
    for key, value in {"N": 64, "gridsize": 3, "offset": 4, "max_position_jitter": 10}.items():
        legacy.set(key, value)

    assert legacy.get("bigN") == 64 + 2 * 4
    assert legacy.get("padding_size") == 2 * 4 + 10
    assert legacy.get("padded_size") == 64 + 2 * 4 + 10


def test_an_unknown_parameter_is_a_key_error() -> None:
    """Nothing stands in for a name that is not there."""
    with pytest.raises(KeyError):
        legacy.get("spam")


def test_data_sources_are_checked() -> None:
    """Only the known sources can be set."""
    with pytest.raises(ValueError, match="data_source"):
        legacy.set("data_source", "spam")
    legacy.set("data_source", "lines")

    assert legacy.get("data_source") == "lines"


def test_the_installed_package_can_be_targeted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed legacy package is found when asked for, and its absence is named."""
    monkeypatch.setitem(sys.modules, "ptycho", None)
    with pytest.raises(DependencyError, match="ptycho"):
        legacy.installed_cfg()

    package, module = ModuleType("ptycho"), ModuleType("ptycho.params")
    held: dict[str, object] = {"n_subsample": 3}
    module.__dict__["cfg"] = held
    monkeypatch.setitem(sys.modules, "ptycho", package)
    monkeypatch.setitem(sys.modules, "ptycho.params", module)
    legacy.update_legacy_dict(legacy.installed_cfg(), TRAINING)

    assert held["gridsize"] == 3
    assert "n_subsample" not in held


def test_a_reconstruction_after_a_training_adds_to_it() -> None:
    """Parameters of the training that a reconstruction does not have stay."""
    target: dict[str, object] = {}
    legacy.update_legacy_dict(target, TRAINING)
    inference = InferenceConfig(model=ModelConfig(), model_path=Path("m"), test_data_file=Path("t"), debug=True)

    legacy.update_legacy_dict(target, inference)

    assert (target["debug"], target["model_path"], target["nepochs"], target["gridsize"]) == (True, "m", 50, 1)
    assert "n_groups" not in target
