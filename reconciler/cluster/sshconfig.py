"""What a person's ssh configuration says about a host, as `ssh -G` resolves it: with Include, Match and wildcards."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from reconciler.cluster.ports import Unreachable

RESOLVE_TIMEOUT_S: Final = 10.0
"""`Match exec` may run anything; more than this is not waited for."""
JUMPS_MAX: Final = 4
_IDENTITIES: Final = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
_HOST: Final = re.compile(r"[A-Za-z0-9_.:][A-Za-z0-9_.:%-]*")
"""What may stand for a host or a user: nothing that a command line could take for an option."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a host was named, by the manifest or as a hop in somebody's ProxyJump."""

    alias: str
    user: str | None = None
    port: int | None = None

    def options(self) -> list[str]:
        """What ssh's command line says of port and user."""
        return [*(["-p", str(self.port)] if self.port else []), *(["-l", self.user] if self.user else [])]

    def command(self, *more: str) -> str:
        """The command that logs in there, for a person to try; `more` are options of ssh."""
        return shlex.join(["ssh", *more, *self.options(), "--", self.alias])


@dataclass(frozen=True, slots=True)
class Way:
    """How to reach a cluster: everything but the prompts."""

    hosts: tuple[Asked, ...]
    """Login nodes, any of which will do; the first that answers is used."""
    path: tuple[str, ...] = ()
    """Folders put in front of PATH on the far side."""
    config: Path | None = None
    """An ssh configuration to use in place of the person's own."""
    connect_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One host, with nothing left to look up."""

    asked: Asked
    hostname: str
    port: int
    user: str
    identities: tuple[Path, ...]
    """Private keys to try, in order; those of the default names need not exist."""
    only_identities: bool
    """Keys of the agent count only if they are among `identities`."""
    certificates: tuple[Path, ...]
    """Certificates for keys, besides those that lie next to them."""
    use_agent: bool
    """Whether the agent of SSH_AUTH_SOCK is asked."""
    agent_socket: Path | None
    """Another agent's socket, asked in its place."""
    jumps: tuple[Asked, ...]
    """Hosts to go through, first one first."""
    known_hosts: tuple[Path, ...]
    host_key_alias: str | None
    connect_timeout_s: float | None
    config: Path | None = None
    """The ssh configuration that was read, if not the person's own."""

    def command(self) -> str:
        """The command that logs in there the same way, for a person to try."""
        return self.asked.command(*(["-F", str(self.config)] if self.config else []))

    @property
    def host_key_name(self) -> str:
        """The name that known_hosts has this host under."""
        if self.host_key_alias:
            return self.host_key_alias
        return self.hostname if self.port == 22 else f"[{self.hostname}]:{self.port}"

    @property
    def named(self) -> str:
        """User and place, for messages."""
        return f"{self.user}@{self.hostname}" + ("" if self.port == 22 else f" port {self.port}")


def resolve(asked: Asked, config: Path | None = None) -> Endpoint:
    """Look a host up in the person's ssh configuration, or in `config` alone.

    Raises:
        Unreachable: the name is no host's, or the configuration is broken or asks for what is not supported.
    """
    if shutil.which("ssh"):
        return replace(parse(told_by_ssh(asked, config), asked), config=config)
    _must_be_names(asked)
    import paramiko  # only here: `ssh -G` needs no library

    path = config or Path("~/.ssh/config").expanduser()
    try:
        found = paramiko.SSHConfig.from_path(str(path)).lookup(asked.alias) if path.exists() else {}
    except Exception as error:  # paramiko raises all kinds of things for files it does not understand
        raise Unreachable(f"{path} could not be read without an ssh program: {error}.") from error
    return replace(parse(_lines(found), asked), config=config)


def parse(text: str, asked: Asked) -> Endpoint:
    """Read what `ssh -G` prints: a keyword and its value on each line, some keywords several times. Pure.

    Raises:
        Unreachable: a value cannot be read, or the configuration asks for what is not supported.
    """
    try:
        return _endpoint(text, asked)
    except (ValueError, RuntimeError) as error:  # an open quote, a port that is no number, a `~user` there is not
        raise Unreachable(f"The ssh configuration of {asked.alias} cannot be read: {error}.") from error


def _endpoint(text: str, asked: Asked) -> Endpoint:
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        keyword, _, value = line.strip().partition(" ")
        if value and value != "none":
            values.setdefault(keyword.lower(), []).append(value)

    def first(keyword: str, default: str = "") -> str:
        return values.get(keyword, [default])[0]

    if "proxycommand" in values:
        raise Unreachable(
            f"The ssh configuration reaches {asked.alias} through a ProxyCommand, which is not supported.",
            f"Say the same with ProxyJump:\n    Host {asked.alias}\n        ProxyJump HOST",
        )
    files = shlex.split(first("userknownhostsfile", "~/.ssh/known_hosts"))
    files += shlex.split(first("globalknownhostsfile", "/etc/ssh/ssh_known_hosts"))
    # Printed as it was written: "none" is a value there, and was left out above.
    agent_off = re.search(r"(?im)^identityagent none$", text) is not None
    return Endpoint(
        asked=asked,
        hostname=first("hostname", asked.alias),
        port=asked.port or int(first("port", "22")),
        user=asked.user or first("user", getpass.getuser()),
        identities=tuple(Path(name).expanduser() for name in values.get("identityfile", _IDENTITIES)),
        only_identities=first("identitiesonly") == "yes",
        certificates=tuple(Path(name).expanduser() for name in values.get("certificatefile", ())),
        use_agent=not agent_off,
        agent_socket=_socket(first("identityagent")),
        jumps=_jumps(first("proxyjump"), asked),
        known_hosts=tuple(Path(name).expanduser() for name in files),
        host_key_alias=first("hostkeyalias") or None,
        connect_timeout_s=_seconds(first("connecttimeout")),
    )


def value_of(text: str, keyword: str) -> str | None:
    """The first value that `ssh -G` printed for a keyword; None if it has none, or the value is `none`. Pure."""
    found = re.search(rf"(?im)^{re.escape(keyword)} (.+)$", text)
    return found[1] if found and found[1] != "none" else None


def _must_be_names(asked: Asked) -> None:
    for word in (asked.alias, asked.user):
        if word is not None and not _HOST.fullmatch(word):
            raise Unreachable(f"{word!r} is not the name of a host or user.")


def told_by_ssh(asked: Asked, config: Path | None) -> str:
    """What `ssh -G` prints: every setting for a host, one per line.

    Raises:
        Unreachable: the name is no host's, the configuration is broken, or there is no ssh program.
    """
    _must_be_names(asked)
    command = ["ssh", "-G", *(["-F", str(config)] if config else []), *asked.options()]
    try:
        done = subprocess.run(
            [*command, "--", asked.alias],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=RESOLVE_TIMEOUT_S,
            env=dict(os.environ, LC_ALL="C"),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreachable(f"ssh -G {asked.alias} failed: {error}. Nothing was sent.") from error
    if done.returncode != 0:
        raise Unreachable(
            f"The ssh configuration has a problem: {done.stderr.strip()[-500:]}",
            f"See for yourself:\n    {shlex.join([*command, '--', asked.alias])}",
        )
    return done.stdout


def _lines(found: Mapping[str, str | Sequence[str]]) -> str:
    """What paramiko's own reader found, in the form of `ssh -G`."""
    lines = []
    for keyword, value in found.items():
        lines += [f"{keyword} {each}" for each in ([value] if isinstance(value, str) else value)]
    return "\n".join(lines)


def _jumps(value: str, asked: Asked) -> tuple[Asked, ...]:
    """`user@host:port,[v6]:port,host` → the hops."""
    hops = []
    for hop in filter(None, (part.strip() for part in value.split(","))):
        rest = hop.removeprefix("ssh://").rstrip("/")
        user, _, place = rest.rpartition("@")
        found = re.fullmatch(r"\[([^]]+)\](?::(\d{1,5}))?|([^:]+)(?::(\d{1,5}))?|(.*:.*:.*)", place)
        if found is None:
            raise Unreachable(f"The ssh configuration of {asked.alias} has a ProxyJump that is no host: {hop!r}.")
        port = found[2] or found[4]
        hops.append(Asked(found[1] or found[3] or found[5], user or None, int(port) if port else None))
    if len(hops) > JUMPS_MAX:
        raise Unreachable(f"The ssh configuration of {asked.alias} jumps through more than {JUMPS_MAX} hosts.")
    return tuple(hops)


def _socket(text: str) -> Path | None:
    """IdentityAgent: a path, or the name of a variable that holds one; None for the agent of SSH_AUTH_SOCK."""
    if text.startswith("$"):
        text = os.environ.get(text[1:].strip("{}"), "")
    return Path(text).expanduser() if text and text != "SSH_AUTH_SOCK" else None


def _seconds(value: str) -> float | None:
    return float(value) if re.fullmatch(r"\d{1,6}", value) and int(value) > 0 else None
