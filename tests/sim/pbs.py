"""A PBS server in memory: qsub, qselect and qstat as OpenPBS 23.06 answers them (`tests/recordings/openpbs`), its
queue, its history, and everything that goes wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.sim import script as reader
from tests.sim.disk import Inode
from tests.sim.machine import OpenFile, Process
from tests.sim.qstat import Job, as_json, as_text, attributes
from tests.sim.system import USER

if TYPE_CHECKING:
    from tests.sim.world import World

NEVER = 1e12
DOWN = "Connection refused\n{}: cannot connect to server pbs-host (errno=15010)\n"
HAS_FINISHED = "Job has finished, use -x or -H to obtain historical job information"
NOT_NOW = (
    (38, "qsub: would exceed queue generic's per-user limit\n"),
    (173, "qsub: Queue is not enabled\n"),
    (198, "qsub: Maximum number of jobs already in queue\n"),
)
FOR_GOOD = (
    (188, "qsub: Job violates queue and/or server resource limits\n"),
    (32, "qsub: Job rejected by the site: no project\n"),
)


@dataclass(frozen=True)
class Fate:
    """What becomes of one qsub."""

    queues: bool = True
    answers: bool = True
    killed: bool = False
    """After it queued."""
    after: float = 0.0
    """How long it hangs then (seconds)."""


@dataclass(eq=False)
class Command:
    """A started command: what it answers, and when."""

    ready_at: float
    answer: tuple[int, bytes, bytes] | None = None
    later: object = None
    argv: list[str] = field(default_factory=list)
    server: Server | None = None

    def finish(self) -> tuple[int, bytes, bytes]:
        if self.answer is None:
            assert self.server is not None
            self.answer = self.server.look(self.argv)
        return self.answer


class Server:
    """The server."""

    def __init__(self, world: World, history_s: float) -> None:
        self.world, self.history_s = world, history_s
        self.jobs: dict[int, Job] = {}
        self.next_number = 101
        self.down_until = 0.0
        self.blank_until = 0.0
        """Until then it lists nothing, and says so with status 0."""
        self.blank_at = 0.0
        """When somebody was told so last."""

    @property
    def down(self) -> bool:
        return self.world.now < self.down_until

    def by_id(self, job_id: str) -> Job | None:
        number = job_id.split(".")[0]
        found = self.jobs.get(int(number)) if number.isdigit() else None
        return None if found is None or found.forgotten or self.world.now < found.unlisted_until else found

    # --- commands that look -------------------------------------------------------------------------------------------

    def start(self, argv: list[str], process: Process) -> Command:
        """qselect or qstat; it answers with what is so when it ends."""
        world, now = self.world, self.world.now
        delay = world.chance.of("pbs").uniform(0.05, 0.6)
        if world.chance.happens("qstat: hangs"):
            process.blind = f"{argv[0]} hung"
            delay = NEVER
        return Command(now + delay, argv=argv, server=self)

    def look(self, argv: list[str]) -> tuple[int, bytes, bytes]:
        program, history = argv[0], "-x" in argv
        if self.down:
            return (162 if program == "qselect" else 255, as_json(self.world.now, {}) if program == "qstat" else b"",
                    DOWN.format(program).encode())  # fmt: skip
        if history and not self.history_s:
            return 0, b"", f"{program}: PBS is not configured to maintain job history\n".encode()
        if program == "qselect":
            return self.qselect(argv, history)
        ids = [word for word in argv[1:] if word[0].isdigit()]
        assert ids, "nobody may ask for every job of a server"
        return self.qstat(ids, history, "json" in argv)

    def qselect(self, argv: list[str], history: bool) -> tuple[int, bytes, bytes]:
        if self.world.chance.happens("qselect: fails"):
            return 1, b"", b"qselect: Request invalid for state of server\n"
        assert USER in argv[-1].split(",")
        if self.world.now < self.blank_until:
            self.blank_at = self.world.now
            return 0, b"", b""
        listed = [job for job in self.jobs.values() if self.by_id(job.id) and (history or not job.over)]
        return 0, "".join(f"{job.id}\n" for job in listed).encode(), b""

    def qstat(self, ids: list[str], history: bool, wants_json: bool) -> tuple[int, bytes, bytes]:
        found, errors, status = [], "", 0
        for job_id in ids:
            job = self.by_id(job_id)
            if job is None or (job.over and not self.history_s):
                errors, status = errors + f"qstat: Unknown Job Id {job_id}\n", 153
            elif job.over and not history:
                errors, status = errors + f"qstat: {job_id} {HAS_FINISHED}\n", 35
            else:
                found.append(job)
        if wants_json and len(found) > 1:
            self.world.chance.counts["qstat: only the first of several ids"] += 1
            found = found[:1]
        told = {job.id: attributes(job) for job in found}
        output = as_json(self.world.now, told) if wants_json else as_text(told)
        return self.spoilt(status, output, errors.encode())

    def spoilt(self, status: int, output: bytes, errors: bytes) -> tuple[int, bytes, bytes]:
        happens, dice = self.world.chance.happens, self.world.chance.of("spoil")
        if happens("qstat: cut"):
            return status, output[: dice.randrange(len(output) + 1)], errors
        if happens("qstat: empty"):
            return 0, as_json(self.world.now, {}), b""
        if happens("qstat: garbage"):
            return status, b"\xff\x00{" + output[::-1], errors
        return status, output, errors

    # --- qsub ---------------------------------------------------------------------------------------------------------

    def qsub(self, argv: list[str], process: Process, files: tuple[Inode, Inode], held: OpenFile | None) -> Command:
        """Begins; whatever it will do is decided now and happens at its time, also when its parent is dead."""
        world, happens, dice = self.world, self.world.chance.happens, self.world.chance.of("qsub")
        world.check.begins(argv, process)
        fate, delay = Fate(), dice.uniform(0.1, 2.0)
        if happens("qsub: hangs, then queues"):
            delay = dice.uniform(30.0, 700.0)
        elif happens("qsub: queues, then hangs"):
            fate = Fate(after=dice.uniform(60.0, 400.0))
        elif happens("qsub: answer lost"):
            fate = Fate(answers=False)
        elif happens("qsub: dies before it queues"):
            fate = Fate(queues=False)
        elif happens("qsub: dies after it queued"):
            fate = Fate(killed=True)
        command = Command(world.now + delay + fate.after)
        text = world.disk.read(argv[-1]) or b""
        running = (command, files, held)
        process.node.children.append(running)

        def queue() -> None:
            if running not in process.node.children:
                return  # its login node has gone down
            command.answer = self.accept(argv, text.decode(), fate)
            if fate.after:
                world.at(world.now + fate.after, end)
            else:
                end()

        def end() -> None:
            if running not in process.node.children:
                return
            process.node.children.remove(running)
            assert command.answer is not None
            for inode, data in zip(files, command.answer[1:], strict=True):
                if not world.disk.full:
                    inode.put(world.now, inode.data + data)
            if held is not None:
                held.closed(world.disk)

        world.at(world.now + delay, queue)
        return command

    def accept(self, argv: list[str], text: str, fate: Fate) -> tuple[int, bytes, bytes]:
        """What the server makes of one submission."""
        happens, dice = self.world.chance.happens, self.world.chance.of("accept")
        if not fate.queues:
            return -9, b"", b""
        if self.down:
            return 162, b"", DOWN.format("qsub").encode()
        if not text:
            return 1, b"", b"qsub: script file:: No such file or directory\n"
        if happens("qsub: not now"):
            status, told = dice.choice(NOT_NOW)
            return status, b"", told.encode()
        if happens("qsub: refused for good"):
            status, told = dice.choice(FOR_GOOD)
            self.world.check.refused(dict(pair.split("=", 1) for pair in argv[3].split(","))["CPT_KEY"])
            return status, b"", told.encode()
        if happens("qsub: a status nobody knows"):
            if dice.random() < 0.5:
                self.queue(argv, text)
            return 77, b"", b"qsub: something else\n"
        job = self.queue(argv, text)
        if fate.killed:
            return -9, b"", b""
        return 0, f"{job.id}\n".encode() if fate.answers else b"", b""

    def queue(self, argv: list[str], text: str) -> Job:
        """Take a job: from here on it may run."""
        world, dice = self.world, self.world.chance.of("queue")
        variables = dict(pair.split("=", 1) for pair in argv[3].split(","))
        job = Job(
            self.next_number, variables["CPT_KEY"], variables["CPT_WORKSPACE"], text, reader.read(text), world.now
        )
        job.changed_at = world.now
        self.next_number += 1
        self.jobs[job.number] = job
        world.say(f"PBS takes {job.id} {job.key}")
        world.check.queued(job)
        if world.chance.happens("job: lost in routing"):
            job.state, job.substate, job.forgotten, job.ended_at = "F", 92, True, world.now
            world.check.ended(job)
            return job
        if world.chance.happens("job: on its way through a routing queue"):
            job.unlisted_until = world.now + dice.uniform(5.0, 200.0)
        if world.chance.happens("job: never starts"):
            job.state, job.substate, job.stuck = "H", 20, True
            job.comment = "job held, too many failed attempts to run"
            return job
        wait = dice.uniform(2.0, 40.0)
        if world.chance.happens("job: cannot run for now"):
            job.comment = "Can Never Run: Insufficient amount of resource: ncpus"
            wait += dice.uniform(60.0, 300.0)
        begins = max(world.now + wait, job.unlisted_until)
        world.at(begins, lambda: self.begin(job, 1))
        return job

    # --- running ------------------------------------------------------------------------------------------------------

    def begin(self, job: Job, start: int) -> None:
        if job.state != "Q" or job.starts != start - 1:
            return
        world = self.world
        if world.now < job.unlisted_until:  # not in an execution queue yet
            world.at(job.unlisted_until, lambda: self.begin(job, start))
            return
        job.state, job.substate, job.comment, job.starts = "R", 42, "Job run", start
        job.started_at = job.changed_at = world.now
        job.node = f"node{world.chance.of('nodes').randrange(4)}"
        world.say(f"{job.id} runs on {job.node}")
        job.steps = world.program(job)
        world.at(world.now + job.script.walltime_s, lambda: self.over_walltime(job, start))
        if world.chance.happens("job: its node is lost"):
            world.at(world.now + world.chance.of("requeue").uniform(1.0, 60.0), lambda: self.requeue(job, start))
        self.step(job, start)

    def step(self, job: Job, start: int) -> None:
        if job.state != "R" or job.starts != start or job.steps is None:
            return
        steps = job.steps
        try:
            delay = next(steps)
        except StopIteration as stop:
            if job.state == "R" and job.steps is steps:
                status = int(stop.value)
                self.end(job, status, 92 if status == 0 else 93)
            return
        self.world.at(self.world.now + delay, lambda: self.step(job, start))

    def over_walltime(self, job: Job, start: int) -> None:
        if job.state == "R" and job.starts == start:
            self.world.log(job, "=>> PBS: job killed: walltime 61 exceeded limit 60")
            self.kill(job, -29, 93, "and exceeded resource walltime")

    def requeue(self, job: Job, start: int) -> None:
        """A node was lost under it: it starts again under the same id, unless its script forbids that."""
        if job.state != "R" or job.starts != start:
            return
        if not job.script.rerunnable:
            self.kill(job, -4, 93, "and failed", trap=False)
            return
        self.stop(job)
        job.state, job.substate, job.started_at = "Q", 10, None
        self.world.say(f"{job.id} is queued again")
        self.world.at(self.world.now + 20.0, lambda: self.begin(job, start + 1))

    def stop(self, job: Job) -> None:
        """Its processes are gone."""
        if job.steps is not None:
            job.steps.close()
            job.steps = None
        job.writing = False
        if job.holder is not None:
            job.holder.closed(self.world.disk)
            job.holder = None

    def kill(self, job: Job, exit_status: int, substate: int, comment: str, *, trap: bool = True) -> None:
        running = job.state == "R"
        self.stop(job)
        if running and trap and self.world.chance.of("trap").random() < 0.7:
            self.world.leave(job)
        job.comment = comment
        self.end(job, exit_status if running else None, substate)

    def end(self, job: Job, exit_status: int | None, substate: int) -> None:
        self.stop(job)
        world = self.world
        job.exit, job.changed_at = exit_status, world.now
        delay = world.chance.of("exiting").uniform(0.0, 4.0) if job.started_at is not None else 0.0
        if job.started_at is not None and world.chance.happens("job: its end is seen late"):
            delay += world.chance.of("exiting").uniform(20.0, 120.0)
        job.state, job.substate = "E", 51
        world.say(f"{job.id} ends with {exit_status}")

        def over() -> None:
            job.state, job.substate, job.ended_at, job.changed_at = "F", substate, world.now, world.now
            world.check.ended(job)
            if self.history_s:
                world.at(world.now + self.history_s, lambda: setattr(job, "forgotten", True))

        world.at(world.now + delay, over) if delay else over()

    def delete(self, job: Job) -> None:
        """`qdel` by somebody."""
        if job.state in "QRH":
            self.world.say(f"{job.id} is deleted")
            self.kill(job, 271, 91, f"and terminated by {USER}@pbs-host")

    def hold(self, job: Job) -> None:
        if job.state == "Q" and not job.stuck:
            job.state, job.substate, job.comment = "H", 20, "held by an administrator"

    def release(self, job: Job) -> None:
        if job.state == "H" and not job.stuck:
            job.state, job.substate, job.comment = "Q", 10, ""
            self.world.at(self.world.now + 5.0, lambda: self.begin(job, job.starts + 1))
