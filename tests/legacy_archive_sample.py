"""Archives as the legacy software writes them, made without it: the same formats by other means, of any size.

HDF5 comes from h5py, torch files from torch, pickles and the table of a SavedModel are put together here.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import h5py
import numpy as np
import torch

from ptycho_adapters.common.cnn_structure import CnnStructure
from ptycho_adapters.torch_backend.generators.cnn import LegacyCnn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

MODEL = "diffraction_to_obj"
SAMPLES = Path(__file__).parents[2] / "shared" / "data" / "legacy"

Members = dict[str, bytes]


@attrs.frozen(kw_only=True, eq=False)
class Made:
    """A network and its archive's members by name; `arrays` are kernels and biases as Keras orders their axes."""

    generator: LegacyCnn
    members: Members

    def write(self, path: Path) -> Path:
        """Write the archive."""
        path.write_bytes(zipped(self.members))
        return path


def zipped(members: Mapping[str, bytes]) -> bytes:
    """A zip file of members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def unzipped(content: bytes) -> Members:
    """The members of a zip file."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def structure(size: int, gridsize: int, scale: int, **changes: object) -> CnnStructure:
    """Structure of a network of TensorFlow's generations."""
    members = gridsize**2
    usual = CnnStructure(
        size=size,
        channels=members,
        filters_scale=scale,
        block_attention=False,
        amplitude_channels=members,
        outer_channels=4,
        outer_width=scale * 2048 // size,
        activation="sigmoid",
    )
    return attrs.evolve(usual, **changes)  # type: ignore[arg-type] # checked by those who use it


def network(of: CnnStructure) -> LegacyCnn:
    """A network whose weights are all random, so that none can stand for another."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        made = LegacyCnn(of)
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    return made.eval()


# Parameters

_NAMES = {"silu": "swish"}


def pickled(value: object) -> bytes:
    """A value as instructions without beginning and end."""
    if isinstance(value, np.ndarray):
        return _tensor(value)
    return pickle.dumps(value, 2)[2:-1]


def parameter_file(values: Mapping[str, object]) -> bytes:
    """`params.dill`: a dict, in which arrays are tensors of TensorFlow that dill wrote."""
    entries = b"".join(pickled(name) + pickled(value) for name, value in values.items())
    return b"\x80\x04}(" + entries + b"u."


def _tensor(value: npt.NDArray[np.complex64]) -> bytes:
    dtype = b"cnumpy\ndtype\n(" + pickled("c8") + b"\x89\x88tR(" + pickled((3, "<", None, None, None, -1, -1, 0))[:0]
    dtype += pickled(3) + pickled("<") + b"NNN" + pickled(-1) + pickled(-1) + pickled(0) + b"tb"
    content = b"B" + struct.pack("<I", value.nbytes) + value.tobytes()
    state = b"(" + pickled(1) + pickled(value.shape) + dtype + b"\x89" + content + b"t"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n"
    arguments = b"(cnumpy\nndarray\n" + pickled((0,)) + b"C\x01bt"
    array = b"cdill._dill\n_create_array\n(" + empty + arguments + state + b"NtR"
    return b"ctensorflow.python.framework.ops\nconvert_to_tensor\n" + array + b"\x85R"


def parameters(of: CnnStructure) -> dict[str, object]:
    """What the legacy software keeps beside weights, with a probe."""
    y, x = np.mgrid[: of.size, : of.size] - of.size / 2
    probe = np.exp(-(x**2 + y**2) / (of.size / 5) ** 2 + 0.02j * x).astype(np.complex64)[..., None]
    return {
        "N": of.size,
        "gridsize": math.isqrt(of.channels),
        "offset": 4,
        "max_position_jitter": 10,
        "n_filters_scale": of.filters_scale,
        "object.big": True,
        "probe.big": of.ring,
        "probe.mask": False,
        "pad_object": True,
        "amp_activation": _NAMES.get(of.activation, of.activation),
        "model_type": "pinn",
        "gaussian_smoothing_sigma": 0.0,
        "nphotons": 1e5,
        "probe_scale": 4.0,
        "intensity_scale": 9.9,
        "output_prefix": "/home/somebody/secret",
        "probe": probe,
        "_version": "1.0",
    }


# Keras


def keras(of: CnnStructure, **changes: object) -> Made:
    """An archive of Keras 3, polar or cartesian as the structure says, whose layers count on from 30."""
    made = network(of)
    graph = _Graph(of)
    config, layers = graph.config(), graph.roles
    model = zipped(
        {"metadata.json": b"{}", "config.json": json.dumps(config).encode(), "model.weights.h5": h5(made, layers)}
    )
    return Made(generator=made, members=_members(of, {f"{MODEL}/model.keras": model}, changes))


def _members(of: CnnStructure, model: Members, changes: Mapping[str, object]) -> Members:
    bomb = b"cposix\nsystem\n(" + pickled("touch /tmp/never") + b"tR."
    return {
        "manifest.dill": bomb,
        f"{MODEL}/custom_objects.dill": bomb,
        f"{MODEL}/params.dill": parameter_file({**parameters(of), **changes}),
        **model,
    }


def h5(made: LegacyCnn, layers: Mapping[str, str]) -> bytes:
    """`model.weights.h5`: groups named by class and place, each with the true name of its layer."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for number, (role, name) in enumerate(layers.items()):
            group = file.create_group(f"layers/conv2d{f'_{number}' if number else ''}/vars")
            group.attrs["name"] = name
            kernel, bias = keras_arrays(made, role)
            group["0"], group["1"] = kernel, bias
        file.create_group("layers/multiply/vars").attrs["name"] = "multiply"
        file.create_group("vars")
    return stream.getvalue()


def keras_arrays(made: LegacyCnn, role: str) -> tuple[Array, Array]:
    """Kernel and bias of a convolution."""
    weights = made.state_dict()
    return weights[f"{role}.weight"].numpy().transpose(2, 3, 1, 0), weights[f"{role}.bias"].numpy()


class _Graph:
    def __init__(self, of: CnnStructure) -> None:
        self._of = of
        self._layers: list[dict[str, object]] = []
        self._count = 30
        self.roles: dict[str, str] = {}

    def config(self) -> dict[str, object]:
        of, blocks = self._of, len(self._of.encoder_channels) - 1
        self._add("InputLayer", "input", [], batch_shape=[None, of.size, of.size, of.channels])
        last = self._add("IntensityScaler", "scaler", ["input"])
        for block in range(blocks):
            last = self._pair(f"autoencoder.encoder.blocks.{block}", last)
            last = self._add("MaxPooling2D", "pool", [last], pool_size=[2, 2], strides=[2, 2])
        heads = [self._head(head, anchor, last, blocks) for head, anchor in (("amp", "amp"), ("phase", "phi"))]
        polar: dict[str, Any] = {"use_polar": True} if of.combination == "polar" else {}
        self._add("CombineComplexLayer", "obj", heads, named=True, **polar)
        return {"class_name": "Functional", "config": {"layers": self._layers}}

    def _head(self, head: str, anchor: str, last: str, blocks: int) -> str:
        of, root, quarter = self._of, f"autoencoder.decoder_{head}", self._of.size // 4
        for block in range(blocks - 1):
            last = self._up(self._pair(f"{root}.blocks.{block}", last))
        inner = self._add("GetItem", "cut", [last], cut=(None, -of.outer_channels))
        centre = self._conv(f"{root}.{head}.conv1", inner, "linear")
        function, scale = (_NAMES.get(of.activation, of.activation), 1.0) if head == "amp" else ("tanh", math.pi)
        self._add("ActivationLayer", anchor, [centre], named=True, activation_name=function, scale=scale)
        padded = self._add("ZeroPadding2D", "padded", [anchor], padding=[[quarter, quarter]] * 2)
        if not of.ring:
            return padded
        outer = self._add("GetItem", "cut", [last], cut=(-of.outer_channels, None))
        ring = self._up(self._pair(f"{root}.{head}.conv_up_block", outer))
        smooth = self._add("Silu", "silu", [self._conv(f"{root}.{head}.conv2", ring, "linear")])
        mask = self._add("CenterMaskLayer", "mask", [smooth], kind="border", N=of.size, c=1)
        return self._add("Add", "add", [padded, self._add("Multiply", "multiply", [smooth, mask])])

    def _up(self, last: str) -> str:
        return self._add("UpSampling2D", "up", [last], size=[2, 2], interpolation="nearest")

    def _pair(self, root: str, last: str) -> str:
        return self._conv(f"{root}.conv2", self._conv(f"{root}.conv1", last))

    def _conv(self, role: str, last: str, activation: str = "relu") -> str:
        sizes: dict[str, Any] = {
            "kernel_size": [3, 3],
            "strides": [1, 1],
            "padding": "same",
            "dilation_rate": [1, 1],
            "groups": 1,
        }
        self.roles[role] = self._add("Conv2D", "conv2d", [last], activation=activation, use_bias=True, **sizes)
        return self.roles[role]

    def _add(
        self,
        layer: str,
        name: str,
        parents: Iterable[str],
        /,
        *,
        named: bool = False,
        cut: tuple[int | None, int | None] | None = None,
        **config: object,
    ) -> str:
        self._count += 1
        full = name if named or name == "input" else f"{name}_{self._count}"
        tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": [each, 0, 0]}} for each in parents]
        arguments: list[object] = [tensors] if layer == "CombineComplexLayer" else [*tensors]
        if cut is not None:
            place = {"class_name": "__slice__", "config": {"start": cut[0], "stop": cut[1], "step": None}}
            arguments.append([{"class_name": "__ellipsis__", "config": {}}, place])
        nodes = [{"args": arguments, "kwargs": {}}] if tensors else []
        own = {"name": full, "data_format": "channels_last", **config}
        self._layers.append({"class_name": layer, "name": full, "config": own, "inbound_nodes": nodes})
        return full


# SavedModel


def saved_model(of: CnnStructure, **changes: object) -> Made:
    """An archive of Keras 2, whose variables are numbered by depth."""
    made = network(of)
    arrays = {
        f"layer_with_weights-{number}/{part}/.ATTRIBUTES/VARIABLE_VALUE": array
        for number, role in enumerate(by_depth(of))
        for part, array in zip(("kernel", "bias"), keras_arrays(made, role), strict=True)
    }
    index, data = bundle(arrays)
    model = {
        f"{MODEL}/saved_model.pb": b"\x00",
        f"{MODEL}/keras_metadata.pb": b"\x00",
        f"{MODEL}/variables/variables.index": index,
        f"{MODEL}/variables/variables.data-00000-of-00001": data,
    }
    return Made(generator=made, members=_members(of, model, changes))


def by_depth(of: CnnStructure) -> list[str]:
    """Roles in the order in which the legacy archive numbers them."""
    blocks = len(of.encoder_channels) - 1
    order = [f"autoencoder.encoder.blocks.{block}.conv{number}" for block in range(blocks) for number in (1, 2)]
    inner = [f"blocks.{block}.conv{number}" for block in range(blocks - 1) for number in (1, 2)]
    ring = ["{0}.conv_up_block.conv1", "{0}.conv_up_block.conv2", "{0}.conv2"] if of.ring else []
    ends = [*ring, "{0}.conv1"]
    return order + [f"autoencoder.decoder_{head}.{p.format(head)}" for p in inner + ends for head in ("amp", "phase")]


def bundle(arrays: Mapping[str, Array]) -> tuple[bytes, bytes]:
    """Index and data of variables, in two blocks of keys that share their beginnings."""
    data, entries = b"", [(b"", b"\x08\x01")]
    for key in sorted(arrays):
        shape = b"".join(_field(2, _field(1, size)) for size in arrays[key].shape)
        value = _field(1, 1) + _field(2, shape) + _field(4, len(data)) + _field(5, arrays[key].nbytes)
        entries.append((key.encode(), value + b"\x35\x00\x00\x00\x00"))
        data += np.ascontiguousarray(arrays[key]).tobytes()
    half = len(entries) // 2
    table, places = b"", []
    for part in (entries[:half], entries[half:]):
        block = _block(part)
        places.append((part[-1][0], _varint(len(table)) + _varint(len(block))))
        table += block + bytes(5)
    empty, start = _block([]), len(table)
    table += empty + bytes(5)
    index, index_start = _block(places), len(table)
    table += index + bytes(5)
    handles = _varint(start) + _varint(len(empty)) + _varint(index_start) + _varint(len(index))
    return table + handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57), data


def _block(entries: list[tuple[bytes, bytes]]) -> bytes:
    block, before = b"", b""
    for key, value in entries:
        shared = next((i for i, pair in enumerate(zip(key, before, strict=False)) if pair[0] != pair[1]), 0)
        block += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        before = key
    return block + struct.pack("<II", 0, 1)


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    most = b""
    while value > 0x7F:
        most += bytes([value & 0x7F | 0x80])
        value >>= 7
    return most + bytes([value])


# Torch


def torch_bundle(of: CnnStructure, *, notes: Mapping[str, object] | None = None, **changes: object) -> Made:
    """A bundle of the legacy software's torch side, which holds no probe."""
    made = network(of)
    state = {f"model.{name}": value for name, value in made.state_dict().items()}
    state |= {f"model.forward_model.{name}": torch.ones(1) for name in ("alpha", "beta")}
    if not of.ring:  # they are there all the same
        ringed = network(attrs.evolve(of, ring=True, outer_width=32 * of.filters_scale)).state_dict()
        state |= {f"model.{name}": value for name, value in ringed.items() if f"model.{name}" not in state}
    own = {name: value for name, value in parameters(of).items() if name not in ("probe", "offset")} | changes
    members = {
        "manifest.dill": b"\x80\x04.",
        f"{MODEL}/model.pth": saved(state),
        f"{MODEL}/params.dill": parameter_file(own),
        "autoencoder/model.pth": b"",
    }
    if notes is not None:
        model = {"n_filters_scale": of.filters_scale, "cnn_output_mode": "amp_phase", **notes}
        data = {"N": of.size, "max_neighbor_distance": 3.0}
        members["torch_scaling_metadata.pt"] = saved({"model_config": model, "data_config": data})
    return Made(generator=made, members=members)


def saved(value: object) -> bytes:
    """What torch makes of a value."""
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()
