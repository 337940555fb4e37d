"""Layers, aliases and unknown names."""

from __future__ import annotations

import json

import pytest

from ptycho_core.config.overrides import Layer, Unset, resolve
from ptycho_core.config.table import TRAINING
from ptycho_core.errors import ConfigError


def test_the_highest_layer_that_set_a_key_wins() -> None:
    """Values and their sources follow the order of the layers, not that of the mapping."""
    layers: dict[Layer, dict[str, object]] = {
        Layer.FILE: {"learning_rate": 4.0, "nepochs": 4},
        Layer.EXPLICIT: {"learning_rate": 1.0},
        Layer.CLI: {"learning_rate": 3.0, "nepochs": 3},
        Layer.EXECUTION: {"learning_rate": 2.0},
        Layer.SCAN: {"N": 128},
    }

    resolution = resolve(layers, TRAINING)

    assert (resolution.values["learning_rate"], resolution.provenance["learning_rate"]) == (1.0, Layer.EXPLICIT)
    assert (resolution.values["nepochs"], resolution.provenance["nepochs"]) == (3, Layer.CLI)
    assert (resolution.values["N"], resolution.provenance["N"]) == (128, Layer.SCAN)


def test_a_command_has_defaults_of_its_own() -> None:
    """They outrank those of the records, count as defaults, and give way to whatever anybody or a file says."""
    layers: dict[Layer, dict[str, object]] = {Layer.COMMAND: {"nepochs": 9, "N": 32, "seed": 1}}
    alone = resolve(layers, TRAINING)
    among = resolve({**layers, Layer.FILE: {"nepochs": 4}, Layer.SCAN: {"N": 128}}, TRAINING)

    assert (alone.values["nepochs"], alone.provenance["nepochs"]) == (9, Layer.COMMAND)
    assert Layer.COMMAND.default
    assert not Layer.COMMAND.chosen
    assert (among.values["nepochs"], among.values["N"], among.values["seed"]) == (4, 128, 1)


def test_torch_side_defaults_outrank_canonical_ones() -> None:
    """Where the families differ, the torch side speaks; where it is silent, the canonical one does."""
    resolution = resolve({}, TRAINING)

    assert (resolution.values["gridsize"], resolution.provenance["gridsize"]) == (3, Layer.TORCH_DEFAULT)
    assert (resolution.values["neighbor_count"], resolution.values["amp_activation"]) == (10, "swish")


def test_a_value_equal_to_a_default_is_still_explicit() -> None:
    """Saying the default outranks what lower layers say."""
    resolution = resolve({Layer.EXPLICIT: {"nepochs": 50}, Layer.CLI: {"nepochs": 7}}, TRAINING)

    assert (resolution.values["nepochs"], resolution.provenance["nepochs"]) == (50, Layer.EXPLICIT)


def test_unset_is_not_none() -> None:
    """Unset leaves a key to lower layers, None sets it."""
    layers: dict[Layer, dict[str, object]] = {
        Layer.EXPLICIT: {"gradient_clip_val": Unset, "n_subsample": None},
        Layer.CLI: {"gradient_clip_val": 0.5, "n_subsample": 9},
    }

    resolution = resolve(layers, TRAINING)

    assert resolution.values["gradient_clip_val"] == 0.5
    assert resolution.values["n_subsample"] is None
    assert not Unset
    assert repr(Unset) == "Unset"


def test_overrides_applied_holds_choices_alone() -> None:
    """Neither facts, defaults nor values that lost are listed."""
    resolution = resolve({Layer.EXPLICIT: {"epochs": 3}, Layer.CLI: {"nepochs": 9}, Layer.SCAN: {"N": 64}}, TRAINING)

    assert dict(resolution.overrides_applied) == {"nepochs": 3}


@pytest.mark.parametrize(
    ("name", "value", "key", "expected"),
    [
        ("epochs", 7, "nepochs", 7),
        ("max_epochs", 7, "nepochs", 7),
        ("K", 9, "neighbor_count", 9),
        ("grid_size", (3, 3), "gridsize", 3),
        ("grid_size", [1, 1], "gridsize", 1),
        ("mode", "Supervised", "model_type", "supervised"),
        ("mode", "pinn", "model_type", "pinn"),
        ("model_type", "Unsupervised", "model_type", "pinn"),
        ("amp_activation", "SiLU", "amp_activation", "swish"),
        ("nll", False, "nll_weight", 0.0),
        ("loss_function", "MAE", "torch_loss_mode", "mae"),
        ("logger_backend", "none", "logger_backend", None),
        ("n_devices", 2, "devices", 2),
    ],
)
def test_an_alias_sets_its_key(name: str, value: object, key: str, expected: object) -> None:
    """The other spelling is translated, and answers can be asked for under either name."""
    resolution = resolve({Layer.EXPLICIT: {name: value}}, TRAINING)

    assert resolution.values[key] == resolution.values[name] == expected
    assert resolution.provenance[name] is Layer.EXPLICIT


@pytest.mark.parametrize(("name", "key"), [("n_images", "n_groups"), ("device", "accelerator")])
def test_deprecated_aliases_warn(name: str, key: str) -> None:
    """The warning says what to write instead."""
    with pytest.warns(DeprecationWarning, match=f"{name} is deprecated, use {key}"):
        resolve({Layer.CLI: {name: 8 if name == "n_images" else "cpu"}}, TRAINING)


@pytest.mark.parametrize(
    "given",
    [
        {"epochs": 3, "max_epochs": 7},
        {"K": 3, "neighbor_count": 9},
        {"gridsize": 1, "grid_size": (3, 3)},
        {"mode": "Supervised", "model_type": "pinn"},
        {"nll": True, "nll_weight": 0.0},
    ],
)
def test_spellings_that_disagree_are_an_error(given: dict[str, object]) -> None:
    """The message names both of them with their values."""
    with pytest.raises(ConfigError) as error:
        resolve({Layer.EXPLICIT: given}, TRAINING)

    text = str(error.value)
    assert all(name in text for name in given)
    assert all(repr(value) in text for value in given.values())


@pytest.mark.parametrize(
    "given",
    [
        {"epochs": 3, "max_epochs": 3, "nepochs": 3},
        {"gridsize": 3, "grid_size": (3, 3)},
        {"mode": "Supervised", "model_type": "supervised"},
        {"nll": True, "nll_weight": 0.3},
    ],
)
def test_spellings_that_agree_are_fine(given: dict[str, object]) -> None:
    """A switch agrees with every weight that it can stand for."""
    resolution = resolve({Layer.EXPLICIT: given}, TRAINING)

    assert len(resolution.overrides_applied) == 1


def test_spellings_in_different_layers_do_not_disagree() -> None:
    """The higher layer wins whatever name it uses."""
    assert resolve({Layer.EXPLICIT: {"max_epochs": 3}, Layer.CLI: {"epochs": 7}}, TRAINING).values["nepochs"] == 3


def test_an_unknown_name_comes_with_its_near_matches() -> None:
    """A typing error is met with the name that was meant."""
    with pytest.raises(ConfigError, match=r"explicit\.learnig_rate: .*did you mean learning_rate"):
        resolve({Layer.EXPLICIT: {"learnig_rate": 1e-3}}, TRAINING)


@pytest.mark.parametrize("name", ["C", "C_model", "C_forward"])
def test_derived_values_cannot_be_set(name: str) -> None:
    """The message names the setting that they follow from."""
    with pytest.raises(ConfigError, match="set gridsize"):
        resolve({Layer.EXPLICIT: {name: 4}}, TRAINING)


def test_a_grid_with_two_sizes_has_no_gridsize() -> None:
    """Only a square grid can be said in both vocabularies."""
    with pytest.raises(ConfigError, match="Non-square grids"):
        resolve({Layer.EXPLICIT: {"grid_size": (2, 3)}}, TRAINING)


def test_problems_of_all_layers_come_together() -> None:
    """Every layer is read to its end before anything is raised."""
    layers: dict[Layer, dict[str, object]] = {
        Layer.EXPLICIT: {"batch_size": 5, "spam": 1},
        Layer.CLI: {"nepochs": "many"},
        Layer.FILE: {"nepochs": 0},
    }

    with pytest.raises(ConfigError) as error:
        resolve(layers, TRAINING)

    assert sorted(problem.path for problem in error.value.problems) == [
        "cli.nepochs",
        "explicit.batch_size",
        "explicit.spam",
        "file.nepochs",
    ]


def test_a_fact_that_was_overruled_is_not_judged() -> None:
    """A file may state a wrong size as long as a person states a good one."""
    assert resolve({Layer.EXPLICIT: {"N": 64}, Layer.SCAN: {"N": 3}}, TRAINING).values["N"] == 64
    with pytest.raises(ConfigError, match=r"scan\.N"):
        resolve({Layer.SCAN: {"N": 3}}, TRAINING)


def test_a_choice_is_judged_even_where_it_loses() -> None:
    """What a person said wrongly is an error although a higher layer overrules it."""
    with pytest.raises(ConfigError, match=r"cli\.nepochs"):
        resolve({Layer.EXPLICIT: {"nepochs": 3}, Layer.CLI: {"nepochs": "many"}}, TRAINING)


def test_problems_come_in_the_order_of_the_names() -> None:
    """Two calls with the same mistakes say the same, keys before aliases and each in alphabetical order."""
    given = {"max_epochs": 0, "epochs": 0, "seed": -1, "batch_size": 3, "K": 0}

    with pytest.raises(ConfigError) as error:
        resolve({Layer.CLI: given}, TRAINING)

    found = [problem.path for problem in error.value.problems]
    assert found == ["cli.batch_size", "cli.seed", "cli.K", "cli.epochs", "cli.max_epochs"]


def test_names_after_an_open_one_are_read() -> None:
    """A name that its layer leaves open does not end the reading of the layer."""
    given = {"batch_size": Unset, "nepochs": 3, "momentum": "much", "seed": 1}

    with pytest.raises(ConfigError, match="momentum"):
        resolve({Layer.CLI: given}, TRAINING)
    resolution = resolve({Layer.CLI: {**given, "momentum": Unset}}, TRAINING)

    assert dict(resolution.overrides_applied) == {"nepochs": 3, "seed": 1}


def test_settings_are_a_mapping_over_keys() -> None:
    """They show what they hold, count keys alone, and name what they do not have."""
    provenance = resolve({Layer.CLI: {"epochs": 3}}, TRAINING).provenance

    assert set(provenance) == {info.key for info in TRAINING}
    assert len(provenance) == len(list(TRAINING))
    assert "'nepochs': <Layer.CLI: 'cli'>" in repr(provenance)
    with pytest.raises(KeyError, match="spam"):
        provenance["spam"]


def test_names_may_come_from_anywhere() -> None:
    """Names that were put together or read at run time mean what the same names in a program mean."""
    read: dict[str, object] = json.loads('{"nll_weight": 0.3, "nll": true, "n_images": 8}')

    with pytest.warns(DeprecationWarning, match="n_images is deprecated"):
        resolution = resolve({Layer.FILE: read}, TRAINING)

    assert dict(resolution.overrides_applied) == {"nll_weight": 0.3, "n_groups": 8}


def test_resolutions_with_arrays_can_be_compared() -> None:
    """A resolution equals itself alone, whatever it holds; its values are what can be compared."""
    given = {Layer.CLI: {"probe_mask_tensor": [[1.0, 1.0]]}}
    first, second = resolve(given, TRAINING), resolve(given, TRAINING)

    assert first == first  # noqa: PLR0124 - equality is what is tested
    assert first != second
