"""`ptycho migrate`: a model of the legacy software becomes one of this library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho_adapters.archive_facts import ARCHIVE_NAME, archive_file, find_model
from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.usage import UsageError
from ptycho_adapters.legacy_archives import is_legacy_archive
from ptycho_core.errors import ArchiveError, Problem

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

HELP = "make a model of the legacy software one of this library"
USAGE = "ptycho migrate OLD NEW"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's arguments."""
    parser.add_argument(
        "source",
        metavar="OLD",
        help=f"{ARCHIVE_NAME} of the legacy software, written with TensorFlow or with torch, or the folder that holds "
        "it; nothing in it is run, and it stays as it is",
    )
    parser.add_argument(
        "target",
        metavar="NEW",
        help=f"archive to write, NAME.zip, or folder that gets {ARCHIVE_NAME}; what is there is replaced",
    )


def run(typed: Mapping[str, object]) -> None:
    """Read, write and report.

    Raises:
        PtychoError: there is no model of the legacy software, or one that cannot be read.
        OSError: from the file system.
    """
    source, target = find_model(Path(str(typed["source"]))), Path(str(typed["target"]))
    if not is_legacy_archive(source):
        fix = "ptycho infer takes a model of this library as it is"
        problem = Problem(path="OLD", expected="a model of the legacy software", found="another file", fix=fix)
        raise ArchiveError(str(source), [problem])
    from ptycho_adapters.torch_backend import save_archive  # noqa: PLC0415 - torch takes seconds
    from ptycho_adapters.torch_backend.legacy_models import read_legacy_model  # noqa: PLC0415 - as above

    if archive_file(target).exists() and archive_file(target).samefile(source):
        raise UsageError(f"NEW is to be another file than OLD, {source}")
    model = read_legacy_model(source)
    written = save_archive(model, target)
    config = model.payload.pt_model_config
    figures = {
        "origin": model.payload.pt_training_config.notes,
        "size_px": model.payload.pt_data_config.N,
        "patterns_together": model.generator.together,
        "weights": sum(parameter.numel() for parameter in model.generator.parameters()),
        "attention": "yes" if config.cbam_encoder else "no",
        "probe": "the one it was trained with" if model.probes else "none: a reconstruction takes that of its scan",
    }
    console.tell(console.summary(f"migrated {source}", figures, [written]))
