"""Who is let in and who is trusted: host keys are compared and never learned, refusals are never tried again."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from paramiko.common import AUTH_FAILED, AUTH_PARTIALLY_SUCCESSFUL, AUTH_SUCCESSFUL, OPEN_SUCCEEDED
from paramiko.server import InteractiveQuery

from reconciler.cluster import sshlogin
from reconciler.cluster.knownhosts import fingerprint
from reconciler.cluster.ports import LinkLost, Unreachable
from reconciler.cluster.ssh import Ask, Asked, Refused, SshTransport, Way
from tests.cluster.sshd import Sshd, free_port, make_key
from tests.cluster.sshproxy import Proxy

ONE_TIME = "471 135"


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd") as server:
        yield server


def through(config: Path, *hosts: str, ask: Ask | None = None) -> SshTransport:
    return SshTransport(Way(tuple(Asked(host) for host in hosts or ("login",)), config=config), ask)


def key_of(private: Path) -> str:
    return fingerprint(paramiko.PKey.from_path(private).asbytes())


# --- Host keys --------------------------------------------------------------------------------------------------------


def test_an_unknown_host_key_stops_with_its_fingerprint_and_the_command_and_is_not_learned(sshd: Sshd) -> None:
    sshd.known_hosts.write_text("")
    with through(sshd.config) as link, pytest.raises(Refused) as refused:
        link.exec(["true"], b"", 10)
    assert key_of(sshd.host_key) in refused.value.message
    assert f"[127.0.0.1]:{sshd.port}" in refused.value.message
    assert f"ssh -F {sshd.config} -- login true" in refused.value.fix
    assert sshd.known_hosts.read_text() == ""
    assert sshd.logged("Accepted") == 0


def test_a_changed_host_key_stops_with_both_fingerprints_and_where_the_old_one_is(sshd: Sshd, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    kind, key = other.with_suffix(".pub").read_text().split()[:2]
    sshd.known_hosts.write_text(f"# one\n[127.0.0.1]:{sshd.port} {kind} {key}\n")
    with through(sshd.config) as link, pytest.raises(Refused) as refused:
        link.exec(["true"], b"", 10)
    for told in (key_of(sshd.host_key), key_of(other), f"{sshd.known_hosts}:2", "has changed"):
        assert told in refused.value.message
    assert f"ssh-keygen -R '[127.0.0.1]:{sshd.port}'" in refused.value.fix
    assert sshd.logged("Accepted") == 0


def test_a_revoked_host_key_stops_although_it_is_known(sshd: Sshd) -> None:
    kind, key = (sshd.root / "host_key.pub").read_text().split()[:2]
    with sshd.known_hosts.open("a") as file:
        file.write(f"@revoked * {kind} {key}\n")
    with through(sshd.config) as link, pytest.raises(Refused, match="revokes"):
        link.exec(["true"], b"", 10)


def test_of_a_hosts_several_keys_the_one_on_file_is_asked_for(tmp_path: Path) -> None:
    """A known_hosts file with only the RSA key must not make a host that also has an Ed25519 key look unknown."""
    rsa = make_key(tmp_path / "rsa", "rsa")
    with Sshd(tmp_path / "sshd", f"HostKey {rsa}") as server:
        kind, key = rsa.with_suffix(".pub").read_text().split()[:2]
        server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {kind} {key}\n")
        with through(server.config) as link:
            assert link.exec(["echo", "in"], b"", 10) == b"in\n"


def test_a_host_key_alias_is_the_name_that_counts(sshd: Sshd) -> None:
    kind, key = (sshd.root / "host_key.pub").read_text().split()[:2]
    sshd.known_hosts.write_text(f"the-cluster {kind} {key}\n")
    with through(sshd.configure(extra="  HostKeyAlias the-cluster\n")) as link:
        assert link.exec(["echo", "in"], b"", 10) == b"in\n"


# --- Keys -------------------------------------------------------------------------------------------------------------


def test_a_wrong_key_is_offered_once_and_never_again(sshd: Sshd, tmp_path: Path) -> None:
    config = sshd.configure(key=make_key(tmp_path / "wrong"))
    with through(config, "login") as link:
        for _ in range(3):
            with pytest.raises(Refused, match="wrong was not accepted") as refused:
                link.exec(["true"], b"", 10)
            assert f"ssh -F {config} -- login true" in refused.value.fix
    assert sshd.logged("Connection from") == 1
    assert sshd.logged("Failed publickey") == 1


def test_a_refusal_is_not_carried_on_to_the_next_login_node(sshd: Sshd, tmp_path: Path) -> None:
    config = sshd.configure(key=make_key(tmp_path / "wrong"))
    with config.open("a") as file:
        file.write(config.read_text().replace("Host login", "Host login2"))
    with through(config, "login", "login2") as link, pytest.raises(Refused):
        link.exec(["true"], b"", 10)
    assert sshd.logged("Connection from") == 1


def test_not_more_keys_are_offered_than_sshd_takes(sshd: Sshd, tmp_path: Path) -> None:
    names = "".join(f"  IdentityFile {make_key(tmp_path / f'k{n}')}\n" for n in range(8))
    with through(sshd.configure(key=tmp_path / "none", extra=names)) as link, pytest.raises(Refused, match="only 5"):
        link.exec(["true"], b"", 10)
    assert sshd.logged("Failed publickey") == 5


def test_an_encrypted_key_without_agent_says_so(sshd: Sshd, tmp_path: Path) -> None:
    key = make_key(tmp_path / "locked")
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(key)], check=True, stdout=subprocess.DEVNULL)
    with through(sshd.configure(key=key)) as link, pytest.raises(Refused, match="encrypted: ssh-add"):
        link.exec(["true"], b"", 10)
    assert sshd.logged("Failed publickey") == 0


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """The socket of an ssh-agent that holds nothing yet."""
    socket_path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket_path)], stdout=subprocess.DEVNULL)
    while not socket_path.exists():
        time.sleep(0.02)
    yield socket_path
    process.terminate()
    process.wait()


def add_to(agent: Path, key: Path) -> None:
    subprocess.run(["ssh-add", "-q", str(key)], env=os.environ | {"SSH_AUTH_SOCK": str(agent)}, check=True)


@pytest.mark.parametrize("named_by", ["the environment", "IdentityAgent", "IdentityAgent with a variable"])
def test_the_agents_key_is_used(
    sshd: Sshd, agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named_by: str
) -> None:
    add_to(agent, sshd.key)
    line = {"IdentityAgent": f"IdentityAgent {agent}", "IdentityAgent with a variable": "IdentityAgent $MY_AGENT"}
    monkeypatch.setenv("MY_AGENT", str(agent))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    if named_by == "the environment":
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    config = sshd.configure(key=tmp_path / "none")
    text = config.read_text().replace("IdentityAgent none", line.get(named_by, "")).replace("IdentitiesOnly yes", "")
    config.write_text(text)
    with through(config) as link:
        assert link.exec(["echo", "in"], b"", 10) == b"in\n"


@pytest.mark.parametrize("where", ["beside the key", "CertificateFile", "CertificateFile, the key in the agent"])
def test_a_certificate_lets_a_key_in_that_the_host_does_not_know(tmp_path: Path, agent: Path, where: str) -> None:
    authority, key = make_key(tmp_path / "authority"), make_key(tmp_path / "mine")
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "me", "-n", getpass.getuser(), f"{key}.pub"]
    subprocess.run(sign, check=True)
    extra = ""
    certificate = key.with_name("mine-cert.pub")
    if where != "beside the key":
        certificate = certificate.rename(tmp_path / "elsewhere.pub")
        extra = f"  CertificateFile {certificate}\n"
    with Sshd(tmp_path / "sshd", f"TrustedUserCAKeys {authority}.pub") as server:
        config = server.configure(key=key, extra=extra)
        if "agent" in where:
            add_to(agent, key)
            key.unlink()
            config.write_text(config.read_text().replace("IdentityAgent none", f"IdentityAgent {agent}"))
        with through(config) as link:
            assert link.exec(["echo", "in"], b"", 10) == b"in\n"
        assert server.logged("Accepted publickey") == 1
        assert server.logged("Failed publickey") == 0, "the certificate is shown before the bare key"


def test_a_certificate_of_another_key_is_left_aside(sshd: Sshd, tmp_path: Path) -> None:
    authority, other = make_key(tmp_path / "authority"), make_key(tmp_path / "other")
    subprocess.run(["ssh-keygen", "-q", "-s", str(authority), "-I", "x", "-n", "x", f"{other}.pub"], check=True)
    extra = f"  CertificateFile {tmp_path}/other-cert.pub\n  CertificateFile {tmp_path}/none\n"
    with through(sshd.configure(extra=extra)) as link:
        assert link.exec(["echo", "in"], b"", 10) == b"in\n"
    assert sshd.logged("Failed publickey") == 0


def test_a_password_is_refused_where_there_is_no_terminal(tmp_path: Path) -> None:
    with (
        Sshd(tmp_path / "sshd", "PasswordAuthentication yes") as server,
        through(server.configure(key=tmp_path / "none")) as link,
        pytest.raises(Refused, match="no terminal to ask on"),
    ):
        link.open()


# --- Which host -------------------------------------------------------------------------------------------------------


def test_a_login_node_that_is_down_is_passed_over_and_the_next_one_is_kept(sshd: Sshd) -> None:
    config = sshd.configure(extra=f"Host down\n  HostName 127.0.0.1\n  Port {free_port()}\n")
    with through(config, "down", "login") as link:
        assert link.exec(["echo", "in"], b"", 10) == b"in\n"
        assert link.host == "login"


def test_no_login_node_up_names_each_with_its_reason(sshd: Sshd) -> None:
    ports = free_port(), free_port()
    config = sshd.configure(extra="".join(f"Host d{p}\n  HostName 127.0.0.1\n  Port {p}\n" for p in ports))
    with through(config, *(f"d{port}" for port in ports)) as link, pytest.raises(Unreachable) as unreachable:
        link.exec(["true"], b"", 10)
    assert all(str(port) in unreachable.value.message for port in ports)


def test_a_host_that_is_too_busy_for_now_is_tried_again(sshd: Sshd) -> None:
    with Proxy(sshd.port) as proxy:
        sshd.know(proxy.port)
        proxy.accepting = False
        threading.Timer(0.1, setattr, (proxy, "accepting", True)).start()
        with through(sshd.configure(port=proxy.port)) as link:
            assert link.exec(["echo", "in"], b"", 20) == b"in\n"


def test_a_link_that_breaks_during_login_is_no_refusal(sshd: Sshd) -> None:
    with Proxy(sshd.port) as proxy:
        sshd.know(proxy.port)
        with through(sshd.configure(port=proxy.port)) as link:
            for count in (30, 1000, 1700, 2000, 2200):
                proxy.arm("up", count)
                try:
                    link.exec(["true"], b"", 5)
                except Refused as refused:
                    pytest.fail(f"after {count} bytes: {refused}")
                except (Unreachable, LinkLost):
                    pass
                proxy.heal()
                link.close()
            assert link.exec(["echo", "in"], b"", 10) == b"in\n"


def behind(sshd: Sshd, inner: Sshd, config: Path) -> Path:
    """A configuration in which `inner` is reached through the other one."""
    jump = sshd.config.read_text().replace("login", "jump")
    config.write_text(f"{inner.config.read_text()}  ProxyJump jump\n{jump}")
    return config


def test_a_host_behind_another_is_reached_through_it_and_both_keys_count(sshd: Sshd, tmp_path: Path) -> None:
    with Sshd(tmp_path / "inner") as inner:
        config = behind(sshd, inner, tmp_path / "both")
        with through(config) as link:
            assert link.exec(["sh", "-c", 'echo "$SSH_CONNECTION"'], b"", 10).split()[3] == str(inner.port).encode()
        assert sshd.logged("Accepted publickey") == 1
        sshd.known_hosts.write_text("")
        with through(config) as link, pytest.raises(Refused, match="not known"):
            link.exec(["true"], b"", 10)


def test_a_host_behind_one_that_has_gone_is_closed_without_a_word(sshd: Sshd, tmp_path: Path) -> None:
    """The library closes it in a thread of its own, which would print a traceback."""
    with Sshd(tmp_path / "inner") as inner:
        config = behind(sshd, inner, tmp_path / "both")
        with through(config) as link:
            link.exec(["true"], b"", 10)
            way = link._link
            assert way is not None and way.under is not None
            sshlogin.cut(way.tcp)
            way.under.transport.packetizer.close()
            way.transport.sock.close()


# --- One-time passwords: a server of paramiko's, since sshd asks for them only through PAM ----------------------------


class Asking(paramiko.ServerInterface):
    """Lets in whoever knows the one-time password; counts the answers it is given."""

    def __init__(self, key_first: bool) -> None:
        self.key_first = key_first
        self.keys = 0
        self.answers: list[str] = []

    def get_allowed_auths(self, username: str) -> str:
        return "publickey" if self.key_first and not self.keys else "keyboard-interactive"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.keys += 1
        return AUTH_PARTIALLY_SUCCESSFUL if self.key_first else AUTH_FAILED

    def check_auth_interactive(self, username: str, submethods: str) -> InteractiveQuery:
        return InteractiveQuery("Site", "MobilePASS+", ("Passcode: ", False))

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        self.answers += responses
        return AUTH_SUCCESSFUL if responses == [ONE_TIME] else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        def answer() -> None:
            channel.sendall(b"in\n")
            channel.send_exit_status(0)
            channel.close()

        threading.Timer(0.05, answer).start()
        return True


class AskingHost:
    """A listener that serves one `Asking` to every connection."""

    def __init__(self, folder: Path, *, key_first: bool = False) -> None:
        self.rules = Asking(key_first)
        self.connections = 0
        self._key = paramiko.PKey.from_path(make_key(folder / "otp_host"))
        self._server = socket.create_server(("127.0.0.1", 0))
        self._transports: list[paramiko.Transport] = []
        port = self._server.getsockname()[1]
        (folder / "known").write_text(f"[127.0.0.1]:{port} {self._key.get_name()} {self._key.get_base64()}\n")
        self.config = folder / "otp_config"
        self.config.write_text(
            f"Host login\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n"
            f"  IdentityFile {make_key(folder / 'otp_key')}\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  UserKnownHostsFile {folder / 'known'}\n"
        )
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> AskingHost:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for transport in self._transports:
            sshlogin.close(transport)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            transport = paramiko.Transport(client)
            transport.add_server_key(self._key)
            transport.start_server(event=threading.Event(), server=self.rules)
            self._transports.append(transport)


@pytest.mark.parametrize("key_first", [False, True], ids=["passcode alone", "passcode after a key"])
def test_a_one_time_password_is_asked_for_at_a_terminal_in_the_hosts_words(tmp_path: Path, key_first: bool) -> None:
    asked: list[tuple[str, bool]] = []

    def ask(text: str, shown: bool) -> str:
        asked.append((text, shown))
        return ONE_TIME

    with AskingHost(tmp_path, key_first=key_first) as host, through(host.config, ask=ask) as link:
        link.open()
        assert [link.exec(["true"], b"", 10) for _ in range(3)] == [b"in\n"] * 3
    assert asked == [("Site\nMobilePASS+\nPasscode: ", False)]


def test_a_wrong_one_time_password_is_sent_once_and_never_again(tmp_path: Path) -> None:
    with AskingHost(tmp_path) as host, through(host.config, ask=lambda text, shown: "000") as link:
        for _ in range(3):
            with pytest.raises(Refused, match="the answer was not accepted"):
                link.open()
        assert (host.rules.answers, host.connections) == (["000"], 1)


def test_without_a_terminal_no_prompt_is_answered_and_standard_input_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> str:
        raise AssertionError("standard input was read")

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr("sys.stdin.readline", read)
    with (
        AskingHost(tmp_path) as host,
        through(host.config) as link,
        pytest.raises(Refused, match="no terminal to ask on") as refused,
    ):
        link.open()
    assert host.rules.answers == []
    assert "-- login true" in refused.value.fix


def test_a_connection_that_broke_is_not_made_again_with_a_prompt_in_the_middle_of_the_work(tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(text: str, shown: bool) -> str:
        asked.append(text)
        return ONE_TIME

    with AskingHost(tmp_path) as host, through(host.config, ask=ask) as link:
        link.open()
        link.close()
        with pytest.raises(Refused):
            link.exec(["true"], b"", 10)
    assert len(asked) == 1
