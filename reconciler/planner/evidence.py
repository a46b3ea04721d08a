"""What one look holds about one attempt, indexed for questions: which jobs live, how many ended, what was judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler.model.observed import AttemptSeen, CheckpointSeen, EvaluationSeen, Job, LegSeen, Receipt, TrainLog
from reconciler.model.plan import ActionKey, ActionKind
from reconciler.model.recipe import LegRecipe, read_recipe
from reconciler.model.verdict import Level, Verdict, read_verdict

FINAL_VERDICT = "final"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Jobs, receipts and files of one attempt. Built only from tables that were read whole."""

    seen: AttemptSeen | None
    receipts: tuple[tuple[ActionKey, Receipt], ...]
    jobs: tuple[tuple[ActionKey, Job], ...]
    """Jobs that carry a key of this attempt, or whose id a receipt of it names."""

    def live(self) -> tuple[tuple[ActionKey, Job], ...]:
        """Jobs that may still write."""
        return tuple((key, job) for key, job in self.jobs if job.live)

    def ended(self, kind: ActionKind, leg: int, detail: str = "") -> tuple[tuple[ActionKey, Receipt], ...]:
        """Submitted jobs of this kind that live no more, in order: what the next key counts."""
        alive = {job.job_id for _, job in self.live()}
        same = [
            (key, receipt)
            for key, receipt in self.receipts
            if (key.kind, key.leg, key.detail) == (kind, leg, detail)
            and receipt.job_id is not None
            and receipt.job_id not in alive
        ]
        return tuple(sorted(same, key=lambda pair: pair[0].ended))

    def following(self, kind: ActionKind, leg: int, detail: str = "") -> int:
        """The number of the job after those that have ended: not how many there are, since an entry of the journal may
        have been taken away, and a key that is done is not done again."""
        ended = self.ended(kind, leg, detail)
        return ended[-1][0].ended + 1 if ended else 0

    def last_ended(self) -> tuple[tuple[ActionKey, Receipt], ...]:
        """Of each kind of job, leg and detail the one that ended last; what ended before it has been dealt with."""
        series = {(key.kind, key.leg, key.detail) for key, receipt in self.receipts if receipt.job_id is not None}
        ended = (self.ended(kind, leg, detail) for kind, leg, detail in sorted(series))
        return tuple(jobs[-1] for jobs in ended if jobs)

    def last_run(self, leg: int) -> tuple[ActionKey, Receipt] | None:
        """The training job of a leg that began last, where none lives. One whose qsub left no answer is told by its
        log."""
        runs = list(self.ended(ActionKind.TRAIN, leg))
        for log in self.leg(leg).logs:
            key = ActionKey.parse(log.key)
            receipt = self.receipt(key) if key is not None else None
            if key is not None and receipt is not None and receipt.job_id is None:
                job_id = next((job.job_id for found, job in self.jobs if found == key), "of unknown id")
                runs.append((key, replace(receipt, job_id=job_id)))
        return max(runs, key=lambda run: run[0].ended, default=None)

    def left_trace(self, key: ActionKey) -> bool:
        """Whether the files show that the job of this key has run: its log, or a checkpoint that no other log tells
        of."""
        if self.seen is None:
            return False
        if str(key) in self.seen.ran or self.log(key) is not None:
            return True
        leg = self.leg(key.leg)
        newest = leg.newest_complete()
        return (
            key.kind is ActionKind.TRAIN
            and newest is not None
            and not any(newest.iteration in log.saved for log in leg.logs)
        )

    def receipt(self, key: ActionKey) -> Receipt | None:
        """The journal entry of exactly this key."""
        return next((receipt for found, receipt in self.receipts if found == key), None)

    def job(self, job_id: str | None) -> Job | None:
        """A job of the table by its id."""
        return next((job for _, job in self.jobs if job.job_id == job_id), None)

    def leg(self, index: int) -> LegSeen:
        """A leg's folder; an empty one if it is not there yet."""
        return next((leg for leg in self._legs() if leg.index == index), LegSeen(index))

    def _legs(self) -> tuple[LegSeen, ...]:
        return self.seen.legs if self.seen else ()

    def log(self, key: ActionKey) -> TrainLog | None:
        """What the training job of this key logged."""
        return next((log for log in self.leg(key.leg).logs if log.key == str(key)), None)

    def evaluation(self, leg: int, iteration: int) -> EvaluationSeen | None:
        """The validation losses at one checkpoint."""
        found = self.seen.evaluations if self.seen else ()
        return next((e for e in found if (e.leg, e.iteration) == (leg, iteration)), None)

    def evaluated_beyond(self, leg: int, iteration: int) -> tuple[EvaluationSeen, ...]:
        """Evaluations of what comes after this iteration of this leg, but for those that lie aside already."""
        found = self.seen.evaluations if self.seen else ()
        return tuple(e for e in found if (e.leg, e.iteration) > (leg, iteration) and (e.losses or not e.earlier))

    def verdict(self) -> Verdict | None:
        """The final verdict, if one was written of this attempt; a copy of another's is none."""
        text = self.seen.verdicts.get(FINAL_VERDICT) if self.seen else None
        found = read_verdict(text) if text is not None else None
        if found is None or self.seen is None or (found.stage, found.attempt) != (self.seen.stage, self.seen.attempt):
            return None
        return found

    def begun_not_failed(self) -> bool:
        """Whether anything was done for this attempt and no verdict has failed it."""
        verdict = self.verdict()
        return bool(self.receipts) and (verdict is None or verdict.passed)

    def failed_gates(self) -> frozenset[str]:
        """Gates that the final verdict says failed."""
        verdict = self.verdict()
        gates = verdict.gates if verdict is not None else ()
        return frozenset(result.gate for result in gates if result.level is Level.FAIL)

    def verdict_damaged(self) -> bool:
        """Whether there is a final verdict that cannot be read back."""
        return self.verdict() is None and self.seen is not None and FINAL_VERDICT in self.seen.verdicts

    def recipe_wanting(self) -> bool:
        """Whether there are checkpoints of which nothing tells if they are complete: the recipe has their ranks."""
        seen = self.seen
        if seen is None or read_recipe(seen.recipe or "") is not None:
            return False
        return any(not checkpoint.complete for leg in seen.legs for checkpoint in leg.checkpoints)

    def saved(self) -> dict[int, tuple[int, ...]]:
        """Iterations of the complete checkpoints, by leg."""
        return {leg.index: tuple(c.iteration for c in leg.checkpoints if c.complete) for leg in self._legs()}

    def trained(self, legs: Sequence[LegRecipe]) -> tuple[int, ...]:
        """Iterations of each leg of a recipe that are trained: those in its complete checkpoints.

        Of a leg that a later one went on from it is all of them: that one's checkpoints hold what it learned, whether
        or not its own still lie there.
        """
        # Of the recipe's legs only: a folder that somebody moved to leg-9 tells nothing of those before it.
        own = [(leg.index, leg.newest_complete()) for leg in self._legs() if leg.index < len(legs)]
        newest = {index: found.iteration for index, found in own if found is not None and found.iteration > 0}
        at = max(newest, default=0)
        return tuple(
            leg.iterations if index < at else min(newest.get(index, 0), leg.iterations)
            for index, leg in enumerate(legs)
        )

    def trained_iterations(self) -> int:
        """Iterations that complete checkpoints hold, over all legs: what a discard would cost."""
        newest = [leg.newest_complete() for leg in self._legs()]
        return sum(checkpoint.iteration for checkpoint in newest if checkpoint)


def amiss(checkpoints: Iterable[CheckpointSeen], iteration: int, *, universal: bool = False) -> str:
    """Why a checkpoint that was whole cannot be loaded now, as the end of a sentence; empty if it is complete."""
    found = next((c for c in checkpoints if (c.iteration, c.universal) == (iteration, universal)), None)
    if found is None:
        return "is not there any more"
    return "" if found.complete else f"is incomplete: {found.why_not}"


def keyed(jobs: Iterable[Job], receipts: Iterable[Receipt]) -> Iterator[tuple[ActionKey, Job]]:
    """Jobs with the key they were submitted under: the one they carry, else that of the receipt that has their id.

    What a job carries comes first: a server that was set up anew gives old ids to other jobs.
    """
    of_id = {receipt.job_id: receipt.key for receipt in receipts if receipt.job_id}
    for job in jobs:
        key = ActionKey.parse(job.key or "") or ActionKey.parse(of_id.get(job.job_id, ""))
        if key is not None:
            yield key, job


def gather(
    campaign: str,
    stage: str,
    attempt: str,
    attempts: Sequence[AttemptSeen],
    receipts: Sequence[Receipt],
    jobs: Sequence[Job],
    validation: Mapping[str, str],
) -> Evidence:
    """The evidence of one attempt out of a whole look; `validation`: set → name of its results (`Lists.validation`)."""
    whose = (campaign, stage, attempt)
    ours = [
        (key, receipt)
        for receipt in receipts
        if (key := ActionKey.parse(receipt.key)) and (key.campaign, key.stage, key.attempt) == whose
    ]
    known = keyed(jobs, (receipt for _, receipt in ours))
    carried = tuple((key, job) for key, job in known if (key.campaign, key.stage, key.attempt) == whose)
    seen = next((a for a in attempts if (a.stage, a.attempt) == (stage, attempt)), None)
    if seen is not None:
        seen = replace(seen, evaluations=tuple(_of_sets(found, validation) for found in seen.evaluations))
    return Evidence(seen, tuple(ours), carried)


def _of_sets(found: EvaluationSeen, validation: Mapping[str, str]) -> EvaluationSeen:
    """Losses by validation set, of those that were found on the sets as they are now."""
    losses = {label: found.losses[name] for label, name in validation.items() if name in found.losses}
    return replace(found, losses=losses)
