"""What people are told of at a look: holds, failed gates, finished stages, drift. Pure; `telling` knows who was told.

A key begins with `once/` for what has happened and stays so, with `while/` for what lasts until it is over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from reconciler.model.faults import FAULTS
from reconciler.model.notice import Kind, Notice, State
from reconciler.model.observed import Observed
from reconciler.model.plan import Plan
from reconciler.model.quantities import approximate_tokens, counted
from reconciler.model.reasons import WAYS_ON
from reconciler.model.status import IN_HISTORY, Phase, Reason, RungStatus, StageStatus
from reconciler.model.verdict import Level
from reconciler.planner.desired import Desired
from reconciler.planner.drift import CAMPAIGN
from reconciler.planner.facts import Apart
from reconciler.planner.look import Look, whole
from reconciler.planner.rungs import gathered

ONCE: Final = "once/"
WHILE: Final = "while/"
REFUSED: Final = f"{WHILE}hold/{CAMPAIGN}/PlanRefused"
NOT_APPROVED: Final = f"{WHILE}hold/{CAMPAIGN}/NotApproved"
UNAPPLIED: Final = f"{WHILE}drift/{CAMPAIGN}/Unapplied"
NUMBERS_TOLD: Final = 24
_BY_GATE: Final = frozenset({Reason.GATE_HOLDS, Reason.LADDER_EXHAUSTED})
"""Holds that a failed gate has made: told with it, as one."""
_CHOICES: Final = frozenset({Reason.SUSPENDED, Reason.TRIAL_AWAITS_CHOICE})
"""Holds in which nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look, and what else is known with it."""

    desired: Desired
    observed: Observed
    plan: Plan
    apart: tuple[Apart, ...] = ()
    """Where record and cluster tell differently."""
    unapplied: str | None = None
    """Why what is wanted is not what was applied, where only that may go on; empty where it is; None if not judged."""
    unchanged: bool = False
    """Only what was applied may go on, as on a schedule: nobody stands by who reads what is said."""

    @property
    def applied(self) -> bool:
        """Whether the stages are told of by manifests that are applied; of others nothing is concluded."""
        return not self.plan.approval.missing and not self.unapplied


def notices(seen: Seen, told: Collection[str]) -> tuple[Notice, ...] | None:
    """All that is to be told, in the order of the stages, less what has happened once and was told by these keys; None
    for a look that was not whole."""
    if seen.plan.outlook is None:
        return None
    stages = seen.plan.stages if seen.applied else ()
    found = (*_campaign(seen), *(n for status in stages for n in _stage(seen, status, told)), *_apart(seen))
    return tuple(notice for notice in found if notice.key not in told or lasts(notice.key))


def happened(seen: Seen) -> frozenset[str]:
    """Keys of all that has happened once by now, by whatever manifests."""
    found = (*(n for status in seen.plan.stages for n in _stage(seen, status, ())), *_apart(seen))
    return frozenset(notice.key for notice in found if not lasts(notice.key))


def lasts(key: str) -> bool:
    """Whether what a key is about can be over."""
    return key.startswith(WHILE)


def absorbed(notices: Sequence[Notice]) -> dict[str, tuple[str, ...]]:
    """Key of a hold → keys of the failed gates that made it, of what is told at once: one thing is one notice."""
    gates: dict[str, list[str]] = {}
    for notice in notices:
        if notice.kind is Kind.GATE_FAILED:
            gates.setdefault(notice.stage, []).append(notice.key)
    return {
        notice.key: tuple(gates.get(notice.stage, ()))
        for notice in notices
        if notice.kind is Kind.HOLD and notice.reason in _BY_GATE
    }


def over(seen: Seen, key: str) -> Notice | str | None:
    """What a lasting key that is not told of any more has come to: the notice that it is over; why nobody is told; None
    while that cannot be known."""
    if key == UNAPPLIED:
        said = f"what {seen.desired.campaign} wants is applied"
        return None if seen.unapplied is None else _over(seen, key, Kind.DRIFT, State.SUCCESS, said)
    if not seen.applied:
        return None
    if key == REFUSED:
        if seen.plan.refusals:
            return "it is told that a stage is held"
        return _over(
            seen, key, Kind.HOLD, State.PENDING, f"the plan of {seen.desired.campaign} is not refused any more"
        )
    if key == NOT_APPROVED:
        said = f"the commit of {seen.desired.campaign} lacks no approval any more"
        return _over(seen, key, Kind.HOLD, State.PENDING, said)
    status = next((s for s in seen.plan.stages if key.startswith(f"{WHILE}hold/{s.stage}/")), None)
    if status is None:
        return "there is no such stage in the manifests any more"
    if status.phase is Phase.WAITING:
        return None  # for a look, or for another stage
    if status.phase in (Phase.DONE, Phase.HELD):
        return f"it is told that the stage is {status.phase.lower()}"
    said = f"{status.stage} is not held any more: {status.message}"
    return _over(seen, key, Kind.HOLD, State.PENDING, said, status)


def _over(seen: Seen, key: str, kind: Kind, state: State, said: str, status: StageStatus | None = None) -> Notice:
    return _notice(seen, key, kind, state, said, status=status, resolved=True)


def _notice(
    seen: Seen,
    key: str,
    kind: Kind,
    state: State,
    said: str,
    *,
    status: StageStatus | None = None,
    stage: str = "",
    strategy: str = "",
    attempt: str = "",
    way_on: str = "",
    numbers: Mapping[str, float] | None = None,
    resolved: bool = False,
) -> Notice:
    stage = status.stage if status is not None else stage
    strategy = strategy or (status.strategy if status is not None else "")
    return Notice(
        key=key,
        kind=kind,
        state=state,
        campaign=seen.desired.campaign,
        commit=seen.desired.revision,
        said=said,
        way_on=way_on,
        stage=stage,
        strategy=strategy,
        attempt=attempt or (status.attempt if status is not None else ""),
        reason=status.reason if status is not None else "",
        manifest=_place(seen.desired, stage, strategy),
        numbers=numbers or {},
        resolved=resolved,
        dirty=seen.desired.dirty,
    )


def _campaign(seen: Seen) -> Iterator[Notice]:
    name = seen.desired.campaign
    if seen.unapplied:
        said = f"{name} is not as it was last applied: {seen.unapplied}"
        way_on = f"reconcile plan {name} -o FILE && reconcile apply FILE"
        yield _notice(seen, UNAPPLIED, Kind.DRIFT, State.ERROR, said, way_on=way_on)
    missing = seen.plan.approval.missing
    if missing and seen.unchanged and not seen.plan.approval.passing:
        said = f"{name} is not applied: {missing[0].what}"
        yield _notice(seen, NOT_APPROVED, Kind.HOLD, State.PENDING, said, way_on=missing[0].fix)
    held = [status.stage for status in seen.plan.stages if status.phase is Phase.HELD]
    others = [why for why in seen.plan.refusals if not why.message.startswith(tuple(f"{stage}: " for stage in held))]
    if others and seen.applied:
        said = f"the plan of {name} is refused: {others[0].message.splitlines()[0]}"
        said += f"; {len(others) - 1} more" if len(others) > 1 else ""
        yield _notice(seen, REFUSED, Kind.HOLD, State.ERROR, said, way_on=f"reconcile plan {name}")


def _stage(seen: Seen, status: StageStatus, told: Collection[str]) -> Iterator[Notice]:
    for rung in status.rungs:
        key = f"{ONCE}gate-failed/{status.stage}/{rung.attempt or rung.strategy}"
        if rung.outcome == "failed" and key not in told:  # the evidence is not gathered for nothing
            yield _gate_failed(seen, status, rung, key)
    for found in status.drift:
        # By its path: how it is damaged may change with each look.
        what = f"rewritten under {status.attempt}" if found.type == IN_HISTORY else found.message.partition(", is ")[0]
        said = f"{status.stage}: {found.message}"
        yield _astray(seen, status.stage, status.attempt, what, said, FAULTS[found.reason].todo)
    if status.phase is Phase.HELD:
        yield _hold(seen, status)
    if status.phase is Phase.DONE and status.reason is not Reason.ADOPTED:
        said = f"{status.stage} is done by {status.message}"
        trained = f"; {approximate_tokens(status.tokens_done)} tokens in {counted(status.iterations, 'iteration')}"
        key = f"{ONCE}done/{status.stage}/{status.attempt}"
        yield _notice(seen, key, Kind.DONE, State.SUCCESS, said + trained, status=status, numbers=_numbers(status))


def _gate_failed(seen: Seen, status: StageStatus, rung: RungStatus, key: str) -> Notice:
    names = [each.strategy for each in status.rungs if each.outcome != "skipped"]
    following = names[names.index(rung.strategy) + 1 :]
    goes_on = f"; {following[0]} is next" if following else ""
    return _notice(
        seen,
        key,
        Kind.GATE_FAILED,
        State.PENDING if following else State.FAILURE,
        f"{status.stage}: {rung.strategy} failed: {rung.message}{goes_on}",
        status=status,
        strategy=rung.strategy,
        attempt=rung.attempt,
        numbers=_measured(seen, status.stage, rung.attempt),
    )


def _measured(seen: Seen, stage: str, attempt: str) -> dict[str, float]:
    """What the gates that failed have measured."""
    look = whole(seen.desired, seen.observed)
    verdict = gathered(seen.desired, look, stage, attempt).verdict() if isinstance(look, Look) and attempt else None
    return {
        f"{gate.gate}.{name}": value
        for gate in (verdict.gates if verdict is not None else ())
        if gate.level is Level.FAIL
        for name, value in sorted(gate.numbers.items())[:NUMBERS_TOLD]
    }


def _hold(seen: Seen, status: StageStatus) -> Notice:
    state = State.ERROR
    if status.reason in _BY_GATE:
        state = State.FAILURE
    elif status.reason in _CHOICES:
        state = State.PENDING
    way_on = WAYS_ON[status.reason].format(campaign=seen.desired.campaign, stage=status.stage, blocker=status.stage)
    if status.proposal:
        way_on = f"the branch {status.proposal}, merged and applied. {way_on}"
    return _notice(
        seen,
        f"{WHILE}hold/{status.stage}/{status.reason}/{status.attempt}",
        Kind.HOLD,
        state,
        f"{status.stage} is held: {status.message}",
        status=status,
        way_on=way_on,
        numbers=_numbers(status),
    )


def _apart(seen: Seen) -> Iterator[Notice]:
    for each in seen.apart:
        stage, _, rest = each.path.partition("/")
        yield _astray(seen, stage, rest.partition("/")[0], str(each), f"record and cluster disagree: {each}")


def _astray(seen: Seen, stage: str, attempt: str, what: str, said: str, way_on: str = "") -> Notice:
    """Drift that is found and stays so."""
    key = f"{ONCE}drift/{stage}/{hashlib.sha256(what.encode('utf-8', 'replace')).hexdigest()[:12]}"
    way_on = way_on or f"reconcile history {stage}"
    return _notice(seen, key, Kind.DRIFT, State.ERROR, said, stage=stage, attempt=attempt, way_on=way_on)


def _numbers(status: StageStatus) -> dict[str, float]:
    told: dict[str, float] = {"tokens": status.tokens_done, "nodeHours": status.node_hours}
    told |= {} if status.loss is None else {"loss": status.loss}
    told |= {f"{name}.before": value for name, value in list(status.losses_before.items())[:NUMBERS_TOLD]}
    return told | {f"{name}.after": value for name, value in list(status.losses.items())[:NUMBERS_TOLD]}


def _place(desired: Desired, stage: str, strategy: str) -> str:
    """`file:line` of a strategy, else of a stage, else of the campaign; empty for a stage of the record alone."""
    catalog = desired.catalog
    if not stage:
        where = catalog.where(catalog.campaign(desired.campaign))
    elif stage not in catalog.stage_names(desired.campaign):
        return ""
    else:
        manifest = catalog.stage(desired.campaign, stage)
        named = [each.name for each in manifest.spec.strategies]
        at = ("spec", "strategies", named.index(strategy)) if strategy in named else ("metadata", "name")
        where = catalog.where(manifest, *at)
    return f"{where.file}:{where.line}"
