"""A URL can make the server read one public https resource within limits, and nothing else."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import trustme

from bandstand.audio.addresses import may_be_fetched_from
from bandstand.audio.fetch import FetchLimits, fetch
from bandstand.errors import (
    AddressRefusedError,
    DeadlineExceededError,
    FetchFailedError,
    MalformedRequestError,
    OverloadedError,
    PayloadTooLargeError,
)

SONG = bytes(range(256)) * 40
MAX_BYTES = 20_000
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


class Shop(BaseHTTPRequestHandler):
    """Answers well, badly, endlessly or not at all, depending on the path."""

    server: ShopServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path.startswith("/to/"):
            self.answer(302, b"", Location=self.path.removeprefix("/to/"))
        else:
            getattr(self, self.path.strip("/").replace("-", "_"))()

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def song(self) -> None:
        assert self.headers["Accept-Encoding"] == "identity"
        self.answer(200, SONG)

    def missing(self) -> None:
        self.answer(404, b"no such song")

    def large(self) -> None:
        self.answer(200, bytes(MAX_BYTES + 1))

    def large_unannounced(self) -> None:
        """Half a gigabyte in chunks, as long as somebody reads."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(8192):
            self.wfile.write(b"10000\r\n" + bytes(65_536) + b"\r\n")

    def claims_to_be_large(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(10**12))
        self.end_headers()

    def drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        for _ in range(1000):
            self.wfile.write(b"a")
            time.sleep(0.05)

    def says_nothing(self) -> None:
        self.server.closing.wait(30)

    def cut_off(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(SONG)))
        self.end_headers()
        self.wfile.write(SONG[:100])
        self.close_connection = True

    def compressed(self) -> None:
        self.answer(200, b"\x1f\x8b\x08", Content_Encoding="gzip")

    def garbage(self) -> None:
        self.wfile.write(b"\x00\x01\x02 this is no HTTP\r\n\r\n")
        self.close_connection = True

    def loop(self) -> None:
        self.answer(302, b"", Location="/loop")

    def nowhere(self) -> None:
        self.answer(302, b"")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


class ShopServer(ThreadingHTTPServer):
    """A server whose TLS handshake happens in the connection's own thread."""

    daemon_threads = True
    address_family = socket.AF_INET

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Shop)
        self.asked: list[str] = []
        self.closing = threading.Event()
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )

    def handle_error(self, *_: object) -> None:
        """A client that breaks off is what these tests are about."""

    @property
    def port(self) -> int:
        return int(self.server_address[1])


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def serving(authority: trustme.CA, *names: str) -> Iterator[ShopServer]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    with ShopServer(context) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def shop(authority: trustme.CA) -> Iterator[ShopServer]:
    yield from serving(authority, "localhost", "127.0.0.1", "songs.test")


@pytest.fixture
def impostor(authority: trustme.CA) -> Iterator[ShopServer]:
    yield from serving(authority, "elsewhere.test")


@pytest.fixture
def limits(ca_file: Path) -> FetchLimits:
    return FetchLimits(
        max_bytes=MAX_BYTES,
        timeout_seconds=10,
        max_redirects=2,
        allowed_networks=LOOPBACK,
        ca_file=ca_file,
    )


@pytest.fixture
def public_only(ca_file: Path) -> FetchLimits:
    return FetchLimits(max_bytes=MAX_BYTES, timeout_seconds=10, max_redirects=2, ca_file=ca_file)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_content_is_fetched_from_an_allowed_network(
    host: str, shop: ShopServer, limits: FetchLimits
) -> None:
    assert await fetch(f"https://{host}:{shop.port}/song", limits) == SONG


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"]
)
async def test_a_host_inside_is_refused_before_it_is_asked(
    host: str, shop: ShopServer, public_only: FetchLimits
) -> None:
    with pytest.raises(AddressRefusedError):
        await fetch(f"https://{host}:{shop.port}/song", public_only)
    assert not shop.asked


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/song",
        "https://[::1]/song",
        "https://[fd00:ec2::254]/latest/meta-data/",
        "https://[64:ff9b::a00:1]/song",
        "https://0.0.0.0/song",
    ],
)
async def test_addresses_inside_are_refused(url: str, public_only: FetchLimits) -> None:
    with pytest.raises(AddressRefusedError):
        await fetch(url, public_only)


@pytest.mark.parametrize("location", ["https://10.1.2.3/", "https://169.254.169.254/", "//[::]/"])
async def test_a_redirect_inside_is_refused(
    location: str, shop: ShopServer, limits: FetchLimits
) -> None:
    with pytest.raises(AddressRefusedError):
        await fetch(f"https://127.0.0.1:{shop.port}/to/{location}", limits)


async def test_redirects_are_followed_up_to_the_limit(
    shop: ShopServer, limits: FetchLimits
) -> None:
    here = f"https://localhost:{shop.port}"
    assert await fetch(f"{here}/to/{here}/to//song", limits) == SONG
    with pytest.raises(FetchFailedError, match="more than 2 times"):
        await fetch(f"{here}/to/{here}/to/{here}/to//song", limits)
    shop.asked.clear()
    with pytest.raises(FetchFailedError, match="more than 2 times"):
        await fetch(f"{here}/loop", limits)
    assert shop.asked == ["/loop"] * 3


@pytest.mark.parametrize(
    "path",
    [
        "/to/http://example.com/",
        "/to/file:///etc/passwd",
        "/to/https://a:b@example.com/",
        "/nowhere",
    ],
)
async def test_a_redirect_away_from_https_is_not_followed(
    path: str, shop: ShopServer, limits: FetchLimits
) -> None:
    with pytest.raises(FetchFailedError, match="redirects to something other"):
        await fetch(f"https://localhost:{shop.port}{path}", limits)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/song.wav",
        "ftp://example.com/song.wav",
        "file:///etc/passwd",
        "data:audio/wav;base64,UklGRg==",
        "https://user:secret@example.com/song.wav",
        "https://user@example.com/song.wav",
        "https:///song.wav",
        "https://example.com:99999/",
        "https://example.com:0/",
        "https://[::1",
        "https://example.com/\x00",
        "https://example.com/\ud800",
        "song.wav",
        "",
    ],
)
async def test_what_is_no_plain_https_url_is_malformed(url: str, public_only: FetchLimits) -> None:
    with pytest.raises(MalformedRequestError):
        await fetch(url, public_only)


@pytest.mark.parametrize("path", ["large", "large_unannounced", "claims_to_be_large"])
async def test_too_much_content_is_refused(
    path: str, shop: ShopServer, limits: FetchLimits
) -> None:
    with pytest.raises(PayloadTooLargeError, match=f"{MAX_BYTES} bytes"):
        await fetch(f"https://localhost:{shop.port}/{path}", limits)


async def test_who_gives_the_memory_may_end_a_download(
    shop: ShopServer, limits: FetchLimits
) -> None:
    sizes: list[int] = []
    url = f"https://localhost:{shop.port}/song"
    assert await fetch(url, replace(limits, on_size=sizes.append)) == SONG
    assert sizes[-1] == len(SONG)

    def refuse(_size: int) -> None:
        raise OverloadedError("no memory")

    with pytest.raises(OverloadedError):
        await fetch(url, replace(limits, on_size=refuse))


@pytest.mark.parametrize("path", ["drip", "says_nothing", "to//drip"])
async def test_the_deadline_covers_everything(path: str, shop: ShopServer, ca_file: Path) -> None:
    limits = FetchLimits(MAX_BYTES, 0.5, 2, LOOPBACK, ca_file)
    with pytest.raises(DeadlineExceededError, match=r"0\.5 s"):
        await fetch(f"https://localhost:{shop.port}/{path}", limits)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("missing", "status 404"),
        ("cut_off", "broke off"),
        ("garbage", "broke off"),
        ("compressed", "compressed"),
    ],
)
async def test_what_is_no_proper_answer_has_failed(
    path: str, words: str, shop: ShopServer, limits: FetchLimits
) -> None:
    with pytest.raises(FetchFailedError, match=words):
        await fetch(f"https://localhost:{shop.port}/{path}", limits)


async def test_a_certificate_for_another_name_is_refused(
    impostor: ShopServer, limits: FetchLimits
) -> None:
    with pytest.raises(FetchFailedError, match="certificate of localhost"):
        await fetch(f"https://localhost:{impostor.port}/song", limits)
    assert not impostor.asked


async def test_a_certificate_of_an_unknown_authority_is_refused(shop: ShopServer) -> None:
    limits = FetchLimits(MAX_BYTES, 10, 2, LOOPBACK)
    with pytest.raises(FetchFailedError, match="certificate of localhost"):
        await fetch(f"https://localhost:{shop.port}/song", limits)
    assert not shop.asked


async def test_nobody_listening_and_no_such_host_have_failed(limits: FetchLimits) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(FetchFailedError, match="no connection to 127"):
        await fetch(f"https://127.0.0.1:{port}/", limits)
    with pytest.raises(FetchFailedError, match="no host is called nothing"):
        await fetch("https://nothing.invalid/", limits)
    with pytest.raises(FetchFailedError, match="no host is called"):
        await fetch(f"https://{'a' * 70}.test/", limits)


async def test_a_server_without_tls_has_failed(limits: FetchLimits) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(FetchFailedError, match="127"):
            await fetch(f"https://127.0.0.1:{port}/", limits)


async def test_proxies_of_the_environment_are_not_asked(
    shop: ShopServer, limits: FetchLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await fetch(f"https://localhost:{shop.port}/song", limits) == SONG


class ChangingNames:
    """A name service that gives another answer each time it is asked for the same name."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    def getaddrinfo(self, host: str, port: int, *_: object, **__: object) -> list[tuple]:
        assert host == "songs.test"
        addresses = self.answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in addresses]


async def test_the_address_that_was_judged_is_the_one_connected_to(
    shop: ShopServer, limits: FetchLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ChangingNames(["127.0.0.1"], ["10.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    assert await fetch(f"https://songs.test:{shop.port}/song", limits) == SONG
    assert names.answers == [["10.0.0.1"]]


async def test_one_address_inside_among_public_ones_is_enough_to_refuse(
    shop: ShopServer, limits: FetchLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ChangingNames(["127.0.0.1", "192.168.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    with pytest.raises(AddressRefusedError, match=r"songs\.test is not at a public address"):
        await fetch(f"https://songs.test:{shop.port}/song", limits)
    assert not shop.asked


async def test_the_next_address_is_tried_when_one_does_not_answer(
    shop: ShopServer, limits: FetchLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ChangingNames(["127.9.9.9", "127.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    assert await fetch(f"https://songs.test:{shop.port}/song", limits) == SONG


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:10.0.0.1",
        "::ffff:0:7f00:1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:a00:1::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_address_is_not_public(address: str) -> None:
    assert not may_be_fetched_from(ip_address(address), ())


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::1.1.1.1", "::ffff:1.1.1.1"],
)
def test_address_is_public(address: str) -> None:
    assert may_be_fetched_from(ip_address(address), ())


def test_an_allowed_network_opens_itself_and_nothing_else() -> None:
    allowed = (ip_network("10.1.0.0/16"), ip_network("fd12::/16"))
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd12::1"):
        assert may_be_fetched_from(ip_address(address), allowed)
    for address in ("10.2.0.1", "127.0.0.1", "fd13::1", "::1"):
        assert not may_be_fetched_from(ip_address(address), allowed)
