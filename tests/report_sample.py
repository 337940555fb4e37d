"""Small results with and without what a report can show."""

from __future__ import annotations

import attrs
import numpy as np

from ptycho_adapters.report import Report, SettingRow
from ptycho_core.results.metrics import Comparison, compare
from ptycho_core.results.product import Product
from ptycho_core.results.run_details import RunDetails


def full_product() -> Product:
    """A result of 9 positions with everything that a run can tell."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:60, :80] / 10.0
    coverage = np.zeros((60, 80))
    coverage[5:55, 8:72] = 3.0
    probe = np.exp(-((np.mgrid[-8:8, -8:8] / 4.0) ** 2).sum(axis=0) + 1j)
    return Product(
        object=(1.0 - 0.2 * np.sin(x) ** 2) * np.exp(0.5j * np.sin(y)),
        origin_px=(-3.0, 5.0),
        probe=probe,
        positions_px=rng.uniform(10.0, 50.0, (9, 2)),
        position_indexes=np.arange(9),
        coverage=coverage,
        pixel_size_m=5e-9,
        loss_epochs=[0, 1, 2],
        loss_values=[3.0, 2.0, 1.5],
        metrics={"r_factor": 0.1234, "deviance_per_px": 0.6},
        provenance={"N": "scan", "epochs": "cli", "made_up": "elsewhere"},
        run=RunDetails(
            first_probe=probe * 1j,
            r_factors=rng.uniform(0.1, 0.3, 9),
            held_out_losses=[3.1, 2.2, 1.9],
            loss_unit="Poisson deviance per pixel",
            settings={"N": "64", "epochs": "3"},
        ),
    )


def finished_product() -> Product:
    """The full result after a finish that made it a little darker."""
    product = full_product()
    run = RunDetails() if product.run is None else product.run
    passed = {"pass_r_factor": 0.2345, "expected_r_factor": 0.1111, "pass_expected_r_factor": 0.1112}
    return attrs.evolve(
        product,
        run=attrs.evolve(run, before_finish=1.25 * product.object),
        metrics={**product.metrics, **passed},
    )


def bare_product() -> Product:
    """A result of foreign origin: object, probe and positions."""
    return Product(
        object=np.ones((12, 9)),
        origin_px=(0, 0),
        probe=np.ones((4, 4)),
        positions_px=np.eye(2),
        position_indexes=[0, 1],
    )


def comparison() -> Comparison:
    """The full product's object against a noisy copy of itself."""
    object_ = full_product().object
    noise = np.random.default_rng(1).normal(scale=0.02, size=object_.shape)
    return compare(object_ + noise, object_)


def report_about(
    product: Product | None,
    compared: Comparison | None = None,
    *,
    title: str = "reconstructed",
    first: Comparison | None = None,
) -> Report:
    """A report about a result."""
    rows = (
        SettingRow(name="N", value="64", unit="px", source="scan", section="data", chosen=False),
        SettingRow(name="epochs", value="3", unit="", source="command line", section="training", chosen=True),
        SettingRow(name="seed", value=None, unit="", source="default", section="execution", chosen=False),
    )
    return Report(
        title=title,
        command="infer",
        headline={"R-factor": "0.1234"},
        figures={"r_factor": "0.1234"},
        inputs={"test_data_file": "scan <1>.npz"},
        product=product,
        comparison=compared,
        first_comparison=first,
        settings=() if product is None else rows,
        code_version="0.1.0",
    )
