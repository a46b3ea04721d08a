"""The report on this machine alone: two addresses on the loopback interface, and whether there is news.

A page of the internet can have a browser ask for anything on this machine, under a name of its own that leads here; so
only questions that name this very machine are answered. Others may work on it, as on a login node: the address has a
part that nobody guesses.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from reconciler.page.content import Page
from reconciler.page.render import html

LOOPBACK: Final = "127.0.0.1"
NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
_UNNAMED: Final = 'data-page=""'
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Served:
    """What is shown now."""

    text: bytes
    name: str
    """Digest of what it says, the time of the look left out."""
    looked_at: str
    trouble: str = ""
    """Why it is older than it should be."""


def served(page: Page, refresh_s: float) -> Served:
    """A page for a browser that asks so often whether there is news."""
    name = hashlib.sha256(html(replace(page, looked_at=""), refresh_s).encode()).hexdigest()[:16]
    text = html(page, refresh_s).replace(_UNNAMED, f'data-page="{name}"', 1)
    return Served(text.encode(), name, page.looked_at)


class Server(ThreadingHTTPServer):
    """Answers until it is shut down; `port` 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, port: int, current: Callable[[], Served]) -> None:
        super().__init__((LOOPBACK, port), _Handler)
        self.current = current
        self.secret = secrets.token_urlsafe(16)
        self.hosts = frozenset(f"{name}:{self.server_port}" for name in NAMES)

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://{LOOPBACK}:{self.server_port}/{self.secret}/"


class _Handler(BaseHTTPRequestHandler):
    timeout = 10
    server_version, sys_version = "reconcile", ""

    def do_GET(self) -> None:  # the library's name
        server = self.server
        assert isinstance(server, Server)  # noqa: S101
        if self.headers.get_all("Host", []) not in [[host] for host in server.hosts]:
            return self._answer(421, "text/plain", b"This is not the machine that you asked for.\n")
        _, given, *rest = self.path.split("/", 2) if self.path.startswith("/") else ("", "")
        if not hmac.compare_digest(given.encode(), server.secret.encode()):
            rest = []
        now = server.current()
        if rest == [""]:
            return self._answer(200, "text/html", now.text)
        if rest == ["news"]:
            body = {"page": now.name, "looked_at": now.looked_at, "trouble": now.trouble}
            return self._answer(200, "application/json", json.dumps(body).encode())
        return self._answer(404, "text/plain", b"There is only the report, at the address that was told.\n")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is told of who looks."""
