"""Readers and writers: one typed pair per format, and one `read_scan` that picks by content."""

from ptycho_adapters.files.folders import scan_files
from ptycho_adapters.files.probes.sources import probe_from_file, probe_from_model
from ptycho_adapters.files.products.store import read_product, write_product
from ptycho_adapters.files.reading import DetectorCheck, FileFacts, ProbeSetting, ProbeSource, ScanFormat
from ptycho_adapters.files.scans import open_scan, read_file_facts, read_scan
from ptycho_adapters.files.writers import write_scan

__all__ = [
    "DetectorCheck",
    "FileFacts",
    "ProbeSetting",
    "ProbeSource",
    "ScanFormat",
    "open_scan",
    "probe_from_file",
    "probe_from_model",
    "read_file_facts",
    "read_product",
    "read_scan",
    "scan_files",
    "write_product",
    "write_scan",
]
