"""An attempt's evidence → the stage's status: tokens, loss, rate, losses before and after, conditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconciler.model.faults import Fault
from reconciler.model.observed import Job, LogPoint
from reconciler.model.plan import ActionKind
from reconciler.model.quantities import counted
from reconciler.model.status import KEPT, Condition, Phase, Reason, RungStatus, StageStatus
from reconciler.model.verdict import Level
from reconciler.planner.attempt import Attempt
from reconciler.planner.evidence import amiss
from reconciler.planner.judging import baseline_of, final_losses, newest_on_the_way
from reconciler.planner.spending import jobs_of, node_hours


def describe(
    attempt: Attempt,
    reason: Reason,
    phase: Phase,
    message: str,
    rungs: tuple[RungStatus, ...],
    jobs: Sequence[Job],
    now_s: float,
) -> StageStatus:
    """Where the stage is, from its current attempt's evidence."""
    workshop, evidence = attempt.workshop, attempt.evidence
    recipe, desired = workshop.recipe, workshop.desired
    stage = workshop.stage.metadata.name
    point = _newest_point(attempt)
    iteration = attempt.iterations
    live = evidence.live()
    verdict = evidence.verdict()
    on_the_way = newest_on_the_way(attempt) if verdict is None else None
    if on_the_way is not None and on_the_way.level is not Level.PASS:
        message += f"; on the way: {on_the_way.message}"
    if verdict is not None:
        iteration = max(iteration, min(verdict.iteration, recipe.iterations))
    return StageStatus(
        stage=stage,
        phase=phase,
        reason=reason,
        message=message,
        strategy=recipe.strategy,
        attempt=recipe.attempt,
        tokens_done=min(iteration * recipe.tokens_per_iteration, recipe.tokens),
        tokens_budget=recipe.tokens,
        iteration=max(iteration, _reached(attempt)) if live else iteration,
        iterations=recipe.iterations,
        loss=point.loss if point else None,
        learning_rate=point.learning_rate if point else None,
        job=live[0][1].job_id if live else "",
        jobs=jobs_of(desired, jobs, stage),
        node_hours=node_hours(desired, jobs, now_s, stage),
        rungs=rungs,
        losses=dict(final_losses(attempt) or {}),
        losses_before=dict(baseline_of(attempt) or {}),
        conditions=(*_conditions(attempt, phase, reason, message), *(_lost(attempt) if phase is Phase.DONE else ())),
        path=workshop.folder,
    )


def _newest_point(attempt: Attempt) -> LogPoint | None:
    for index in reversed(range(len(attempt.workshop.recipe.legs))):
        for log in reversed(attempt.evidence.leg(index).logs):
            if log.last:
                return log.last[-1]
    return None


def _reached(attempt: Attempt) -> int:
    """Iterations over all legs that the newest log has reached; ahead of the checkpoints while a job runs."""
    done = 0
    for index, leg in enumerate(attempt.workshop.recipe.legs):
        logs = attempt.evidence.leg(index).logs
        reached = max((log.last[-1].iteration for log in logs if log.last), default=0)
        done += min(reached, leg.iterations)
    return done


def _lost(attempt: Attempt) -> Iterator[Condition]:
    """Ends of legs that lie there no more: no pruning takes them, so whoever did was not asked for it here."""
    recipe = attempt.workshop.recipe
    for index, leg in enumerate(recipe.legs[len(recipe.taken) :], len(recipe.taken)):
        why = amiss(attempt.evidence.leg(index).checkpoints, leg.iterations)
        if why:
            where = f"{attempt.workshop.folder}/leg-{index}/global_step{leg.iterations}"
            ended = "the stage" if index == len(recipe.legs) - 1 else f"leg {index}"
            message = f"the checkpoint that {ended} ended with, {where}, {why}"
            yield Condition(KEPT, "False", Fault.CHECKPOINT_LOST, message)


def _conditions(attempt: Attempt, phase: Phase, reason: Reason, message: str) -> tuple[Condition, ...]:
    recipe = attempt.workshop.recipe
    iteration = attempt.iterations
    trained = iteration >= recipe.iterations
    verdict, seen = attempt.evidence.verdict(), newest_on_the_way(attempt)
    passed = "Unknown" if verdict is None else str(verdict.passed)
    ended = attempt.evidence.ended(ActionKind.TRAIN, len(recipe.legs) - 1)
    forgotten = [receipt.job_id for _, receipt in ended[-1:] if attempt.evidence.job(receipt.job_id) is None]
    return (
        Condition("Ready", str(phase is Phase.DONE), reason, message),
        Condition(
            "Trained",
            str(trained),
            Reason.BUDGET_REACHED if trained else Reason.TOKENS_REMAIN,
            f"{iteration} of {recipe.iterations} iterations in complete checkpoints, "
            f"{counted(len(ended), 'job')} ended"
            + "".join(f"; PBS no longer knows job {job_id}" for job_id in forgotten),
        ),
        Condition(
            "Evaluated",
            str(final_losses(attempt) is not None),
            Reason.ALL_SETS_READ if final_losses(attempt) is not None else Reason.EVALUATION_NEEDED,
            f"{len(final_losses(attempt) or {})} of {len(attempt.validation_sets)} validation sets have a loss",
        ),
        Condition(
            "GatesPassed",
            passed,
            Reason.VERDICT_DUE if verdict is None else (Reason.ALL_EVIDENCE if verdict.passed else Reason.GATE_FAILED),
            verdict.message if verdict else "not judged yet" + (f"; on the way: {seen.message}" if seen else ""),
        ),
    )
