"""A rule of authority from the manifest to what is carried out: who cannot get round it, and what is told to whom."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler import loop
from reconciler.cli.provenance import Provenance
from reconciler.cluster.ports import Transport
from reconciler.model.observed import Unread
from reconciler.planner import drift
from reconciler.planner.desired import Desired
from tests.record.campaign import Cluster, live, planned, recording, wanted
from tests.record.keys import Person
from tests.record.repositories import clone, git, head
from tests.record.test_history import reconcile

RULE = "  authority: {signed: true}\n"
BOUNDS = "  bounds:\n"


def rewrite(root: Path, before: str, after: str) -> None:
    """An edit of the campaign's manifest; it is not committed."""
    file = next(path for path in (root / "manifests").glob("*.yaml") if before in path.read_text())
    file.write_text(file.read_text().replace(before, after, 1))
    git(root, "add", ".")


@pytest.fixture
def root(tmp_path: Path, person: Person) -> Path:
    """A campaign whose rule asks for Ada's signature, which it has."""
    root = planned(tmp_path / "repository")
    person.trusts(f"ada@example.org {person.public('ada')}")
    rewrite(root, BOUNDS, RULE + BOUNDS)
    person.commits(root, "ada", "Only signed commits from here")
    return root


def look(root: Path, applied: Desired | Unread | None, *, dirty: bool = False) -> tuple[Desired, loop.Look]:
    """What an apply at the commit of a repository finds, where something was applied before."""
    desired = replace(wanted(root), dirty=dirty)
    cluster = Cluster.of(root)
    text = drift.applied_text(applied) if isinstance(applied, Desired) else applied
    by = Provenance(root, [root / "manifests"], fetching=True)
    return desired, loop.planned(desired, replace(cluster.world.look(), applied=text), by=by)


def missing(seen: loop.Look) -> str:
    return "\n".join(each.what for each in seen.plan.approval.missing)


def test_what_is_signed_as_asked_is_approved_and_what_is_not_is_not_carried_out(root: Path) -> None:
    desired, seen = look(root, None)
    assert (missing(seen), seen.plan.stopped) == ("", False)
    git(root, "commit", "-q", "--allow-empty", "-m", "By nobody")
    desired, seen = look(root, desired)
    assert missing(seen) == (
        f"{head(root)[:9]} is not signed, and its manifest and what was last applied ask for a signed commit"
    )
    no_link: Transport = object()  # type: ignore[assignment]  # nothing must be sent
    assert seen.plan.actions
    assert loop.act(desired, no_link, seen).outcomes == ()
    assert loop.take(desired, no_link, seen).outcomes == ()
    assert loop.settled(seen)


def test_the_commit_that_takes_the_rule_out_has_to_keep_to_it(root: Path, person: Person) -> None:
    before = wanted(root)
    rewrite(root, RULE, "")
    git(root, "commit", "-q", "-m", "No more of that")
    assert "what was last applied asks for a signed commit" in missing(look(root, before)[1])
    git(root, "reset", "-q", "--soft", "HEAD~1")
    person.commits(root, "mallory", "No more of that")
    assert "which your git does not trust" in missing(look(root, before)[1])
    git(root, "reset", "-q", "--soft", "HEAD~1")
    person.commits(root, "ada", "No more of that")
    after, seen = look(root, before)
    assert missing(seen) == ""
    git(root, "commit", "-q", "--allow-empty", "-m", "By nobody")
    assert missing(look(root, after)[1]) == ""


def test_what_was_applied_without_a_commit_is_not_approved(root: Path) -> None:
    assert missing(look(root, None, dirty=True)[1]).startswith(
        "these manifests are in no commit, and its manifest asks"
    )


def test_what_was_last_applied_and_cannot_be_read_is_waited_for(root: Path) -> None:
    """Once, or until a person sees to it: a loop of weeks must not end by one look that failed."""
    desired, seen = look(root, Unread("the file system did not answer"))
    assert "the file system did not answer" in missing(seen)
    no_link: Transport = object()  # type: ignore[assignment]  # nothing must be sent
    assert loop.act(desired, no_link, seen).outcomes == ()
    assert not loop.settled(seen)


def test_a_campaign_that_moves_to_another_workspace_takes_its_rule_along(root: Path) -> None:
    """Nothing was applied there, so what the record knows of the campaign asks."""
    live(root, Cluster.of(root), 1)
    rewrite(root, RULE, "")
    git(root, "commit", "-q", "-m", "A new workspace")
    assert "the record of what was last applied asks for a signed commit" in missing(look(root, None)[1])


def test_a_plan_that_lacks_an_approval_can_be_reviewed_and_is_the_same_plan(root: Path) -> None:
    live(root, Cluster.of(root), 1)
    before = wanted(root)
    git(root, "commit", "-q", "--allow-empty", "-m", "By nobody")
    assert missing(look(root, before)[1])
    text = reconcile(root, "plan", "--at", "HEAD", "--base", "HEAD~1", "--format", "markdown", "-o", "next.plan")
    assert "- before it is applied: " in text
    assert "is not signed, and its manifest and the record of what was last applied ask for a signed commit" in text
    assert (root / "next.plan").exists()


def test_who_vouched_for_an_attempt_is_on_record_and_told(root: Path, tmp_path: Path) -> None:
    cluster = Cluster.of(root)
    done = cluster.submit()
    approval = look(root, None)[1].plan.approval
    seen = replace(done.look, plan=replace(done.look.plan, approval=approval))
    loop.record(cluster.world.desired, replace(done, look=seen), recording(root, cluster.world.desired))
    told = reconcile(clone(tmp_path / "later", str(root)), "history")
    assert re.search(r"approved: signed by ada@example\.org with key SHA256:\S+", told)


def test_a_history_that_is_rewritten_under_a_done_stage_is_noticed_and_holds_nothing(
    root: Path, tmp_path: Path
) -> None:
    cluster = Cluster.of(root)
    live(root, cluster, 1)
    was = head(root)
    git(root, "commit", "-q", "--amend", "--allow-empty", "-m", "Signed by nobody, and another commit")
    assert "HistoryRewritten" not in reconcile(root, "status", "--at", "HEAD"), "the manifests are those of a commit"
    rewrite(root, RULE, RULE.replace("true", "true, reviewed: main"))
    git(root, "commit", "-q", "--amend", "-m", "Another plan")
    told = " ".join(reconcile(root, "status", "--at", "HEAD").split())
    assert re.search(
        rf"stage-1: HistoryRewritten: [0-9a-f]{{12}} was applied at {was[:9]}, not in the history of this", told
    )
    assert f"Its manifests are on record; `git tag applied-{was[:9]} {was[:9]}` keeps the commit" in told
    comment = reconcile(root, "plan", "--at", "HEAD", "--format", "markdown")
    assert f"was applied at {was[:9]}, not in the history of" in comment
    far = clone(tmp_path / "far", f"file://{root}", "--depth", "1", "--no-single-branch")
    told = reconcile(far, "status", "--at", "HEAD", "--conditions")
    assert "ShallowClone" in told
    assert "HistoryRewritten" not in told
