"""Small spaces, enumerated, not sampled: each call of one apply fails, is its last, or has another apply in it."""

from __future__ import annotations

import errno
from collections.abc import Callable

from tests.sim.campaigns import commit
from tests.sim.chance import Chance
from tests.sim.checkers import Broken
from tests.sim.link import failing
from tests.sim.machine import Process, Trap
from tests.sim.people import Person, deterministic
from tests.sim.speed import remembered
from tests.sim.world import World

CALLS_MIN = 60
"""An apply has more calls than that; else the counting does not reach them."""
Make = Callable[[Process, int], Trap]


def killed(process: Process, at: int) -> Trap:
    def trap(number: int, name: str, path: str) -> OSError | None:
        if number == at:
            process.die()
        return None

    return trap


HOW: dict[str, Make] = {
    "killed": killed,
    "full once": lambda process, at: failing(process, at, at, errno.ENOSPC),
    "full from then on": lambda process, at: failing(process, at, 1 << 30, errno.ENOSPC),
    "EIO once": lambda process, at: failing(process, at, at, errno.EIO),
    "EIO from then on": lambda process, at: failing(process, at, 1 << 30, errno.EIO),
    "ESTALE once": lambda process, at: failing(process, at, at, errno.ESTALE),
}


def quiet(flock: str = "shared") -> World:
    """A site where nothing goes wrong by chance, and two people."""
    chance = Chance(5)
    chance.rates = dict.fromkeys(chance.rates, 0.0)
    world = World(chance)
    world.disk.flock_mode, world.disk.links, world.pbs.history_s = flock, True, 1e9
    del world.logins[1:]
    for name in ("ada", "bob"):
        world.people.append(Person(world, name, commit("plain", "a")[0]))
    return world


def first_apply(world: World, make: Make, at: int) -> int:
    """The first apply of a campaign with a trap at one of its calls; returns how many it made."""
    ada = world.people[0]
    reached = [0]

    def forced(process: Process) -> Trap:
        inner = make(process, at)

        def trap(number: int, name: str, path: str) -> OSError | None:
            reached[0] = number
            return inner(number, name, path)

        return trap

    with deterministic(world), remembered():
        seen = ada.look(ada.desired)
        ada.link.force = forced
        ada.busy = True
        ada.act(ada.desired, seen)
        ada.busy = False
        for _ in range(30):
            world.pass_time(world.now + 45.0)
            if not ada.one_pass().look.plan.actions and world.pbs.jobs:
                break
    first = world.pbs.jobs.get(101)
    if first is None or not first.key.endswith("/l0/n0/train"):
        raise Broken(f"after call {at} went wrong nothing was submitted any more")
    return reached[0]


def each_call(how: str) -> int:
    """N = 1, 2, …, until an apply has fewer calls. Returns how many there are; Broken if something broke."""
    at = 1
    while first_apply(quiet(), HOW[how], at) >= at:
        at += 1
    return at - 1


def each_interruption() -> int:
    """Another's whole pass, whose qsub gives no answer, runs within each call of an apply."""
    at = 1
    while True:
        world = quiet()

        def other(process: Process, at: int, world: World = world) -> Trap:
            def trap(number: int, name: str, path: str) -> OSError | None:
                if number == at:
                    world.chance.rates["qsub: answer lost"] = 1.0
                    world.people[1].one_pass()
                    world.chance.rates["qsub: answer lost"] = 0.0
                return None

            return trap

        if first_apply(world, other, at) < at:
            return at - 1
        at += 1
