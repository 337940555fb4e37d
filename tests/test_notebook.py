"""Values in notebooks: tables without any drawing library, pictures and labelled arrays with one."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
from matplotlib.figure import Figure

from ptycho_adapters.labelled import to_xarray
from ptycho_adapters.plotting import plot
from ptycho_core.errors import DependencyError
from ptycho_core.notebook import html_table, plot_with_entry_point
from ptycho_core.results.reconstruction import Reconstruction
from ptycho_core.simulation.simulate import SimulationConfig, simulate
from report_sample import full_product
from torch_sample import quick_training

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan

xarray = pytest.importorskip("xarray", reason="xarray is not installed")


@pytest.fixture(scope="module")
def scan() -> Scan:
    return simulate(SimulationConfig(object_size_px=90, step_px=12.0, photons=1e5))


@pytest.fixture(scope="module")
def reconstruction() -> Reconstruction:
    product = full_product()
    assert product.coverage is not None
    assert product.run is not None
    return Reconstruction(
        object=product.object,
        coverage=product.coverage,
        origin_px=(-3, 5),
        probe=product.probe,
        probe_source="model",
        positions_px=product.positions_px,
        pattern_indices=np.arange(9) * 2,
        scale=2.0,
        metrics={"r_factor": 0.1},
        r_factors=product.run.r_factors,
    )


class Cells(HTMLParser):
    """The texts of a table's cells, and whether its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_table_shows_names_and_values_as_text() -> None:
    """Numbers are rounded, unknown things are said to be so, and nothing is taken for HTML."""
    table = html_table("<b>", {"a": 1.23456, "b": None, "c": (3, 4), "<i>": "&"})

    cells = Cells(table)
    assert cells.texts == ["<b>", "a", "1.235", "b", "not given", "c", "3 × 4", "<i>", "&"]
    assert not cells.open


def test_values_have_a_table(scan: Scan, reconstruction: Reconstruction, tmp_path: Path) -> None:
    """Scan, reconstruction and model tell their sizes and what matters most."""
    model = quick_training(tmp_path)

    of_scan, of_result, of_model = (Cells(value._repr_html_()).texts for value in (scan, reconstruction, model))

    assert of_scan[of_scan.index("patterns") + 1] == str(scan.n_patterns)
    assert of_result[of_result.index("object [px]") + 1] == "60 × 80"
    assert of_result[of_result.index("r_factor") + 1] == "0.1"
    assert of_model[of_model.index("epochs") + 1] == "1"


def test_tables_need_no_drawing_library() -> None:
    """A scan shows its table in a process that has not loaded matplotlib."""
    program = (
        "import sys; from ptycho_core.simulation.simulate import SimulationConfig, simulate; "
        "scan = simulate(SimulationConfig(object_size_px=80, step_px=16.0)); scan._repr_html_(); "
        "sys.exit(str({'matplotlib', 'jinja2', 'xarray'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == "set()"


def test_everything_has_a_picture(scan: Scan, reconstruction: Reconstruction, tmp_path: Path) -> None:
    """Each value becomes a figure that can be saved."""
    model = quick_training(tmp_path)
    for k, figure in enumerate((plot(scan), plot(reconstruction), plot(full_product()), model.plot())):
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / f"{k}.png", dpi=40)
        assert (tmp_path / f"{k}.png").read_bytes().startswith(b"\x89PNG")


def test_what_nobody_can_draw_is_refused() -> None:
    """A value of another kind is named."""
    with pytest.raises(TypeError, match="found int"):
        plot(3)


def test_plot_finds_the_package_that_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scan: Scan) -> None:
    """An installed package that registers a function is called with the value."""
    (tmp_path / "painter-1.0.dist-info").mkdir()
    (tmp_path / "painter-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: painter\nVersion: 1.0\n")
    entry = "[ptycho_core.plot]\naaa = painter_module:paint\n"
    (tmp_path / "painter-1.0.dist-info" / "entry_points.txt").write_text(entry)
    (tmp_path / "painter_module.py").write_text("def paint(value):\n    return ('painted', value)\n")
    monkeypatch.syspath_prepend(tmp_path)

    painted: object = scan.plot()

    assert painted == ("painted", scan)


def test_this_distribution_draws_with_matplotlib(scan: Scan, reconstruction: Reconstruction) -> None:
    """What is installed here offers its own function, so that the methods of the core's values draw."""
    assert isinstance(scan.plot(), Figure)
    assert isinstance(reconstruction.plot(), Figure)


def test_without_a_package_that_draws_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """No entry point means no picture, and the command that helps."""
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: ())

    with pytest.raises(DependencyError, match=r"to draw with: run pip install \. in a checkout"):
        plot_with_entry_point(object())


def test_a_reconstruction_becomes_labelled_arrays(reconstruction: Reconstruction) -> None:
    """Arrays, coordinates in pixels of the positions' frame, and metrics are all there."""
    found = to_xarray(reconstruction)

    np.testing.assert_array_equal(found["object"].values, reconstruction.object)
    assert found["object"].dims == ("y", "x")
    assert found["object"].sel(y=-3, x=5).item() == reconstruction.object[0, 0]
    assert found["probe"].sel(probe_y=0, probe_x=0, mode=0).item() == reconstruction.probe[0, 8, 8]
    np.testing.assert_array_equal(found["pattern"].values, reconstruction.pattern_indices)
    np.testing.assert_array_equal(found["position_px"].sel(axis="x").values, reconstruction.positions_px[:, 1])
    assert found["r_factor"].sel(pattern=4).item() == pytest.approx(float(np.asarray(reconstruction.r_factors)[2]))
    assert found.attrs["r_factor"] == 0.1
    assert "wavelength_m" not in found.attrs


def test_a_product_becomes_labelled_arrays() -> None:
    """Lengths that are known come along; parts that are unknown do not appear."""
    found = to_xarray(full_product())
    bare = to_xarray(attrs.evolve(full_product(), coverage=None, run=None))

    assert found.attrs["pixel_size_m"] == 5e-9
    assert {"coverage", "r_factor"} <= set(found.data_vars)
    assert not {"coverage", "r_factor"} & set(bare.data_vars)


def test_without_xarray_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, reconstruction: Reconstruction
) -> None:
    """The package is optional."""
    monkeypatch.setattr("ptycho_adapters.labelled.importlib.util.find_spec", lambda name: None)

    with pytest.raises(DependencyError, match=r"pip install 'xarray>=2024\.7'"):
        to_xarray(reconstruction)
