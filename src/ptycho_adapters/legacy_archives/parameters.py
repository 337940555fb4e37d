"""The parameters beside a model's weights, and what of them is not known how to follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from ptycho_adapters.legacy_archives.roles import Activation
from ptycho_core.errors import ArchiveError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ptycho_core.any_array import AnyArray

_SIZES = (64, 128, 256)
_LARGEST_GRID, _LARGEST_SCALE, _LARGEST_MARGIN = 16, 64, 4096
# Other values change the network or its object in a way that no archive at hand shows.
_ONLY: Mapping[str, object] = {
    "pad_object": True,
    "gaussian_smoothing_sigma": 0.0,
    "model_type": "pinn",
}
_TRUTHS = ("object.big", "probe.big", "probe.mask")
_ACTIVATIONS: Mapping[str, Activation] = {
    "sigmoid": "sigmoid",
    "swish": "silu",
    "silu": "silu",
    "softplus": "softplus",
    "relu": "relu",
}
_ONLY_IF_SAID: Mapping[str, object] = {"architecture": "cnn", "set_phi": False}
_OF_TORCH: Mapping[str, object] = {
    "mode": "Unsupervised",
    "architecture": "cnn",
    "cnn_output_mode": "amp_phase",
    "use_shared_decoder": False,
    "batch_norm": False,
    "probe_mask": False,
    "probe_mask_tensor": None,
    "use_legacy_decoder_channel_override": False,
    "eca_encoder": False,
    "cbam_bottleneck": False,
    "cbam_decoder": False,
    "eca_decoder": False,
    "spatial_decoder": False,
    "pad_object": True,
    "gaussian_smoothing_sigma": 0.0,
    "physics_forward_mode": "amplitude",
    "intensity_scale_trainable": False,
    "amplitude_physics_gain": 1.0,
}
_LARGEST_NUMBER = 1e30
_FIX = "how the legacy software treats other values is not known here"


@attrs.frozen(kw_only=True, eq=False)
class LegacyParameters:
    """What of the parameters is needed; where files lay on the machine of the training is not.

    Attributes:
        N: side of a pattern in px.
        gridsize: patterns seen together form a gridsize x gridsize group.
        merges: whether the patches of a group are laid on one canvas; else a group is one pattern.
        ring: whether patches have a ring around their centre.
        activation: of the amplitude.
        n_filters_scale: factor on the number of channels.
        offset: shift between group members in px, for the canvas of a group; None in torch bundles.
        max_position_jitter: its margin in px; None in torch bundles.
        nphotons: photons per pattern as declared; None if not said.
        intensity_scale: of predicted amplitudes over normalised ones; None if not said.
        probe_scale: divisor of the probe; None if not said.
        probe: (N, N) complex64 in the scale of normalised patterns, masked as for the training; None in torch bundles.
        version: of the archive's own format; empty if not said.
    """

    N: int
    gridsize: int
    merges: bool
    ring: bool
    activation: Activation
    n_filters_scale: int
    offset: int | None
    max_position_jitter: int | None
    nphotons: float | None
    intensity_scale: float | None
    probe_scale: float | None
    probe: NDArray[np.complex64] | None
    version: str


def check_parameters(found: Mapping[str, object], subject: str, *, with_probe: bool) -> LegacyParameters:
    """Take what is needed out of a parameter dict.

    Args:
        found: as it was pickled.
        subject: archive that it is of.
        with_probe: whether the probe and the margins of the canvas are kept here, as TensorFlow's archives do.

    Raises:
        ArchiveError: a parameter is missing or not valid, or has a value that is not known how to follow; all at once.
    """
    whole: dict[str, Sequence[int]] = {
        "N": _SIZES,
        "gridsize": range(1, _LARGEST_GRID + 1),
        "n_filters_scale": range(1, _LARGEST_SCALE + 1),
    }
    if with_probe:
        whole |= dict.fromkeys(("offset", "max_position_jitter"), range(_LARGEST_MARGIN))
    problems = [problem for name, allowed in whole.items() for problem in _whole_problems(found, name, allowed)]
    problems += _refusals(found, _ONLY)
    problems += _choices(found, of_torch=not with_probe)
    problems += _refusals({**_ONLY_IF_SAID, **found}, _ONLY_IF_SAID)
    probe = found.get("probe") if with_probe else None
    if with_probe and not problems:
        problems += _probe_problems(probe, _integer(found["N"]))
    raise_if_any(ArchiveError, f"{subject} (params.dill)", problems)
    version = found.get("_version")
    return LegacyParameters(
        N=_integer(found["N"]),
        # Torch's network then sees each pattern on its own, whatever the grid.
        gridsize=_integer(found["gridsize"]) if with_probe or found["object.big"] else 1,
        merges=bool(found["object.big"]),
        ring=bool(found["probe.big"]),
        activation=_activation(found, of_torch=not with_probe),
        n_filters_scale=_integer(found["n_filters_scale"]),
        offset=_integer(found["offset"]) if with_probe else None,
        max_position_jitter=_integer(found["max_position_jitter"]) if with_probe else None,
        nphotons=_positive(found.get("nphotons")),
        intensity_scale=_positive(found.get("intensity_scale")),
        probe_scale=_positive(found.get("probe_scale")),
        probe=_effective(probe, masked=bool(found["probe.mask"])) if isinstance(probe, np.ndarray) else None,
        version=version[:20] if isinstance(version, str) else "",
    )


def _choices(found: Mapping[str, object], *, of_torch: bool) -> Iterator[Problem]:
    """Look at settings of which several values are known how to follow."""
    for name in _TRUTHS:
        if not isinstance(found.get(name), bool):
            yield Problem(path=name, expected="True or False", found=_shown(found.get(name, "none")))
    if found.get("amp_activation") not in _ACTIVATIONS:
        shown = _shown(found.get("amp_activation", "none"))
        yield Problem(path="amp_activation", expected=" or ".join(map(repr, _ACTIVATIONS)), found=shown, fix=_FIX)
    if of_torch and found.get("probe.mask") is True:
        yield Problem(path="probe.mask", expected="False, in a torch bundle", found="True", fix=_FIX)
    if not of_torch and found.get("object.big") is False and found.get("gridsize") != 1:
        expected = "1 where object.big is False"
        yield Problem(path="gridsize", expected=expected, found=_shown(found.get("gridsize", "none")), fix=_FIX)


def _activation(found: Mapping[str, object], *, of_torch: bool) -> Activation:
    known = _ACTIVATIONS[str(found["amp_activation"])]
    # Torch's network has two, and takes the second for every name that is not the first's.
    return "silu" if of_torch and known != "sigmoid" else known


def _effective(probe: AnyArray, *, masked: bool) -> NDArray[np.complex64]:
    """Give the probe that a training had: where it was masked, a disc of half the pattern's width."""
    whole = np.ascontiguousarray(probe[..., 0], np.complex64)
    if not masked:
        return whole
    size = len(whole)
    place = np.arange(size) - size // 2 + 0.5
    return np.where(np.hypot(place[:, None], place) < size // 4, whole, np.complex64(0))


@attrs.frozen(kw_only=True)
class BundleFacts:
    """What a torch bundle says about itself beside its parameters.

    Attributes:
        max_neighbor_distance: margin of a group's canvas for each step of its grid, in px; None if not said.
    """

    max_neighbor_distance: float | None = None


def check_bundle(metadata: Mapping[str, object], parameters: LegacyParameters, subject: str) -> BundleFacts:
    """Take what is needed out of a torch bundle's own notes.

    Raises:
        ArchiveError: they contradict the parameters, or the network is another one.
    """
    model, data = (metadata.get(name) for name in ("model_config", "data_config"))
    if not isinstance(model, dict) or not isinstance(data, dict):
        problem = Problem(path="model_config, data_config", expected="two dicts", found="something else")
        raise ArchiveError(subject, [problem])
    problems = _refusals({**_OF_TORCH, **model}, _OF_TORCH, "model_config.")
    model = {"object_big": parameters.merges, "probe_big": parameters.ring, **model}
    same = {
        "N": (data, parameters.N),
        "n_filters_scale": (model, parameters.n_filters_scale),
        "object_big": (model, parameters.merges),
        "probe_big": (model, parameters.ring),
    }
    stated = model.get("amp_activation")
    if stated is not None and (str(stated).lower() == "sigmoid") != (parameters.activation == "sigmoid"):
        expected = f"{parameters.activation}, as in params.dill"
        problems.append(Problem(path="model_config.amp_activation", expected=expected, found=_shown(stated)))
    for name, (notes, wanted) in same.items():
        if notes.get(name) != wanted:
            found = _shown(notes.get(name))
            problems.append(Problem(path=name, expected=f"{wanted}, as in params.dill", found=found))
    raise_if_any(ArchiveError, subject, problems)
    return BundleFacts(max_neighbor_distance=_positive(data.get("max_neighbor_distance")))


def _refusals(found: Mapping[str, object], only: Mapping[str, object], prefix: str = "") -> list[Problem]:
    """Name the values that are not the only known ones."""
    return [
        Problem(path=f"{prefix}{name}", expected=repr(wanted), found=_shown(found.get(name, "none")), fix=_FIX)
        for name, wanted in only.items()
        if name not in found or not _is_same(found[name], wanted)
    ]


def _is_same(value: object, wanted: object) -> bool:
    """Compare plain values: numbers with numbers, truth with truth."""
    if isinstance(value, bool) or isinstance(wanted, bool) or not isinstance(value, int | float):
        return type(value) is type(wanted) and value == wanted
    return isinstance(wanted, int | float) and value == wanted


def _whole_problems(found: Mapping[str, object], name: str, allowed: Sequence[int]) -> Iterator[Problem]:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value not in allowed:
        expected = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else "64, 128 or 256"
        yield Problem(path=name, expected=expected, found="none" if value is None else _shown(value))


def _probe_problems(probe: object, size: int) -> Iterator[Problem]:
    expected = f"a finite complex64 array ({size}, {size}, 1) with some light"
    if not isinstance(probe, np.ndarray):
        yield Problem(path="probe", expected=expected, found="none")
    elif probe.dtype != np.complex64 or probe.shape != (size, size, 1):
        yield Problem(path="probe", expected=expected, found=f"{probe.dtype} {probe.shape}")
    elif not np.isfinite(probe).all() or light_of(probe) == 0.0:
        yield Problem(path="probe", expected=expected, found="another one")


def light_of(probe: AnyArray) -> float:
    """Sum of a probe's intensity."""
    return float(np.square(np.abs(probe.astype(np.complex128))).sum())


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0


def _positive(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < _LARGEST_NUMBER:
        return None
    return float(value)


def _shown(value: object) -> str:
    """Show a value that a stranger chose: only short ones as they are."""
    return repr(value)[:80] if isinstance(value, bool | int | float | str) else f"a {type(value).__name__}"
