"""TLS as it is on the wire: the certificate has to be of the name, whoever is called."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from wan_duet.pipelines.download.public_web import PublicTransport
from wan_duet.pipelines.download.web import Web

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")

NAME = "models.example"


@pytest.fixture(scope="module", params=[NAME, "other.example"])
def certificate(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate with its key, in one file; its stem is the name it is for."""
    file = tmp_path_factory.mktemp("tls") / f"{request.param}.pem"
    kind = [
        "req",
        "-x509",
        "-nodes",
        "-days",
        "1",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]
    names = ["-subj", f"/CN={file.stem}", "-addext", f"subjectAltName=DNS:{file.stem}"]
    files = ["-keyout", f"{file}.key", "-out", str(file)]
    subprocess.run(["openssl", *kind, *names, *files], check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.key").read_text())
    return file


def require_verified(web: Web, url: str, certificate: Path) -> None:
    if certificate.stem == NAME:
        with web.get(url) as answer:
            assert answer.read() == b"ok"
    else:
        with pytest.raises(httpx.ConnectError, match="certificate"), web.get(url):
            pass


def test_the_name_is_verified_although_a_number_is_called(certificate: Path) -> None:
    with Once(lambda peer: answer(peer, certificate)) as server:
        inner = httpx.HTTPTransport(verify=ssl.create_default_context(cafile=str(certificate)))
        web = Web(PublicTransport(inner, lambda *_: ["127.0.0.1"], allow_loopback=True, any_port=True))
        require_verified(web, f"https://{NAME}:{server.port}/a", certificate)


def test_the_name_is_verified_through_a_proxy_too(certificate: Path) -> None:
    asked: list[str] = []

    def relay(peer: socket.socket) -> None:
        asked.append(peer.recv(4096).decode().splitlines()[0])
        peer.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        answer(peer, certificate)

    with Once(relay) as proxy:
        address = f"http://127.0.0.1:{proxy.port}"
        trust = ssl.create_default_context(cafile=str(certificate))
        web = Web(PublicTransport(httpx.HTTPTransport(verify=trust, proxy=address), proxy=address))
        require_verified(web, f"https://{NAME}/a", certificate)
    assert asked == [f"CONNECT {NAME}:443 HTTP/1.1"]


class Once:
    """A server on loopback for one connection."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=lambda: serve(self._listener.accept()[0]))

    def __enter__(self) -> Once:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)
        self._listener.close()


def answer(peer: socket.socket, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    try:
        with context.wrap_socket(peer, server_side=True) as secure:
            secure.recv(4096)
            secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    except OSError:
        pass  # the client did not like the certificate
