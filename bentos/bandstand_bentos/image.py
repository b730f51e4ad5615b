"""The container image that `bentoml build` describes: what Bandstand's wheel asks for."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires

from bentoml.images import Image
from packaging.requirements import Requirement

DISTRIBUTION = "bandstand"
EXTRAS = ("cpu", "triton")


def serving_image() -> Image:
    """Return an image with the serving dependencies of the installed distribution, and no others.

    Our own distributions are not among them: a bento carries their sources.
    """
    image = Image(python_version="3.11", lock_python_packages=False)
    try:
        return image.python_packages(*serving_requirements())
    except PackageNotFoundError:  # a bento's archive is served: its image was built long ago
        return image


def serving_requirements() -> list[str]:
    """Return what serving needs, by the metadata of the installed distribution.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    found: dict[str, None] = {}
    for line in requires(DISTRIBUTION) or []:
        requirement = Requirement(line)
        needed = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", *EXTRAS)
        )
        if needed and not requirement.name.startswith(DISTRIBUTION):
            requirement.marker = None
            found[str(requirement)] = None
    return list(found)
