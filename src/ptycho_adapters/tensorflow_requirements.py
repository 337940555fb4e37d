"""What to say where TensorFlow is not installed."""

from __future__ import annotations

from ptycho_core.errors import DependencyError

INSTALL = "pip install 'tensorflow>=2.21', or on a machine without a GPU: pip install 'tensorflow-cpu>=2.21'"


def missing(error: ModuleNotFoundError) -> Exception:
    """Return the error to raise for a module that the backend could not import: ours if TensorFlow is missing."""
    package = (error.name or "").partition(".")[0]
    if package not in {"tensorflow", "keras"}:
        return error
    return DependencyError(f"TensorFlow backend selected, and the package {package} is not installed: {INSTALL}")
