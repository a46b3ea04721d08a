"""Commands through a ControlMaster that a person opened: never a connection of our own, and the truth about `sent`."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.cluster.observe import ObserveRequest, observe
from reconciler.cluster.ports import CommandFailed, LinkLost, Unreachable
from reconciler.cluster.sshconfig import Asked, Way
from reconciler.cluster.sshmaster import MasterTransport
from tests.cluster.sshd import Sshd, free_port
from tests.cluster.world import World, until


class Opened:
    """A master as a person opens it: the real ssh, in the background."""

    def __init__(self, sshd: Sshd, sockets: Path) -> None:
        self.sshd, self.sockets, self.config = sshd, sockets, configured(sshd, sockets)
        self.process = subprocess.Popen(
            ["ssh", "-F", str(self.config), "-o", "ControlMaster=yes", "-N", "login"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self.answers)

    def answers(self) -> bool:
        check = ["ssh", "-F", str(self.config), "-O", "check", "login"]
        return subprocess.run(check, capture_output=True, check=False).returncode == 0

    def kill(self) -> None:
        """The process is gone and its socket stays, as after a crash."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder with a short name: ssh puts a socket's path, and a suffix while it is made, into 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="cm-") as folder:
        yield Path(folder)


def configured(sshd: Sshd, folder: Path, extra: str = "") -> Path:
    return sshd.configure(extra=f"  ControlPath {folder}/cm-%C\n{extra}", name="master")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    with tempfile.TemporaryDirectory(prefix="cm-") as sockets, Sshd(tmp_path_factory.mktemp("m") / "sshd") as server:
        master = Opened(server, Path(sockets))
        yield master
        master.kill()


@pytest.fixture
def link(opened: Opened) -> MasterTransport:
    return MasterTransport(Way((Asked("login"),), config=opened.config))


def test_commands_go_through_the_persons_connection_and_leave_it_open(opened: Opened, link: MasterTransport) -> None:
    before = opened.sshd.logged("Connection from")
    for data in (b"\x00\xff any byte \n", b"x" * 3_000_000):
        assert link.exec(["cat"], data, 30) == data
    link.close()
    assert opened.answers()
    assert opened.sshd.logged("Connection from") == before


def test_the_manifests_folders_come_first_in_path(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "qstat").write_text("#!/bin/sh\necho the one of the manifest\n")
    (tmp_path / "qstat").chmod(0o755)
    link = MasterTransport(Way((Asked("login"),), (str(tmp_path),), opened.config))
    assert link.exec(["qstat"], b"", 10) == b"the one of the manifest\n"


def test_a_look_is_one_command_through_the_master(opened: Opened, world: World) -> None:
    before = opened.sshd.logged("Starting session: command")
    link = MasterTransport(Way((Asked("login"),), (str(world.top / "bin"),), opened.config))
    seen = observe(link, ObserveRequest(str(world.workspace), "demo"))
    assert (seen.jobs, seen.receipts) == ((), ())
    assert opened.sshd.logged("Starting session: command") == before + 1


def test_a_status_is_the_commands_own_and_255_is_unknown(link: MasterTransport) -> None:
    with pytest.raises(CommandFailed, match=r"(?s)^sh ended with status 3 on login: .*why$") as failed:
        link.exec(["sh", "-c", "echo out; echo why >&2; exit 3"], b"", 10)
    assert (failed.value.status, failed.value.output) == (3, b"out\n")
    for script in ("exit 255", "kill -KILL $$"):
        with pytest.raises(LinkLost) as lost:
            link.exec(["sh", "-c", script], b"", 10)
        assert lost.value.sent


def test_a_command_that_does_not_end_is_left_at_its_deadline(link: MasterTransport) -> None:
    began = time.monotonic()
    for script in ("sleep 20", "exec >&- 2>&-; sleep 20"):
        with pytest.raises(LinkLost, match="within 1 s") as lost:
            link.exec(["sh", "-c", script], b"", 1.0)
        assert lost.value.sent
    assert time.monotonic() - began < 5


# --- No master --------------------------------------------------------------------------------------------------------


def test_without_a_master_nothing_is_sent_and_no_login_is_tried_even_with_a_good_key(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd") as server:
        config = configured(server, tmp_path)
        link = MasterTransport(Way((Asked("login", "me", server.port),), config=config))
        for attempt in (link.open, lambda: link.exec(["true"], b"", 10)):
            with pytest.raises(Unreachable, match="No ControlMaster connection is open") as gone:
                attempt()
            assert "Nothing was sent" in gone.value.message
            assert f"ssh -F {config} -o ControlMaster=yes" in gone.value.fix
            assert f"-fN -p {server.port} -l me -- login" in gone.value.fix
        assert server.logged("Connection from") == 0


def test_a_master_that_dies_between_the_check_and_the_command_is_not_replaced_by_a_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sshd(tmp_path / "sshd") as server:
        link = MasterTransport(Way((Asked("login"),), config=configured(server, tmp_path)))
        monkeypatch.setattr(link, "_trouble", lambda host: "")
        with pytest.raises(LinkLost):
            link.exec(["touch", str(tmp_path / "ran")], b"", 10)
        assert server.logged("Connection from") == 0
    assert not (tmp_path / "ran").exists()


def test_a_master_killed_while_a_command_runs_is_sent_and_the_next_command_says_that_it_is_gone(
    tmp_path: Path, sockets: Path
) -> None:
    with Sshd(tmp_path / "sshd") as server:
        master = Opened(server, sockets)
        link = MasterTransport(Way((Asked("login"),), config=master.config))
        threading.Timer(0.5, master.kill).start()
        with pytest.raises(LinkLost) as lost:
            link.exec(["sh", "-c", f"touch {tmp_path}/ran; sleep 5"], b"", 20)
        assert lost.value.sent and (tmp_path / "ran").exists()
        with pytest.raises(Unreachable, match=r"refused|No such file"):
            link.exec(["true"], b"", 10)


def test_a_configuration_without_a_control_path_says_what_to_add(opened: Opened) -> None:
    link = MasterTransport(Way((Asked("login"),), config=opened.sshd.config))
    with pytest.raises(Unreachable, match="names no ControlPath") as missing:
        link.open()
    assert "ControlPath ~/.ssh/master-%C" in missing.value.fix


def test_another_login_nodes_master_does_as_well(opened: Opened, tmp_path: Path) -> None:
    config = tmp_path / "config"
    other = f"Host other\n  HostName 127.0.0.1\n  Port {free_port()}\n  ControlPath {tmp_path}/none\n"
    config.write_text(opened.config.read_text() + other)
    link = MasterTransport(Way((Asked("other"), Asked("login")), config=config))
    assert link.exec(["echo", "in"], b"", 10) == b"in\n"
    assert link.host == "login"


def test_a_proxy_jump_does_not_change_which_socket_is_used(opened: Opened, tmp_path: Path) -> None:
    """ControlPath's %C may depend on the jump host, and the way to keep ssh from logging in replaces that."""
    config = tmp_path / "config"
    config.write_text(opened.config.read_text() + "  ProxyJump nowhere.invalid\n")
    shown = subprocess.run(["ssh", "-G", "-F", str(config), "login"], capture_output=True, text=True, check=True).stdout
    socket = next(line.split(" ", 1)[1] for line in shown.splitlines() if line.startswith("controlpath "))
    assert Path(socket).parent == opened.sockets
    if not Path(socket).exists():  # where %C does hold the jump host
        Path(socket).symlink_to(next(opened.sockets.glob("cm-*")))
    assert MasterTransport(Way((Asked("login"),), config=config)).exec(["echo", "in"], b"", 10) == b"in\n"
