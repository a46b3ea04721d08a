"""`reconcile apply`: carry out the plan, once or until every stage is done."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from reconciler import loop
from reconciler.cli import machine
from reconciler.cli.connecting import pace_for
from reconciler.cli.following import Following
from reconciler.cli.human import plan as plan_view
from reconciler.cli.human import status as status_view
from reconciler.cli.human.live import LiveView, PlainView, View
from reconciler.cli.notifying import Notifying, notify_url_option, notify_with_option
from reconciler.cli.opening import Opened, connect, manifests_option, open_campaign
from reconciler.cli.proposing import Proposing, open_with_option
from reconciler.cli.provenance import Provenance
from reconciler.cli.screen import screen
from reconciler.cli.telling import fail, fail_at, warn
from reconciler.cluster.ports import ClusterError, Transport
from reconciler.cluster.process import SystemClock
from reconciler.model.faults import FAULTS, Fault
from reconciler.model.problems import harmless
from reconciler.model.status import Phase
from reconciler.planner import drift
from reconciler.planner.desired import Desired


@click.command(short_help="Carry out the plan, once or until every stage is done.")
@click.argument("what", required=False, metavar="[CAMPAIGN | FILE]")
@manifests_option
@click.option("--until-done", is_flag=True, help="Go on, pass after pass, until every stage is done or held.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--allow-dirty", is_flag=True, help="Apply manifests that are not committed; recorded as such.")
@click.option("--unchanged", is_flag=True, help="Only go on: stop if anything else is wanted than was last applied.")
@click.option("--retry", multiple=True, metavar="STAGE", help="Lift this stage's operational hold (repeatable).")
@open_with_option
@notify_with_option
@notify_url_option
def apply(
    what: str | None,
    paths: tuple[Path, ...],
    until_done: bool,
    yes: bool,
    allow_dirty: bool,
    unchanged: bool,
    retry: tuple[str, ...],
    open_with: str | None,
    notify_with: str | None,
    notify_url: str | None,
) -> int:
    """Carry out the plan: prepare lists, submit jobs, convert checkpoints, evaluate, judge.

    With a FILE that `plan -o` saved, carries out exactly that plan, or says what changed since and stops. Any
    instant is a safe one to interrupt: what runs on the cluster goes on, and the next apply takes it up.

    With --unchanged it goes on with what an earlier apply began, as on a schedule: manifests or templates that were
    changed since are not applied, but told.

    Holds, failed gates, finished stages and drift are told by --notify-with or --notify-url, each once.
    """
    saved = _read(Path(what)) if what is not None and Path(what).is_file() else None
    campaign = what if saved is None else _campaign_of(saved)
    opened = open_campaign(paths, campaign, retry)
    if saved is not None and what in opened.desired.catalog.campaigns:
        fail(
            Fault.NAME_NEEDED,
            f"{what} is a campaign and a file here; name the campaign from another folder, or the file with its path",
            f"reconcile apply ./{what}",
        )
    if opened.revision.loose and not allow_dirty:
        listed = "".join(f"\n      {name}" for name in opened.revision.loose)
        fail(
            Fault.NOT_COMMITTED,
            f"these manifests are not in commit {opened.revision.short}, so nothing could say later what ran:{listed}",
            f"git add manifests && git commit      (or: reconcile apply {opened.desired.campaign} --allow-dirty)",
        )
    # Made before anything is looked at: a look must be newer than what is known to have been told.
    following = Following(
        opened, Proposing(opened, open_with), Notifying(opened, notify_with, notify_url, unchanged=unchanged)
    )
    try:
        by = Provenance(opened.revision.root, paths, fetching=True)
        return _apply(opened, saved, following, by, until_done=until_done, yes=yes, unchanged=unchanged)
    except ClusterError as error:
        fail_at(error)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(Fault.NOT_A_PLAN, f"{path} is not a plan that `reconcile plan -o FILE` wrote: {error}")


def _campaign_of(saved: str) -> str:
    try:
        return machine.saved_plan(saved)[0]
    except machine.NotAPlan as error:
        fail(Fault.NOT_A_PLAN, str(error))


def _apply(
    opened: Opened,
    saved: str | None,
    following: Following,
    by: Provenance,
    *,
    until_done: bool,
    yes: bool,
    unchanged: bool,
) -> int:
    console = screen()
    link, desired = connect(opened), opened.desired
    seen = loop.look(desired, link, following.wanted(), by=by)
    if saved is not None:
        _same_or_stop(saved, seen)
    if unchanged:
        _unchanged_or_stop(desired, seen, following)
    _tell_drift(seen)
    if seen.plan.stopped or (not seen.plan.actions and (seen.plan.done or not until_done)):
        console.print(plan_view.render(seen.plan) if not seen.plan.done else plan_view.summary(seen.plan))
        agreed = (saved is not None or yes) and seen.plan.changes
        following.follow(loop.take(desired, link, seen) if agreed else loop.Pass(seen, ()))
        following.close()
        return _status_of(seen)
    if saved is None and not yes:
        console.print(plan_view.render(seen.plan))
        if not sys.stdin.isatty():
            fail(
                Fault.NO_TERMINAL,
                "standard input is no terminal to ask on",
                f"reconcile apply {desired.campaign} --yes",
            )
        click.confirm("Carry this out?", abort=True)
    if not until_done:
        done = loop.act(desired, link, seen)
        for outcome in done.outcomes:
            console.print(plan_view.outcome(outcome))
        following.follow(done)
        following.close()
        if done.unknown:
            fail(Fault.OUTCOME_UNKNOWN, done.unknown, f"reconcile status {desired.campaign}")
        stands = "All stages are done" if seen.plan.done else "The cluster goes on by itself"
        console.print(f"{stands}. Next:\n\n    {_way_on(desired)}\n")
        return 0
    first = seen if yes or saved is not None else None
    return _until_done(opened, console, link, following, by, first)


def _until_done(
    opened: Opened,
    console: Console,
    link: Transport,
    following: Following,
    by: Provenance,
    seen: loop.Look | None,
) -> int:
    clock = SystemClock()
    began = clock.now_s()
    view: View = LiveView(console) if console.is_terminal else PlainView(console)
    last: loop.Look | None = None

    def after(done: loop.Pass) -> None:
        view.show(done)
        following.follow(done)

    pace = pace_for(opened.desired.cluster)
    try:
        with view:
            for done in loop.passes(opened.desired, link, pace, after, seen, following.wanted, by=by):
                last = done.look
    except KeyboardInterrupt:
        following.close(share=False)
        click.echo(
            f"\nInterrupted. Jobs on the cluster go on; to go on from here:\n\n    {_way_on(opened.desired)}\n",
            err=True,
        )
        return 130
    finally:
        following.close()
    assert last is not None  # noqa: S101  # `passes` yields at least once
    for part in (*plan_view.refusals(last.plan.refusals), *plan_view.approval(last.plan.approval)):
        console.print(part)
    console.print(status_view.closing(last.plan, opened.desired.site.workspace, clock.now_s() - began))
    return _status_of(last)


def _way_on(desired: Desired) -> str:
    return f"reconcile apply {desired.campaign} --until-done"


def _same_or_stop(saved: str, seen: loop.Look) -> None:
    """The reviewed plan is the applied plan: anything else stops here, with what changed."""
    _, digest, before = machine.saved_plan(saved)
    if digest == seen.plan.digest:
        return
    now = machine.told(seen.plan)
    lines = [f"  - {key}: {text}" for key, text in before.items() if now.get(key) != text]
    lines += [f"  + {key}: {text}" for key, text in now.items() if before.get(key) != text]
    changed = "\n".join(lines) or "  (the scripts or files of an action)"
    fail(
        Fault.PLAN_CHANGED,
        f"the saved plan no longer holds; since then:\n{changed}",
        f"reconcile plan {seen.plan.campaign} -o FILE",
    )


def _unchanged_or_stop(desired: Desired, seen: loop.Look, following: Following) -> None:
    """What goes on by itself is what somebody has applied, and nothing that was merged since."""
    why = drift.not_applied(desired, seen.observed)
    if why:
        following.stopped(seen)
        fail(
            Fault.NOT_AS_APPLIED,
            f"{desired.campaign} is not as it was last applied: {why}",
            f"reconcile plan {desired.campaign} -o FILE && reconcile apply FILE",
        )


def _tell_drift(seen: loop.Look) -> None:
    for status in seen.plan.stages:
        for found in status.drift:
            warn(FAULTS[found.reason], f"{status.stage}: {found.message}")


def _status_of(seen: loop.Look) -> int:
    missing = seen.plan.approval.missing if seen.plan.actions or seen.plan.changes else ()
    if missing:
        for each in missing:
            warn(Fault.NOT_APPROVED, f"nothing was applied: {each.what}", each.fix)
        return 1
    if seen.plan.refusals or any(status.phase is Phase.HELD for status in seen.plan.stages):
        for status in seen.plan.stages:
            if status.phase is Phase.HELD:
                click.echo(f"{status.stage} is held: {status.reason}: {harmless(status.message)}", err=True)
        return 1
    return 0
