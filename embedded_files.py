"""A step of the wheel's build: the models and recordings that come with Bandstand go inside it."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INSIDE = Path("bandstand") / "embedded"
MODELS = ("genre_features",)
RECORDINGS = {".flac", ".mp3", ".ogg"}


class EmbeddedFiles(BuildHookInterface):
    """Adds files that lie outside the packages; an editable install finds them in the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See hatchling's `BuildHookInterface`."""
        if version == "editable":
            return
        root = Path(self.root)
        paths = [root / "model_repository" / name for name in MODELS]
        paths += [path for path in (root / "samples").iterdir() if path.suffix in RECORDINGS]
        for path in paths:
            build_data["force_include"][str(path)] = str(INSIDE / path.relative_to(root))
