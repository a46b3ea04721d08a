"""A person's ssh configuration and known_hosts files, read as ssh reads them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from reconciler.cluster import knownhosts, sshconfig
from reconciler.cluster.knownhosts import Judgement
from reconciler.cluster.ports import Unreachable
from reconciler.cluster.sshconfig import Asked
from tests.cluster.sshd import make_key

TEXT = """\
Include more
Host aurora polaris
    HostName login.%h.example.org
    User someone
    Port 2222
    IdentityFile ~/.ssh/site
    IdentityFile /keys/other
    IdentitiesOnly yes
    ProxyJump guest@bastion.example.org:2200,inner
    HostKeyAlias site
    UserKnownHostsFile /one /two
    ConnectTimeout 7
    IdentityAgent none
Match host plain
    User matched
Host commanded
    ProxyCommand nc %h %p
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "more").write_text("Host included\n    User from-include\n")
    path = tmp_path / "config"
    path.write_text(TEXT.replace("Include more", f"Include {tmp_path}/more"))
    return path


def test_everything_a_connection_needs_is_taken_from_the_configuration(config: Path) -> None:
    found = sshconfig.resolve(Asked("aurora"), config)
    assert (found.hostname, found.port, found.user) == ("login.aurora.example.org", 2222, "someone")
    assert found.identities == (Path("~/.ssh/site").expanduser(), Path("/keys/other"))
    assert found.only_identities and not found.use_agent
    assert found.jumps == (Asked("bastion.example.org", "guest", 2200), Asked("inner"))
    assert found.known_hosts[:2] == (Path("/one"), Path("/two"))
    assert found.host_key_name == "site"
    assert found.connect_timeout_s == 7.0


def test_the_manifests_user_and_port_come_before_the_configurations(config: Path) -> None:
    found = sshconfig.resolve(Asked("aurora", "other", 22), config)
    assert (found.user, found.port) == ("other", 22)


@pytest.mark.parametrize(("alias", "user"), [("included", "from-include"), ("plain", "matched")])
def test_include_and_match_are_followed(config: Path, alias: str, user: str) -> None:
    assert sshconfig.resolve(Asked(alias), config).user == user


def test_a_host_that_no_configuration_knows_is_taken_by_its_name(config: Path) -> None:
    found = sshconfig.resolve(Asked("login.example.org"), config)
    assert (found.hostname, found.port, found.host_key_name) == ("login.example.org", 22, "login.example.org")
    assert found.jumps == () and found.use_agent


def test_without_an_ssh_program_the_configuration_is_read_here(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_ssh = sshconfig.resolve(Asked("aurora"), config)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    config.write_text(config.read_text().replace("Include", "#"))
    without = sshconfig.resolve(Asked("aurora"), config)
    for name in ("hostname", "port", "user", "identities", "only_identities", "use_agent", "jumps", "host_key_alias"):
        assert getattr(without, name) == getattr(with_ssh, name), name


def test_a_proxy_command_is_refused_with_the_way_on(config: Path) -> None:
    with pytest.raises(Unreachable, match="ProxyCommand") as refused:
        sshconfig.resolve(Asked("commanded"), config)
    assert "ProxyJump" in refused.value.fix


def test_a_broken_configuration_is_shown_as_ssh_shows_it(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Host x\n    Prot 22\n")
    with pytest.raises(Unreachable, match="prot"):
        sshconfig.resolve(Asked("x"), tmp_path / "config")


@pytest.mark.parametrize("word", ["-oProxyCommand=id", "a b", "$(id)", "", "a;b", "a\nb"])
def test_nothing_but_a_host_is_taken_for_a_host(word: str, config: Path) -> None:
    with pytest.raises(Unreachable, match="not the name"):
        sshconfig.resolve(Asked(word), config)
    with pytest.raises(Unreachable, match="not the name"):
        sshconfig.resolve(Asked("aurora", user=word), config)


@pytest.mark.parametrize(
    ("value", "hops"),
    [
        pytest.param("jump", (Asked("jump"),), id="a name"),
        pytest.param("me@jump:2200", (Asked("jump", "me", 2200),), id="user and port"),
        pytest.param("[fe80::1]:22,fe80::2", (Asked("fe80::1", None, 22), Asked("fe80::2")), id="IPv6"),
        pytest.param("ssh://me@jump:2200", (Asked("jump", "me", 2200),), id="URI"),
        pytest.param("none", (), id="none"),
    ],
)
def test_proxy_jump(value: str, hops: tuple[Asked, ...]) -> None:
    assert sshconfig.parse(f"hostname h\nproxyjump {value}\n", Asked("h")).jumps == hops


# --- known_hosts ------------------------------------------------------------------------------------------------------

KEY, OTHER = "QUFBQQ==", "QkJCQg=="
HERE = Path("known_hosts")


@pytest.mark.parametrize(
    ("text", "host", "judgement"),
    [
        pytest.param(f"login ssh-ed25519 {KEY}", "login", Judgement.KNOWN, id="the key on file"),
        pytest.param(f"LOGIN ssh-ed25519 {KEY}", "Login", Judgement.KNOWN, id="case does not count"),
        pytest.param(f"a,login,b ssh-ed25519 {KEY} me@here", "login", Judgement.KNOWN, id="several names, a comment"),
        pytest.param(f"*.site.org ssh-ed25519 {KEY}", "l1.site.org", Judgement.KNOWN, id="wildcard"),
        pytest.param(f"*.org,!l1.* ssh-ed25519 {KEY}", "l1.site.org", Judgement.UNKNOWN, id="excluded by !"),
        pytest.param(f"[login]:2222 ssh-ed25519 {KEY}", "[login]:2222", Judgement.KNOWN, id="port"),
        pytest.param(f"login ssh-ed25519 {KEY}", "[login]:2222", Judgement.UNKNOWN, id="another port is another host"),
        pytest.param(f"[lo]:22 ssh-ed25519 {KEY}", "l:22", Judgement.UNKNOWN, id="brackets are not wild"),
        pytest.param(f"login ssh-ed25519 {OTHER}", "login", Judgement.CHANGED, id="another key on file"),
        pytest.param(
            f"login ssh-rsa {OTHER}\nlogin ssh-ed25519 {KEY}", "login", Judgement.KNOWN, id="one of several keys"
        ),
        pytest.param(
            f"login ssh-ed25519 {KEY}\n@revoked * ssh-ed25519 {KEY}", "login", Judgement.REVOKED, id="revoked wins"
        ),
        pytest.param(f"@cert-authority * ssh-ed25519 {KEY}", "login", Judgement.UNKNOWN, id="authorities do not count"),
        pytest.param(f"#login ssh-ed25519 {KEY}\n\nlogin\nlogin x !!", "login", Judgement.UNKNOWN, id="no entries"),
        pytest.param("", "login", Judgement.UNKNOWN, id="empty file"),
    ],
)
def test_what_known_hosts_says_of_a_key(text: str, host: str, judgement: Judgement) -> None:
    about = knownhosts.of_host(knownhosts.entries(text, HERE), host)
    assert knownhosts.judge(about, b"AAAA")[0] is judgement


def test_hashed_names_are_found_as_ssh_keygen_writes_them(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key").with_suffix(".pub").read_text()
    file = tmp_path / "known_hosts"
    file.write_text(f"[login.example.org]:2222 {key}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert "login" not in file.read_text()
    known = knownhosts.read([file, tmp_path / "missing"])
    assert len(knownhosts.of_host(known, "[login.example.org]:2222")) == 1
    assert knownhosts.of_host(known, "login.example.org") == ()


def test_the_fingerprint_is_the_one_that_ssh_keygen_prints(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key").with_suffix(".pub")
    printed = subprocess.run(["ssh-keygen", "-l", "-f", str(key)], capture_output=True, text=True, check=True).stdout
    entry = knownhosts.entries(f"x {key.read_text()}", key)[0]
    assert knownhosts.fingerprint(entry.key) == printed.split()[1]
