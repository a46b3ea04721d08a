"""What no plan may do. Written against the plan and the look alone, sharing nothing with the code that planned.

A plan that breaks one of these is shown with the reason and never applied: it is a defect of this program.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from reconciler.model.faults import Fault
from reconciler.model.message import Message
from reconciler.model.observed import AttemptSeen, Observed, Unread
from reconciler.model.plan import Action, ActionKey, ActionKind, Plan
from reconciler.model.status import TrialStatus
from reconciler.planner import upkeep_checks

LIVE_LETTERS_EXCEPT = "F"
LEG_SLACK = 3
"""Iterations by which a leg may exceed its tokens."""


def judge(plan: Plan, observed: Observed, sources: Collection[tuple[str, object]] = ()) -> tuple[str, ...]:
    """Every broken invariant, in words; empty for a sound plan.

    `sources`: (campaign, source) of every stage and strategy of all manifests.
    """
    return tuple(_broken(plan, observed, sources))


def unsound(plan: Plan, observed: Observed, sources: Collection[tuple[str, object]]) -> tuple[Message, ...]:
    """The same as refusals of the plan."""
    return tuple(Message(Fault.UNSOUND_PLAN, broken) for broken in judge(plan, observed, sources))


def _broken(plan: Plan, observed: Observed, sources: Collection[tuple[str, object]]) -> Iterator[str]:
    if plan.actions and any(isinstance(t, Unread) for t in (observed.jobs, observed.attempts, observed.receipts)):
        yield "acts on a look that was not whole"
        return
    for key, times in Counter(str(action.key) for action in plan.actions).items():
        if times > 1:
            yield f"does {key} {times} times"
    jobs = [action for action in plan.actions if action.job is not None]
    attempts = Counter((a.key.stage, a.key.attempt) for a in jobs)
    for (stage, attempt), count in attempts.items():
        if count > 1:
            yield f"submits {count} jobs at once for attempt {attempt} of {stage}"
    trials = {status.stage: status.trial for status in plan.stages if status.trial is not None}
    for action in plan.actions:
        if action.key.kind is ActionKind.TRAIN and action.key.stage in trials:
            yield from _trial_broken(action, trials[action.key.stage], observed)
        yield from _job_broken(action, observed)
        yield from _paths_broken(plan, action, observed)
        yield from _evaluation_broken(action, observed)
    yield from upkeep_checks.broken(plan, observed, sources)


def _job_broken(action: Action, observed: Observed) -> Iterator[str]:
    """One live job an attempt; never a write over a checkpoint; never from an iteration behind what is trained."""
    if action.job is None or isinstance(observed.jobs, Unread) or isinstance(observed.attempts, Unread):
        return
    key = action.key
    for job in observed.jobs:
        other = ActionKey.parse(job.key) if job.key else None
        same = other is not None and (other.campaign, other.stage, other.attempt) == (
            key.campaign,
            key.stage,
            key.attempt,
        )
        if same and job.letter != LIVE_LETTERS_EXCEPT:
            yield f"submits {key} while job {job.job_id} of that attempt is in state {job.letter}"
    if key.kind is ActionKind.TRAIN:
        yield from _training_broken(action, observed.attempts)


def _training_broken(action: Action, attempts: Sequence[AttemptSeen]) -> Iterator[str]:
    """A job whose leg has a complete checkpoint resumes from the newest one, by name."""
    key = action.key
    newest = 0
    for seen in attempts:
        if (seen.stage, seen.attempt) == (key.stage, key.attempt):
            newest = max(
                (c.iteration for g in seen.legs if g.index == key.leg for c in g.checkpoints if c.complete), default=0
            )
    text = str(action.job.values.get("launches", "")) if action.job else ""
    restarts = any(flag in text for flag in ("--reset-iteration", "--finetune", "--universal-checkpoint"))
    if newest and restarts:
        yield f"{key} would start the leg over although iteration {newest} is trained"
    if newest and f"--load-tag=global_step{newest}'" not in text:
        yield f"{key} does not resume from iteration {newest}, the newest complete checkpoint"


def _evaluation_broken(action: Action, observed: Observed) -> Iterator[str]:
    """Where there is no checkpoint the launcher goes on from random weights, and its losses would be taken for those of
    what is not there. The source is evaluated before the first iteration."""
    found = re.fullmatch(r"leg-([0-9]+)-([0-9]+)", action.key.detail)
    if action.key.kind is not ActionKind.EVALUATE or found is None or found[2] == "0":
        return
    attempts = () if isinstance(observed.attempts, Unread) else observed.attempts
    leg, iteration = int(found[1]), int(found[2])
    # Of any attempt at the stage: the legs that one took lie in another's folder.
    legs = (of for seen in attempts if seen.stage == action.key.stage for of in seen.legs if of.index == leg)
    if not any(made.complete and made.iteration == iteration for of in legs for made in of.checkpoints):
        yield f"{action.key} evaluates a checkpoint that is not there"


def _trial_broken(action: Action, trial: TrialStatus, observed: Observed) -> Iterator[str]:
    """A pilot keeps to its budget; the stage's own begins when every pilot is judged, or a person has chosen."""
    key, pilots = action.key, [pilot.attempt for pilot in trial.pilots]
    if key.attempt in pilots:
        recipe = action.trains.recipe if action.trains is not None else None
        if recipe is not None:
            steps, step = sum(leg.iterations for leg in recipe.legs), recipe.tokens_per_iteration
            # Every leg ends on a whole step, and none on a save.
            if steps > -(-trial.tokens // step) + LEG_SLACK * len(recipe.legs):
                yield f"{key} trains {steps} iterations of {step} tokens in a pilot of {trial.tokens}"
        return
    attempts = () if isinstance(observed.attempts, Unread) else observed.attempts
    receipts = () if isinstance(observed.receipts, Unread) else observed.receipts
    begun = {found.attempt for receipt in receipts if (found := ActionKey.parse(receipt.key)) is not None}
    begun |= {seen.attempt for seen in attempts if seen.legs}
    judged = {seen.attempt for seen in attempts if seen.verdicts}
    if trial.by == "manifest" or key.attempt in begun:
        return
    for pilot in pilots:
        if pilot not in judged:
            yield f"{key} trains the stage before pilot {pilot} is judged"


def _paths_broken(plan: Plan, action: Action, observed: Observed) -> Iterator[str]:
    """Writes stay inside the attempt's own folder (and the campaign's tools), never inside a checkpoint."""
    own = f"{action.key.campaign}/{action.key.stage}/{action.key.attempt}/"
    tools = f"{plan.campaign}/tools/"
    written = [file.path for file in action.files] + list(action.remove)
    for path in [*written, *(f"{folder}/" for folder in (*action.directories, *action.aside))]:
        if not path.startswith((own, tools)) or ".." in path.split("/"):
            yield f"{action.key} touches {path}, outside its attempt"
    for path in action.aside:
        if not path.startswith(f"{own}evaluations/"):
            yield f"{action.key} sets {path} aside, which is no evaluation"
        elif any(path == f"{own}evaluations/leg-{leg}-{at}" for leg, at in _checkpoints(action, observed)):
            yield f"{action.key} sets {path} aside, whose checkpoint is there"
    for path in written:
        if path in action.remove and path == f"{own}leg-{action.key.leg}/latest" and not _complete(action, observed):
            continue  # it names what a first save left unfinished
        if "/global_step" in path or path.rsplit("/", 1)[-1].startswith("latest"):
            yield f"{action.key} touches {path}, inside a checkpoint"


def _complete(action: Action, observed: Observed) -> bool:
    """Whether the action's leg has a complete checkpoint, or may have one."""
    if isinstance(observed.attempts, Unread):
        return True
    return any(leg == action.key.leg for leg, _ in _checkpoints(action, observed))


def _checkpoints(action: Action, observed: Observed) -> Iterator[tuple[int, int]]:
    """(leg, iteration) of the complete checkpoints of the action's attempt, as far as they could be read."""
    attempts = () if isinstance(observed.attempts, Unread) else observed.attempts
    same = [s for s in attempts if (s.stage, s.attempt) == (action.key.stage, action.key.attempt)]
    yield from ((leg.index, c.iteration) for s in same for leg in s.legs for c in leg.checkpoints if c.complete)
