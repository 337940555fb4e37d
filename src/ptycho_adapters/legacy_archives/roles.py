"""The parts of the legacy network by the names that the weights of its twin here have, and what they tell about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from ptycho_core.errors import ArchiveError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ptycho_core.any_array import AnyArray

Combination = Literal["polar", "cartesian"]
Activation = Literal["silu", "sigmoid", "softplus", "relu"]
Weights = dict[str, NDArray[np.float32]]

_ROOT = "autoencoder"
HEADS = ("amp", "phase")
_KERNEL_AXES = (3, 2, 0, 1)  # from (height, width, in, out) to (out, in, height, width)


@attrs.frozen(kw_only=True)
class NetworkFacts:
    """What the weights say about the network that they belong to.

    Attributes:
        channels: patterns that it sees together.
        amplitude_channels: of the amplitude head, `channels` or 1.
        last_channels: out of the encoder.
        ring: whether its patches have one.
        outer_channels: decoder channels given to the ring of the patch, or to nothing.
        outer_width: channels of the ring's convolutions; 1 without a ring.
        block_attention: whether the encoder has attention.
        combination: what the two heads mean.
    """

    channels: int
    amplitude_channels: int
    last_channels: int
    ring: bool
    outer_channels: int
    outer_width: int
    block_attention: bool
    combination: Combination


def encoder_roles(depth: int) -> list[str]:
    """Give the convolutions of an encoder in the order in which they are passed."""
    return [f"{_ROOT}.encoder.blocks.{block}.conv{number}" for block in range(depth) for number in (1, 2)]


def decoder_roles(head: str, depth: int) -> list[str]:
    """Give the convolutions of the decoder of a head, `amp` or `phase`, for an encoder of `depth` blocks."""
    return [f"{_ROOT}.decoder_{head}.blocks.{block}.conv{number}" for block in range(depth - 1) for number in (1, 2)]


def ring_roles(head: str) -> list[str]:
    """Give the convolutions of a head's ring in the order in which they are passed."""
    parts = ("conv_up_block.conv1", "conv_up_block.conv2", "conv2")
    return [f"{_ROOT}.decoder_{head}.{head}.{part}" for part in parts]


def centre_role(head: str) -> str:
    """Give the convolution of a head's centre."""
    return f"{_ROOT}.decoder_{head}.{head}.conv1"


def every_role(depth: int, *, ring: bool) -> list[str]:
    """Give all convolutions of a network whose encoder has `depth` blocks."""
    heads = [
        role
        for head in HEADS
        for role in (*decoder_roles(head, depth), centre_role(head), *(ring_roles(head) if ring else ()))
    ]
    return [*encoder_roles(depth), *heads]


def depth_of(size: int) -> int:
    """Number of encoder blocks for patterns of 64, 128 or 256 px: the last one gives 8 px."""
    return size.bit_length() - 4


def from_keras(role: str, kernel: AnyArray, bias: AnyArray) -> Weights:
    """Give the weights of a convolution in the order of axes here."""
    turned = np.ascontiguousarray(kernel.transpose(_KERNEL_AXES), np.float32)
    return {f"{role}.weight": turned, f"{role}.bias": np.ascontiguousarray(bias, np.float32)}


def kernel_problem(path: str, shape: Sequence[int], bias: Sequence[int]) -> Problem | None:
    """Look at the shapes of a convolution of Keras: 3x3, and one bias for each output."""
    if len(shape) == 4 and tuple(shape[:2]) == (3, 3) and min(shape) > 0 and tuple(bias) == (shape[3],):
        return None
    found = f"kernel {tuple(shape)} and bias {tuple(bias)}"
    return Problem(path=path, expected="kernel (3, 3, in, out) and bias (out,)", found=found)


def facts_of(
    weights: Mapping[str, AnyArray], size: int, combination: Combination, subject: str, *, ring: bool
) -> NetworkFacts:
    """Read off the weights what network they belong to.

    Args:
        weights: by the names here.
        size: side of a pattern in px.
        combination: what the two heads mean.
        subject: archive that they are of.
        ring: whether its patches have one.

    Raises:
        ArchiveError: a convolution is missing, or none of the network's.
    """
    depth = depth_of(size)
    raise_if_any(ArchiveError, subject, _missing(weights, depth, ring=ring))

    def outputs(role: str) -> int:
        return int(weights[f"{role}.weight"].shape[0])

    def inputs(role: str) -> int:
        return int(weights[f"{role}.weight"].shape[1])

    encoder, outer, last = encoder_roles(depth), ring_roles("amp"), decoder_roles("amp", depth)[-1]
    return NetworkFacts(
        channels=inputs(encoder[0]),
        amplitude_channels=outputs(centre_role("amp")),
        last_channels=outputs(encoder[-1]),
        ring=ring,
        outer_channels=inputs(outer[0]) if ring else outputs(last) - inputs(centre_role("amp")),
        outer_width=outputs(outer[0]) if ring else 1,
        block_attention=any(".attention." in name for name in weights),
        combination=combination,
    )


def _missing(weights: Mapping[str, AnyArray], depth: int, *, ring: bool) -> Iterator[Problem]:
    for role in every_role(depth, ring=ring):
        kernel = weights.get(f"{role}.weight")
        if kernel is None or kernel.ndim != 4 or min(kernel.shape) == 0:
            found = "none" if kernel is None else f"shape {kernel.shape}"
            yield Problem(path=f"{role}.weight", expected="a kernel (out, in, 3, 3)", found=found)
