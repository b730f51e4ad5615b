"""Downloads of checkpoints from the sources of cards, verified, into a cache by content."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from bandstand.errors import CardError, ChecksumError, SourceError
from bandstand.models.card import Source
from bandstand.models.download import Download, Patience, Progress
from bandstand.places import packaged_file

logger = logging.getLogger(__name__)

LOCK_SECONDS = 3600.0
PACKAGED = "package:"
HUB_PARTS = 3  # owner, name, file
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


@dataclass(frozen=True, slots=True)
class SourceCache:
    """Checkpoints at `<root>/<sha256>/<file name>`; a folder has this name only when verified.

    A checkpoint that is a folder is `<root>/<sha256>` itself.

    Attributes:
        root: usually `settings.cache_dir`.
        patience: limits on waiting for servers.
    """

    root: Path
    patience: Patience = field(default_factory=Patience)

    def resolve(
        self,
        source: Source,
        *,
        progress: Progress | None = None,
        offline: bool = False,
        allow_unverified: bool = False,
    ) -> Path:
        """Return a local file, or folder, with the source's content; download it if necessary.

        Content in this cache, or in the hub's own cache with the right hash, is used without the
        network. If several processes need the same file, one downloads and the others wait. An
        interrupted download is continued.

        Args:
            source: where the content is, and its sha256.
            progress: called with the progress of a download.
            offline: fail instead of downloading.
            allow_unverified: accept a source without sha256. The sha256 of its content is logged,
                and is the name of the returned file's folder. It is downloaded every time.

        Raises:
            SourceError: it could not be read or stored; the message says what to do.
            ChecksumError: the content has another sha256 (it is deleted), or the card has none.
            CardError: the URI is of no known kind.
        """
        if source.sha256 is None and not allow_unverified:
            raise ChecksumError(
                f"{source.shown}: the card has no sha256 to verify it; add one to the card, or "
                "allow unverified content for this call"
            )
        if source.uri.startswith(("file:", PACKAGED)):
            return _local(source)
        if found := self._find(source):
            return found
        if offline:
            raise SourceError(f"{source.shown} is not in the cache {self.root}, and we are offline")
        return self._download(source, progress)

    def _find(self, source: Source) -> Path | None:
        for path in self._candidates(source):
            if all(file.is_file() for file in source_files(source, path)):
                if source_sha256(source, path) == source.sha256:
                    return path
                logger.warning("%s does not have the content it should have", path)
        return None

    def _candidates(self, source: Source) -> Iterator[Path]:
        if source.sha256 is not None:
            folder = self.root / source.sha256
            yield folder if source.files else folder / _file_name(source)
            if in_hub_cache := _in_hub_cache(_pieces(source)[0]):
                yield in_hub_cache.parent if source.files else in_hub_cache

    def _download(self, source: Source, progress: Progress | None) -> Path:
        parts = {piece: self._part(piece) for piece in _pieces(source)}
        lock = self._part(source).with_suffix(".lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock, timeout=LOCK_SECONDS):
                if found := self._find(source):  # another process has downloaded it
                    return found
                for piece, part in parts.items():
                    self._fetch(piece, part, progress)
                return self._keep(source, parts)
        except Timeout as error:
            raise SourceError(
                f"{source.shown}: another process has been downloading it for {LOCK_SECONDS:g} s "
                f"and holds {error.lock_file}"
            ) from error
        except OSError as error:
            for part in parts.values():
                part.unlink(missing_ok=True)
            raise SourceError(
                f"{source.shown}: could not write to {self.root}: {error.strerror or error}; "
                "free some space, or set BANDSTAND_CACHE_DIR to another disk"
            ) from error

    def _part(self, source: Source) -> Path:
        """Return the file of an unfinished download of that content."""
        identity = f"{source.uri}\n{source.revision}\n{source.sha256}"
        key = hashlib.sha256(identity.encode()).hexdigest()[:32]
        return self.root / "parts" / f"{key}.part"

    def _fetch(self, source: Source, part: Path, progress: Progress | None) -> None:
        match urlsplit(source.uri).scheme:
            case "hf":
                _hub_download(source, self.patience).into(part, progress)
            case "https":
                hint = "use an address that needs no credentials, or fetch it and name it file:"
                Download(source.uri, source.shown, hint, {}, patience=self.patience).into(
                    part, progress
                )
            case "s3":
                _copy_from_s3(source, part, self.patience, progress)
            case _:
                raise CardError(
                    f"{source.shown}: a source is hf://, https://, s3://, file: or package:"
                )

    def _keep(self, source: Source, parts: Mapping[Source, Path]) -> Path:
        """Verify a download and give it its final name."""
        seen = _digest({_file_name(piece): part for piece, part in parts.items()}, source)
        for part in parts.values():
            part.with_suffix(".tag").unlink(missing_ok=True)
        if source.sha256 not in (None, seen):
            for part in parts.values():
                part.unlink()
            raise ChecksumError(
                f"{source.shown} has sha256 {seen}, its card promises {source.sha256}; nothing of "
                "it was kept"
            )
        if source.sha256 is None:
            logger.warning("%s is unverified; its sha256 is %s", source.shown, seen)
        folder = self.root / seen
        folder.mkdir(exist_ok=True)
        for piece, part in parts.items():
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(folder / _file_name(piece))
        return folder if source.files else folder / _file_name(source)


def sha256_of(*paths: Path) -> str:
    """Return the hex digest of a file's content, or of several one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def source_files(source: Source, path: Path) -> tuple[Path, ...]:
    """Return the files of a source that is at `path`."""
    return tuple(path / name for name in source.files) or (path,)


def source_sha256(source: Source, path: Path) -> str:
    """Return the `sha256` that a card needs for a source that is at `path`.

    Raises:
        OSError: a file is missing or unreadable.
    """
    return _digest({file.name: file for file in source_files(source, path)}, source)


def _digest(files: Mapping[str, Path], source: Source) -> str:
    """Hash one file; or, for a folder, the output of `sha256sum` for its files sorted by name."""
    digests = {name: sha256_of(file) for name, file in sorted(files.items())}
    if not source.files:
        return next(iter(digests.values()))
    listing = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return hashlib.sha256(listing.encode()).hexdigest()


def moved(source: Source, uri: str, revision: str | None = None) -> Source:
    """Return a source with another address; there, a folder can be a file or the reverse.

    If a local folder lacks some of the source's `files`, all files in it become `files`. They are
    empty for a file, and for a name on the hub with a suffix (`hf://owner/name/best.keras`).
    """
    files = source.files
    if uri.startswith("file:"):
        path = Path(urlsplit(uri).path)
        if path.is_file():
            files = ()
        elif path.is_dir() and not (files and all((path / name).is_file() for name in files)):
            files = _files_in(path) or files
    elif uri.startswith("hf://") and uri.count("/") > HUB_PARTS and Path(uri).suffix:
        files = ()
    return source.model_copy(update={"uri": uri, "revision": revision, "files": files})


def _files_in(folder: Path) -> tuple[str, ...]:
    """Return the names of a folder's files without hidden ones, the largest last."""
    files = [path for path in folder.iterdir() if path.is_file() and path.name[0] != "."]
    return tuple(path.name for path in sorted(files, key=lambda path: path.stat().st_size))


def _pieces(source: Source) -> tuple[Source, ...]:
    """Return a source for each file; only the whole source has a hash to verify."""
    changes = ({"uri": f"{source.uri.rstrip('/')}/{name}"} for name in source.files)
    nothing = {"sha256": None, "files": ()}
    return tuple(source.model_copy(update=change | nothing) for change in changes) or (source,)


def _file_name(source: Source) -> str:
    return Path(urlsplit(source.uri).path).name or "content"


def _local(source: Source) -> Path:
    name = urlsplit(source.uri).path
    try:
        path = packaged_file(name) if source.uri.startswith(PACKAGED) else Path(name)
        seen = source_sha256(source, path)
    except OSError as error:
        raise SourceError(
            f"{source.shown}: could not read {error.filename or name}: {error.strerror or error}"
        ) from error
    if source.sha256 not in (None, seen):
        raise ChecksumError(f"{path} has sha256 {seen}, its card promises {source.sha256}")
    return path


def _hub_address(source: Source) -> tuple[str, str, str] | None:
    """Return (repository, file, revision) of a hub source; None for any other."""
    scheme, _, rest = source.uri.partition("://")
    if scheme != "hf":
        return None
    parts = rest.split("/", HUB_PARTS - 1)
    if len(parts) < HUB_PARTS or not all(parts):
        raise CardError(f"{source.shown}: a hub source is hf://owner/name/file")
    return f"{parts[0]}/{parts[1]}", parts[2], source.revision or "main"


def _in_hub_cache(source: Source) -> Path | None:
    """Return where huggingface_hub keeps that file, if it was downloaded by other means."""
    if (address := _hub_address(source)) is None:
        return None
    from huggingface_hub import try_to_load_from_cache  # half a second

    repository, file, revision = address
    path = try_to_load_from_cache(repository, file, revision=revision)
    return Path(path) if isinstance(path, str) else None


def _hub_download(source: Source, patience: Patience) -> Download:
    """Return the download of a hub file, with the hub library's address, token and offline mode.

    Our own downloader fetches it, since hf_hub_download (2.4) starts again after a kill, waits for
    any Retry-After, and waits six minutes for a hub that does not answer.
    """
    from huggingface_hub import constants, get_token, hf_hub_url  # half a second

    address = _hub_address(source)
    assert address is not None  # noqa: S101 (the caller saw the scheme)
    repository, file, revision = address
    if constants.HF_HUB_OFFLINE:
        raise SourceError(f"{source.shown} is in no cache here, and HF_HUB_OFFLINE is set")
    token = get_token()
    return Download(
        url=hf_hub_url(repository, file, revision=revision),
        title=source.shown,
        credentials_hint=(
            "set HF_TOKEN to a token that may read it (for a gated model, accept its terms on its "
            "page first), and check that the repository exists"
        ),
        headers={"Authorization": f"Bearer {token}"} if token else {},
        https_only=constants.ENDPOINT.startswith("https:"),  # a mirror nearby may have no TLS
        patience=patience,
    )


def _copy_from_s3(
    source: Source, part: Path, patience: Patience, progress: Progress | None
) -> None:
    try:
        import s3fs
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
        from fsspec.callbacks import Callback
    except ImportError as error:
        raise SourceError(
            f"{source.shown}: reading from S3 needs `pip install 'bandstand[s3]'` ({error})"
        ) from error
    files = s3fs.S3FileSystem(
        skip_instance_cache=True,
        config_kwargs={
            "connect_timeout": patience.silence_seconds,
            "read_timeout": patience.silence_seconds,
            "retries": {"max_attempts": 1},  # s3fs itself tries five times
        },
    )
    hooks = {"report": lambda size, value, **_: progress(value, size)} if progress else {}
    try:
        files.get_file(source.uri, str(part), callback=Callback(hooks=hooks))
    except FileNotFoundError as error:
        raise SourceError(f"{source.shown}: no such bucket or key") from error
    except (OSError, BotoCoreError, ClientError) as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        raise SourceError(
            f"{source.shown}: {error}; AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
            "AWS_ENDPOINT_URL say who we are and where it is"
        ) from error
