"""A webhook's server on this machine, that answers as it is told to."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl


@dataclass
class Hook:
    """What was posted, and how that is answered."""

    status: int = 200
    drips: bool = False
    """Sends its answer byte by byte and never comes to an end of it."""
    huge: bool = False
    posted: list[dict[str, Any]] = field(default_factory=list)
    """JSON, or the fields of a form."""
    names: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Every path that was asked for, by whatever method."""

    def __enter__(self) -> Hook:
        hook = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.asked.append(self.path)
                hook.names.append(self.headers["Idempotency-Key"])
                hook.tokens.append(self.headers["PRIVATE-TOKEN"])
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = self.headers["Content-Type"] == "application/x-www-form-urlencoded"
                hook.posted.append(dict(parse_qsl(body)) if form else json.loads(body))
                if hook.drips:
                    self._drip()
                    return
                self.send_response(hook.status)
                if 300 <= hook.status < 400:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                if hook.huge:
                    self._without_end()

            def do_GET(self) -> None:
                hook.asked.append(self.path)
                self.send_response(200)
                self.end_headers()

            def _drip(self) -> None:
                self._send(b"HTTP/1.1 200 OK\r\nX: ", 200, 0.05)

            def _without_end(self) -> None:
                self._send(b"x" * 1024 * 1024, 1 << 20, 0)

            def _send(self, text: bytes, times: int, pause_s: float) -> None:
                try:
                    for _ in range(times):
                        self.wfile.write(text)
                        text = text[-1:] if pause_s else text
                        time.sleep(pause_s)
                except OSError:
                    pass  # nobody listens any more

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/services/T000/s3cret"
