"""A real sshd on loopback, run as an ordinary process with its own configuration, keys and home folder."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

START_TIMEOUT_S = 10.0


def program() -> str:
    """sshd's path; skips where there is none, except on a runner, where that is a failure."""
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        message = "no sshd here: apt-get install openssh-server"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def make_key(path: Path, kind: str = "ed25519") -> Path:
    """A key pair; returns the private half."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(path)], check=True)
    return path


class Sshd:
    """`with Sshd(folder) as server:` and `ssh -F server.config login` works."""

    def __init__(self, root: Path, extra: str = "") -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.home = root / "home"
        self.home.mkdir(exist_ok=True)
        self.log = root / "sshd.log"
        self.port = free_port()
        self.host_key = make_key(root / "host_key")
        self.key = make_key(root / "key")
        self.known_hosts = root / "known_hosts"
        shutil.copy(root / "key.pub", root / "authorized_keys")
        (root / "sshd_config").write_text(
            # `extra` comes first: sshd takes the first value it reads for a keyword.
            f"{extra}\n"
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.host_key}\n"
            f"AuthorizedKeysFile {root}/authorized_keys\nStrictModes no\nUsePAM no\nPidFile none\n"
            "PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"LogLevel DEBUG1\nSetEnv HOME={self.home}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.know(self.port)

    @property
    def config(self) -> Path:
        """An ssh configuration in which `login` is this server."""
        return self.configure()

    def configure(
        self, *, port: int | None = None, key: Path | None = None, extra: str = "", name: str = "ssh"
    ) -> Path:
        """The same, through another port, with another key or with more lines for `login`."""
        path = self.root / f"{name}_config"
        path.write_text(
            f"Host login\n  HostName 127.0.0.1\n  Port {port or self.port}\n  User {getpass.getuser()}\n"
            f"  IdentityFile {key or self.key}\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  UserKnownHostsFile {self.known_hosts}\n  GlobalKnownHostsFile none\n{extra}"
        )
        return path

    def know(self, port: int) -> None:
        """Put the host key on file for a port, as a first login by hand would."""
        kind, key = (self.root / "host_key.pub").read_text().split()[:2]
        with self.known_hosts.open("a") as file:
            file.write(f"[127.0.0.1]:{port} {kind} {key}\n")

    def logged(self, text: str) -> int:
        """How often `text` is in the log by now."""
        return self.log.read_text(errors="replace").count(text)

    def start(self) -> Sshd:
        """Start it and wait until it listens."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists when it starts as root
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [program(), "-D", "-e", "-f", str(self.root / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + START_TIMEOUT_S
        while not self.logged("Server listening"):
            assert self._process.poll() is None, self.log.read_text(errors="replace")
            assert time.monotonic() < until, self.log.read_text(errors="replace")
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """End it and every session it has."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait()

    def __enter__(self) -> Sshd:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
