"""Measured data: the scan as a value, its checks, grouping, splitting, geometry and inspection."""
