"""Run the benchmarks one after the other, each in a separate process; then write the page."""

from __future__ import annotations

import argparse
import subprocess
import sys

from benchmarks.names import NAMES
from benchmarks.performance_page import PAGE, write_page
from benchmarks.report import RESULTS
from harness import PROJECT_ROOT


def main() -> int:
    """Return 0 if all of them ran and met their goals, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=NAMES, action="append", help="this one (repeatable)")
    names = parser.parse_args().only or NAMES
    failed = []
    for name in names:
        print(f"== {name}", file=sys.stderr)
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        run = subprocess.run(command, cwd=PROJECT_ROOT, check=False)
        if run.returncode:
            failed.append(name)
    write_page()
    print("\n".join([*(f"{RESULTS / name}.md" for name in names), str(PAGE)]))
    if failed:
        print(f"failed, or missed a goal: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
