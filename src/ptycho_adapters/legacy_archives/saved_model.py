"""The network of a SavedModel, whose variables are numbered in the order of their depth below the object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_adapters.legacy_archives.roles import (
    HEADS,
    Weights,
    centre_role,
    decoder_roles,
    depth_of,
    encoder_roles,
    from_keras,
    kernel_problem,
    ring_roles,
)
from ptycho_adapters.legacy_archives.tensor_bundle import read_variables
from ptycho_core.errors import ArchiveError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ptycho_core.any_array import AnyArray

_PREFIX = "layer_with_weights-"


def read_saved_model(index: bytes, data: bytes, size: int, subject: str, *, ring: bool) -> Weights:
    """Read the weights.

    Args:
        index: `variables.index`.
        data: `variables.data-00000-of-00001`.
        size: side of a pattern in px.
        subject: what they are called in errors.
        ring: whether the network's patches have one.

    Raises:
        ArchiveError: the files are damaged; a weight is missing, unknown or of another shape.
    """
    found = read_variables(index, data, subject, _PREFIX)
    order = in_order_of_depth(depth_of(size), ring=ring)
    raise_if_any(ArchiveError, subject, _problems(found, order, len(data)))
    weights: Weights = {}
    for number, role in enumerate(order):
        weights |= from_keras(role, found[_key(number, "kernel")], found[_key(number, "bias")])
    return weights


def in_order_of_depth(depth: int, *, ring: bool) -> list[str]:
    """Give the convolutions as Keras 2 numbers them: encoder, then both decoders, rings and centres side by side."""
    branches = zip(
        *([*decoder_roles(head, depth), *(ring_roles(head) if ring else ()), centre_role(head)] for head in HEADS),
        strict=True,
    )
    return [*encoder_roles(depth), *(role for pair in branches for role in pair)]


def _key(number: int, part: str) -> str:
    return f"{_PREFIX}{number}/{part}/.ATTRIBUTES/VARIABLE_VALUE"


def _problems(found: Mapping[str, AnyArray], order: list[str], n_bytes: int) -> Iterator[Problem]:
    wanted = {_key(number, part): role for number, role in enumerate(order) for part in ("kernel", "bias")}
    for key in sorted(found.keys() | wanted.keys()):
        if key not in wanted:
            yield Problem(path=key, expected="no such variable", found=f"shape {found[key].shape}")
        elif key not in found:
            yield Problem(path=key, expected=f"a variable for {wanted[key]}", found="none")
    wanted_bytes = sum(variable.nbytes for variable in found.values())
    if wanted_bytes > n_bytes:
        yield Problem(path="variables", expected=f"at most {n_bytes} bytes", found=f"{wanted_bytes} bytes")
    for number, role in enumerate(order):
        kernel, bias = (found.get(_key(number, part)) for part in ("kernel", "bias"))
        if kernel is not None and bias is not None:
            problem = kernel_problem(f"{_PREFIX}{number} ({role})", kernel.shape, bias.shape)
            if problem is not None:
                yield problem
