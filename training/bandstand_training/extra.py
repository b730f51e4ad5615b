"""The packages that training needs beside those of serving."""

from __future__ import annotations

from importlib.util import find_spec

from bandstand.errors import UnusableRequestError

_NEEDED = {"torch": "torch", "sklearn": "scikit-learn", "safetensors": "safetensors"}


def check_can_train() -> None:
    """Check, before any work, that a model can be fitted and saved.

    Raises:
        UnusableRequestError: a package is not installed.
    """
    missing = [name for module, name in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise UnusableRequestError(
            f"training needs {', '.join(missing)}: pip install 'bandstand[train]'"
        )
