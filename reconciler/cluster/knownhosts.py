"""Whether a host is who it was before: known_hosts files read strictly. Nothing is ever added to them. Pure but for
`read`.

Formats: sshd(8), section SSH_KNOWN_HOSTS FILE FORMAT. Certificate authorities (`@cert-authority`) are not honoured: a
host that is vouched for only by one counts as unknown.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import enum
import fnmatch
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILE_BYTES_MAX: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One key, and the names it is known under."""

    file: Path
    line: int
    marker: str
    """"", `@revoked` or `@cert-authority`."""
    names: str
    """Comma-separated patterns, or one hashed name."""
    key_type: str
    key: bytes

    def names_host(self, host: str) -> bool:
        """Whether this entry is about `host` (`login1`, `[login1]:2222`)."""
        if self.names.startswith("|1|"):
            return _hashed_is(self.names, host)
        named = False
        for pattern in self.names.lower().split(","):
            # Brackets belong to `[host]:port`; only * and ? are wild.
            plain = pattern.removeprefix("!").replace("[", "[[]")
            if fnmatch.fnmatchcase(host.lower(), plain):
                if pattern.startswith("!"):
                    return False
                named = True
        return named


class Judgement(enum.Enum):
    """What the files say of a key that a host showed."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


def read(files: Iterable[Path]) -> tuple[Entry, ...]:
    """Every entry of the files there are; lines that are not as they should be are passed over, as ssh does."""
    found = []
    for file in files:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), file.open("rb") as stream:
            found += entries(stream.read(FILE_BYTES_MAX).decode("utf-8", "replace"), file)
    return tuple(found)


def entries(text: str, file: Path) -> list[Entry]:
    """The entries of one file's text."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        marker = words.pop(0) if words[0].startswith("@") else ""
        if len(words) < 3:
            continue
        try:
            key = base64.b64decode(words[2], validate=True)
        except (binascii.Error, ValueError):
            continue
        found.append(Entry(file, number, marker, words[0], words[1], key))
    return found


def of_host(known: Iterable[Entry], host: str) -> tuple[Entry, ...]:
    """The entries about one host, certificate authorities left out."""
    return tuple(entry for entry in known if entry.marker in ("", "@revoked") and entry.names_host(host))


def judge(about: Iterable[Entry], key: bytes) -> tuple[Judgement, Entry | None]:
    """What the entries about a host say of the key it showed, and the entry that says so."""
    about = tuple(about)
    for entry in about:
        if entry.marker == "@revoked" and hmac.compare_digest(entry.key, key):
            return Judgement.REVOKED, entry
    kept = [entry for entry in about if not entry.marker]
    for entry in kept:
        if hmac.compare_digest(entry.key, key):
            return Judgement.KNOWN, entry
    return (Judgement.CHANGED, kept[0]) if kept else (Judgement.UNKNOWN, None)


def fingerprint(key: bytes) -> str:
    """As ssh and sites print it: `SHA256:…`."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode("ascii").rstrip("=")


def _hashed_is(names: str, host: str) -> bool:
    parts = names.split("|")
    if len(parts) != 4:
        return False
    try:
        salt, digest = base64.b64decode(parts[2], validate=True), base64.b64decode(parts[3], validate=True)
    except (binascii.Error, ValueError):
        return False
    # SHA-1 is the file's format; it hides names, it proves nothing.
    return hmac.compare_digest(hmac.new(salt, host.encode("utf-8"), "sha1").digest(), digest)
