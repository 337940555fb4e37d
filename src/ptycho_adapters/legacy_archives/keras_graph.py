"""Which layer of a Keras model does what, from its `config.json`: the way back from the object to the patterns.

Layers are known by class and by what they are connected with, because their names count on through a run of the
program. Only `obj`, `amp` and `phi` have names of their own. A layer that is not of the known network is an error that
names it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping

import attrs

from ptycho_adapters.legacy_archives.roles import (
    Combination,
    centre_role,
    decoder_roles,
    depth_of,
    encoder_roles,
    ring_roles,
)
from ptycho_core.errors import ArchiveError, Problem

_MOST_LAYERS = 512
_ANCHORS = {"amp": "amp", "phase": "phi"}
_CONVOLUTION: Mapping[str, object] = {
    "kernel_size": [3, 3],
    "strides": [1, 1],
    "padding": "same",
    "data_format": "channels_last",
    "dilation_rate": [1, 1],
    "groups": 1,
    "use_bias": True,
}
_POOL: Mapping[str, object] = {"pool_size": [2, 2], "strides": [2, 2], "data_format": "channels_last"}
_UP: Mapping[str, object] = {"size": [2, 2], "interpolation": "nearest", "data_format": "channels_last"}


@attrs.frozen(kw_only=True)
class KerasGraph:
    """What a model's configuration says.

    Attributes:
        layers: name of the layer of each convolution, by its role.
        combination: what the two heads mean.
        activation: of the amplitude.
        ring: whether patches have one.
        outer_channels: channels of the last decoder block that go to the ring, or to nothing.
        channels: patterns that the network sees together.
        convolutions: names of all layers that are convolutions.
    """

    layers: Mapping[str, str]
    combination: Combination
    activation: str
    ring: bool
    outer_channels: int
    channels: int
    convolutions: frozenset[str]


@attrs.frozen(kw_only=True)
class _Layer:
    name: str
    kind: str
    config: Mapping[str, object]
    parents: tuple[str, ...]
    cut: tuple[object, object] | None


class _UnknownError(ValueError):
    """A part that the known network does not have."""

    def __init__(self, path: str, expected: str, found: str) -> None:
        super().__init__(path)
        self.problem = Problem(path=path, expected=expected, found=found)


def read_graph(content: bytes, size: int, subject: str) -> KerasGraph:
    """Find the roles of the layers.

    Args:
        content: `config.json`.
        size: side of a pattern in px.
        subject: archive that it is of.

    Raises:
        ArchiveError: the configuration cannot be read, or describes another network.
    """
    try:
        return _Walk(_layers(json.loads(content)), size).graph()
    except _UnknownError as error:
        raise ArchiveError(subject, [error.problem]) from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        problem = Problem(path="config.json", expected="the layers of a model", found=str(error)[:100])
        raise ArchiveError(subject, [problem]) from error


def _layers(config: dict[str, dict[str, list[dict[str, object]]]]) -> dict[str, _Layer]:
    entries = config["config"]["layers"]
    if len(entries) > _MOST_LAYERS:
        raise _UnknownError("config.json", f"at most {_MOST_LAYERS} layers", str(len(entries)))
    layers = [_layer(entry) for entry in entries]
    named = {layer.name: layer for layer in layers}
    if len(named) != len(layers):
        raise _UnknownError("config.json", "one layer of each name", "several")
    return named


def _layer(entry: dict[str, object]) -> _Layer:
    config, nodes = entry["config"], entry.get("inbound_nodes", [])
    if not isinstance(config, dict) or not isinstance(nodes, list):
        raise TypeError("a layer without configuration")
    name = str(entry["name"])
    if len(nodes) > 1:
        raise _UnknownError(f"config.json.{name}", "a layer that is passed once", f"{len(nodes)} times")
    return _Layer(
        name=name,
        kind=str(entry["class_name"]),
        config=config,
        parents=tuple(str(history[0]) for history in _found(nodes, "keras_history") if isinstance(history, list)),
        cut=next(((cut["start"], cut["stop"]) for cut in _cuts(nodes)), None),
    )


def _found(value: object, key: str) -> Iterator[object]:
    """Give every value of a key, at any depth, in order."""
    if isinstance(value, dict):
        if key in value:
            yield value[key]
        for inner in value.values():
            yield from _found(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _found(inner, key)


def _cuts(nodes: list[object]) -> Iterator[dict[str, object]]:
    for config in _found(nodes, "config"):
        if isinstance(config, dict) and config.keys() == {"start", "stop", "step"} and config["step"] is None:
            yield config


class _Walk:
    def __init__(self, layers: dict[str, _Layer], size: int) -> None:
        self._layers = layers
        self._size = size
        self._roles: dict[str, str] = {}

    def graph(self) -> KerasGraph:
        """Go from the object to the patterns along both heads."""
        made = self._expect("obj", "CombineComplexLayer", parents=2)
        bottoms, outer, activation = [], set(), "none"
        for head, parent in zip(_ANCHORS, made.parents, strict=True):
            decoded, anchor, cut = self._head(head, parent)
            outer.add(cut)
            activation = self._named(anchor) if head == "amp" else activation
            bottoms.append(self._decoder(head, decoded))
        if bottoms[0] != bottoms[1] or len(outer) != 1:
            raise _UnknownError("config.json.obj", "two heads of one encoder, alike in channels", "others")
        convolutions = frozenset(name for name, layer in self._layers.items() if layer.kind == "Conv2D")
        channels = self._encoder(bottoms[0])
        for name in sorted(convolutions - {*self._roles.values()}):
            raise _UnknownError(f"config.json.{name}", "no such convolution", "one")
        return KerasGraph(
            layers=self._roles,
            combination="polar" if made.config.get("use_polar", False) is True else "cartesian",
            activation=activation,
            ring=self._ringed(made.parents[0]),
            outer_channels=outer.pop(),
            channels=channels,
            convolutions=convolutions,
        )

    def _head(self, head: str, name: str) -> tuple[str, _Layer, int]:
        """Go through a head; give where it begins, its activation and the channels that are not for its centre."""
        ringed = self._ringed(name)
        centre, ring = self._expect(name, "Add", parents=2).parents if ringed else (name, "")
        quarter = self._size // 4
        padded = self._expect(centre, "ZeroPadding2D", {"padding": [[quarter, quarter]] * 2})
        anchor = self._activation(head, padded.parents[0])
        (centre_cut,) = self._convolution(centre_role(head), anchor.parents[0], "linear").parents
        inner = self._expect(centre_cut, "GetItem")
        if not ringed:
            return inner.parents[0], anchor, self._left_out(inner)
        outer = self._expect(self._ring(head, ring), "GetItem")
        count = self._left_out(inner)
        if outer.cut != (-count, None) or inner.parents != outer.parents:
            expected = "a cut into two, as its twin has it"
            raise _UnknownError(f"config.json.{outer.name}", expected, f"{inner.cut} and {outer.cut}")
        return inner.parents[0], anchor, count

    def _ringed(self, name: str) -> bool:
        """Tell whether a head adds a ring to its centre."""
        layer = self._layers.get(name)
        return layer is None or layer.kind != "ZeroPadding2D"

    def _left_out(self, inner: _Layer) -> int:
        """Give the number of channels that do not go to the centre."""
        start, count = inner.cut or (None, None)
        if start is not None or not isinstance(count, int) or isinstance(count, bool) or count >= 0:
            raise _UnknownError(f"config.json.{inner.name}", "all channels but the last few", f"{inner.cut}")
        return -count

    def _named(self, anchor: _Layer) -> str:
        stated = str(anchor.config.get("activation_name"))
        return "silu" if stated == "swish" else stated

    def _activation(self, head: str, name: str) -> _Layer:
        anchor = self._expect(name, "ActivationLayer")
        wanted, scale = (_ANCHORS[head], 1.0 if head == "amp" else math.pi)
        as_known = head == "amp" or anchor.config.get("activation_name") == "tanh"
        if anchor.name != wanted or anchor.config.get("scale") != scale or not as_known:
            found = f"{anchor.config.get('activation_name')} times {anchor.config.get('scale')}, as {anchor.name}"
            raise _UnknownError(f"config.json.{name}", f"the activation of {wanted}, times {scale}", found)
        return anchor

    def _ring(self, head: str, name: str) -> str:
        """Go back through the ring of a head to where it leaves the decoder."""
        smooth, mask = self._expect(name, "Multiply", parents=2).parents
        border = self._expect(mask, "CenterMaskLayer", {"kind": "border", "N": self._size})
        if border.parents != (smooth,):
            raise _UnknownError(f"config.json.{mask}", f"a mask for {smooth}", f"one for {border.parents}")
        first, second, last = ring_roles(head)
        (up,) = self._convolution(last, self._expect(smooth, "Silu").parents[0], "linear").parents
        return self._pair(first, second, self._expect(up, "UpSampling2D", _UP).parents[0])

    def _decoder(self, head: str, name: str) -> str:
        """Go back through a decoder to the end of the encoder."""
        roles = decoder_roles(head, depth_of(self._size))
        for first, second in zip(roles[-2::-2], roles[::-2], strict=True):
            name = self._pair(first, second, self._expect(name, "UpSampling2D", _UP).parents[0])
        return name

    def _encoder(self, name: str) -> int:
        """Go back through the encoder to the patterns; give their number."""
        roles = encoder_roles(depth_of(self._size))
        for first, second in zip(roles[-2::-2], roles[::-2], strict=True):
            name = self._pair(first, second, self._expect(name, "MaxPooling2D", _POOL).parents[0])
        (source,) = self._expect(name, "IntensityScaler").parents
        shape = self._expect(source, "InputLayer", parents=0).config.get("batch_shape")
        if not isinstance(shape, list) or shape[1:3] != [self._size] * 2 or not isinstance(shape[-1], int):
            raise _UnknownError(f"config.json.{source}", f"patterns of {self._size} px", repr(shape)[:80])
        return shape[-1]

    def _pair(self, first: str, second: str, name: str) -> str:
        (between,) = self._convolution(second, name, "relu").parents
        return self._convolution(first, between, "relu").parents[0]

    def _convolution(self, role: str, name: str, activation: str) -> _Layer:
        layer = self._expect(name, "Conv2D", {**_CONVOLUTION, "activation": activation})
        self._roles[role] = name
        return layer

    def _expect(self, name: str, kind: str, config: Mapping[str, object] | None = None, parents: int = 1) -> _Layer:
        layer = self._layers.get(name)
        path = f"config.json.{name}"
        if layer is None or layer.kind != kind:
            raise _UnknownError(path, f"a {kind}", "none" if layer is None else f"a {layer.kind}")
        if len(layer.parents) != parents:
            raise _UnknownError(path, f"{parents} layers before it", str(len(layer.parents)))
        for key, value in (config or {}).items():
            if layer.config.get(key) != value:
                raise _UnknownError(f"{path}.{key}", repr(value), repr(layer.config.get(key))[:80])
        return layer
