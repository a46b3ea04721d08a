"""What a run must have exercised, and how often it did."""

from __future__ import annotations

from collections import Counter

from reconciler.cluster.batch import OutcomeKind
from reconciler.model.plan import ActionKind
from reconciler.model.status import Reason
from tests.sim.chance import ALWAYS, RATES_MAX

NOT_HERE = frozenset(
    {
        "reason: GateFailed",  # no code gives it (kept for readers of old output)
        "reason: NextRung",
        "reason: BaselineNeeded",  # every source was evaluated by its own stage
        "reason: VerdictUnreadable",  # nobody damages files here but crashes, and a verdict is made safe
        "reason: NodeHoursExhausted",  # the bound is generous; a checker holds it
        "reason: JobsExhausted",  # two fruitless jobs hold sooner; seen in none of 800 seeds
        "reason: SourceUnusable",  # a done stage's last checkpoint is written back before a crash can take it
        "reason: Suspended",  # these depend on manifests that this campaign does not have
        "reason: GateHolds",
        "reason: SubmitWindowClosed",
        "reason: ListMissing",
        "reason: ListChanged",
        "reason: ListBad",
    }
)
"""What the small campaign cannot reach; `tests/planner` has it."""


def wanted() -> list[str]:
    """Every fault, action, outcome, reason and kind of site."""
    found = [*RATES_MAX, *ALWAYS]
    found += [f"action: {kind}" for kind in ActionKind]
    found += [f"outcome: {kind}" for kind in OutcomeKind]
    found += [f"reason: {reason}" for reason in Reason if f"reason: {reason}" not in NOT_HERE]
    found += [f"file system: flock {mode}" for mode in ("shared", "local", "none")]
    found += ["file system: links False", "person: unlocks", "ended: done", "ended: ladder exhausted"]
    return found


def rows(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(set(counts.items()) | {(name, 0) for name in wanted() if not counts[name]})


def missing(counts: Counter[str]) -> list[str]:
    return [name for name in wanted() if not counts[name]]
