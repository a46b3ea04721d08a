"""From a host's name to a connection that is who it should be and has let us in. Everything here ends by a deadline.

A host key is never learned here, only compared.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import paramiko

from reconciler.cluster import knownhosts
from reconciler.cluster.knownhosts import Entry, Judgement
from reconciler.cluster.ports import Unreachable
from reconciler.cluster.sshauth import Ask, Refused, authenticate
from reconciler.cluster.sshconfig import JUMPS_MAX, Asked, Endpoint
from reconciler.model.faults import Fault

CONNECT_TIMEOUT_S: Final = 15.0
"""For the handshake, as for the TCP connection."""
USER_TIMEOUT_MS: Final = 15_000
"""How long sent bytes may stay unacknowledged before the link counts as lost."""

Resolve = Callable[[Asked], Endpoint]

# Without a handler of its own, paramiko prints tracebacks for every link that breaks.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class Busy(Unreachable):
    """The host took the connection and closed it before the handshake, as sshd does beyond MaxStartups."""

    fault = Fault.HOST_BUSY


class Untrusted(Refused):
    """The host's key is not one that is on file for it."""

    fault = Fault.HOST_KEY_UNTRUSTED


class Deadline:
    """Cuts the guarded socket when the time is up, which ends whatever waits for it; None is no deadline."""

    def __init__(self, seconds: float | None) -> None:
        self.at = None if seconds is None else time.monotonic() + seconds
        self.passed = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = None if seconds is None else threading.Timer(max(seconds, 0.0), self._pass)
        if self._timer is not None:
            self._timer.daemon = True

    def left(self, at_most: float) -> float:
        """Seconds to go, and never more than `at_most`.

        Raises:
            Unreachable: there are none.
        """
        left = at_most if self.at is None else min(at_most, self.at - time.monotonic())
        if left <= 0 or self.passed:
            raise Unreachable("No connection in the time that was given; nothing was sent.")
        return left

    def guard(self, link: socket.socket) -> None:
        """Cut `link` too, from now on."""
        with self._lock:
            self._socket = link
            if self.passed:
                cut(link)

    def __enter__(self) -> Deadline:
        if self._timer is not None:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _pass(self) -> None:
        with self._lock:
            self.passed = True
            if self._socket is not None:
                cut(self._socket)


@dataclass(frozen=True)
class Link:
    """An authenticated connection, perhaps inside others."""

    transport: paramiko.Transport
    tcp: socket.socket
    """The outermost connection: cutting it ends all."""
    under: Link | None

    def alive(self) -> bool:
        """As far as is known here; a link that broke silently still looks alive."""
        return self.transport.is_active() and (self.under is None or self.under.alive())

    def close(self) -> None:
        """End it at once, whatever is under way; the outer connection first, so that nothing is sent through it."""
        cut(self.tcp)
        if self.under is not None:
            self.under.close()
        close(self.transport)


def cut(link: socket.socket) -> None:
    """Shut a connection down in both directions, from any thread."""
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)


def close(transport: paramiko.Transport) -> None:
    """End a connection and wait for its thread."""
    transport.close()
    if transport.is_alive():
        transport.join(5.0)
    with contextlib.suppress(OSError):
        transport.sock.close()


def login(endpoint: Endpoint, resolve: Resolve, ask: Ask | None, deadline: Deadline, depth: int = 0) -> Link:
    """Connect to `endpoint`, through the hosts it is reached by, and log in.

    Raises:
        Refused: the host key is not the known one, or the host does not let us in.
        Unreachable: no connection.
    """
    if depth > JUMPS_MAX:
        raise Unreachable(f"{endpoint.asked.alias}: the ProxyJump lines of the ssh configuration go round in a circle.")
    under: Link | None = None
    try:
        for hop in endpoint.jumps:
            there = resolve(hop)
            if under is None and hop.alias != endpoint.asked.alias:
                under = login(there, resolve, ask, deadline, depth + 1)
            elif under is not None:
                under = _connected(there, under, ask, deadline)
        return _connected(endpoint, under, ask, deadline)
    except BaseException:
        if under is not None:
            under.close()
        raise


def _connected(endpoint: Endpoint, under: Link | None, ask: Ask | None, deadline: Deadline) -> Link:
    wait_s = endpoint.connect_timeout_s or CONNECT_TIMEOUT_S
    if under is None:
        tcp = dial(endpoint.hostname, endpoint.port, deadline.left(wait_s))
        deadline.guard(tcp)
        carrier: socket.socket | paramiko.Channel = tcp
    else:
        tcp, carrier = under.tcp, _through(under, endpoint, deadline.left(wait_s))
    try:
        transport = paramiko.Transport(carrier)
        # A request is some 80 kB of text: on a new TCP connection that is several round trips.
        transport.use_compression(True)
    except (paramiko.SSHException, OSError) as error:
        carrier.close()
        raise Unreachable(f"{endpoint.named}: {error}. Nothing was sent.") from error
    try:
        _handshake(transport, endpoint, deadline.left(wait_s))
        authenticate(transport, endpoint, ask, deadline.left)
    except BaseException:
        Link(transport, tcp, under).close()
        raise
    return Link(transport, tcp, under)


def dial(hostname: str, port: int, timeout_s: float) -> socket.socket:
    """A TCP connection within `timeout_s`, the time of the name lookup included (which has no timeout of its own)."""
    made: queue.Queue[socket.socket | OSError | UnicodeError] = queue.Queue()
    given_up = threading.Event()

    def connect() -> None:
        try:
            link = socket.create_connection((hostname, port), timeout=timeout_s)
        except (OSError, UnicodeError) as error:
            made.put(error)
            return
        made.put(link)
        if given_up.is_set():
            link.close()

    threading.Thread(target=connect, daemon=True).start()
    try:
        answer = made.get(timeout=timeout_s)
    except queue.Empty:
        given_up.set()
        answer = TimeoutError(f"no answer within {timeout_s:.0f} s")
    if not isinstance(answer, socket.socket):
        unknown = isinstance(answer, (socket.gaierror, UnicodeError))
        raise Unreachable(
            f"{hostname} port {port}: {answer}. Nothing was sent.",
            "Correct `host` in the Cluster manifest, or give it a Host with a HostName in your ssh configuration"
            if unknown
            else "",
        ) from answer
    answer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    answer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        answer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    return answer


def _through(under: Link, endpoint: Endpoint, timeout_s: float) -> paramiko.Channel:
    try:
        place = (endpoint.hostname, endpoint.port)
        channel = under.transport.open_channel("direct-tcpip", place, ("127.0.0.1", 0), timeout=timeout_s)
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise Unreachable(
            f"{endpoint.named} cannot be reached through the host before it: {error}. Nothing was sent."
        ) from error
    end = channel.close

    def close_quietly() -> None:
        # The library's own thread closes it too, also when the host before it has gone: a traceback would be all.
        with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
            end()

    setattr(channel, "close", close_quietly)  # noqa: B010
    return channel


def _handshake(transport: paramiko.Transport, endpoint: Endpoint, timeout_s: float) -> None:
    try:
        about = knownhosts.of_host(knownhosts.read(endpoint.known_hosts), endpoint.host_key_name)
    except OSError as error:
        raise Untrusted(f"The known hosts could not be read: {error}. Nothing was sent.") from error
    _prefer(transport, about)
    transport.banner_timeout = transport.handshake_timeout = timeout_s
    try:
        transport.start_client(timeout=timeout_s)
        # Returns quietly when its time is up.
        if not transport.initial_kex_done:
            raise TimeoutError(f"no handshake within {timeout_s:.0f} s")
        key = transport.get_remote_server_key()
    except (paramiko.SSHException, OSError, EOFError) as error:
        busy = "banner" in str(error)
        raise (Busy if busy else Unreachable)(f"{endpoint.named}: {error}. Nothing was sent.") from error
    _must_be_known(key, about, endpoint)


def _prefer(transport: paramiko.Transport, about: Sequence[Entry]) -> None:
    """Ask for a key of a type that is on file: a host has several, and any other would look unknown."""
    options = transport.get_security_options()
    wanted: list[str] = []
    for entry in about:
        rsa = entry.key_type == "ssh-rsa"
        wanted += ["rsa-sha2-512", "rsa-sha2-256"] if rsa else [entry.key_type]
    offered = list(options.key_types)
    options.key_types = [*dict.fromkeys(kind for kind in wanted if kind in offered)] + [
        kind for kind in offered if kind not in wanted
    ]


def _must_be_known(key: paramiko.PKey, about: Sequence[Entry], endpoint: Endpoint) -> None:
    judgement, entry = knownhosts.judge(about, key.asbytes())
    shown, kind, name = knownhosts.fingerprint(key.asbytes()), key.get_name(), endpoint.host_key_name
    if judgement is Judgement.KNOWN:
        return
    if entry is None:
        raise Untrusted(
            f"The host key of {name} is not known: {kind} {shown}. Nothing was sent.",
            f"Compare it with what the site publishes, then log in once and answer yes:\n    {endpoint.command()} true",
        )
    if judgement is Judgement.REVOKED:
        raise Untrusted(f"{name} shows a host key that {entry.file}:{entry.line} revokes: {kind} {shown}.")
    raise Untrusted(
        f"The host key of {name} has changed: it shows {kind} {shown}, but {entry.file}:{entry.line} has "
        f"{entry.key_type} {knownhosts.fingerprint(entry.key)}. Somebody may be in between. Nothing was sent.",
        "Ask the site whether the key was changed. Only then forget the old one, and log in once:\n"
        f"    ssh-keygen -R '{name}' -f '{entry.file}'\n    {endpoint.command()} true",
    )
