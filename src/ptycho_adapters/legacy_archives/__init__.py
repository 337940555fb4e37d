"""Model archives of the legacy software, read without the frameworks that wrote them and without running anything."""

from ptycho_adapters.legacy_archives.archive import (
    LEGACY_NOTICE,
    Generation,
    LegacyArchive,
    is_legacy_archive,
    read_legacy_archive,
)
from ptycho_adapters.legacy_archives.parameters import light_of
from ptycho_adapters.legacy_archives.settings import legacy_payload

__all__ = [
    "LEGACY_NOTICE",
    "Generation",
    "LegacyArchive",
    "is_legacy_archive",
    "legacy_payload",
    "light_of",
    "read_legacy_archive",
]
