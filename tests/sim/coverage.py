"""What a run must have exercised, and how often it did."""

from __future__ import annotations

from collections import Counter

from reconciler.cluster.batch import OutcomeKind
from reconciler.model.plan import ActionKind
from reconciler.model.status import Reason
from tests.sim.campaigns import CAMPAIGNS
from tests.sim.chance import ALWAYS, RATES_MAX

NOT_HERE = frozenset(
    {
        "reason: GateFailed",  # of conditions beside a stage's own reason
        "reason: BudgetReached",
        "reason: AllSetsRead",
        "reason: LatestAstray",  # of actions beside a stage's own: "action: repair", "action: prune", "action: delete"
        "reason: NotNeeded",
        "reason: SetAside",
        "reason: ShallowClone",
        "reason: Adopted",  # no campaign here goes on from runs that were made by hand (docs/simulation.md says so)
        "reason: AdoptedUnusable",
    }
)
"""What cannot occur."""


def wanted() -> list[str]:
    """Every fault, action, outcome, reason and kind of site."""
    found = [*RATES_MAX, *ALWAYS]
    found += [f"action: {kind}" for kind in ActionKind]
    found += [f"outcome: {kind}" for kind in OutcomeKind]
    found += [f"reason: {reason}" for reason in Reason if f"reason: {reason}" not in NOT_HERE]
    found += [f"file system: flock {mode}" for mode in ("shared", "local", "none")]
    found += ["file system: links False", "person: unlocks", "ended: done", "ended: ladder exhausted"]
    found += [f"campaign: {name}" for name in CAMPAIGNS]
    return found


def rows(counts: Counter[str]) -> list[str]:
    """A table as docs/simulation.md has it."""
    groups: dict[str, list[str]] = {}
    for name, times in sorted(counts.items()):
        of, _, what = name.partition(": ")
        groups.setdefault(of, []).append(f"{what} {times:,}")
    told = [f"| {of} | {'; '.join(groups[of])} |" for of in sorted(groups, key=str.lower)]
    return ["| of | how often |", "| --- | --- |", *told]


def missing(counts: Counter[str]) -> list[str]:
    return [name for name in wanted() if not counts[name]]
