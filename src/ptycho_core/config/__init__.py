"""Configuration records."""
