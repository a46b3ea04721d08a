"""The one next step of an attempt. Pure, and total over cluster states: nothing here raises on what it sees."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from reconciler.domain import gates
from reconciler.domain.checkpoint import needs_conversion
from reconciler.domain.schedule import at_peak
from reconciler.model.observed import Job, JobState, Stuck, TrainLog
from reconciler.model.plan import ActionKey, ActionKind
from reconciler.model.quantities import counted, format_duration
from reconciler.model.recipe import Load
from reconciler.model.status import Reason
from reconciler.model.verdict import GateResult, Level, Verdict
from reconciler.planner.attempt import Act, Attempt, Hold, Judged, Step, Wait
from reconciler.planner.ended import settle
from reconciler.planner.evidence import FINAL_VERDICT
from reconciler.planner.jobs import SOURCE_EVALUATION
from reconciler.planner.lists import Trouble

FRUITLESS_JOBS_MAX = 2
"""Ended jobs of a kind in a row without anything to show, before a person is asked (the next would end the same)."""
QUEUED_LONG_S = 2 * 86400.0
"""A job that has waited longer than this is told with the time."""


def next_step(attempt: Attempt) -> Step:
    """Decide the one next step: watch a live job, repair, convert, train, evaluate, judge."""
    evidence = attempt.evidence
    if evidence.seen is not None and evidence.seen.unread:
        return Wait(Reason.WORKSPACE_UNREAD, f"{attempt.workshop.folder} could not be read: {evidence.seen.unread}")
    if evidence.recipe_wanting():
        return Act(attempt.workshop.restore())
    verdict = evidence.verdict()
    if verdict is not None:
        return Judged(verdict)
    if evidence.verdict_damaged():
        file = f"{attempt.workshop.folder}/verdicts/{FINAL_VERDICT}.json"
        return Hold(Reason.VERDICT_UNREADABLE, f"{file} is not a verdict; move it away, and it is judged again")
    live = evidence.live()
    if live:
        return _watch(attempt, *live[0])
    unsettled = settle(attempt) or _broken_run(attempt)
    if unsettled is not None:
        return unsettled
    step = _source_step(attempt) or _train_step(attempt) or _evaluate_step(attempt) or _baseline_step(attempt)
    return _unless_refused(attempt, step or _judge_step(attempt))


def baseline_of(attempt: Attempt) -> Mapping[str, float] | None:
    """Losses at the stage's source checkpoint, from its own stage or evaluated by this attempt; None if not yet."""
    if attempt.baseline is not None:
        return attempt.baseline
    seen = attempt.evidence.evaluation(*SOURCE_EVALUATION)
    return seen.losses if seen and set(attempt.validation_sets) <= set(seen.losses) else None


def final_losses(attempt: Attempt) -> Mapping[str, float] | None:
    """Losses at the end of the last leg; None until every validation set has one."""
    leg = len(attempt.workshop.recipe.legs) - 1
    seen = attempt.evidence.evaluation(leg, attempt.workshop.recipe.legs[leg].iterations)
    return seen.losses if seen and set(attempt.validation_sets) <= set(seen.losses) else None


def _watch(attempt: Attempt, key: ActionKey, job: Job) -> Step:
    if job.state is JobState.UNREAD:
        return Wait(Reason.JOB_TABLE_UNREAD, f"job {job.job_id} could not be read: {job.comment}", job.job_id)
    if job.stuck is Stuck.FAILED_STARTS:
        message = f"PBS has given up starting job {job.job_id} and will not try again: {job.comment}"
        return Hold(Reason.JOB_CANNOT_START, f"{message}. Delete it: qdel {job.job_id}. {attempt.way_to_retry}")
    if job.stuck is Stuck.NEVER_RUNS:
        message = f"job {job.job_id} is queued, but PBS says: {job.comment}"
        way_on = f"If that does not pass: qdel {job.job_id}, and ask for what a queue has, in the stage's resources"
        return Wait(Reason.JOB_CANNOT_RUN, f"{message}. {way_on}", job.job_id)
    if job.state is JobState.HELD:
        return Wait(
            Reason.JOB_HELD_BY_PBS, f"job {job.job_id} is held by PBS: {job.comment or 'no comment'}", job.job_id
        )
    log = attempt.evidence.log(key) if key.kind is ActionKind.TRAIN else None
    if log is not None and job.state is JobState.RUNNING:
        why = _wrong(attempt, key, log)
        if why is not None:
            stopping = attempt.evidence.seen is not None and attempt.evidence.seen.stop_requested
            if stopping:
                return Wait(Reason.STOPPING, f"job {job.job_id} was asked to stop: {why}", job.job_id)
            return Act(attempt.workshop.stop(key.leg, key.ended, why))
    comment = f" ({job.comment})" if job.comment and job.state is not JobState.RUNNING else ""
    state = f"in PBS's state {job.letter!r}" if job.state is JobState.UNKNOWN else job.state
    return Wait(
        Reason.JOB_LIVE, f"{key.kind} job {job.job_id} is {state}{_for_long(attempt, job)}{comment}", job.job_id
    )


def _for_long(attempt: Attempt, job: Job) -> str:
    waited_s = attempt.now_s - job.queued_s if job.state is JobState.QUEUED and job.queued_s is not None else 0.0
    return f" for {counted(int(waited_s // 86400), 'day')}" if waited_s >= QUEUED_LONG_S else ""


def _wrong(attempt: Attempt, key: ActionKey, log: TrainLog) -> str | None:
    """Why a training run must not go on: it lost its checkpoint, or its loss."""
    if _lost_checkpoint(attempt, key, log):
        return "it found no checkpoint and started from random weights"
    return gates.diverged(log, _vocabulary(attempt))


def _lost_checkpoint(attempt: Attempt, key: ActionKey, log: TrainLog) -> bool:
    """A load that fails is only a warning to the launcher: it trains on from random weights (contract 3.3)."""
    if not log.started_from_random:
        return False
    if attempt.workshop.recipe.legs[key.leg].load is not Load.RANDOM:
        return True
    had_one = False
    for earlier, _ in attempt.evidence.ended(ActionKind.TRAIN, key.leg):
        seen = attempt.evidence.log(earlier)
        if seen is not None and earlier < key:
            # An earlier start that was wrong was held: a person has moved away what there was, and let it start over.
            moved = had_one and seen.started_from_random
            had_one = not moved and (had_one or bool(seen.saved))
    return had_one


def _vocabulary(attempt: Attempt) -> int:
    return int(attempt.workshop.recipe.model["architecture"]["vocabulary"])


def _broken_run(attempt: Attempt) -> Step | None:
    """A run that ended wrong: judged if it diverged, held if it trained something else than was asked."""
    for index in range(len(attempt.workshop.recipe.legs)):
        ended = attempt.evidence.ended(ActionKind.TRAIN, index)
        if not ended:
            continue
        key, receipt = ended[-1]
        last = attempt.evidence.log(key)
        lifted = attempt.retry and not attempt.evidence.leg(index).checkpoints
        if last is not None and _lost_checkpoint(attempt, key, last) and not lifted:
            return Hold(
                Reason.STARTED_FROM_RANDOM,
                f"job {receipt.job_id} found no checkpoint and trained from random weights; its checkpoints in "
                f"{attempt.workshop.folder}/leg-{index} are not this stage's. Move that folder away and apply again "
                "with --retry.",
            )
        why = gates.diverged(last, _vocabulary(attempt)) if last else None
        if why is not None:
            result = GateResult("divergence", Level.FAIL, why, {})
            return Act(attempt.workshop.judge(_verdict(attempt, (result,))))
    return None


def _source_step(attempt: Attempt) -> Step | None:
    """What must be there before the first step: a source in the right form, and its losses to compare with."""
    workshop, evidence = attempt.workshop, attempt.evidence
    if evidence.trained_iterations():
        return None
    if attempt.source_gone and evidence.leg(0).converted is None:
        return Hold(Reason.SOURCE_UNUSABLE, attempt.source_gone)
    if needs_conversion(workshop.recipe) and evidence.leg(0).converted is None:
        converted = len(evidence.ended(ActionKind.CONVERT, 0))
        if converted >= FRUITLESS_JOBS_MAX and not attempt.retry:
            return _fruitless(attempt, converted, "conversion")
        return Act(workshop.convert(evidence.following(ActionKind.CONVERT, 0)))
    if workshop.recipe.legs[0].load is Load.RANDOM or baseline_of(attempt) is not None:
        return None
    return _evaluation(attempt, *SOURCE_EVALUATION, source=True)


def _train_step(attempt: Attempt) -> Step | None:
    workshop, evidence = attempt.workshop, attempt.evidence
    jobs_ended = 0
    for index, leg in enumerate(workshop.recipe.legs):
        seen = evidence.leg(index)
        newest = seen.newest_complete()
        ended = evidence.ended(ActionKind.TRAIN, index)
        jobs_ended += len(ended)
        if newest is not None and newest.iteration >= leg.iterations:
            continue
        held = _train_hold(attempt, ended, jobs_ended)
        if held is not None:
            return held
        iteration = newest.iteration if newest else None
        agrees = seen.latest in (None, iteration)
        data_list = workshop.data_list(index)
        if isinstance(data_list, Trouble):
            return Hold(data_list.reason, data_list.message)
        number = evidence.following(ActionKind.TRAIN, index)
        return Act(workshop.train(index, number, data_list, newest=iteration, latest_agrees=agrees))
    return None


def _train_hold(attempt: Attempt, ended: tuple[tuple[ActionKey, object], ...], jobs_ended: int) -> Hold | None:
    if attempt.retry:
        return None
    bound = attempt.workshop.desired.spec.bounds.jobs_per_attempt
    if jobs_ended >= bound:
        message = (
            f"{counted(jobs_ended, 'job')} ended short of the budget; the campaign's bounds.jobsPerAttempt is {bound}"
        )
        return Hold(Reason.JOBS_EXHAUSTED, f"{message}. {attempt.way_to_retry}")
    if not ended:
        return None
    last_key = ended[-1][0]
    recent = [attempt.evidence.log(key) for key, _ in ended[-FRUITLESS_JOBS_MAX:]]
    if len(recent) == FRUITLESS_JOBS_MAX and not any(log and log.saved for log in recent):
        told = "; ".join(log.errors[-1] for log in recent[-1:] if log and log.errors) or "see the job's log"
        log_file = f"{attempt.workshop.folder}/jobs/l{last_key.leg}-n{last_key.ended}-train.log"
        message = f"{FRUITLESS_JOBS_MAX} jobs in a row saved nothing: {told} ({log_file})"
        return Hold(Reason.NO_PROGRESS, f"{message}. {attempt.way_to_retry}")
    return None


def _evaluate_step(attempt: Attempt) -> Step | None:
    if final_losses(attempt) is not None:
        return None
    leg = len(attempt.workshop.recipe.legs) - 1
    return _evaluation(attempt, leg, attempt.workshop.recipe.legs[leg].iterations, source=False)


def _evaluation(attempt: Attempt, leg: int, iteration: int, *, source: bool) -> Step:
    """The sets that have no loss yet; a job that was cut after some of them has still made progress."""
    series = (ActionKind.EVALUATE, leg, f"leg-{leg}-{iteration}")
    ended = attempt.evidence.ended(*series)
    seen = attempt.evidence.evaluation(leg, iteration)
    done = set(seen.losses) if seen else set()
    if len(ended) - len(done) >= FRUITLESS_JOBS_MAX and not attempt.retry:
        return _fruitless(attempt, len(ended), "evaluation")
    number = attempt.evidence.following(*series)
    return Act(attempt.workshop.evaluate(leg, iteration, number, done=done, source=source))


def _fruitless(attempt: Attempt, jobs: int, what: str) -> Hold:
    workshop = attempt.workshop
    walltime = format_duration(float(workshop.stage.spec.resources.walltime))
    return Hold(
        Reason.NO_PROGRESS,
        f"{counted(jobs, f'{what} job')} ended without a result; logs are in {workshop.folder}/jobs, the walltime is "
        f"{walltime}. {attempt.way_to_retry}",
    )


def _baseline_step(attempt: Attempt) -> Step | None:
    """The source's losses were lost while the stage trained: forgetting is not judged without them."""
    judged = attempt.gates.forgetting is not None and attempt.old_sets
    if not judged or attempt.workshop.recipe.legs[0].load is Load.RANDOM or baseline_of(attempt) is not None:
        return None
    if attempt.source_gone:
        message = f"{attempt.source_gone}, and its losses, by which forgetting is judged, are not there either"
        return Hold(Reason.SOURCE_UNUSABLE, message)
    return _evaluation(attempt, *SOURCE_EVALUATION, source=True)


def _judge_step(attempt: Attempt) -> Step:
    recipe = attempt.workshop.recipe
    results: list[GateResult] = []
    before, after = baseline_of(attempt), final_losses(attempt)
    if attempt.gates.forgetting is not None and before is not None and after is not None:
        limits = getattr(attempt.gates.forgetting, attempt.workshop.stage.spec.shift)
        last = recipe.legs[-1]
        same = at_peak(last.curve, last.position + last.iterations)  # the source is at its peak unless it rewarms
        results.append(gates.forgetting(before, after, attempt.old_sets, limits, same_phase=same))
    if attempt.gates.recovery is not None:
        leg = len(recipe.legs) - 1
        logs = attempt.evidence.leg(leg).logs
        grace = Fraction(attempt.gates.recovery.grace)
        results.append(gates.recovery(logs, recipe.legs[leg].iterations, grace))
    return Act(attempt.workshop.judge(_verdict(attempt, tuple(results))))


def _verdict(attempt: Attempt, results: tuple[GateResult, ...]) -> Verdict:
    recipe = attempt.workshop.recipe
    return Verdict(
        stage=attempt.workshop.stage.metadata.name,
        attempt=recipe.attempt,
        strategy=recipe.strategy,
        iteration=attempt.evidence.trained_iterations(),
        gates=results,
    )


def _unless_refused(attempt: Attempt, step: Step) -> Step:
    """An action that the cluster has refused is not tried again until a person has looked."""
    if not isinstance(step, Act) or attempt.retry:
        return step
    receipt = attempt.evidence.receipt(step.action.key)
    if receipt is None or receipt.failed is None:
        return step
    return Hold(Reason.SUBMIT_REFUSED, f"PBS refused the job: {receipt.failed}")
