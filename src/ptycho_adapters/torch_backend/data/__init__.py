"""Scans and groups on the device."""
