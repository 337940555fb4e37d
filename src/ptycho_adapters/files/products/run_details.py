"""Details of a run as arrays and one text, and in the group `run` of our part of a product."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.files.hdf5.members import read_array, read_long_text
from ptycho_core.errors import Problem
from ptycho_core.measurement.findings import Finding
from ptycho_core.results.run_details import RunDetails

if TYPE_CHECKING:
    from collections.abc import Mapping

    import h5py

    from ptycho_core.any_array import AnyArray

GROUP = "run"
RUN_ARRAYS = (
    "first_probe",
    "before_finish",
    "r_factors",
    "held_out_losses",
    "epoch_steps",
    "loss_steps",
    "step_losses",
)
RUN_TEXTS = "texts"


def write_run_details(details: RunDetails, parent: h5py.Group) -> None:
    """Write what is known into a new group; what is unknown has no dataset."""
    group = parent.create_group(GROUP)
    for name, array in run_arrays(details).items():
        group[name] = array
    # A fixed-length text: HDF5 keeps it beside no heap that damage could lead astray.
    group[RUN_TEXTS] = np.bytes_(run_text(details))


def read_run_details(group: h5py.Group) -> RunDetails:
    """Read a group that `write_run_details` wrote.

    Raises:
        ValueError: something in it is missing or damaged.
    """
    text = read_long_text(group, RUN_TEXTS)
    arrays = {name: read_array(group, name) for name in RUN_ARRAYS}
    return run_details_from(text, arrays)


def run_arrays(details: RunDetails) -> dict[str, AnyArray]:
    """Give the arrays that are known, by name."""
    arrays = {name: getattr(details, name) for name in RUN_ARRAYS}
    return {name: array for name, array in arrays.items() if array is not None}


def run_text(details: RunDetails) -> str:
    """Give everything that is no array, as ASCII JSON."""
    findings = [finding.to_json() for finding in details.findings]
    return json.dumps({"loss_unit": details.loss_unit, "settings": dict(details.settings), "findings": findings})


def run_details_from(text: str | Problem | None, arrays: Mapping[str, AnyArray | Problem | None]) -> RunDetails:
    """Put details together from what `run_text` and `run_arrays` gave.

    Raises:
        ValueError: something in them is missing or damaged.
    """
    for value in (text, *arrays.values()):
        if isinstance(value, Problem):
            raise ValueError(str(value))
    texts = json.loads(text) if isinstance(text, str) else None
    settings, unit = (texts.get("settings"), texts.get("loss_unit")) if isinstance(texts, dict) else (None, None)
    if not isinstance(unit, str) or not isinstance(settings, dict) or not all(map(_is_text, settings.values())):
        msg = f"expected a loss unit and settings as texts in {GROUP}/{RUN_TEXTS}"
        raise ValueError(msg)
    findings = _findings_from(texts.get("findings", []) if isinstance(texts, dict) else [])
    known = {name: np.asarray(array) for name, array in arrays.items() if array is not None}
    return RunDetails(settings=settings, loss_unit=unit, findings=findings, **known)


def _findings_from(content: object) -> tuple[Finding, ...]:
    """Read findings; a file without any has none.

    Raises:
        ValueError: what is there is none.
    """
    try:
        return tuple(map(Finding.from_json, content if isinstance(content, list) else [None]))
    except ValueError:
        msg = f"expected findings of known kinds in {GROUP}/{RUN_TEXTS}"
        raise ValueError(msg) from None


def _is_text(value: object) -> bool:
    return isinstance(value, str)
