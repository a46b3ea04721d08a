"""What people write, or others in their name: manifests, data lists, launch scripts, ssh settings, saved plans."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from pathlib import Path

from reconciler.cli import machine
from reconciler.cli.problems import as_data, render
from reconciler.cluster import knownhosts
from reconciler.cluster.ports import Unreachable
from reconciler.cluster.sshconfig import Asked, parse
from reconciler.domain.loading import load
from reconciler.launcher.scriptreader import NoCall, Unreadable, read_script
from reconciler.launcher.traps import judge as lint
from reconciler.model.listreader import BadList, parse_list
from reconciler.planner.checks import judge
from reconciler.planner.desired import Desired
from reconciler.planner.planner import plan
from tests.fuzz.engine import Target
from tests.planner.world import MANIFESTS, SITE, World, after

ROOT = Path(__file__).parent.parent.parent


def manifest_seeds() -> Iterator[bytes]:
    yield "\n---\n".join(path.read_text() for path in sorted(MANIFESTS.glob("*.yaml"))).encode()
    for path in sorted((ROOT / "manifests").glob("*/*.yaml")):
        yield path.read_bytes()


def manifests(data: bytes) -> Hashable:
    """Problems or values, and values can be planned with."""
    loaded = load([("x.yaml", data)])
    shown = render(loaded.problems, loaded.texts)
    json.dumps([as_data(problem) for problem in loaded.problems])
    assert all(character.isprintable() or character == "\n" for character in shown)
    if loaded.ok:
        for campaign in loaded.catalog.campaigns:
            desired = Desired(loaded.catalog, campaign, "c" * 40, False, SITE)
            judge(plan(desired, World(desired).look()), World(desired).look())
    return frozenset(problem.code for problem in loaded.problems)


def list_seeds() -> Iterator[bytes]:
    for path in sorted((ROOT / "tests/data-lists/aurora").glob("*.txt")):
        yield path.read_bytes()[:4000]
    yield b"0.25 /data/a text\r\n.5e-3\tb.bin c # note\n\n1 x y z\n"


def data_lists(data: bytes) -> Hashable:
    """A list or problems; a list that was read sums up."""
    found: list[Hashable] = []
    for corpus in (None, "dolma"):
        parsed = parse_list(data.decode("utf-8", "replace"), default_corpus=corpus)
        if isinstance(parsed, BadList):
            assert parsed.problems
            found.append(frozenset(problem.code for problem in parsed.problems))
        else:
            assert len(parsed.data) > 0
            found.append(frozenset(notice.code for notice in parsed.notices))
    return tuple(found)


def script_seeds() -> Iterator[bytes]:
    for path in sorted((ROOT / "tests/cases/lint-script").glob("*/*.sh")):
        yield path.read_bytes()
    for path in sorted((ROOT / "tests/golden").rglob("*.pbs"))[:6]:
        yield path.read_bytes()


def scripts(data: bytes) -> Hashable:
    """Calls of the launcher and what is wrong with them, or why none can be read; nothing of the text is run."""
    try:
        script = read_script(data.decode("utf-8", "replace"))
        forecast = lint(script)
    except (NoCall, Unreadable) as refused:
        return type(refused).__name__
    return frozenset(finding.code for finding in forecast.findings)


SSH_G = b"""user ada
hostname login.example.org
port 22
identityfile ~/.ssh/id_ed25519
identityagent none
identitiesonly yes
userknownhostsfile ~/.ssh/known_hosts "/a b/known"
globalknownhostsfile /etc/ssh/ssh_known_hosts
proxyjump ada@[::1]:22,bastion:2222
connecttimeout 10
"""


def ssh_configurations(data: bytes) -> Hashable:
    """An endpoint, or Unreachable with what is wrong."""
    try:
        endpoint = parse(data.decode("utf-8", "replace"), Asked("polaris"))
    except Unreachable as refused:
        return str(refused)[:40]
    return (len(endpoint.jumps), endpoint.use_agent, endpoint.only_identities, endpoint.port)


KEY = b"AAAAC3NzaC1lZDI1NTE5AAAAIJZ1b3ZtV2VhcmVOb3RBUmVhbEtleUJ1dEFUZXN0MTIz"


def known_hosts(data: bytes) -> Hashable:
    """Entries and a judgement; no line can make a host known whose key it does not hold."""
    about = knownhosts.of_host(knownhosts.entries(data.decode("utf-8", "replace"), Path("x")), "login1")
    judgement, _ = knownhosts.judge(about, b"the key of somebody else, never in any file")
    assert judgement is not knownhosts.Judgement.KNOWN
    return judgement, len(about)


def plan_seeds() -> Iterator[bytes]:
    made = after(1).plan()
    yield machine.plan_json(made, {"x": "#!/bin/sh\n"}).encode()


def saved_plans(data: bytes) -> Hashable:
    """A plan with its seal, or NotAPlan."""
    try:
        campaign, digest, facts = machine.saved_plan(data.decode("utf-8", "replace"))
    except machine.NotAPlan as refused:
        return str(refused)[:30]
    return campaign, digest, len(facts)


TARGETS = (
    Target(
        "manifests",
        "any file gives problems or values, nothing else",
        manifest_seeds,
        manifests,
        (
            b"---\n",
            b"&a ",
            b"*a",
            b"!!python/object:os.system ",
            b"<<: ",
            b"apiVersion: cpt/v1\n",
            b"kind: Stage\n",
            b"? ",
            b": ",
            b"- ",
            b"|\n",
            b">-\n",
            b"4T",
            b"lrMax/5",
            b"5%",
            b"6h",
            b"{",
            b"[",
            b"%YAML 1.1\n",
        ),
    ),
    Target(
        "data-lists",
        "any text gives a list or problems",
        list_seeds,
        data_lists,
        (b"1e-99 ", b"0 ", b".bin ", b"../", b"~/"),
    ),
    Target(
        "scripts",
        "any text gives calls or the reason for none",
        script_seeds,
        scripts,
        (
            b"bash train_alcf.sh ",
            b"$((",
            b"))",
            b"<<EOF\n",
            b"for i in ",
            b"; do ",
            b"done\n",
            b"${x:-",
            b"export ",
            b"A=(",
            b"case x in ",
            b"esac",
            b"$(",
            b"`",
            b"#PBS -l select=",
            b"while true; do ",
            b"fi\n",
            b"if ",
            b"x() {\n",
        ),
    ),
    Target(
        "ssh-config",
        "whatever ssh -G prints gives an endpoint or Unreachable",
        lambda: iter([SSH_G]),
        ssh_configurations,
        (b"port ", b"proxyjump ", b"proxycommand x", b'"', b"~nobody-here/", b"connecttimeout ", b"none"),
    ),
    Target(
        "known-hosts",
        "no file makes a key known that it does not hold",
        lambda: iter([b"login1 ssh-ed25519 " + KEY + b"\n|1|abc=|def=| ssh-rsa AAAA\n@revoked * ssh-rsa AAAA\n"]),
        known_hosts,
        (b"|1|", b"@revoked ", b"@cert-authority ", b"*,", b"!login1,", b"[login1]:22 ", b"?"),
    ),
    Target(
        "saved-plans",
        "any file gives a sealed plan or NotAPlan",
        plan_seeds,
        saved_plans,
        (b"[" * 3000, b'{"a":' * 3000),
    ),
)
