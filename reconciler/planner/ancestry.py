"""Whether what attempts were applied at is still in the history: a notice, since what is trained stands. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from reconciler.model.authority import Strayed
from reconciler.model.faults import Fault
from reconciler.model.observed import Observed, Unread
from reconciler.model.plan import ActionKey, Plan
from reconciler.model.quantities import counted
from reconciler.model.status import IN_HISTORY, Condition, Reason, StageStatus

STANDING: Final = ("passed", "running")
"""Outcomes of rungs whose attempts a stage rests on."""


def applied_at(plan: Plan, observed: Observed) -> dict[str, dict[str, str]]:
    """Commit → stage → attempt, of jobs that the stages rest on and that were not submitted at the plan's own commit.
    The commits are a cluster's words, which may be anything."""
    if isinstance(observed.receipts, Unread):
        return {}
    standing = {(status.stage, attempt) for status in plan.stages for attempt in _attempts(status)}
    found: dict[str, dict[str, str]] = {}
    for receipt in observed.receipts:
        key = ActionKey.parse(receipt.key)
        if key is None or key.campaign != plan.campaign or (key.stage, key.attempt) not in standing:
            continue
        if key.kind.submits and receipt.done and receipt.commit != plan.revision and not receipt.dirty:
            found.setdefault(receipt.commit, {})[key.stage] = key.attempt
    return found


def _attempts(status: StageStatus) -> set[str]:
    return {status.attempt, *(rung.attempt for rung in status.rungs if rung.outcome in STANDING)} - {""}


def noted(plan: Plan, applied: Mapping[str, Mapping[str, str]], strayed: Mapping[str, Strayed]) -> Plan:
    """The plan with a condition on each stage that rests on commits which are not in the history any more."""
    of_stage: dict[str, list[tuple[str, str, Strayed]]] = {}
    for commit, attempts in applied.items():
        found = strayed.get(commit)
        if found is not None and not found.again:
            for stage, attempt in attempts.items():
                of_stage.setdefault(stage, []).append((commit, attempt, found))
    if not of_stage:
        return plan
    told = {stage: _condition(*several[-1], len(several) - 1) for stage, several in of_stage.items()}
    stages = (replace(s, conditions=(*s.conditions, told[s.stage])) if s.stage in told else s for s in plan.stages)
    return replace(plan, stages=tuple(stages))


def _condition(commit: str, attempt: str, found: Strayed, more: int) -> Condition:
    """Of the newest commit; after a rebase they are many, and it is the same with each."""
    was = f"{attempt} was applied at {commit[:9]}" + (f" and {counted(more, 'other commit')}" if more else "")
    if not found.known:
        message = f"{was}, which this shallow clone may not reach back to; `git fetch --unshallow` would tell"
        return Condition(IN_HISTORY, "Unknown", Reason.SHALLOW_CLONE, message)
    message = f"{was}, not in the history of this commit: rewritten since, or never merged"
    kept = " Its manifests are on record" if found.recorded else " Its manifests are not on record here"
    if found.here:
        way = f"`git tag applied-{commit[:9]} {commit[:9]}` keeps the commit"
    elif found.recorded:
        way = f"`reconcile show {attempt}` tells what it was made of"
    else:
        way = f"`git fetch` it from a clone that has {commit}"
    return Condition(IN_HISTORY, "False", Fault.HISTORY_REWRITTEN, f"{message}.{kept}; {way}. What is trained stands")
