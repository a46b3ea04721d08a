"""Letting ourselves in: keys first, then, at a terminal, what the host asks.

Nothing is tried twice that a site counts: keys are offered once each, an answer to a prompt is sent once, and a refusal
is `Refused`, which callers keep and never try again.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.hazmat.primitives.serialization.ssh import SSHCertificate, load_ssh_public_identity
from paramiko.agent import AgentSSH

from reconciler.cluster import knownhosts
from reconciler.cluster.ports import Unreachable
from reconciler.cluster.sshconfig import Endpoint
from reconciler.model.faults import Fault

LOGIN_TIMEOUT_S: Final = 30.0
PROMPT_TIMEOUT_S: Final = 180.0
"""How long a person has for a one-time password."""
AGENT_TIMEOUT_S: Final = 30.0
KEYS_MAX: Final = 5
"""Keys offered in one login: sshd counts each, and ends the connection at the sixth."""

Ask = Callable[[str, bool], str]
"""Puts a prompt to the person at the terminal (text, whether the answer may be shown); returns the answer."""


class Refused(Unreachable):
    """Trying again would be wrong: a person has to do something first. Nothing was sent."""

    fault = Fault.LOGIN_REFUSED


def authenticate(
    transport: paramiko.Transport, endpoint: Endpoint, ask: Ask | None, left: Callable[[float], float]
) -> None:
    """Log in on a connection whose host key has been judged; `left` bounds a wait in seconds by what remains.

    Raises:
        Refused: the host does not let us in.
        Unreachable: the link broke, or there was no answer.
    """
    told: list[str] = []
    allowed: list[str] | None = None
    with contextlib.closing(_Keys(endpoint)) as keys:
        for number, (name, key) in enumerate(keys.each(told)):
            if number == KEYS_MAX:
                told.append(f"only {KEYS_MAX} keys are offered; name the right one with IdentityFile")
                break
            transport.auth_timeout = left(LOGIN_TIMEOUT_S)
            try:
                allowed = transport.auth_publickey(endpoint.user, key)
            except paramiko.BadAuthenticationType as wrong:
                allowed = wrong.allowed_types
                break
            except (paramiko.SSHException, OSError, EOFError) as error:
                _still_there(transport, endpoint, error, told)
                told.append(f"{name} was not accepted")
                continue
            if not allowed:
                return
            told.append(f"{name} was accepted, and more is asked for")
            break
    if allowed is None:
        allowed = _methods(transport, endpoint, told)
        if not allowed:
            return
    _prompted(transport, endpoint, ask, allowed, told)


def _still_there(transport: paramiko.Transport, endpoint: Endpoint, error: Exception, told: Sequence[str]) -> None:
    """A link that breaks before the first answer is a broken link; after a refusal it is part of the refusal."""
    if not transport.is_active():
        if told:
            raise _refusal(endpoint, told) from error
        raise Unreachable(f"{endpoint.named}: the link broke during login. Nothing was sent.") from error
    if "timeout" in str(error).lower():
        raise Unreachable(f"{endpoint.named}: no answer to the login. Nothing was sent.") from error


def _methods(transport: paramiko.Transport, endpoint: Endpoint, told: Sequence[str]) -> list[str]:
    """How the host lets people in; empty if it just did."""
    try:
        return transport.auth_none(endpoint.user)
    except paramiko.BadAuthenticationType as methods:
        return methods.allowed_types
    except (paramiko.SSHException, OSError, EOFError) as error:
        if told:
            raise _refusal(endpoint, told) from error
        raise Unreachable(f"{endpoint.named}: the link broke during login. Nothing was sent.") from error


def _prompted(
    transport: paramiko.Transport, endpoint: Endpoint, ask: Ask | None, allowed: Sequence[str], told: list[str]
) -> None:
    """One try at what only a person can answer."""
    method = next((each for each in ("keyboard-interactive", "password") if each in allowed), None)
    if method is None:
        raise _refusal(endpoint, told or ["there is no key to offer"])
    if ask is None:
        raise _refusal(endpoint, [*told, "it asks for a password, and there is no terminal to ask on"])
    transport.auth_timeout = PROMPT_TIMEOUT_S

    def answers(title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
        head = "\n".join(filter(None, (title.strip(), instructions.strip())))
        return [ask(f"{head}\n{text}" if head else text, echo) for text, echo in prompts]

    try:
        if method == "password":
            more = transport.auth_password(endpoint.user, ask(f"Password of {endpoint.named}: ", False), fallback=False)
        else:
            more = transport.auth_interactive(endpoint.user, answers)
    except (paramiko.SSHException, OSError, EOFError) as error:
        # Whatever it was: the answer may have been counted, so it is not sent again.
        raise _refusal(endpoint, [*told, "the answer was not accepted"]) from error
    if more:
        raise _refusal(endpoint, [*told, f"it asks for {' or '.join(more)} on top"])


def _refusal(endpoint: Endpoint, told: Sequence[str]) -> Refused:
    return Refused(
        f"{endpoint.named} does not let us in: {'; '.join(told)}. It is not tried again, since sites lock accounts.",
        f"Log in by hand first, then run this again:\n    {endpoint.command()} true",
    )


class _Keys:
    """The keys there are to offer: the agent's, then those on disk; with their certificates first, each once."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._agent: _AgentAt | paramiko.Agent | None = None

    def each(self, told: list[str]) -> Iterator[tuple[str, paramiko.PKey]]:
        """(name for messages, key); what keeps a key from being offered is added to `told`."""
        seen: set[bytes] = set()
        for name, key in self._found(told, seen):
            # A certificate and its key are two things to the host, so what counts is what is shown to it.
            if _shown(key) not in seen:
                seen.add(_shown(key))
                yield name, key

    def close(self) -> None:
        if self._agent is not None:
            self._agent.close()

    def _found(self, told: list[str], seen: set[bytes]) -> Iterator[tuple[str, paramiko.PKey]]:
        """Everything, perhaps twice."""
        named = {_public(path) for path in self._endpoint.identities} - {None}
        for key in self._of_agent():
            if not self._endpoint.only_identities or key.asbytes() in named:
                name = f"the agent's {knownhosts.fingerprint(key.asbytes())}"
                yield from self._certified(name, key)
                key.public_blob = None
                yield name, key
        for path in self._endpoint.identities:
            if not path.is_file():
                continue
            try:
                key = paramiko.PKey.from_path(path)  # with the certificate that lies beside it
            except (paramiko.SSHException, OSError, ValueError, TypeError) as error:
                if _public(path) not in seen:
                    told.append(f"{path} could not be used ({_why(error)})")
                continue
            if key.public_blob is not None:
                yield f"the certificate of {path}", key
            yield from self._certified(str(path), key)
            key.public_blob = None
            yield str(path), key

    def _certified(self, name: str, key: paramiko.PKey) -> Iterator[tuple[str, paramiko.PKey]]:
        """The key with each of the configuration's certificates that was made for it."""
        for path in self._endpoint.certificates:
            if _certifies(path, key):
                key.load_certificate(str(path))
                yield f"{path} for {name}", key

    def _of_agent(self) -> tuple[paramiko.PKey, ...]:
        socket_path = self._endpoint.agent_socket
        try:
            if socket_path is not None:
                self._agent = _AgentAt(socket_path)
            elif self._endpoint.use_agent:
                self._agent = paramiko.Agent()
            return tuple(self._agent.get_keys()) if self._agent is not None else ()
        except (paramiko.SSHException, OSError):
            return ()


class _AgentAt(AgentSSH):
    """The agent behind a socket that the configuration names (IdentityAgent)."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(AGENT_TIMEOUT_S)
        try:
            connection.connect(str(path))
            self._connect(connection)  # type: ignore[attr-defined]  # the stubs leave it out
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """End the session with it."""
        self._close()  # type: ignore[attr-defined]


def _shown(key: paramiko.PKey) -> bytes:
    return bytes(key.public_blob.key_blob) if key.public_blob is not None else key.asbytes()


def _certifies(path: Path, key: paramiko.PKey) -> bool:
    """Whether `path` is a certificate of exactly this key (an OpenSSH certificate, PROTOCOL.certkeys)."""
    try:
        found = load_ssh_public_identity(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm):
        return False
    if not isinstance(found, SSHCertificate):
        return False
    text = found.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
    return text.split()[1] == key.get_base64()


def _public(path: Path) -> bytes | None:
    """The public half that lies beside a private key."""
    with contextlib.suppress(OSError):
        found = knownhosts.entries(f"key {path.with_name(path.name + '.pub').read_text()}", path)
        return found[0].key if found else None
    return None


def _why(error: Exception) -> str:
    encrypted = isinstance(error, TypeError) or "encrypted" in str(error) or "password" in str(error).lower()
    return "it is encrypted: ssh-add it" if encrypted else str(error)
