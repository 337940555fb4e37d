"""What a backend has not built: settings of which it honours some values only, each with the reason.

A value that nobody chose gives way to one that the backend can honour; one that somebody chose is refused.
"""

# A value to honour is a value, whatever its type (FBT003).
# ruff: noqa: FBT003
from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, cast

import attrs

from ptycho_core.config.overrides import Layer, Resolution, Settings
from ptycho_core.config.table import read_record
from ptycho_core.config.types import shown
from ptycho_core.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ptycho_core.config.record import Record
    from ptycho_core.config.shared import Backend
    from ptycho_core.config.table import Table

_PROBE_AS_GIVEN = "the probe is taken as the scan has it"
_SCAN_AS_GIVEN = "positions and modes are taken as the scan has them"
_NO_LOADER = "there are no loader processes: patterns are gathered from memory"
_ONE_DEVICE = "one device does the work"


@attrs.frozen(kw_only=True)
class Limit:
    """The values of a setting that a backend honours.

    Attributes:
        only: these alone; empty for all but those in `never`.
        never: values that it does not honour.
        instead: what takes the place of a default that is not honoured.
        why: the reason.
    """

    why: str
    only: tuple[object, ...] = ()
    never: tuple[object, ...] = ()
    instead: object = None

    def honours(self, value: object) -> bool:
        """Tell whether a value can be honoured."""
        if self.only:
            return any(type(value) is type(known) and value == known for known in self.only)
        return not any(value is other or (type(value) is type(other) and value == other) for other in self.never)

    @property
    def expected(self) -> str:
        """What can be honoured, in words."""
        if self.only:
            return " or ".join(map(shown, self.only))
        return "anything but " + " or ".join(map(shown, self.never))


def _only(*values: object, why: str) -> Limit:
    return Limit(only=values, instead=values[0], why=why)


_TENSORFLOW: Mapping[str, Limit] = MappingProxyType(
    {
        "architecture": _only("unrolled", "cnn", why="other networks are built with torch alone"),
        "model_type": _only("pinn", why="known objects are learned from with torch alone"),
        "probe_trainable": _only(False, why=_PROBE_AS_GIVEN),
        "probe_learning_rate": _only(1e-3, None, why=_PROBE_AS_GIVEN),
        "aberration_learning_rate": _only(5e-3, why=_PROBE_AS_GIVEN),
        "probe_rounds": _only(0, why=_PROBE_AS_GIVEN),
        "probe_autofocus": _only(False, why=_PROBE_AS_GIVEN),
        "probe_search": _only("never", why=_PROBE_AS_GIVEN),
        "probe_mask": _only(False, why=_PROBE_AS_GIVEN),
        "probe_mask_sigma": _only(1.0, why=_PROBE_AS_GIVEN),
        "probe_mask_diameter": _only(None, why=_PROBE_AS_GIVEN),
        "probe_mask_tensor": _only(None, why=_PROBE_AS_GIVEN),
        "probe_modes": _only(None, why=_SCAN_AS_GIVEN),
        "position_refinement": _only("none", why=_SCAN_AS_GIVEN),
        "orientation_search": _only("never", why=_SCAN_AS_GIVEN),
        "flux_search": _only("never", why="all frames are taken to have the same flux"),
        "blur_search": _only("never", why=_SCAN_AS_GIVEN),
        "finish": _only("none", why="the network's object is not taken further"),
        "error_bars": _only(False, why="the network's object is not taken further"),
        "error_bars_check": _only(False, why="the network's object is not taken further"),
        "background_counts": Limit(
            never=(None,), instead=0.0, why="a background is not estimated: say how many counts"
        ),
        "intensity_scale_trainable": _only(False, why="the flux is the measured one"),
        "training_directories": _only((), why="a training is on one scan"),
        "accelerator": _only("auto", "cpu", "gpu", "cuda", why="it runs on a CPU or a CUDA device"),
        "devices": _only(1, why=_ONE_DEVICE),
        "strategy": _only("auto", why=_ONE_DEVICE),
        "precision": _only("32-true", why="all is computed in float32"),
        "deterministic": _only(True, False, why="an operation without a deterministic kernel is an error"),
        "accum_steps": _only(1, why="each batch makes a step"),
        "num_workers": _only(0, why=_NO_LOADER),
        "pin_memory": _only(False, why=_NO_LOADER),
        "persistent_workers": _only(False, why=_NO_LOADER),
        "prefetch_factor": _only(None, why=_NO_LOADER),
        "logger_backend": _only(None, why="figures are kept in the archive and not logged"),
        "log_grad_norm": _only(False, why="figures are kept in the archive and not logged"),
        "grad_norm_log_freq": _only(1, why="figures are kept in the archive and not logged"),
    }
)
LIMITS: Mapping[Backend, Mapping[str, Limit]] = MappingProxyType({"tensorflow": _TENSORFLOW, "pytorch": {}})
"""By backend and setting; what is not in it is honoured as the table of settings says."""


def backend_of(resolution: Resolution) -> Backend | None:
    """Return the backend that settings ask for; None where that is not valid."""
    name = resolution.values.get("backend")
    return cast("Backend", name) if name in LIMITS else None


def for_backend(resolution: Resolution, table: Table) -> Resolution:
    """Return the settings with those that nobody chose as their backend can honour them."""
    moved = {
        key: limit.instead
        for key, limit in _read(resolution, table)
        if resolution.provenance[key].default and not limit.honours(resolution.values[key])
    }
    return Resolution(
        values=Settings(table, {**resolution.values, **moved}),
        provenance=Settings(table, {**resolution.provenance, **dict.fromkeys(moved, Layer.BACKEND)}),
    )


def beyond_backend(resolution: Resolution, table: Table) -> Iterator[Problem]:
    """Yield the settings whose value their backend does not honour, with the reason."""
    backend = backend_of(resolution)
    for key, limit in _read(resolution, table):
        value = resolution.values[key]
        if not limit.honours(value):
            fix = f"backend {backend} cannot honour it: {limit.why}; backend {_other(backend)} can"
            path = f"{resolution.provenance[key]}.{key}"
            yield Problem(path=path, expected=limit.expected, found=shown(value), fix=fix)


def beyond_records(
    backend: Backend, records: Iterable[Record], table: Table, provenance: Mapping[str, Layer] | None = None
) -> Iterator[Problem]:
    """Yield the settings of records whose value a backend does not honour, with the reason.

    Args:
        backend: the backend.
        records: what a run was called with.
        table: the settings of its kind of run; those that it does not read are left out.
        provenance: where the settings come from; without it whatever is a setting's default is one that nobody chose.
    """
    given = {key: (type(record).__name__, value) for record in records for key, value in read_record(record)[0].items()}
    for key, limit in LIMITS[backend].items():
        if key not in given or key not in table or not table.reads(table[key]):
            continue
        name, value = given[key]
        nobody_s = value == table[key].default if provenance is None else provenance[key].default
        if not nobody_s and not limit.honours(value):
            fix = f"backend {backend} cannot honour it: {limit.why}; backend {_other(backend)} can"
            yield Problem(path=f"{name}.{key}", expected=limit.expected, found=shown(value), fix=fix)


def _other(backend: Backend | None) -> Literal["tensorflow", "pytorch"]:
    return "pytorch" if backend == "tensorflow" else "tensorflow"


def _read(resolution: Resolution, table: Table) -> Iterator[tuple[str, Limit]]:
    """Yield the limits of what the kind of run reads; values that are wrong in themselves are left to others."""
    backend = backend_of(resolution)
    for key, limit in ({} if backend is None else LIMITS[backend]).items():
        if key in table and key in resolution.values and table.reads(table[key]):
            yield key, limit
