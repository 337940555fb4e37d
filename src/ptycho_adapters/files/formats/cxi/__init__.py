"""CXI files."""
