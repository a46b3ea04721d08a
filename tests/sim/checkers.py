"""What must never happen, held against what really happened. Nothing here uses the planner, the checks or the agent:
what is declared is read from the manifests by `declared`, what is done by watching PBS, jobs and files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.sim.campaigns import EXTERNAL, EXTERNAL_ITERATION
from tests.sim.declared import BOUNDS, ELSEWHERE, Declared, Leg, Stage
from tests.sim.jobs import LOGGED_S, names_of, number_in

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
HISTORY_S_MIN = 2000.0
LOOK_S_MAX = 150.0
"""How long a look may take."""


class Broken(BaseException):
    """An invariant does not hold. Not an Exception: the code under test must not be able to swallow it."""


class Checkers:
    """All of them, over one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.live: dict[str, list[Job]] = {}
        self.keys: dict[str, Job] = {}
        self.traceless: dict[str, set[str]] = {}
        """By key, when its qsub was started last: jobs of its attempt that neither journal, answer nor log tells of."""
        self.ran: dict[str, str] = {}
        """Key → the job that ran past its guard under it."""
        self.unguarded: set[str] = set()
        """Attempts of which a person has deleted what the guard keeps: nothing stands between two jobs any more."""
        self.logs: dict[str, str] = {}
        """Log → the job that opened it last."""
        self.logs_lost: set[str] = set()
        """Attempts of which a log was written over or taken away."""
        self.refused_keys: set[str] = set()
        self.told_refused: set[str] = set()
        self.retried: Counter[str] = Counter()
        self.whole: dict[tuple[str, int], Made] = {}
        """Checkpoints that are certainly complete: saved to the end, and not harmed by a crash or a person since."""
        self.saving: dict[tuple[str, int], float] = {}
        """When the save of a checkpoint began last."""
        self.harmed: set[tuple[str, int]] = set()
        self.journal_cut_at = 0.0
        """When a person has deleted something of the journal last."""
        self.flights: Counter[str] = Counter()
        """Of each key: qsubs that were started, and that PBS has not taken a job from."""
        self.unknowable: set[str] = set()
        """Keys with such a qsub when a person deleted the journal: nothing tells of it any more. Then the guard in the
        job stands alone."""
        self.deleted_at = -1.0
        """When a person has deleted something last."""
        self.scripts: dict[str, str] = {}
        """Key → the script that its qsub was given."""
        self.scriptless: set[str] = set()
        """Keys whose script a person has deleted since."""
        self.unasked: set[str] = set()
        """Of those, whose attempt was deleted, or had another entry in the journal when qsub was started last: where
        their own is gone too, nothing makes anybody ask for what has ended."""
        self.ladders_turned = 0
        """How often somebody had another commit: a rung that was begun by the one before goes on under it."""
        self.lists_edited = 0
        """How often a data list was exchanged for another."""
        self.jobs_of: Counter[str] = Counter()
        self.attempts_of: dict[str, dict[str, set[str]]] = {}
        self.spent_s = self.untold_s = 0.0
        """Node-seconds of all jobs, and of those of which a person has deleted what tells."""
        self.done: dict[str, str] = {}
        """Stage → attempt, once it was found to be done."""
        self.unjudged: set[str] = set()
        """Stages of which a person has taken the verdict away since: they are judged anew, and may fail then."""
        self.lost: set[str] = set()
        """Attempts whose loss was lost."""
        self.random: set[str] = set()
        self.verdicts: dict[str, bytes] = {}
        self.drawn: dict[tuple[str, int], bytes | None] = {}
        """Attempt and leg → its data list, as the first job found it."""
        self.pilots: dict[str, set[str]] = {}
        """Stage → attempts that train with a pilot's budget."""
        self.judged: dict[str, dict[str, Any]] = {}
        """Attempt → the first verdict on it."""
        self.evaluations_removed = False
        self.done_removed = False
        """Whether the whole attempt of a done stage was."""
        self.misled_by_load: set[str] = set()
        """Attempts with a job whose losses were not those of what it should have loaded."""
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
        self.flights[key] += 1
        try:
            entry = self.world.disk.survives(f"{WORKSPACE}/.journal/{key.replace('/', '+')}.json", WORKSPACE)
        except OSError:
            entry = None
        if self.journal_cut_at >= process.begun:
            pass
        elif entry is None or json.loads(entry).get("state") != "intent" or json.loads(entry).get("key") != key:
            self.fail(f"qsub of {key} without a safe intent in the journal: {entry!r}")
        scripted = (self.world.disk.read(argv[-1]) or b"").startswith(b"#!")
        if not scripted and self.deleted_at < process.begun:
            self.fail(f"qsub of {key} without its script")
        mine = (self.lock().get("host"), self.lock().get("pid")) == (process.node.name, process.pid)
        if not mine and not self.unlocks:
            self.fail(f"qsub of {key} without holding the lock: {self.lock()}")
        if key in self.told_refused and not self.retried[key.split("/")[1]]:
            self.fail(f"{key} was refused for good and is submitted again")
        prefix = "/".join(key.split("/")[:3])
        self.traceless[key] = {job.id for job in self.world.pbs.jobs.values()
                               if job.attempt == prefix and not self.has_trace(job)}  # fmt: skip
        self.scripts[key] = argv[-1]
        if key in self.scriptless and self.has_another_entry(key):
            self.unasked.add(key)

    def has_another_entry(self, key: str) -> bool:
        """Whether the journal has one with a job of the same attempt."""
        folder, own = f"{WORKSPACE}/.journal", f"{key.replace('/', '+')}.json"
        start = "+".join(key.split("/")[:3])
        names = [n for n in self.world.disk.names(folder) if n.startswith(start) and n.endswith(".json") and n != own]
        return any(b'"job_id": "' in (self.world.disk.read(f"{folder}/{name}") or b"") for name in names)

    def refused(self, key: str) -> None:
        self.refused_keys.add(key)

    def retries(self, stages: Iterable[str]) -> None:
        """A person gives --retry for these stages."""
        for stage in stages:
            self.retried[stage] += 1

    def queued(self, job: Job) -> None:
        """PBS takes a job: the only live one of its attempt, and the first with its key."""
        self.flights[job.key] -= 1
        for other in self.live.get(job.attempt, ()):
            excused = self.denied(other, job.key) or self.misled(other) or self.untold(other)
            excused = excused or self.given_up(other) or self.exiting(other)
            if job.key not in self.unknowable and not excused:
                self.fail(f"two live jobs of one attempt: {other.id} ({other.key}) and {job.id} ({job.key})")
        before = self.keys.get(job.key)
        known = before is not None and not self.without_trace(before) and not self.denied(before, job.key)
        if before is not None and known and job.key not in self.unknowable:
            self.fail(f"{job.key} was submitted as {before.id} and again as {job.id}")
        self.live.setdefault(job.attempt, []).append(job)
        self.keys[job.key] = job
        if job.kind != "train" or before is not None:
            return
        stage = job.key.split("/")[1]
        self.jobs_of[job.attempt] += 1
        if self.jobs_of[job.attempt] > self.world.declared.jobs_per_attempt + self.retried[stage] + 1:
            self.fail(f"{self.jobs_of[job.attempt]} training jobs of {job.attempt}")
        tried = self.attempts_of.setdefault(stage, {}).setdefault(job.script.commit, set())
        tried.add(job.attempt)
        pilots = self.of_trial(job, tried)
        if len(tried) > self.world.declared.attempts_per_stage + pilots + self.lists_edited + bool(self.ladders_turned):
            self.fail(f"{len(tried)} attempts at {stage}: {sorted(tried)}")
        bound = self.world.declared.node_hours
        told = self.world.pbs.history_s > HISTORY_S_MIN  # a server that forgets what has ended is the only one to know
        if told and (self.spent_s - self.untold_s) / 3600 > bound + 2 / 60:
            self.fail(f"{self.spent_s / 3600:.2f} node-hours are spent, the bound is {bound}")

    def of_trial(self, job: Job, tried: set[str]) -> int:
        """How many pilots the stage may have besides; before one of its variants gets the stage's budget all are
        judged, and the one with the least loss gets it."""
        stage = self.stage_of(job)
        if job.script.strategy not in stage.pilots:
            return len(stage.pilots)
        legs, target = stage.pilots[job.script.strategy], int(job.script.calls[0].environment["TRAIN_ITERS"])
        if target == legs[int(job.key.split("/")[3][1:])].iterations:
            self.pilots.setdefault(stage.name, set()).add(job.attempt)
            return len(stage.pilots)
        judged = [attempt for attempt in sorted(self.pilots.get(stage.name, ())) if attempt in self.judged]
        left = set(stage.pilots) - {self.judged[attempt]["strategy"] for attempt in judged}
        if left:
            self.fail(f"{job.key} trains the budget of the stage before {sorted(left)} are judged")
        found = {self.judged[attempt]["strategy"]: loss for attempt in judged
                 if (loss := self.pilot_loss(stage, attempt)) is not None}  # fmt: skip
        first = tried - self.pilots[stage.name] == {job.attempt}
        if first and found and found.get(job.script.strategy, 9.0) > min(found.values()) + 1e-6:
            self.fail(f"{job.script.strategy} gets the budget of the stage, the pilots' losses are {found}")
        return len(stage.pilots)

    def pilot_loss(self, stage: Stage, attempt: str) -> float | None:
        """Of a pilot that passed its gates, by the model itself; None if that cannot be told any more."""
        verdict = self.judged[attempt]
        last = len(stage.pilots[verdict["strategy"]]) - 1
        iterations = stage.pilots[verdict["strategy"]][last].iterations
        made = self.whole.get((f"{WORKSPACE}/{attempt}/leg-{last}", iterations))
        if made is None or any(gate["level"] == "fail" for gate in verdict["gates"]):
            return None
        losses = [self.world.validation_loss(f"/r/data/{name}.txt", made) for name in stage.compared]
        return sum(losses) / len(losses)

    def node_hours_wanting(self, stage: str) -> float:
        """How far the bound lies below what is spent and what this stage and those after it will surely take: their
        iterations at the speed that is logged, and a minute of all their nodes for all else."""
        names = list(self.world.declared.stages)
        to_come = 0.0
        for name in names[names.index(stage) :]:
            spec = self.world.declared.stages[name]
            legs = max(spec.ladder.values(), key=lambda each: sum(leg.iterations for leg in each))
            to_come += spec.nodes * (LOGGED_S * sum(leg.iterations for leg in legs) + 60.0)
        return (self.spent_s + to_come) / 3600 - self.world.declared.node_hours

    def tokens_begun(self, stage: str) -> int:
        """At most of all that was trained, and of another attempt at this stage."""
        tried = {name: set[str]().union(*commits.values()) for name, commits in self.attempts_of.items()}
        tokens = {name: spec.tokens for name, spec in self.world.declared.stages.items()}
        return tokens[stage] + sum(tokens[name] * len(attempts) for name, attempts in tried.items())

    def without_trace(self, job: Job) -> bool:
        """Whether nobody can know of a job any more: PBS does not, and it has left no log."""
        if not job.over or self.world.disk.read(job.script.log):
            return False
        if job.forgotten or not self.world.pbs.history_s:
            return True
        return self.journal_cut_at > job.queued_at and job.key in self.unasked

    def given_up(self, job: Job) -> bool:
        """A person was told that PBS does not list it, and has let another begin."""
        return self.world.now < job.unlisted_until and self.retried[job.key.split("/")[1]] > 0

    def exiting(self, job: Job) -> bool:
        """Its script has ended; only PBS could tell that it is not over, and has denied it since; and a person has
        deleted its entry."""
        return job.state == "E" and min(self.world.pbs.blank_at, self.journal_cut_at) > job.queued_at

    def untold(self, job: Job) -> bool:
        """Whether a routing queue hides a job of which a person has deleted the entry and the script."""
        hidden = self.world.now < job.unlisted_until
        return hidden and self.journal_cut_at > job.queued_at and job.key in self.scriptless

    def has_trace(self, job: Job) -> bool:
        """Whether the journal, the answer of its qsub or its log tells of a job."""
        journal, name = f"{WORKSPACE}/.journal", job.key.replace("/", "+")
        texts = [self.world.disk.read(path) or b""
                 for path in (f"{journal}/{name}.json", f"{journal}/{name}.out", job.script.log)]  # fmt: skip
        return any(job.id.encode() in text for text in texts)

    def denied(self, job: Job, key: str) -> bool:
        """Whether PBS has said that there is no job of ours, and no file told that this one was, when the qsub of this
        key was started: nobody could know better. Then the guard in the job stands alone."""
        return self.world.pbs.blank_at > job.queued_at and job.id in self.traceless.get(key, ())

    def misled(self, job: Job) -> bool:
        """Whether a person gave --retry for a job on its way through a routing queue, whose age a clock that was hours
        off had told wrong."""
        return (
            self.world.clocks_jumped and self.retried[job.key.split("/")[1]] > 0 and self.world.now < job.unlisted_until
        )

    def opens_log(self, job: Job) -> None:
        """Its log begins anew: what another job under its key had said is gone."""
        if self.logs.setdefault(job.script.log, job.id) != job.id:
            self.logs_lost.add(job.attempt)
            self.logs[job.script.log] = job.id

    def ended(self, job: Job) -> None:
        if job in self.live.get(job.attempt, ()):
            self.live[job.attempt].remove(job)
        if job.started_at is not None and job.ended_at is not None:
            self.spent_s += (job.ended_at - job.started_at) * job.script.nodes

    def runs(self, job: Job) -> None:
        """A job is past its guard and will write."""
        writers = [
            j.id for j in self.world.pbs.jobs.values() if j.writing and j.attempt == job.attempt and j is not job
        ]
        if job.attempt in self.unguarded:
            return
        if writers:
            self.fail(f"{job.id} and {writers} write at once in {job.script.attempt}")
        before = self.ran.setdefault(job.key, job.id)
        if before != job.id:
            self.fail(f"{job.id} runs under the key that {before} has run under: {job.key}")

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
        self.still_judged()

    def still_judged(self) -> None:
        """A verdict is given once."""
        for attempt in sorted(
            set().union(*(tried for commits in self.attempts_of.values() for tried in commits.values()))
        ):
            found = self.world.disk.read(f"{WORKSPACE}/{attempt}/verdicts/final.json") or b""
            if b'"gates"' in found:
                self.judged.setdefault(attempt, json.loads(found))
            if b'"gates"' in found and self.verdicts.setdefault(attempt, found) != found:
                self.fail(f"the verdict of {attempt} is another now: {self.verdicts[attempt]!r}, {found!r}")

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
        self.verdicts.clear()
        for job in self.world.pbs.jobs.values():
            if job.state in "EF" and self.ran.get(job.key) == job.id:
                del self.ran[job.key]  # the mark that the guard keeps may be lost with the job's log
        for (folder, iteration), made in list(self.whole.items()):
            told = self.world.disk.read(f"{folder}/latest_checkpointed_iteration.txt") or b""
            tracked = told.isdigit() and int(told) >= iteration
            if not tracked or not self.files_whole(folder, iteration, made):
                del self.whole[folder, iteration]
                self.harmed.add((folder, iteration))

    def removed(self, path: str) -> None:
        """A person has deleted this, file or folder, and all in it."""
        self.verdicts.clear()
        self.deleted_at = self.world.now
        whole_attempt = path.count("/") == f"{WORKSPACE}/campaign/stage/attempt".count("/")
        self.evaluations_removed |= "/evaluations" in path or whole_attempt
        self.done_removed |= any(f"{WORKSPACE}/{done}".startswith(f"{path}@") for done in self.done.values())
        for stage, done in self.done.items():
            if f"{WORKSPACE}/{done.split('@')[0]}/verdicts/final.json/".startswith(f"{path}/"):
                self.unjudged.add(stage)
        if path.startswith(f"{WORKSPACE}/.journal"):
            self.journal_cut_at, self.untold_s = self.world.now, self.spent_s
            self.unknowable |= {key for key, started in self.flights.items() if started > 0}
            self.told_refused.clear()
            self.jobs_of.clear()
        attempt, _, name = path.removeprefix(f"{WORKSPACE}/").rpartition("/")
        if name in ("begun", "writers", "writer.lock"):
            self.unguarded.add(attempt)
        for key in [key for key in self.ran if path == f"{WORKSPACE}/{'/'.join(key.split('/')[:3])}"]:
            del self.ran[key]  # what the guard keeps went with its attempt
        for place in list(self.whole):
            folder, iteration = place
            inside = f"{folder}/global_step{iteration}"
            pointer = path == f"{folder}/latest_checkpointed_iteration.txt" and iteration == self.newest(folder)
            if pointer or f"{inside}/".startswith(f"{path}/") or path.startswith(f"{inside}/"):
                del self.whole[place]
                self.harmed.add(place)
        self.scriptless |= {key for key, script in self.scripts.items() if script.startswith(f"{path}/")}
        self.unasked |= {key for key in self.scriptless if path == f"{WORKSPACE}/{'/'.join(key.split('/')[:3])}"}
        for log in self.logs:
            if log == path or log.startswith(f"{path}/"):
                self.logs_lost.add("/".join(log.removeprefix(f"{WORKSPACE}/").split("/")[:3]))

    # --- training -----------------------------------------------------------------------------------------------------

    def newest(self, folder: str) -> int:
        return max((iteration for where, iteration in self.whole if where == folder), default=0)

    def stage_of(self, job: Job) -> Stage:
        return self.world.declared_at(job.script.commit).stages[job.key.split("/")[1]]

    def leg_of(self, job: Job) -> Leg:
        stage, strategy, leg = self.stage_of(job), job.script.strategy, int(job.key.split("/")[3][1:])
        pilot = job.attempt in self.pilots.get(stage.name, ())
        return (stage.pilots if pilot else stage.ladder)[strategy][leg]

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
        rows = self.world.disk.read(call.environment["DATA_FILE_LIST"])
        if self.drawn.setdefault((job.attempt, leg), rows) != rows:
            self.fail(f"{job.id} draws from another list than {folder} was begun with")
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
        elif stage.source == ELSEWHERE:
            wanted = (f"/r/{EXTERNAL}", EXTERNAL_ITERATION)
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
        self.saving[made.folder, made.iteration] = self.world.now

    def saved(self, job: Job, made: Made) -> None:
        place = made.folder, made.iteration
        if self.files_whole(*place, made):
            self.whole[place] = made
        elif self.deleted_at >= self.saving.get(place, 0.0):  # a person has deleted one while the others were written
            self.harmed.add(place)
        else:
            self.fail(f"{job.id} has saved {made.folder}/global_step{made.iteration}, and it is not whole")

    def converts(self, job: Job, made: Made) -> None:
        stage = self.stage_of(job)
        if stage.source not in (ELSEWHERE, *self.done):
            self.fail(f"{job.id} converts a checkpoint of {stage.source}, which is not done")

    def edited(self, stage: str, commit: str) -> bool:
        """Whether it was begun by a commit that declares it otherwise than this one."""
        wanted = self.world.declared_at(commit).stages[stage]
        others = self.attempts_of.get(stage, {})
        return bool(self.lists_edited) or any(self.world.declared_at(c).stages[stage] != wanted for c in others)

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
        jobs = [action.key for action in seen.plan.actions if action.job is not None]
        for key in jobs:
            if declared.stages[key.stage].suspended:
                self.fail(f"{person.name} would submit {key}, whose stage is suspended")
        if jobs and all(self.long_closed(declared, node.skew_s) for node in self.world.logins):
            self.fail(f"{person.name} would submit {jobs[0]} outside of the submit windows")
        for stage in seen.plan.stages:
            if stage.phase == "Done" and (stage.stage not in self.done or stage.stage in self.unjudged):
                self.unjudged.discard(stage.stage)
                self.is_done(declared.stages[stage.stage], stage.attempt, stage.strategy)
                self.done[stage.stage] = f"{CAMPAIGN}/{stage.stage}/{stage.attempt}@{stage.strategy}"

    def long_closed(self, declared: Declared, skew_s: float) -> bool:
        """Whether no job may be submitted by this clock, and none could have been when a look of now began."""
        return all(declared.closed(self.world.now + skew_s - ago) for ago in (0.0, LOOK_S_MAX))

    def is_done(self, stage: Stage, attempt: str, strategy: str) -> None:
        """It has its budget, to the iteration and none twice; its final checkpoint was whole; its gates hold."""
        folder, ladder = f"{WORKSPACE}/{CAMPAIGN}/{stage.name}/{attempt}", stage.ladder[strategy]
        last = len(ladder) - 1
        final = (f"{folder}/leg-{last}", ladder[last].iterations)
        made = self.whole.get(final) or self.lies_whole(*final)
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
        if made.lost_loss and f"{CAMPAIGN}/{stage.name}/{attempt}" not in self.logs_lost:
            self.fail(f"{stage.name} is done although its loss was lost")
        self.gates(stage, made)

    def lies_whole(self, folder: str, iteration: int) -> Made | None:
        """A checkpoint that was cut off after its last file: no tracker tells of it, and somebody has deleted the one
        that told of another."""
        first = self.world.disk.read(f"{folder}/global_step{iteration}/{names_of(1)[0]}")
        made = self.world.made.get(number_in(first) or 0)
        return made if made is not None and self.files_whole(folder, iteration, made) else None

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
