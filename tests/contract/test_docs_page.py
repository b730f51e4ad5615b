"""The page `/docs` has no external, inline or unneeded files."""

from __future__ import annotations

import re

import httpx
import pytest

LOADED = re.compile(r"""(?:src|href)=["']([^"']*)["']""")
ABSOLUTE = re.compile(r"^(?:[a-z]+:)?//", re.IGNORECASE)
STRICT = {
    "default-src": ["'none'"],
    "script-src": ["'self'"],
    "style-src": ["'self'"],
    "img-src": ["'self'", "data:"],
    "connect-src": ["'self'"],
    "base-uri": ["'none'"],
    "form-action": ["'none'"],
    "frame-ancestors": ["'none'"],
}


@pytest.fixture(scope="module")
def http(server_url: str) -> httpx.Client:
    with httpx.Client(base_url=server_url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def page(http: httpx.Client) -> httpx.Response:
    answer = http.get("/docs")
    assert answer.status_code == 200
    return answer


@pytest.fixture(scope="module")
def files(page: httpx.Response) -> list[str]:
    """What the page loads, but for its empty icon."""
    return [address for address in LOADED.findall(page.text) if address != "data:,"]


def test_the_root_leads_to_the_page(http: httpx.Client) -> None:
    answer = http.get("/", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/docs")


def test_the_policy_allows_nothing_inline_and_nothing_foreign(page: httpx.Response) -> None:
    directives = (part.split() for part in page.headers["Content-Security-Policy"].split(";"))
    assert {name: sources for name, *sources in directives} == STRICT
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Cache-Control"] == "no-cache", "an upgrade names other files"


def test_the_page_names_only_files_of_ours(page: httpx.Response, files: list[str]) -> None:
    assert len(files) == 3
    assert [address for address in files if ABSOLUTE.match(address)] == []
    assert "://" not in page.text
    assert re.findall(r"<script(?![^>]*\bsrc=)[^>]*>", page.text) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", page.text) == []


def test_the_files_load_nothing_foreign(http: httpx.Client, files: list[str]) -> None:
    foreign = re.compile(
        r"""(?:@import|url\(|importScripts\()\s*["']?(?!data:|["')#])([^"')\s]+)"""
    )
    for address in files:
        if address.endswith(".css"):
            assert foreign.findall(http.get(f"/{address}").text) == []
        elif "start." in address:
            assert "://" not in http.get(f"/{address}").text


def test_files_are_kept_for_ever_and_never_guessed_at(http: httpx.Client, files: list[str]) -> None:
    types = {".js": "text/javascript", ".css": "text/css"}
    for address in files:
        answer = http.get(f"/{address}")
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Type"].startswith(types[address[address.rindex(".") :]])
        assert re.search(r"\.[0-9a-f]{16}\.(js|css)$", address), "kept for ever, yet not by content"


@pytest.mark.parametrize(
    "name",
    [
        "redoc.standalone.js",
        "swagger-ui-bundle.js",
        "../routes.py",
        "..%2f..%2frouting.py",
        "%2e%2e%2f%2e%2e%2fsetup.py",
        "%2fetc%2fpasswd",
        "",
        ".",
    ],
)
def test_other_files_are_not_there(http: httpx.Client, name: str) -> None:
    # A URL object keeps the path as it is written; a client would tidy `..` away.
    target = httpx.URL(http.base_url, raw_path=f"/docs/assets/{name}".encode())
    answer = http.get(target)
    assert (answer.status_code, answer.json()["error_type"]) == (404, "not_found")
