"""The legacy parameter dict: the one place that changes it.

Legacy consumers read one global dict. It is kept here, filled from canonical records and from nothing else.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from types import MappingProxyType

from ptycho_core.config.bridge import legacy_dict
from ptycho_core.config.canonical import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_core.errors import DependencyError

Parameters = MutableMapping[str, object]

DEFAULTS: Mapping[str, object] = MappingProxyType(
    {
        "N": 128,
        "amp_activation": "sigmoid",
        "batch_size": 16,
        "big_gridsize": 10,
        "data_source": "generic",
        "debug": True,
        "default_probe_scale": 0.7,
        "gaussian_smoothing_sigma": 0.0,
        "gridsize": 2,
        "h5_path": "wts.h5",
        "intensity_scale.trainable": False,
        "label": "",
        "mae_weight": 0.0,
        "max_position_jitter": 10,
        "model_type": "pinn",
        "n_filters_scale": 2,
        "nepochs": 60,
        "nimgs_test": 3,
        "nimgs_train": 9,
        "nll_weight": 1.0,
        "npseed": 42,
        "nphotons": 1e9,
        "object.big": True,
        "offset": 4,
        "outer_offset_test": None,
        "outer_offset_train": None,
        "output_prefix": "outputs",
        "pad_object": True,
        "positions.provided": False,
        "probe.big": False,
        "probe.mask": True,
        "probe.trainable": False,
        "probe_scale": 10.0,
        "realspace_mae_weight": 0.0,
        "realspace_weight": 0.0,
        "set_phi": False,
        "sim_jitter_scale": 0.0,
        "size": 392,
        "tv_weight": 0.0,
        "use_xla_translate": True,
    }
)
DATA_SOURCES = ("lines", "grf", "experimental", "points", "testimg", "diagonals", "xpp", "V", "generic")

cfg: dict[str, object] = dict(DEFAULTS)
"""The parameters that legacy consumers see."""

_LOCK = threading.RLock()


def get(key: str) -> object:
    """Return a parameter; one that is missing has its default, and the padded sizes are computed.

    Raises:
        KeyError: there is no such parameter.
    """
    with _LOCK:
        values = {**DEFAULTS, **cfg}
    derived = {"bigN": _big_n, "padding_size": _padding, "padded_size": _padded_size}
    return derived[key](values) if key in derived else values[key]


def set(key: str, value: object) -> None:  # noqa: A001 - the legacy name
    """Set one parameter.

    Raises:
        ValueError: `data_source` is not one of the known ones.
    """
    if key == "data_source" and value not in DATA_SOURCES:
        message = f"data_source: expected one of {', '.join(DATA_SOURCES)}, found {value!r}"
        raise ValueError(message)
    with _LOCK:
        cfg[key] = value


def update_legacy_dict(cfg: Parameters, config: ModelConfig | TrainingConfig | InferenceConfig) -> None:
    """Project a canonical record into a parameter dict.

    Every parameter that the record has is set, or removed where the record leaves it open, so the outcome depends on
    the record alone; other parameters are left as they are. On any failure the dict is as it was.

    Args:
        cfg: the dict to change: a caller's own, this module's `cfg`, or the one of `installed_cfg`.
        config: a canonical record.

    Raises:
        TypeError: `config` is not a canonical record.
    """
    given: object = config
    if not isinstance(given, ModelConfig | TrainingConfig | InferenceConfig):
        message = f"expected a canonical record, found {type(given).__name__}"
        raise TypeError(message)
    projected = legacy_dict(config)
    with _LOCK, contextlib.ExitStack() as undo:
        undo.callback(_restore, cfg, dict(cfg))
        for key, value in projected.items():
            if value is not None:
                cfg[key] = value
            elif key in cfg:
                del cfg[key]
        undo.pop_all()


@contextlib.contextmanager
def legacy_scope(target: Parameters | None = None) -> Iterator[Parameters]:
    """Give a parameter dict, this module's by default, and leave it as it was found."""
    parameters = cfg if target is None else target
    before = dict(parameters)
    try:
        yield parameters
    finally:
        _restore(parameters, before)


def installed_cfg() -> Parameters:
    """Return the parameter dict of an installed legacy package.

    Raises:
        DependencyError: the package is not installed.
    """
    try:
        module = importlib.import_module("ptycho.params")
    except ImportError as error:
        message = f"the legacy package ptycho cannot be imported ({error}); install it to target its parameters"
        raise DependencyError(message) from error
    parameters: Parameters = module.cfg
    return parameters


def _restore(parameters: Parameters, before: Mapping[str, object]) -> None:
    # A dict subclass whose own methods fail must not stop the way back.
    if isinstance(parameters, dict):
        dict.clear(parameters)
        dict.update(parameters, before)
        return
    for key in [key for key in parameters if key not in before]:
        del parameters[key]
    for key, value in before.items():
        if key not in parameters or parameters[key] is not value:
            parameters[key] = value


def _number(values: Mapping[str, object], key: str) -> int:
    value = values[key]
    if not isinstance(value, int):
        message = f"{key}: expected an integer, found {value!r}"
        raise TypeError(message)
    return value


def _big_n(values: Mapping[str, object]) -> int:
    return _number(values, "N") + (_number(values, "gridsize") - 1) * _number(values, "offset")


def _padding(values: Mapping[str, object]) -> int:
    return (_number(values, "gridsize") - 1) * _number(values, "offset") + _number(values, "max_position_jitter")


def _padded_size(values: Mapping[str, object]) -> int:
    return _big_n(values) + _number(values, "max_position_jitter")
