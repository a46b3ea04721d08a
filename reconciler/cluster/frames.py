"""What travels: the agent's source and a request out, one answer back. Pure.

The link may add to the answer (login banners, what a `.bashrc` prints) and may cut it anywhere. So an answer stands
between marks that hold a nonce nobody could guess, with its length and digest; anything less is `Garbled`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

BOOT: Final = "import sys;n=int(sys.argv[1]);s=sys.stdin.buffer.read(n);exec(s) if len(s)==n else sys.exit(71)"
"""Runs the first n bytes of standard input as the agent; it reads the rest. No character that a login shell expands."""
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024


class Garbled(Exception):
    """No whole answer in what came back; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One exec: the command and its standard input."""

    argv: tuple[str, ...]
    stdin: bytes


def request(agent: bytes, body: Mapping[str, Any], nonce: str) -> Sent:
    """The exec that hands `body` to the agent, whose answer will carry `nonce`."""
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")
    head = f"cpt-request {nonce} {len(text)} {hashlib.sha256(text).hexdigest()}\n".encode("ascii")
    # -I and -S: whatever a login node's environment or site-packages hold has no say in this.
    return Sent(("python3", "-I", "-S", "-c", BOOT, str(len(agent))), agent + head + text)


def answer(payload: bytes, nonce: str) -> bytes:
    """How the agent frames its answer (it has the same lines, being sent alone; a test holds them equal)."""
    head = f"\n=cpt-answer= {nonce} {len(payload)} {hashlib.sha256(payload).hexdigest()}\n".encode("ascii")
    return head + payload + f"\n=cpt-end= {nonce}\n".encode("ascii")


def decode(received: bytes, nonce: str) -> dict[str, Any]:
    """The answer's JSON object, out of whatever noise surrounds it.

    Raises:
        Garbled: no mark with this nonce, or less than the whole answer behind each one.
    """
    if len(received) > ANSWER_BYTES_MAX + 1024 * 1024:
        raise Garbled(f"{len(received)} bytes came back, more than any answer has")
    head = re.compile(rb"\n=cpt-answer= " + re.escape(nonce.encode("ascii")) + rb" (\d{1,9}) ([0-9a-f]{64})\n")
    why = f"no answer in the {len(received)} bytes that came back"
    # A preamble may hold anything, even something that looks like a mark: the first one that proves whole counts.
    for found in head.finditer(b"\n" + received):
        start = found.end() - 1
        payload = received[start : start + int(found[1])]
        if not received.startswith(f"\n=cpt-end= {nonce}\n".encode("ascii"), start + len(payload)):
            why = f"the answer was cut off: {len(payload)} of {int(found[1])} bytes, or no end mark"
        elif hashlib.sha256(payload).hexdigest().encode("ascii") != found[2]:
            why = "the answer was damaged on the way: its digest differs"
        else:
            return _object(payload)
    raise Garbled(why)


def _object(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Garbled(f"the answer is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Garbled("the answer is not an object")
    return value
