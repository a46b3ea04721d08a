"""Every load of an attempt: what a training job started from, and whether its first losses go on from there. Pure."""

from __future__ import annotations

from reconciler.domain import gates
from reconciler.model.observed import Receipt, TrainLog
from reconciler.model.plan import ActionKey, ActionKind
from reconciler.model.quantities import counted
from reconciler.model.recipe import LegRecipe, Load
from reconciler.model.status import Reason
from reconciler.model.verdict import GateResult, Level
from reconciler.planner.attempt import Attempt, Hold, Parent

TOLD_MAX = 500
"""Loads whose numbers go into a verdict: the worst ones of an attempt with more."""


def load_of(attempt: Attempt, key: ActionKey, log: TrainLog) -> GateResult | None:
    """Whether the job of this key loaded what it should have; None where nothing can be said (yet)."""
    gate, recipe = attempt.gates.continuity, attempt.workshop.recipe
    if gate is None or key.leg >= len(recipe.legs):
        return None
    leg, vocabulary = recipe.legs[key.leg], attempt.vocabulary
    iteration = _resumed(key, log)
    if iteration > 0:
        logs = [seen for other, seen in _logs(attempt, key.leg) if other.ended < key.ended]
        earlier = gates.losses_before(logs, iteration)
        if earlier is None and leg.load is Load.RANDOM:
            return None  # a young model may be no better than guessing
        return gates.continuity(log, earlier, gate, vocabulary, same_data=True)
    if leg.load is Load.RANDOM:
        return None
    parent = attempt.parent if key.leg == 0 else _leg_before(attempt, key.leg)
    if parent is None:
        return gates.continuity(log, None, gate, vocabulary, same_data=False)
    earlier = gates.losses_before(parent.logs, parent.iteration)
    return gates.continuity(log, earlier, gate, vocabulary, same_data=_same_data(parent.leg, leg))


def all_loads(attempt: Attempt) -> GateResult | None:
    """The loads of an attempt that came to its end. One that was bad was let go on by a person, and only warns."""
    found: list[tuple[ActionKey, GateResult]] = []
    for index in range(len(attempt.workshop.recipe.legs)):
        for key, log in _logs(attempt, index):
            result = load_of(attempt, key, log)
            if result is not None:
                found.append((key, result))
    if not found:
        return None
    found.sort(key=lambda load: (load[1].level is Level.FAIL, load[1].numbers.get("rise", 0.0)))
    numbers = {
        f"leg {key.leg}, job {key.ended + 1}.{name}": value
        for key, result in found[-TOLD_MAX:]
        for name, value in result.numbers.items()
    }
    key, worst = found[-1]
    if worst.level is Level.FAIL:
        text = f"leg {key.leg}, job {key.ended + 1}: {worst.message}; a person let it go on"
        return GateResult("continuity", Level.WARN, text, numbers)
    rise = f", rise {worst.numbers['rise']:+.3f} nats at most" if "rise" in worst.numbers else ""
    return GateResult("continuity", Level.PASS, f"{counted(len(found), 'load')} went on as before{rise}", numbers)


def bad_load(attempt: Attempt, key: ActionKey, receipt: Receipt, log: TrainLog) -> Hold | None:
    """A job that ended after a bad load: no fault of the strategy's, so a person looks before anything follows."""
    result = None if attempt.retry or _let_go_on(attempt, receipt) else load_of(attempt, key, log)
    if result is None or result.level is not Level.FAIL:
        return None
    folder, iteration = attempt.workshop.folder, _resumed(key, log)
    if iteration > 0:
        where = f"went on from iteration {iteration} of leg {key.leg}"
        mend = f"move the checkpoints after iteration {iteration} out of {folder}/leg-{key.leg}"
    elif key.leg == 0 and attempt.evidence.leg(0).converted is not None:
        where = "started from the converted source"
        mend = f"move {folder}/leg-0 and {folder}/leg-0-source away, and it is converted anew"
    else:
        where = f"started leg {key.leg} from its source"
        mend = f"move {folder}/leg-{key.leg} away"
    log_file = f"{folder}/jobs/l{key.leg}-n{key.ended}-train.log"
    return Hold(
        Reason.LOAD_DISCONTINUOUS,
        f"job {receipt.job_id} {where}, but {result.message}. The strategy is not judged by it. Look at {log_file}. If "
        f"the load was bad: mend its cause, and {mend}. If it was right: raise gates.continuity in the manifest. Then: "
        f"{attempt.retry_command}",
    )


def _let_go_on(attempt: Attempt, receipt: Receipt) -> bool:
    """Whether a job of the attempt followed, which only a person's retry allows."""
    return any(
        other.job_id is not None and other.written_s > receipt.written_s
        for key, other in attempt.evidence.receipts
        if key.kind in (ActionKind.TRAIN, ActionKind.EVALUATE)
    )


def _resumed(key: ActionKey, log: TrainLog) -> int:
    """The iteration of its leg that a job's first lines go on from; 0 if it began the leg, as a first job always does.

    A job that PBS ran twice has loaded twice in one log: the first time counts, as its first lines do.
    """
    if key.ended == 0:
        return 0
    first = log.first[0].iteration - 1 if log.first else 0
    return max(0, first if log.loaded_iteration is None else min(first, log.loaded_iteration))


def _logs(attempt: Attempt, leg: int) -> list[tuple[ActionKey, TrainLog]]:
    keyed = [(ActionKey.parse(log.key), log) for log in attempt.evidence.leg(leg).logs]
    return [(key, log) for key, log in keyed if key is not None and key.leg == leg]


def _leg_before(attempt: Attempt, leg: int) -> Parent:
    before = attempt.workshop.recipe.legs[leg - 1]
    return Parent(before, before.iterations, attempt.evidence.leg(leg - 1).logs)


def _same_data(before: LegRecipe | None, leg: LegRecipe) -> bool:
    """Whether the loss should go on: the same mixture of the same lists, and no rate that rises anew."""
    if before is None:
        return False
    same = dict(before.mixture) == dict(leg.mixture) and dict(before.lists) == dict(leg.lists)
    return same and leg.load is Load.CONTINUE
