"""A `.keras` file: a zip of the layers' configuration and of their weights as HDF5."""

from __future__ import annotations

import io
import math
import struct
from typing import TYPE_CHECKING

from ptycho_adapters.legacy_archives.hdf5_arrays import Hdf5Arrays
from ptycho_adapters.legacy_archives.keras_graph import read_graph
from ptycho_adapters.legacy_archives.roles import Weights, from_keras, kernel_problem
from ptycho_adapters.legacy_archives.zip_members import opened
from ptycho_core.errors import ArchiveError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ptycho_adapters.legacy_archives.keras_graph import KerasGraph

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_LARGEST_CONFIG = 1 << 24
_ARRAYS = {"0", "1"}  # kernel and bias


def read_keras_model(content: bytes, size: int, subject: str) -> tuple[KerasGraph, Weights]:
    """Read configuration and weights.

    Args:
        content: the `.keras` file.
        size: side of a pattern in px.
        subject: what it is called in errors.

    Raises:
        ArchiveError: it is damaged, or holds another network; a weight is missing, unknown or of another shape.
    """
    with opened(io.BytesIO(content), subject) as members:
        graph = read_graph(members.read(_CONFIG, _LARGEST_CONFIG), size, subject)
        stored = members.read(_WEIGHTS)
    try:
        return graph, _weights(stored, graph, subject)
    except (struct.error, ValueError, LookupError, OverflowError, MemoryError, RecursionError) as error:
        if isinstance(error, ArchiveError):
            raise
        problem = Problem(path=_WEIGHTS, expected="the arrays of a model", found=str(error)[:100])
        raise ArchiveError(subject, [problem]) from error


def _weights(stored: bytes, graph: KerasGraph, subject: str) -> Weights:
    file = Hdf5Arrays(stored)
    layers = dict(_layers(file))
    raise_if_any(ArchiveError, subject, _problems(file, layers, graph))
    raise_if_any(ArchiveError, subject, _overlaps(file, layers, len(stored)))
    weights: Weights = {}
    for role, name in graph.layers.items():
        weights |= from_keras(role, file.array(layers[name]["0"]), file.array(layers[name]["1"]))
    return weights


def _overlaps(file: Hdf5Arrays, layers: Mapping[str, dict[str, int]], size: int) -> Iterator[Problem]:
    """Look whether the arrays fit into the file beside each other, before they are taken out of it."""
    wanted = sum(4 * math.prod(file.shape(array)) for arrays in layers.values() for array in arrays.values())
    if wanted > size:
        yield Problem(path=_WEIGHTS, expected=f"arrays of at most {size} bytes", found=f"{wanted} bytes")


def _layers(file: Hdf5Arrays) -> Iterator[tuple[str, dict[str, int]]]:
    """Give the arrays of each layer that has any, under its own name, which that of its group is not."""
    layers = file.members(file.members(file.root)["layers"])
    for group, header in layers.items():
        inner = file.members(header)
        if "vars" in inner and (arrays := file.members(inner["vars"])):
            yield file.text(inner["vars"], "name") or group, arrays


def _problems(file: Hdf5Arrays, layers: Mapping[str, dict[str, int]], graph: KerasGraph) -> Iterator[Problem]:
    for name in sorted(graph.convolutions | layers.keys()):
        path = f"{_WEIGHTS}.{name}"
        if name not in graph.convolutions:
            yield Problem(path=path, expected="no such weights", found=", ".join(sorted(layers[name]))[:80])
        elif name not in layers:
            yield Problem(path=path, expected="kernel and bias", found="none")
        elif layers[name].keys() != _ARRAYS:
            yield Problem(path=path, expected="kernel 0 and bias 1", found=", ".join(sorted(layers[name]))[:80])
        else:
            kernel, bias = (file.shape(layers[name][key]) for key in ("0", "1"))
            problem = kernel_problem(path, kernel, bias)
            if problem is not None:
                yield problem
