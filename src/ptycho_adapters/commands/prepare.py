"""`ptycho prepare`: measured frames and positions as they are, made into a scan that every command takes."""

from __future__ import annotations

import difflib
import sys
import tomllib
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

import attrs
from tqdm import tqdm

from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.experiment_options import RASTER_HELP, STEP_HELP, read_raster, read_step
from ptycho_adapters.command_line.links import LINKS_HELP
from ptycho_adapters.command_line.text_values import read_text
from ptycho_adapters.command_line.usage import UsageError, kebab
from ptycho_core.errors import ConfigError, Problem, ScanFileError
from ptycho_core.measurement.preparation.settings import PreparationSettings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from ptycho_adapters.files.raw.places import SourceFiles
    from ptycho_adapters.files.raw.prepare import Prepared

HELP = "make a scan of frames and positions as a detector and a stage write them"
USAGE = "ptycho prepare IN OUT.npz [flags]"
WORDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "drop": ("frames to leave out, such as 3,7,10-20, counted from 0", ""),
        "drop_odd": ("also leave out frames that are dark or far brighter than the others", ""),
        "background": ("taken off every frame, beside a dark frame", "counts/px"),
        "negatives": ("values below 0: set to zero, or keep them for a Gaussian tail", ""),
        "mask_below": ("pixels that never read more are bad", "counts"),
        "mask_above": ("pixels that never read less are bad", "counts"),
        "turn_deg": ("counter-clockwise turn of the frames: 0, 90, 180 or 270", "deg"),
        "flip": ("axes of the frames to flip, after the turn", ""),
        "transpose": ("exchange rows and columns of the frames, after the flip", ""),
        "centre_y": ("row of the direct beam in the frames of the file; found when not given", "px"),
        "centre_x": ("its column", "px"),
        "bin": ("side of the blocks of pixels that are summed into one", "px"),
        "size": ("side of the patterns at the end; by default the largest even one without padding", "px"),
        "positions_scale": ("factor on the positions", ""),
        "positions_turn_rad": (
            "turn of the positions from x towards y, instead of the one that their file states",
            "rad",
        ),
        "positions_flip": ("axes of the positions that run the other way: rows is y, columns is x", ""),
        "positions_transpose": ("exchange the axes of the positions", ""),
        "energy_ev": ("photon energy, instead of what the file says, as all that follow", "eV"),
        "wavelength_m": ("wavelength", "m"),
        "voltage_v": ("accelerating voltage of electrons", "V"),
        "distance_m": ("from object to detector", "m"),
        "detector_pixel_m": ("side of a detector pixel, before blocks are summed", "m"),
        "pixel_m": ("object pixel at the end", "m"),
    }
)
"""What the help says about each setting: its meaning and its unit."""

_FILES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "frames": ("KEY", "where in IN the frames are (default: as the format has it, else the largest stack)"),
        "mask": ("FILE", "mask: anything but 0 is bad (npy, TIFF, NPZ, HDF5; EDF and CBF with fabio)"),
        "dark": ("FILE", "dark frames, whose mean is taken off"),
        "flat": ("FILE", "flat field, by which frames are divided"),
        "positions": ("FILE", "positions, one a frame: CSV, text, HDF5 or NPZ"),
        "columns": ("X,Y", "names, or numbers from 0, of the columns of the beam's x and y (default: x,y)"),
        "unit": ("UNIT", "unit of these positions: px, or one of length such as um (default: m)"),
        "step_m": ("Y,X", STEP_HELP),
        "raster": ("ROWS,COLUMNS", RASTER_HELP),
    }
)
_BAR = "{desc} {percentage:3.0f}% |{bar}| {elapsed} done, {remaining} left"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's flags."""
    parser.add_argument("source", metavar="IN", help="file with the frames: HDF5, CXI, NPZ or npy; of any size")
    parser.add_argument("target", metavar="OUT.npz", help="scan to write; ptycho convert makes any other format of it")
    parser.add_argument("--config", metavar="FILE.toml", help="settings by name; flags outrank them")
    files = parser.add_argument_group("files")
    for name, (metavar, text) in _FILES.items():
        files.add_argument(kebab(name), metavar=metavar, help=text)
    group = parser.add_argument_group("preparation, in this order")
    for field in attrs.fields(PreparationSettings):
        _add(group, field)
    parser.add_argument("--follow-links", action="store_true", help=LINKS_HELP)
    parser.add_argument("--picture", metavar="OUT.png", help="also draw the mean frame before and after")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(typed: Mapping[str, object]) -> None:
    """Prepare, write and report.

    Raises:
        PtychoError: the user's input cannot be used.
        OSError: from the file system.
    """
    from ptycho_adapters.files.raw.prepare import prepare_scan  # noqa: PLC0415 - h5py

    target = Path(str(typed["target"]))
    if target.is_dir():
        raise IsADirectoryError(f"OUT is to be a file, and this is a folder: {target}")
    if target.suffix.lower() != ".npz":
        raise UsageError(f"OUT is to be an .npz file, found {target}; ptycho convert makes other formats of it")
    stated = _stated(typed)
    files, settings = _files(typed, stated), read_preparation(typed, stated)
    picture = None if typed.get("picture") is None else Path(str(typed["picture"]))
    target.parent.mkdir(parents=True, exist_ok=True)
    with _bar(quiet=bool(typed.get("quiet"))) as progress:
        try:
            prepared = prepare_scan(files, target, settings, progress)
        except ScanFileError as error:
            raise _in_flags(error) from None
    written = [target]
    if picture is not None:
        from ptycho_adapters.plotting.before_after import write_before_after_png  # noqa: PLC0415 - matplotlib

        write_before_after_png(prepared.before, prepared.after, picture, title=files.frames.name)
        written.append(picture)
    console.tell(_told(files.frames, prepared) + "".join(f"\nwrote {path}" for path in written))


def read_preparation(typed: Mapping[str, object], stated: Mapping[str, object]) -> PreparationSettings:
    """Read the settings from a parsed command line over those of a file.

    Raises:
        ConfigError: with flags as paths.
    """
    given = {field.name: stated[field.name] for field in attrs.fields(PreparationSettings) if field.name in stated}
    for field in attrs.fields(PreparationSettings):
        value = typed.get(field.name)
        if value is not None:
            given[field.name] = read_text(str(value), _kind(field))
    try:
        make: Callable[..., PreparationSettings] = PreparationSettings  # validation speaks about values of any type
        return make(**given)
    except ConfigError as error:
        problems = [attrs.evolve(problem, path=kebab(problem.path)) for problem in error.problems]
        raise ConfigError("this preparation cannot be made", problems) from None


def _stated(typed: Mapping[str, object]) -> dict[str, object]:
    """Read the settings of a file; empty without one."""
    if typed.get("config") is None:
        return {}
    path = Path(str(typed["config"]))
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"Configuration file not found: {path}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(str(path), [Problem(path="file", expected="TOML", found=str(error))]) from None
    known = {*WORDS, *_FILES}
    names = {name: name.replace("-", "_") for name in content}
    problems = []
    for name, plain in names.items():
        if plain not in known:
            near = difflib.get_close_matches(plain, known, n=2)
            fix = f"did you mean {' or '.join(near)}?" if near else ""
            problems.append(Problem(path=name, expected="a setting of ptycho prepare", found="another name", fix=fix))
    if problems:
        raise ConfigError(str(path), problems)
    return {names[name]: value for name, value in content.items()}


def _files(typed: Mapping[str, object], stated: Mapping[str, object]) -> SourceFiles:
    from ptycho_adapters.files.raw.places import SourceFiles  # noqa: PLC0415 - h5py

    said = {name: typed.get(name) if typed.get(name) is not None else stated.get(name) for name in _FILES}
    paths = {
        name: None if said[name] is None else Path(str(said[name])) for name in ("mask", "dark", "flat", "positions")
    }
    for name, path in paths.items():
        if path is not None and not path.exists():
            raise FileNotFoundError(f"{kebab(name)} file not found: {path}")
    columns = str(said["columns"] or "x,y").split(",")
    if len(columns) != 2:
        raise UsageError(f"--columns: expected two, X,Y, found {said['columns']}")
    return SourceFiles(
        frames=Path(str(typed["source"])),
        key=None if said["frames"] is None else str(said["frames"]),
        columns=(columns[0].strip(), columns[1].strip()),
        unit=str(said["unit"] or "m"),
        raster=read_raster(said["raster"]),
        step_m=read_step(said["step_m"]),
        **paths,
    )


class _Through:
    """Tells a bar how many frames have come through."""

    def __init__(self, *, quiet: bool) -> None:
        hidden = quiet or sys.stderr is None
        self.bar = tqdm(desc="frames", unit=" frames", file=sys.stderr, disable=hidden, leave=False, dynamic_ncols=True)

    def __call__(self, done: int) -> None:
        self.bar.update(done - self.bar.n)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def _bar(*, quiet: bool) -> _Through:
    return _Through(quiet=quiet)


def _in_flags(error: ScanFileError) -> ScanFileError:
    """Name flags instead of settings."""
    problems = [
        attrs.evolve(one, path=kebab(one.path) if one.path in {*WORDS, *_FILES} else one.path) for one in error.problems
    ]
    return ScanFileError(error.subject, problems)


def _told(source: Path, prepared: Prepared) -> str:
    lines = [console.summary(f"prepared {source}", prepared.came_in, []), "done"]
    lines += [f"  {number}. {text}" for number, text in enumerate(prepared.done, 1)]
    return "\n".join([*lines, console.summary("came out", prepared.came_out, [])])


def _add(group: argparse._ArgumentGroup, field: attrs.Attribute[object]) -> None:
    doc, unit = WORDS[field.name]
    default = field.default
    shown = "" if default is None or default == "" else f" (default: {_shown(default)})"
    help_text = f"{doc}{f' [{unit}]' if unit else ''}{shown}"
    if isinstance(default, bool):
        group.add_argument(kebab(field.name), action="store_const", const="true", help=help_text)
        return
    choices = "{" + ",".join(type(default)) + "}" if isinstance(default, StrEnum) else None
    kinds = {int: "INTEGER", float: "NUMBER", str: "TEXT"}
    group.add_argument(kebab(field.name), metavar=choices or kinds[_kind(field)], help=help_text)


def _shown(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else ("no" if default is False else str(default))


def _kind(field: attrs.Attribute[object]) -> type:
    if isinstance(field.default, StrEnum):
        return str
    return {"size": int}.get(field.name, float) if field.default is None else type(field.default)
