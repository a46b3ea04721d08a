"""Proposals while a campaign is applied: made where a failed gate holds a stage, told once, let go when overtaken.

Nothing here stops a pass: what could not be made, pushed or opened is told, with what to do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import click

from reconciler import loop
from reconciler.cli.human import proposal as view
from reconciler.cli.keeping import shared
from reconciler.cli.opening import Opened
from reconciler.cli.telling import Once, fail
from reconciler.model.faults import Fault
from reconciler.model.message import coded
from reconciler.model.moving import NotMoved, moved_to_top
from reconciler.model.plan import Plan
from reconciler.model.status import Phase
from reconciler.planner.proposal import PREFIX, Proposal, overtaken, proposals
from reconciler.record import command
from reconciler.record.git import GitFailed
from reconciler.record.proposing import TRAILER, Branches, Came, Edit, Kept, NotPushed
from reconciler.record.repository import path_within

open_with_option = click.option(
    "--open-with",
    metavar="COMMAND",
    envvar="RECONCILE_OPEN_WITH",
    help="Opens a pull request for a proposal: 'gh pr create --head {branch} --title {title} --body-file {body}'.",
)
"""Whose command this is must be whoever applies: nothing in a repository can set it."""
OPEN_TIMEOUT_S: Final = 120.0


class Proposing:
    """Follows the looks of one `apply`."""

    def __init__(self, opened: Opened, open_with: str | None) -> None:
        self._opened, self._desired = opened, opened.desired
        self._prefix = PREFIX + f"{self._desired.campaign}/".replace(".", "-")
        self._words = words_given(open_with, "--open-with (RECONCILE_OPEN_WITH)")
        self._once = Once()
        self._settled: tuple[frozenset[str], tuple[Phase, ...]] | None = None
        """What was last followed: the remote is asked when something has changed, not at every look."""

    def follow(self, seen: loop.Look) -> None:
        """Propose what a look asks for, and take away what it has left behind."""
        try:
            for told in self._follow(seen):
                self._once.say(told)
        except (GitFailed, NotPushed, OSError) as failed:
            self._once.say(_not(f"{failed}; the next apply tries again"))

    def _follow(self, seen: loop.Look) -> Iterator[str]:
        wanted = proposals(self._desired, seen.observed, seen.plan)
        if seen.plan.approval.missing:
            return  # nothing is made of a commit that nobody has approved
        if self._desired.dirty:
            if wanted:
                yield _not("nothing is proposed from manifests that no commit holds")
            return
        found = (frozenset(each.branch for each in wanted), tuple(status.phase for status in seen.plan.stages))
        if found == self._settled:
            return
        self._settled = found
        branches = Branches(self._opened.revision.root, self._prefix, shared=shared(self._desired))
        if self._desired.spec.on_failed_gate != "propose" and not branches.known():
            return
        try:
            kept = branches.ask()
        except NotPushed as unknown:
            yield _not(str(unknown))
            kept = branches.known()
        for proposal in wanted:
            yield from self._propose(branches, proposal, kept.get(proposal.branch, Kept()), seen)
        yield from self._withdraw(branches, kept, seen.plan, wanted)

    def _propose(self, branches: Branches, proposal: Proposal, kept: Kept, seen: loop.Look) -> Iterator[str]:
        title, body = view.title(proposal), view.body(proposal, seen.observed)
        trailer = f"{TRAILER}{proposal.campaign}/{proposal.stage}"
        edited = partial(
            moved_to_top,
            campaign=proposal.campaign,
            stage=proposal.stage,
            strategy=proposal.strategy,
            unconditionally=proposal.unconditionally,
        )
        edit = Edit(proposal.branch, proposal.commit, self._path(proposal), edited, f"{title}\n\n{body}\n\n{trailer}")
        try:
            came = branches.propose(edit, kept)
        except NotMoved as not_moved:
            yield _not(f"{proposal.stage}: {proposal.strategy} is not proposed: {not_moved}. Move it by hand")
            return
        except NotPushed as not_pushed:
            told = f"{proposal.stage}: {proposal.strategy} is proposed, but {not_pushed}. By hand: {not_pushed.fix}"
            yield _not(told)
            return
        match came:
            case Came.MADE:
                yield f"{proposal.stage}: {proposal.strategy} is proposed on branch {proposal.branch}"
                yield self._opened_with(branches, proposal.branch, title, body)
            case Came.WAITS:
                yield f"{proposal.stage}: the proposal of {proposal.strategy} waits on branch {proposal.branch}"
            case Came.CLOSED:
                yield f"{proposal.stage}: the proposal of {proposal.strategy} was closed, and is not made again"

    def _opened_with(self, branches: Branches, branch: str, title: str, body: str) -> str:
        if not self._words or branches.remote is None:
            return f"to go on: {_by_hand(branches, branch)}"
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "body.md"
            text.write_text(body, encoding="utf-8")
            words = command.filled(self._words, {"branch": branch, "title": title, "body": str(text)})
            try:
                return f"pull request: {command.run(words, self._opened.revision.root, OPEN_TIMEOUT_S)}"
            except command.CommandFailed as not_opened:
                by_hand = _by_hand(branches, branch)
                return _not(f"the pull request could not be opened: {not_opened}. By hand: {by_hand}")

    def _withdraw(
        self, branches: Branches, kept: dict[str, Kept], plan: Plan, wanted: tuple[Proposal, ...]
    ) -> Iterator[str]:
        for branch, each in sorted(kept.items()):
            stage = branches.stage_of(branch, each, self._desired.revision)
            campaign, _, name = (stage or "").partition("/")
            if campaign == self._desired.campaign and overtaken(plan, name, branch, wanted):
                try:
                    if branches.withdraw(branch, each):
                        yield f"{name}: the manifests have moved on; branch {branch} was taken away"
                except NotPushed as not_pushed:
                    yield _not(f"{not_pushed}. By hand: {not_pushed.fix}")

    def _path(self, proposal: Proposal) -> str:
        return path_within(self._opened.revision.root, proposal.file)


def with_proposals(opened: Opened, seen: loop.Look) -> Plan:
    """The plan with the branch on which a stage's proposal waits, as far as this clone knows; asks nobody."""
    found = {each.stage: each.branch for each in proposals(opened.desired, seen.observed, seen.plan)}
    try:
        waiting = Branches(opened.revision.root, PREFIX).waiting() if found else frozenset()
    except GitFailed:
        waiting = frozenset()
    proposed = {stage: branch for stage, branch in found.items() if branch in waiting}
    stages = (replace(status, proposal=proposed.get(status.stage, "")) for status in seen.plan.stages)
    return replace(seen.plan, stages=tuple(stages)) if proposed else seen.plan


def words_given(given: str | None, option: str) -> tuple[str, ...]:
    """The words of a command that whoever applies has given; none for none."""
    try:
        return command.words_of(given) if given else ()
    except ValueError as error:
        fail(Fault.WRONG_USAGE, f"{option} is no command: {error}")


def _not(told: str) -> str:
    return coded(told, Fault.NOT_PROPOSED)


def _by_hand(branches: Branches, branch: str) -> str:
    """What a person runs to have it reviewed, or to take it."""
    if "github" in branches.url:
        return f"gh pr create --head {branch} --fill"
    if "gitlab" in branches.url:
        return f"glab mr create --source-branch {branch} --fill"
    return f"git merge {branch}" if branches.remote is None else f"git fetch && git merge {branches.remote}/{branch}"
