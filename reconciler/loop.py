"""One pass: look, plan, check, act. The only place that knows every port and the clock.

Nothing is kept between passes; a pass can be killed at any instruction and the next one carries on from evidence.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from reconciler.cluster.batch import Batch, BatchAction, Outcome, OutcomeKind
from reconciler.cluster.execute import execute
from reconciler.cluster.observe import ObserveRequest, observe
from reconciler.cluster.ports import Locked, OutcomeUnknown, Overtaken, Pace, Transport
from reconciler.cluster.render import render, templates_of
from reconciler.convert.layout import program_text
from reconciler.domain.catalog import every_source
from reconciler.launcher.agreement import agrees
from reconciler.model.authority import Authority, Demand, Strayed, Vouched
from reconciler.model.cluster import ClusterSpec, LocalTransport
from reconciler.model.faults import Fault
from reconciler.model.message import Message
from reconciler.model.observed import ListSeen, Observed, Unread, Wish
from reconciler.model.plan import Action, ActionKey, Plan
from reconciler.model.status import PASSING
from reconciler.model.templates import Templates, Unrenderable
from reconciler.planner import ancestry, authority, checks, drift, facts
from reconciler.planner.desired import Desired, Site
from reconciler.planner.facts import Apart, Applied
from reconciler.planner.planner import plan
from reconciler.record.forge import claimed

WINDOWS_PER_LOG = 64
"""How finely a job's log is summed up: enough to judge recovery and to draw."""
SCRIPTS_A_LOOK = 32
"""How many scripts that are not on record are asked for at once."""
LOCK_SUSPECT_S = 600.0
"""A batch takes seconds, minutes where qsub is slow: a lock that is older is shown with the way to take it away."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look and what the planner made of it."""

    observed: Observed
    plan: Plan


@dataclass(frozen=True, slots=True)
class Pass:
    """One look and what came of acting on it."""

    look: Look
    outcomes: tuple[Outcome, ...]
    unknown: str = ""
    """Set when a batch was sent and no whole answer came back: the next look tells what happened."""


def site_of(cluster: ClusterSpec, repository: Path, templates: Templates | None = None) -> Site:
    """Absolute folders on the cluster and the templates of its jobs, from its manifest and where the repository lies;
    `templates` are those of another commit.

    Raises:
        Unrenderable: a template of the repository is broken.
    """
    transport = cluster.transport
    root = str(repository / transport.root) if isinstance(transport, LocalTransport) else transport.root or ""

    def absolute(path: str) -> str:
        return path if path.startswith("/") or not root else f"{root}/{path}"

    templates = templates or templates_of(repository, cluster.launcher.templates)
    return Site(absolute(cluster.workspace), root, absolute(cluster.launcher.checkout), program_text(), templates)


class Keeps(Protocol):
    """Keeps the record of one campaign in one workspace."""

    @property
    def place(self) -> str:
        """Its folder on record."""

    def paths(self) -> Collection[str]:
        """What is on record."""

    def otherwise(self, files: Mapping[str, str]) -> Mapping[str, bytes]:
        """What is on record at the paths of these files, where that is another text."""

    def keep(self, files: Mapping[str, str]) -> tuple[Message, ...]:
        """Put files on record; returns what a person should know, each thing once."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Where a campaign's record is kept, and what is applied."""

    recorder: Keeps
    applied: Applied

    def wanted(self, desired: Desired) -> dict[str, str]:
        """Path on the cluster → path on record, of some scripts that are not on record and are asked for in a look."""
        recorder = self.recorder
        wanted = facts.scripts_wanted(recorder.paths(), desired, recorder.place)
        return dict(list(wanted.items())[:SCRIPTS_A_LOOK])


class Provenance(Protocol):
    """Where commits come from, as git, its remote and whoever applies tell."""

    def rules(self, campaign: str, *, first: bool) -> Sequence[tuple[str, Authority]]:
        """(who, in words; what they ask of every commit), of those that no commit can change. `first`: the cluster
        knows of no apply before, so it is asked what is known of others."""

    def vouched(self, commit: str, asked: Demand) -> Vouched:
        """What is known of a commit, of what is asked."""

    def strayed(self, head: str, commits: Iterable[str]) -> Mapping[str, Strayed]:
        """Those of some commits that are not in the history of `head`."""


def look(desired: Desired, link: Transport, also: Iterable[str] = (), *, by: Provenance | None) -> Look:
    """Observe everything in one exec, plan, and judge the plan by code that shares nothing with the planner.

    `also` are further files whose text is wanted, by absolute path. Without `by` nobody asks where the commit comes
    from.
    """
    request = ObserveRequest(
        workspace=desired.site.workspace,
        campaign=desired.campaign,
        lists=tuple(dict.fromkeys((*desired.asked_lists(), *also))),
        folders=desired.asked_folders(),
        logs=desired.asked_logs(),
        windows=WINDOWS_PER_LOG,
    )
    return planned(desired, observe(link, request), by=by)


def planned(desired: Desired, observed: Observed, *, by: Provenance | None) -> Look:
    """What the planner makes of a look, or of the record in its place, and what other code has against that; `by` tells
    where the commit comes from."""
    made = plan(desired, observed)
    refused = (
        *made.refusals,
        *checks.unsound(made, observed, every_source(desired.catalog)),
        *disagreements(desired, made.actions),
    )
    made = replace(made, refusals=refused) if refused else made
    return Look(observed, made if by is None else _judged(desired, observed, made, by))


def _judged(desired: Desired, observed: Observed, made: Plan, by: Provenance) -> Plan:
    """The plan with what approval its commit has, and with the stages that rest on commits which strayed."""
    rules = by.rules(desired.campaign, first=observed.applied is None)
    asked = authority.demand(desired, observed, rules)
    vouched = by.vouched(desired.revision, asked) if desired.revision and not desired.dirty else Vouched()
    made = replace(made, approval=authority.approval(asked, desired, vouched))
    applied = ancestry.applied_at(made, observed)
    return ancestry.noted(made, applied, by.strayed(desired.revision, applied)) if applied else made


def look_into(desired: Desired, link: Transport, folders: Iterable[str]) -> Observed:
    """A look that opens every complete checkpoint, of the campaign's attempts and of these folders; nothing else."""
    wishes = (Wish("all"), Wish("all", universal=True))
    request = ObserveRequest(
        workspace=desired.site.workspace,
        campaign=desired.campaign,
        folders=dict.fromkeys(folders, wishes),
        inside=True,
        windows=WINDOWS_PER_LOG,
    )
    return observe(link, request)


def act(desired: Desired, link: Transport, seen: Look) -> Pass:
    """Carry out the plan's actions in one exec, under the cluster's lock.

    A plan that is refused, or lacks an approval, is not acted on. When the answer is lost nothing is repeated: whatever
    ran is in the journal.
    """
    return Pass(seen, ()) if seen.plan.stopped or not seen.plan.actions else _send(desired, link, seen)


def take(desired: Desired, link: Transport, seen: Look) -> Pass:
    """Where a plan has nothing to do yet: have what is wanted taken as applied all the same."""
    return Pass(seen, ()) if seen.plan.stopped or seen.plan.actions else _send(desired, link, seen)


def _send(desired: Desired, link: Transport, seen: Look) -> Pass:
    batch = Batch(
        workspace=desired.site.workspace,
        campaign=desired.campaign,
        holder=f"{getpass.getuser()}@{socket.gethostname()}{claimed(os.environ)}:{os.getpid()}",
        commit=desired.revision,
        dirty=desired.dirty,
        actions=tuple(_batched(desired, action) for action in seen.plan.actions),
        applied=drift.applied_text(desired),
        applied_seen=_seen(seen.observed.applied),
    )
    try:
        return Pass(seen, execute(link, batch))
    except OutcomeUnknown as unknown:
        return Pass(seen, (), str(unknown))
    except Overtaken as overtaken:
        # What was approved was so by another rule; the next look tells what is in force now.
        return Pass(seen, (), str(overtaken))
    except Locked as held:
        # Another reconciler is at work; the next look tells what is left to do.
        patient = held.lock.age_s < LOCK_SUSPECT_S
        way_on = "" if patient else f" {held.fix}"
        return Pass(seen, (), f"{held.lock.holder} on {held.lock.host} is applying; nothing was done.{way_on}")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What came of putting a pass on record."""

    apart: tuple[Apart, ...]
    """Where record and cluster tell differently."""
    troubles: tuple[Message, ...]
    """What kept it from being written or pushed."""

    @property
    def told(self) -> tuple[Message, ...]:
        """What a person should know."""
        differs = (Message(Fault.RECORD_DIFFERS, f"record and cluster disagree: {each}") for each in self.apart)
        return (*differs, *self.troubles)


def _seen(applied: str | Unread | None) -> str | None:
    """What a batch says of `applied.json` as a look found it; nothing where it was not read."""
    if isinstance(applied, Unread):
        return None
    return "" if applied is None else facts.sha256(facts.encoded(applied))


def record(desired: Desired, done: Pass, recording: Recording) -> Recorded:
    """Put on record what a pass found and did; raises nothing."""
    recorder, observed = recording.recorder, done.look.observed
    paths = recorder.paths()
    files = facts.facts(desired, observed, recorder.place, paths)
    wanted = recording.wanted(desired).items()
    scripts = {here: seen.text for there, here in wanted if isinstance(seen := observed.lists.get(there), ListSeen)}
    submitted = dict(_submitted(desired, done, recording, scripts))
    applied = replace(recording.applied, vouched=done.look.plan.approval.given)
    files |= facts.origins(desired, applied, observed, recorder.place, submitted)
    files |= scripts
    differ = facts.disagreements(recorder.otherwise(files), files, recorder.place)
    apart = (*differ, *facts.gone(paths, observed, recorder.place))
    return Recorded(apart, recorder.keep(files))


def _submitted(
    desired: Desired, done: Pass, recording: Recording, scripts: Mapping[str, str]
) -> Iterator[tuple[ActionKey, tuple[str, str]]]:
    """(key, (job, script)) of what this pass submitted, and of what was once submitted from these very manifests and is
    put on record again. `scripts` are those that the look brought, by path on record."""
    for action, outcome in zip(done.look.plan.actions, done.outcomes, strict=False):
        if action.job is not None and outcome.kind is OutcomeKind.DONE and outcome.job_id is not None:
            yield action.key, (outcome.job_id, _script(desired, action))
    observed = done.look.observed
    if isinstance(observed.receipts, Unread) or recording.applied.dirty:
        return
    for receipt in observed.receipts:
        key = ActionKey.parse(receipt.key)
        if key is None or not receipt.job_id or receipt.dirty or receipt.commit != recording.applied.commit:
            continue
        script = scripts.get(f"{recording.recorder.place}/{facts.action_folder(key)}/script.pbs")
        if script is not None:
            yield key, (receipt.job_id, script)


def passes(
    desired: Desired,
    link: Transport,
    pace: Pace,
    after: Callable[[Pass], None],
    first: Look | None = None,
    also: Callable[[], Iterable[str]] = tuple,
    *,
    by: Provenance | None,
) -> Iterator[Pass]:
    """Pass after pass until nothing can change without a person: all done, or all that is left is held.

    `after` is called with each pass before the wait, so that a view can show it and the record be kept. `first` is a
    look made just now, to begin with; `also` says before each look which further files are wanted; `by` is as
    for a look.
    """
    misses, seen = 0, first
    while True:
        done = act(desired, link, seen or look(desired, link, also(), by=by))
        seen = None
        after(done)
        yield done
        if settled(done.look):
            return
        misses = misses + 1 if _nothing_learned(done.look.observed) else 0
        pace.next(float(desired.cluster.poll), misses)


def _nothing_learned(observed: Observed) -> bool:
    """Whether the link, PBS or the file system did not answer: then it is asked less often."""
    return any(
        isinstance(part, Unread) for part in (observed.jobs, observed.attempts, observed.receipts, observed.applied)
    )


def settled(seen: Look) -> bool:
    """Nothing to do and nothing that passes by itself."""
    if seen.plan.stopped:
        return bool(seen.plan.refusals) or not seen.plan.approval.passing
    return not seen.plan.actions and not any(status.reason in PASSING for status in seen.plan.stages)


def scripts(desired: Desired, actions: Sequence[Action]) -> dict[str, str]:
    """Path in the workspace → text, of every job script that these actions would submit."""
    return {action.job.script: _script(desired, action) for action in actions if action.job is not None}


def disagreements(desired: Desired, actions: Sequence[Action]) -> tuple[Message, ...]:
    """Where a script that would be submitted does otherwise than its recipe declares, by reading the script alone."""
    found = []
    for action in actions:
        if action.trains is not None:
            try:
                differences = agrees(action.trains, _script(desired, action))
            except Unrenderable as problem:
                differences = (str(problem),)
            told = f"would submit {action.key} with a script that is not its recipe"
            found += [Message(Fault.SCRIPT_DISAGREES, f"{told}: {difference}") for difference in differences]
    return tuple(found)


def _batched(desired: Desired, action: Action) -> BatchAction:
    script = _script(desired, action) if action.job else None
    return BatchAction(action, script, retry=action.key.stage in desired.retry)


def _script(desired: Desired, action: Action) -> str:
    assert action.job is not None  # noqa: S101
    return render(action.job, desired.site.in_workspace(action.job.log), desired.site.templates)
