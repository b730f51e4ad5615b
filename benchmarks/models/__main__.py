"""Measure the installed models and write `docs/models.md`.

Results of models that are not installed in the repository stay as they are.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bandstand.models.repository import ModelRepository
from bandstand.settings import get_settings
from benchmarks.models.page import COMMAND, PAGE, render
from benchmarks.models.results import RESULTS_FILE, read_results, write_results
from harness.cards import load_cards


def main() -> int:
    """Do what the arguments say; return 0."""
    settings = get_settings()
    cards = load_cards()
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--repository", type=Path, default=settings.repository)
    parser.add_argument("--only", choices=cards, action="append", help="this one (repeatable)")
    parser.add_argument(
        "--random-weights",
        choices=cards,
        action="append",
        default=[],
        help="this one was exported from random weights: it is not asked about recordings",
    )
    parser.add_argument(
        "--recordings",
        type=Path,
        default=settings.data_dir,
        help="the folder of `audio/` and `drums/`: what the models are asked about",
    )
    parser.add_argument("--rounds", type=int, default=9, help="calls that are timed")
    parser.add_argument("--page-only", action="store_true", help="measure nothing")
    parser.add_argument("--results", type=Path, default=RESULTS_FILE)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    results = read_results(arguments.results)
    if not arguments.page_only:
        from benchmarks.models.measure import measure

        repository = ModelRepository.over_embedded(arguments.repository)
        recordings = real_recordings(arguments.recordings)
        for name in arguments.only or cards:
            if not repository.versions(name):
                print(f"{name} is not installed in {repository.root}", file=sys.stderr)
                continue
            print(f"measuring {name}", file=sys.stderr)
            results[name] = measure(
                name,
                repository,
                recordings,
                rounds=arguments.rounds,
                random_weights=name in arguments.random_weights,
            )
            write_results(results, arguments.results)
    arguments.page.write_text(render(cards, results), encoding="utf-8")
    return 0


def real_recordings(directory: Path) -> list[Path]:
    """Return the recordings of the data folder: whole pieces, and mixes of the drum stems."""
    return [*sorted(directory.glob("audio/*.ogg")), *sorted(directory.glob("drums/*_MIX.flac"))]


if __name__ == "__main__":
    sys.exit(main())
