"""A failed gate under `propose`: a branch with the next rung on top, in real repositories with a real bare remote."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from reconciler import loop
from reconciler.cli import apply as apply_command
from reconciler.cli import status as status_command
from reconciler.cli.human import proposal as view
from reconciler.cli.keeping import shared
from reconciler.cli.opening import Opened
from reconciler.cli.proposing import Proposing, with_proposals
from reconciler.domain.loading import load
from reconciler.model.status import Phase, Reason
from reconciler.model.verdict import GateResult, Level
from reconciler.planner.desired import Desired
from reconciler.planner.planner import plan
from reconciler.planner.proposal import proposals
from reconciler.record.repository import Revision
from tests.planner.world import FORGOT_D0, World, after
from tests.record.campaign import SITE, planned, planned_by_several
from tests.record.repositories import bare, clone, git, state


def opened(root: Path) -> Opened:
    """A campaign as `apply` opens it."""
    files = [(str(path), path.read_bytes()) for path in sorted((root / "manifests").glob("*.yaml"))]
    loaded = load(files)
    assert loaded.ok, loaded.problems
    revision = Revision(root, git(root, "rev-parse", "HEAD").strip(), ())
    return Opened(Desired(loaded.catalog, "quickstart", revision.commit, False, SITE), revision, {})


@dataclass
class Place:
    """A remote, a clone of it, and a cluster on which the second stage's first strategy forgot."""

    hub: Path
    root: Path
    world: World

    def look(self, root: Path | None = None) -> loop.Look:
        at = self.world.wanting(opened(root or self.root).desired)
        return loop.Look(at.look(), plan(at.desired, at.look()))

    def apply(self, root: Path | None = None, open_with: str | None = None) -> None:
        """What one apply that has nothing else to do does with proposals."""
        Proposing(opened(root or self.root), open_with).follow(self.look(root))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World]:
    """A repository that says `propose`, and its cluster."""
    root = planned_by_several(tmp_path_factory.mktemp("told") / "repository")
    campaign = root / "manifests/campaign.yaml"
    campaign.write_text(campaign.read_text().replace("onFailedGate: advance", "onFailedGate: propose"))
    git(root, "commit", "-q", "-a", "-m", "A person decides")
    world = after(1, opened(root).desired)
    world.finish_stage(FORGOT_D0)
    return root, world


@pytest.fixture
def place(told: tuple[Path, World], tmp_path: Path) -> Place:
    hub = bare(tmp_path / "hub.git", told[0])
    return Place(hub, clone(tmp_path / "clone", str(hub)), told[1])


def branches(root: Path) -> list[str]:
    """Proposals in a repository, by plain git."""
    return git(root, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads/reconcile/propose/").split()


def move_on(root: Path) -> None:
    """A person edits the ladder by hand, and pushes."""
    stages = root / "manifests/stages.yaml"
    text = stages.read_text()
    naive = "    - name: naive\n      legs:\n        - mixture: {D1: 1}\n          lr: {shape: constant}\n"
    assert text.count(naive) == 1
    stages.write_text(text.replace(naive, ""))
    git(root, "commit", "-q", "-a", "-m", "Another way")
    git(root, "push", "-q", "origin", "HEAD:main")


def test_the_next_rung_goes_up_in_one_commit_that_is_pushed(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    before = state(place.root)
    place.apply()
    assert state(place.root) == before
    (branch,) = branches(place.hub)
    assert branch.startswith("reconcile/propose/quickstart/stage-2-")
    assert git(place.hub, "rev-parse", f"{branch}~1") == git(place.root, "rev-parse", "HEAD")
    assert git(place.hub, "diff", "--stat", f"{branch}~1", branch).count("|") == 1
    said = capsys.readouterr().err
    assert f"stage-2: replay-5 is proposed on branch {branch}" in said
    assert f"git merge origin/{branch}" in said


def test_the_message_holds_the_evidence(place: Place) -> None:
    place.apply()
    (branch,) = branches(place.hub)
    message = git(place.hub, "log", "-1", "--format=%B", branch)
    assert message.startswith("stage-2: replay-5 is next, since naive failed\n\n")
    for part in ("✗ forgetting: val-D0 +0.310", "val-D0  2.000 → 2.310  +0.310", "training loss of naive", "▁"):
        assert part in message
    assert "Reconcile-Stage: quickstart/stage-2" in message
    assert max(map(len, message.splitlines())) < 160


def test_a_verdict_that_a_cluster_made_up_is_text_of_a_bounded_length(place: Place) -> None:
    seen = place.look()
    (proposal,) = proposals(opened(place.root).desired, seen.observed, seen.plan)
    numbers = {f"n{number}\u202e": float(number) for number in range(4000)}
    gate = GateResult("forgetting\x1b[2J", Level.FAIL, "@everyone\n# Approved\n```\ud800" + "x" * 1900, numbers)
    made_up = replace(proposal, failures=tuple(replace(each, gates=(gate,) * 64) for each in proposal.failures))
    text = view.body(made_up, seen.observed)
    assert len(text) < 60_000
    assert text.encode()
    assert "\x1b" not in text and "\u202e" not in text
    assert all(line.startswith("    ") for line in text.splitlines() if "@everyone" in line or "Approved" in line)


def test_merging_it_goes_on(place: Place) -> None:
    assert [s.reason for s in place.look().plan.stages][1] is Reason.GATE_HOLDS
    place.apply()
    git(place.root, "merge", "-q", "--ff-only", branches(place.hub)[0])
    merged = place.look()
    assert merged.plan.stages[1].strategy == "replay-5"
    assert merged.plan.stages[1].phase is not Phase.HELD
    assert {action.key.stage for action in merged.plan.actions} == {"stage-2"}


def test_it_is_proposed_once_by_however_many_in_whatever_clone(place: Place, tmp_path: Path) -> None:
    place.apply()
    place.apply()
    commit = git(place.hub, "rev-parse", branches(place.hub)[0])
    runner = clone(tmp_path / "runner", f"file://{place.hub}", "--depth", "1", "--single-branch", "--branch", "main")
    git(runner, "checkout", "-q", "--detach")
    place.apply(runner)
    assert git(place.hub, "rev-parse", *branches(place.hub)) == commit
    assert branches(runner) == []


def test_a_runner_with_one_detached_commit_proposes(place: Place, tmp_path: Path) -> None:
    runner = clone(tmp_path / "runner", f"file://{place.hub}", "--depth", "1")
    git(runner, "checkout", "-q", "--detach")
    before = state(runner)
    place.apply(runner)
    assert (len(branches(place.hub)), state(runner)) == (1, before)


def test_a_linked_worktree_proposes_as_its_repository(place: Place, tmp_path: Path) -> None:
    git(place.root, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    before = state(place.root), state(tmp_path / "linked")
    place.apply(tmp_path / "linked")
    assert branches(place.hub) == branches(place.root) != []
    assert (state(place.root), state(tmp_path / "linked")) == before


def test_of_two_at_once_one_is_first_and_the_other_says_that_it_waits(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = clone(tmp_path / "other", str(place.hub))
    git(place.root, "remote", "set-url", "origin", "/nowhere")
    place.apply()  # made, and not pushed
    git(other, "config", "user.name", "Bo")
    place.apply(other)
    commit = git(place.hub, "rev-parse", *branches(place.hub))
    git(place.root, "remote", "set-url", "origin", str(place.hub))
    capsys.readouterr()
    place.apply()
    assert "waits on branch" in capsys.readouterr().err
    assert git(place.hub, "rev-parse", *branches(place.hub)) == commit


def test_a_remote_that_is_down_is_a_warning_with_the_command_and_tried_again(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    git(place.root, "remote", "set-url", "origin", "/nowhere")
    place.apply()
    (branch,) = branches(place.root)
    assert f"By hand: git push origin refs/heads/{branch}" in capsys.readouterr().err
    git(place.root, "remote", "set-url", "origin", str(place.hub))
    place.apply()
    assert branches(place.hub) == [branch]


def test_a_remote_that_refuses_by_a_hook_stops_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    hook = place.hub / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho 'only by review' >&2\nexit 1\n")
    hook.chmod(0o755)
    place.apply()
    assert branches(place.hub) == []
    assert "only by review" in capsys.readouterr().err


def test_what_somebody_closed_is_not_proposed_again(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.apply()
    git(place.hub, "update-ref", "-d", f"refs/heads/{branches(place.hub)[0]}")
    fresh = clone(tmp_path / "fresh", str(place.hub))
    for root in (place.root, fresh):
        capsys.readouterr()
        place.apply(root)
        assert "was closed, and is not made again" in capsys.readouterr().err
        assert branches(place.hub) == []


def test_without_a_remote_it_waits_here(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    git(place.root, "remote", "remove", "origin")
    place.apply()
    (branch,) = branches(place.root)
    assert f"git merge {branch}" in capsys.readouterr().err
    place.apply()
    assert branches(place.root) == [branch]


def test_status_says_on_which_branch_it_waits(place: Place, tmp_path: Path) -> None:
    assert with_proposals(opened(place.root), place.look()).stages[1].proposal == ""
    place.apply()
    (branch,) = branches(place.hub)
    for root in (place.root, clone(tmp_path / "other", str(place.hub))):
        assert with_proposals(opened(root), place.look(root)).stages[1].proposal == branch


# --- overtaken


@pytest.mark.parametrize("fresh", [False, True], ids=["where it was made", "in a fresh clone"])
def test_a_proposal_that_was_overtaken_is_taken_away(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, fresh: bool
) -> None:
    place.apply()
    (branch,) = branches(place.hub)
    move_on(place.root)
    root = clone(tmp_path / "fresh", str(place.hub)) if fresh else place.root
    place.apply(root)
    assert (branches(place.hub), branches(root)) == ([], [])
    assert f"branch {branch} was taken away" in capsys.readouterr().err


def test_a_proposal_that_somebody_worked_on_is_left_alone(place: Place, tmp_path: Path) -> None:
    place.apply()
    (branch,) = branches(place.hub)
    other = clone(tmp_path / "other", str(place.hub))
    git(other, "checkout", "-q", branch)
    git(other, "commit", "-q", "--allow-empty", "-m", "And this")
    git(other, "push", "-q", "origin", branch)
    move_on(place.root)
    place.apply()
    assert branches(place.hub) == [branch]


def test_a_mark_on_another_commit_takes_no_branch_away(place: Place) -> None:
    place.apply()
    (branch,) = branches(place.hub)
    other = "reconcile/propose/quickstart/stage-2-0123456789ab"
    main = git(place.hub, "rev-parse", "main").strip()
    git(place.hub, "update-ref", f"refs/heads/{other}", main)
    git(place.hub, "update-ref", f"refs/reconcile/proposed/{other}", main)
    git(place.hub, "update-ref", f"refs/reconcile/proposed/{branch}", main)
    git(place.root, "update-ref", f"refs/reconcile/proposed/{branch}", main)
    move_on(place.root)
    place.apply()
    assert branches(place.hub) == sorted([other, branch])


def test_a_proposal_that_is_checked_out_is_left_to_who_looks_at_it(place: Place) -> None:
    place.apply()
    (branch,) = branches(place.root)
    git(place.root, "worktree", "add", "-q", str(place.root.parent / "looking"), branch)
    move_on(place.root)
    place.apply()
    assert (branches(place.hub), branches(place.root)) == ([], [branch])


def test_an_older_commit_that_is_applied_takes_nothing_away(place: Place, tmp_path: Path) -> None:
    older = clone(tmp_path / "older", str(place.hub))
    git(place.root, "commit", "-q", "--allow-empty", "-m", "Later")
    git(place.root, "push", "-q", "origin", "HEAD:main")
    place.apply()
    campaign = older / "manifests/campaign.yaml"
    campaign.write_text(campaign.read_text().replace("onFailedGate: propose", "onFailedGate: advance"))
    git(older, "commit", "-q", "-a", "-m", "On a branch of its own")
    place.apply(older)
    assert len(branches(place.hub)) == 1


# --- the pull request


SHOW = """import pathlib, sys
pathlib.Path(sys.argv[1]).write_text(repr(sys.argv[2:4]) + pathlib.Path(sys.argv[4]).read_text())
print('PR 7')"""


def test_a_pull_request_is_opened_once_by_the_command_of_who_applies(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = tmp_path / "asked"
    command = f'{sys.executable} -c "{SHOW}" {asked} {{branch}} "--title={{title}}; touch x" {{body}}'
    place.apply(open_with=command)
    (branch,) = branches(place.hub)
    text = asked.read_text()
    assert text.startswith(repr([branch, "--title=stage-2: replay-5 is next, since naive failed; touch x"]))
    assert "✗ forgetting" in text
    assert "pull request: PR 7" in capsys.readouterr().err
    asked.unlink()
    place.apply(open_with=command)
    assert not asked.exists()


@pytest.mark.parametrize("command", ["false", "/nowhere/gh pr create"])
def test_a_command_that_fails_is_told_with_the_way_on(
    place: Place, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place.apply(open_with=command)
    said = capsys.readouterr().err
    assert "the pull request could not be opened" in said
    assert "By hand: git fetch && git merge origin/reconcile/propose/" in said


def test_nothing_in_the_repository_says_what_opens_a_pull_request_and_no_hook_runs(
    place: Place, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    for name in ("pre-push", "post-commit", "reference-transaction", "post-checkout", "pre-commit", "commit-msg"):
        hook = place.root / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\necho {name} >> {ran}\n")
        hook.chmod(0o755)
    for name in ("reconcile.openWith", "reconcile.open-with", "alias.push", "core.fsmonitor"):
        git(place.root, "config", name, f"touch {ran}")
    (place.root / ".env").write_text(f"RECONCILE_OPEN_WITH=touch {ran}\n")
    place.apply()
    assert len(branches(place.hub)) == 1
    assert not ran.exists()


def test_manifests_that_no_commit_holds_are_not_proposed_from(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    at = opened(place.root)
    Proposing(replace(at, desired=replace(at.desired, dirty=True)), None).follow(place.look())
    assert branches(place.root) == []
    assert "no commit holds" in capsys.readouterr().err


@pytest.mark.parametrize("policy", ["hold", "advance"])
def test_nothing_is_proposed_where_the_campaign_does_not_ask_for_it(place: Place, policy: str) -> None:
    campaign = place.root / "manifests/campaign.yaml"
    campaign.write_text(campaign.read_text().replace("onFailedGate: propose", f"onFailedGate: {policy}"))
    git(place.root, "commit", "-q", "-a", "-m", policy)
    place.apply()
    assert branches(place.root) == []


# --- the commands


@pytest.mark.parametrize("how", [(), ("--until-done",)], ids=["once", "until done"])
def test_apply_proposes_and_status_shows_it(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: tuple[str, ...]
) -> None:
    """The commands as they are, at the look of a cluster that was carried out by hand."""
    monkeypatch.setattr(loop, "look", lambda *_, **__: place.look())
    for module in (apply_command, status_command):
        monkeypatch.setattr(module, "connect", lambda _: None)
    asked, manifests = tmp_path / "asked", str(place.root / "manifests")
    arguments = ["quickstart", "-f", manifests, "--yes", *how, "--open-with", f"touch {asked}"]
    done = CliRunner().invoke(apply_command.apply, arguments, standalone_mode=False)
    (branch,) = branches(place.hub)
    assert f"replay-5 is proposed on branch {branch}" in done.output
    assert asked.exists()
    told = CliRunner().invoke(status_command.status, ["quickstart", "-f", manifests], standalone_mode=False)
    assert branch in told.output


def test_only_what_several_apply_to_is_shared(tmp_path: Path) -> None:
    """The record of a quickstart that somebody tries in a clone is nobody else's."""
    assert not shared(opened(planned(tmp_path / "alone")).desired)
    assert shared(opened(planned_by_several(tmp_path / "several")).desired)
