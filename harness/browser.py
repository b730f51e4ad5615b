"""A browser for tests: headless Chromium, with a page's console and requests."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENCE_SECONDS = 180.0
_NAMES = ("chromium", "chromium-browser", "google-chrome")
# Chromium waits for what a page loads and for its timers, for so long in the page's own time.
_PAGE_TIME_MS = 20_000
_FLAGS = (
    "--headless",
    "--no-sandbox",  # it cannot be had as root, in containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--enable-logging=stderr",
    f"--virtual-time-budget={_PAGE_TIME_MS}",
)
_CONSOLE = re.compile(r"^\[[^]]*CONSOLE[^]]*\] (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Visit:
    """The result of opening a page.

    Attributes:
        dom: the document after its scripts have run.
        console: messages of the page and the browser.
        asked: the addresses that the page, not the browser itself, requested.
    """

    dom: str
    console: list[str]
    asked: set[str]


def chromium() -> str:
    """Return the browser's command; without one, skip the test, or fail it if `CI` is set."""
    for name in _NAMES:
        if found := shutil.which(name):
            return found
    reason = "no Chromium here; `make system-packages` installs it"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def visit(url: str, folder: Path) -> Visit:
    """Open a page in a new profile inside `folder`, with access to 127.0.0.1 only."""
    net_log = folder / "net.json"
    run = subprocess.run(
        [
            *(chromium(), *_FLAGS, f"--user-data-dir={folder / 'profile'}"),
            *(f"--log-net-log={net_log}", "--dump-dom", url),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    requests = [event.get("params", {}) for event in json.loads(net_log.read_text())["events"]]
    asked = {
        request["url"]
        for request in requests
        # Chromium's own requests, for updates and the like, have no page that initiated them.
        if request.get("initiator", "not an origin") != "not an origin" and "url" in request
    }
    return Visit(run.stdout, _CONSOLE.findall(run.stderr), asked)
