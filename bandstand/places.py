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
"""The checkout that this package is imported from; None where it was installed from a wheel."""

EMBEDDED_REPOSITORY = (CHECKOUT or _EMBEDDED) / "model_repository"
"""Where the models that come with Bandstand are, in Triton's layout; read-only in a wheel."""

EMBEDDED_MODELS = frozenset({"genre_features"})
"""Their names; whatever else lies there was installed by somebody."""

SAMPLES = (CHECKOUT or _EMBEDDED) / "samples"
"""The recordings that come with Bandstand."""


def user_data() -> Path:
    """Return the folder of what this user pulls and exports, by the platform's conventions."""
    return Path(platformdirs.user_data_dir("bandstand"))


def default_repository() -> Path:
    """Return where models are installed unless the settings say: the checkout's, or the user's."""
    return CHECKOUT / "model_repository" if CHECKOUT else user_data() / "model_repository"


def default_data() -> Path:
    """Return where real recordings, tables and weights are expected."""
    return CHECKOUT.parent / "shared" / "data" if CHECKOUT else user_data() / "recordings"


def packaged_file(path: str) -> Path:
    """Return a file inside one of the installed packages.

    Args:
        path: `package/folder/file`, the package's import name first.

    Raises:
        FileNotFoundError: no such package is installed.
    """
    package, _, inside = path.partition("/")
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the package {package!r} is not installed")
    return Path(spec.submodule_search_locations[0]) / inside
