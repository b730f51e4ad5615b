"""The container image of `bentoml build`: it has the requirements of Bandstand's wheel."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires

from bentoml.images import Image
from packaging.requirements import Requirement

DISTRIBUTION = "bandstand"
EXTRAS = ("cpu", "triton")


def serving_image() -> Image:
    """Return an image with the serving dependencies of the installed distribution, and no others.

    Our own distributions are not among them: a bento contains their sources.
    """
    image = Image(python_version="3.11", lock_python_packages=False)
    try:
        return image.python_packages(*serving_requirements())
    except PackageNotFoundError:  # this runs in a bento, whose image is already built
        return image


def serving_requirements() -> list[str]:
    """Return the requirements of serving, from the metadata of the installed distribution.

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
