"""Stories: the few things that go wrong, each at its moment, where one protection is all that stands between them and
harm.

Seeds meet most of them, one in thousands; a story meets its own each time, in a tenth of a second. Each ends as it
should with the real code; `bugs_of_stories.py` takes away the protection that it is about.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any

from reconciler import loop
from reconciler.cluster import execute
from reconciler.model.observed import Unread
from reconciler.model.status import Reason
from tests.sim import hands
from tests.sim.campaigns import ON_THE_WAY, PRUNES, REPLAY, TRIAL, Edits, edited
from tests.sim.chance import Chance
from tests.sim.checkers import Broken
from tests.sim.disk import Inode, problem
from tests.sim.kept import Branch
from tests.sim.machine import Node, Process, Trap
from tests.sim.people import Person, deterministic
from tests.sim.qstat import Job
from tests.sim.run import Stalled, set_aside
from tests.sim.script import Call
from tests.sim.speed import remembered
from tests.sim.world import World

PASS_S = 45.0
PASSES_MAX = 60
SAVE_TOLD = 8
"""So many writes has a save on two ranks until the log tells of it; from then on a person is asked."""
LONG = ("resources: {nodes: 2, walltime: 1m}", "resources: {nodes: 2, walltime: 30m}")
"""Of stage 1."""


class Told(Chance):
    """The dice of a story: what is told happens, as often as is told; nothing else does."""

    def __init__(self, **told: int) -> None:
        super().__init__(5)
        self.rates = dict.fromkeys(self.rates, 0.0)
        self.left: dict[str, list[bool]] = {}

    def tell(self, fault: str, *times: bool) -> None:
        """Whether it happens the first time that it could, the second time, …"""
        assert fault in self.rates, fault
        self.left[fault] = list(times)

    def happens(self, fault: str) -> bool:
        left = self.left.get(fault)
        return left.pop(0) if left else False


class Given(Random):
    """Dice that always fall the same."""

    def __init__(self, number: int) -> None:
        super().__init__(0)
        self.number = number

    def randrange(self, *_: Any) -> int:
        return self.number


class Extreme(Random):
    """Dice that fall on one end."""

    def __init__(self, share: float) -> None:
        super().__init__(0)
        self.share = share

    def random(self) -> float:
        return min(self.share, 0.999)

    def uniform(self, a: float, b: float) -> float:
        return a + (b - a) * self.share

    def randrange(self, *of: Any) -> int:
        return int(of[-1] * self.share)


class Worst(Random):
    """A crash in which everything is lost that was not made safe."""

    def random(self) -> float:
        return 1.0

    def randrange(self, *_: Any) -> int:
        return 0

    def choice(self, options: Any) -> Any:
        return options[0]


@contextmanager
def story(
    *edits: tuple[str, str], other: Edits = (), forgets: bool = False, iteration_s: float = 2.0
) -> Iterator[Story]:
    """A site with two people, `ada` with these edits of the manifests, `bob` with others (`other`), or the same."""
    chance = Told()
    both = {"a": edited(edits, "a"), "b": edited((*edits, *other), "b")}
    world = World(chance)
    world.declared = both["a"][1]
    setattr(world, "declared_at", lambda revision: both[revision[0]][1])  # noqa: B010
    world.disk.flock_mode, world.disk.links, world.pbs.history_s = "shared", True, 1e9
    world.forgets, world.iteration_s = forgets, iteration_s
    del world.logins[1:]
    world.people += [Person(world, "ada", both["a"][0]), Person(world, "bob", both["b" if other else "a"][0])]
    for person in world.people:
        person.kept = Branch(world)
    with deterministic(world), remembered():
        yield Story(world, chance)


class Story:
    """What the stories are told with."""

    def __init__(self, world: World, chance: Told) -> None:
        self.world, self.chance, (self.ada, self.bob) = world, chance, world.people

    def looks(self) -> loop.Look:
        """A pass, after some time."""
        self.world.pass_time(self.world.now + PASS_S)
        return self.ada.one_pass().look

    def until(self, told: Callable[[], object]) -> None:
        """Passes until it is so."""
        for _ in range(PASSES_MAX):
            if told():
                return
            self.looks()
        raise Stalled(f"{PASSES_MAX} passes did not bring it about")

    def steps(self, told: Callable[[], object]) -> None:
        """Nobody looks, the cluster goes on, until it is so."""
        for _ in range(4000):
            if told():
                return
            self.world.pass_time(self.world.now + 0.5)
        raise Stalled("the cluster did not bring it about")

    def settles(self) -> tuple[str, str]:
        """Passes until nothing changes any more: the stage that is held and why, ("", "") if all is done."""
        for _ in range(PASSES_MAX):
            seen = self.looks()
            if loop.settled(seen):
                held = next((stage for stage in seen.plan.stages if stage.phase != "Done"), None)
                return (held.stage, str(held.reason)) if held is not None else ("", "")
        raise Stalled(f"it still goes on after {PASSES_MAX} passes")

    def jobs(self, key: str = "/train") -> list[Job]:
        """In the order in which they were submitted."""
        return [job for job in self.world.pbs.jobs.values() if key in job.key]

    def begins(self, key: str = "/train", number: int = 1) -> Job:
        """Passes until the job with that number is queued, then time until it is past its guard."""
        self.until(lambda: len(self.jobs(key)) >= number)
        job = self.jobs(key)[number - 1]
        self.steps(lambda: job.writing)
        return job

    def rung(self, stage: str) -> str:
        """The strategy by which a stage came to its end."""
        return self.world.check.done.get(stage, "@").split("@")[1]

    def file(self, path: str, name: str) -> Inode:
        """A file of a folder, by the beginning of its name."""
        found = [each for each in self.world.disk.names(path) if each.startswith(name)]
        expect(found, f"{path} has no {name}")
        return self.world.disk.find(f"{path}/{found[-1]}")


def once_at(name: str, end: str, what: Callable[[], object]) -> Callable[[Process], Trap]:
    """A trap: at the first such call of the process, on a path with this end, that happens first."""

    def forced(process: Process) -> Trap:
        left = [what]

        def trap(number: int, called: str, path: str) -> OSError | None:
            if left and called == name and path.endswith(end):
                left.pop()()
            return None

        return trap

    return forced


def expect(is_so: object, text: str) -> None:
    if not is_so:
        raise Broken(text)


def ends(told: Story, stage: str = "", reason: Reason | str = "") -> None:
    found = told.settles()
    expect(found == (stage, str(reason)), f"it ended with {found}, not with {(stage, str(reason))}")
    if told.ada.kept is not None and told.ada.last is not None:
        told.ada.kept.tells_the_same(told.ada.desired, told.ada.last)


# --- bounds and permissions -------------------------------------------------------------------------------------------


def one_attempt_is_allowed() -> None:
    with story(("attemptsPerStage: 2", "attemptsPerStage: 1"), forgets=True) as told:
        ends(told, "stage-2", Reason.LADDER_EXHAUSTED)
        expect(len({job.attempt for job in told.jobs("/stage-2/")}) == 1, "another attempt was begun")


def one_job_is_allowed() -> None:
    with story(("jobsPerAttempt: 8", "jobsPerAttempt: 1"), iteration_s=9.0) as told:
        ends(told, "stage-1", Reason.JOBS_EXHAUSTED)
        expect(len(told.jobs()) == 1, f"{len(told.jobs())} jobs were submitted")


def node_hours_are_spent() -> None:
    """All would have fitted, but jobs of the last stage hang until their walltime is over."""
    with story(("nodeHours: 3\n", "nodeHours: 0.2\n")) as told:
        told.until(lambda: told.rung("stage-2"))
        told.chance.streams["train"] = Given(5)
        told.chance.tell("train: hangs", True, False, True, True)
        ends(told, "stage-3", Reason.NODE_HOURS_EXHAUSTED)


def node_hours_would_not_do() -> None:
    """What is to come takes more than is left: no stage is begun that ends in the middle."""
    with story(("nodeHours: 3\n", "nodeHours: 0.12\n")) as told:
        told.settles()
        assert told.ada.last is not None
        expect(told.ada.last.plan.refusals, "nobody was told")
        expect(not told.jobs("/stage-3/"), "the last stage was begun")


def a_stage_is_suspended() -> None:
    with story(("  dataset: docs\n", "  dataset: docs\n  suspend: true\n")) as told:
        ends(told, "stage-2", Reason.SUSPENDED)
        expect(not told.jobs("/stage-2/"), "a suspended stage has a job")


# --- what training shows ----------------------------------------------------------------------------------------------


def a_loss_is_lost() -> None:
    """A run that lost its loss is stopped while it runs, and the next rung is tried."""
    with story(("resources: {nodes: 4, walltime: 1m}", "resources: {nodes: 4, walltime: 30m}")) as told:
        told.until(lambda: told.rung("stage-1"))
        told.chance.streams["train"] = Given(1)
        told.chance.tell("train: loses its loss", True)
        told.world.iteration_s = 12.0
        told.until(lambda: len({job.attempt for job in told.jobs("/stage-2/")}) > 1)
        expect(told.chance.counts["action: stop"] == 1, "it was not stopped")
        ends(told)
        expect(told.rung("stage-2") == "replay-5", f"{told.rung('stage-2')} passed, which lost its loss")


def a_loss_does_not_recover() -> None:
    """Over two jobs: it falls in the second, from where the first has never been."""
    with story(iteration_s=9.0) as told:
        told.until(lambda: told.rung("stage-1"))
        well = told.world.training_loss
        bad: list[str] = []

        def loss(call: Call, iteration: int, target: int) -> float:
            bad.append(call.environment["SAVE"])
            if call.environment["SAVE"] != bad[0]:
                return well(call, iteration, target)
            return 1.0 if iteration <= 4 else 3.0 - 0.1 * iteration

        setattr(told.world, "training_loss", loss)  # noqa: B010
        told.until(lambda: told.rung("stage-2"))
        expect(told.rung("stage-2") == "replay-5", f"{told.rung('stage-2')} passed, whose loss rose")


def a_load_is_bad() -> None:
    """Its first losses are those of a model that knows nothing: no strategy's fault, so a person is asked."""
    with story() as told:
        well = told.world.training_loss

        def loss(call: Call, iteration: int, target: int) -> float:
            return 5.3 if "/stage-2/" in call.environment["SAVE"] else well(call, iteration, target)

        setattr(told.world, "training_loss", loss)  # noqa: B010
        ends(told, "stage-2", Reason.LOAD_DISCONTINUOUS)
        expect(len({job.attempt for job in told.jobs("/stage-2/")}) == 1, "the strategy was given up for it")


def a_rung_is_not_for_this_failure() -> None:
    """It is tried where the loss does not recover; the one after it where something is forgotten, as it is here."""
    rungs = REPLAY.replace("      legs:", "      if: no-recovery\n      legs:")
    rungs += REPLAY.replace("replay-5", "replay-20").replace("0.05", "0.2").replace("0.95", "0.8")
    rungs = rungs.replace("replay-20\n", "replay-20\n      if: forgetting\n")
    with story((REPLAY, rungs), forgets=True) as told:
        ends(told)
        expect(told.rung("stage-2") == "replay-20", f"{told.rung('stage-2')} was tried")


def tokens_are_spent() -> None:
    """Those of a rung that failed count; what cannot be finished with what is left is not begun."""
    with story(("    nodeHours: 3\n", "    nodeHours: 3\n    tokens: 59392\n"), forgets=True) as told:
        ends(told, "stage-3", Reason.TOKENS_EXHAUSTED)
        expect(not told.jobs("/stage-3/"), "a stage that cannot be finished has a job")


def two_mixes_are_tried() -> None:
    """One pilot after the other; the better one comes second."""
    with story(*TRIAL, ("        atOnce: 2\n", "        atOnce: 1\n")) as told:
        ends(told)
        expect(told.rung("stage-2") == "mixes.lean", f"{told.rung('stage-2')} was chosen")


def a_checkpoint_is_evaluated_on_the_way() -> None:
    """Between two jobs of the stage, never beside one."""
    with story(*ON_THE_WAY, iteration_s=6.0) as told:
        job = told.begins("/stage-2/", number=2)
        leg = f"/w/{job.attempt}/leg-0"
        told.steps(lambda: told.world.disk.read(f"{leg}/latest_checkpointed_iteration.txt") == b"4")
        found = told.ada.look(told.ada.desired).plan
        expect(job.state == "R", "the job was over before")
        expect(not found.actions and not found.refusals, f"beside a live job: {found.actions}")
        ends(told)
        expect(told.jobs("/stage-2/") and told.jobs("/evaluate/leg-0-"), "nothing was evaluated on the way")
        wanted = [key for key in told.world.check.keys if "/stage-2/" in key and "evaluate" in key]
        expect(len(wanted) > 1, f"only {wanted} were evaluated")


def what_forgets(consecutive: int) -> bool:
    """Whether the rung that forgets was trained to its end."""
    often = ("      consecutive: 1\n", f"      consecutive: {consecutive}\n")
    with story(*ON_THE_WAY, often, iteration_s=6.0, forgets=True) as told:
        told.until(lambda: told.rung("stage-2"))
        expect(told.rung("stage-2") == "replay-5", f"{told.rung('stage-2')} passed and forgets")
        naive = told.jobs("/stage-2/")[0].attempt
        return (f"/w/{naive}/leg-0", 7) in told.world.check.whole


def what_forgets_ends_early() -> None:
    expect(not what_forgets(1), "the rest of its tokens was wasted")


def one_evaluation_on_the_way_is_not_enough() -> None:
    expect(what_forgets(2), "it was ended after one")


def a_person_asks_a_job_to_stop() -> None:
    """By touching `stop`, as the script says: the next job begins without it."""
    with story() as told:
        job = told.begins()
        told.steps(lambda: told.world.disk.names(f"/w/{job.attempt}/leg-0"))
        told.world.disk.place(f"/w/{job.attempt}/stop", b"")
        told.until(lambda: told.rung("stage-1"))
        expect(len(told.jobs("/stage-1/")) == 3, f"stage-1 took {[job.key for job in told.jobs('/stage-1/')]}")


def a_save_is_harmed(how: Callable[[Story, str], object]) -> None:
    """By a crash, after the job had saved twice: the next job goes on from the save before."""
    with story() as told:
        job = told.begins()
        leg = f"/w/{job.attempt}/leg-0"
        told.steps(lambda: told.world.disk.read(f"{leg}/latest_checkpointed_iteration.txt") == b"8")
        told.world.pbs.kill(job, 1, 93, "and failed", trap=False)
        how(told, f"{leg}/global_step8")
        told.world.check.crashed()
        ends(told)


def a_save_is_damaged() -> None:
    """One of its files has zeros at its end."""

    def damage(told: Story, folder: str) -> None:
        shard = told.file(folder, "bf16")
        shard.data = shard.data[:50] + b"\0" * 40

    a_save_is_harmed(damage)


def a_recipe_is_deleted() -> None:
    """Without it nothing tells which checkpoints are complete."""
    a_save_is_harmed(lambda told, folder: told.world.disk.unlink(f"{folder.rpartition('/leg-0')[0]}/recipe.json"))


def a_shard_is_lost() -> None:
    """One of its files is not there."""
    a_save_is_harmed(
        lambda told, folder: told.world.disk.unlink(f"{folder}/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt")
    )


def a_folder_cannot_be_looked_at() -> None:
    """A mount went stale under the last checkpoint of a leg while somebody looked: it is not therefore gone."""

    def stale(process: Process) -> Trap:
        def trap(number: int, called: str, path: str) -> OSError | None:
            hit = called == "stat" and "/leg-0/global_step" in path
            return problem(errno.ESTALE, path) if hit else None

        return trap

    with story() as told:
        job = told.begins()
        told.steps(lambda: job.state == "F")
        told.world.pass_time(told.world.now + PASS_S)
        told.ada.link.force = stale
        told.ada.one_pass()
        told.ada.link.force = None
        ends(told)
        expect(
            len(told.jobs("/stage-1/")) == len({job.key for job in told.jobs("/stage-1/")}) == 2, "it was trained twice"
        )


def the_first_save_is_cut_off(at: int) -> None:
    """The node dies at this write of it: `latest` may name what is incomplete, and the next job begins anew."""
    with story() as told:
        told.chance.tell("train: node dies while saving", True)
        told.chance.streams["save"] = Given(at)
        ends(told)


def each_first_save_that_is_cut_off() -> None:
    for at in range(SAVE_TOLD):
        the_first_save_is_cut_off(at)


def checkpoints_are_lost_and_set_aside() -> None:
    """A first stage's, in a crash: the job that finds none is stopped for it; when a person has moved the folder away,
    the next one rightly begins anew and is left alone."""
    with story() as told:
        job = told.begins()
        leg = f"/w/{job.attempt}/leg-0"
        told.steps(lambda: told.world.disk.read(f"{leg}/latest_checkpointed_iteration.txt") == b"4")
        told.world.pbs.kill(job, 1, 93, "and failed", trap=False)
        for name in told.world.disk.names(leg):
            told.world.disk.rename(f"{leg}/{name}", f"/r/lost-{name}")
        told.world.check.crashed()
        expect(told.settles() == ("stage-1", Reason.STARTED_FROM_RANDOM), "it trains on from random weights")
        assert told.ada.last is not None
        set_aside(told.world, f"/w/{job.attempt}", told.ada.last.plan.stages[0].message)
        told.ada.retry = frozenset({"stage-1"})
        ends(told)


# --- conversion, evaluation, verdict ----------------------------------------------------------------------------------


def a_conversion_is_damaged() -> None:
    """Its pointer is there and its receipt, one of its files is cut: it is done again."""
    with story() as told:
        convert = told.begins("/convert")
        told.steps(lambda: convert.over)
        told.file(f"/w/{convert.attempt}/leg-0-source/global_step11_universal", "weights").data = b"PK"
        ends(told)


def the_losses_of_the_source_are_lost() -> None:
    """Somebody deletes them while the next stage trains: it is not therefore taken to have forgotten nothing."""
    with story(forgets=True) as told:
        told.until(lambda: any(job.kind == "train" for job in told.jobs("/stage-2/")))
        folder = f"/w/{told.jobs('/stage-1/')[0].attempt}/evaluations"
        for name in told.world.disk.names(folder):
            told.world.disk.rename(f"{folder}/{name}", f"/r/lost-{name}")
        told.until(lambda: told.rung("stage-2"))
        expect(told.rung("stage-2") == "replay-5", f"{told.rung('stage-2')} passed and forgets")


def an_evaluation_has_a_part_of_its_losses() -> None:
    """The job dies at the one validation set that tells of forgetting: nothing is judged before it has a loss."""
    with story(forgets=True) as told:
        told.until(lambda: told.jobs("/stage-2/"))
        told.chance.tell("evaluate: crashes", True)
        told.until(lambda: told.rung("stage-2"))
        expect(told.rung("stage-2") == "replay-5", f"{told.rung('stage-2')} passed and forgets")


def a_checkpoint_is_lost_that_was_evaluated() -> None:
    """It is trained anew, and its losses are not those of the one that is gone."""
    with story() as told:
        told.until(lambda: [job for job in told.jobs("/evaluate/") if "/stage-2/" in job.key])
        job = told.jobs("/evaluate/")[-1]
        told.steps(lambda: job.state == "F")
        hands.remove(told.world, f"/w/{job.attempt}/leg-0")
        ends(told)
        expect(
            job.key.replace("/n0/", "/n1/") in [job.key for job in told.jobs("/evaluate/")], "it was not evaluated anew"
        )


def the_end_of_a_leg_is_lost_that_the_next_went_on_from() -> None:
    """What it learned is in the checkpoints of the next one: it is not trained again."""
    with story() as told:
        told.until(lambda: told.jobs("/evaluate/leg-1-"))
        job = told.jobs("/evaluate/leg-1-")[-1]
        told.steps(lambda: job.state == "F")
        leg = f"/w/{job.attempt}/leg-0"
        newest = [name for name in told.world.disk.names(leg) if name.startswith("global_step")][-1]
        hands.remove(told.world, f"{leg}/{newest}")
        ends(told)
        trained = [each.key for each in told.jobs() if each.attempt == job.attempt]
        expect(len(trained) == 2, f"it was trained by {trained}")
        legs = told.world.declared.stages["stage-3"].ladder[told.rung("stage-3")]
        verdict = told.world.check.judged[job.attempt]
        expect(verdict["iteration"] == sum(leg.iterations for leg in legs), f"its verdict is of {verdict['iteration']}")


def a_job_starts_from_random_whose_qsub_left_no_answer() -> None:
    """Its log tells of it, though the journal has no job."""
    with story() as told:
        first = told.begins()
        told.steps(lambda: first.state == "F")
        hands.remove(told.world, f"/w/{first.attempt}/leg-0")
        told.chance.tell("qsub: dies after it queued", True)
        second = told.begins(number=2)
        told.steps(lambda: second.state == "F")
        ends(told, "stage-1", Reason.STARTED_FROM_RANDOM)


def a_validation_set_is_exchanged() -> None:
    """The source is evaluated once more, on the new set; its losses are not those of the stage's end."""
    with story(forgets=True) as told:
        told.until(lambda: told.rung("stage-1"))
        told.world.disk.place("/r/data/val-D0.txt", b"1.0 /data/val-D0 other\n")
        told.until(lambda: told.rung("stage-2"))
        expect(told.jobs("/evaluate/leg-0-0"), "the source was not evaluated on the new set")
        expect(told.rung("stage-2") == "replay-5", f"{told.rung('stage-2')} passed and forgets")


def a_verdict_is_judged_by_two() -> None:
    """Another commit allows more; its old look would write another verdict over the one that is there."""
    looser = (("weak: {warn: 0.05, fail: 0.10}", "weak: {warn: 5, fail: 10}"),)
    with story(forgets=True, other=looser) as told:
        told.until(lambda: told.jobs("/evaluate/leg-0-7"))
        told.steps(lambda: told.jobs("/evaluate/leg-0-7")[0].over)
        told.world.pass_time(told.world.now + 60.0)
        old = told.bob.look(told.bob.desired)
        expect(old.plan.actions[0].key.kind == "judge", "nothing is to be judged")
        told.ada.one_pass()
        told.bob.act(told.bob.desired, old)
        told.until(lambda: told.rung("stage-2"))
        expect(told.rung("stage-2") == "replay-5", f"{told.rung('stage-2')} passed and forgets")


def a_list_is_edited() -> None:
    """Its corpora are drawn otherwise now, in the middle of a stage: it is not trained on as if nothing were."""
    with story(iteration_s=6.0) as told:
        job = told.begins()
        told.world.disk.place("/r/data/D0.txt", b"0.5 /data/D0-a text\n0.5 /data/D0-b more\n")
        told.steps(lambda: job.over)
        ends(told, "stage-1", Reason.TRAINED_IMMUTABLE)
        expect(len(told.jobs()) == 1, "it was trained on with another list")


# --- two at once ------------------------------------------------------------------------------------------------------


def the_lock_is_taken_away() -> None:
    """A person takes a batch for dead that is not, and unlocks it: from then on it does nothing."""
    with story() as told:
        seen = told.ada.look(told.ada.desired)

        def unlocked() -> None:
            execute.unlock(told.bob.link, "/w", str(told.world.check.lock()["nonce"]))

        told.ada.link.force = once_at("rename", "/.applied.json.new", unlocked)
        told.ada.act(told.ada.desired, seen)
        expect(not told.jobs(), "it was submitted without the lock")
        ends(told)


def the_lock_is_taken_while_somebody_looks() -> None:
    """A batch stands still with its lock; another's is told that it is held."""
    with story() as told:
        told.ada.busy = True
        seen = told.ada.look(told.ada.desired)
        told.ada.link.force = once_at("rename", "-train.pbs.new", told.bob.one_pass)
        told.ada.act(told.ada.desired, seen)
        told.ada.busy = False
        ends(told)


def an_agent_stands_still_before_its_qsub() -> None:
    """Without flock, for longer than others wait for a qsub that they cannot see: it is not started any more."""
    with story() as told:
        told.world.disk.flock_mode = "none"
        seen = told.ada.look(told.ada.desired)
        told.chance.tell("qsub: hangs, then queues", True)
        told.chance.streams["qsub"] = Extreme(1.0)
        told.ada.link.force = once_at("rename", "-train.pbs.new", lambda: told.world.pass_time(told.world.now + 1300.0))
        told.ada.act(told.ada.desired, seen)
        ends(told)


def bob_submits_unseen(told: Story) -> None:
    """His qsub gives no answer, and for longer than a routing queue hides a job nobody looks; it has not begun."""
    told.chance.tell("qsub: answer lost", True)
    told.chance.tell("job: never starts", True)
    told.bob.one_pass()
    told.world.pass_time(told.world.now + 400.0)


def an_apply_waits_while_another_asks() -> None:
    """It takes the lock after another's batch: what it knew of jobs before that counts no more."""
    with story() as told:
        told.ada.busy = True
        seen = told.ada.look(told.ada.desired)
        told.ada.link.force = once_at("link", "/.lock", lambda: bob_submits_unseen(told))
        told.ada.act(told.ada.desired, seen)
        expect(len(told.jobs()) == 1, "it was submitted again")


def the_table_cannot_be_read_any_more() -> None:
    """When it acts on what it saw: that is no proof that there is no job."""
    with story() as told:
        seen = told.ada.look(told.ada.desired)
        bob_submits_unseen(told)
        told.chance.tell("qselect: fails", True)
        told.ada.act(told.ada.desired, seen)
        expect(len(told.jobs()) == 1, "it was submitted again")


def a_qsub_hangs(flock: str, *waits_s: float, elsewhere: bool) -> None:
    """For minutes, and then it queues. Its agent has gone; who comes next waits for it."""
    with story() as told:
        told.world.disk.flock_mode = flock
        told.chance.tell("qsub: hangs, then queues", True)
        told.chance.streams["qsub"] = Extreme(0.99)
        told.ada.one_pass()
        if elsewhere:
            told.world.logins[:] = [Node("login1", "boot-1-0")]
        for wait_s in waits_s:
            told.world.pass_time(told.world.now + wait_s)
            told.bob.one_pass()
        ends(told)


def a_qsub_hangs_on_another_node() -> None:
    a_qsub_hangs("local", 20.0, elsewhere=True)


def a_qsub_hangs_on_this_node() -> None:
    a_qsub_hangs("shared", 5.0, 330.0, elsewhere=False)


def a_job_is_deleted_that_nobody_knew() -> None:
    """Its qsub gave no answer and it left no log; PBS alone tells that it was."""
    with story() as told:
        told.chance.tell("qsub: answer lost", True)
        told.chance.tell("job: never starts", True)
        told.ada.one_pass()
        told.world.pbs.delete(told.jobs()[0])
        told.world.pass_time(told.world.now + 400.0)
        ends(told, "stage-1", Reason.JOB_DELETED)


def qsub_ends_with_a_status_nobody_knows() -> None:
    """The job is queued all the same, and a routing queue hides it for minutes."""
    with story() as told:
        told.chance.tell("qsub: a status nobody knows", True)
        told.chance.tell("job: on its way through a routing queue", True)
        told.chance.streams["accept"], told.chance.streams["queue"] = Extreme(0.0), Extreme(0.9)
        ends(told)


def a_journal_entry_is_deleted() -> None:
    """Of a job that no server remembers: its log tells of it."""
    with story(iteration_s=9.0) as told:
        told.world.pbs.history_s = 0.0
        told.looks()
        told.steps(lambda: told.jobs() and told.jobs()[0].over)
        entry = f"/w/.journal/{told.jobs()[0].key.replace('/', '+')}.json"
        told.world.disk.unlink(entry)
        told.world.pass_time(told.world.now + 2000.0)
        ends(told)


def a_journal_entry_is_deleted_of_a_job_that_is_not_listed() -> None:
    """A routing queue hides it; its script tells that it may be there."""
    with story() as told:
        told.chance.tell("job: on its way through a routing queue", True)
        told.chance.streams["queue"] = Extreme(0.9)
        told.ada.one_pass()
        hands.remove(told.world, f"/w/.journal/{told.jobs()[0].key.replace('/', '+')}.json")
        ends(told)


def a_journal_and_the_folder_of_a_script_are_deleted() -> None:
    """Of a job that therefore could not begin and left no log: PBS alone tells that it was, if somebody asks."""
    with story() as told:
        told.chance.tell("job: cannot run for now", True)
        told.ada.one_pass()
        (job,) = told.jobs()
        for path in (f"/w/{job.attempt}/jobs", "/w/.journal"):
            hands.remove(told.world, path)
        told.steps(lambda: job.over)
        expect(job.exit == 1, "it began")
        ends(told)


def pbs_lists_nothing_with_status_0() -> None:
    """A job whose qsub gave no answer is submitted again, under its key; the first runs at last, then the second."""
    with story() as told:
        told.chance.tell("qsub: answer lost", True)
        told.chance.tell("job: cannot run for now", True, True)
        told.chance.streams["queue"] = Extreme(0.99)
        told.ada.one_pass()
        told.world.pbs.blank_until = told.world.now + 315.0
        for wait_s in (5.0, 300.0):
            told.world.pass_time(told.world.now + wait_s)
            told.ada.one_pass()
        expect(len(told.jobs()) == 2, "it was not submitted again")
        told.steps(lambda: told.jobs()[1].over)
        ends(told)


def a_job_is_hidden_until_a_later_one_has_run() -> None:
    """For longer than routing queues hide jobs, so a person lets another begin; then it comes, to train from where the
    other began."""
    with story(iteration_s=9.0) as told:
        told.until(lambda: len(told.jobs()) == 2)
        hidden = told.jobs()[1]
        hidden.unlisted_until = told.world.now + 1000.0
        expect(told.settles() == ("stage-1", str(Reason.LOST_IN_ROUTING)), "nobody was asked")
        told.ada.retry = frozenset({"stage-1"})
        later = told.begins(number=3)
        told.steps(lambda: later.over and hidden.over)
        ends(told)


def a_request_is_cut_off() -> None:
    """Anywhere: it is refused whole."""
    for share in (0.5, 0.99, 0.999, 0.99999):
        with story() as told:
            told.chance.tell("link: cut while sending", False, True)
            told.chance.streams["link"] = Extreme(share)
            told.ada.one_pass()
            expect(not told.jobs(), "half a request was carried out")


def two_jobs_begin(flock: str) -> None:
    """PBS lists a running job no more, and says so as if it were true: a second one begins beside it."""
    with story(LONG, iteration_s=60.0) as told:
        told.world.disk.flock_mode = flock
        first = told.begins()
        first.unlisted_until = told.world.now + 1e6
        told.world.check.live.clear()  # there will be two, and no fault of anybody here
        told.until(lambda: len(told.jobs()) > 1)
        first.unlisted_until = 0.0 if flock == "none" else 1e12
        second = told.jobs()[1]
        told.steps(lambda: second.over)
        expect(first.state == "R", "the first job was over before")


def two_jobs_begin_where_flock_works() -> None:
    two_jobs_begin("shared")


def two_jobs_begin_where_flock_does_not() -> None:
    two_jobs_begin("none")


def a_running_job_is_denied_and_known_again() -> None:
    """For minutes PBS neither lists it nor knows its id: another is submitted, and ends at the lock."""
    with story(LONG, iteration_s=60.0) as told:
        first = told.begins()
        first.unlisted_until = told.world.now + 1e6
        told.world.check.live.clear()  # there will be two, and no fault of anybody here
        told.until(lambda: len(told.jobs()) > 1)
        second = told.jobs()[1]
        told.steps(lambda: second.over)
        first.unlisted_until = 0.0
        expect((first.state, second.exit) == ("R", 75), "two jobs have trained at once")
        told.until(lambda: told.rung("stage-1"))


def the_lock_of_a_running_job_is_deleted() -> None:
    """And PBS lists it no more: the job that is submitted locks another file, and finds the mark of the first."""
    with story(LONG, iteration_s=60.0) as told:
        first = told.begins()
        first.unlisted_until = told.world.now + 1e6
        told.world.check.live.clear()
        told.until(lambda: len(told.jobs()) > 1)
        told.world.disk.unlink(f"/w/{first.attempt}/writer.lock")
        first.unlisted_until, second = 0.0, told.jobs()[1]
        told.steps(lambda: second.over)
        expect((first.state, second.exit) == ("R", 75), "two jobs have trained at once")
        told.until(lambda: told.rung("stage-1"))


def what_the_guard_keeps_is_deleted() -> None:
    """While a job trains alone: nothing comes of it."""
    with story(iteration_s=6.0) as told:
        job = told.begins()
        for name in hands.GUARDS:
            hands.remove(told.world, f"/w/{job.attempt}/{name}")
        ends(told)


def the_output_of_an_evaluation_is_seen_late() -> None:
    """Its job is over; it is not taken for one that came to nothing."""
    with story() as told:
        told.chance.tell("evaluate: its output is seen late", False, False, True)
        told.chance.streams["late"] = Extreme(0.99)
        told.until(lambda: told.jobs("/evaluate/"))
        job = told.jobs("/evaluate/")[0]
        told.steps(lambda: job.over)
        told.ada.one_pass()
        told.until(lambda: told.rung("stage-1"))
        found = [each.key for each in told.jobs("/evaluate/") if each.attempt == job.attempt]
        expect(found == [job.key], f"it was evaluated again: {found}")


# --- crashes of the file server ---------------------------------------------------------------------------------------


def the_file_server_crashes_after_qsub() -> None:
    """Everything is lost that was not made safe; the job that is queued must find its data list."""
    with story() as told:
        told.until(lambda: told.jobs())
        told.chance.streams["crash"] = Worst()
        told.world.crash()
        told.until(lambda: told.rung("stage-1"))
        expect(len(told.jobs()) == 1, "the first job did not find what it needs")


def the_pointer_of_a_first_save_is_cut() -> None:
    """By a crash, with the save itself; the next job would load from where it saves."""
    with story() as told:
        job = told.begins()
        leg = f"/w/{job.attempt}/leg-0"
        told.steps(lambda: told.world.disk.read(f"{leg}/latest_checkpointed_iteration.txt") == b"4")
        told.world.pbs.kill(job, 1, 93, "and failed", trap=False)
        told.world.disk.place(f"{leg}/latest", b"global")
        told.world.disk.unlink(f"{leg}/global_step4/mp_rank_00_model_states.pt")
        told.world.check.crashed()
        told.until(lambda: len(told.jobs()) > 1)
        again = told.jobs()[1]
        told.steps(lambda: again.over)
        expect(b"iteration=" in (told.world.disk.read(again.script.log) or b""), "the next job ended of it")


def the_file_server_crashes_at_any_moment() -> None:
    """A first stage may lose its checkpoints, and a person is asked; all else goes on by itself."""
    for at in range(7, 900, 21):
        with story(iteration_s=3.0) as told:
            told.chance.streams["crash"] = Worst() if at % 2 else Random(at)
            told.world.at(told.world.now + at, told.world.crash)
            if told.settles() != ("", ""):
                found = told.ada.last.plan.stages[0] if told.ada.last is not None else None
                assert found is not None
                expect(found.reason is Reason.STARTED_FROM_RANDOM, f"{found.message}, crash at {at} s")
                set_aside(told.world, f"/w/small/stage-1/{found.attempt}", found.message)
                told.ada.retry = frozenset({"stage-1"})
                ends(told)


def an_agent_is_killed_after_a_rename_and_the_file_server_crashes() -> None:
    """A file lies there whole and is not safe: whoever takes it as it lies makes it so."""
    with story() as told:
        seen = told.ada.look(told.ada.desired)

        def forced(process: Process) -> Trap:
            due: list[bool] = []

            def trap(number: int, name: str, path: str) -> OSError | None:
                if due:
                    process.die()
                if name == "rename" and "/lists/.leg-0-" in path:
                    due.append(True)
                return None

            return trap

        told.ada.link.force = forced
        told.ada.act(told.ada.desired, seen)
        told.ada.one_pass()
        told.chance.streams["crash"] = Worst()
        told.world.crash()
        told.until(lambda: told.rung("stage-1"))
        expect(len(told.jobs()) == 1, "the first job did not find what it needs")


def somebody_has_made_the_folder_of_the_journal() -> None:
    """That it is there does not make it safe."""
    with story() as told:
        seen = told.ada.look(told.ada.desired)
        told.ada.link.force = once_at("rename", "/.applied.json.new", lambda: told.world.disk.makedirs("/w/.journal"))
        told.ada.act(told.ada.desired, seen)
        ends(told)


def a_job_ends_before_anybody_looks() -> None:
    """On a server without history, and its qsub gave no answer: its log alone tells that it was."""
    with story(iteration_s=9.0) as told:
        told.world.pbs.history_s = 0.0
        told.chance.tell("qsub: answer lost", True)
        told.looks()
        told.steps(lambda: told.jobs() and told.jobs()[0].over)
        told.world.pass_time(told.world.now + 2000.0)
        ends(told)


# --- retention --------------------------------------------------------------------------------------------------------


def needless_folders_are_pruned() -> None:
    """Set aside before the next job, deleted by a later pass; whatever is planned is sound."""
    with story(*PRUNES) as told:
        for _ in range(PASSES_MAX):
            seen = told.looks()
            expect(not seen.plan.refusals, f"a plan is refused: {seen.plan.refusals}")
            if seen.plan.done:
                break
        done = told.world.check.done
        expect(len(done) == 3, f"only {sorted(done)} are done")
        first = f"/w/{done['stage-1'].split('@')[0]}/leg-0"
        folders = [name for name in told.world.disk.names(first) if "global_step" in name]
        expect(folders == ["global_step11"], f"of stage 1 are left {folders}")
        copy = f"/w/{done['stage-2'].split('@')[0]}/leg-0-source"
        expect(told.world.disk.names(copy) == ["latest_universal"], "the copy of its source is left")


def a_job_begins_after_a_look_that_would_prune() -> None:
    """Another person, whose manifests prune nothing, has submitted the next job of the attempt. That something else was
    applied meanwhile would stop the look's batch whole, but what was applied before could not be read by it."""
    with story(*PRUNES, other=((PRUNES[0][1], PRUNES[0][0]),), iteration_s=6.0) as told:
        first = told.begins()
        told.steps(lambda: first.over)
        told.world.pass_time(told.world.now + 300.0)
        seen = told.ada.look(told.ada.desired)
        expect(any(action.upkeep for action in seen.plan.actions), "nothing would be pruned")
        told.bob.one_pass()
        expect(told.jobs()[-1] is not first, "no other job was submitted")
        blind = replace(seen.observed, applied=Unread("the file server did not answer"))
        told.ada.act(told.ada.desired, replace(seen, observed=blind))
        beside = told.ada.look(told.ada.desired).plan
        expect(not beside.refusals and not beside.actions, f"beside a live job: {beside.actions}")
        ends(told)


def a_clock_is_ahead_when_a_checkpoint_was_just_saved() -> None:
    """By a login node's clock it was saved an hour ago; by the file system's, it may yet be lost with a server."""
    with story(*PRUNES, iteration_s=1.0) as told:
        job = told.begins()
        told.steps(lambda: job.over)
        told.world.pass_time(told.world.now + 1.0)
        told.world.logins[0].skew_s = 3700.0
        seen = told.ada.look(told.ada.desired)
        expect(any(action.upkeep for action in seen.plan.actions), "nothing would be pruned")
        told.ada.act(told.ada.desired, seen)
        told.world.logins[0].skew_s = 0.0
        ends(told)


STORIES: dict[str, Callable[[], None]] = {
    found.__name__.replace("_", " "): found
    for found in (
        one_attempt_is_allowed,
        one_job_is_allowed,
        node_hours_are_spent,
        node_hours_would_not_do,
        a_stage_is_suspended,
        a_loss_is_lost,
        a_loss_does_not_recover,
        a_load_is_bad,
        a_rung_is_not_for_this_failure,
        tokens_are_spent,
        two_mixes_are_tried,
        a_checkpoint_is_evaluated_on_the_way,
        what_forgets_ends_early,
        one_evaluation_on_the_way_is_not_enough,
        a_person_asks_a_job_to_stop,
        a_save_is_damaged,
        a_shard_is_lost,
        a_recipe_is_deleted,
        a_folder_cannot_be_looked_at,
        each_first_save_that_is_cut_off,
        checkpoints_are_lost_and_set_aside,
        a_conversion_is_damaged,
        the_losses_of_the_source_are_lost,
        an_evaluation_has_a_part_of_its_losses,
        a_checkpoint_is_lost_that_was_evaluated,
        the_end_of_a_leg_is_lost_that_the_next_went_on_from,
        a_job_starts_from_random_whose_qsub_left_no_answer,
        a_validation_set_is_exchanged,
        a_verdict_is_judged_by_two,
        a_list_is_edited,
        the_lock_is_taken_away,
        the_lock_is_taken_while_somebody_looks,
        an_agent_stands_still_before_its_qsub,
        an_apply_waits_while_another_asks,
        the_table_cannot_be_read_any_more,
        a_qsub_hangs_on_another_node,
        a_qsub_hangs_on_this_node,
        a_job_is_deleted_that_nobody_knew,
        qsub_ends_with_a_status_nobody_knows,
        a_journal_entry_is_deleted,
        a_journal_entry_is_deleted_of_a_job_that_is_not_listed,
        a_journal_and_the_folder_of_a_script_are_deleted,
        pbs_lists_nothing_with_status_0,
        a_job_is_hidden_until_a_later_one_has_run,
        a_request_is_cut_off,
        two_jobs_begin_where_flock_works,
        two_jobs_begin_where_flock_does_not,
        a_running_job_is_denied_and_known_again,
        the_lock_of_a_running_job_is_deleted,
        what_the_guard_keeps_is_deleted,
        the_output_of_an_evaluation_is_seen_late,
        the_file_server_crashes_after_qsub,
        the_pointer_of_a_first_save_is_cut,
        the_file_server_crashes_at_any_moment,
        an_agent_is_killed_after_a_rename_and_the_file_server_crashes,
        somebody_has_made_the_folder_of_the_journal,
        a_job_ends_before_anybody_looks,
        needless_folders_are_pruned,
        a_job_begins_after_a_look_that_would_prune,
        a_clock_is_ahead_when_a_checkpoint_was_just_saved,
    )
}
