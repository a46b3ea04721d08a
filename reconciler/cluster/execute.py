"""One exec to act: a batch is carried out under the workspace's lock, each action at most once."""

from __future__ import annotations

import secrets
import shlex
from typing import Any, Final

from reconciler.cluster import answers, frames, openpbs
from reconciler.cluster.batch import Batch, BatchAction, Outcome
from reconciler.cluster.fields import Fields, Malformed
from reconciler.cluster.observe import agent_source
from reconciler.cluster.ports import (
    AgentFailed,
    CommandFailed,
    LinkLost,
    Locked,
    OutcomeUnknown,
    Overtaken,
    Transport,
    Unreachable,
)
from reconciler.model.observed import LockSeen
from reconciler.model.upkeep import Delete, Prune, Repair, Upkeep

MARGIN_S: Final = 60.0
"""For files and the journal, beside the time that the PBS commands of a batch may take."""
NO_PROGRAM: Final = (126, 127)


def execute(link: Transport, batch: Batch) -> tuple[Outcome, ...]:
    """Carry out `batch` in one exec; return what the agent journalled, in batch order.

    Raises:
        Unreachable: nothing was sent, so the cluster is unchanged.
        OutcomeUnknown: sent, but no whole answer came back. Observe before acting again.
        Locked: another apply holds the workspace; nothing was done.
        Overtaken: something else was applied since the look; nothing was done.
        AgentFailed: the agent says why it did nothing.
    """
    jobs = sum(1 for each in batch.actions if each.action.job is not None)
    upkeep = sum(1 for each in batch.actions if each.action.upkeep is not None)
    answer = _ask(
        link,
        {
            "operation": "execute",
            "workspace": batch.workspace,
            "campaign": batch.campaign,
            "holder": batch.holder,
            "commit": batch.commit,
            "dirty": batch.dirty,
            "applied": batch.applied,
            "applied_seen": batch.applied_seen,
            "qsub_timeout_s": batch.qsub_timeout_s,
            "pbs_timeout_s": batch.pbs_timeout_s,
            "refusals": {
                "permanent": sorted(openpbs.PERMANENT),
                "wait": sorted(openpbs.WAIT),
                "wait_texts": list(openpbs.WAIT_TEXTS),
            },
            "actions": [_action(each) for each in batch.actions],
        },
        timeout_s=MARGIN_S * (1 + upkeep) + 2 * batch.pbs_timeout_s + jobs * batch.qsub_timeout_s,
        what=f"{len(batch.actions)} action(s)",
    )
    if answer.has("overtaken"):
        raise Overtaken("something else was applied since this look; nothing was done")
    try:
        return answers.outcomes(answer, [str(each.action.key) for each in batch.actions])
    except Malformed as malformed:
        raise _unknown(link, f"{len(batch.actions)} action(s)") from malformed


def unlock(link: Transport, workspace: str, nonce: str) -> str:
    """Release the lock with exactly this nonce, whoever holds it; returns what was done, in words.

    Raises:
        Locked: the lock is another one. Unreachable, OutcomeUnknown, AgentFailed: as for `execute`.
    """
    body = {"operation": "unlock", "workspace": workspace, "release": nonce}
    return _ask(link, body, timeout_s=MARGIN_S, what="a request to release the lock").line("note")


def _action(each: BatchAction) -> dict[str, Any]:
    action = each.action
    job = None
    if action.job is not None:
        if each.script is None:
            raise ValueError(f"{action.key} has a job but no script")
        job = {"script": action.job.script, "log": action.job.log, "text": each.script, "qsub": list(openpbs.QSUB)}
    return {
        "key": str(action.key),
        "retry": each.retry,
        "directories": list(action.directories),
        "files": [{"path": file.path, "text": file.text, "if_absent": file.if_absent} for file in action.files],
        "remove": list(action.remove),
        "aside": list(action.aside),
        "upkeep": _upkeep(action.upkeep),
        "job": job,
    }


def _upkeep(upkeep: Upkeep | None) -> dict[str, Any] | None:
    match upkeep:
        case None:
            return None
        case Prune(folders=folders, spared=spared, settle_s=settle_s):
            named = {folder.path: folder.identity for folder in folders}
            return {"do": "prune", "folders": named, "spared": list(spared), "settle_s": settle_s}
        case Delete(folders=folders):
            return {"do": "delete", "folders": {folder.path: "" for folder in folders}}
        case Repair(leg=leg, was=was, newest=newest):
            return {"do": "repair", "leg": leg, "was": was, "newest": newest}


def _ask(link: Transport, body: dict[str, Any], *, timeout_s: float, what: str) -> Fields:
    """Send one request and read its answer."""
    nonce = secrets.token_hex(16)
    sent = frames.request(agent_source(), body, nonce)
    try:
        answer = Fields(frames.decode(link.exec(sent.argv, sent.stdin, timeout_s), nonce), "the answer")
        if answer.has("locked"):
            raise _locked(answers.lock_seen(answer.fields("locked")), body["workspace"])
        if answer.has("failed"):
            raise AgentFailed(f"{link.host}: {answer.line('failed')}. Nothing was done.")
        return answer.fields("answer")
    except LinkLost as lost:
        if not lost.sent:
            raise Unreachable(f"{lost.message} Nothing was sent.", lost.fix) from lost
        cause: Exception = lost
    except CommandFailed as failed:
        if failed.status in NO_PROGRAM:
            raise AgentFailed(
                f"{link.host} has no python3 that runs; nothing was done: {failed.message}",
                "Python 3.6 or newer must be on the PATH of a shell that is not a login shell:\n    python3 --version",
            ) from failed
        cause = failed
    except (frames.Garbled, Malformed) as garbled:
        cause = garbled
    raise _unknown(link, what) from cause


def _unknown(link: Transport, what: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{link.host} was sent {what}, but its answer was cut off.",
        "Whatever ran is in the agent's journal. Look before acting again, with `reconcile status`.",
    )


def _locked(lock: LockSeen, workspace: str) -> Locked:
    return Locked(
        f"{lock.holder} has been applying in {workspace} for {lock.age_s:.0f} s (on {lock.host or 'an unknown host'}). "
        "Nothing was done.",
        "Wait for it. If it is certainly no longer running, release its lock:\n"
        f"    reconcile unlock {shlex.quote(lock.nonce)}",
        lock=lock,
    )
