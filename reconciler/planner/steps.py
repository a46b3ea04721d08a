"""The one next step of an attempt. Pure, and total over cluster states: nothing here raises on what it sees."""

from __future__ import annotations

from reconciler.domain import gates
from reconciler.domain.checkpoint import needs_conversion
from reconciler.model.observed import Job, JobState, Stuck, TrainLog
from reconciler.model.plan import ActionKey, ActionKind
from reconciler.model.quantities import counted, format_duration
from reconciler.model.recipe import Load
from reconciler.model.status import Reason
from reconciler.model.verdict import Level
from reconciler.planner import judging
from reconciler.planner.attempt import Act, Attempt, Hold, Judged, Step, Wait
from reconciler.planner.ended import settle
from reconciler.planner.evidence import FINAL_VERDICT
from reconciler.planner.jobs import SOURCE_EVALUATION, Point
from reconciler.planner.judging import baseline_of, final_losses
from reconciler.planner.lists import Trouble
from reconciler.planner.loads import bad_load, load_of

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
    step = (
        _source_step(attempt)
        or _on_the_way_step(attempt)
        or _train_step(attempt)
        or _evaluate_step(attempt)
        or _baseline_step(attempt)
        or _judge_step(attempt)
    )
    return _unless_refused(attempt, step)


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
        wrong = _wrong(attempt, key, log)
        if wrong is not None:
            reason, why = wrong
            stopping = attempt.evidence.seen is not None and attempt.evidence.seen.stop_requested
            if stopping:
                return Wait(Reason.STOPPING, f"job {job.job_id} was asked to stop: {why}", job.job_id)
            return Act(attempt.workshop.stop(key.leg, key.ended, reason, why))
    comment = f" ({job.comment})" if job.comment and job.state is not JobState.RUNNING else ""
    state = f"in PBS's state {job.letter!r}" if job.state is JobState.UNKNOWN else job.state
    return Wait(
        Reason.JOB_LIVE, f"{key.kind} job {job.job_id} is {state}{_for_long(attempt, job)}{comment}", job.job_id
    )


def _for_long(attempt: Attempt, job: Job) -> str:
    waited_s = attempt.now_s - job.queued_s if job.state is JobState.QUEUED and job.queued_s is not None else 0.0
    return f" for {counted(int(waited_s // 86400), 'day')}" if waited_s >= QUEUED_LONG_S else ""


def _wrong(attempt: Attempt, key: ActionKey, log: TrainLog) -> tuple[Reason, str] | None:
    """Why a training run must not go on: it lost its checkpoint, loaded something else, or lost its loss."""
    if _lost_checkpoint(attempt, key, log):
        return Reason.STARTED_FROM_RANDOM, "it found no checkpoint and started from random weights"
    load = load_of(attempt, key, log)
    if load is not None and load.level is Level.FAIL:
        return Reason.LOAD_DISCONTINUOUS, load.message
    diverged = gates.diverged(log, attempt.vocabulary)
    return (Reason.DIVERGED, diverged.message) if diverged is not None else None


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


def _broken_run(attempt: Attempt) -> Step | None:
    """A run that ended wrong: judged if it diverged, held if it trained something else than was asked."""
    for index in range(len(attempt.workshop.recipe.legs)):
        run = attempt.evidence.last_run(index)
        if run is None:
            continue
        key, receipt = run
        last = attempt.evidence.log(key)
        lifted = attempt.retry and not attempt.evidence.leg(index).checkpoints
        if last is not None and _lost_checkpoint(attempt, key, last) and not lifted:
            return Hold(
                Reason.STARTED_FROM_RANDOM,
                f"job {receipt.job_id} found no checkpoint and trained from random weights; its checkpoints in "
                f"{attempt.workshop.folder}/leg-{index} are not this stage's. Move that folder away and apply again "
                "with --retry.",
            )
        held = bad_load(attempt, key, receipt, last) if last else None
        if held is not None:
            return held
        diverged = gates.diverged(last, attempt.vocabulary) if last else None
        if diverged is not None:
            return Act(attempt.workshop.judge(judging.verdict_of(attempt, (diverged,))))
    return None


def _source_step(attempt: Attempt) -> Step | None:
    """What must be there before the first step: a source in the right form, and its losses to compare with."""
    workshop, evidence = attempt.workshop, attempt.evidence
    if evidence.trained_iterations():
        return None
    if attempt.source_unread and evidence.leg(0).converted is None:
        return Wait(Reason.SOURCE_UNREAD, f"its source {attempt.source_unread}")
    if attempt.source_gone and evidence.leg(0).converted is None:
        return Hold(Reason.SOURCE_UNUSABLE, attempt.source_gone)
    if needs_conversion(workshop.recipe) and evidence.leg(0).converted is None:
        converted = len(evidence.ended(ActionKind.CONVERT, 0))
        if converted >= FRUITLESS_JOBS_MAX and not attempt.retry:
            return _fruitless(attempt, converted, "conversion")
        return Act(workshop.convert(evidence.following(ActionKind.CONVERT, 0)))
    if workshop.recipe.legs[0].load is Load.RANDOM:
        return None
    if baseline_of(attempt) is None:
        return _evaluated_source(attempt)
    return _converted_step(attempt) or _untrained_source(attempt)


def _converted_step(attempt: Attempt) -> Step | None:
    """A converted source has the losses that its own stage found, where the campaign wants that to be seen."""
    gate, own = attempt.gates.continuity, attempt.baseline
    if gate is None or gate.conversion is None or own is None or attempt.evidence.leg(0).converted is None:
        return None
    converted = judging.converted_losses(attempt)
    if converted is None:
        return _evaluation(attempt, *SOURCE_EVALUATION, Point.CONVERTED)
    result = gates.conversion(own, converted, attempt.validation_sets, float(gate.conversion))
    if result.level is not Level.FAIL or attempt.retry:
        return None
    folder = attempt.workshop.folder
    return Hold(
        Reason.LOAD_DISCONTINUOUS,
        f"{result.message}: the copy in {folder}/leg-0-source is not the source. Move it and "
        f"{folder}/evaluations/leg-0-0 away, and both are made anew; to train from it nevertheless: "
        f"{attempt.retry_command}",
    )


def _untrained_source(attempt: Attempt) -> Hold | None:
    """A source that is no better than guessing has been loaded wrong, or is another checkpoint than was meant."""
    losses, sets = baseline_of(attempt), attempt.old_sets or attempt.validation_sets
    why = gates.guesses(losses, sets, attempt.vocabulary) if losses and attempt.gates.continuity else None
    if why is None or attempt.retry:
        return None
    return Hold(Reason.SOURCE_UNUSABLE, f"the source checkpoint: {why}. {attempt.way_to_retry}")


def _on_the_way_step(attempt: Attempt) -> Step | None:
    """Between two jobs: an evaluation of the newest checkpoint if one is due, and an end to what only costs tokens."""
    verdict = judging.ends_early(attempt)
    if verdict is not None:
        return Act(attempt.workshop.judge(verdict))
    due = judging.due(attempt)
    return _evaluation(attempt, *due, Point.LEG) if due is not None else None


def _train_step(attempt: Attempt) -> Step | None:
    workshop, evidence = attempt.workshop, attempt.evidence
    jobs_ended = 0
    for index, (leg, trained) in enumerate(zip(legs := workshop.recipe.legs, evidence.trained(legs), strict=True)):
        ended = evidence.ended(ActionKind.TRAIN, index)
        jobs_ended += len(ended)
        if trained >= leg.iterations:
            continue
        seen = evidence.leg(index)
        newest = seen.newest_complete()
        held = _train_hold(attempt, ended, jobs_ended)
        if held is not None:
            return held
        iteration = newest.iteration if newest else None
        agrees = seen.latest in (None, iteration)
        data_list = workshop.data_list(index)
        if isinstance(data_list, Trouble):
            return Hold(data_list.reason, data_list.message)
        number = evidence.following(ActionKind.TRAIN, index)
        gone = evidence.evaluated_beyond(index, iteration or 0)
        return Act(workshop.train(index, number, data_list, newest=iteration, latest_agrees=agrees, gone=gone))
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
    return _evaluation(attempt, leg, attempt.workshop.recipe.legs[leg].iterations, Point.LEG)


def _evaluation(attempt: Attempt, leg: int, iteration: int, point: Point) -> Step:
    """The sets that have no loss yet; a job that was cut after some of them has still made progress."""
    series = (ActionKind.EVALUATE, leg, f"leg-{leg}-{iteration}")
    ended = attempt.evidence.ended(*series)
    seen = attempt.evidence.evaluation(leg, iteration)
    done = set(seen.losses) if seen else set()
    if len(ended) - len(done) - (seen.earlier if seen else 0) >= FRUITLESS_JOBS_MAX and not attempt.retry:
        return _fruitless(attempt, len(ended), "evaluation")
    number = attempt.evidence.following(*series)
    return Act(attempt.workshop.evaluate(leg, iteration, number, done=done, point=point))


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
    return _evaluated_source(attempt)


def _evaluated_source(attempt: Attempt) -> Step:
    """The losses at the source, while it is there: of a conversion none are known that could stand for them."""
    if attempt.source_unread:
        return Wait(Reason.SOURCE_UNREAD, f"its source {attempt.source_unread}")
    if attempt.source_gone:
        message = f"{attempt.source_gone}, and its losses, by which forgetting is judged, are not there either"
        return Hold(Reason.SOURCE_UNUSABLE, message)
    return _evaluation(attempt, *SOURCE_EVALUATION, Point.SOURCE)


def _judge_step(attempt: Attempt) -> Step:
    """Judged when all is known, or as soon as one gate has failed: a harness need not be waited for then."""
    found = judging.results(attempt)
    if not any(result.level is Level.FAIL for result in found):
        external = judging.external(attempt)
        if isinstance(external, Wait | Hold):
            return external
        found += external
    return Act(attempt.workshop.judge(judging.verdict_of(attempt, found)))


def _unless_refused(attempt: Attempt, step: Step) -> Step:
    """An action that the cluster has refused is not tried again until a person has looked."""
    if not isinstance(step, Act) or attempt.retry:
        return step
    receipt = attempt.evidence.receipt(step.action.key)
    if receipt is None or receipt.failed is None:
        return step
    return Hold(Reason.SUBMIT_REFUSED, f"PBS refused the job: {receipt.failed}")
