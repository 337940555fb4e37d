"""Laws of layers, aliases and names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ptycho_core.config.overrides import Layer, Unset, resolve
from ptycho_core.config.table import ALL, DEFAULTS, TRAINING, FieldInfo
from ptycho_core.errors import ConfigError
from strategies_config import TEXT, free, of_setting, training_settings

if TYPE_CHECKING:
    import random

SAID = [layer for layer in Layer if not layer.default]
LAYERS = st.dictionaries(st.sampled_from(SAID), training_settings(), max_size=len(SAID))
ALIASED = [(info, alias) for info in ALL if info.key in TRAINING for alias in info.knob.aliases if not alias.deprecated]
SETTING = st.sampled_from(free(TRAINING))


@given(layers=LAYERS)
def test_the_highest_layer_that_set_a_key_wins(layers: dict[Layer, dict[str, object]]) -> None:
    """Each value and its source are those of the first layer, from the top, that has the key."""
    resolution = resolve(layers, TRAINING)

    for info in TRAINING:
        source = next((layer for layer in SAID if info.key in layers.get(layer, {})), None)
        if source is None:
            assert resolution.provenance[info.key].default
            assert resolution.values[info.key] is info.default or resolution.values[info.key] == info.default
        else:
            assert resolution.provenance[info.key] is source
            assert resolution.values[info.key] == layers[source][info.key]


@given(layers=LAYERS)
def test_overrides_applied_are_the_choices_that_won(layers: dict[Layer, dict[str, object]]) -> None:
    """Exactly the keys whose source is a person are listed, with the value that holds."""
    resolution = resolve(layers, TRAINING)
    chosen = {layer: keys for layer, keys in layers.items() if layer not in {Layer.ARCHIVE, Layer.SCAN}}

    assert set(resolution.overrides_applied) == {key for keys in chosen.values() for key in keys}
    assert all(resolution.values[key] is value for key, value in resolution.overrides_applied.items())


@given(layers=LAYERS, seed=st.randoms(use_true_random=False))
def test_the_order_of_the_mappings_means_nothing(layers: dict[Layer, dict[str, object]], seed: random.Random) -> None:
    """Shuffled layers and shuffled keys resolve to the same."""

    def shuffled(mapping: dict[str, object]) -> dict[str, object]:
        return dict(seed.sample(sorted(mapping.items(), key=lambda item: item[0]), len(mapping)))

    mixed = {layer: shuffled(layers[layer]) for layer in seed.sample(sorted(layers), len(layers))}
    first, second = resolve(layers, TRAINING), resolve(mixed, TRAINING)

    assert first.values == second.values
    assert first.provenance == second.provenance


@given(layers=LAYERS, extra=st.sets(st.sampled_from([info.key for info in TRAINING])))
def test_unset_is_as_good_as_absent(layers: dict[Layer, dict[str, object]], extra: set[str]) -> None:
    """Unset values change neither values nor sources."""
    padded = {layer: {**dict.fromkeys(extra, Unset), **layers.get(layer, {})} for layer in SAID}

    assert resolve(padded, TRAINING).values == resolve(layers, TRAINING).values
    assert resolve(padded, TRAINING).provenance == resolve(layers, TRAINING).provenance


@given(info=SETTING, layer=st.sampled_from(SAID))
def test_a_default_that_was_said_is_a_choice(info: FieldInfo, layer: Layer) -> None:
    """A value equal to the default carries the layer that said it."""
    assume(info.key != "n_groups")

    assert resolve({layer: {info.key: info.default}}, TRAINING).provenance[info.key] is layer


@given(data=st.data(), pair=st.sampled_from(ALIASED))
def test_an_alias_is_its_key(data: st.DataObject, pair: tuple[FieldInfo, object]) -> None:
    """A value under an alias, spelled as the alias spells it, gives what the key itself gives."""
    info = pair[0]
    name = data.draw(st.sampled_from(info.aliases).filter(lambda name: name in TRAINING.names))
    value = data.draw(of_setting(TRAINING[info.key]))
    spelled = TRAINING.spelled(name, value)
    lossy = TRAINING.translate(name, spelled, "")[0]

    assert resolve({Layer.CLI: {name: spelled}}, TRAINING).values[info.key] == lossy
    both = resolve({Layer.CLI: {name: spelled, info.key: value}}, TRAINING)
    assert both.values[info.key] == both.values[name] == value


@given(data=st.data(), pair=st.sampled_from(ALIASED))
def test_spellings_that_disagree_are_named(data: st.DataObject, pair: tuple[FieldInfo, object]) -> None:
    """Key and alias with different meanings are an error that names both."""
    info = pair[0]
    name = info.aliases[0]
    first, second = data.draw(of_setting(TRAINING[info.key])), data.draw(of_setting(TRAINING[info.key]))
    assume(TRAINING.spelled(name, first) != TRAINING.spelled(name, second))

    with pytest.raises(ConfigError, match=rf"file\.{name}.*{info.key}="):
        resolve({Layer.FILE: {info.key: first, name: TRAINING.spelled(name, second)}}, TRAINING)


@given(layers=LAYERS, names=st.sets(TEXT, min_size=1, max_size=4), layer=st.sampled_from(SAID))
def test_every_unknown_name_is_reported(layers: dict[Layer, dict[str, object]], names: set[str], layer: Layer) -> None:
    """Nothing unknown is dropped, in whatever layer it stands."""
    assume(not names & TRAINING.names.keys())
    spoiled = {**layers, layer: {**layers.get(layer, {}), **dict.fromkeys(names, 1)}}

    with pytest.raises(ConfigError) as error:
        resolve(spoiled, TRAINING)

    assert {problem.path for problem in error.value.problems} == {f"{layer}.{name}" for name in names}


@given(info=SETTING, data=st.data())
def test_one_lost_letter_is_found_again(info: FieldInfo, data: st.DataObject) -> None:
    """A name with a letter missing is met with the name itself."""
    assume(len(info.key) > 4)
    cut = data.draw(st.integers(1, len(info.key) - 1))
    typo = info.key[:cut] + info.key[cut + 1 :]
    assume(typo not in TRAINING.names)

    with pytest.raises(ConfigError, match=info.key):
        resolve({Layer.EXPLICIT: {typo: 1}}, TRAINING)


@given(layers=LAYERS)
def test_resolution_leaves_its_arguments_alone(layers: dict[Layer, dict[str, object]]) -> None:
    """Neither the mappings nor the defaults change."""
    before = {layer: dict(keys) for layer, keys in layers.items()}
    defaults = {record: dict(held) for record, held in DEFAULTS.items()}

    resolve(layers, TRAINING)

    assert layers == before
    assert {record: dict(held) for record, held in DEFAULTS.items()} == defaults
