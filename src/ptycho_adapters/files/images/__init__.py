"""Pictures and TIFF files."""
