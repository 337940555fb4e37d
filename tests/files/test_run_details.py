"""Details of a run: they travel with the product, exactly, and are refused where they do not fit it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs
import h5py
import numpy as np
import pytest

from ptycho_adapters.files import read_product, write_product
from ptycho_adapters.files.products.run_details import run_details_from, run_text
from ptycho_core.errors import ScanError, ScanFileError
from ptycho_core.measurement.findings import Finding, Suspicion
from ptycho_core.results.product import Product
from ptycho_core.results.run_details import RunDetails

if TYPE_CHECKING:
    from pathlib import Path


def product(run: RunDetails | None) -> Product:
    return Product(
        object=np.ones((6, 7)),
        origin_px=(0, 0),
        probe=np.ones((4, 4)),
        positions_px=np.eye(2),
        position_indexes=[0, 1],
        loss_epochs=[0, 1, 2],
        loss_values=[3.0, 2.0, 1.0],
        run=run,
    )


FULL = RunDetails(
    first_probe=np.full((2, 4, 4), 1 + 2j),
    before_finish=np.full((6, 7), 2 - 1j),
    r_factors=[0.25, 1 / 3],
    held_out_losses=[4.0, np.nan, 2.0],
    epoch_steps=[2, 4, 6],
    loss_steps=[1, 3],
    step_losses=[3.5, np.nan],
    loss_unit="Poisson deviance per pixel",
    settings={"epochs": "3", "name": "π"},
    findings=(Finding(kind=Suspicion.HOT_PIXELS, text="1 pixel: masked"), Finding(kind=Suspicion.POOR_FIT, text="π")),
)


@pytest.mark.parametrize("details", [FULL, RunDetails(), attrs.evolve(FULL, held_out_losses=None)])
def test_details_survive_the_file(details: RunDetails, tmp_path: Path) -> None:
    """Every known part comes back exactly, and every unknown one stays unknown."""
    write_product(product(details), tmp_path / "p.h5")

    found = read_product(tmp_path / "p.h5").run

    assert found is not None
    assert found.settings == details.settings
    assert found.loss_unit == details.loss_unit
    assert found.findings == details.findings
    arrays = (
        "first_probe",
        "before_finish",
        "r_factors",
        "held_out_losses",
        "epoch_steps",
        "loss_steps",
        "step_losses",
    )
    for name in arrays:
        left, right = getattr(details, name), getattr(found, name)
        assert (left is None) == (right is None)
        if left is not None:
            np.testing.assert_array_equal(left, right)


def test_a_product_without_details_has_none(tmp_path: Path) -> None:
    """Nothing is invented for files of other origin."""
    write_product(product(None), tmp_path / "p.h5")

    assert read_product(tmp_path / "p.h5").run is None


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_files_from_before_findings_have_none(suffix: str, tmp_path: Path) -> None:
    """A result that knows nothing of them is read, whatever the container."""
    text = run_text(FULL)
    old = {key: value for key, value in json.loads(text).items() if key != "findings"}

    assert "findings" in text
    assert run_details_from(json.dumps(old), {}).findings == ()
    write_product(product(FULL), tmp_path / f"p{suffix}")
    found = read_product(tmp_path / f"p{suffix}").run
    assert found is not None
    assert found.findings == FULL.findings


@pytest.mark.parametrize(
    ("details", "path"),
    [
        (RunDetails(r_factors=[0.1]), "run.r_factors"),
        (RunDetails(r_factors=[0.1, np.nan]), "run.r_factors"),
        (RunDetails(held_out_losses=[0.1]), "run.held_out_losses"),
        (RunDetails(epoch_steps=[1, 2]), "run.epoch_steps"),
        (RunDetails(loss_steps=[1, np.inf], step_losses=[1.0, 2.0]), "run.loss_steps"),
        (RunDetails(loss_steps=[1, 2], step_losses=[1.0]), "run.step_losses"),
        (RunDetails(step_losses=[1.0]), "run.step_losses"),
        (RunDetails(first_probe=np.ones((2, 3, 4))), "run.first_probe"),
        (RunDetails(first_probe=np.full((3, 3), np.inf)), "run.first_probe"),
    ],
)
def test_details_that_do_not_fit_are_named(details: RunDetails, path: str) -> None:
    """Lengths, ranks and numbers that are not finite are refused with their path."""
    with pytest.raises(ScanError, match=path):
        product(details)


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b'{"settings": {"a": 1}, "loss_unit": ""}',
        b'{"settings": {}}',
        b"{",
        b"\xff",
        b'{"settings": {}, "loss_unit": "", "findings": {}}',
        b'{"settings": {}, "loss_unit": "", "findings": [{"kind": "hot_pixels"}]}',
        b'{"settings": {}, "loss_unit": "", "findings": [{"kind": "unheard of", "text": ""}]}',
        b'{"settings": {}, "loss_unit": "", "findings": [{"kind": ["hot_pixels"], "text": ""}]}',
    ],
)
def test_damaged_settings_are_refused(content: bytes, tmp_path: Path) -> None:
    """What is no JSON object of texts makes the file unreadable, with a reason."""
    path = tmp_path / "p.h5"
    write_product(product(FULL), path)
    with h5py.File(path, "r+") as file:
        del file["ptycho_core/run/texts"]
        file["ptycho_core/run/texts"] = np.bytes_(content)

    with pytest.raises(ScanFileError):
        read_product(path)
