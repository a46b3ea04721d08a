"""What keeps a job that is due from being submitted: a suspended stage, spent node-hours, the wrong hour. Pure."""

from __future__ import annotations

from reconciler.domain.windows import opens
from reconciler.model.manifests import StageManifest
from reconciler.model.plan import Action
from reconciler.model.status import Reason
from reconciler.planner.attempt import Hold, Wait
from reconciler.planner.desired import Desired
from reconciler.planner.ledger import node_hours
from reconciler.planner.look import Look


def withheld(desired: Desired, look: Look, stage: StageManifest, action: Action) -> Hold | Wait | None:
    """Why the action may not be carried out now; None if it may. What starts no job, such as a verdict, always may."""
    if action.job is None:
        return None
    if stage.spec.suspend:
        return Hold(Reason.SUSPENDED, f"suspended by its manifest; next would be: {action.summary}")
    spent = node_hours(desired, look.jobs, look.now_s)
    bound = min(desired.spec.bounds.node_hours, desired.cluster.allocation.node_hours)
    if spent >= float(bound):
        return Hold(Reason.NODE_HOURS_EXHAUSTED, f"{spent:.1f} of {bound} node-hours are spent")
    scheduler = desired.cluster.scheduler
    opening = opens(scheduler.submit_windows, scheduler.time_zone, look.now_s)
    if opening is None:
        return None
    when = f"{opening:%a %Y-%m-%d %H:%M} {scheduler.time_zone}"
    return Wait(Reason.SUBMIT_WINDOW_CLOSED, f"jobs may be submitted again from {when}; next: {action.summary}")
