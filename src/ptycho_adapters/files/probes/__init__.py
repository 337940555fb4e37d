"""Probes from files and from models."""
