"""A webhook of the person's choice: one POST. Its address may be a secret, so nothing here says a word of it."""

from __future__ import annotations

import ipaddress
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPMessage
from typing import IO, Final
from urllib.parse import urlsplit

TIMEOUT_S: Final = 20.0
_LOOPBACK_NAMES: Final = frozenset({"localhost", "ip6-localhost"})


class NotPosted(Exception):
    """The webhook did not take it."""


def checked(url: str) -> str:
    """An address that may be posted to: https, or http on this machine.

    Raises:
        ValueError: it is not; the message does not hold it.
    """
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("it holds a character that no address has")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("it is no address") from error
    if not host:
        raise ValueError("it names no host")
    if "@" in parts.netloc:
        raise ValueError("it holds a user name, which is not sent")
    if parts.scheme != "https" and not (parts.scheme == "http" and _loopback(host)):
        raise ValueError("only https is taken, or http on this machine")
    return url


def _loopback(host: str) -> bool:
    if host in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Stays(urllib.request.HTTPRedirectHandler):
    """What is told is told to the address that was given, and to no other."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def post(url: str, body: bytes, name: str, timeout_s: float = TIMEOUT_S) -> None:
    """Post JSON; `name` goes along as its idempotency key. The answer's text is not read.

    Raises:
        NotPosted: another answer than 2xx, or none in time.
    """
    came: list[str | None] = []
    # A thread: each read has a limit of its own, and a server that sends a byte now and then keeps to all of them.
    posting = threading.Thread(target=_posted, args=(url, body, name, timeout_s, came.append), daemon=True)
    posting.start()
    posting.join(timeout_s)
    if not came:
        raise NotPosted(f"no answer within {timeout_s:.0f} s")
    if came[0] is not None:
        raise NotPosted(came[0])


def _posted(url: str, body: bytes, name: str, timeout_s: float, say: Callable[[str | None], None]) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": name, "User-Agent": "reconcile"}
    try:
        request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310  # checked
        own = _loopback(urlsplit(url).hostname or "")
        handlers = [_Stays(), *([urllib.request.ProxyHandler({})] if own else [])]
        with urllib.request.build_opener(*handlers).open(request, timeout=timeout_s):
            say(None)
    except urllib.error.HTTPError as error:
        with error:
            say(f"it leads elsewhere ({error.code}), and is not followed" if 300 <= error.code < 400 else _code(error))
    except Exception as error:  # whatever it is: a thread that fails would print the text of its error
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        # Never the text of an error of ours: it may hold the address.
        known = reason.strerror if isinstance(reason, OSError) and reason.strerror else type(reason).__name__
        say(f"it cannot be reached: {known}")


def _code(error: urllib.error.HTTPError) -> str:
    return f"it answered {error.code}"
