"""What to say where TensorFlow is not installed."""

from __future__ import annotations

from ptycho_core.errors import DependencyError

INSTALL = "pip install 'tensorflow>=2.18', or 'tensorflow-cpu>=2.18' on a machine without a GPU"


def missing(error: ModuleNotFoundError) -> Exception:
    """Return the error to raise for a module that the backend could not import: ours if TensorFlow is missing."""
    package = (error.name or "").partition(".")[0]
    if package not in {"tensorflow", "keras"}:
        return error
    return DependencyError(f"TensorFlow backend selected, and the package {package} is not installed: {INSTALL}")
