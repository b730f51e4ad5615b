"""The container image that `bentoml build` describes: what `pip install .[cpu,triton]` installs."""

from __future__ import annotations

import tomllib

from bentoml.images import Image

from bandstand.settings import PROJECT_ROOT


def serving_image() -> Image:
    """Return an image with the serving dependencies that pyproject.toml states, and no others."""
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    return Image(python_version="3.11", lock_python_packages=False).python_packages(
        *project["dependencies"],
        *project["optional-dependencies"]["cpu"],
        *project["optional-dependencies"]["triton"],
    )
