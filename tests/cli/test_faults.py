"""Every code by which a command stops has a case here that brings it about, by the real command or adapter."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from reconciler import loop
from reconciler.cli import connecting, main, telling
from reconciler.cli.machine import plan_json
from reconciler.cli.notifying import Notifying
from reconciler.cli.opening import Opened, open_campaign
from reconciler.cli.proposing import Proposing
from reconciler.cluster.batch import Batch
from reconciler.cluster.execute import execute
from reconciler.cluster.pace import SharedPace
from reconciler.cluster.ports import ClusterError
from reconciler.cluster.process import ProcessTransport, SystemClock
from reconciler.model.authority import Strayed
from reconciler.model.faults import Fault
from reconciler.planner import ancestry, facts
from reconciler.record.recorder import Recorder
from tests.cluster import test_ssh_login as ssh
from tests.cluster.sshd import Sshd, make_key
from tests.cluster.sshproxy import Proxy
from tests.cluster.test_observe import Says
from tests.planner.test_adopted import adopting
from tests.planner.test_advice import at_rate
from tests.planner.test_forecast import DECLARED, TIGHT
from tests.planner.test_reasons import forgot
from tests.planner.test_steps import without_checkpoints
from tests.planner.world import MANIFESTS, World, after, quickstart, swapped
from tests.record.repositories import git

ROOT = Path(__file__).parents[2]


@dataclass
class Place:
    """Where a case happens: a repository with the quickstart, and what a person sees there."""

    root: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def says(self, *arguments: str) -> str:
        """What `reconcile` says on standard error; it must not end well."""
        self.monkeypatch.chdir(self.root)
        self.monkeypatch.setattr(sys, "argv", ["reconcile", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.main()
        assert ended.value.code not in (0, None)
        return self.told()

    def told(self) -> str:
        return self.capsys.readouterr().err

    def looking(self, seen: loop.Look) -> None:
        """The cluster, as a look finds it."""
        self.monkeypatch.setattr("reconciler.cli.apply.connect", lambda opened: None)
        self.monkeypatch.setattr(loop, "look", lambda *_, by: seen)

    def commit(self, name: str, edit: Callable[[str], str]) -> None:
        """Edit a manifest, and commit it."""
        file = self.root / "manifests" / name
        file.write_text(edit(file.read_text()))
        git(self.root, "commit", "-q", "-a", "-m", "An edit")

    def refused(self, world: World) -> str:
        """What a plan of this world is refused for."""
        observed = world.look()
        return "\n".join(str(told) for told in loop.planned(world.desired, observed, by=None).plan.refusals)

    def stopped(self, work: Callable[[], object]) -> str:
        """What a person is told when this fails between here and the cluster."""
        with pytest.raises(ClusterError) as error:
            work()
        with pytest.raises(SystemExit):
            telling.fail_at(error.value)
        return self.told()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    git(root, "init", "-q", "-b", "main")
    shutil.copytree(MANIFESTS, root / "manifests")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "The plan")
    return root


@pytest.fixture
def place(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Place]:
    root = tmp_path / "repository"
    shutil.copytree(template, root)
    yield Place(root, monkeypatch, capsys)


# --- the cases


def looked(world: World) -> loop.Look:
    return loop.Look(world.look(), world.plan())


def without_terminal(place: Place) -> str:
    place.looking(looked(World(quickstart())))
    return place.says("apply", "quickstart")


def changed_plan(place: Place) -> str:
    (place.root / "next.plan").write_text(plan_json(World(quickstart()).plan(), {}))
    place.looking(looked(after(1)))
    return place.says("apply", "next.plan", "--yes")


def unchanged(place: Place) -> str:
    place.looking(looked(World(quickstart())))
    return place.says("apply", "quickstart", "--unchanged")


def several(place: Place) -> str:
    return place.says("plan", "-f", str(ROOT / "manifests"))


def unapproved(place: Place) -> str:
    """A rule of the campaign, and a commit that nobody has signed."""
    place.commit("campaign.yaml", lambda text: text.replace("  bounds:", "  authority: {signed: true}\n  bounds:"))
    place.monkeypatch.chdir(place.root)
    world = World(open_campaign((), "quickstart").desired)
    place.monkeypatch.setattr("reconciler.cli.apply.connect", lambda opened: None)
    place.monkeypatch.setattr(loop, "observe", lambda link, request: world.look())
    return place.says("apply", "quickstart", "--yes")


def nonsense_asked(place: Place) -> str:
    config = place.root.parent / "gitconfig"
    config.write_text("[reconcile]\nsigned = maybe\n")
    place.monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    return unapproved(place)


def rewritten(place: Place) -> str:
    """What was applied at a commit that the history has no more."""
    world = after(1)
    seen, strayed = looked(world), {"d" * 40: Strayed(here=False, known=True)}
    applied = {"d" * 40: {status.stage: status.attempt for status in seen.plan.stages[:1]}}
    place.looking(replace(seen, plan=ancestry.noted(seen.plan, applied, strayed)))
    return place.says("apply", "quickstart")


def lost(place: Place) -> str:
    """A done stage, and a filesystem that has its last checkpoint no more."""
    place.looking(looked(without_checkpoints(after(1), "stage-1")))
    return place.says("apply", "quickstart")


def full_disk(place: Place) -> str:
    def full() -> None:
        raise OSError(28, "No space left on device")

    place.monkeypatch.setattr("reconciler.cli.explain.families", full)
    return place.says("explain")


def outside(place: Place) -> str:
    shutil.rmtree(place.root / ".git")
    place.monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(place.root.parent))
    return place.says("plan")


def loose(place: Place) -> str:
    with (place.root / "manifests/campaign.yaml").open("a") as file:
        file.write("# one more line\n")
    return place.says("apply", "quickstart", "--yes")


def adopted_stage(place: Place) -> str:
    for path in (place.root / "manifests").iterdir():
        path.write_text(adopting()(path.read_text()))
    return place.says("render", "quickstart/stage-1")


def record_differs(place: Place) -> str:
    world = World(quickstart())
    kept = loop.Recording(Recorder(place.root, "here"), facts.Applied("c" * 40, False, "", "", "", {}, {}, ""))
    apart = facts.Apart("stage-1/0123", "is on record, and not on the cluster")
    place.monkeypatch.setattr(facts, "gone", lambda *_: [apart])
    return "\n".join(str(told) for told in loop.record(world.desired, loop.Pass(looked(world), ()), kept).told)


def record_not_kept(place: Place) -> str:
    shutil.rmtree(place.root / ".git")
    return "\n".join(str(told) for told in Recorder(place.root, "here").close())


def not_proposed(place: Place) -> str:
    place.commit("campaign.yaml", lambda text: text.replace("onFailedGate: advance", "onFailedGate: propose"))
    place.monkeypatch.chdir(place.root)
    opened: Opened = open_campaign((), "quickstart")
    world = forgot(1, ("onFailedGate: advance", "onFailedGate: propose"))
    dirty = replace(opened, desired=replace(opened.desired, dirty=True))
    Proposing(dirty, None).follow(looked(world.wanting(dirty.desired)))
    return place.told()


def not_told(place: Place) -> str:
    """A command that takes no notice, and a stage that is held."""
    place.commit("stages.yaml", lambda text: text.replace("  source: random", "  source: random\n  suspend: true"))
    place.monkeypatch.chdir(place.root)
    opened = open_campaign((), "quickstart")
    Notifying(opened, "false", None).follow(looked(World(opened.desired)))
    return place.told()


def against_rules(place: Place) -> str:
    world = after(1)
    at_rate(world, "stage-1", 4e-5)
    return place.refused(world)


def twice(place: Place) -> str:
    """A planner that has gone wrong; those who judge it have not."""
    made = World(quickstart()).plan()
    place.monkeypatch.setattr(loop, "plan", lambda *_: replace(made, actions=made.actions * 2))
    return place.refused(World(quickstart()))


def other_script(place: Place) -> str:
    """A template of one's own that sets what wins over the recipe."""
    from tests.launcher.test_refusal import with_launcher

    return place.refused(World(with_launcher(place.root, "export TRAIN_TOKENS=1000000000")))


def untrusted(place: Place) -> str:
    with Sshd(place.root.parent / "sshd") as sshd:
        sshd.known_hosts.write_text("")
        with ssh.through(sshd.config) as link:
            return place.stopped(lambda: link.exec(["true"], b"", 10))


def not_let_in(place: Place) -> str:
    wrong = make_key(place.root.parent / "wrong")
    with Sshd(place.root.parent / "sshd") as sshd, ssh.through(sshd.configure(key=wrong)) as link:
        return place.stopped(lambda: link.exec(["true"], b"", 10))


def turned_away(place: Place) -> str:
    place.monkeypatch.setattr("reconciler.cluster.ssh.BUSY_TRIES", 1)
    with Sshd(place.root.parent / "sshd") as sshd, Proxy(sshd.port) as proxy:
        proxy.accepting = False
        sshd.know(proxy.port)
        with ssh.through(sshd.configure(port=proxy.port)) as link:
            return place.stopped(lambda: link.exec(["true"], b"", 10))


def asked(place: Place, link: Any) -> str:
    batch = Batch("/w", "demo", "ada@laptop:1", "c" * 40, False, (), "{}")
    return place.stopped(lambda: execute(link, batch))


def adopted_nothing(place: Place) -> str:
    """A login node, which is this machine; the agent looks for real."""
    cluster = re.sub(
        r"transport: \{[^}]*\}[^\n]*", "transport: {kind: login-node}", (MANIFESTS / "cluster.yaml").read_text()
    )
    (place.root / "manifests/cluster.yaml").write_text(
        re.sub(r"(workspace|checkout): (\w+)", r"\1: /nowhere/\2", cluster)
    )
    place.monkeypatch.setenv("XDG_RUNTIME_DIR", str(place.root))
    return place.says("adopt", "/nowhere/at/all", "--cluster", "local")


def own_pace(place: Place) -> str:
    """A file in a place that is no folder."""
    SharedPace(place.root / "manifests/campaign.yaml/x", SystemClock(), connecting._warn).now(0.01)
    return place.told()


def process(timeout_s: float, *argv: str) -> Callable[[Place], str]:
    return lambda place: place.stopped(lambda: ProcessTransport(()).exec(argv, b"", timeout_s))


PROVOKED: dict[Fault, Callable[[Place], str]] = {
    Fault.WRONG_USAGE: lambda place: place.says("plan", "--nonsense"),
    Fault.NO_SUCH_NAME: lambda place: place.says("plan", "quickstrat"),
    Fault.NAME_NEEDED: several,
    Fault.NO_TERMINAL: without_terminal,
    Fault.NOT_WRITTEN: lambda place: place.says("schema", "--write", "manifests/campaign.yaml/x"),
    Fault.NOT_READABLE: lambda place: place.says("lint-script", "nowhere.sh"),
    Fault.SYSTEM_REFUSED: full_disk,
    Fault.MANIFESTS_FAULTY: lambda place: place.says("plan", "-f", "nowhere"),
    Fault.NO_REPOSITORY: outside,
    Fault.NOT_COMMITTED: loose,
    Fault.NO_SUCH_REVISION: lambda place: place.says("diff", "nowhere"),
    Fault.NOT_ON_RECORD: lambda place: place.says("history"),
    Fault.RECORD_DIFFERS: record_differs,
    Fault.RECORD_NOT_KEPT: record_not_kept,
    Fault.NOT_PROPOSED: not_proposed,
    Fault.NOT_TOLD: not_told,
    Fault.HISTORY_REWRITTEN: rewritten,
    Fault.CHECKPOINT_LOST: lost,
    Fault.NOT_APPROVED: unapproved,
    Fault.RULE_UNREADABLE: nonsense_asked,
    Fault.NOT_A_PLAN: lambda place: place.says("apply", "manifests/campaign.yaml"),
    Fault.PLAN_CHANGED: changed_plan,
    Fault.NOT_AS_APPLIED: unchanged,
    Fault.OVER_ALLOCATION: lambda place: place.refused(World(quickstart(swapped(DECLARED, TIGHT)))),
    Fault.AGAINST_RULES: against_rules,
    Fault.SCRIPT_DISAGREES: other_script,
    Fault.NO_SCRIPT: adopted_stage,
    Fault.NO_SPEED: lambda place: place.says("simulate"),
    Fault.NO_CALL: lambda place: place.says("lint-script", "manifests/campaign.yaml"),
    Fault.UNSOUND_PLAN: twice,
    Fault.UNREACHABLE: process(5, "no-such-program-at-all"),
    Fault.HOST_KEY_UNTRUSTED: untrusted,
    Fault.LOGIN_REFUSED: not_let_in,
    Fault.HOST_BUSY: turned_away,
    Fault.LINK_LOST: process(0.05, "sleep", "5"),
    Fault.COMMAND_FAILED: process(5, "false"),
    Fault.OUTCOME_UNKNOWN: lambda place: asked(place, Says({"answer": {}}, keep=0.9)),
    Fault.OVERTAKEN: lambda place: asked(place, Says({"answer": {"overtaken": True, "note": ""}})),
    Fault.LOCKED: lambda place: asked(
        place, Says({"locked": {"nonce": "abc123", "holder": "grace@x:9", "host": "x", "age": 90.0}})
    ),
    Fault.AGENT_FAILED: lambda place: asked(place, Says({"failed": "read-only file system"})),
    Fault.NO_LOCAL_CLUSTER: lambda place: place.says("plan", "quickstart"),
    Fault.PACE_NOT_SHARED: own_pace,
    Fault.NOT_ADOPTED: adopted_nothing,
    Fault.NOT_CONVERTED: lambda place: place.says("convert", "nowhere/global_step1"),
}


@pytest.mark.parametrize("fault", Fault, ids=str)
def test_every_fault_is_brought_about_and_told_with_its_code(fault: Fault, place: Place) -> None:
    assert fault in PROVOKED, "give this fault a case that brings it about, or take it away"
    assert f"[{fault}]" in PROVOKED[fault](place)
