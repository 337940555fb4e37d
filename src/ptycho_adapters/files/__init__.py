"""Readers and writers: one typed pair per format, and one `read_scan` that picks by content."""

from ptycho_adapters.files.product_h5 import read_product, write_product
from ptycho_adapters.files.scans import read_scan, write_scan

__all__ = ["read_product", "read_scan", "write_product", "write_scan"]
