"""Downloads of large files over HTTP: with timeouts, few retries, and resumption."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import httpx

from bandstand.errors import SourceError
from bandstand.settings import get_settings

Progress = Callable[[int, int | None], None]
"""Called with the bytes received and the bytes in all (None: unknown)."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits on waiting for a server."""

    silence_seconds: float = field(default_factory=lambda: get_settings().download_silence_seconds)
    """Longest time without a byte, connecting included."""
    attempts: int = field(default_factory=lambda: get_settings().download_attempts)
    """Tries in a row without a new byte before the download fails."""
    backoff_seconds: float = 1.0
    """Wait after the first failed try; it doubles with each further one."""
    longest_wait_seconds: float = 60.0
    """If a server asks (Retry-After) for a longer wait, the download fails at once."""


@dataclass(frozen=True, slots=True)
class Download:
    """One file to fetch.

    Attributes:
        url: where the bytes are.
        title: its name in error messages, since a URL can contain secrets.
        credentials_hint: text for the error message if the server requires credentials.
        headers: of the request; credentials are not sent to another host after a redirect.
        https_only: refuse plain http, after redirects too.
    """

    url: str
    title: str
    credentials_hint: str
    headers: Mapping[str, str]
    https_only: bool = True
    patience: Patience = field(default_factory=Patience)

    def into(self, part: Path, progress: Progress | None = None) -> None:
        """Download into `part`, and continue the file of an earlier try or process.

        It continues only if the server's file is unchanged (RFC 9110 If-Range). Otherwise, or if
        the server does not support ranges, it starts again.

        Raises:
            SourceError: the file does not exist, the server refused, sent nothing, or closed the
                connection too often. `part` keeps the bytes received.
            OSError: `part` could not be written.
        """
        failures, farthest = 0, _size(part)
        with self._client() as client:
            while True:
                try:
                    return self._try(client, part, progress)
                except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as e:
                    raise SourceError(f"{self.title}: {e}") from e
                except (httpx.HTTPError, _TryAgainError) as error:
                    reached = _size(part)
                    failures = 1 if reached > farthest else failures + 1
                    farthest = max(reached, farthest)
                    self._wait(error, failures)

    def _client(self) -> httpx.Client:
        def refuse_plain_http(request: httpx.Request) -> None:
            if self.https_only and request.url.scheme != "https":
                raise httpx.UnsupportedProtocol(f"{request.url.host} offers it without TLS only")

        return httpx.Client(
            follow_redirects=True,
            timeout=self.patience.silence_seconds,
            event_hooks={"request": [refuse_plain_http]},
        )

    def _try(self, client: httpx.Client, part: Path, progress: Progress | None) -> None:
        # identity: ranges and sizes count the file's own bytes
        headers = {**self.headers, "Accept-Encoding": "identity"}
        tag = _tag_file(part)
        offset = _size(part) if tag.exists() else 0
        if offset:
            headers |= {"Range": f"bytes={offset}-", "If-Range": tag.read_text(encoding="utf-8")}
        with client.stream("GET", self.url, headers=headers) as response:
            if response.status_code == HTTPStatus.PARTIAL_CONTENT and _start(response) == offset:
                mode = "ab"
            elif response.status_code == HTTPStatus.OK:
                mode, offset = "wb", 0
                _remember_tag(tag, response)
            else:
                self._refuse(response, part)
            length = response.headers.get("Content-Length", "")
            total = offset + int(length) if length.isdigit() else None
            with part.open(mode) as file:
                for chunk in response.iter_raw():  # unbuffered: every byte received is kept
                    file.write(chunk)
                    offset += len(chunk)
                    if progress is not None:
                        progress(offset, total)

    def _refuse(self, response: httpx.Response, part: Path) -> None:
        """Raise the error of the status."""
        status = response.status_code
        reason = response.headers.get("X-Error-Message") or response.reason_phrase
        what = f"{self.title}: the server answered {status} ({reason})"
        if status in (HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, HTTPStatus.PARTIAL_CONTENT):
            part.unlink(missing_ok=True)  # our bytes are not the start of the server's file
            raise _TryAgainError(what)
        if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or status >= 500:  # noqa: PLR2004
            after = response.headers.get("Retry-After", "")
            raise _TryAgainError(what, float(after) if after.isdigit() else None)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise SourceError(f"{what}; {self.credentials_hint}")
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            raise SourceError(f"{what}; check owner, name, revision and file in the card")
        raise SourceError(what)

    def _wait(self, error: Exception, failures: int) -> None:
        """Sleep before the next try, or raise if there is none left."""
        patience = self.patience
        wanted = error.wait_seconds if isinstance(error, _TryAgainError) else None
        wait = wanted or patience.backoff_seconds * 2 ** (failures - 1)
        if failures < patience.attempts and wait <= patience.longest_wait_seconds:
            time.sleep(wait)
            return
        message = f"{self._explain(error)} (given up after {failures} tries without progress)"
        raise SourceError(message, retry_after=wanted) from error

    def _explain(self, error: Exception) -> str:
        if isinstance(error, _TryAgainError):
            return f"{error}; try again later"
        if isinstance(error, httpx.TimeoutException):
            silence = f"{self.patience.silence_seconds:g} s"
            return f"{self.title}: the server sent nothing for {silence}; try again later"
        if isinstance(error, httpx.ConnectError):
            hint = "HTTPS_PROXY names a proxy, SSL_CERT_FILE further certificate authorities"
            return f"{self.title}: no connection ({error}); {hint}"
        return f"{self.title}: connection lost ({error}); call again to continue the download"


class _TryAgainError(Exception):
    """An answer that can change with time."""

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _tag_file(part: Path) -> Path:
    """Return the file with the version of a partial file: its strong ETag or modification date."""
    return part.with_suffix(".tag")


def _remember_tag(tag: Path, response: httpx.Response) -> None:
    etag = response.headers.get("ETag", "")
    value = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    if value:
        tag.write_text(value, encoding="utf-8")
    else:
        tag.unlink(missing_ok=True)


def _start(response: httpx.Response) -> int | None:
    """Return the offset of a partial response."""
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None
