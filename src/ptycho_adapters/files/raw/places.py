"""Where the frames of a preparation were taken, in object pixels at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.raw.tables import read_columns
from ptycho_adapters.files.stated import raster_positions
from ptycho_adapters.files.units import factor_to
from ptycho_core.errors import Problem, ScanError, raise_if_any
from ptycho_core.measurement.plausibility import position_problems
from ptycho_core.measurement.preparation.positions import moved_positions

if TYPE_CHECKING:
    from ptycho_adapters.files.raw.frames import RawFrames
    from ptycho_adapters.files.raw.own_parts import OwnParts
    from ptycho_core.measurement.preparation.frames import FramePlan
    from ptycho_core.measurement.preparation.positions import ScanTurn
    from ptycho_core.measurement.preparation.settings import PreparationSettings
    from ptycho_core.measurement.scan import ScanMetadata

Real = npt.NDArray[np.float64]

PIXELS = "px"


@attrs.frozen(kw_only=True)
class SourceFiles:
    """The files of a preparation.

    Attributes:
        frames: file with the frames.
        key: where in it; None looks for them.
        mask: file with a mask, anything but 0 where bad.
        dark: file with one or more dark frames.
        flat: file with a flat field.
        positions: file with positions.
        columns: names or numbers of the columns of x and y in it.
        unit: of the positions in it: "px" or a unit of length.
        raster: (rows, columns) of a scan row by row, where the frames' file does not say them.
        step_m: (y, x) from row to row and from column to column of a raster, instead of a file.
    """

    frames: Path
    key: str | None = None
    mask: Path | None = None
    dark: Path | None = None
    flat: Path | None = None
    positions: Path | None = None
    columns: tuple[str, str] = ("x", "y")
    unit: str = "m"
    raster: tuple[int, int] | None = None
    step_m: tuple[float, float] | None = None


def positions_of(files: SourceFiles, source: RawFrames, own: OwnParts, plan: FramePlan, metadata: ScanMetadata) -> Real:
    """Give the positions of all frames in object pixels: from a table, from the steps of a raster, or from the file.

    Raises:
        ScanError: there are none, or they cannot be used.
    """
    if files.positions is not None:
        columns, unit = read_columns(files.positions, files.columns), files.unit
        positions = columns[:, ::-1].copy()
    elif files.step_m is not None:
        positions, unit = raster_positions(_raster(files, source), files.step_m), "m"
    elif own.positions is not None:
        positions, unit = own.positions, own.unit
    else:
        raise ScanError("preparation", [_no_positions(own)])
    if len(positions) != source.shape[0]:
        found = f"{len(positions)} positions for {source.shape[0]} frames"
        raise ScanError("preparation", [Problem(path="positions", expected="a position a frame", found=found)])
    if unit == PIXELS:
        in_px = positions if files.positions is not None else positions * zoom_of(source, plan)
    else:
        factor = factor_to("m", unit, "--unit")
        if isinstance(factor, Problem):
            raise ScanError("preparation", [factor])
        if metadata.pixel_size_m is None:
            found = "positions in lengths, and no object pixel"
            fix = "give --energy-ev (or --wavelength-m, --voltage-v), --distance-m and --detector-pixel-m, or --pixel-m"
            problem = Problem(path="pixel_m", expected="the object pixel", found=found, fix=fix)
            raise ScanError("preparation", [problem])
        in_px = positions * factor / metadata.pixel_size_m
    if not np.isfinite(in_px).all():
        raise ScanError(
            "preparation", [Problem(path="positions", expected="finite numbers", found="NaN or infinite ones")]
        )
    turn = own_turn(files, own, plan.settings)
    moved = moved_positions(in_px if turn is None else turn.of(in_px), plan.settings)
    said = files.positions is not None or files.step_m is not None
    raise_if_any(ScanError, "preparation", position_problems(moved, size_px=plan.size, unit_said=said))
    return moved


def _no_positions(own: OwnParts) -> Problem:
    fix = "give a file with --positions FILE --columns X,Y --unit UNIT, or --step-m Y,X of a raster"
    found = own.notes.get("step_evidence", "none")
    return Problem(path="positions", expected="a position a frame", found=found, fix=fix)


def how_placed(files: SourceFiles, own: OwnParts, turn: ScanTurn | None) -> list[str]:
    """Say where positions come from, as far as the file does not simply state them; keep what holds in its notes."""
    given = files.positions is not None or files.step_m is not None
    if given:
        own.notes.pop("step_evidence", None)
    done = ["positions as given, instead of those of the file"] if given and own.positions is not None else []
    done += [f"positions: {own.notes['step_evidence']}"] if "step_evidence" in own.notes else []
    if turn is None:
        return done
    own.notes["rotation_evidence"] = f"{turn}, as the file states"
    return [*done, f"positions {turn}, as the file states; --positions-turn-rad gives another"]


def own_turn(files: SourceFiles, own: OwnParts, settings: PreparationSettings) -> ScanTurn | None:
    """Give the turn that the file states, where it holds: of a raster, and unless another is given."""
    return own.turn if files.positions is None and settings.positions_turn_rad is None else None


def _raster(files: SourceFiles, source: RawFrames) -> tuple[int, int]:
    raster = files.raster or source.raster
    if raster is None:
        problem = Problem(path="raster", expected="ROWS,COLUMNS", found="none in the file", fix="give --raster")
        raise ScanError("preparation", [problem])
    return raster


def zoom_of(source: RawFrames, plan: FramePlan) -> float:
    """Give how many pixels of the object at the end go on one of those before: the window over the frame."""
    return plan.size * plan.settings.bin / source.shape[2]
