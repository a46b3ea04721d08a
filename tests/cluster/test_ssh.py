"""Commands over a real sshd: what arrives, what an error says of what was sent, and that every wait ends."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.cluster import frames, loginshell, ssh
from reconciler.cluster.ports import CommandFailed, LinkLost, Unreachable
from reconciler.cluster.ssh import Asked, SshTransport, Way
from tests.cluster.sshd import Sshd
from tests.cluster.sshproxy import Direction, How, Proxy

BIG = 10 * 1000 * 1000


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def link(sshd: Sshd) -> Iterator[SshTransport]:
    with SshTransport(Way((Asked("login"),), config=sshd.config)) as transport:
        yield transport


@pytest.fixture
def proxy(sshd: Sshd) -> Iterator[Proxy]:
    with Proxy(sshd.port) as between:
        sshd.know(between.port)
        yield between


@pytest.fixture
def cut_link(sshd: Sshd, proxy: Proxy) -> Iterator[SshTransport]:
    """A link through the proxy."""
    config = sshd.configure(port=proxy.port, name="proxied")
    with SshTransport(Way((Asked("login"),), config=config)) as transport:
        yield transport


def test_standard_input_goes_there_and_standard_output_comes_back(link: SshTransport) -> None:
    assert link.exec(["cat"], b"\x00\xff any byte \n", 10) == b"\x00\xff any byte \n"


def test_ten_megabytes_each_way_at_once_do_not_deadlock(link: SshTransport) -> None:
    data = random.Random(1).randbytes(BIG)  # nothing that compression makes small
    assert link.exec(["sh", "-c", "tee /dev/stderr"], data, 60) == data


def test_ten_megabytes_on_standard_error_are_drained_and_only_the_end_is_kept(link: SshTransport) -> None:
    script = f"yes | head -c {BIG} >&2; echo told-last >&2; echo fine; exit 3"
    with pytest.raises(CommandFailed) as failed:
        link.exec(["sh", "-c", script], b"", 60)
    assert failed.value.status == 3
    assert failed.value.output == b"fine\n"
    assert failed.value.message.endswith("told-last")
    assert len(failed.value.message) < 1000


def test_a_command_that_reads_nothing_of_a_big_input_ends_all_the_same(link: SshTransport) -> None:
    assert link.exec(["echo", "done"], b"x" * BIG, 30) == b"done\n"


def test_a_child_left_behind_with_the_output_open_holds_nobody_up(link: SshTransport) -> None:
    began = time.monotonic()
    assert link.exec(["sh", "-c", "sleep 20 & echo started"], b"", 15) == b"started\n"
    assert time.monotonic() - began < 5


def test_more_output_than_any_answer_has_is_not_kept_in_memory(
    link: SshTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "OUTPUT_BYTES_MAX", 1000_000)
    with pytest.raises(LinkLost, match="more than 1000000 bytes") as lost:
        link.exec(["cat", "/dev/zero"], b"", 30)
    assert lost.value.sent


@pytest.mark.parametrize("status", [1, 71, 127, 255])
def test_a_status_other_than_0_is_the_commands_own_failure(link: SshTransport, status: int) -> None:
    with pytest.raises(CommandFailed) as failed:
        link.exec(["sh", "-c", f"echo why >&2; exit {status}"], b"", 10)
    assert (failed.value.status, "why" in failed.value.message) == (status, True)


def test_what_a_command_says_cannot_move_the_cursor(link: SshTransport) -> None:
    with pytest.raises(CommandFailed, match=r"said \?\[2Jthis"):
        link.exec(["awk", 'BEGIN { printf "said %c[2Jthis", 27 > "/dev/stderr"; exit 1 }'], b"", 10)


def test_a_command_killed_by_a_signal_has_no_status_so_its_outcome_is_unknown(link: SshTransport) -> None:
    with pytest.raises(LinkLost) as lost:
        link.exec(["sh", "-c", "echo 123.pbs; kill -KILL $$"], b"", 10)
    assert lost.value.sent


def test_what_a_login_shells_rc_file_prints_does_not_hide_a_framed_answer(sshd: Sshd, link: SshTransport) -> None:
    (sshd.home / ".bashrc").write_text("echo '* Maintenance on Monday *'; echo noise >&2\n")
    try:
        nonce = "5eed"
        received = link.exec(["cat"], frames.answer(b'{"answer": 1}', nonce), 10)
    finally:
        (sshd.home / ".bashrc").unlink()
    assert b"Maintenance" in received, "the login shell should have read its rc file"
    assert frames.decode(received, nonce) == {"answer": 1}


def test_many_commands_share_one_connection(sshd: Sshd, link: SshTransport) -> None:
    before = sshd.logged("Connection from")
    for number in range(15):  # more than sshd's MaxSessions: each channel is closed before the next
        assert link.exec(["echo", str(number)], b"", 10) == f"{number}\n".encode()
    assert sshd.logged("Connection from") == before + 1


NASTY = ["a b", "$HOME", "`id`", "$(id)", "it's", '"', "*", "~", "#", "^a^b", "-n", "ünïcode", "", "%s", "{a,b}", ";"]


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "tcsh", "fish"])
def test_words_reach_the_command_as_they_are_whatever_the_login_shell(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here; on Debian: apt-get install {shell}")
    line = loginshell.command_line(["printf", "<%s>", *NASTY], ("/opt/a b/bin",))
    done = subprocess.run([shell, "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == "".join(f"<{word}>" for word in NASTY)


def test_the_manifests_folders_come_first_in_path(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "qstat").write_text("#!/bin/sh\necho the one of the manifest\n")
    (tmp_path / "qstat").chmod(0o755)
    with SshTransport(Way((Asked("login"),), (str(tmp_path),), sshd.config)) as link:
        assert link.exec(["qstat"], b"", 10) == b"the one of the manifest\n"


@pytest.mark.parametrize("word", ["a\nid", "a\rb", "\x00", "!id", "\\"])
def test_what_some_login_shell_cannot_quote_is_refused_and_not_sent(link: SshTransport, word: str) -> None:
    with pytest.raises(ValueError, match="not every login shell can quote"):
        link.exec(["echo", word], b"", 10)


def test_the_agents_command_is_one_that_every_login_shell_can_quote() -> None:
    sent = frames.request(b"", {}, "5eed")
    assert loginshell.command_line(sent.argv, ())


# --- What `sent` says -------------------------------------------------------------------------------------------------


def test_no_listener_is_unreachable(sshd: Sshd, proxy: Proxy, cut_link: SshTransport) -> None:
    proxy.close()
    with pytest.raises(Unreachable, match="refused"):
        cut_link.exec(["true"], b"", 10)


def test_a_kept_connection_that_died_is_made_again_and_the_command_runs_once(
    proxy: Proxy, cut_link: SshTransport, tmp_path: Path
) -> None:
    cut_link.open()
    proxy.cut()
    cut_link.exec(["sh", "-c", f"echo ran >> {tmp_path}/ran"], b"", 10)
    assert (tmp_path / "ran").read_text() == "ran\n"
    assert proxy.connections == 2


def test_a_kept_connection_that_died_and_cannot_be_made_again_sent_nothing(
    proxy: Proxy, cut_link: SshTransport
) -> None:
    cut_link.open()
    proxy.accepting = False
    proxy.cut()
    with pytest.raises(Unreachable):
        cut_link.exec(["true"], b"", 20)


def test_cut_while_the_command_runs_is_sent_and_seen_at_once(
    proxy: Proxy, cut_link: SshTransport, tmp_path: Path
) -> None:
    cut_link.open()
    threading.Timer(0.5, proxy.cut).start()
    began = time.monotonic()
    with pytest.raises(LinkLost) as lost:
        cut_link.exec(["sh", "-c", f"touch {tmp_path}/ran; echo 123.pbs; sleep 3"], b"", 30)
    assert lost.value.sent
    assert time.monotonic() - began < 2
    assert (tmp_path / "ran").exists()


def test_an_answer_that_is_cut_off_is_sent(proxy: Proxy, cut_link: SshTransport) -> None:
    cut_link.open()
    proxy.arm("down", 300_000)
    with pytest.raises(LinkLost) as lost:
        cut_link.exec(["head", "-c", "1000000", "/dev/urandom"], b"", 30)
    assert lost.value.sent


def test_the_next_command_after_a_cut_gets_a_connection_of_its_own(proxy: Proxy, cut_link: SshTransport) -> None:
    cut_link.open()
    proxy.arm("down", 300_000)
    with pytest.raises(LinkLost):
        cut_link.exec(["head", "-c", "1000000", "/dev/urandom"], b"", 30)
    proxy.heal()
    assert cut_link.exec(["echo", "again"], b"", 30) == b"again\n"


UP = [0, 20, 100, 200, 260, 320, 400, 800, 1600, 6000]
DOWN = [0, 40, 60, 100, 140, 180, 240]


@pytest.mark.parametrize("how", ["cut", "swallow"])
@pytest.mark.parametrize(
    ("direction", "count"), [*(("up", count) for count in UP), *(("down", count) for count in DOWN)]
)
def test_whatever_byte_the_link_fails_at_not_sent_means_not_run(
    proxy: Proxy, cut_link: SshTransport, tmp_path: Path, direction: Direction, count: int, how: How
) -> None:
    """The law of `sent`, held against what happened there: a command that ran was never called unsent."""
    cut_link.open()
    proxy.accepting = False
    proxy.arm(direction, count, how)
    began = time.monotonic()
    said_unsent = False
    try:
        cut_link.exec(
            ["sh", "-c", f"cat > {tmp_path}/got; touch {tmp_path}/ran"], random.Random(count).randbytes(4000), 0.5
        )
    except LinkLost as lost:
        said_unsent = not lost.sent
    except Unreachable:
        said_unsent = True
    assert time.monotonic() - began < 2
    time.sleep(0.1)
    assert not (said_unsent and (tmp_path / "ran").exists())
    if count == 0 and direction == "up":
        assert said_unsent, "no byte went out, and it should say so"


# --- Deadlines --------------------------------------------------------------------------------------------------------


def test_a_command_that_does_not_end_is_left_at_its_deadline(link: SshTransport) -> None:
    began = time.monotonic()
    with pytest.raises(LinkLost, match="within 1 s") as lost:
        link.exec(["sleep", "10"], b"", 1.0)
    assert lost.value.sent
    assert time.monotonic() - began < 2


def test_a_host_that_takes_connections_and_says_nothing_is_left_at_the_deadline(
    proxy: Proxy, cut_link: SshTransport
) -> None:
    proxy.swallow()
    began = time.monotonic()
    with pytest.raises(Unreachable):
        cut_link.exec(["true"], b"", 1.0)
    assert time.monotonic() - began < 2


def test_a_link_that_swallows_everything_is_noticed_long_before_the_deadline(
    proxy: Proxy, cut_link: SshTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "PULSE_S", 0.2)
    monkeypatch.setattr(ssh, "SILENCE_MAX_S", 1.0)
    cut_link.open()
    threading.Timer(0.5, proxy.swallow).start()
    began = time.monotonic()
    with pytest.raises(LinkLost, match="nothing was heard") as lost:
        cut_link.exec(["sleep", "30"], b"", 60)
    assert lost.value.sent
    assert time.monotonic() - began < 4


def test_a_quiet_command_on_a_living_link_may_take_its_time(
    link: SshTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "PULSE_S", 0.2)
    monkeypatch.setattr(ssh, "SILENCE_MAX_S", 1.0)
    assert link.exec(["sh", "-c", "sleep 2; echo late"], b"", 20) == b"late\n"


def test_nothing_is_left_running_here_after_close(sshd: Sshd) -> None:
    before = threading.active_count()
    for _ in range(3):
        with SshTransport(Way((Asked("login"),), config=sshd.config)) as link, contextlib.suppress(LinkLost):
            link.exec(["sleep", "5"], b"", 0.3)
    until = time.monotonic() + 3
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.05)
    assert threading.active_count() <= before
