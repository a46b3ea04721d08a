"""A TCP proxy on loopback that delays, cuts, truncates and swallows, at a byte count or at a moment."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from typing import Literal

How = Literal["cut", "swallow"]
Direction = Literal["up", "down"]


class Proxy:
    """Between a client and a port: `up` is towards the server. Faults are for all connections until `heal`."""

    def __init__(self, port: int, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        """Each way."""
        self.accepting = True
        """Off, it closes new connections at once."""
        self.connections = 0
        self.up = 0
        self.down = 0
        """Bytes passed on, of all connections together."""
        self._target = port
        self._limits: dict[Direction, int] = {}
        self._how: How = "cut"
        self._swallowing = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, direction: Direction, bytes_more: int, how: How = "cut") -> None:
        """Let so many more bytes pass in one direction, then cut the connection or swallow all that follows."""
        with self._lock:
            self._limits[direction] = (self.up if direction == "up" else self.down) + bytes_more
            self._how = how

    def heal(self) -> None:
        """From now on all is well."""
        with self._lock:
            self._limits.clear()
            self._swallowing = False

    def cut(self) -> None:
        """End every connection now, without a word."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for side in pair:
                _end(side)

    def swallow(self) -> None:
        """Pass nothing on from now on, in neither direction."""
        self._swallowing = True

    def close(self) -> None:
        """End everything."""
        _end(self._server)  # shut down, since closing alone does not wake the thread that accepts
        self.cut()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if not self.accepting:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self.connections += 1
                self._pairs.append((client, server))
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pump(client, server, "up")
            self._pump(server, client, "down")

    def _pump(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        waiting: queue.Queue[tuple[float, bytes]] = queue.Queue()

        def read() -> None:
            data = b"x"
            while data:
                try:
                    data = source.recv(65536)
                except OSError:
                    data = b""
                waiting.put((time.monotonic() + self.delay_s, data))

        def write() -> None:
            while True:
                due, data = waiting.get()
                wait_s = due - time.monotonic()
                if wait_s > 0:
                    time.sleep(wait_s)
                if not data:
                    if not self._swallowing:
                        with contextlib.suppress(OSError):
                            sink.shutdown(socket.SHUT_WR)
                    return
                data, faulty = self._allowed(data, direction)
                with contextlib.suppress(OSError):
                    sink.sendall(data)
                if faulty and self._how == "cut":
                    self.cut()
                    return

        for work in (read, write):
            threading.Thread(target=work, daemon=True).start()

    def _allowed(self, data: bytes, direction: Direction) -> tuple[bytes, bool]:
        with self._lock:
            if self._swallowing:
                return b"", False
            passed = self.up if direction == "up" else self.down
            limit = self._limits.get(direction)
            faulty = limit is not None and passed + len(data) > limit
            if limit is not None and faulty:
                data = data[: max(0, limit - passed)]
                self._swallowing = self._how == "swallow"
            if direction == "up":
                self.up += len(data)
            else:
                self.down += len(data)
        return data, faulty


def _end(side: socket.socket) -> None:
    with contextlib.suppress(OSError):
        side.shutdown(socket.SHUT_RDWR)
    side.close()
