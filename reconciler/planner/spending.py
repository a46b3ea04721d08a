"""What was spent: node-hours of every job of the campaign, by the job table's own times."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.model.observed import Job
from reconciler.model.plan import ActionKey, ActionKind
from reconciler.planner.desired import Desired


def nodes_of(desired: Desired, job: Job, key: ActionKey) -> int:
    """Nodes that a job had. Where PBS does not say, as the manifests have it now; 1 for a stage they no longer hold."""
    if job.nodes is not None:
        return job.nodes
    if key.kind is not ActionKind.TRAIN:
        return 1
    return next((s.spec.resources.nodes for s in desired.stages if s.metadata.name == key.stage), 1)


def jobs_of(desired: Desired, jobs: Sequence[Job], stage: str) -> int:
    """Jobs of one stage that the table knows, of every rung."""
    keys = (ActionKey.parse(job.key) for job in jobs if job.key)
    return sum(key is not None and (key.campaign, key.stage) == (desired.campaign, stage) for key in keys)


def node_hours(
    desired: Desired, jobs: Sequence[Job], now_s: float, stage: str | None = None, attempt: str | None = None
) -> float:
    """Node-hours of the campaign so far, or of one stage, or of one attempt; running jobs count up to now."""
    spent = 0.0
    for job in jobs:
        key = ActionKey.parse(job.key) if job.key else None
        if key is None or key.campaign != desired.campaign or job.started_s is None:
            continue
        if stage not in (None, key.stage) or attempt not in (None, key.attempt):
            continue
        ended = job.ended_s if job.ended_s is not None else now_s
        spent += max(0.0, ended - job.started_s) * nodes_of(desired, job, key) / 3600
    return spent
