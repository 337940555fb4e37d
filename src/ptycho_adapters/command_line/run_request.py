"""What a command that runs a model was told, in the layers that the resolver wants."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.experiment_options import read_stated
from ptycho_adapters.command_line.flags import add_flags, can_be_chosen, read_flags
from ptycho_adapters.command_line.logs import add_log_options
from ptycho_adapters.command_line.probe_options import probe_source
from ptycho_adapters.command_line.profile_option import add_profile_option
from ptycho_adapters.command_line.scan_source import add_scan_options, detector_check
from ptycho_adapters.command_line.settings_file import read_settings
from ptycho_adapters.command_line.usage import UsageError, in_flags, kebab
from ptycho_adapters.files import DetectorCheck, ProbeSource
from ptycho_adapters.files.in_file import PatternsIn
from ptycho_adapters.files.stated import Stated
from ptycho_adapters.setting_sections import SECTIONS
from ptycho_core.config.knob import Phase
from ptycho_core.config.overrides import Layer, resolve, says
from ptycho_core.config.table import Table
from ptycho_core.errors import ConfigError
from ptycho_core.measurement.scan import MeasurementDomain

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from ptycho_core.config.table import FieldInfo


@attrs.frozen(kw_only=True, eq=False)
class RunRequest:
    """What was typed and what a configuration file adds.

    Attributes:
        table: the settings of the command.
        required: keys that the command cannot do without.
        cli: settings by the name they were typed under.
        file: settings of the configuration file.
        config: the configuration file, if any.
        domain: what the patterns are, if it was said.
        product: a second file with what the scan's own lacks, if any.
        probe: where the probe comes from, if it is not to be the scan's own.
        memory_map: folder for the patterns of a scan that is larger than the memory, if any.
        patterns_in: where the patterns are kept otherwise.
        detector_check: what is done about pixels and frames that are no measurement.
        view: the flags of the detector, as typed.
        stated: lengths and positions that outrank those of the file.
        print_config: show the settings instead of running.
        as_json: show them for machines.
        profile: say where the time went.
    """

    table: Table
    required: frozenset[str]
    cli: Mapping[str, object]
    file: Mapping[str, object]
    config: Path | None
    domain: MeasurementDomain | None
    product: Path | None
    probe: ProbeSource | None
    memory_map: Path | None
    patterns_in: PatternsIn
    detector_check: DetectorCheck
    view: Mapping[str, object]
    stated: Stated
    print_config: bool
    as_json: bool
    profile: bool

    @classmethod
    def read(cls, typed: Mapping[str, object], table: Table, *, required: frozenset[str]) -> RunRequest:
        """Collect the layers from a parsed command line.

        Raises:
            FileNotFoundError: there is no such configuration file or probe.
            ConfigError: the configuration file is not valid.
            ScanFileError: the file that the probe is to come from holds none.
            UsageError: the flags of the probe or the experiment cannot be understood, or patterns are to be in two
                places.
        """
        config = typed.get("config")
        path = None if config is None else Path(str(config))
        domain, product, folder = typed.get("domain"), typed.get("product"), typed.get("memory_map")
        cli = read_flags(typed, table)
        file = {} if path is None else read_settings(path, table)
        _warn_about_old_names(table, cli, file, path)
        _warn_about_unread(table, cli, file, path)
        return cls(
            table=table,
            required=required,
            cli=cli,
            file=file,
            config=path,
            domain=None if domain is None else MeasurementDomain(str(domain)),
            product=None if product is None else Path(str(product)),
            probe=probe_source(typed),
            memory_map=None if folder is None else Path(str(folder)),
            patterns_in=_patterns_in(typed),
            detector_check=detector_check(typed),
            view={name: typed.get(name) for name in ("mask", "flip", "transpose")},
            stated=read_stated(typed),
            print_config=bool(typed.get("print_config")),
            as_json=bool(typed.get("json")),
            profile=bool(typed.get("profile")),
        )

    def of_other_scan(self) -> RunRequest:
        """Return the same request for a second scan, which companion file and positions do not belong to."""
        return attrs.evolve(self, product=None, stated=self.stated.of_other_scan())

    def said(self, key: str) -> object:
        """Return the value given under any name of a setting, the command line's before the file's; None if none."""
        for layer in (self.cli, self.file):
            for name, value in layer.items():
                if self.table.key(name) == key:
                    return value
        return None

    def source(self, key: str) -> Layer:
        """Return where a setting was said; the layer of its default if nowhere."""
        for layer, said in ((Layer.CLI, self.cli), (Layer.FILE, self.file)):
            if says(said, key, self.table):
                return layer
        return resolve({}, self.table).provenance[key]

    def path(self, key: str) -> Path | None:
        """Return a path that was given; None if it was not.

        Raises:
            UsageError: what was given is no path.
        """
        value = self.said(key)
        if value is None or isinstance(value, Path):
            return value
        if isinstance(value, str) and value:
            return Path(value)
        raise UsageError(f"{kebab(key)}: expected a path, found {value!r}")

    def required_path(self, key: str) -> Path:
        """Return a path that the command cannot do without.

        Raises:
            UsageError: it was not given.
        """
        path = self.path(key)
        if path is None:
            raise UsageError(f"{kebab(key)} is required")
        return path

    @contextmanager
    def resolving(self) -> Iterator[None]:
        """Put settings problems in the words of the command line.

        Raises:
            ConfigError: with flags as paths.
        """
        with warnings.catch_warnings():
            # Said already, in terms of flags.
            warnings.filterwarnings("ignore", message=r"\w+ is deprecated, use", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message=r"\w+ has no effect on a", category=UserWarning)
            try:
                yield
            except ConfigError as error:
                raise in_flags(error, self.table, self.cli, self._files()) from None

    def _files(self) -> dict[Layer, Path]:
        """Return the files that speak for layers of settings."""
        scan = "train_data_file" if self.table.phase is Phase.TRAINING else "test_data_file"
        known = {Layer.FILE: self.config, Layer.SCAN: self.path(scan), Layer.ARCHIVE: self.path("model_path")}
        return {layer: path for layer, path in known.items() if path is not None}


def _patterns_in(typed: Mapping[str, object]) -> PatternsIn:
    said = typed.get("patterns_in")
    if said is not None and typed.get("memory_map") is not None:
        raise UsageError(f"--patterns-in {said}: patterns that are copied with --memory-map are read from the copy")
    return PatternsIn.AUTO if said is None else PatternsIn(str(said))


def _warn_about_old_names(
    table: Table, cli: Mapping[str, object], file: Mapping[str, object], config: Path | None
) -> None:
    instead = {alias.name: info.key for info in table for alias in info.knob.aliases if alias.deprecated}
    for name in instead.keys() & cli.keys():
        console.warn(f"{kebab(name)} is deprecated, use {kebab(instead[name])}")
    for name in instead.keys() & file.keys():
        console.warn(f"{config}: {name} is deprecated, use {instead[name]}")


def _warn_about_unread(
    table: Table, cli: Mapping[str, object], file: Mapping[str, object], config: Path | None
) -> None:
    for info in table:
        if info.knob.unread and not table.reads(info):
            told = f"has no effect on a {table.phase}: {info.knob.unread}"
            if cli.get(info.key, info.default) != info.default:
                console.warn(f"{kebab(info.key)} {told}")
            if file.get(info.key, info.default) != info.default:
                console.warn(f"{config}: {info.key} {told}")


def add_run_options(
    parser: argparse.ArgumentParser,
    table: Table,
    *,
    shown: Callable[[FieldInfo], bool],
    hints: Mapping[str, str],
    detector_check: DetectorCheck = DetectorCheck.MASK,
    own: Mapping[str, type[argparse.Action] | None] | None = None,
) -> None:
    """Give a parser what every command that runs a model takes."""
    options = parser.add_argument_group("command")
    options.add_argument(
        "--config",
        metavar="FILE.toml",
        help=f"settings below the flags: names as here, flat or in the tables {', '.join(SECTIONS)}",
    )
    add_scan_options(options, detector_check=detector_check)
    options.add_argument(
        "--memory-map",
        metavar="FOLDER",
        help="for scans larger than the memory: copy the patterns to a file in this folder and read them from there "
        "batch by batch; the file stays",
    )
    options.add_argument(
        "--patterns-in",
        choices=tuple(PatternsIn),
        help="where patterns are kept: in memory, in the HDF5 file that has them, read batch by batch, or there where "
        "they do not fit into memory (default: auto)",
    )
    options.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_log_options(options)
    add_profile_option(options)
    options.add_argument(
        "--print-config", action="store_true", help="print every setting with its source and stop; nothing is written"
    )
    options.add_argument("--json", action="store_true", help="with --print-config: for machines")
    add_flags(parser, table, shown=lambda info: can_be_chosen(info) and shown(info), hints=hints, own=own or {})
