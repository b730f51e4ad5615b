"""The command line: `bandstand`."""

from __future__ import annotations


def main() -> None:
    """Run the command of the process's arguments, and end the process with its exit code."""
    from bandstand_cli.app import app

    app(prog_name="bandstand")
