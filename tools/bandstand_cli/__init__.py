"""The command line: `bandstand`."""

from __future__ import annotations


def main() -> None:
    """Run the command that the process was started with; the process ends with its exit code."""
    from bandstand_cli.app import app

    app(prog_name="bandstand")
