"""A real nginx on the shipped configuration: TLS, the dashboard with its websocket, the gateway, what is refused."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
from base64 import b64encode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from fleetwatch.local import children
from fleetwatch.local.ports import free_port
from producers.gateway.tokens import make_token
from tests import processes
from tests.services import find_program, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetwatch.settings import Settings

NGINX = Path(__file__).resolve().parents[2] / "deploy/nginx"
USER, PASSWORD = "watcher", "correct horse battery staple"
SIGNED_IN = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()
CHROMIUM_ARGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


class Answer(NamedTuple):
    status: int
    headers: Any
    body: bytes


class Proxy:
    """A running nginx; ``places`` says where dashboard and gateway are."""

    def __init__(self, folder: Path, *, dashboard: int, gateway: int) -> None:
        self.http, self.https = free_port(), free_port()
        self._folder = folder
        shutil.copy(NGINX / "setup.sh", folder)
        self._copy("nginx.conf", {"listen 8080": f"listen 127.0.0.1:{self.http}", "listen 8443": self._listen_tls()})
        self._copy(
            "places.conf",
            {
                "dashboard:8501": f"127.0.0.1:{dashboard}",
                "gateway:8080": f"127.0.0.1:{gateway}",
                "default $host;": f'default "$host:{self.https}";',
            },
        )
        (folder / "private").mkdir()
        find_program("openssl", package="openssl")
        self.setup()
        self.trust = ssl.create_default_context(cafile=str(folder / "private/fullchain.pem"))

    def _listen_tls(self) -> str:
        return f"listen 127.0.0.1:{self.https}"

    def _copy(self, name: str, changes: dict[str, str]) -> None:
        text = (NGINX / name).read_text()
        for old, new in changes.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (self._folder / name).write_text(text)

    def setup(self, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "DASHBOARD_USER": USER, "DASHBOARD_PASSWORD": PASSWORD} | variables
        return subprocess.run(
            [str(self._folder / "setup.sh"), str(self._folder / "private")],
            env=environment, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        nginx = find_program("nginx", package="nginx-light")
        command = [nginx, "-p", f"{self._folder}/", "-c", f"{self._folder}/nginx.conf", "-e", "stderr"]
        log = self._folder / "log"
        log.touch()
        if os.geteuid() == 0:  # as in the container: not root, and nothing special
            for path in (self._folder, *self._folder.rglob("*")):
                os.chown(path, 65534, 65534)
            nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--pdeathsig=TERM"]
            command = ["setpriv", *nobody, *command]
        self._folder.chmod(0o755)
        with log.open("ab") as lines:
            process = children.start(command, log=lines.fileno(), on_parent_death=signal.SIGTERM)
        try:
            wait_until(
                lambda: process.poll() is not None or self.get("/healthz", tls=False).status == 200,
                what="nginx serving",
            )
            assert process.poll() is None, log.read_text()
            yield self
        finally:
            children.stop(process, by=signal.SIGTERM, timeout=10)

    def get(
        self, path: str, *, tls: bool = True, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> Answer:
        """Ask once and follow nothing; status 0 when nothing answers."""
        if tls:
            connection = http.client.HTTPSConnection("localhost", self.https, timeout=10, context=self.trust)
        else:
            connection = http.client.HTTPConnection("localhost", self.http, timeout=10)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        except ConnectionError:
            return Answer(0, {}, b"")
        finally:
            connection.close()


def at_once(proxy: Proxy, path: str, count: int) -> list[int]:
    """Send requests in one write, without waiting for answers in between: a flood, however slow the machine is."""
    with (
        socket.create_connection(("localhost", proxy.https), timeout=20) as plain,
        proxy.trust.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        secured.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * count)
        said = b""
        while said.count(b"HTTP/1.1 ") < count:
            part = secured.recv(65_536)
            assert part, "nginx hung up"
            said += part
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", said)]


@contextmanager
def echo() -> Iterator[int]:
    """A server that tells what reached it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.dumps({"path": self.path, "headers": dict(self.headers), "body": len(self.rfile.read(length))})
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def folder(short_tmp: Path) -> Path:
    """A folder that a user who is not root can reach."""
    return Path(tempfile.mkdtemp(prefix="nginx-", dir=short_tmp))


@pytest.fixture
def proxy(folder: Path) -> Iterator[Proxy]:
    with echo() as place, Proxy(folder, dashboard=place, gateway=place).running() as running:
        yield running


# --- what the proxy itself does


def test_http_is_sent_to_https_which_is_modern_tls(proxy: Proxy) -> None:
    moved = proxy.get("/v1/readings?a=1", tls=False)
    assert (moved.status, moved.headers["Location"]) == (308, f"https://localhost:{proxy.https}/v1/readings?a=1")
    with (
        socket.create_connection(("localhost", proxy.https), timeout=5) as plain,
        proxy.trust.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        assert secured.version() == "TLSv1.3"
    assert proxy.get("/v1/readings").status == 200


def test_every_answer_says_what_a_browser_may_do(proxy: Proxy) -> None:
    for path, status in (("/", 401), ("/v1/readings", 200)):
        answer = proxy.get(path)
        assert answer.status == status
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Server"] == "nginx", "no version"


def test_the_dashboard_asks_for_a_password_and_the_gateway_for_its_own_token(proxy: Proxy) -> None:
    assert proxy.get("/").status == 401
    assert proxy.get("/_stcore/stream").status == 401
    wrong = "Basic " + b64encode(f"{USER}:wrong".encode()).decode()
    assert proxy.get("/", Authorization=wrong).status == 401
    seen = json.loads(proxy.get("/fleet?x=1", Authorization=SIGNED_IN, X_Forwarded_User="root").body)
    assert seen["path"] == "/fleet?x=1"
    assert seen["headers"]["X-Forwarded-User"] == USER, "what a visitor claims to be is nothing"
    assert "Authorization" not in seen["headers"], "the password goes no further"
    assert seen["headers"]["Host"] == f"localhost:{proxy.https}"

    passed = json.loads(proxy.get("/v1/readings", Authorization="Bearer t", X_Forwarded_For="6.6.6.6").body)
    assert passed["headers"]["Authorization"] == "Bearer t"
    assert passed["headers"]["X-Forwarded-For"] == "127.0.0.1"
    assert passed["headers"]["X-Forwarded-Proto"] == "https"
    assert "X-Forwarded-User" not in passed["headers"]
    log = (proxy._folder / "log").read_text()
    assert '"GET /fleet" 200' in log, "requests are logged, without their queries"
    assert "Bearer" not in log


def test_large_bodies_and_floods_are_refused(proxy: Proxy) -> None:
    fits = proxy.get("/v1/readings", method="POST", body=bytes(1_000_000))
    assert json.loads(fits.body)["body"] == 1_000_000
    assert proxy.get("/v1/readings", method="POST", body=bytes(1_100_000)).status == 413
    assert proxy.get("/", method="POST", body=bytes(100_000), Authorization=SIGNED_IN).status == 413
    statuses = at_once(proxy, "/docs", 400)
    assert statuses[:50] == [200] * 50, "some may come together"
    assert statuses.count(429) > 50


def test_a_part_that_is_away_is_a_502_and_the_other_one_serves(folder: Path) -> None:
    with echo() as place, Proxy(folder, dashboard=free_port(), gateway=place).running() as proxy:
        assert proxy.get("/", Authorization=SIGNED_IN).status == 502
        assert proxy.get("/v1/readings").status == 200


def test_the_setup_keeps_a_certificate_changes_a_password_and_wants_one(folder: Path) -> None:
    proxy = Proxy(folder, dashboard=1, gateway=1)
    private = folder / "private"
    assert {oct(path.stat().st_mode & 0o777) for path in private.iterdir()} == {"0o600"}
    assert PASSWORD not in (private / "users").read_text()
    before = {path.name: path.read_bytes() for path in private.iterdir()}
    assert proxy.setup(DASHBOARD_PASSWORD="another").returncode == 0
    assert (private / "fullchain.pem").read_bytes() == before["fullchain.pem"]
    assert (private / "users").read_bytes() != before["users"]
    (private / "users").unlink()
    refused = proxy.setup(DASHBOARD_PASSWORD="")
    assert refused.returncode == 2
    assert "set DASHBOARD_PASSWORD" in refused.stderr
    (private / "fullchain.pem").unlink()
    assert "192.0.2.7" in proxy.setup(TLS_HOST="192.0.2.7").stdout
    shown = ["openssl", "x509", "-in", str(private / "fullchain.pem"), "-noout", "-ext", "subjectAltName"]
    names = subprocess.run(shown, capture_output=True, text=True, timeout=30, check=True).stdout
    assert "IP Address:192.0.2.7, DNS:localhost, IP Address:127.0.0.1" in names


# --- the real things behind it


@pytest.mark.integration
def test_dashboard_and_gateway_work_through_it(settings: Settings, folder: Path, tmp_path: Path, chromium: str) -> None:
    """The page comes in a browser and its websocket opens; a device with a token gets its reading into Kafka."""
    port, events = free_port(), free_port()
    token, line = make_token("press-*", os.urandom)
    environment = processes.environment(
        settings, DASHBOARD_PORT=str(port), GATEWAY_PORT=str(events), GATEWAY_TOKENS=line
    )
    commands = {"dashboard": ["dashboard"], "gateway": ["gateway"]}
    stack = processes.running(commands, dict.fromkeys(commands, environment), tmp_path)
    with stack as running, Proxy(folder, dashboard=port, gateway=events).running() as proxy:
        running["gateway"].wait_until_ready()
        check_gateway(proxy, token)
        running["dashboard"].wait_until_ready()
        check_page(proxy, chromium)
        assert "Rejecting WebSocket" not in running["dashboard"].log.read_text()
        refused = proxy.get(
            "/_stcore/stream",
            Authorization=SIGNED_IN, Upgrade="websocket", Connection="Upgrade", Sec_WebSocket_Version="13",
            Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==", Origin="https://elsewhere.example",
        )  # fmt: skip
        assert refused.status == 403, "another site's page cannot open the websocket"


def check_gateway(proxy: Proxy, token: str) -> None:
    reading = {"device_id": "press-1", "sensor_type": "power", "site": "hall", "value": 3.5, "unit": "kW"}
    send = {"method": "POST", "body": json.dumps(reading).encode(), "Content_Type": "application/json"}
    assert proxy.get("/v1/readings", **send).status == 401
    taken = proxy.get("/v1/readings", Authorization=f"Bearer {token}", **send)
    assert taken.status == 202, taken.body
    other = send | {"body": json.dumps(reading | {"device_id": "boiler-1"}).encode()}
    assert proxy.get("/v1/readings", Authorization=f"Bearer {token}", **other).status == 403
    for path, text in (("/docs", b"/v1/readings"), ("/openapi.json", b'"openapi"')):
        described = proxy.get(path)
        assert described.status == 200
        assert text in described.body


def check_page(proxy: Proxy, chromium: str) -> None:
    """The script runs, over TLS, and no rule of the headers is broken."""
    from playwright.sync_api import expect, sync_playwright

    sockets: list[str] = []
    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        visit = browser.new_context(ignore_https_errors=True, http_credentials={"username": USER, "password": PASSWORD})
        page = visit.new_page()
        page.on("websocket", lambda socket: sockets.append(socket.url))
        page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"http://localhost:{proxy.http}/")
        assert page.url.startswith(f"https://localhost:{proxy.https}/"), "sent on to https"
        expect(page.locator("[data-testid='stMain']")).to_contain_text("Fleet", timeout=20_000)
        browser.close()
    assert [url.split("?")[0] for url in sockets] == [f"wss://localhost:{proxy.https}/_stcore/stream"]
    assert problems == []
