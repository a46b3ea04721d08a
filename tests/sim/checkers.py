"""What must never happen, held against what really happened. Nothing here uses the planner, the checks or the agent:
what is declared is read from the manifests by `declared`, what is done by watching PBS, jobs and files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.sim.declared import BOUNDS, Leg, Stage
from tests.sim.jobs import names_of, number_in

if TYPE_CHECKING:
    from reconciler.loop import Look
    from tests.sim.jobs import Made
    from tests.sim.machine import Process
    from tests.sim.people import Person
    from tests.sim.qstat import Job
    from tests.sim.script import Call
    from tests.sim.world import World

WORKSPACE = "/w"
CAMPAIGN = "small"


class Broken(BaseException):
    """An invariant does not hold. Not an Exception: the code under test must not be able to swallow it."""


class Checkers:
    """All of them, over one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.live: dict[str, Job] = {}
        self.keys: dict[str, Job] = {}
        self.refused_keys: set[str] = set()
        self.told_refused: set[str] = set()
        self.retried: Counter[str] = Counter()
        self.whole: dict[tuple[str, int], Made] = {}
        """Checkpoints that are certainly complete: saved to the end, and not harmed by a crash since."""
        self.harmed: set[tuple[str, int]] = set()
        self.jobs_of: Counter[str] = Counter()
        self.attempts_of: dict[str, dict[str, set[str]]] = {}
        self.spent_s = 0.0
        self.done: dict[str, str] = {}
        """Stage → attempt, once it was found to be done."""
        self.lost: set[str] = set()
        """Attempts whose loss was lost."""
        self.random: set[str] = set()
        self.unlocks = 0
        self.crashes = 0

    def fail(self, text: str) -> None:
        raise Broken(text)

    # --- effects ------------------------------------------------------------------------------------------------------

    def lock(self) -> dict[str, Any]:
        data = self.world.disk.read(f"{WORKSPACE}/.lock")
        try:
            found = json.loads(data or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def begins(self, argv: Sequence[str], process: Process) -> None:
        """A qsub is started: under the lock, with its intent and its script on disk, not refused for good before."""
        key = dict(pair.split("=", 1) for pair in argv[3].split(","))["CPT_KEY"]
        entry = self.world.disk.survives(f"{WORKSPACE}/.journal/{key.replace('/', '+')}.json", WORKSPACE)
        if entry is None or json.loads(entry).get("state") != "intent" or json.loads(entry).get("key") != key:
            self.fail(f"qsub of {key} without a safe intent in the journal: {entry!r}")
        if not (self.world.disk.read(argv[-1]) or b"").startswith(b"#!"):
            self.fail(f"qsub of {key} without its script")
        mine = (self.lock().get("host"), self.lock().get("pid")) == (process.node.name, process.pid)
        if not mine and not self.unlocks:
            self.fail(f"qsub of {key} without holding the lock: {self.lock()}")
        if key in self.told_refused and not self.retried[key.split("/")[1]]:
            self.fail(f"{key} was refused for good and is submitted again")

    def refused(self, key: str) -> None:
        self.refused_keys.add(key)

    def retries(self, stages: Iterable[str]) -> None:
        """A person gives --retry for these stages."""
        for stage in stages:
            self.retried[stage] += 1

    def queued(self, job: Job) -> None:
        """PBS takes a job: the only live one of its attempt, and the first with its key."""
        other = self.live.get(job.attempt)
        if other is not None:
            self.fail(f"two live jobs of one attempt: {other.id} ({other.key}) and {job.id} ({job.key})")
        before = self.keys.get(job.key)
        if before is not None and not self.without_trace(before):
            self.fail(f"{job.key} was submitted as {before.id} and again as {job.id}")
        self.live[job.attempt], self.keys[job.key] = job, job
        if job.kind != "train":
            return
        stage = job.key.split("/")[1]
        self.jobs_of[job.attempt] += 1
        if self.jobs_of[job.attempt] > self.world.declared.jobs_per_attempt + self.retried[stage] + 1:
            self.fail(f"{self.jobs_of[job.attempt]} training jobs of {job.attempt}")
        tried = self.attempts_of.setdefault(stage, {}).setdefault(job.script.commit, set())
        tried.add(job.attempt)
        if len(tried) > self.world.declared.attempts_per_stage:
            self.fail(f"{len(tried)} attempts at {stage}: {sorted(tried)}")
        bound = self.world.declared.node_hours
        if self.spent_s / 3600 > bound + 2 / 60:
            self.fail(f"{self.spent_s / 3600:.2f} node-hours are spent, the bound is {bound}")

    def without_trace(self, job: Job) -> bool:
        """Whether nobody can know of a job any more: PBS does not, and it has left no log."""
        forgotten = job.over and (job.forgotten or not self.world.pbs.history_s)
        return forgotten and not self.world.disk.read(job.script.log)

    def ended(self, job: Job) -> None:
        if self.live.get(job.attempt) is job:
            del self.live[job.attempt]
        if job.started_at is not None and job.ended_at is not None:
            self.spent_s += (job.ended_at - job.started_at) * job.script.nodes

    def runs(self, job: Job) -> None:
        """A job is past its guard and will write."""
        writers = [
            j.id for j in self.world.pbs.jobs.values() if j.writing and j.attempt == job.attempt and j is not job
        ]
        if writers:
            self.fail(f"{job.id} and {writers} write at once in {job.script.attempt}")

    def refuses(self, status: int, output: bytes) -> None:
        """Half a request arrived."""
        if status == 0 or output:
            self.fail(f"half a request was answered with status {status}")

    def after_exec(self) -> None:
        """Whatever an agent did or left half done."""
        for key in sorted(self.refused_keys - self.told_refused):
            entry = self.world.disk.read(f"{WORKSPACE}/.journal/{key.replace('/', '+')}.json")
            if entry and b'"failed"' in entry:
                self.told_refused.add(key)
        self.still_whole()

    def still_whole(self) -> None:
        """No complete checkpoint was overwritten, shortened or removed."""
        for (folder, iteration), made in self.whole.items():
            if not self.files_whole(folder, iteration, made):
                self.fail(f"the complete checkpoint {folder}/global_step{iteration} was harmed")

    def files_whole(self, folder: str, iteration: int, made: Made) -> bool:
        inside = f"{folder}/global_step{iteration}"
        return all(number_in(self.world.disk.read(f"{inside}/{name}")) == made.number for name in names_of(made.ranks))

    def crashed(self) -> None:
        """After a crash a checkpoint counts only if all of it, and a tracker that says so, is still there."""
        self.crashes += 1
        for (folder, iteration), made in list(self.whole.items()):
            told = self.world.disk.read(f"{folder}/latest_checkpointed_iteration.txt") or b""
            tracked = told.isdigit() and int(told) >= iteration
            if not tracked or not self.files_whole(folder, iteration, made):
                del self.whole[folder, iteration]
                self.harmed.add((folder, iteration))

    # --- training -----------------------------------------------------------------------------------------------------

    def newest(self, folder: str) -> int:
        return max((iteration for where, iteration in self.whole if where == folder), default=0)

    def stage_of(self, job: Job) -> Stage:
        return self.world.declared_at(job.script.commit).stages[job.key.split("/")[1]]

    def leg_of(self, job: Job) -> Leg:
        return self.stage_of(job).ladder[job.script.strategy][int(job.key.split("/")[3][1:])]

    def trains(self, job: Job, call: Call, made: Made | None, start: int) -> None:
        """A training job has loaded: what it goes on from, and what it will draw."""
        folder, newest = call.environment["SAVE"], self.newest(call.environment["SAVE"])
        if start < newest:
            self.fail(f"{job.id} trains {folder} from {start}, though {newest} is complete: tokens are trained twice")
        if newest and (made is None or made.folder != folder):
            self.fail(f"{job.id} starts {folder} over, though {newest} is complete")
        if made is None:
            self.random.add(job.attempt)
        leg, stage = int(job.key.split("/")[3][1:]), self.stage_of(job)
        if not newest and start == 0:
            self.begins_from(job, stage, leg, made)
        shares, mixture = dict(self.world.shares_of(call.environment["DATA_FILE_LIST"])), self.leg_of(job).mixture
        if set(shares) != set(mixture) or any(abs(shares[s] - mixture[s]) > 1e-6 for s in mixture):
            self.fail(f"{job.id} draws {shares}, {mixture} is declared")
        names = self.world.declared_at(job.script.commit).before(stage.name)
        done = {self.world.declared.stages[name].symbol for name in names if name in self.done}
        if not set(shares) <= done | {stage.symbol}:
            self.fail(f"{job.id} draws {sorted(shares)}, done are only {sorted(done)}")

    def begins_from(self, job: Job, stage: Stage, leg: int, made: Made | None) -> None:
        """A leg's first step is taken from the end of the leg before it, or of the stage's source."""
        if leg:
            wanted = (f"{job.script.attempt}/leg-{leg - 1}", stage.ladder[job.script.strategy][leg - 1].iterations)
        elif stage.source:
            source = self.world.declared.stages[stage.source]
            if stage.source not in self.done:
                self.fail(f"{job.id} continues {stage.source}, which is not done")
            attempt, strategy = self.done[stage.source].split("@")
            last = len(source.ladder[strategy]) - 1
            wanted = (f"{WORKSPACE}/{attempt}/leg-{last}", source.ladder[strategy][last].iterations)
        else:
            if made is not None:
                self.fail(f"{job.id} should start from random and loaded {made.folder}")
            return
        if made is None or (made.folder, made.iteration) != wanted:
            found = made and (made.folder, made.iteration)
            if made is None and self.crashes:
                return  # what it was told to load was lost with the file server; its log says so
            self.fail(f"{job.id} begins from {found}, {wanted} is declared")

    def loads(self, job: Job, folder: str, tag: str, numbers: set[int | None]) -> None:
        if len(numbers) != 1:
            self.fail(f"{job.id} loads {folder}/{tag}, which is of several saves: {numbers}")

    def iterates(self, job: Job, call: Call, made: Made, iteration: int, rate: float) -> None:
        """One step: the rate it was taken with, and that it follows the one before."""
        leg = self.leg_of(job)
        position = sum(stretch.last - stretch.first + 1 for stretch in made.lineage) - 1
        wanted = leg.rate(position, position - iteration + 1)
        astray = job.attempt in self.random_midway()
        if not astray and abs(rate - wanted) > 1e-6 * wanted + 1e-12:
            self.fail(f"{job.id} takes iteration {iteration} at {rate}, {wanted} is declared")
        if made.lost_loss:
            self.lost.add(job.attempt)

    def random_midway(self) -> set[str]:
        """Attempts that lost their checkpoint with the file server and trained from random weights; they are held."""
        return {attempt for attempt in self.random if attempt.split("/")[1] != next(iter(self.world.declared.stages))}

    def saves(self, job: Job, made: Made) -> None:
        """A save begins to write."""
        if (made.folder, made.iteration) in self.whole:
            self.fail(f"{job.id} writes over the complete checkpoint {made.folder}/global_step{made.iteration}")

    def saved(self, job: Job, made: Made) -> None:
        self.whole[made.folder, made.iteration] = made

    def converts(self, job: Job, made: Made) -> None:
        stage = self.stage_of(job)
        if stage.source not in self.done:
            self.fail(f"{job.id} converts a checkpoint of {stage.source}, which is not done")

    def edited(self, stage: str, commit: str) -> bool:
        """Whether it was begun by a commit that declares it otherwise than this one."""
        wanted = self.world.declared_at(commit).stages[stage]
        return any(self.world.declared_at(other).stages[stage] != wanted for other in self.attempts_of.get(stage, {}))

    def set_aside(self, folder: str) -> None:
        """A person has moved a leg's folder away."""
        for place in [place for place in self.whole if place[0] == folder]:
            del self.whole[place]

    # --- plans --------------------------------------------------------------------------------------------------------

    def looked(self, person: Person, seen: Look, blind: str) -> None:
        """A plan was made of a look."""
        if blind and seen.plan.actions:
            self.fail(f"{person.name} would act although {blind} let it see nothing: {seen.plan.actions[0].key}")
        declared = self.world.declared_at(person.desired.revision)
        for stage in seen.plan.stages:
            if stage.phase == "Done" and stage.stage not in self.done:
                self.is_done(declared.stages[stage.stage], stage.attempt, stage.strategy)
                self.done[stage.stage] = f"{CAMPAIGN}/{stage.stage}/{stage.attempt}@{stage.strategy}"

    def is_done(self, stage: Stage, attempt: str, strategy: str) -> None:
        """It has its budget, to the iteration and none twice; its final checkpoint was whole; its gates hold."""
        folder, ladder = f"{WORKSPACE}/{CAMPAIGN}/{stage.name}/{attempt}", stage.ladder[strategy]
        last = len(ladder) - 1
        final = (f"{folder}/leg-{last}", ladder[last].iterations)
        made = self.whole.get(final)
        if made is None:
            if final in self.harmed:
                return
            self.fail(f"{stage.name} is done without a complete checkpoint {final[0]}/global_step{final[1]}")
            return
        own = [stretch for stretch in made.lineage if stretch.folder.startswith(folder)]
        trained = [(s.folder, i) for s in own for i in range(s.first, s.last + 1)]
        wanted = [(f"{folder}/leg-{n}", i) for n, leg in enumerate(ladder) for i in range(1, leg.iterations + 1)]
        if trained != wanted:
            self.fail(f"{stage.name} is done with {len(trained)} iterations, {len(wanted)} are its budget: {own}")
        if abs(len(trained) * 2048 - stage.tokens) > 2048 * len(ladder):
            self.fail(f"{stage.name} is done with {len(trained) * 2048} tokens of {stage.tokens}")
        if made.lost_loss:
            self.fail(f"{stage.name} is done although its loss was lost")
        self.gates(stage, made)

    def gates(self, stage: Stage, made: Made) -> None:
        """What was forgotten, by the model itself."""
        before = [stretch for stretch in made.lineage if f"/{stage.name}/" not in stretch.folder]
        if not before:
            return
        source = replace(made, lineage=tuple(before))
        for name in self.world.declared.before(stage.name):
            symbol = self.world.declared.stages[name].symbol
            path = f"/r/data/val-{symbol}.txt"
            rise = self.world.validation_loss(path, made) - self.world.validation_loss(path, source)
            if rise > BOUNDS[stage.shift] + 1e-9:
                self.fail(f"{stage.name} is done although {symbol} rose by {rise:.3f}")
