"""Bandstand serves music-understanding models; this package imports no serving framework.

import asyncio
from bandstand import LocalBandstand

async def main():
    async with LocalBandstand() as band:
        print((await band.classify("song.mp3")).primary_genre)

asyncio.run(main())
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bandstand.local import LocalBandstand

__version__ = "0.1.0"

__all__ = ["LocalBandstand", "__version__"]


def __getattr__(name: str) -> Any:
    """Import `LocalBandstand` when it is used: it needs numpy and a runtime."""
    if name != "LocalBandstand":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bandstand.local import LocalBandstand

    return LocalBandstand
