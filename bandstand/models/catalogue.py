"""All models: the cards of the package, and the installed versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bandstand.errors import BandstandError, ModelNotFoundError
from bandstand.models.card import Card, load_card
from bandstand.models.installed import InstalledModel
from bandstand.models.repository import ModelRepository
from bandstand.settings import Settings

DRUM_MODEL = "annoteator_drum_cnn"
"""The model whose source the settings can override."""

_CARDS = Path(__file__).resolve().parents[1] / "cards"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every model that is installed or can be installed.

    A process creates one catalogue when it starts and passes it on. It caches nothing of the
    repository: the next call finds what another process has installed.

    Attributes:
        cards: the cards of the package, by name.
        repository: the installed versions; each has its own card.
    """

    cards: Mapping[str, Card]
    repository: ModelRepository

    @classmethod
    def from_settings(cls, settings: Settings) -> Catalogue:
        """Return the catalogue of the package's cards and the repository of the settings.

        Raises:
            CardError: a file of the package is not a card.
        """
        return cls(read_cards(settings), ModelRepository.from_settings(settings))

    def __contains__(self, name: str) -> bool:
        """Return whether a model of that name is installed or can be installed."""
        return name in self.cards or self.repository.has(name)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, sorted."""
        return iter(sorted({*self.cards, *self.repository.names()}))

    def check(self, name: str) -> None:
        """Check that a model has this name.

        Raises:
            ModelNotFoundError: no model has it; the message lists all names.
        """
        if name not in self:
            raise ModelNotFoundError(
                f"no model is called {name!r}; there are: {', '.join(self) or 'none'}"
            )

    def installable(self, name: str) -> Card:
        """Return the package's card of a model, from which it can be installed.

        Raises:
            ModelNotFoundError: the package has no card of that name.
        """
        if name in self.cards:
            return self.cards[name]
        self.check(name)
        raise ModelNotFoundError(
            f"no card of {name!r} comes with Bandstand; there are: {', '.join(self.cards)}"
        )

    def serving(self, name: str) -> InstalledModel:
        """Return the version to serve: the pinned one, else the newest.

        Raises:
            ModelNotFoundError: no model has that name.
            ModelNotInstalledError: it is not installed; the message has the command to install it.
            ModelMismatchError: the pin is not a version.
            RepositoryError: a folder or the pin cannot be read.
        """
        self.check(name)
        return self.repository.serving(name)

    def card(self, name: str) -> Card:
        """Return the card of the version to serve; if none is installed, the package's card.

        Raises:
            ModelNotFoundError: no model has that name.
            ModelNotInstalledError: the pinned version does not exist.
            ModelMismatchError: the version, or the pin, is broken.
            RepositoryError: a folder or a file cannot be read.
        """
        self.check(name)
        if name in self.cards and not self.repository.versions(name):
            return self.cards[name]
        return self.repository.serving(name).card()

    def usable(self) -> dict[str, Card]:
        """Return the cards of the installed models that can be served, by name.

        Broken models are left out; `card` raises their error.
        """
        found = {}
        for name in self.repository.names():
            try:
                found[name] = self.repository.serving(name).card()
            except BandstandError:
                continue
        return found


def read_cards(settings: Settings) -> dict[str, Card]:
    """Return the cards of the package, by name, with the sources that the settings override.

    Raises:
        CardError: a file is not a card.
    """
    cards = {path.stem: load_card(path) for path in sorted(_CARDS.glob("*.yaml"))}
    if DRUM_MODEL in cards:
        cards[DRUM_MODEL] = _with_source_of_settings(cards[DRUM_MODEL], settings)
    return cards


def _with_source_of_settings(card: Card, settings: Settings) -> Card:
    changes: dict[str, str | None] = {}
    if settings.drum_model_uri is not None:
        # Revision and hash of the card's own source do not apply to another one.
        changes = {"uri": settings.drum_model_uri, "revision": None, "sha256": None}
    if settings.drum_model_version is not None:
        changes["revision"] = settings.drum_model_version
    if settings.drum_model_sha256 is not None:
        changes["sha256"] = settings.drum_model_sha256
    return card.model_copy(update={"source": card.source.model_copy(update=changes)})
