"""Where Bandstand's own files are: in a checkout, or inside the installed package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import platformdirs

_PACKAGE = Path(__file__).resolve().parent
_EMBEDDED = _PACKAGE / "embedded"


def _checkout() -> Path | None:
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and not _EMBEDDED.is_dir() else None


CHECKOUT: Path | None = _checkout()
"""The checkout that contains this package; None if it was installed from a wheel."""

EMBEDDED_REPOSITORY = (CHECKOUT or _EMBEDDED) / "model_repository"
"""The folder of the embedded models, in Triton's layout; read-only in a wheel."""

EMBEDDED_MODELS = frozenset({"genre_features"})
"""Their names; any other model there was installed by a user."""

SAMPLES = (CHECKOUT or _EMBEDDED) / "samples"
"""The folder of the samples."""


def user_data() -> Path:
    """Return the folder of this user's installed models, by the platform's conventions."""
    return Path(platformdirs.user_data_dir("bandstand"))


def default_repository() -> Path:
    """Return the default repository: the checkout's, or the user's."""
    return CHECKOUT / "model_repository" if CHECKOUT else user_data() / "model_repository"


def default_data() -> Path:
    """Return the default folder of real recordings, tables and weights."""
    return CHECKOUT.parent / "shared" / "data" if CHECKOUT else user_data() / "recordings"


def packaged_file(path: str) -> Path:
    """Return a file inside one of the installed packages.

    Args:
        path: `package/folder/file`, starting with the package's import name.

    Raises:
        FileNotFoundError: no such package is installed.
    """
    package, _, inside = path.partition("/")
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the package {package!r} is not installed")
    return Path(spec.submodule_search_locations[0]) / inside
