"""One simulated site: clock, file system, nodes, PBS, jobs, links. Nothing in it is random but `Chance`."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.sim import hands, jobs, retained
from tests.sim.campaigns import EXTERNAL, EXTERNAL_ITERATION, LISTS, commit
from tests.sim.chance import Chance
from tests.sim.checkers import Checkers
from tests.sim.declared import Declared
from tests.sim.disk import Disk, Inode
from tests.sim.jobs import Made, names_of
from tests.sim.machine import Node, OpenFile, Process
from tests.sim.pbs import Command, Server
from tests.sim.qstat import Job, Steps
from tests.sim.script import Call

if TYPE_CHECKING:
    from tests.sim.people import Person

BEGINS_S = 1_790_000_000.0
WORKSPACE = "/w"


class World:
    """Everything that is outside of the reconcilers."""

    def __init__(self, chance: Chance, campaign: str = "plain") -> None:
        self.chance, self.campaign = chance, campaign
        self.declared = self.declared_at("a")
        self.now, self.clocks_jumped = BEGINS_S, False
        self.trace: list[str] = []
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.sequence = 0
        dice = chance.of("site")
        self.disk = Disk(dice.choice(("shared", "shared", "shared", "local", "none")), links=dice.random() < 0.9)
        self.disk.now = self.now
        self.pbs = Server(self, dice.choice((0.0, 240.0, 1800.0, 1e9, 1e9)))
        self.logins = [Node(f"login{n}", f"boot-{n}-0", dice.uniform(-20.0, 20.0)) for n in range(2)]
        self.agents: list[Process] = []
        self.people: list[Person] = []
        self.current = 0
        self.iteration_s = dice.uniform(1.5, 5.0)
        self.forgets = dice.random() < 0.3
        self.made: dict[int, Made] = {}
        self.numbers = 0
        self.nonces = 0
        self.remote: dict[str, bytes] = {}
        self.check = Checkers(self)
        self._files()
        for mode in (f"campaign: {campaign}",
                     f"file system: flock {self.disk.flock_mode}", f"file system: links {self.disk.links}",
                     f"PBS: history {self.pbs.history_s:.0f} s", f"campaign: forgets {self.forgets}"):  # fmt: skip
            chance.counts[mode] += 1

    def _files(self) -> None:
        """What is there before anybody looks: the launcher, the data lists, a checkpoint that was made elsewhere."""
        self.disk.makedirs("/r/data")
        self.disk.makedirs("/launcher")
        for path, text in LISTS.items():
            self.disk.place(f"/r/{path}", text.encode())
        if self.campaign.startswith("external"):
            folder, at = f"/r/{EXTERNAL}", EXTERNAL_ITERATION
            made = jobs.made_elsewhere(self.next_made(), folder, at)
            self.made[made.number] = made
            inside = f"{folder}/global_step{at}"
            names, model = names_of(made.ranks), {"iteration": at, "dp_world_size": made.ranks}
            if self.campaign == "external universal":
                inside = f"{inside}_universal"
                states = [f"zero/w/{state}.pt" for state in ("fp32", "exp_avg", "exp_avg_sq")]
                names = [*names_of(0), "zero/optimizer_state.pt", *states]
                self.disk.makedirs(f"{inside}/zero/w")
                self.disk.place(f"{folder}/latest_universal", f"global_step{at}_universal".encode())
            self.disk.makedirs(inside)
            for name in names:
                self.disk.place(f"{inside}/{name}", jobs.torch_bytes(made.number, name, dict(model)))
        for inode in self.disk.every():
            inode.sync()

    def declared_at(self, revision: str) -> Declared:
        return commit(self.campaign, revision[0])[1]

    # --- time ---------------------------------------------------------------------------------------------------------

    def at(self, when: float, what: Callable[[], None]) -> None:
        self.sequence += 1
        heapq.heappush(self.events, (max(when, self.now), self.sequence, what))

    def pass_time(self, until: float) -> None:
        """Everything that happens by then, in order."""
        while self.events and self.events[0][0] <= until:
            when, _, what = heapq.heappop(self.events)
            self.now = self.disk.now = max(self.now, when)
            what()
        self.now = self.disk.now = max(self.now, until)

    def say(self, text: str) -> None:
        self.trace.append(f"{self.now - BEGINS_S:9.2f} {text}")

    # --- what processes and jobs need ---------------------------------------------------------------------------------

    def command(
        self, argv: list[str], process: Process, files: tuple[Inode, Inode] | None, held: OpenFile | None
    ) -> Command:
        if argv[0] != "qsub":
            return self.pbs.start(argv, process)
        assert files is not None
        return self.pbs.qsub(argv, process, files, held)

    def renames(self, path: str, to: str, process: Process) -> None:
        if retained.ASIDE in to:
            retained.set_aside(self.check, path, process)

    def deletes(self, path: str, process: Process) -> None:
        retained.deletes(self.check, path, process)

    def program(self, job: Job) -> Steps:
        return jobs.program(self, job)

    def log(self, job: Job, *lines: str) -> None:
        """Into the job's log, as far as there is room."""
        if not self.disk.full and self.disk.get(job.script.log) is not None:
            self.disk.append(job.script.log, "".join(f"{line}\n" for line in lines).encode())

    def leave(self, job: Job) -> None:
        """What the script's trap does at its end."""
        path = f"{job.script.attempt}/writers/{job.id}"
        if self.disk.get(path) is not None:
            self.disk.unlink(path)

    def next_made(self) -> int:
        self.numbers += 1
        return self.numbers

    def shares_of(self, path: str) -> tuple[tuple[str, float], ...]:
        """What a data list really holds: dataset symbol → share of its weight."""
        weights: dict[str, float] = {}
        for row in (self.disk.read(path) or b"").decode().splitlines():
            weight, file = row.split()[:2]
            symbol = file.removeprefix("/data/").split("-")[0]
            weights[symbol] = weights.get(symbol, 0.0) + float(weight)
        return tuple(sorted(weights.items()))

    def training_loss(self, call: Call, iteration: int, target: int) -> float:
        return 3.0 - iteration / target

    def validation_loss(self, data_list: str, made: Made | None) -> float:
        """Falls with each iteration on its data; rises once for each stage without them, much if this model forgets."""
        symbol = data_list.rpartition("val-")[2].removesuffix(".txt")
        if made is None or made.lost_loss:
            return 5.5 if made is None else float("nan")
        seen, loss = False, 3.0
        for stretch in made.lineage:
            share = dict(stretch.shares).get(symbol, 0.0)
            if share:
                seen, loss = True, loss - 0.001 * (stretch.last - stretch.first + 1)
            elif seen:
                loss += 0.4 if self.forgets else 0.001
        return loss

    # --- what befalls the site ----------------------------------------------------------------------------------------

    def weather(self) -> None:
        """Every ten minutes or so, for as long as there are faults."""
        dice, happens = self.chance.of("weather"), self.chance.happens
        if happens("site: PBS is down"):
            self.pbs.down_until = self.now + dice.uniform(20.0, 200.0)
            self.say("PBS goes down")
        if happens("site: PBS lists nothing, with status 0"):
            self.pbs.blank_until = self.now + dice.uniform(20.0, 600.0)
            self.say("PBS comes back and lists nothing")
        if happens("site: disk is full"):
            self.disk.full = True
            self.say("the disk is full")
            self.at(self.now + dice.uniform(20.0, 200.0), lambda: setattr(self.disk, "full", False))
        if happens("site: clock jumps"):
            dice.choice(self.logins).skew_s += dice.uniform(-60.0, 60.0)
        if happens("site: clock jumps by hours or days"):
            node = dice.choice(self.logins)
            node.skew_s = dice.choice((-1.0, 1.0)) * dice.choice((1000.0, 3700.0, 90_000.0, 400_000.0))
            self.clocks_jumped = True
            self.say(f"the clock of {node.name} is off by {node.skew_s:.0f} s")
        for fault, what in (("deletes a part of the workspace", hands.delete), ("edits a data list", hands.edit_list),
                            ("leaves a file of another version", hands.leave),
                            ("deletes what the guard keeps", hands.unguard)):  # fmt: skip
            if happens(f"person: {fault}"):
                what(self)
        if happens("site: file server crashes"):
            self.crash()
        if happens("site: login node boots"):
            self.boot(dice.choice(self.logins))
        self.at(self.now + dice.uniform(60.0, 300.0), self.weather)

    def boot(self, node: Node) -> None:
        self.say(f"{node.name} boots")
        for process in [process for process in self.agents if process.node is node]:
            process.die()
        self._orphans_die(node)
        node.pids.clear()
        node.boot = f"{node.boot}+"

    def _orphans_die(self, node: Node) -> None:
        for _, _, held in node.children:
            if held is not None:
                held.closed(self.disk)
        node.children.clear()

    def crash(self) -> None:
        """The file server goes down and comes back: what ran on it is gone, what was not safe may be."""
        for job in self.pbs.jobs.values():
            if job.state == "R":
                self.pbs.kill(job, 1, 93, "and failed", trap=False)
        for process in list(self.agents):
            process.die()
        for node in self.logins:
            self._orphans_die(node)
        lost = self.disk.crash(self.chance.of("crash"))
        self.disk.locks.clear()
        self.say(f"the file server crashes, {lost} changes are lost")
        self.check.crashed()

    @contextmanager
    def agent(self, process: Process) -> Iterator[None]:
        self.agents.append(process)
        try:
            yield
        finally:
            self.agents.remove(process)
            process.end()

    # --- people -------------------------------------------------------------------------------------------------------

    @contextmanager
    def speaking(self, person: Person) -> Iterator[None]:
        """Whose name the reconciler takes; passes nest."""
        before, self.current = self.current, self.people.index(person)
        try:
            yield
        finally:
            self.current = before

    def people_pass(self, but: Person) -> None:
        """Somebody else's whole pass, now."""
        for person in self.people:
            if person is not but and not person.busy:
                person.one_pass()
                return

    def pause(self, person: Person, seconds: float) -> None:
        """Time passes while an agent stands still; somebody else applies meanwhile."""
        self.pass_time(self.now + seconds / 2)
        self.people_pass(person)
        self.pass_time(self.now + seconds / 2)

    def lock_holder_runs(self) -> bool:
        """What somebody finds who logs in to where the lock says that its holder runs."""
        lock = self.check.lock()
        return any(process.node.name == lock.get("host") and process.pid == lock.get("pid") for process in self.agents)
