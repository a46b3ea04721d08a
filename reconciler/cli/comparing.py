"""A change of a campaign: what it means, what it comes to, and its job scripts as unified differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import unified_diff

from reconciler import loop
from reconciler.cli.comment import Told
from reconciler.cli.revisions import NotReadable, NotThere
from reconciler.planner.desired import Desired
from reconciler.planner.difference import RungDifference, Side, StageDifference, difference


def change(
    desired: Desired,
    seen: loop.Look | None,
    old: Desired | None,
    uncompared: NotReadable | None,
    scripts: Mapping[str, str],
    looked_at: str,
) -> Told:
    """All that the comment of a pull request tells; `old` is what the change is compared with, or `uncompared`
    why it is compared with nothing."""
    # Before the first apply of a new campaign there is neither a base nor a plan: all that it wants is told.
    new = isinstance(uncompared, NotThere) and seen is None
    found = difference(old, desired) if old is not None or new else ()
    before = loop.planned(old, seen.observed, by=None).plan if old is not None and seen is not None else None
    return Told(
        campaign=desired.campaign,
        commit=desired.revision,
        base=old.revision if old is not None else "",
        uncompared=str(uncompared or ""),
        found=found,
        scripts_differ={s.stage: list(script_differences(old, desired, s)) for s in found} if old is not None else {},
        plan=seen.plan if seen is not None else None,
        before=before,
        looked_at=looked_at,
        scripts=scripts,
        findings=desired.findings,
        findings_before=old.findings if old is not None else (),
    )


def script_differences(old: Desired, new: Desired, stage: StageDifference) -> Iterator[str]:
    """The differences of the scripts of every strategy that means something else."""
    for rung in stage.rungs:
        if rung.before is not None and rung.after is not None:
            yield from _script(old, new, stage.stage, rung, rung.before, rung.after)


def _script(old: Desired, new: Desired, stage: str, rung: RungDifference, one: Side, other: Side) -> Iterator[str]:
    was, now = _texts(old, one), _texts(new, other)
    for number, (before, after) in enumerate(zip(was, now, strict=False)):
        name = f"{stage}, {rung.strategy}, leg {number}"
        lines = unified_diff(
            before.splitlines(), after.splitlines(), f"before: {name}", f"after: {name}", n=1, lineterm=""
        )
        yield "\n".join(lines)


def _texts(desired: Desired, side: Side) -> list[str]:
    """The scripts, with the names that differ whatever was changed put out of the way: attempt and commit."""
    found = []
    for action in side.jobs:
        (text,) = loop.scripts(desired, (action,)).values()
        named = text.replace(action.key.attempt, "ATTEMPT").replace(desired.revision or "no commit", "COMMIT")
        found.append(named.replace("COMMIT (with uncommitted changes)", "COMMIT"))
    return found
