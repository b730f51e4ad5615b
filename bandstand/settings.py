"""All settings of Bandstand, read only from the environment (`BANDSTAND_…`)."""

from __future__ import annotations

import sys
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import platformdirs
from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bandstand.places import default_data, default_repository
from bandstand_client.triton_control import control_key

Runtime = Literal["auto", "onnxruntime", "openvino", "triton"]
Precision = Literal["auto", "f32", "bf16"]

SHORTEST_KEY = 16
"""Characters of an administrator's key: with fewer, all keys can be tried."""


# Texts of the page for defaults that depend on the installation.
_DEFAULT_PLACES = {
    "repository": "`model_repository` of the checkout, else the user's data folder",
    "data_dir": "`../shared/data` of the checkout, else the user's data folder",
}


def _as_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Path):
        return str(value.absolute())  # the other process can have another working directory
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


class Settings(BaseSettings):
    """The settings of one process. The fields' docstrings are their documentation."""

    model_config = SettingsConfigDict(
        env_prefix="BANDSTAND_",
        use_attribute_docstrings=True,
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,  # how a compose file passes on a variable that is not set
        populate_by_name=True,  # fields with aliases, too
    )

    # Where things are
    repository: Path = Field(default_factory=default_repository)
    """Folder of installed models, in Triton's layout; the embedded models are a layer below it."""
    cache_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_cache_dir("bandstand")),
        validation_alias=AliasChoices("BANDSTAND_CACHE_DIR", "MODEL_CACHE_DIR"),
    )
    """Folder of downloaded checkpoints (also `MODEL_CACHE_DIR`)."""
    data_dir: Path = Field(default_factory=default_data)
    """Folder of real recordings, tables and weights for tests, training and benchmarks."""

    # How checkpoints are fetched
    download_silence_seconds: float = Field(30.0, gt=0)
    """Longest time without a byte from a server of checkpoints, including the connection."""
    download_attempts: int = Field(5, gt=0)
    """Tries in a row without a new byte before a download fails."""
    drum_model_uri: str | None = Field(
        None, validation_alias=AliasChoices("BANDSTAND_DRUM_MODEL_URI", "MODEL_URI")
    )
    """Source of the checkpoint of `annoteator_drum_cnn`, instead of its card's (also
    `MODEL_URI`)."""
    drum_model_version: str | None = Field(
        None, validation_alias=AliasChoices("BANDSTAND_DRUM_MODEL_VERSION", "MODEL_VERSION")
    )
    """Its branch, tag or commit, if the source is a hub repository (also `MODEL_VERSION`)."""
    drum_model_sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        validation_alias=AliasChoices("BANDSTAND_DRUM_MODEL_SHA256", "MODEL_SHA256"),
    )
    """Its sha256 (also `MODEL_SHA256`)."""

    # What is accepted
    max_upload_bytes: int = Field(64 * 1024 * 1024, gt=0)
    """Largest request body, and largest download of an `audio_url`, in bytes (413 above)."""
    max_url_bytes: int = Field(8 * 1024, gt=0)
    """Longest path and query of a request, in bytes (414 above)."""
    max_header_bytes: int = Field(32 * 1024, gt=0)
    """Most bytes of a request's head: its line and its headers (431 above)."""
    max_connections: int = Field(512, gt=0)
    """Connections at the same time. Above it, idle ones make room for new ones; if there is none,
    new ones are only answered about health and metrics (429)."""
    header_seconds: float = Field(10.0, gt=0)
    """Longest time until the head of a request is complete, from the connection's start or the
    head's first byte (408 above)."""
    keep_alive_seconds: float = Field(5.0, gt=0)
    """Longest time that a connection may be without a request, after its first."""
    max_json_bytes: int = Field(16 * 1024, gt=0)
    """Largest JSON body, in bytes (413 above). Parsed JSON takes many times its size."""
    max_body_bytes: int = Field(512 * 1024 * 1024, gt=0)
    """Bytes of all bodies and downloads in memory at the same time. A further body waits before it
    is read; if its length is unknown, it is refused when it needs more (429)."""
    body_silence_seconds: float = Field(10.0, gt=0)
    """Longest time without a byte of a body (408 above)."""
    min_body_bytes_per_second: int = Field(4096, ge=0)
    """Lowest average rate of a body, after `body_silence_seconds` (408 below)."""
    max_audio_seconds: float = Field(900.0, gt=0)
    """Longest recording, in seconds; decoding stops there (413 above)."""
    max_channels: int = Field(8, gt=0)
    """Most audio channels (422 above)."""
    max_sample_rate: int = Field(192_000, gt=0)
    """Highest sample rate, in Hz (422 above)."""
    min_sample_rate: int = Field(4_000, gt=0)
    """Lowest sample rate, in Hz (422 below)."""
    decode_cpu_seconds: float = Field(2.0, gt=0)
    """CPU time to decode a recording of no length; each 25 s of decoded audio add one second (422
    above)."""
    audio_url: Literal["on", "off"] = "on"
    """Whether the server fetches recordings by URL; `off`: it refuses them (403)."""
    fetch_timeout_seconds: float = Field(20.0, gt=0)
    """Deadline of an `audio_url` download, including redirects."""
    fetch_max_redirects: int = Field(4, ge=0)
    """Most redirects followed; the address of each target is checked."""
    fetch_allowed_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    """Non-public networks that an `audio_url` may use (comma-separated CIDR)."""
    fetch_ca_file: Path | None = None
    """File of certificate authorities for `audio_url` downloads, instead of the default ones."""

    # How work is run
    runtime: Runtime = "auto"
    """Runtime of the models. `auto`: OpenVINO if the card prefers bf16 and the CPU has it, else
    ONNX Runtime. `triton`: a Triton server, at `triton_url`."""
    precision: Precision = "auto"
    """Arithmetic of the OpenVINO runtime. `auto`: the card's, if the CPU has it."""
    triton_url: str = "127.0.0.1:8001"
    """Address of the Triton server's gRPC service, as host:port."""
    triton_channels: int = Field(2, gt=0)
    """Number of connections to the Triton server."""
    triton_shared_memory: Literal["auto", "on", "off"] = "auto"
    """Send large inputs to Triton in shared memory. `auto`: if its address is this host's; `on`:
    always, for containers that share `/dev/shm`."""
    threads_per_runner: int = Field(0, ge=0)
    """Compute threads of one model runner; 0: the number of cores."""
    preprocess_workers: int = Field(0, ge=0)
    """Processes that decode audio and compute features, together with one thread for each core; 0:
    one process for every four cores."""
    feature_cache_entries: int = Field(1024, ge=0)
    """Recordings in the cache of features, by content hash; 0 turns the cache off."""

    # How the service behaves
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(3000, ge=0, le=65535)
    """Port to listen on."""
    max_in_flight: int = Field(16, gt=0)
    """Requests in progress at the same time; more requests wait in the queue."""
    max_queued: int = Field(64, ge=0)
    """Length of the queue; when it is full, requests are refused at once (429)."""
    client_share: float = Field(0.5, gt=0, le=1)
    """Part of all connections, places in progress, places in the queue and bytes of bodies that one
    client address may have; 1: all, for a server whose clients come through one proxy."""
    model_share: float = Field(0.75, gt=0, le=1)
    """Part of the places in progress and in the queue that requests of one model may have, so that
    a model that does not answer leaves room for requests of others (429 if its queue is full)."""
    request_deadline_seconds: float = Field(60.0, gt=0)
    """Longest time of one request, including waiting (504 above)."""
    drain_seconds: float = Field(25.0, gt=0)
    """Time for requests in flight to finish after SIGTERM."""

    admin_key: SecretStr | None = None
    """Bearer token for loading and unloading models through the gateway, at least 16 characters;
    none or blank: both are refused (403). A Triton server shares memory and changes models only for
    a key derived from it, so gateway and Triton server need the same ([triton.md](triton.md))."""

    # Observability
    log_format: Literal["json", "text"] = "json"
    """`json`: one JSON object a line; `text`: lines for people."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe record that is written."""
    otlp_endpoint: str | None = None
    """OpenTelemetry collector (OTLP over HTTP) to send traces to; none: no traces are sent."""

    def as_environment(self) -> dict[str, str]:
        """Return the variables that pass the given settings to another process."""
        return {
            f"BANDSTAND_{name.upper()}": _as_text(getattr(self, name))
            for name in self.model_fields_set
            if getattr(self, name) is not None
        }

    def triton_control_key(self) -> str | None:
        """Return the key for controlling a Triton server; None: there is no `admin_key`."""
        if self.admin_key is None:
            return None
        return control_key(self.admin_key.get_secret_value())

    @field_validator("fetch_allowed_networks", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        return [part for part in value.split(",") if part] if isinstance(value, str) else value

    @field_validator("admin_key")
    @classmethod
    def _refuse_weak_key(cls, value: SecretStr | None) -> SecretStr | None:
        key = "" if value is None else value.get_secret_value().strip()
        if 0 < len(key) < SHORTEST_KEY:
            raise PydanticCustomError(
                "short_key",
                "a key needs at least {least} characters; `openssl rand -hex 32` makes one",
                {"least": SHORTEST_KEY},
            )
        return SecretStr(key) if key else None


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return this process's settings; they are read once."""
    return Settings()


def settings_page() -> str:
    """Return `docs/settings.md`: `python -m bandstand.settings > docs/settings.md` writes it."""
    lines = [
        "# Settings",
        "",
        "Environment variables, read once when a process starts; `bandstand serve` passes them on",
        "to its workers.",
        "",
        "| variable | default | values | what it is |",
        "| --- | --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        meaning = " ".join((field.description or "").split())
        variable = f"`BANDSTAND_{name.upper()}`"
        lines.append(f"| {variable} | {_default(name, field)} | {_values(field)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _default(name: str, field: FieldInfo) -> str:
    if field.default_factory is not None:
        return _DEFAULT_PLACES.get(name, "the platform's")
    if field.default in (None, ()):
        return "none"
    return f"`{field.default}`"


def _values(field: FieldInfo) -> str:
    """Return a field's choices or its bounds, else an empty text."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    bounds = (
        f"{sign} {getattr(limit, name)}"
        for limit in field.metadata
        for name, sign in signs.items()
        if hasattr(limit, name)
    )
    return ", ".join(bounds)


if __name__ == "__main__":
    sys.stdout.write(settings_page())
